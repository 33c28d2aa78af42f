"The documentation (`make docs`): every notebook has a page, no link is dead, nothing comes from another machine."

import importlib.util, json, re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit
import pytest
from copies import ROOT

LOADS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "object": "data"}


@pytest.fixture(scope="module")
def docs():
    spec = importlib.util.spec_from_file_location("docs", ROOT / "scripts" / "docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(docs, tmp_path_factory):
    "All pages; only the colours of code are left out, which took two thirds of the time."
    folder = tmp_path_factory.mktemp("docs") / "site"
    plain = {"pymdownx.highlight": {"use_pygments": False}}
    with pytest.MonkeyPatch.context() as patch:
        assert "pymdownx.highlight" in docs.EXTENSIONS
        patch.setattr(docs, "EXTENSIONS", [plain if one in plain else one for one in docs.EXTENSIONS])
        docs.write_docs(folder)
    return folder


class Page(HTMLParser):
    "What a page loads, where it leads, and which places it has."

    def __init__(self, path):
        super().__init__()
        self.loads, self.links, self.places = [], [], {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.places |= {given.get("id"), given.get("name")}
        if tag in LOADS and given.get("rel") != "canonical":
            self.loads.append(given.get(LOADS[tag]) or "")
        if tag == "a":
            self.links.append(given.get("href") or "")


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html") if "reports" not in path.relative_to(site).parts}


def outside(address):
    return bool(re.match(r"(\w+:)?//", address))


def test_every_notebook_has_a_page(docs, site, pages):
    paths = docs.notebooks()
    assert len(paths) > 50
    missing = [path for path in paths if site / docs.page_of(path).with_suffix(".html") not in pages]
    assert not missing


def test_no_link_is_dead(site, pages):
    dead = []
    for path, page in pages.items():
        for address in [*page.loads, *page.links]:
            parts = urlsplit(address)
            if outside(address) or parts.scheme or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            known = pages[target].places if target in pages else {"", parts.fragment}
            if not target.exists() or unquote(parts.fragment) not in known | {"__top", "__skip"}:
                dead.append(f"{path.relative_to(site)}: {address}")
    assert not dead, dead[:20]


def test_no_page_loads_anything_from_elsewhere(site, pages):
    loads = [f"{path.name}: {address}" for path, page in pages.items() for address in page.loads if outside(address)]
    assert len(pages) > 50 and not loads, loads[:20]
    styles = [path.name for path in site.rglob("*.css") if re.search(r"url\(['\"]?(https?:)?//", path.read_text())]
    assert not styles


def test_the_search_knows_what_a_reader_asks(site):
    index = json.loads((site / "search" / "search_index.json").read_text())["docs"]
    found = [entry["location"] for entry in index if "rollback" in entry["title"]]
    assert any(place.startswith("delivery/05_release.html") for place in found), found


def test_what_is_exported_is_told_by_its_own_comments(site):
    text = (site / "serving" / "01_live.html").read_text(encoding="utf-8")
    assert '<h3 id="load_champion">' in text and ">The project's folder</td>" in text


def test_a_dead_link_is_refused(docs, tmp_path):
    source = ROOT / "nbs" / "guides" / "new.ipynb"
    assert docs.prose("[x](../core.ipynb)", source, tmp_path) == "[x](../core.md)"
    with pytest.raises(SystemExit, match="nbs/guides/new.ipynb links to ../cores.ipynb, which is not there"):
        docs.prose("[x](../cores.ipynb)", source, tmp_path)
