// A combobox that can be searched: type a few letters, arrows move, Enter picks, Escape goes back.
// What has a rank below 0 stands in no list, and is found by its name.
const MOST = 300

function render({ model, el }) {
  const id = `cd-picker-${Math.random().toString(36).slice(2)}`
  el.classList.add("cd-picker")
  el.innerHTML = `<label for="${id}"></label><input id="${id}" type="text" role="combobox" autocomplete="off" spellcheck="false"
    aria-autocomplete="list" aria-expanded="false" aria-controls="${id}-list"><ul id="${id}-list" role="listbox" hidden></ul>`
  const [label, input, list] = el.children
  let shown = [], at = -1

  const options = () => model.get("options")
  const current = () => options().find(o => o[0] === model.get("value"))
  const rest = () => { input.value = current()?.[1] ?? "" }
  const words = text => text.toLocaleLowerCase().normalize("NFD").replace(/\p{M}/gu, "")

  function matches(text) {
    const wanted = words(text).split(/\s+/).filter(Boolean)
    const found = options().filter(o => { const all = words(o.slice(0, 3).join(" ")); return wanted.every(w => all.includes(w)) })
    return wanted.length ? found.sort((a, b) => (b[3] ?? 0) - (a[3] ?? 0)) : found
  }
  function move(to) {
    at = Math.max(0, Math.min(to, Math.min(shown.length, MOST) - 1))
    for (const [i, item] of [...list.children].entries()) item.setAttribute("aria-selected", i === at)
    const item = list.children[at]
    if (!item || !shown.length) return input.removeAttribute("aria-activedescendant")
    input.setAttribute("aria-activedescendant", item.id)
    item.scrollIntoView({ block: "nearest" })
  }
  function open(text) {
    shown = text === null ? options().filter(o => (o[3] ?? 0) >= 0) : matches(text)
    list.replaceChildren(...shown.slice(0, MOST).map((option, i) => {
      const item = document.createElement("li")
      item.id = `${id}-${i}`
      item.setAttribute("role", "option")
      item.append(Object.assign(document.createElement("span"), { textContent: option[1] }))
      if (option[2]) item.append(" ", Object.assign(document.createElement("small"), { textContent: option[2] }))
      item.addEventListener("pointerdown", e => e.preventDefault())
      item.addEventListener("click", () => pick(option))
      return item
    }))
    const more = shown.length - MOST
    if (!shown.length || more > 0) {
      const text_ = shown.length ? `${more} more: type to narrow the list` : `Nothing matches “${text}”`
      list.append(Object.assign(document.createElement("li"), { className: "cd-hint", textContent: text_ }))
    }
    list.hidden = false
    input.setAttribute("aria-expanded", "true")
    move(text === null ? shown.findIndex(o => o[0] === model.get("value")) : 0)
  }
  function close() {
    list.hidden = true
    input.setAttribute("aria-expanded", "false")
    input.removeAttribute("aria-activedescendant")
  }
  function pick(option) {
    close()
    if (option && option[0] !== model.get("value")) {
      if (el.closest(".cd-controls")) document.body.classList.add("cd-busy")
      model.set("value", option[0])
      model.save_changes()
    }
    rest()
    input.select()
  }

  input.addEventListener("focus", () => input.select())
  input.addEventListener("click", () => { if (list.hidden) open(null) })
  input.addEventListener("input", () => open(input.value))
  input.addEventListener("blur", () => { if (!list.hidden && shown.length === 1) pick(shown[0]); else { close(); rest() } })
  input.addEventListener("keydown", e => {
    if (e.key === "Escape") { close(); rest(); input.select() }
    else if (e.key === "Enter") { if (list.hidden) open(null); else if (shown.length) pick(shown[at]) }
    else if (["ArrowDown", "ArrowUp"].includes(e.key)) { if (list.hidden) open(null); else move(at + (e.key === "ArrowDown" ? 1 : -1)) }
    else if (["PageDown", "PageUp"].includes(e.key) && !list.hidden) move(at + (e.key === "PageDown" ? 8 : -8))
    else return
    e.preventDefault()
    e.stopPropagation()
  })
  const name = () => { label.textContent = model.get("label") }
  name(); rest()
  model.on("change:label", name)
  model.on("change:value", rest)
  model.on("change:options", rest)
}
export default { render }
