"""The Facets page of training against validation, opened offline in a real browser."""

import shutil

import pytest
from waiting import PATIENCE

from cd4ml_nb.data.prepare import prepare
from cd4ml_nb.data.ingest import ingest
from cd4ml_nb.data.split import split
from cd4ml_nb.quality.facets import training_and_validation, write_facets

pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")  # Ibis 12 on DuckDB 2
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
READ = """() => { const all = [], walk = node => { for (const n of node.childNodes) {
    if (n.nodeType == 3) { all.push(n.textContent.trim()); continue; }
    if (['SCRIPT', 'STYLE', 'TEMPLATE'].includes(n.tagName)) continue;
    if (n.shadowRoot) walk(n.shadowRoot);
    walk(n); } };
    walk(document.body); return all.filter(t => t).join(' '); }"""


def test_page_opens_offline_and_shows_both_sides(tmp_path):
    ingest(tmp_path, "tiny")
    prepare(tmp_path)
    split(tmp_path)
    page_file, complaints, requested = write_facets(tmp_path, training_and_validation(tmp_path)), [], []
    with playwright.sync_playwright() as tool:
        try:
            browser = tool.chromium.launch(
                executable_path=shutil.which("chromium") or shutil.which("chromium-browser"),
                args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
            )
        except playwright.Error as error:
            pytest.skip(f"no Chromium that starts here: {str(error).splitlines()[0]}")
        page = browser.new_context(offline=True).new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: requested.append(request.url))
        page.goto(page_file.as_uri())
        page.wait_for_function(f"() => ({READ})().includes('Numeric Features')", timeout=1000 * PATIENCE)
        text = page.evaluate(READ)
        browser.close()
    for word in ("training", "validation", "unit_sales", "onpromotion", "family", "weekday"):
        assert word in text, text[:500]
    assert complaints == [] and requested == [page_file.as_uri()]
