// A finished page shown inside this one. Without scripts it grows to its full height; with scripts it is cut off from this page and keeps a fixed one.
function render({ model, el }) {
  el.classList.add("cd-frame")
  const inVoila = "voila" in document.body.dataset
  let frame = null
  const grow = () => { try { frame.style.height = frame.contentDocument.documentElement.scrollHeight + 24 + "px" } catch {} }
  const show = () => {
    el.replaceChildren()
    if (!model.get("html")) return
    const scripts = model.get("scripts")
    frame = Object.assign(document.createElement("iframe"), { title: model.get("title") })
    frame.setAttribute("sandbox", scripts ? "allow-scripts" : "allow-same-origin allow-popups")
    frame.style.height = scripts ? "80vh" : "60vh"
    if (!scripts) frame.addEventListener("load", () => { grow(); setTimeout(grow, 300); new ResizeObserver(grow).observe(frame.contentDocument.documentElement) })
    frame.srcdoc = model.get("html")
    el.append(frame)
  }
  // As in page.js: until an address is followed, what still arrives is of the choice before; a correction is no new choice.
  let follows = null, corrects = true
  const address = () => {
    const query = "?" + model.get("query")
    if (!inVoila || query === "?" || follows !== null) return
    if (query !== location.search) history[corrects ? "replaceState" : "pushState"](null, "", query)
    corrects = false
    document.title = model.get("title")
  }
  model.on("change:html", show)
  model.on("change:query", address)
  show()
  address()
  model.on("msg:custom", ({ followed }) => { if (followed === follows) { follows = null; corrects = true; address() } })
  if (inVoila) addEventListener("popstate", () => {
    const query = location.search.slice(1)
    if (query === (follows ?? model.get("query"))) return
    follows = query
    model.send({ what: "link", query })
  })
}
export default { render }
