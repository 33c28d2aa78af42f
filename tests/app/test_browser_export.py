"Somebody else's page with an exported model inside: the same numbers in a browser, and no network but its own files."

import gzip, shutil, subprocess, threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
import pytest
from copies import ROOT
from forward_and_search import brought, kept, lacking
from cd4ml_nb.delivery.export import export
from cd4ml_nb.delivery.state import state
from cd4ml_nb.tiny import tiny_live

pytestmark = pytest.mark.prove
EXAMPLE = ROOT / "examples/browser"
MODULES = kept("browser", EXAMPLE / "package.json", EXAMPLE / "package-lock.json")


def bring_modules(folder):
    "onnxruntime-web, by npm, as package-lock.json has it."
    for name in ("package.json", "package-lock.json"):
        shutil.copy(EXAMPLE / name, folder)
    words = ["npm", "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *said):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The example's folder with an export and what npm brought, served by a server of files."
    if trouble := lacking(["npm"], "npm") or brought(MODULES, bring_modules):
        pytest.skip(f"onnxruntime-web could not be brought: {trouble}")
    shop, folder = tiny_live("2017-08-20"), tmp_path_factory.mktemp("browser") / "site"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules", "model"))
    (folder / "node_modules").symlink_to(MODULES / "node_modules")
    export(shop, state(shop)["champion"]["model_version"], "onnx", folder / "model")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def page(chromium, site):
    "A visitor's page, which reaches nothing but the server of files."
    opened, elsewhere, errors = chromium.new_page(), [], []

    def go(route):
        mine = route.request.url.startswith((site[1], "blob:", "data:"))
        elsewhere.extend([] if mine else [route.request.url])
        return route.continue_() if mine else route.abort()

    opened.route("**/*", go)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    opened.close()
    assert not elsewhere and not errors


def proof(page, address):
    "What the page says of its model, and the numbers behind it."
    page.goto(address)
    page.wait_for_selector("#proof[data-equal]", timeout=120_000)
    return page.inner_text("#proof"), page.evaluate("({...document.getElementById('proof').dataset})")


def rows(folder):
    head, *rows = gzip.decompress((folder / "model/holdout.csv.gz").read_bytes()).decode().splitlines()
    return [dict(zip(head.replace('"', "").split(","), row.split(","))) for row in rows]


def test_the_same_numbers_in_a_browser(page, site):
    says, found = proof(page, site[1])
    assert found["equal"] == "yes" and (found["rows"], found["wrong"]) == ("240", "0")
    assert "answers here as it does at home, on 240 rows" in says and float(found["worst"]) < 1e-4
    for place in (1, 100, 240):
        page.fill("#row", str(place))
        expected = float(rows(site[0])[place - 1]["expected_mean"])
        page.wait_for_function(f"Math.abs(document.getElementById('answer').dataset.mean - {expected}) < 1e-4")
    assert page.inner_text("#answer") == f"{expected:.2f} units"


def test_other_sales_give_another_number(page, site):
    "A row that knows its sales: who sold more is told more."
    proof(page, site[1])
    place = next(n for n, row in enumerate(rows(site[0])) if row["mean_28"] and row["promotion"] and row["weekday"])
    page.fill("#row", str(place + 1))
    before = float(page.get_attribute("#answer", "data-mean"))
    page.fill("#mean_28", "60")
    page.fill("#promotion", "1.5")
    page.wait_for_function(f"Number(document.getElementById('answer').dataset.mean) >= {before}")


def test_a_model_that_answers_otherwise_is_not_asked(page, site):
    "The fault of the usual converters: the answer is a log."
    import onnx

    path = site[0] / "model/forecaster.onnx"
    whole, graph = path.read_bytes(), onnx.load(path)
    log = next(node for node in graph.graph.node if node.op_type == "Exp" and node.input[0] == "mean_trees")
    log.op_type = "Identity"
    path.write_bytes(graph.SerializeToString())
    try:
        says, found = proof(page, site[1])
    finally:
        path.write_bytes(whole)
    assert (found["equal"], found["wrong"]) == ("no", "240") and "so it is not asked" in says
    assert not page.is_visible("#question")


def test_a_page_without_a_model_says_so(page, site):
    says, found = proof(page, f"{site[1]}/?model=nothing")
    assert found["equal"] == "no" and says == "There is no model to ask: nothing/export.json is not there (404)."
