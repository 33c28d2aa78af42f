"""Expectations on the real default data, computed a second time by pandas from the package's own files.

The pipeline has brought and prepared them here; the tests prepare anew only what they change.
"""

import datetime
import json

import numpy as np
import pandas as pd
import pytest

from copies import ROOT

from cd4ml_nb.core import find_json
from cd4ml_nb.data.ingest import ingest, raw_folder
from cd4ml_nb.data.panel import read_prepared, read_version
from cd4ml_nb.data.prepare import prepare, prepare_folder
from cd4ml_nb.data.seen import sales_only_of
from cd4ml_nb.model.loading import load_block
from cd4ml_nb.data.sources import NOT_GOODS, NOT_YET, complete_journey_folder, readable_name, slug

pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),  # Ibis 12 on DuckDB 2
]
ORIGIN = pd.Timestamp("2017-09-27")
ALL_YEAR = pd.Timestamp("2017-12-31")  # Up to which the package reaches
DEFAULTS = {"delisted_after": 56, "absent": "sold_nothing", "closed_days": ["12-25"]}


@pytest.fixture(scope="session")
def real():
    "Complete Journey as the pipeline ingested and prepared it here, with the default parameters."
    version = find_json(ROOT / "data/prepared/version.json", {})
    if (version.get("source"), version.get("parameters")) != ("complete_journey", DEFAULTS):
        pytest.skip("data/prepared does not hold the default data: run `make pipeline` with the default params.yaml")
    return {
        "root": ROOT,
        "left_out": json.loads((ROOT / "data/raw/left_out.json").read_text())["rules"],
        "steps": json.loads((ROOT / "reports/data_quality.json").read_text())["steps"],
        "panel": read_prepared(ROOT),
        "version": version,
        "last": pd.Timestamp(version["last_day"]),
        "train": pd.read_csv(ROOT / "data/raw/train.csv", dtype={"store_nbr": str}),
    }


@pytest.fixture(scope="session")
def package():
    "The package's own Parquet files, read by pandas alone: the independent witness."
    folder = complete_journey_folder()
    lines = pd.read_parquet(folder / "transactions.parquet").merge(
        pd.read_parquet(folder / "products.parquet"), on="product_id", how="left"
    )
    new_york = lines.transaction_timestamp.dt.tz_localize("UTC").dt.tz_convert("America/New_York")
    return lines.assign(
        day=new_york.dt.tz_localize(None).dt.normalize(),
        utc_day=lines.transaction_timestamp.dt.normalize(),
        store_nbr=lines.store_id.astype(str),
    )


def goods_of(package):
    "Purchase lines that are sales of goods."
    category = package.product_category
    out = (
        (package.department == "FUEL")
        | category.isna()
        | category.str.startswith("COUPON", na=False)
        | category.isin(NOT_GOODS)
    )
    return package[~out & package.quantity.between(1, 100)]


@pytest.fixture(scope="session")
def known(real, package):
    "The lines that were known on the last day."
    return package[package.day <= real["last"]]


@pytest.fixture(scope="session")
def goods(known):
    return goods_of(known)


@pytest.fixture(scope="session")
def sales(goods):
    return sales_of(goods)


def sales_of(goods):
    "Units of each day, store and item."
    names = {category: slug(readable_name(category)) for category in goods.product_category.unique()}
    return (
        goods.assign(item_nbr=goods.product_category.map(names))
        .groupby(["day", "store_nbr", "item_nbr"])
        .quantity.sum()
    )


@pytest.fixture(scope="session")
def series(real):
    return set(map(tuple, real["panel"][["store_nbr", "item_nbr"]].drop_duplicates().values))


def test_what_was_left_out_adds_up(real, package, known, goods):
    counts = real["left_out"]
    assert sum(rule["rows"] for rule in counts.values()) == len(package)
    assert sum(rule["units"] for rule in counts.values()) == package.quantity.sum()
    assert counts["kept"]["rows"] == len(goods)
    assert counts["kept"]["units"] == goods.quantity.sum()
    later = goods_of(package[package.day > known.day.max()])  # of goods: neither fuel nor coupons
    assert counts.get(NOT_YET, {"rows": 0})["rows"] == len(later)
    assert counts.get(NOT_YET, {"units": 0})["units"] == later.quantity.sum()
    assert counts["fuel"]["rows"] == (package.department == "FUEL").sum()
    assert counts["fuel"]["units"] > 1e8, "fuel, counted in other units, would drown the groceries"


def test_sales_are_those_of_the_package(real, sales):
    train = (
        real["train"]
        .assign(day=pd.to_datetime(real["train"].date))
        .set_index(["day", "store_nbr", "item_nbr"])
        .unit_sales.sort_index()
    )
    assert train.index.is_unique
    pd.testing.assert_series_equal(
        train, sales.sort_index(), check_names=False, check_dtype=False, check_index_type=False
    )


def test_days_are_new_york_days(real, package):
    week = lambda days: np.where(
        days == pd.Timestamp("2017-01-01"), 1, 2 + (days - pd.Timestamp("2017-01-02")).dt.days // 7
    )
    assert (week(package.day) == package.week).all(), "only as New York days do the file's weeks run Monday to Sunday"
    assert (week(package.utc_day) != package.week).any(), "as UTC days they do not"
    assert real["train"].date.min() == "2017-01-01" and pd.Timestamp(real["train"].date.max()) == real["last"]


def test_the_panel_is_everything_that_ever_sold(series, sales):
    assert series == set(map(tuple, sales.reset_index()[["store_nbr", "item_nbr"]].drop_duplicates().values))


@pytest.mark.prove
def test_changed_test_windows_change_nothing_earlier(real, tmp_path):
    raw, later = tmp_path / "data" / "raw", pd.to_datetime(real["train"].date) > ORIGIN
    raw.mkdir(parents=True)
    for file in (real["root"] / "data" / "raw").iterdir():
        if file.name != "train.csv":
            (raw / file.name).symlink_to(file)
    keep = ~later | (np.arange(len(later)) % 3 == 0) | (pd.to_datetime(real["train"].date) == real["last"])
    real["train"][keep].to_csv(raw / "train.csv", index=False)
    prepare(tmp_path)
    earlier = lambda panel: panel[panel.date <= ORIGIN].reset_index(drop=True)
    assert earlier(read_prepared(tmp_path)).equals(earlier(real["panel"]))


def test_one_row_a_series_and_day(real, series):
    panel = real["panel"]
    assert not panel.duplicated(["store_nbr", "item_nbr", "date"]).any()
    assert (
        panel[["store_nbr", "item_nbr", "date", "unit_sales", "item_name", "family", "class", "perishable"]]
        .notna()
        .all()
        .all()
    )
    assert (panel.unit_sales >= 0).all()
    assert (real["version"]["rows"], real["version"]["series"]) == (len(panel), len(series))


BUSY_BUT_SHUT = pd.to_datetime(  # of store 367: no sale after four weeks with 20 products and more on every day
    ["2017-03-19", "2017-03-25", "2017-03-26", "2017-04-08", "2017-04-09", "2017-04-15", "2017-04-23"]
)


def has_ended(sales, days, silent):
    "Whether a series of so many sales in so many days has ended after so many without one, multiplied day by day."
    chance, quiet = 1.0, days - (sales - 1)
    for day in range(1, silent + 1):
        chance *= (quiet + day) / (days + 1 + day)
    return silent > 56 and (sales < 3 or silent > 365 or chance < 1e-3)


def test_zeros_follow_the_rule(real, sales, series):
    "A plain loop over days, for fifty series, against the prepared rows: a day without a sale is a zero."
    calendar, some, panel = pd.date_range("2017-01-01", real["last"]), sorted(series)[::600], real["panel"]
    stores, items = zip(*some)
    panel = panel[panel.item_nbr.isin(items) & panel.store_nbr.isin(stores)].set_index(["store_nbr", "item_nbr"])
    panel, stores_days = panel.sort_index(), read_prepared(real["root"], "calendar")
    gone = (
        stores_days[stores_days.why_closed.fillna("").str.startswith("no sale since")]
        .groupby("store_nbr")
        .date.agg(set)
    )
    for key in some:
        sold, expected, sold_on = sales.xs(key, level=["store_nbr", "item_nbr"]).to_dict(), {}, []
        shut = {pd.Timestamp("2017-12-25"), *gone.get(key[0], ()), *(BUSY_BUT_SHUT if key[0] == "367" else ())}
        for day in calendar:
            if day in sold:
                expected[day] = sold[day]
                sold_on.append(day)
            elif sold_on and day not in shut:
                known = len(sold_on), (sold_on[-1] - sold_on[0]).days, (day - sold_on[-1]).days
                expected |= {} if has_ended(*known) else {day: 0}
        rows = panel.loc[key]
        assert dict(zip(rows.date, rows.unit_sales)) == expected, key
    assert 0.85 < (real["panel"].unit_sales == 0).mean() < 0.93


def test_closed_days_of_living_stores_are_few(real, sales):
    "A household panel: stores are closed on Christmas Day, and the busiest one on seven days more."
    calendar = read_prepared(real["root"], "calendar")
    past = calendar[(calendar.date <= max(real["last"], ALL_YEAR)) & ~calendar.is_open]
    living = past[~past.why_closed.str.contains("not yet open|no sale since")]
    assert set(living.date[living.store_nbr == "367"]) == {*BUSY_BUT_SHUT, pd.Timestamp("2017-12-25")}
    assert (living.date[living.store_nbr != "367"] == "2017-12-25").all()
    sold = sales.reset_index()[["store_nbr", "day"]].drop_duplicates()
    assert sold.merge(past, left_on=["store_nbr", "day"], right_on=["store_nbr", "date"]).empty


@pytest.mark.prove
def test_the_meaning_of_before_gives_the_rows_of_before(real, package, tmp_path):
    "absent: closed leaves out each store's days without a sale, as all versions up to November 2026 did."
    keys, known = ["store_nbr", "item_nbr"], sales_of(goods_of(package)).reset_index()
    days = known[known.day <= "2017-10-28"].groupby(keys).day.nunique()
    former = days[days >= 100].reset_index()[keys]  # the panel of before
    ingest(tmp_path)  # the whole year, as before
    prepare(tmp_path, absent="closed")
    then = read_prepared(tmp_path, columns=[*keys, "date", "unit_sales"]).merge(former)
    assert (len(then), (then.unit_sales > 0).sum()) == (437_740, 212_771)
    assert any("sold_nothing" in doubt for doubt in read_version(tmp_path)["opening"]["doubts"])
    now, then = real["panel"].merge(former), then[then.date <= real["last"]]
    assert len(now) > len(then) and (now.unit_sales > 0).sum() == (then.unit_sales > 0).sum()
    assert not any("sold_nothing" in doubt for doubt in real["version"]["opening"]["doubts"])


def test_what_ended_is_closed_in_the_days_to_come(real):
    calendar = read_prepared(real["root"], "calendar")
    coming = calendar[(calendar.date > real["last"]) & (calendar.date != "2017-12-25")]
    ended = coming[coming.store_nbr == "367"].is_open.all(), coming[coming.store_nbr == "361"].is_open.any()
    assert ended == (True, True), "361 sold last on 15 November: fewer than 56 days ago"
    shut = coming[~coming.is_open]
    assert len(shut) and shut.why_closed.str.startswith("no sale since").all()
    series = read_prepared(real["root"], "series")
    last = series.groupby("store_nbr").last_sale.max()
    assert (last[shut.store_nbr.unique()] < real["last"] - pd.Timedelta(days=56)).all()
    assert (series.last_sale <= real["last"]).all() and (series.first_sale >= "2017-01-01").all()


def test_christmas_day_is_closed(real):
    calendar = read_prepared(real["root"], "calendar")
    christmas = calendar[calendar.date == "2017-12-25"]
    assert (
        len(christmas) == real["version"]["stores"]
        and not christmas.is_open.any()
        and (christmas.holiday == "Christmas Day").all()
    )
    assert not (real["panel"].date == "2017-12-25").any()
    assert calendar.date.max() == real["last"] + pd.Timedelta(days=60)
    assert (calendar[calendar.date == "2018-01-01"].holiday == "New Year's Day").all()


def test_rows_stand_on_open_days(real):
    calendar = read_prepared(real["root"], "calendar")
    days = real["panel"][["store_nbr", "date", "holiday"]].drop_duplicates()
    joined = days.merge(
        calendar[calendar.is_open], on=["store_nbr", "date"], how="left", suffixes=("", "_calendar"), indicator=True
    )
    assert (joined._merge == "both").all()
    assert (joined.holiday.fillna("") == joined.holiday_calendar.fillna("")).all()


@pytest.mark.parametrize(
    "store, week", [("367", 20), ("367", 33), ("406", 31)]
)  # the file lists some products twice there
def test_promotions_are_counted_from_the_plan(real, store, week):
    first = datetime.date(2017, 1, 2) + datetime.timedelta(days=7 * (week - 2))
    folder = complete_journey_folder()
    plan = pd.read_parquet(
        folder / "promotions.parquet", filters=[("store_id", "==", int(store)), ("week", "==", week)]
    )
    plan = plan[(plan.display_location != "0") | (plan.mailer_location != "0")].merge(
        pd.read_parquet(folder / "products.parquet"), on="product_id"
    )
    expected = plan.groupby("product_category").product_id.nunique()
    expected.index = [slug(readable_name(category)) for category in expected.index]
    panel = real["panel"]
    rows = panel[
        (panel.store_nbr == store) & panel.date.between(pd.Timestamp(first), pd.Timestamp(first) + pd.Timedelta(days=6))
    ]
    assert rows.date.nunique() == 7 and (rows.unit_sales == 0).any()
    assert (rows.onpromotion == rows.item_nbr.map(expected).fillna(0)).all(), (
        "the same on each day of the week, sold or not"
    )


def test_unknown_promotions_are_empty_not_zero(real):
    plan = pd.read_csv(real["root"] / "data" / "raw" / "promotions.csv", dtype={"store_nbr": str}).drop_duplicates(
        ["store_nbr", "first_date"]
    )
    covered = set(zip(plan.store_nbr, plan.first_date))
    told = real["panel"].groupby(["store_nbr", "date"]).onpromotion.agg(["count", "size"]).reset_index()
    monday = told.date - pd.to_timedelta(told.date.dt.weekday, unit="D")
    start = monday.where(monday >= "2017-01-01", pd.Timestamp("2017-01-01")).dt.strftime("%Y-%m-%d")
    known = np.array([key in covered for key in zip(told.store_nbr, start)])
    assert known.any() and (told["count"] == np.where(known, told["size"], 0)).all(), "of all rows or of none"
    calendar = read_prepared(real["root"], "calendar")
    assert not calendar[calendar.date > ALL_YEAR].plan_known.any(), "the plan ends with 2017"
    ahead = calendar[(calendar.date > real["last"]) & (calendar.date <= ALL_YEAR)]
    assert ahead.empty or 0.1 < ahead.plan_known.mean() < 1, "what is promoted in the coming weeks is planned by now"


def test_the_plan_ahead_tells_nothing_of_sales_to_come(real, package, known):
    "A plan of what is known to sell, in stores that are known: the same rows as with all the year's sales, no more."
    plan = pd.read_csv(real["root"] / "data/raw/promotions.csv", dtype={"store_nbr": str})
    goods, later = goods_of(known), goods_of(package[package.day > real["last"]])
    items = {slug(readable_name(category)) for category in goods.product_category.unique()}
    assert set(plan.store_nbr) <= set(goods.store_nbr) and set(plan.item_nbr) <= items
    assert later.empty or set(later.store_nbr) - set(goods.store_nbr), "of December's new stores nothing is known yet"
    assert set(pd.read_csv(real["root"] / "data/raw/stores.csv", dtype=str).store_nbr) == set(goods.store_nbr)


def test_pools_are_means_over_the_panel(real):
    panel = real["panel"].assign(log_sales=np.log1p(real["panel"].unit_sales))
    pool = read_prepared(real["root"], "item_pool").set_index(["item_nbr", "date"]).sort_index()
    expected = panel.groupby(["item_nbr", "date"])[["unit_sales", "log_sales"]].mean().sort_index()
    assert pool.index.equals(expected.index)
    np.testing.assert_allclose(pool.to_numpy(), expected.to_numpy(), atol=1e-6)
    block = load_block(real["root"] / "data" / "prepared")
    classes = panel.groupby(["store_nbr", "class", "date"]).log_sales.mean()
    for row in range(0, len(block.series), 50):
        own = classes[block.series.store_nbr[row]][block.series["class"][row]]
        days = [block.day(date) for date in own.index]
        np.testing.assert_allclose(block.class_sales[row, days], own, atol=1e-6)
        assert np.isnan(np.delete(block.class_sales[row], days)).all()


def test_what_is_known_only_afterwards_is_empty_ahead(real):
    calendar = read_prepared(real["root"], "calendar")
    assert (
        calendar[calendar.date <= real["last"]].transactions.notna().any()
        and calendar[calendar.date > real["last"]].transactions.isna().all()
    )


def test_store_sizes_use_the_first_half_year_only(real, goods):
    baskets = (
        goods[goods.day <= "2017-06-30"]
        .groupby("store_nbr")
        .basket_id.nunique()
        .reindex(goods.store_nbr.unique(), fill_value=0)
    )
    ordered = baskets.reset_index().sort_values(["basket_id", "store_nbr"], ascending=[False, True])
    before = (ordered.basket_id.cumsum() - ordered.basket_id) / ordered.basket_id.sum()
    expected = dict(zip(ordered.store_nbr, np.where(before < 0.5, "A", np.where(before < 0.8, "B", "C"))))
    stores = pd.read_csv(real["root"] / "data" / "raw" / "stores.csv", dtype=str)
    assert dict(zip(stores.store_nbr, stores.type)) == expected


def test_names_are_readable_and_unique(real):
    items = pd.read_csv(real["root"] / "data" / "raw" / "items.csv")
    assert items.item_nbr.is_unique and items.item_name.is_unique
    assert not items.item_name.str.contains(r"\b(?:FRZN|Frzn|Refrgratd|Misc|Pckgd|Drnks|Sald)\b|/", regex=True).any()
    milk = items.set_index("item_nbr").loc["fluid-milk-products"]
    assert milk.item_name == "Fluid milk products" and milk.perishable == 1 and milk.family == "Grocery"


def test_steps_chain_from_the_raw_file_to_the_panel(real):
    steps = real["steps"]
    assert steps[0]["rows_in"] == len(real["train"]) and steps[-1]["rows_out"] == len(real["panel"])
    assert all(a["rows_out"] == b["rows_in"] for a, b in zip(steps[:-1], steps[1:]))


@pytest.mark.prove
def test_the_same_input_gives_the_same_bytes(real, tmp_path):
    "Another process, without DVC and a notebook, writes what the pipeline wrote."
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "raw").symlink_to(real["root"] / "data" / "raw")
    prepare(tmp_path)
    files = lambda root: {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in (root / "data" / "prepared").rglob("*")
        if path.is_file()
    }
    assert files(tmp_path) == files(real["root"])
    assert read_version(tmp_path) == real["version"]


@pytest.mark.prove
def test_a_night_of_the_default_data_takes_the_new_day_alone(tmp_path):
    "And its files are those of a whole prepare; a day without a sale has all read."
    before, said = tmp_path / "none", []
    for day in ("2017-12-23", "2017-12-24", "2017-12-25"):
        with raw_folder(tmp_path, "complete_journey", "", day, tmp_path / "kept", before) as raw:
            prepare_folder(raw, tmp_path / day, before=before)
            said.append((sales_only_of(raw), json.loads((raw / "left_out.json").read_text())["rules"]))
        before = tmp_path / day
    assert [only for only, _ in said] == ["", "2017-12-24", ""]
    with raw_folder(tmp_path, "complete_journey", "", "2017-12-24") as raw:
        prepare_folder(raw, tmp_path / "whole")
        assert json.loads((raw / "left_out.json").read_text())["rules"] == said[1][1]
    versions = [json.loads((tmp_path / name / "version.json").read_text()) for name in ("2017-12-24", "whole")]
    assert versions[0]["data_version"] == versions[1]["data_version"]
    assert versions[0]["schema"].keys() == versions[1]["schema"].keys()
