"""The page on which days that look wrong are judged, in a real browser; what it does is compared with the record."""

import shutil
import pytest
import serving


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    "The project's prepared data, and a queue of three entries that look wrong in them."
    if not (serving.PROJECT / "data/prepared/version.json").is_file():
        pytest.skip("there are no prepared data: run `make pipeline` first")
    import pyarrow as pa, pyarrow.parquet as pq
    from cd4ml_nb.core import read_json
    from cd4ml_nb.data.panel import read_series
    from cd4ml_nb.monitoring.doubts import COLUMNS, KEPT

    root = tmp_path_factory.mktemp("curate") / "project"
    (root / "data").mkdir(parents=True)
    shutil.copy(serving.PROJECT / "params.yaml", root)
    (root / "data/prepared").symlink_to(serving.PROJECT / "data/prepared")
    version = read_json(root / "data/prepared/version.json")
    series = read_series(root / "data/prepared").nlargest(3, "days")
    entries = {name: list(series[name]) for name in ("store_nbr", "item_nbr", "family")}
    last = version["last_day"]
    entries |= {"kind": ["stock_out", "wrong_quantity", "stock_out"], "first_date": [last] * 3, "last_date": [last] * 3}
    entries |= {"sold": [0.0] * 3, "expected": [30.0, 20.0, 10.0], "probability": [0.9] * 3, "cost": [27.0, 18.0, 9.0]}
    entries |= {"other_item": [""] * 3, "evidence": ["<img src=x onerror=alert(1)> looks wrong"] * 3}
    (root / KEPT).parent.mkdir()
    table = pa.table({name: entries[name] for name in COLUMNS})
    pq.write_table(table.replace_schema_metadata({b"data_version": version["data_version"].encode()}), root / KEPT)
    return root


@pytest.fixture(scope="module")
def address(project, chromium):
    with serving.serve(project, "curate.ipynb", serving.APPS / "share" / "curate") as url:
        serving.warm(url)
        yield url


class Visitor(serving.Formed):
    "One visitor's page."

    def __init__(self, chromium, address, **context):
        super().__init__(chromium, address, ".cd-course", **context)
        assert self.page.locator(".cd-course").count(), self.page.locator("body").inner_text()[:500]

    def listed(self):
        return self.page.get_by_label("Days that look wrong, most costly first").locator("option")

    def chooses(self, text):
        "Choose what was said before, by a part of it."
        self.page.get_by_label("What was said before").click()
        self.page.locator(".cd-picker ul:not([hidden]) li[role=option]").filter(has_text=text).click()


@pytest.fixture
def visit(chromium, address):
    with serving.visits(Visitor, chromium, address) as go:
        yield go


def kinds(root):
    from cd4ml_nb.data.corrections import read_corrections

    return [(one.kind, one.by, one.why) for one in read_corrections(root)]


def test_the_most_costly_comes_first_with_its_picture(visit, screenshots):
    v = visit()
    assert v.listed().count() == 3 and v.listed().first.inner_text().startswith("30\u00a0units")
    v.shows("looks wrong", ".cd-entry")
    assert v.page.locator(".cd-entry img").count() == 0
    v.shows("It would touch 1 product in a store on 1 day", ".cd-preview")
    drawn, room = (v.page.locator(what).bounding_box() for what in (".cd-course", ".cd-entry"))
    assert drawn["width"] > 0.95 * room["width"]
    v.page.screenshot(path=screenshots / "curate.png", full_page=True)


def test_a_phone_shows_it_without_scrolling_sideways(visit, screenshots):
    v = visit(width=390, height=844)
    assert v.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert v.listed().first.evaluate("e => e.scrollWidth <= e.parentElement.clientWidth")
    v.page.screenshot(path=screenshots / "curate_phone.png", full_page=True)


def test_it_is_judged_with_a_name_and_a_reason_disputed_and_undone(visit, project):
    "One says it ran out; another is shown that; it is undone, and looks wrong again. By keyboard, too."
    from cd4ml_nb.core import read_json
    from cd4ml_nb.data.corrections import Correction, add_correction

    day = read_json(project / "data/prepared/version.json")["last_day"]
    v = visit()
    v.click("Put on record")
    v.told("Give your name")
    v.fill(Your_name="Ana", Your_reason=" ")
    v.click("Put on record")
    v.told("Say why")
    assert kinds(project) == []

    other = visit()  # looks at the same entry, still undecided there
    v.fill(Your_name="Ana", Your_reason="the shelf was empty")
    v.page.get_by_label("This holds for").select_option(label="all products of this store")
    v.shows("products in a store each on 1 day", ".cd-preview")
    v.page.get_by_label("This holds for").select_option(label="this product in this store")
    v.shows("It would touch 1 product in a store", ".cd-preview")
    v.page.get_by_role("button", name="Put on record", exact=True).press("Enter")
    v.told("On record")
    said, case = (v.page.locator(what).bounding_box() for what in (".cd-notice .done", ".cd-entry"))
    assert said["y"] + said["height"] <= case["y"], "what is on record stands above the next case"
    v.page.wait_for_function("document.querySelectorAll('.cd-entries option').length === 2")
    assert kinds(project) == [("stock_out", "Ana", "the shelf was empty")]

    other.fill(Your_name="Ben", Your_reason="nobody came that day")
    other.click("Nothing is wrong")
    other.told("It stands otherwise")
    other.told("the shelf was empty (Ana)")
    assert len(kinds(project)) == 1

    v.click("Undo it")
    v.told("Nothing was undone: choose first what is to be taken back")
    for page in (v, other):
        page.listed().nth(1).click()  # the list of what was said is drawn anew
        page.chooses("the shelf was empty (Ana)")
        page.shows("It takes back: ", ".cd-taken")
        page.shows("the shelf was empty (Ana).", ".cd-taken")
    v.click("Undo it")
    v.told("Who takes it back, and why?")
    v.fill(Why_it_is_taken_back="it was another day")
    add_correction(project, Correction("promotion_ran", "", "elsewhere", day, day, "Cem", "a fair"))
    v.listed().first.click()  # another line has come above the chosen one
    v.page.wait_for_function("document.querySelector('.cd-entry').innerText.includes('30')")
    v.shows("the shelf was empty (Ana).", ".cd-taken")
    v.click("Undo it")
    v.told("Undone: ")
    v.told("the shelf was empty (Ana).")
    v.page.wait_for_function("document.querySelectorAll('.cd-entries option').length === 3")
    assert [kind for kind, *_ in kinds(project)] == ["stock_out", "promotion_ran", ""]

    other.fill(Who_takes_it_back="Ben", Why_it_is_taken_back="nobody came that day")
    other.click("Undo it")
    other.told("does not stand any more: Ana took it back (it was another day). Nothing was undone.")
    assert len(kinds(project)) == 3


def test_a_number_is_that_of_each_day_and_a_wrong_one_is_told_while_it_is_typed(visit, screenshots):
    from datetime import date, timedelta

    v = visit()
    v.listed().nth(1).click()
    v.page.get_by_label("The right number", exact=True).wait_for()
    day = v.page.get_by_label("First day").input_value()
    v.fill(First_day=str(date.fromisoformat(day) - timedelta(days=1)))
    number = v.page.get_by_label("The right number of each day, not of all", exact=True)
    number.press_sequentially("1a")
    v.shows("“1a” is no number of units", ".cd-preview")
    number.press("Backspace")
    number.press_sequentially("2")
    v.shows("12 each day are learnt, 24 in all instead of ", ".cd-preview")
    assert "no number" not in v.page.locator("body").inner_text()
    v.page.screenshot(path=screenshots / "curate_number.png", full_page=True)
    v.fill(First_day="soon")
    v.shows("The first day is 'soon'", ".cd-preview")


def test_filters_that_hide_all_say_so_and_let_go(visit, screenshots):
    v = visit()
    v.page.get_by_label("What it may be").select_option(label="a promotion may not have run")
    v.shows("Nothing in the list is of this kind. There are 3 others.", ".cd-entry")
    v.page.screenshot(path=screenshots / "curate_hidden.png", full_page=True)
    v.click("Show the whole list")
    v.page.wait_for_function("document.querySelectorAll('.cd-entries option').length === 3")
    v.page.get_by_role("button", name="Show the whole list").wait_for(state="hidden")


def test_nothing_is_wrong_is_an_answer_that_is_kept(visit, project):
    v = visit()
    first = v.listed().first.inner_text()
    v.fill(Your_name="Ben", Your_reason="a fair was in town")
    v.click("Nothing is wrong")
    v.told("right as it stands")
    again = visit()
    assert again.listed().first.inner_text() != first
    assert kinds(project)[-1][0] == "as_it_is"


def test_while_newer_days_are_looked_through_the_page_shows_what_was_found_before(visit, project):
    "It says how far that is; the new list comes by itself, and who has typed something keeps it."
    import os, pyarrow.parquet as pq
    from cd4ml_nb.monitoring.doubts import KEPT
    from cd4ml_nb.monitoring.queue import keep_way

    kept = pq.read_table(project / KEPT)
    pq.write_table(kept.replace_schema_metadata({b"data_version": b"older"}), project / KEPT)
    keep_way(project, os.getpid(), "Looking: 3 of 9 stores, about 2 minutes more.")
    v = visit()
    v.shows("New days are being looked through. What was found before them is shown meanwhile.", ".cd-behind")
    v.shows("3 of 9 stores", ".cd-behind")
    v.fill(Your_reason="it snowed")
    pq.write_table(kept, project / KEPT)
    v.page.locator("body").click()  # the page asks after each click, and now and then
    v.shows("Newer days were looked through: load this page again.", ".cd-behind")
    assert v.page.get_by_label("Your reason").input_value() == "it snowed"
