// The browser's part of plotly's widget, got from the server as a file: 5 MB that the kernel would send to each page.
// It is drawn once it has a place on the page; drawn before, it would be 700 pixels wide, also on a phone.
const page = JSON.parse(document.getElementById("jupyter-config-data").textContent)
const script = new URL(`${page.baseUrl}voila/static/widgetbundle.js`, location)
const late = new Promise(done => setTimeout(done, 60000))  // the numbers do not wait for ever
const chart = await Promise.race([import(script).then(found => found.default, () => null), late])
const lost = "The chart could not be loaded; the numbers are as they should be. Load the page again to see it."

const placed = el => new Promise(done => {
  const seen = new ResizeObserver(() => { if (el.clientWidth) { seen.disconnect(); done() } })
  seen.observe(el)
})

export default () => {
  if (!chart) return { render: ({ el }) => { el.textContent = lost } }
  const { initialize, render } = chart()
  return { initialize, render: async ({ el }) => { await placed(el); return render({ el }) } }
}
