// The order list: one table of real rows, sorted and filtered here, with one editor below the row that is being changed.
// What stands in a cell, and whether what is typed can be so, is worked out by the kernel.
const NUMBERS = new Set(["mean", "likely", "quantile", "stock", "pack_size", "suggested", "order", "last_week", "last_year"])
const tag = (name, fields = {}, ...children) => { const made = Object.assign(document.createElement(name), fields); made.append(...children); return made }
const plain = text => text.toLocaleLowerCase().normalize("NFD").replace(/\p{M}/gu, "")
const newId = () => "page-" + Array.from(crypto.getRandomValues(new Uint8Array(16)), b => b.toString(16).padStart(2, "0")).join("")
const remembered = { get: () => { try { return localStorage.getItem("cd4ml-by") ?? "" } catch { return "" } }, set: name => { try { localStorage.setItem("cd4ml-by", name) } catch {} } }

function render({ model, el }) {
  el.classList.add("cd-orders")
  const say = sentence => model.get("said")[sentence] ?? sentence  // in the project's words
  const shown = sentence => tag("i", { textContent: say(sentence) }).innerHTML
  const uid = Math.random().toString(36).slice(2)
  el.innerHTML = `<div class="cd-find">
      <label>${shown("Find a product")}<input type="search" class="cd-words" autocomplete="off" spellcheck="false"></label>
      <label>${shown("Family")}<select class="cd-family"></select></label>
      <div class="cd-switch cd-which" role="radiogroup" aria-label="Show"><div></div></div>
      <label class="cd-check"><input type="checkbox" class="cd-grouped" checked> ${shown("By family")}</label>
      <span class="cd-stock"><label class="cd-file" tabindex="0" role="button">Stock from a file …<input type="file" accept=".csv,text/csv,text/plain" tabindex="-1"></label>
        <button type="button" class="cd-forget" hidden>Without stock</button></span>
    </div>
    <p class="cd-wrong cd-stockwrong" role="alert" hidden></p>
    <p class="cd-done cd-told" role="status"></p>
    <div class="scroll"><table><caption></caption><thead><tr></tr></thead></table></div>
    <p class="cd-none" hidden>${shown("No product fits.")} <button type="button">${shown("Show all products")}</button></p>
    <div class="cd-gone" role="status"></div>`
  const at = name => el.querySelector(name)
  const [words, family, which, grouped, table] = [".cd-words", ".cd-family", ".cd-which > div", ".cd-grouped", "table"].map(at)
  const state = { sort: "name", down: false, show: "all", open: null, waits: false }
  let editor = null, drawn = new Map()  // item -> its row as it was drawn, and the text that it was drawn from

  // --- What is shown, and in which order
  const filters = {
    all: ["All", () => true],
    order: ["To order", row => (row.cells.order[1] ?? 0) > 0],
    decided: ["Decided", row => row.decided?.stands],
  }
  const fits = row => {
    const all = plain(`${row.cells.name[0]} ${row.item} ${row.family}`)
    return plain(words.value).split(/\s+/).every(word => all.includes(word)) && (family.value === "" || row.family === family.value.slice(1))
  }
  const gone = () => {  // what the store does not sell any more, for those who type its name
    const wanted = plain(words.value).split(/\s+/).filter(Boolean)
    const found = model.get("ended").filter(one => wanted.length && wanted.every(word => plain(`${one[1]} ${one[0]}`).includes(word)))
    return found.slice(0, 5)
  }
  const key = row => state.sort === "name" ? plain(row.cells.name[0]) : row.cells[state.sort]?.[1]
  const compare = (a, b) => {
    const [one, other] = [key(a), key(b)]
    if (one === null || other === null) return (one === null) - (other === null)
    return (one < other ? -1 : one > other ? 1 : 0) * (state.down ? -1 : 1) || (a.cells.name[0] < b.cells.name[0] ? -1 : 1)
  }
  function lists() {
    const families = Object.keys(model.get("families")), chosen = family.value
    family.replaceChildren(tag("option", { value: "", textContent: say("All families") }), ...families.map(name => tag("option", { value: "=" + name, textContent: name || say("Without a family") })))
    family.value = families.includes(chosen.slice(1)) ? chosen : ""
    const rows = model.get("rows")
    which.replaceChildren(...Object.entries(filters).map(([name, [title, want]]) => {
      const input = tag("input", { type: "radio", name: `which-${uid}`, value: name, checked: state.show === name })
      input.addEventListener("change", () => { state.show = name; draw() })
      return tag("label", {}, input, `${title} ${rows.filter(want).length.toLocaleString("en")}`)
    }))
  }
  function head() {
    table.caption.textContent = model.get("caption")
    table.tHead.rows[0].replaceChildren(...model.get("columns").map(([name, title, means]) => {
      const button = tag("button", { type: "button", textContent: title, title: means })
      button.addEventListener("click", () => {
        state.down = state.sort === name ? !state.down : NUMBERS.has(name)
        state.sort = name
        head(); draw()
        el.querySelector(`th[data-column=${name}] button`).focus()
      })
      const cell = tag("th", { scope: "col", className: NUMBERS.has(name) ? `cd-num cd-of-${name}` : "" }, button)
      cell.dataset.column = name
      cell.setAttribute("aria-sort", state.sort === name ? (state.down ? "descending" : "ascending") : "none")
      return cell
    }))
  }

  // --- Rows
  function orderCell(row) {
    const [text] = row.cells.order, made = row.decided?.stands ? row.decided : null
    const button = tag("button", { type: "button", className: "cd-order", textContent: text || "0" })
    button.setAttribute("aria-label", `${row.cells.name[0]}: order ${text || "0"}${made ? `, decided by ${made.by}` : ""}. Change`)
    button.setAttribute("aria-expanded", "false")
    button.addEventListener("click", () => state.open === row.item ? shut(true) : open(row.item))
    button.addEventListener("keydown", e => {
      if (!["ArrowDown", "ArrowUp"].includes(e.key)) return
      const all = [...table.querySelectorAll(".cd-order")], next = all[all.indexOf(button) + (e.key === "ArrowDown" ? 1 : -1)]
      next?.focus(); next?.scrollIntoView({ block: "nearest" })
      e.preventDefault()
    })
    return tag("td", { className: "cd-num" }, button)
  }
  function line(row) {
    const text = JSON.stringify(row), before = drawn.get(row.item)
    if (before?.text === text) return before.line
    const fresh = newLine(row)
    drawn.set(row.item, { text, line: fresh })
    return fresh
  }
  function newLine(row) {
    const made = row.decided?.stands ? row.decided : null
    const cells = model.get("columns").map(([name]) => {
      if (name === "order") return orderCell(row)
      if (name !== "name") return tag("td", { className: `cd-num cd-of-${name}`, textContent: row.cells[name]?.[0] ?? "" })
      const link = tag("a", { href: row.link, textContent: row.cells.name[0], title: "Its forecast" })
      const cell = tag("th", { scope: "row" }, link)
      if (row.note) cell.append(" ", tag("small", { className: "cd-note", textContent: row.note }))
      if (made) cell.append(tag("small", { className: "cd-made", textContent: `${made.by}: ${made.why}` }))
      else if (row.rule) cell.append(tag("small", { className: "cd-ruled", textContent: row.rule }))
      if (row.decided && !made) cell.append(tag("small", { className: "cd-note", textContent: "A decision was withdrawn" }))
      return cell
    })
    const fresh = tag("tr", { className: made ? "chosen" : "" }, ...cells)
    fresh.dataset.item = row.item
    return fresh
  }
  function group(name, rows, whole) {
    const sums = whole ? model.get("families")[name] ?? {} : {}
    const cells = model.get("columns").map(([column]) => column === "name"
      ? tag("th", { scope: "rowgroup", textContent: `${name || say("Without a family")} (${rows.length})` })
      : tag("td", { className: `cd-num cd-of-${column}`, textContent: sums[column] ?? "" }))
    return tag("tr", { className: "cd-group" }, ...cells)
  }
  function draw() {
    // Looked for before a row is moved: what moves loses the focus, also on its way into a new body.
    const focused = table.contains(document.activeElement) ? document.activeElement : null
    const item = focused?.closest("tr[data-item]")?.dataset.item
    const all = model.get("rows"), rows = all.filter(row => fits(row) && filters[state.show][1](row)).sort(compare)
    const bodies = []
    if (grouped.checked) {
      const names = [...new Set(all.map(row => row.family))].sort((a, b) => a.localeCompare(b))
      for (const name of names) {
        const own = rows.filter(row => row.family === name)
        if (own.length) bodies.push(tag("tbody", {}, group(name, own, own.length === all.filter(row => row.family === name).length), ...own.map(line)))
      }
    } else bodies.push(tag("tbody", {}, ...rows.map(line)))
    for (const body of [...table.tBodies]) body.remove()
    table.append(...bodies)
    if (editor) {
      const own = lineOf(state.open)
      own ? own.after(editor) : table.append(tag("tbody", {}, editor))  // what is typed stays, though its row is filtered away
    }
    const again = focused?.isConnected ? focused : item && buttonOf(item)
    again?.focus({ preventScroll: true })
    at(".cd-none").hidden = rows.length > 0
    at(".cd-gone").replaceChildren(...(rows.length ? [] : gone()).map(one => tag("p", { textContent: one[2] })))
  }

  // --- The editor
  function open(item) {
    const row = model.get("rows").find(one => one.item === item)
    if (editor && state.open !== item && editor.dirty && !confirm(say("What you typed for the other product is not ordered yet. Leave it?"))) return
    shut(false)
    state.open = item
    editor = edit(row)
    lineOf(item).after(editor)
    buttonOf(item).setAttribute("aria-expanded", "true")
    const number = editor.querySelector("[name=ordered]")
    number.focus(); number.select()
    editor.scrollIntoView({ block: "nearest" })
  }
  const lineOf = item => table.querySelector(`tr[data-item="${CSS.escape(item)}"]`), buttonOf = item => lineOf(item)?.querySelector(".cd-order")
  function shut(back) {
    const item = state.open
    editor?.remove()
    editor = state.open = null
    buttonOf(item ?? "")?.setAttribute("aria-expanded", "false")
    if (back) buttonOf(item)?.focus()
  }
  function field(name, title, control, hint = "") {
    const id = `${uid}-${name}`
    control.id = id; control.name = name
    control.setAttribute("aria-describedby", `${id}-wrong`)
    const wrong = tag("span", { id: `${id}-wrong`, className: "cd-wrong" })
    wrong.setAttribute("role", "alert")
    return tag("div", { className: `cd-field cd-field-${name}` }, tag("label", { htmlFor: id, textContent: title }), control, tag("small", { textContent: hint }), wrong)
  }
  function edit(row) {
    const made = row.decided, stands = made?.stands, suggested = row.cells.suggested[0].replaceAll(",", "")
    const ordered = tag("input", { type: "text", inputMode: "decimal", autocomplete: "off", value: stands ? made.ordered : suggested })
    const reason = tag("select", {}, tag("option", { value: "", textContent: "Choose a reason" }), ...model.get("reasons").map(([value, textContent]) => tag("option", { value, textContent })))
    reason.value = !stands && ordered.value === suggested ? "as_suggested" : ""  // another's reason is not this one's
    const text = tag("input", { type: "text", autocomplete: "off" })
    const by = tag("input", { type: "text", autocomplete: "name", value: remembered.get() })
    const pack = row.cells.pack_size?.[1]
    const form = tag("form", { noValidate: true }, field("ordered", say("Order, units"), ordered), field("reason", "Reason", reason), field("text", "More about it", text), field("by", "Your name", by))
    const send = tag("button", { type: "submit", className: "cd-send", textContent: "Order" }), cancel = tag("button", { type: "button", textContent: "Cancel" })
    const buttons = tag("div", { className: "cd-buttons" }, send, cancel)
    if (stands) {
      const back = tag("button", { type: "button", className: "cd-withdraw", textContent: "Withdraw" })
      back.title = "Take the decision back; it stays on record. Say why in the text."
      back.addEventListener("click", () => tell("withdraw", row, form))
      buttons.append(back)
    }
    const wrong = tag("p", { className: "cd-wrong cd-whole" })
    wrong.setAttribute("role", "alert")
    form.append(buttons, wrong)
    if (made?.history.length) form.append(tag("ol", { className: "cd-history" }, ...made.history.map(textContent => tag("li", { textContent }))))
    const expects = `The model expects ${row.cells.mean[0]}, likely ${row.cells.likely[0]}; ${row.cells.quantile[0]} are enough, and ${row.rule ? "a rule makes it" : "it suggests"} ${row.cells.suggested[0]}.${row.rule ? " " + row.rule : ""}`
    const line = tag("tr", { className: "cd-editor" }, tag("td", { colSpan: model.get("columns").length },
      tag("div", {}, tag("p", { className: "cd-expects" }, tag("b", { textContent: row.cells.name[0] }), " ", expects), form)))
    const packs = () => {
      const units = Number(ordered.value.replace(",", ".")), count = units / pack
      ordered.nextSibling.textContent = !pack || !(units >= 0) ? "" : Number.isInteger(count) ? `${count} packs of ${row.cells.pack_size[0]}` : `No whole packs of ${row.cells.pack_size[0]}`
    }
    packs()
    form.addEventListener("input", e => {
      line.dirty = true
      form.eventId = newId()
      if (e.target === ordered) {
        packs()
        if (reason.value === "as_suggested" && ordered.value.trim() !== suggested) reason.value = ""
      }
      forgive(form, e.target.name)
    })
    form.eventId = newId()
    form.addEventListener("submit", e => { e.preventDefault(); tell("order", row, form) })
    cancel.addEventListener("click", () => shut(true))
    line.addEventListener("keydown", e => { if (e.key === "Escape") { shut(true); e.stopPropagation() } })
    return line
  }
  function forgive(form, name) {
    for (const field of name ? [form.elements[name]] : [...form.elements]) {
      field.removeAttribute("aria-invalid")
      const wrong = field.parentElement.querySelector(".cd-wrong")
      if (field.name && wrong) wrong.textContent = ""
    }
    form.querySelector(".cd-whole").textContent = ""
  }
  function refuse(form, name, sentence) {
    const control = name && form.elements[name]
    if (!control) return void (form.querySelector(".cd-whole").textContent = sentence)
    control.setAttribute("aria-invalid", "true")
    control.parentElement.querySelector(".cd-wrong").textContent = sentence
    control.focus()
  }
  function tell(what, row, form) {
    if (state.waits) return
    forgive(form)
    const typed = Object.fromEntries(["ordered", "reason", "text", "by"].map(name => [name, form.elements[name].value]))
    const now = model.get("rows").find(one => one.item === row.item)?.decided
    remembered.set(typed.by)
    busy(form, true)
    form.seen ??= row.decided?.seen ?? ""
    model.send({ what, item: row.item, id: form.eventId, seen: form.seen, decision: now?.id ?? "", ...typed })
    clearTimeout(state.patience)
    state.patience = setTimeout(() => { busy(form, false); refuse(form, "", "No answer came yet. What you typed is still here: send it again, it counts once.") }, 15000)
  }
  function busy(form, waits) {
    state.waits = waits
    for (const button of form.querySelectorAll("button")) button.disabled = waits
  }
  model.on("msg:custom", said => {
    const form = editor?.querySelector("form")
    if (said.what === "stock") {
      at(".cd-stockwrong").textContent = said.sentence
      at(".cd-stockwrong").hidden = !said.sentence
      return
    }
    clearTimeout(state.patience)
    if (form) busy(form, false)
    if (said.what === "refused" && form) {
      form.seen = said.seen ?? form.seen
      refuse(form, said.field, said.sentence)
    }
    if (said.what === "done") {
      const next = nextButton(state.open)
      shut(false)
      at(".cd-told").textContent = said.sentence
      buttonOf(next)?.focus()
    }
  })
  function nextButton(item) {
    const all = [...table.querySelectorAll("tr[data-item]")].map(row => row.dataset.item)
    return all[all.indexOf(item) + 1] ?? item
  }

  // --- Stock from a file
  const file = at(".cd-file input")
  at(".cd-file").addEventListener("keydown", e => { if (e.key === "Enter" || e.key === " ") { file.click(); e.preventDefault() } })
  file.addEventListener("change", async () => {
    const chosen = file.files[0]
    if (!chosen) return
    if (chosen.size > 5_000_000) { at(".cd-stockwrong").textContent = `${chosen.name} ${say("is too large for the stock of one store.")}`; at(".cd-stockwrong").hidden = false }
    else model.send({ what: "stock", name: chosen.name, text: await chosen.text() })
    file.value = ""
  })
  at(".cd-forget").addEventListener("click", () => model.send({ what: "no stock" }))

  // --- What changes
  const later = work => { let timer; return () => { clearTimeout(timer); timer = setTimeout(work, 0) } }
  const redraw = later(() => {
    at(".cd-forget").hidden = !model.get("stock")
    const frame = at(".scroll"), top = frame.scrollTop
    lists(); head(); draw()
    frame.scrollTop = top  // who is far down in the list stays there
  })
  words.addEventListener("input", draw)
  family.addEventListener("change", draw)
  grouped.addEventListener("change", draw)
  at(".cd-none button").addEventListener("click", () => { words.value = ""; family.value = ""; state.show = "all"; lists(); draw() })
  for (const name of ["rows", "columns", "families", "caption", "stock"]) model.on(`change:${name}`, redraw)
  model.on("change:columns", () => { drawn = new Map() })
  const another = later(() => { if (editor) shut(false); at(".cd-told").textContent = "" })
  model.on("change:caption", another)
  // Who comes back to the page sees what others have decided meanwhile.
  addEventListener("focus", () => model.send({ what: "look" }))
  addEventListener("beforeunload", e => { if (editor?.dirty) e.preventDefault() })
  lists(); head(); draw()
}
export default { render }
