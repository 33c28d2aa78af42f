"""A real dashboard server and a real browser, for the tests here and for nbs/benchmarks/03_dashboard.ipynb."""

import json, os, re, shutil, signal, statistics, subprocess, sys, time, urllib.request, warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # here also by benchmark 03 and as a script, without pytest
from waiting import PATIENCE, answers, free_port, wait_for
from cd4ml_nb.delivery import registry, release
from cd4ml_nb.model.package import _seal_of
from cd4ml_nb.serving.events import events_folder

PROJECT = Path(__file__).resolve().parents[2]
APPS = PROJECT / "nbs" / "apps"


def make_unwritable(folder):
    "A project whose record of events cannot be written: a file stands where its folder should be."
    shop = make_root(folder)
    (shop / "production").mkdir(exist_ok=True)
    events_folder(shop).write_text("in the way")
    return shop


def make_root(folder, by="Prüferin"):
    "A project folder in which a copy of the packaged model is live, which a test may damage."
    folder = Path(folder)
    folder.mkdir(parents=True)
    shutil.copy(PROJECT / "params.yaml", folder)
    put_live(folder, by)
    return folder


NO_MLFLOW = release.Outside(probe=lambda root: None, mirror=lambda root, names: None)


def put_live(root, by="Prüferin", reason="the best so far", name=None, passed=True):
    "Register, approve and promote the project's packaged model, perhaps under another name; returns that name."
    sealed = json.loads((PROJECT / "data/model/forecaster.json").read_text())
    version = sealed["card"]["model_version"] = name or sealed["card"]["model_version"]
    sealed["seal"] = _seal_of(sealed)
    champion = (release.state(root)["champion"] or {}).get("model_version")
    with registry.new_version(root, version) as new:
        shutil.copytree(PROJECT / "data/model", new / "package")
        (new / "package/forecaster.json").write_text(json.dumps(sealed))
        (new / "gate.json").write_text(
            json.dumps({"passed": passed, "model_version": version, "champion": champion, "checks": []})
        )
        (new / "registration.json").write_text(
            json.dumps(
                {
                    "data_version": sealed["card"]["data_version"],
                    "git_revision": "abc",
                    "gate_passed": passed,
                    "releasable": True,
                }
            )
        )
    release.approve(root, version, by, reason, override=not passed, outside=NO_MLFLOW)
    release.promote(root, version, by=by, reason=reason, outside=NO_MLFLOW)
    return version


def dashboard(root, *options):
    return serve(root, "forecast.ipynb", APPS / "share", *options)


@contextmanager
def serve(root, app, settings, *options):
    "An app as `cd4ml dashboard` and `cd4ml review` serve it, on a free port; ended for real afterwards."
    port = free_port()
    env = {
        **os.environ,
        "CD4ML_ROOT": str(root),
        "JUPYTER_PATH": str(APPS / "share"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])),
    }
    command = [
        sys.executable,
        "-m",
        "voila",
        str(APPS / app),
        f"--Voila.config_file_paths={settings}",
        f"--port={port}",
        *options,
    ]
    (Path(root) / "reports").mkdir(exist_ok=True)
    with open(Path(root) / "reports" / "server.txt", "w") as out:
        server = subprocess.Popen(command, env=env, cwd=root, stdout=out, stderr=out, start_new_session=True)
    try:
        wait_for(
            lambda: answers(port),
            lambda: f"The server of {app} did not start: {(Path(root) / 'reports' / 'server.txt').read_text()[-2000:]}",
            server,
        )
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    wait_for(lambda: not answers(port), lambda: f"Something still answers on port {port}.")


def new_page(opener, **context):
    "A page of a browser, or of a context, that waits as all tests do."
    page = opener.new_page(**context)
    page.set_default_timeout(1000 * PATIENCE)
    return page


HANGS = 60_000  # ms; a page takes seconds


def come(page, address, ready):
    "Open a page and wait for a part of it. One that hangs is loaded once more, as a person would, and that is told."
    from playwright.sync_api import TimeoutError

    page.goto(address, wait_until="commit")
    try:
        page.wait_for_selector(ready, timeout=HANGS)
    except TimeoutError:
        (pictures := PROJECT / "reports" / "screenshots").mkdir(parents=True, exist_ok=True)
        page.screenshot(path=pictures / "hung.png")
        stands = page.evaluate("[document.readyState, document.body.innerText.slice(0, 500)]")
        warnings.warn(f"{address} hung for {HANGS // 1000} s, and was loaded again. It showed: {stands}", stacklevel=2)
        page.goto(address, wait_until="commit")
        page.wait_for_selector(ready)


HEALED = "widget model not found"  # the page's parts were looked for too early: it loads itself again (index.html.j2)
LEFT = (
    "Cannot send"  # a part had a word for its kernel when the page was loaded again or left; what stands there is asked
)


class Watched:
    "A page in the browser, watched: what went wrong in it is an error of the test."

    def __init__(self, chromium, address, ready, harmless=(), **context):
        self.context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
        self.page, self.wrong, self.requests = new_page(self.context), [], []
        self.page.on(
            "console",
            lambda m: (
                self.wrong.append(f"console: {m.text}")
                if m.type == "error" and not any(word in m.text for word in (HEALED, *harmless))
                else None
            ),
        )
        self.page.on("pageerror", lambda e: self.wrong.append(f"exception: {e}") if LEFT not in str(e) else None)
        self.page.on("dialog", lambda d: (self.wrong.append(f"dialog: {d.message}"), d.dismiss()))
        self.page.on("request", lambda r: self.requests.append(r.url))
        come(self.page, address, f"{ready}, [role=alert]:visible")

    def shows(self, text, selector=".cd-page"):
        "Wait until a text stands in a part of the page."
        self.page.locator(selector).filter(has_text=text).first.wait_for(state="visible")

    def told(self, text):
        "Wait until a sentence stands beside what was clicked, where the window shows it."
        said = self.page.locator(".cd-card .cd-notice p").filter(has_text=text)
        inside = "e => { const b = e.getBoundingClientRect(); return b.top >= 0 && b.bottom <= innerHeight }"
        self.page.wait_for_function(inside, arg=said.element_handle())

    def close(self):
        text = self.page.locator("body").inner_text()
        outside = [
            u
            for u in self.requests
            if not re.match(r"(http://127\.0\.0\.1:\d+/|data:|blob:http://127\.0\.0\.1|about:)", u)
        ]
        self.context.close()
        assert not self.wrong, self.wrong
        assert not outside, f"requests to other machines: {outside}"
        assert "error when executing cell" not in text and "Traceback" not in text, text[:2000]


class Formed(Watched):
    "A page with a form."

    def fill(self, **fields):
        "Fill fields by their label, _ for a blank; each is left, as by a person."
        for label, value in fields.items():
            self.page.get_by_label(label.replace("_", " "), exact=True).fill(value)
            self.page.keyboard.press("Tab")

    def click(self, button):
        self.page.get_by_role("button", name=button, exact=True).click()


@contextmanager
def visits(kind, chromium, address):
    "A function (query, **size) that opens watched pages, which are checked and closed at the end."
    opened = []

    def go(query="", **size):
        opened.append(
            kind(chromium, address + query, **({"viewport": {"width": 1280, "height": 900, **size}} if size else {}))
        )
        return opened[-1]

    yield go
    for one in opened:
        one.close()


def warm(url):
    "Wait until the process from which kernels are forked is warm. This visit's own kernel ends after a minute."
    urllib.request.urlopen(url, timeout=PATIENCE).read()


@contextmanager
def browser():
    "Chromium: the system's, or Playwright's own. LookupError where there is none."
    from playwright.sync_api import Error, sync_playwright

    system = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as p:
        try:
            opened = p.chromium.launch(executable_path=system, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        except Error as e:
            how = "install Debian's package chromium, or run `playwright install chromium`"
            raise LookupError(f"no Chromium: {how} ({str(e).splitlines()[0]})") from None
        try:
            yield opened
        finally:
            opened.close()


DRAWN = """document.querySelector('.js-plotly-plot')?.data?.[3]?.x?.length > 0
    && document.querySelector('.scatterlayer .trace:nth-child(4)') && document.querySelector('.number b')"""
STAMP = """JSON.stringify([document.querySelector('.number b').textContent,
    document.querySelector('.cd-answer').textContent,
    document.querySelector('.js-plotly-plot')._fullLayout.shapes[0].x0])"""


def measure(url, opened, visits=3, changes=12):
    "Median seconds to the first useful picture, and of each kind of change, as the browser sees them."
    first, times = [], {}
    for _ in range(visits):
        context = opened.new_context(viewport={"width": 1280, "height": 900})
        page = new_page(context)
        start = time.perf_counter()
        page.goto(url, wait_until="commit")
        page.wait_for_function(DRAWN, polling=16)
        first.append(time.perf_counter() - start)
        if len(first) < visits:
            context.close()

    def timed(kind, act):
        before = page.evaluate(STAMP)
        start = page.evaluate("performance.now()")
        act()
        page.wait_for_function(f"before => {STAMP} !== before", arg=before, polling=8)
        times.setdefault(kind, []).append((page.evaluate("performance.now()") - start) / 1000)

    for n in range(changes):
        timed("product", lambda: pick(page, "Product", n + 2))
        timed("day", lambda: page.get_by_label("From", exact=True).select_option(index=1 + n % 14))
        timed("store", lambda: pick(page, "Store", 1 if n % 2 == 0 else 0))
    page.goto(f"{url.rstrip('/')}/?item=fluid-milk-products", wait_until="commit")  # its stores know both sides
    page.wait_for_function(DRAWN, polling=16)
    for n in range(changes):
        timed("promotion", lambda: page.get_by_label("On" if n % 2 else "Off", exact=True).check(force=True))
    context.close()
    return {
        "first picture": statistics.median(first),
        **{kind: statistics.median(values) for kind, values in times.items()},
        "slowest change": max(map(max, times.values())),
    }


def crowd(url, opened, visitors=15):
    "Seconds until a browser that comes together with others has its picture, and MB of the server and its kernels."
    import psutil

    page = new_page(opened, viewport={"width": 1280, "height": 900})
    with ThreadPoolExecutor(visitors) as pool:
        start = time.perf_counter()
        others = [pool.submit(warm, url) for _ in range(visitors - 1)]  # browsers of theirs run on other machines
        page.goto(url, wait_until="commit")
        page.wait_for_function(DRAWN, polling=16)
        picture = time.perf_counter() - start
        for other in others:
            other.result()
        seconds = time.perf_counter() - start
    port = f"--port={url.rstrip('/').split(':')[-1]}"
    server = next(one for one in psutil.Process().children(recursive=True) if port in one.cmdline())
    used = sum(one.memory_full_info().pss for one in [server, *server.children(recursive=True)])
    page.close()
    return {"one of fifteen": picture, "all fifteen": seconds, "fifteen, GB": used / 1e9}


def pick(page, label, index):
    "Take one option of a list by its place."
    page.get_by_label(label, exact=True).click()
    page.locator(".cd-picker ul:not([hidden]) li[role=option]").nth(index).click()


if __name__ == "__main__":  # The README's picture: python tests/app/serving.py
    import tempfile

    RULE = "the rule release.auto_approve: first"
    with (
        tempfile.TemporaryDirectory() as tmp,
        browser() as opened,
        dashboard(make_root(Path(tmp) / "project", RULE)) as url,
    ):
        page = new_page(opened, viewport={"width": 1280, "height": 900})
        page.goto(url + (f"?{sys.argv[1]}" if len(sys.argv) > 1 else ""), wait_until="commit")
        page.wait_for_selector(".scatterlayer .trace:nth-child(4) path.js-line", state="attached", timeout=90000)
        (PROJECT / "nbs" / "images").mkdir(exist_ok=True)
        page.screenshot(path=PROJECT / "nbs" / "images" / "dashboard.png")
