"""The order page in a real browser, used as planners would; its numbers are compared with the rooms'."""

import io, re, zipfile
from urllib.parse import urlencode
import pandas as pd
import pytest, yaml
import serving
from cd4ml_nb.look import exact_units, say_units
from cd4ml_nb.serving.decisions import Decision, read_decisions, record_decision, withdraw_decision
from cd4ml_nb.serving.events import events_folder, open_events, read_events
from cd4ml_nb.serving.kept_rules import rules_kept
from cd4ml_nb.serving.live import load_champion
from cd4ml_nb.serving.orders import order_list, said_of
from cd4ml_nb.serving.stock import stock_file
from waiting import wait_for


@pytest.fixture(scope="module")
def shop(tmp_path_factory, root):
    "A project of its own, in which decisions are made."
    return serving.make_root(tmp_path_factory.mktemp("orders") / "project")


@pytest.fixture(scope="module")
def address(shop, chromium):
    with serving.dashboard(shop, "--Kernels.patience=1", "--Kernels.most=4") as url:
        serving.warm(url)
        yield url


class Planner(serving.Watched):
    "A planner's page."

    def __init__(self, chromium, address, **context):
        context = {"accept_downloads": True} | context
        super().__init__(chromium, address, ".cd-orders tr[data-item]", harmless=("404",), **context)

    def row(self, item):
        return self.page.locator(f"tr[data-item='{item}']")

    def open(self, item):
        "Open a product's editor."
        self.row(item).locator(".cd-order").click()
        self.page.locator(".cd-editor").wait_for()

    def type(self, **fields):
        for name, value in fields.items():
            control = self.page.locator(f".cd-editor [name={name}]")
            control.select_option(value) if name == "reason" else control.fill(value)

    def order(self, item, **fields):
        "Order, and wait until it is on record."
        self.open(item)
        self.type(**fields)
        self.page.locator(".cd-send").click()
        self.page.locator(".cd-editor").wait_for(state="detached")

    def says(self, name):
        "What is said beside a field, once it is."
        said = self.page.locator(f".cd-field-{name} .cd-wrong" if name else ".cd-editor .cd-whole")
        said.filter(has_text=re.compile(".")).wait_for()
        return said.inner_text()


@pytest.fixture
def planner(chromium, address):
    "planner(query, width, height): a watched page, checked and closed when the test ends."
    with serving.visits(Planner, chromium, address + "orders") as go:
        yield go


@pytest.fixture(scope="module")
def store(forecaster):
    "The store with the most products."
    return forecaster.series["store_nbr"].value_counts().index[0]


@pytest.fixture(scope="module")
def items(forecaster, store):
    "Its products, those that sell most first."
    table = order_list(forecaster, store, 3).table
    return table.sort_values("mean", ascending=False)["item_nbr"].tolist()


ADA = {"ordered": "41", "reason": "event", "text": "the fair <b>", "by": "Ada"}
query = lambda **parts: "?" + urlencode(parts)


def test_the_list_is_what_the_rooms_say(planner, forecaster, store, screenshots):
    "Who asks for nothing sees the store with the most products; each number is that of the order list."
    page = planner(width=1280).page
    listed = order_list(forecaster, store, 3).table.set_index("item_nbr")
    assert page.locator("tr[data-item]").count() == len(listed)
    columns = page.locator("thead th button").all_inner_texts()
    texts = "row => [row.dataset.item, ...[...row.cells].map(cell => cell.innerText)]"
    rows = page.evaluate(f"[...document.querySelectorAll('tr[data-item]')].map({texts})")
    for item, *cells in rows:
        said, row = dict(zip(columns, cells)), listed.loc[item]
        assert said["Product"].startswith(row["item_name"])
        assert (said["Order"], said["Suggested"]) == (exact_units(row["suggested"]), exact_units(row["suggested"]))
        assert (said["Expected"], said["Enough"]) == (say_units(row["mean"]), exact_units(row["quantile"]))
    heads = page.locator(".cd-orders thead th[scope=col]").count(), page.locator("tr[data-item] th[scope=row]").count()
    assert heads == (len(columns), len(listed)) and "Stock" not in columns
    page.screenshot(path=screenshots / "orders.png")


def test_days_and_level(planner, forecaster, store, items):
    "The controls ask for another list; the address holds it, and the way back leads to the one before."
    one = planner(query(store=store))
    one.page.get_by_label("Lasts until", exact=True).select_option(index=6)
    one.shows("7 days", ".cd-head")
    one.page.get_by_label("Service level", exact=True).select_option(label="95%")
    one.shows("enough 95% of the time", ".cd-head")
    said = order_list(forecaster, store, 7, 0.95).table.set_index("item_nbr")["suggested"][items[0]]
    assert one.row(items[0]).locator(".cd-order").inner_text() == exact_units(said)
    assert f"to={forecaster.dates[6]:%Y-%m-%d}"[:13] in one.page.url and "level=0.95" in one.page.url
    one.page.go_back()
    one.shows("enough 90% of the time", ".cd-head")


def test_a_decision_is_there_for_the_next_planner(planner, shop, chromium, store, items):
    "It survives a reload and a restart, is shown to whoever comes, can be replaced and withdrawn, and never goes."
    item, other = items[:2]
    one = planner(query(store=store))
    one.order(item, **ADA)
    one.shows("On record: Ada ordered 41 instead of", ".cd-told")
    one.shows("Ada: A holiday or an event nearby: the fair <b>", f"tr[data-item='{item}'].chosen")
    one.page.reload()
    one.shows("Ada", f"tr[data-item='{item}'].chosen")
    with serving.dashboard(shop) as restarted:
        two = Planner(chromium, f"{restarted}orders{query(store=store)}")
        assert two.row(item).locator(".cd-order").inner_text() == "41"
        two.open(item)
        two.type(ordered="12,5", reason="weather", by="Grace")
        two.page.locator(".cd-send").click()
        assert "it is only sold in whole units. Give 12 or 13." in two.says("ordered")
        two.type(ordered="12")
        two.page.locator(".cd-send").click()
        two.page.locator(".cd-editor").wait_for(state="detached")
        two.order(other, by="Grace")  # as it is suggested
        two.close()
    one.page.evaluate("dispatchEvent(new Event('focus'))")  # who comes back sees it
    one.shows("Grace: The weather", f"tr[data-item='{item}'].chosen")
    one.open(item)
    assert one.page.locator(".cd-history li").count() == 2
    one.page.locator(".cd-withdraw").click()
    assert "Why is it withdrawn" in one.says("text")
    one.type(text="counted twice", by="Ada")
    one.page.locator(".cd-withdraw").click()
    one.shows("A decision was withdrawn", f"tr[data-item='{item}']")
    standing = [one.decision for one in read_decisions(events_folder(shop), store)]
    assert [(made.item_nbr, made.by, made.reason) for made in standing] == [(other, "Grace", "as_suggested")]
    kept = [event.outputs for event in read_events(events_folder(shop), kinds=["decision"])]
    assert [done.get("ordered") for done in kept][:2] == [41, 12] and kept[-1]["act"] == "withdrawal"


def test_what_cannot_be_is_said_beside_its_field(planner, shop, store, items):
    "And what was typed stays; nothing of it is on record."
    one = planner(query(store=store))
    before = len(read_events(events_folder(shop)))
    one.open(items[3])
    for field, sentence, typed in (
        ("ordered", "Less than nothing", {"ordered": "-3"}),
        ("ordered", "is no number of units", {"ordered": "two"}),
        ("ordered", "in two ways", {"ordered": "1,240"}),
        ("reason", "Choose a reason", {"reason": ""}),
        ("reason", "are suggested", {"reason": "as_suggested"}),
        ("text", "needs a text", {"reason": "other", "text": " "}),
        ("by", "give your name", {"by": " "}),
    ):
        one.type(**ADA | {"ordered": "999"} | typed)
        one.page.locator(".cd-send").click()
        assert sentence.casefold() in one.says(field).casefold()
        assert one.page.locator(".cd-editor [aria-invalid]").get_attribute("name") == field
        for name, value in (ADA | {"ordered": "999"} | typed).items():
            assert one.page.locator(f".cd-editor [name={name}]").input_value() == value
    assert len(read_events(events_folder(shop))) == before


def test_somebody_else_was_quicker(planner, store, items):
    "What the other one decided is shown first; who still means it orders again."
    one, two, item = planner(query(store=store)), planner(query(store=store)), items[4]
    one.open(item)
    one.type(**ADA)
    two.order(item, **ADA | {"ordered": "7", "by": "Grace"})
    one.page.locator(".cd-send").click()
    assert "Grace ordered 7" in one.says("")
    one.page.locator(".cd-send").click()
    one.shows("Ada", f"tr[data-item='{item}'].chosen")


def test_a_record_that_cannot_be_written_loses_nothing(chromium, tmp_path, store, items):
    "The editor says why, and what was typed is ordered as soon as there is a place for it."
    shop = serving.make_unwritable(tmp_path / "shop")
    with serving.dashboard(shop) as address:
        one = Planner(chromium, f"{address}orders{query(store=store)}")
        one.open(items[0])
        one.type(**ADA)
        one.page.locator(".cd-send").click()
        assert "is no folder, and events were kept in one" in one.says("")
        assert one.page.locator(".cd-editor [name=ordered]").input_value() == "41"
        events_folder(shop).unlink()
        one.page.locator(".cd-send").click()
        one.page.locator(".cd-editor").wait_for(state="detached")
        assert [made.decision.ordered for made in read_decisions(events_folder(shop))] == [41]
        one.close()


def test_sort_find_and_keys(planner, store, items, forecaster):
    "Numbers sort from the largest, names by letter; words and families narrow the list; no mouse is needed."
    one = planner(query(store=store))
    page = one.page
    page.locator("th[data-column=mean] button").focus()
    page.keyboard.press("Enter")
    page.get_by_label("By family", exact=True).uncheck()
    shown = page.evaluate("[...document.querySelectorAll('tr[data-item]')].map(row => row.dataset.item)")
    assert shown == items
    assert page.locator("th[aria-sort=descending]").get_attribute("data-column") == "mean"
    page.locator(".cd-order").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.locator(".cd-editor").wait_for()
    assert page.evaluate("document.activeElement.name") == "ordered"
    page.keyboard.press("Escape")
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    name = forecaster.items.set_index("item_nbr")["item_name"][items[1]]
    assert label.startswith(f"{name}: order ") and page.locator(".cd-editor").count() == 0
    page.get_by_label("Find a product", exact=True).fill(name.upper())
    assert items[1] in page.evaluate("[...document.querySelectorAll('tr[data-item]')].map(row => row.dataset.item)")
    page.get_by_label("Find a product", exact=True).fill("no such thing")
    page.get_by_role("button", name="Show all products").click()
    assert page.locator("tr[data-item]").count() == len(items)


def test_files(planner, shop, store, items):
    "The CSV and the Excel book hold the whole list, and what was decided."
    one = planner(query(store=store))
    one.order(items[5], **ADA | {"ordered": "33"})
    kept = {}
    for kind, label in {"csv": "Download CSV", "xlsx": "Download Excel"}.items():
        with one.page.expect_download() as download:
            one.page.get_by_role("button", name=label).click()
        assert download.value.suggested_filename.endswith(kind)
        kept[kind] = open(download.value.path(), "rb").read()
    table = pd.read_csv(io.BytesIO(kept["csv"]), dtype={"store_nbr": str}).set_index("item_nbr")
    assert sorted(table.index) == sorted(items) and set(table["store_nbr"]) == {store}
    assert table.loc[items[5], ["order", "ordered", "by", "text"]].tolist() == [33, 33, "Ada", "the fair <b>"]
    book = zipfile.ZipFile(io.BytesIO(kept["xlsx"]))
    assert book.read("xl/worksheets/sheet1.xml").count(b"<row ") == len(items) + 1
    assert b"the fair &lt;b&gt;" in book.read("xl/sharedStrings.xml")


def test_files_and_paper_have_what_others_decided_meanwhile(planner, shop, store, items):
    one, item = planner(query(store=store)), items[3]
    with open_events(shop) as events:
        made = order_list(load_champion(shop), store, 3)
        about = store, item, made.first_day, made.last_day
        record_decision(events, Decision(*about, 33, "Pia", "event"), said_of(made, item))
    with one.page.expect_download() as download:
        one.page.get_by_role("button", name="Download CSV").click()
    listed = pd.read_csv(download.value.path(), dtype={"item_nbr": str}).set_index("item_nbr")
    assert (listed["ordered"][item], listed["by"][item]) == (33, "Pia")
    with open_events(shop) as events:
        (now,) = read_decisions(events.folder, store, item_nbr=item)
        withdraw_decision(events, now.id, "Pia", "the fair is off")
    cell = f"tr[data-item='{item}'] .cd-order"
    one.page.evaluate(
        "cell => { window.print = () => { window.printed = document.querySelector(cell).innerText } }", cell
    )
    one.page.get_by_role("button", name="Print").click()
    one.page.wait_for_function("window.printed")
    assert "33" not in one.page.evaluate("window.printed")


def test_a_rule_is_a_decision(chromium, tmp_path, store, items, screenshots):
    "Its row says which rule made the number; on record it is when somebody decides, not when somebody looks."
    shop = serving.make_root(tmp_path / "shop")
    params, always = shop / "params.yaml", {"item": items[0], "order": 4321, "why": "a standing order"}
    rules = [
        always,
        {"item": items[1], "order": 1234, "why": "so"},
        {"item": "no-such", "least": 3, "why": "the shelf"},
    ]
    params.write_text(yaml.safe_dump(yaml.safe_load(params.read_text()) | {"serving": {"rules": rules}}))
    with serving.dashboard(shop) as address:
        one = Planner(chromium, f"{address}orders{query(store=store)}")
        one.shows("rule 3 (at least 3 of no-such (the shelf)) changes nothing", ".cd-head .note")
        one.shows(
            f"Rule: always 4321 of {items[0]} (a standing order); the model suggests", f"tr[data-item='{items[0]}']"
        )
        assert one.row(items[0]).locator(".cd-order").inner_text() == "4,321"
        shown = lambda: [event.outputs for event in read_events(events_folder(shop), kinds=["forecast"])]
        wait_for(shown, lambda: "the list is not on record")
        assert shown()[0]["ruled"][items[0]] == f"always 4321 of {items[0]} (a standing order)"
        of_people = lambda: read_events(events_folder(shop), kinds=["decision"])
        assert of_people() == []  # a list that is looked at decides nothing
        one.page.screenshot(path=screenshots / "orders-rule.png")
        one.order(items[1], ordered="12", reason="weather", by="Ada")
        one.page.reload()
        one.shows("Ada: The weather", f"tr[data-item='{items[1]}'].chosen")
        assert [event.outputs["act"] for event in of_people()] == ["rules", "order"]
        assert [kept.rule.item for kept in rules_kept(of_people())] == [items[0], items[1], "no-such"]
        params.write_text(
            yaml.safe_dump(yaml.safe_load(params.read_text()) | {"serving": {"rules": [always, always | {"order": 5}]}})
        )
        two = Planner(chromium, f"{address}orders{query(store=store)}")
        two.shows("no rule is applied, and each suggestion is the model's own", ".cd-head .note")
        two.shows("rules 1 and 2 contradict each other", ".cd-head .note")
        assert two.row(items[0]).locator(".cd-order").inner_text() != "4,321"
        two.page.screenshot(path=screenshots / "orders-bad-rule.png")
        for page in (one, two):
            page.close()


def test_stock_from_a_file(planner, shop, store, items):
    "Less is suggested, in whole packs; the next planner sees it; a wrong file is said and changes nothing."
    one = planner(query(store=store))
    give = lambda text: one.page.locator(".cd-file input").set_input_files(
        {"name": "stock.csv", "mimeType": "text/csv", "buffer": text.encode()}
    )
    give(f"item_nbr;stock;pack_size\n{items[0]};0;1000\n")
    one.shows("1,000", f"tr[data-item='{items[0]}'] .cd-order")
    one.shows("Stock and pack sizes of 1 product, as given on", ".cd-about")
    give("item_nbr,stock\nno-such-product,4\n")
    one.shows("stock.csv: It names no product of store", ".cd-stockwrong")
    give(f"item_nbr,stock\n{items[0]},-4\n")
    one.shows("stock.csv: Row 1, column stock: '-4'", ".cd-stockwrong")
    assert planner(query(store=store)).row(items[0]).locator(".cd-order").inner_text() == "1,000"
    one.page.get_by_role("button", name="Without stock").click()
    one.shows("Stock and pack sizes are not known", ".cd-about")
    assert not stock_file(shop, store).exists()


def test_a_list_on_record(planner, shop, forecaster, store):
    "One event a list, with each suggestion; another list is another event."
    one = planner(query(store=store))
    one.page.get_by_label("Service level", exact=True).select_option(label="98%")
    one.shows("enough 98% of the time", ".cd-head")
    own = lambda: [
        e for e in read_events(events_folder(shop), kinds=["forecast"]) if e.inputs.get("service_level") == 0.98
    ]
    wait_for(own, lambda: "the list is not on record")
    kept = own()
    listed = order_list(forecaster, store, 3, 0.98).table.set_index("item_nbr")["suggested"]
    assert kept[0].outputs["suggested"] == listed.to_dict() and len(own()) == 1
    assert (kept[0].inputs["page"], kept[0].inputs["store_nbr"]) == ("orders", store)


def test_from_page_to_page(planner, forecaster, store, items):
    "A product's name leads to its forecast for the same store and days, and the line above leads back."
    one = planner(query(store=store))
    one.row(items[0]).locator("th a").click()
    one.page.wait_for_selector(".number b")
    first, last = (f"{forecaster.dates[day]:%Y-%m-%d}"[:10] for day in (0, 2))
    total = forecaster.total(items[0], store, first, last)
    assert one.page.locator(".number b").inner_text() == say_units(total["mean"])
    one.shows("Today is", ".cd-nav")
    one.page.get_by_role("link", name="Orders").click()
    one.page.wait_for_selector(".cd-orders tr[data-item]")
    assert f"store={store}" in one.page.url and f"to={last}" in one.page.url


def test_links_that_ask_for_what_is_not_there(planner, forecaster):
    "A sentence and the list of stores, and no other store's numbers; what is wrong beside the store is replaced."
    one = planner(query(store="no such store"))
    one.shows("There is no store “no such store”", ".cd-notice")
    assert one.page.locator(".cd-orders").is_hidden()
    shut = next(iter(forecaster.shut_stores()), None)
    if shut:
        planner(query(store=shut)).shows("Nothing can be ordered for it.", ".cd-notice")
    planner(query(date="2031-01-01", level="high")).shows("“high” is no service level", ".cd-notice")


def test_no_model_is_live(chromium, tmp_path):
    "It says what to do."
    (tmp_path / "params.yaml").write_text((serving.PROJECT / "params.yaml").read_text())
    with serving.dashboard(tmp_path) as address:
        one = Planner(chromium, f"{address}orders")
        one.shows("No model is live yet", ".cd-notice")
        one.close()


def test_phone_and_paper(planner, store, items, screenshots):
    "On a phone nothing runs out of the page; on paper there are the list and no controls."
    one = planner(query(store=store), width=390, height=844)
    one.open(items[0])
    assert one.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    box = one.page.locator(".cd-send").bounding_box()
    assert 0 <= box["x"] and box["x"] + box["width"] <= 390
    one.page.screenshot(path=screenshots / "orders-phone.png", full_page=True)
    one.page.keyboard.press("Escape")
    one.page.set_viewport_size({"width": 720, "height": 1000})
    one.page.emulate_media(media="print")
    assert one.page.locator(".cd-controls").is_hidden() and one.page.locator(".cd-find").is_hidden()
    assert one.page.locator("tr[data-item]").last.is_visible()
    frame = "document.querySelector('.cd-orders .scroll')"
    assert one.page.evaluate(f"{frame}.scrollHeight <= {frame}.clientHeight + 2")
    one.page.screenshot(path=screenshots / "orders-paper.png")


@pytest.mark.prove
def test_a_night_that_goes_live_meanwhile(chromium, tmp_path, store, items):
    "Nobody orders from a list that is not the live model's any more; what was typed stays."
    shop = serving.make_root(tmp_path / "shop")
    with serving.dashboard(shop) as address:
        one = Planner(chromium, f"{address}orders{query(store=store)}")
        one.open(items[0])
        one.type(**ADA)
        version = serving.put_live(shop, reason="a newer one", name="newer-1")
        one.page.locator(".cd-send").click()
        assert "A newer forecast is live since" in one.says("")
        assert one.page.locator(".cd-editor [name=text]").input_value() == ADA["text"]
        one.page.locator(".cd-send").click()
        one.page.locator(".cd-editor").wait_for(state="detached")
        assert read_decisions(events_folder(shop))[0].said["model_version"] == version
        one.close()


def test_what_a_store_does_not_sell_any_more_is_found(planner, forecaster, store, items, screenshots):
    "Who types its name reads since when, below the list in which it does not stand."
    gone = forecaster.pairs[~forecaster.offered & (forecaster.pairs["store_nbr"] == store)]["item_nbr"].iloc[0]
    names = dict(zip(forecaster.block.series["item_nbr"], forecaster.block.series["item_name"]))
    one = planner(query(store=store))
    one.page.get_by_label("Find a product").fill(names[gone].upper())
    one.shows(forecaster.ended(gone, store), ".cd-gone")
    one.shows("No product fits.", ".cd-none")
    one.page.screenshot(path=screenshots / "orders-ended.png")
    one.page.get_by_label("Find a product").fill(names[items[0]])
    one.page.locator(".cd-gone p").wait_for(state="detached")


def test_after_an_order_the_next_product_has_the_focus(planner, store, items):
    "Also where the new rows come after the word that it is done; so has who waits on a row when somebody else decides."
    one = planner(query(store=store))
    one.order(items[8], **ADA)
    one.shows("On record: Ada ordered 41 instead of", ".cd-told")
    one.page.wait_for_function("document.activeElement.className == 'cd-order'", timeout=5000)
    item = one.page.evaluate("document.activeElement.closest('tr').dataset.item")
    other = next(one for one in items if one not in (item, items[8]))
    two = planner(query(store=store))
    two.order(other, ordered="7", reason="weather", by="Grace")
    one.page.evaluate("dispatchEvent(new Event('focus'))")
    one.shows("Grace: The weather", f"tr[data-item='{other}'].chosen")
    assert one.page.evaluate("document.activeElement.closest('tr[data-item]')?.dataset.item") == item
