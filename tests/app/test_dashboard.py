"""The dashboard in a real browser, used as a planner would; its numbers are compared with the forecaster's."""

import csv, io, json, os, re, socket, subprocess, sys, time, urllib.error, urllib.parse, urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlencode
import numpy as np, pandas as pd
import psutil
import pytest
import serving
from jupyter_client.connect import write_connection_file
from cd4ml_nb.apps.kernels import Warm
from cd4ml_nb.delivery import acts, registry, release
from cd4ml_nb.monitoring.actuals import OUTCOMES
from cd4ml_nb.quality.explain import promotion_effect
from cd4ml_nb.look import BAND, FORECAST, SOLD, say_day, say_days, say_interval, say_range, say_units, shown_units
from cd4ml_nb.look import whole_ends
from cd4ml_nb.serving.events import events_folder, read_events
from cd4ml_nb.serving.totals import family_totals, weekly_totals
from waiting import wait_for


@pytest.fixture(scope="module")
def item(forecaster):
    "A product whose promotion makes a difference: its number, name, and a store that sells it and one that does not."
    sells = forecaster.series.groupby("item_nbr").store_nbr.apply(list)
    ever = forecaster.pairs.groupby("item_nbr").store_nbr.apply(set)  # those where it has ended, too
    chosen = pd.date_range(*days(forecaster))
    some = [i for i in sells.index if 1 < len(sells[i]) and len(ever[i]) < len(forecaster.stores)]
    some = [i for i in some if not any(promotion_effect(forecaster, i, None, chosen)["why_not"].values())]
    lift = {
        i: abs(
            forecaster.total(i, None, *days(forecaster), True)["mean"]
            - forecaster.total(i, None, *days(forecaster), False)["mean"]
        )
        for i in some[:25]
    }
    best = max(lift, key=lift.get)
    other = sorted(set(forecaster.stores.store_nbr) - ever[best])[0]
    return {
        "item": best,
        "name": forecaster.items.set_index("item_nbr").item_name[best],
        "store": next(store for store in sorted(sells[best]) if forecaster.history(best, store) == "full"),
        "new": other,
    }


def days(forecaster):
    return tuple(f"{forecaster.dates[n]:%Y-%m-%d}" for n in (1, 3))


def link(**parts):
    return "?" + urlencode(parts)


def test_first_page(planner, forecaster, screenshots):
    "Without being asked for anything the page shows a forecast with interval, reasons, chart, table and model."
    page = planner.page
    first = forecaster.card["first_day"]
    shown = dict(p.split("=") for p in re.sub(r"^.*\?", "", page.url).split("&"))
    assert shown["store"] == "all" and shown["date"] == first
    total = forecaster.total(shown["item"], None, first, first)
    assert planner.number() == say_units(total["mean"])
    planner.shows(say_interval(whole_ends(total, forecaster.sells_whole(shown["item"]))), ".cd-answer")
    planner.shows(forecaster.card["model_version"], ".cd-model")
    planner.shows(f"Since {release.say_when(forecaster.card['live_since'])}, released by Prüferin.", ".cd-model")
    planner.shows(f"off by {forecaster.card['metrics']['wape']:.0%} of units", ".cd-model")
    assert page.locator(".cd-why li, .cd-why p").count() >= 1
    assert page.locator(".cd-table tbody tr").count() == forecaster.horizon and page.locator("tr.chosen").count() == 1
    assert page.title().endswith("Sales forecast")
    page.screenshot(path=screenshots / "laptop.png", full_page=True)


def test_a_kernel_holds_little_of_its_own(planner):
    "What the first page needs is worked out once, before the fork, and stands in memory once."
    own = max(kernel.memory_full_info().uss for kernel in _kernels())
    assert own < 90e6, f"{own / 1e6:.0f} MB"


def test_chart_is_the_forecast(planner, forecaster):
    "The lines of the chart are the forecaster's numbers, and are drawn."
    item = re.search(r"item=([^&]+)", planner.page.url)[1]
    planner.page.wait_for_selector(".scatterlayer .trace:nth-child(4) path.js-line", state="attached")
    drawn = planner.page.evaluate(
        "document.querySelector('.js-plotly-plot').data.map(t => [Array.from(t.x), Array.from(t.y ?? t._y ?? [])])"
    )
    daily, recent = forecaster.daily_totals(item), forecaster.recent(item)
    assert drawn[3][0] == [f"{d:%Y-%m-%d}" for d in daily.date]
    np.testing.assert_allclose(drawn[3][1], daily["mean"], rtol=1e-6)
    np.testing.assert_allclose(drawn[1][1], daily.q10)
    np.testing.assert_allclose(drawn[0][1], daily.q90)
    assert drawn[2][0] == [f"{d:%Y-%m-%d}" for d in recent.date] and len(drawn[2][0]) == 56


def test_the_forecast_has_the_colour_of_every_report(planner):
    shown = planner.page.evaluate("getComputedStyle(document.querySelector('.number')).color")
    assert shown == f"rgb({', '.join(str(int(FORECAST[i : i + 2], 16)) for i in (1, 3, 5))})"
    colours = "document.querySelector('.js-plotly-plot').data.map(trace => trace.fillcolor ?? trace.line?.color)"
    lines = planner.page.evaluate(colours)
    assert lines[1:4] == [BAND, SOLD, FORECAST]


def test_search_and_pick(planner, forecaster, item, screenshots):
    "Typing part of a name narrows the list; what is picked is shown and stands in the address bar."
    page, box = planner.page, planner.page.get_by_label("Product", exact=True)
    box.click()
    options = page.locator(".cd-picker ul:not([hidden]) li[role=option]")
    assert options.count() == len(forecaster.items)
    box.fill("no such thing")
    planner.shows("Nothing matches", ".cd-hint")
    box.fill(item["name"][:-1].upper())
    page.screenshot(path=screenshots / "search.png")
    options.filter(has_text=re.compile(f"^{re.escape(item['name'])}")).first.click()
    planner.query(item=item["item"], store="all")
    planner.wait_number(
        forecaster.total(item["item"], None, forecaster.card["first_day"], forecaster.card["first_day"])["mean"]
    )
    assert box.input_value() == item["name"]


def test_days_and_range(planner, forecaster, item):
    "A single day stays single when it moves; a range adds up; the days never run backwards."
    page, (first, last) = planner.page, days(forecaster)
    page.get_by_label("From", exact=True).select_option(say_day(first))
    planner.query(date=first)
    assert page.get_by_label("To", exact=True).input_value() == say_day(first)
    page.get_by_label("To", exact=True).select_option(say_day(last))
    planner.query(date=first, to=last)
    planner.wait_number(forecaster.total(item["item"], None, first, last)["mean"])
    planner.shows(say_days(first, last), ".cd-answer")
    assert page.locator("tr.chosen").count() == 3
    page.get_by_role("button", name=f"All {forecaster.horizon} days").click()
    planner.wait_number(
        forecaster.total(item["item"], None, forecaster.card["first_day"], forecaster.card["last_day"])["mean"]
    )
    page.get_by_label("To", exact=True).select_option(say_day(first))
    planner.query(to=first)
    page.get_by_label("From", exact=True).select_option(say_day(last))
    planner.query(date=last)
    assert page.get_by_label("To", exact=True).input_value() == say_day(last)
    page.get_by_label("From", exact=True).select_option(say_day(first))
    planner.query(date=first)
    page.get_by_label("To", exact=True).select_option(say_day(last))
    planner.query(date=first, to=last)


def test_what_if(planner, forecaster, item):
    "The promotion switch changes the number and says by how much."
    first, last = days(forecaster)
    as_planned = forecaster.total(item["item"], None, first, last)["mean"]
    for label, promotion in (("On", True), ("Off", False)):
        planner.page.get_by_label(label, exact=True).check(force=True)
        units = forecaster.total(item["item"], None, first, last, promotion)["mean"]
        planner.wait_number(units)
        planner.query(promotion=label.lower())
        said = say_units(abs(shown_units(units) - shown_units(as_planned)))  # What the two numbers shown differ by
        planner.shows(f": {said} (" if said != "0" else "stays", ".whatif")
    planner.page.get_by_label("As planned", exact=True).check(force=True)
    planner.wait_number(as_planned)
    planner.page.wait_for_url(lambda url: "promotion=" not in url)


def test_all_stores_table(planner, forecaster, item):
    "Each store's number and range are those of its own page, rounded by themselves; below them stands the page's own."
    planner.page.get_by_label("By store", exact=True).check(force=True)
    planner.shows("Units by store")
    sells = forecaster.series.store_nbr[forecaster.series.item_nbr == item["item"]]
    first, last = days(forecaster)
    elsewhere = forecaster.remainder([item["item"]], None)[1:4].sum() >= 0.05  # a row of its own
    assert planner.page.locator(".cd-table tbody tr").count() == len(sells) + 1 + elsewhere
    for store in (None, *sells.iloc[:5]):
        total = whole_ends(forecaster.total(item["item"], store, first, last), forecaster.sells_whole(item["item"]))
        title = "All stores" if store is None else f"Store {store}"
        row = planner.page.locator(".cd-table tbody tr").filter(has=planner.page.get_by_text(title, exact=True))
        assert row.locator("td").all_inner_texts() == [say_units(total["mean"]), say_range(total)]
    whole = planner.page.locator("tr.total td")
    assert whole.first.inner_text() == planner.number()
    assert "." not in whole.last.inner_text(), "parts of units"
    assert planner.page.locator("tr.total th").evaluate(
        "e => e.getBoundingClientRect().bottom"
    ) <= planner.page.locator(".cd-table").evaluate("e => e.getBoundingClientRect().bottom + 1"), (
        "the total is out of sight"
    )
    planner.page.get_by_label("By day", exact=True).check(force=True)
    planner.shows("Units a day, all stores")


def test_a_day_has_one_number(planner, forecaster, item):
    "In the table, when it is pointed at in the chart, and on its own page a day has the same number."
    shown = planner.page.locator(".cd-table tbody td:nth-of-type(1)").all_inner_texts()
    told = planner.page.evaluate("document.querySelector('.js-plotly-plot').data[3].text")
    daily = forecaster.daily_totals(item["item"])["mean"]
    own = [forecaster.total(item["item"], None, day, day)["mean"] for day in map(str, forecaster.dates.date)]
    assert shown == list(told) == [say_units(units) for units in daily] == [say_units(units) for units in own]


def test_weeks_below_the_chart(visit, forecaster, item):
    "Each week has the number and the range that the page shows when it is chosen; so has its family."
    for store in (item["store"], None):
        page = visit(link(item=item["item"], **({"store": store} if store else {}))).page
        expected = []
        for week in weekly_totals(forecaster, item["item"], store).to_dict("records"):
            likely = say_range(whole_ends(week, forecaster.sells_whole(item["item"], store)))
            expected.append([str(week["days"]), say_units(week["mean"]), likely])
        rows = page.locator(".cd-weeks tbody tr")
        assert [row.locator("td").all_inner_texts() for row in rows.all()] == expected
        family = forecaster.items.set_index("item_nbr").family[item["item"]]
        own = family_totals(forecaster, store).set_index("family").loc[family]
        likely = say_interval(whole_ends(own[["mean", "q10", "q50", "q90"]].to_dict(), True))
        said = page.locator(".cd-weeks .aside").inner_text()
        assert said.startswith(f"{family}, ") and f": about {say_units(own['mean'])} unit" in said and likely in said
        chart = page.locator(".js-plotly-plot").bounding_box()
        assert page.locator(".cd-weeks").bounding_box()["y"] >= chart["y"] + chart["height"] - 1, (
            "it is not below the chart"
        )
    switched = {
        label: say_units(forecaster.total(item["item"], None, *week_of(forecaster), promotion)["mean"])
        for label, promotion in (("On", True), ("Off", False))
    }
    label, said = next(pair for pair in switched.items() if pair[1] != expected[0][1])
    page.get_by_label(label, exact=True).check(force=True)
    page.wait_for_function(
        "said => document.querySelector('.cd-weeks tbody td:nth-of-type(2)').textContent === said", arg=said
    )


def week_of(forecaster):
    "The first and the last day of the first week, which may be cut."
    days = forecaster.dates
    return str(days[0])[:10], str(days[days.weekday == 6][0])[:10]


def read_csv(visit):
    with visit.page.expect_download() as download:
        visit.page.get_by_role("button", name="Download CSV").click()
    text = open(download.value.path(), encoding="utf-8-sig", newline="").read()
    return download.value.suggested_filename, pd.DataFrame(csv.DictReader(io.StringIO(text)))


def test_download(planner, forecaster, item):
    "The file holds the page's number and, behind it, the forecaster's for every store and chosen day."
    name, table = read_csv(planner)
    first, last = days(forecaster)
    assert name == f"forecast-{item['item']}-all-stores-{first}-to-{last}.csv"
    head, rows = table.iloc[0], table[table["row"] == "store and day"]
    assert (head["row"], head["store_nbr"], head["date"], head["to"]) == ("total", "all", first, last)
    assert say_units(float(head["mean"])) == planner.number()
    expected = forecaster.forecast(item["item"], None, pd.date_range(first, last))
    assert rows["store_nbr"].tolist() == expected["store_nbr"].tolist()
    assert rows["date"].tolist() == expected["date"].dt.strftime("%Y-%m-%d").tolist()
    assert table["mean"].astype(float)[1:].sum() == pytest.approx(float(head["mean"]))  # other stores included
    assert set(table["row"]) <= {"total", "store and day", "other stores"}
    for column in ("mean", "q10", "q50", "q90"):
        np.testing.assert_allclose(rows[column].astype(float), expected[column], rtol=1e-9)
        assert float(head[column]) == pytest.approx(forecaster.total(item["item"], None, first, last)[column])
    assert set(table.model_version) == {forecaster.card["model_version"]} and set(table.item_name) == {item["name"]}


def test_back(planner, forecaster, item):
    "The browser's back button goes to the choice before, forward goes on, and a new choice comes after them."
    page, (first, last) = planner.page, days(forecaster)
    entries = page.evaluate("history.length")
    page.get_by_role("button", name="First week").click()
    planner.query(date=forecaster.card["first_day"])
    assert page.evaluate("history.length") == entries + 1
    page.go_back()
    planner.query(date=first, to=last)
    planner.wait_number(forecaster.total(item["item"], None, first, last)["mean"])
    assert page.get_by_label("From", exact=True).input_value() == say_day(first)
    page.go_forward()
    planner.query(date=forecaster.card["first_day"])
    page.wait_for_function("n => document.querySelectorAll('tr.chosen').length === n", arg=7)
    page.go_back()
    planner.query(date=first, to=last)
    planner.wait_number(forecaster.total(item["item"], None, first, last)["mean"])


def test_store(planner, forecaster, item):
    "One store, picked by its number, has its own number and file; a store without the product says so."
    box, (first, last) = planner.page.get_by_label("Store", exact=True), days(forecaster)
    for store in (item["store"], item["new"]):
        box.click()
        box.fill(store)
        planner.page.locator(".cd-picker ul:not([hidden]) li[role=option]").filter(
            has_text=re.compile(rf"^Store {store}(?!\d)")
        ).first.click()
        planner.query(store=store)
        planner.wait_number(forecaster.total(item["item"], store, first, last)["mean"])
        assert planner.page.locator(".note").count() == (store == item["new"])
        assert not planner.page.get_by_label("By store", exact=True).is_visible()
    name, table = read_csv(planner)
    assert name == f"forecast-{item['item']}-store-{item['new']}-{first}-to-{last}.csv"
    expected = forecaster.forecast(item["item"], item["new"], pd.date_range(first, last))["mean"]
    np.testing.assert_allclose(table["mean"].astype(float)[1:], expected)


def test_what_is_shown_is_on_record(visit, root, forecaster, item):
    "The question, the number, model and data of each choice, as the service keeps them; one event a choice."
    asked = {"page": "forecast", "item_nbr": item["item"], "store_nbr": item["store"]}
    asked |= dict(zip(("date", "to"), days(forecaster)))
    own = lambda: [e for e in read_events(events_folder(root), kinds=["forecast"]) if e.inputs == asked]
    before = len(own())  # another test may have asked the same
    page = visit(link(item=item["item"], store=item["store"], date=days(forecaster)[0]))
    page.page.get_by_label("To", exact=True).select_option(index=3)
    page.query(to=days(forecaster)[1])
    wait_for(lambda: len(own()) > before, lambda: "what the page shows is not on record")
    *_, kept = own()
    said = forecaster.total(item["item"], item["store"], *days(forecaster))
    assert kept.outputs["mean"] == pytest.approx(said["mean"])
    assert kept.outputs["forecast_origin"] == forecaster.card["forecast_origin"]
    assert [kept.model_version, kept.data_version] == [
        forecaster.card[name] for name in ("model_version", "data_version")
    ]
    assert len(own()) == before + 1


@pytest.mark.prove
def test_a_record_that_cannot_be_written_stops_no_page(chromium, tmp_path, item, forecaster):
    "The page is as ever; its log says so once, whatever is looked at."
    shop = serving.make_unwritable(tmp_path / "shop")
    with serving.dashboard(shop) as address:
        page = serving.Watched(chromium, address + link(item=item["item"], store=item["store"]), ".number b")
        for place, day in zip((1, 3), days(forecaster)):
            page.page.get_by_label("From", exact=True).select_option(index=place)
            page.page.wait_for_function("day => location.search.includes(`date=${day}`)", arg=day)
        log = shop / "reports/dashboard.log"
        told = lambda: "not on record" in log.read_text()
        wait_for(told, lambda: "nothing is said of a record that cannot be written")
        assert "production/events" not in page.page.locator("body").inner_text()
        page.close()
    assert log.read_text().count("not on record") == 1, log.read_text()


def test_copy_link(planner):
    planner.page.get_by_role("button", name="Copy link").click()
    planner.shows("Link copied", ".cd-done")
    assert planner.page.evaluate("navigator.clipboard.readText()") == planner.page.url


@pytest.mark.prove
def test_keyboard_only(planner, forecaster, item):
    "Every control is reached by Tab, has a name and a visible focus, and works without a mouse."
    page = planner.page
    page.locator("body").press("Home")
    page.evaluate("document.activeElement.blur()")
    page.get_by_label("Product", exact=True).focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.type(item["name"])
    page.keyboard.press("Enter")
    seen = []
    for _ in range(11):
        seen.append(
            page.evaluate("""() => {
                const e = document.activeElement, shown = e.matches('input[type=radio]') ? e.closest('label') : e
                const style = getComputedStyle(shown), name = e.labels?.[0]?.textContent.trim()
                const outlined = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2
                return [name || e.textContent.trim(), outlined]
            }""")
        )
        if seen[-1][0] == "As planned":
            page.keyboard.press("ArrowRight")
            planner.query(promotion="on")
        if seen[-1][0] == "Store":
            page.keyboard.type("all stores")
            page.keyboard.press("Enter")
            planner.query(store="all")
        page.keyboard.press("Tab")
    names = [name for name, _ in seen]
    assert names[:4] == ["Product", "Store", "From", "To"], names
    assert {"As planned", "First week", f"All {forecaster.horizon} days", "By day", "Download CSV", "Copy link"} <= set(
        names
    ), names
    assert all(
        outline
        for name, outline in seen
        if name in ("Product", "Store", "From", "To", "First week", "Download CSV", "Copy link")
    ), seen


@pytest.mark.prove
def test_phone(visit, forecaster, item, screenshots):
    "A link with everything in it opens on a phone as it was sent, and nothing sticks out."
    first, last = days(forecaster)
    v = visit(link(item=item["item"], store=item["store"], date=first, to=last, promotion="on"), width=390, height=844)
    v.wait_number(forecaster.total(item["item"], item["store"], first, last, True)["mean"])
    v.query(item=item["item"], store=item["store"], date=first, to=last, promotion="on")
    assert v.page.get_by_label("On", exact=True).is_checked() and v.page.get_by_label(
        "To", exact=True
    ).input_value() == say_day(last)
    v.page.wait_for_selector(".js-plotly-plot .main-svg")
    assert v.page.evaluate("document.documentElement.scrollWidth") <= 390
    out = v.page.evaluate(
        """[...document.querySelectorAll('.cd-page *')].filter(e => {
            const r = e.getBoundingClientRect(), counts = r.width && !e.closest('.js-plotly-plot, .cd-spoken')
            return counts && (r.right > 391 || r.left < -1)
        }).map(e => e.className)"""
    )
    assert out == [], out
    small = v.page.evaluate(
        """[...document.querySelectorAll('.cd-page :is(button, select, input[type=text])')]
            .filter(e => e.offsetHeight && e.offsetHeight < 36).length"""
    )
    assert small == 0
    v.page.screenshot(path=screenshots / "phone.png", full_page=True)


@pytest.mark.prove
def test_all_columns_of_how_the_last_forecasts_did_are_in_sight(chromium, tmp_path, item, screenshots):
    "On a phone, on a tablet and beside the chart, with numbers of three digits and 28 days."
    shop = serving.make_root(tmp_path / "shop")
    (shop / OUTCOMES).mkdir(parents=True)
    about = {"store_nbr": item["store"], "item_nbr": item["item"], "mean": 412.4, "q10": 300.0, "q90": 500.0}
    table = pd.DataFrame(about | {"horizon": [1, 7], "unit_sales": 371.0})
    for day in pd.date_range("2017-11-01", periods=28):
        table.to_parquet(shop / OUTCOMES / f"{day:%Y-%m-%d}.parquet")
    frame = "document.querySelector('.cd-since .scroll')"
    with serving.dashboard(shop) as address:
        serving.warm(address)
        v = serving.Watched(chromium, address + link(item=item["item"], store=item["store"]), ".number b")
        v.shows("28 of 28", ".cd-since")
        for width in (390, 901, 1280):
            v.page.set_viewport_size({"width": width, "height": 844})
            v.page.locator(".cd-since").screenshot(path=screenshots / f"since-{width}.png")
            sizes = v.page.evaluate(f"[{frame}.scrollWidth, {frame}.clientWidth]")
            assert sizes[0] <= sizes[1], f"a column is cut at {width}: {sizes}"
        v.close()


SEEN = """new MutationObserver(() => {
    for (const title of document.querySelectorAll(".cd-answer h2")) (window.seen ??= new Set()).add(title.textContent)
}).observe(document, { childList: true, subtree: true, characterData: true })"""


def test_a_link_shows_nothing_else(chromium, url, forecaster, item):
    "From the first moment on a link's page shows the product that was asked for, and the file is its, too."
    context = chromium.new_context()
    page = serving.new_page(context)
    page.add_init_script(SEEN)
    page.goto(url + link(item=item["name"].split()[0], store=item["store"]), wait_until="commit")
    page.wait_for_function(serving.DRAWN)
    seen = page.evaluate("[...window.seen]")
    context.close()
    assert len(seen) == 1 and item["name"].split()[0] in seen[0], seen


def test_a_chart_that_cannot_be_loaded_is_said(chromium, url):
    "A proxy swallowed its script, say: the numbers stand there all the same."
    context = chromium.new_context()
    page = serving.new_page(context)
    page.route("**/widgetbundle.js", lambda route: route.abort())
    serving.come(page, url, ".number b")
    page.get_by_text("The chart could not be loaded; the numbers are as they should be.").wait_for()
    context.close()


def test_a_visitor_who_leaves_frees_the_kernel(chromium, url):
    "And when as many are there as fit, the next one is told so, and comes in by itself."
    before, pages, statuses = _kernels(), [], []
    try:
        while len(pages) < 6 and 503 not in statuses:
            pages.append(serving.new_page(chromium))
            statuses.append(pages[-1].goto(url, wait_until="load").status)
        assert 503 in statuses and 200 in statuses, statuses
        said = pages[-1].locator("[role=alert]").inner_text()
        counted = re.search(r"fit on this machine now: (\d) look at this page, and (\d) are about to", said)
        assert counted and int(counted[1]) + int(counted[2]) == 4, said
        pages.pop(0).close()
        pages[-1].wait_for_selector(".number b", timeout=90000)
    finally:
        for page in pages:
            page.close()
    serving.wait_for(lambda: _kernels() <= before, lambda: "kernels live on")


@pytest.mark.prove
def test_wrong_link(visit, forecaster, screenshots):
    "Each thing that is wrong with a link is a sentence; what was typed is never run."
    script = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    item = forecaster.series.iloc[0].item_nbr
    v = visit(link(item=item, store=script, date="2031-02-03", to="tomorrow", promotion=script))
    alerts = v.page.locator(".cd-notice [role=alert]")
    alerts.first.wait_for()
    said = alerts.all_inner_texts()
    assert len(said) == 4 and script[:30] in said[0] and "forecasts reach from" in said[1], said
    assert v.page.locator(".cd-page img, .cd-page script").count() == 0
    assert v.number() and f"date={forecaster.card['first_day']}" in v.page.url
    v.page.screenshot(path=screenshots / "wrong-link.png")


def test_no_product_stands_in_for_another(visit, forecaster, item):
    "A link to what has ended, or was never there, shows its sentence and no other product's number or chart."
    ended = sorted(set(forecaster.pairs["item_nbr"]) - set(forecaster.items["item_nbr"]))[0]
    for wanted, sentence in (
        (ended, forecaster.ended(ended)),
        ("no-such-thing", "There is no product “no-such-thing”."),
    ):
        v = visit(link(item=wanted, store="all"))
        v.shows(sentence, ".cd-notice")
        assert not v.page.locator(".cd-body").is_visible() and f"item={wanted}" in v.page.url
        names = dict(zip(forecaster.block.series["item_nbr"], forecaster.block.series["item_name"]))
        assert v.page.get_by_label("Product").input_value() == names.get(wanted, "")
    box = v.page.get_by_label("Product", exact=True)
    box.click()
    box.fill(item["name"])
    v.page.locator(".cd-picker ul:not([hidden]) li[role=option]").first.click()
    v.wait_number(forecaster.total(item["item"], None, *[forecaster.card["first_day"]] * 2)["mean"])
    v.page.locator(".cd-notice p").wait_for(state="detached")


def test_what_has_ended_is_found(visit, forecaster, item, screenshots):
    "Who types its name finds it, in no list of what is sold, and the page says since when nothing is forecast."
    ended = sorted(set(forecaster.pairs["item_nbr"]) - set(forecaster.items["item_nbr"]))[0]
    series = forecaster.block.series.set_index("item_nbr")
    name, v = series["item_name"][[ended]].iloc[0], visit(link(item=item["item"]))
    box, options = v.page.get_by_label("Product", exact=True), v.page.locator(".cd-picker ul:not([hidden]) li")
    box.click()
    assert options.count() == len(forecaster.items) and options.filter(has_text="last sale").count() == 0
    box.fill(name)
    found = options.filter(has_text=re.compile(rf"^{re.escape(name)} ended, last sale "))
    found.first.wait_for()
    v.page.screenshot(path=screenshots / "ended-found.png")
    found.first.click()
    v.shows(forecaster.ended(ended), ".cd-notice")
    v.query(item=ended)
    assert not v.page.locator(".cd-body").is_visible() and box.input_value() == name
    v.page.screenshot(path=screenshots / "ended.png")
    v.page.go_back()
    v.wait_number(forecaster.total(item["item"], None, *[forecaster.card["first_day"]] * 2)["mean"])


def test_a_release_against_the_gate_is_said(visit, root, screenshots):
    "On both pages, beside the number: that the gate stopped the model, who put it live all the same, and why."
    try:
        serving.put_live(root, "Ben", "it is <late>", "stopped-by-the-gate", passed=False)
        page = visit().page
        for name, part in (("Forecast", ".cd-answer"), ("Orders", ".cd-head")):
            page.get_by_role("link", name=name, exact=True).click()
            note = page.locator(f"{part} .note").filter(has_text="The quality gate stopped this model, and it was put")
            note.filter(has_text=re.compile(r"live all the same \(Ben, [\d-]+: it is <late>\)\. Take its")).wait_for()
            page.screenshot(path=screenshots / f"against-the-gate-{name}.png")
    finally:
        release.rollback(root, "Prüferin", "too low", outside=serving.NO_MLFLOW)


HALF_A_MINUTE = 31_000  # ms of the browser's clock


@pytest.mark.parametrize("address, kept", [("", ".number b"), ("orders", ".cd-sum")])
def test_an_open_page_says_what_went_live(chromium, url, root, screenshots, address, kept):
    "Without a click, and without changing what stands there; a click shows what is live, and the news are gone."
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = serving.new_page(context)
    page.clock.install()
    serving.come(page, url + address, kept)
    number = page.locator(kept).first
    before, bar = number.inner_text(), page.locator(".cd-bar")
    page.clock.run_for(HALF_A_MINUTE)
    assert not bar.is_visible()
    try:
        serving.put_live(root, "Ben <b>", name=f"even-newer-{address}")
        page.clock.run_for(HALF_A_MINUTE)
        bar.filter(has_text="released by Ben <b>. The numbers here are those of before.").wait_for()
        assert number.inner_text() == before and page.locator(".cd-notice p").count() == 0
        page.screenshot(path=screenshots / f"news-{address or 'forecast'}.png")
        bar.get_by_role("button").click()
        page.locator(".cd-notice p").filter(has_text="is live now").wait_for()
        page.locator(".cd-model, .cd-about").filter(has_text="even-newer").first.wait_for()
        assert not bar.is_visible()
    finally:
        release.rollback(root, "Prüferin", "too low", outside=serving.NO_MLFLOW)
        context.close()


def test_promote_and_rollback(planner, root, forecaster):
    "The page that is open follows what is released, at the next click; what is only registered is not shown."
    try:
        serving.put_live(root, "Ben <b>", name="a-newer-one")
        planner.page.get_by_label("Off", exact=True).check(force=True)
        planner.shows("Another model is live now", ".cd-notice")
        planner.shows("a-newer-one", ".cd-model")
        planner.shows("released by Ben <b>.", ".cd-model")
    finally:
        release.rollback(root, "Prüferin", "too low", outside=serving.NO_MLFLOW)
    planner.page.get_by_label("On", exact=True).check(force=True)
    planner.shows("Another model is live now", ".cd-notice")
    planner.shows(forecaster.card["model_version"], ".cd-model")
    planner.page.get_by_label("Off", exact=True).check(force=True)
    planner.page.wait_for_function("document.querySelector('.cd-notice').textContent.trim() === ''")
    why = "an act that leaves the live model as it is"
    release.reject(root, "a-newer-one", "Prüferin", why, outside=serving.NO_MLFLOW)
    planner.page.get_by_label("As planned", exact=True).check(force=True)
    planner.page.wait_for_url(lambda url: "promotion=" not in url)
    assert planner.page.locator(".cd-notice").inner_text() == ""


@pytest.mark.prove
def test_damaged_model(planner, root, forecaster):
    "A damaged model is refused with a sentence instead of numbers; when it is mended the page goes on."
    state = registry.champion_folder(root) / "state.parquet"
    good = state.read_bytes()
    try:
        state.write_bytes(good[:-1])
        planner.page.get_by_label("Off", exact=True).check(force=True)
        planner.shows("was changed after it was packaged", ".cd-notice")
        assert not planner.page.locator(".number").is_visible()
    finally:
        state.write_bytes(good)
    planner.page.get_by_label("As planned", exact=True).check(force=True)
    planner.page.locator(".number").wait_for(state="visible")


@pytest.mark.prove
def test_tampered_log(planner, root):
    "A model that somebody wrote into the log is not shown."
    log = root / acts.LOG
    good = log.read_bytes()
    try:
        log.write_bytes(good.replace(b"the best so far", b"the best of all"))
        planner.page.get_by_label("Off", exact=True).check(force=True)
        planner.shows("The log of releases (reports/releases.jsonl) is not what was written", ".cd-notice")
        assert not planner.page.locator(".number").is_visible()
    finally:
        log.write_bytes(good)
    planner.page.get_by_label("As planned", exact=True).check(force=True)
    planner.page.locator(".number").wait_for(state="visible")


@pytest.mark.prove
def test_nothing_released(visit, root, screenshots):
    "Before a release a visitor is told so, and sees nothing else: no empty page, no model that is only packaged."
    files = [root / acts.LOG, root / "data/registry"]  # which knows what stood in the log
    for file in files:
        file.rename(file.with_suffix(".away"))
    try:
        v = visit(link(item="x"))
        v.shows("No model is live yet", "[role=alert]")
        product = v.page.get_by_label("Product", exact=True)
        assert not v.page.locator(".number").is_visible()
        assert not product.is_visible() or product.input_value(), "controls that hold nothing"
        v.page.screenshot(path=screenshots / "no-model.png")
    finally:
        for file in files:
            file.with_suffix(".away").rename(file)


def test_light_start():
    "What the page imports before a visitor comes: nothing that trains, tracks or draws reports."
    code = """import json, sys
cells = [c for c in json.load(open(sys.argv[1]))["cells"] if c["cell_type"] == "code"]
exec("".join(cells[0]["source"]))
heavy = "mlflow dvc sklearn statsmodels matplotlib ibis duckdb papermill".split()
print([module for module in heavy if module in sys.modules])"""
    done = subprocess.run(
        [sys.executable, "-c", code, serving.APPS / "forecast.ipynb"],
        capture_output=True,
        text=True,
        cwd=serving.APPS,
        check=True,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.prove
def test_who_hangs_up_makes_room(root):
    "Somebody who hangs up half-way, and somebody who reads the page with a program, hold no place."
    with serving.dashboard(root, "--Kernels.most=1", "--Kernels.patience=1") as address:
        with socket.create_connection(("127.0.0.1", urllib.parse.urlsplit(address).port)) as line:
            line.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert line.recv(15) == b"HTTP/1.1 200 OK"
            with pytest.raises(urllib.error.HTTPError, match="503"):
                urllib.request.urlopen(address)
        for _ in range(2):
            serving.wait_for(lambda: _answers(address), lambda: "the place is still taken")
        assert "Traceback" not in (root / "reports/server.txt").read_text()


def _answers(address):
    try:
        return "Getting the forecast" in urllib.request.urlopen(address).read().decode()
    except urllib.error.HTTPError as e:
        assert e.code == 503
        return False


@pytest.mark.parametrize("settings", ["share/voila.json", "share/review/voila.json"])
def test_a_busy_page_is_not_cut_off(settings):
    "A connection that answers no ping for a minute may be one of thirty; one that is asked nothing is not silent."
    ping = json.loads((serving.APPS / settings).read_text())["Voila"]["tornado_settings"]
    assert ping["ws_ping_timeout"] >= max(60_000, 3 * ping["ws_ping_interval"])


def test_a_kernel_that_is_killed_is_said_so_at_the_next_choice(chromium, root):
    with serving.dashboard(root) as address:
        before = _kernels()
        page = serving.new_page(chromium)
        serving.come(page, address, ".number b")
        (kernel,) = _kernels() - before
        kernel.kill()
        lost = page.locator("#cd-lost")
        assert lost.is_hidden()
        page.locator(".cd-quick button").first.click()
        lost.wait_for(state="visible")
        assert "its numbers may be of another choice" in lost.inner_text()
        page.close()


@pytest.mark.prove
def test_a_warm_process_that_is_killed_is_started_anew(chromium, root):
    "Who looks at a page goes on, the next visitor comes as quickly as ever, and nothing outlives the server."
    with serving.dashboard(root) as address:
        before = _kernels()
        pages = [serving.new_page(chromium)]
        serving.come(pages[0], address, ".number b")
        (kernel,) = _kernels() - before
        warm = kernel.parent()
        server = warm.parent()
        warm.kill()
        serving.wait_for(lambda: not warm.is_running() or warm.status() == "zombie", lambda: "it lives on")
        number = pages[0].locator(".cd-answer").inner_text()
        pages[0].locator(".cd-quick button").last.click()
        pages[0].wait_for_function("was => document.querySelector('.cd-answer').innerText !== was", arg=number)
        assert kernel.is_running() and pages[0].locator("#cd-lost").is_hidden()
        pages.append(serving.new_page(chromium))
        serving.come(pages[1], address, ".number b")
        (other,) = _kernels() - before
        assert "fork_kernels" in str(other.parent().cmdline()) and other.parent() != warm
        server.kill()
        serving.wait_for(lambda: not kernel.is_running() and not other.is_running(), lambda: "it outlives the server")
    for page in pages:
        page.close()


@pytest.mark.prove
def test_a_warm_process_killed_before_it_answers(root, tmp_path, monkeypatch):
    "Whoever waits for a kernel then gets one from the next warm process, though an earlier visitor's kernel lives on."
    monkeypatch.setenv("CD4ML_ROOT", str(root))
    warm, files = (
        Warm(serving.APPS / "forecast.ipynb"),
        [write_connection_file(str(tmp_path / name))[0] for name in "ab"],
    )
    first = warm.fork(files[0], tmp_path, dict(os.environ))
    psutil.Process(warm._process.process.pid).suspend()
    with ThreadPoolExecutor() as pool:
        second = pool.submit(warm.fork, files[1], tmp_path, dict(os.environ))
        time.sleep(1)  # the order is on its way
        assert not second.done()
        warm._process.process.kill()
        try:
            assert second.result(timeout=serving.PATIENCE).poll() is None and first.poll() is None
        finally:
            psutil.Process(first.pid).kill()
            warm.end()


def _kernels():
    "The kernels of all visitors."
    found = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.status() != "zombie" and "fork_kernels" in str(process.parent().cmdline()):
                found.add(process)
    return found
