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
  let asked = true  // An address that was typed may be corrected: that is no new choice
  const address = () => {
    const query = "?" + model.get("query")
    if (!inVoila || query === "?") return
    if (query !== location.search) history[asked ? "replaceState" : "pushState"](null, "", query)
    asked = false
    document.title = model.get("title")
  }
  model.on("change:html", show)
  model.on("change:query", address)
  show()
  address()
  if (inVoila) addEventListener("popstate", () => {
    if (location.search.slice(1) === model.get("query")) return
    asked = true
    model.send({ what: "link", query: location.search.slice(1) })
  })
}
export default { render }
