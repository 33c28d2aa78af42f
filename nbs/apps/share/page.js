// What a page needs from the browser: its address, its title, its file, and a voice for screen readers.
function render({ model, el }) {
  el.classList.add("cd-actions")
  el.innerHTML = `<button type="button" class="cd-csv">Download CSV</button><button type="button" class="cd-link">Copy link</button>
    <span class="cd-done" role="status"></span><span class="cd-spoken" aria-live="polite"></span>`
  const [csv, link, done, spoken] = el.children
  let timer
  const say = text => { done.textContent = text; clearTimeout(timer); timer = setTimeout(() => { done.textContent = "" }, 4000) }

  // The kernel was started before this visitor came, so it is told the address; until it has answered, nothing is shown that was not asked for.
  const inVoila = "voila" in document.body.dataset
  const opened = () => document.body.classList.remove("cd-waiting")
  if (inVoila) {
    if (location.search) document.body.classList.add("cd-waiting")
    setTimeout(opened, 8000)
    model.send({ what: "link", query: location.search.slice(1) })
  }
  const show = () => {
    if (inVoila && model.get("query")) history.replaceState(null, "", "?" + model.get("query"))
    if (inVoila) document.title = model.get("title")
    spoken.textContent = model.get("spoken")
    el.hidden = !model.get("query")
  }
  if (!location.search) show()
  for (const name of ["query", "title", "spoken"]) model.on(`change:${name}`, show)

  csv.addEventListener("click", () => model.send({ what: "csv" }))
  model.on("msg:custom", file => {
    if (file.opened) { opened(); return show() }
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
