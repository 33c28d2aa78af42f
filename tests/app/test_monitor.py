"""The page of what the nights found, in a real browser, after a night of a tiny project."""

import contextlib, http.client, io
import pytest
import serving

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def project():
    "A night as `cd4ml night` looks at it, an alert, and an event of a product with a hostile name."
    from cd4ml_nb.delivery.night import turn
    from cd4ml_nb.monitoring.actuals import join_actuals
    from cd4ml_nb.monitoring.alerts import Wrong, settle
    from cd4ml_nb.monitoring.record import keep_events, record_nights
    from cd4ml_nb.monitoring.watch import look_around, look_back, look_inside
    from cd4ml_nb.serving.events import Event
    from cd4ml_nb.tiny import tiny_live

    root = tiny_live("2017-08-20")
    with contextlib.redirect_stderr(io.StringIO()):
        tonight = turn(root)["tonight"]
        join_actuals(root, tonight)
        verdict, _ = look_back(root, tonight)
        look_around(root, tonight)
        look_inside(root, tonight, verdict)
        record_nights(root)
    settle(root, {"night": Wrong("2017-08-22", "2017-08-22", f"{HOSTILE} stopped the night.")})
    asked = {"item_nbr": f"{HOSTILE}milk", "store_nbr": "1"}
    keep_events(root, [Event("forecast", asked, {"mean": 1.0}), Event("forecast", {"item_nbr": "bread"}, {})])
    return root


@pytest.fixture(scope="module")
def address(project, chromium):
    with serving.serve(project, "monitor.ipynb", serving.APPS / "share" / "monitor") as url:
        serving.warm(url)
        yield url


class Visitor(serving.Formed):
    "One visitor's page."

    def __init__(self, chromium, address, **context):
        super().__init__(chromium, address, ".cd-events h2", **context)


@pytest.fixture
def visit(chromium, address):
    with serving.visits(Visitor, chromium, address) as go:
        yield go


def test_it_shows_what_the_nights_found(visit, screenshots, project):
    from cd4ml_nb.monitoring.judged import is_as_judged

    v = visit()
    v.shows(is_as_judged(project).says, ".cd-live")
    v.shows("is live since", ".cd-live")
    titles = v.page.locator(".cd-monitor h2").all_inner_texts()
    assert [*titles[:4], titles[-1]] == ["Now", "As promised?", "What drifts", "Alerts", "Events"] and len(titles) == 11
    assert v.page.locator(".cd-doubt").all_inner_texts() == []
    v.page.screenshot(path=screenshots / "monitor.png", full_page=True)


def test_a_phone_shows_it_without_cut_text(visit, screenshots):
    v = visit(width=390, height=844)
    assert v.page.evaluate("document.documentElement.scrollWidth") <= 390
    v.page.get_by_role("link", name="What drifts").click()
    v.page.wait_for_function("Math.abs(document.getElementById('what-drifts').getBoundingClientRect().top) < 40")
    wide = "[...document.querySelectorAll('.cd-monitor .scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    assert v.page.evaluate(wide) == 0
    v.page.screenshot(path=screenshots / "monitor_phone.png", full_page=True)


def test_an_alert_is_seen_by_a_person_with_a_reason(visit, project):
    "By keyboard; what is hostile stays text; the next visitor sees who has seen it."
    from cd4ml_nb.monitoring.alerts import read_alerts

    v = visit()
    v.shows(f"{HOSTILE} stopped the night.", ".cd-alerts")
    v.page.get_by_role("button", name="I have seen to it").focus()
    v.page.keyboard.press("Enter")
    v.told("Give your name")
    assert not any(one.by for one in read_alerts(project))
    v.fill(Your_name="Ana", Your_reason="<b>the lorry</b> is late")
    v.page.get_by_role("button", name="I have seen to it").focus()
    v.page.keyboard.press("Enter")
    v.told("It stays open until it is over")
    other = visit()
    other.shows("Ana: <b>the lorry</b> is late", ".cd-alerts")
    assert [(one.by, one.reason) for one in read_alerts(project) if one.by] == [("Ana", "<b>the lorry</b> is late")]
    assert v.page.locator(".cd-page img").count() == 0


def test_events_are_found_by_product_store_and_day(visit):
    v = visit("?item=MILK&store=1")
    v.shows("1 of 1 event", ".cd-events")
    v.shows(f"{HOSTILE}milk", ".cd-events")
    v.fill(Product="", Store="", Day="2017-08-21")
    v.shows("night of Mon 21 Aug 2017", ".cd-events")
    v.page.get_by_label("Kind of event").select_option(label="release")
    v.fill(Day="")
    v.shows(": put live", ".cd-events")
    v.fill(Day="2017-08-21")
    v.page.get_by_label("Kind of event").select_option(label="all")
    v.page.wait_for_url("**day=2017-08-21")
    v.fill(Day="yesterday")
    v.shows("Write it as 2017-12-01", ".cd-events")


def test_what_is_damaged_is_a_sentence_in_its_own_place(visit, project):
    path = sorted((project / "production/performance").glob("*.parquet"))[-1]
    sound = path.read_bytes()
    other = path.with_name("damaged")
    other.write_bytes(b"no table")
    other.replace(path)
    try:
        v = visit()
        v.shows(f"{path.name} cannot be read: it is no Parquet file, or a part of one. Remove it", ".cd-live")
        v.shows("concerns" if v.page.locator(".cd-drift table").count() else "drift", ".cd-drift")
        v.shows("stopped the night", ".cd-alerts")
    finally:
        path.write_bytes(sound)


def test_a_foreign_name_is_refused(address):
    "What a page from elsewhere could ask for in a visitor's browser (DNS rebinding): neither page nor a kernel's line."
    port = address.rpartition(":")[2].strip("/")
    for path in ("/", "/api/kernels/1/channels", "/static/style.css"):
        line = http.client.HTTPConnection("127.0.0.1", int(port))
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        names = {
            "Host": "shop.example",
            "Origin": "http://shop.example",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        line.request("GET", path, headers={**names, **(upgrade if "channels" in path else {})})
        answer = line.getresponse()
        assert answer.status == 403 and b"open it under http://127.0.0.1" in answer.read()
    own = http.client.HTTPConnection("127.0.0.1", int(port))
    own.request("GET", "/static/style.css", headers={"Host": f"LocalHost.:{port}"})
    assert own.getresponse().status != 403
