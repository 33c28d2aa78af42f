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
  const address = () => {
    if (!inVoila || !model.get("query")) return
    history.replaceState(null, "", "?" + model.get("query"))
    document.title = model.get("title")
  }
  model.on("change:html", show)
  model.on("change:query", address)
  model.on("msg:custom", address)  // the kernel has read the address that this page was opened with
  show()
  if (inVoila) model.send({ what: "link", query: location.search.slice(1) })  // the kernel was started before this visitor came
}
export default { render }
