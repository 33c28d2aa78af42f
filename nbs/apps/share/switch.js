// A few choices side by side, one of them taken: radio buttons that look like a switch.
function render({ model, el }) {
  const id = `cd-switch-${Math.random().toString(36).slice(2)}`
  el.classList.add("cd-switch")
  el.setAttribute("role", "radiogroup")
  el.setAttribute("aria-labelledby", id)
  const title = Object.assign(document.createElement("span"), { id, textContent: model.get("label") })
  const box = document.createElement("div")
  const show = () => { for (const input of box.querySelectorAll("input")) input.checked = input.value === model.get("value") }
  for (const [value, text] of model.get("options")) {
    const input = Object.assign(document.createElement("input"), { type: "radio", name: id, value })
    input.addEventListener("change", () => {
      if (el.closest(".cd-controls")) document.body.classList.add("cd-busy")
      model.set("value", value)
      model.save_changes()
    })
    const label = document.createElement("label")
    label.append(input, text)
    box.append(label)
  }
  el.append(title, box)
  show()
  model.on("change:value", show)
}
export default { render }
