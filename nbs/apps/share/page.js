// What a page needs from the browser: its address, its title, its file, and a voice for screen readers.
function render({ model, el }) {
  el.classList.add("cd-actions")
  el.innerHTML = `<button type="button" class="cd-csv">Download CSV</button><button type="button" class="cd-link">Copy link</button>
    <span class="cd-done" role="status"></span><span class="cd-spoken" aria-live="polite"></span>`
  const [csv, link, done, spoken] = el.children
  let timer
  const say = text => { done.textContent = text; clearTimeout(timer); timer = setTimeout(() => { done.textContent = "" }, 4000) }

  // Each choice is an entry of the browser's history. The kernel may correct an address that was typed: that is no new choice.
  const inVoila = "voila" in document.body.dataset
  let asked = true
  const address = () => {
    const query = "?" + model.get("query")
    el.hidden = query === "?"
    document.body.classList.remove("cd-busy")
    if (!inVoila || el.hidden) return
    if (query !== location.search) history[asked ? "replaceState" : "pushState"](null, "", query)
    asked = false
  }
  const title = () => { if (inVoila) document.title = model.get("title") }
  const speak = () => { spoken.textContent = model.get("spoken") }
  for (const [name, show] of Object.entries({ query: address, title, spoken: speak })) { show(); model.on(`change:${name}`, show) }
  if (inVoila) addEventListener("popstate", () => {
    if (location.search.slice(1) === model.get("query")) return
    asked = true
    model.send({ what: "link", query: location.search.slice(1) })
  })

  // A choice that takes long dims what stands there of the choice before.
  document.addEventListener("change", e => { if (e.target.matches(".cd-controls select")) document.body.classList.add("cd-busy") })

  csv.addEventListener("click", () => model.send({ what: "csv" }))
  model.on("msg:custom", file => {
    const url = URL.createObjectURL(new Blob(["\ufeff" + file.text], { type: "text/csv;charset=utf-8" }))
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
