import re
import pytest
import serving


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    if not (serving.PROJECT / "data" / "model" / "forecaster.json").is_file(): pytest.skip("there is no model in data/model: run `make pipeline` first")
    return serving.make_root(tmp_path_factory.mktemp("dashboard") / "project")


@pytest.fixture(scope="session")
def forecaster(root):
    from cd4ml_nb.delivery.release import load_champion
    return load_champion(root)


@pytest.fixture(scope="session")
def chromium():
    try:
        with serving.browser() as opened: yield opened
    except (LookupError, ImportError) as e: pytest.skip(str(e))


@pytest.fixture(scope="session")
def url(root, chromium):
    with serving.dashboard(root, "--VoilaKernelManager.fill_delay=0") as address: yield address


@pytest.fixture(scope="session")
def screenshots():
    folder = serving.PROJECT / "reports" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Visit:
    "One visitor's page, watched: what went wrong in it is an error of the test."
    def __init__(self, chromium, address, width=1280, height=900):
        self.context = chromium.new_context(viewport={"width": width, "height": height}, accept_downloads=True, permissions=["clipboard-read", "clipboard-write"])
        self.page, self.wrong, self.requests = self.context.new_page(), [], []
        self.page.set_default_timeout(10000)
        self.page.on("console", lambda m: self.wrong.append(f"console: {m.text}") if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.wrong.append(f"exception: {e}"))
        self.page.on("dialog", lambda d: (self.wrong.append(f"dialog: {d.message}"), d.dismiss()))
        self.page.on("request", lambda r: self.requests.append(r.url))
        self.page.goto(address, wait_until="commit")
        self.page.wait_for_selector(".number b, [role=alert]:visible", timeout=60000)

    def number(self): return self.page.locator(".number b").inner_text()

    def shows(self, text, selector=".cd-page"):
        "Wait until a text stands in a part of the page."
        self.page.locator(selector).filter(has_text=text).first.wait_for(state="visible")

    def wait_number(self, units):
        from cd4ml_nb.quality.explain import say_units
        self.page.wait_for_function("said => document.querySelector('.number b')?.textContent === said", arg=say_units(units))

    def query(self, **parts):
        "Wait until the address bar says so."
        from urllib.parse import quote_plus
        for key, value in parts.items(): self.page.wait_for_function("part => location.search.slice(1).split('&').includes(part)", arg=f"{key}={quote_plus(value)}")

    def close(self):
        text = self.page.locator("body").inner_text()
        outside = [u for u in self.requests if not re.match(r"(http://127\.0\.0\.1:\d+/|data:|blob:http://127\.0\.0\.1)", u)]
        self.context.close()
        assert not self.wrong, self.wrong
        assert not outside, f"requests to other machines: {outside}"
        assert "error when executing cell" not in text and "Traceback" not in text, text[:2000]


@pytest.fixture
def visit(chromium, url):
    "visit(query, width, height): a watched page, checked and closed when the test ends."
    open_visits = []
    def go(query="", **size):
        open_visits.append(Visit(chromium, url + query, **size))
        return open_visits[-1]
    yield go
    for v in open_visits: v.close()


@pytest.fixture(scope="module")
def planner(chromium, url):
    "One visit that several tests share, as a planner goes on in one page."
    v = Visit(chromium, url)
    yield v
    v.close()
