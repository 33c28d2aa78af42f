// What a page needs from the browser: its address, its title, its file, and a voice for screen readers.
function render({ model, el }) {
  el.classList.add("cd-actions")
  const kinds = { csv: "Download CSV", xlsx: "Download Excel" }
  const files = model.get("files").map(kind => `<button type="button" class="cd-csv" data-kind="${kind}">${kinds[kind]}</button>`).join("")
  const print = model.get("prints") ? `<button type="button" class="cd-print">Print</button>` : ""
  el.innerHTML = `${files}${print}<button type="button" class="cd-link">Copy link</button>
    <span class="cd-done" role="status"></span><span class="cd-spoken" aria-live="polite"></span>`
  const [link, done, spoken] = [".cd-link", ".cd-done", ".cd-spoken"].map(name => el.querySelector(name))
  let timer
  const say = text => { done.textContent = text; clearTimeout(timer); timer = setTimeout(() => { done.textContent = "" }, 4000) }

  // Each choice is an entry of the browser's history. Until an address is followed, what still arrives is of the choice before.
  // The kernel may correct an address that was typed: that is no new choice.
  const inVoila = "voila" in document.body.dataset
  let follows = null, corrects = true
  const address = () => {
    const query = "?" + model.get("query")
    el.hidden = query === "?"
    document.body.classList.remove("cd-busy")
    if (!inVoila || el.hidden || follows !== null) return
    if (query !== location.search) history[corrects ? "replaceState" : "pushState"](null, "", query)
    corrects = false
  }
  for (const part of document.querySelectorAll("h1, h1 ~ p")) {  // in the project's words
    const text = part.firstChild, own = model.get("said")[text?.data?.trim()]
    if (own) text.data = own
  }
  const title = () => { if (inVoila) document.title = model.get("title") }
  const speak = () => { spoken.textContent = model.get("spoken") }
  for (const [name, show] of Object.entries({ query: address, title, spoken: speak })) { show(); model.on(`change:${name}`, show) }
  if (inVoila) addEventListener("popstate", () => {
    const query = location.search.slice(1)
    if (query === (follows ?? model.get("query"))) return
    follows = query
    model.send({ what: "link", query })
  })

  // The page hears when something goes live (index.html.j2), and then, and only then, asks its kernel what.
  let live = null
  addEventListener("cd-live", e => { if (e.detail !== live) { live = e.detail; model.send({ what: "look" }) } })

  // A choice that takes long dims what stands there of the choice before.
  document.addEventListener("change", e => { if (e.target.matches(".cd-controls select")) document.body.classList.add("cd-busy") })

  for (const button of el.querySelectorAll(".cd-csv")) button.addEventListener("click", () => model.send({ what: button.dataset.kind }))
  el.querySelector(".cd-print")?.addEventListener("click", () => model.send({ what: "print" }))
  const followed = query => { if (query === follows) { follows = null; corrects = true; address() } }
  model.on("msg:custom", (file, buffers) => {
    if ("followed" in file) return followed(file.followed)
    if ("print" in file) return void setTimeout(() => window.print(), 50) // once the rows that came before stand there
    const content = buffers?.length ? buffers : ["\ufeff" + file.text]
    const url = URL.createObjectURL(new Blob(content, { type: file.name.endsWith(".csv") ? "text/csv;charset=utf-8" : "application/octet-stream" }))
    const a = Object.assign(document.createElement("a"), { href: url, download: file.name })
    a.click()
    setTimeout(() => URL.revokeObjectURL(url), 10000)
    say("Saved " + file.name)
  })
  link.addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(location.href); say("Link copied") }
    catch { say("Copy it from the address bar") }
  })
}
export default { render }
