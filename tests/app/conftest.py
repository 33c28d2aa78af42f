import pytest
import serving


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    if not (serving.PROJECT / "data" / "model" / "forecaster.json").is_file():
        pytest.skip("there is no model in data/model: run `make pipeline` first")
    return serving.make_root(tmp_path_factory.mktemp("dashboard") / "project")


@pytest.fixture(scope="session")
def forecaster(root):
    from cd4ml_nb.serving.live import load_champion

    return load_champion(root)


@pytest.fixture(scope="session")
def chromium():
    try:
        with serving.browser() as opened:
            yield opened
    except (LookupError, ImportError) as e:
        pytest.skip(str(e))


@pytest.fixture(scope="session")
def url(root, chromium):
    with serving.dashboard(root, "--Kernels.patience=1", "--Kernels.most=4") as address:
        serving.warm(address)
        yield address


@pytest.fixture(scope="session")
def screenshots():
    folder = serving.PROJECT / "reports" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Visit(serving.Watched):
    "One visitor's page."

    def __init__(self, chromium, address, **context):
        super().__init__(
            chromium,
            address,
            ".number b",
            accept_downloads=True,
            permissions=["clipboard-read", "clipboard-write"],
            **context,
        )

    def number(self):
        return self.page.locator(".number b").inner_text()

    def wait_number(self, units):
        from cd4ml_nb.look import say_units

        self.page.wait_for_function(
            "said => document.querySelector('.number b')?.textContent === said", arg=say_units(units)
        )

    def query(self, **parts):
        "Wait until the address bar says so."
        from urllib.parse import quote_plus

        for key, value in parts.items():
            self.page.wait_for_function(
                "part => location.search.slice(1).split('&').includes(part)", arg=f"{key}={quote_plus(value)}"
            )


@pytest.fixture
def visit(chromium, url):
    "visit(query, width, height): a watched page, checked and closed when the test ends."
    with serving.visits(Visit, chromium, url) as go:
        yield go


@pytest.fixture(scope="module")
def planner(chromium, url):
    "One visit that several tests share, as a planner goes on in one page."
    v = Visit(chromium, url)
    yield v
    v.close()
