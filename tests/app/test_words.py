"Pages of a project with words of its own, in a real browser: no other word is left to be read."

import re
import pytest
import serving

pytestmark = pytest.mark.prove
OWN = "words: {item: direction, store: counter, unit: bicycle, family: kind, sale: count, sell: count}\n"
USUAL = re.compile(r"\b(products?|items?|stores?|units?|sales?|sold|sells?)\b", re.IGNORECASE)


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    if not (serving.PROJECT / "data" / "model" / "forecaster.json").is_file():
        pytest.skip("there is no model in data/model: run `make pipeline` first")
    root = serving.make_root(tmp_path_factory.mktemp("words") / "project")
    params = (root / "params.yaml").read_text(encoding="utf-8")
    kept = re.sub(r"(?ms)^words:.*?(?=^\S|\Z)", "", params)
    (root / "params.yaml").unlink()  # it may be a link to the project's own
    (root / "params.yaml").write_text(kept + OWN, encoding="utf-8")
    return root


@pytest.mark.parametrize("page, ready", [("", ".number b"), ("orders", "tbody tr")])
def test_a_page_speaks_the_words_of_its_project(town, chromium, page, ready):
    with serving.dashboard(town) as address:
        serving.warm(address)
        tab = chromium.new_page()
        tab.goto(f"{address.rstrip('/')}/{page}")
        tab.wait_for_selector(ready, timeout=60_000)
        tab.wait_for_timeout(1_000)
        names = {one.inner_text() for one in tab.locator("tbody th, .cd-answer h2").all()}
        text = tab.locator("body").inner_text()
        tab.close()
    for name in names:
        text = text.replace(name, "")
    assert re.search("counter", text) and re.search("direction", text)
    assert not USUAL.findall(text), [line for line in text.splitlines() if USUAL.search(line)]
