"The days of the data and the stores' opening, on tables of strangers: a mistyped year, closed Sundays, one item."

import io, json, os, re, shutil
from dataclasses import replace
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock
import numpy as np, pandas as pd, pytest, yaml
from cd4ml_nb.cli import main
from cd4ml_nb.core import UserError
from cd4ml_nb.data.ingest import ingest
from cd4ml_nb.data.panel import read_prepared, read_version
from cd4ml_nb.data.prepare import prepare
from cd4ml_nb.delivery.parameters import stage_values
from cd4ml_nb.model.block import last_days, offered_until, on_offer, take_series
from cd4ml_nb.model.loading import load_block
from cd4ml_nb.model.notes import silence
from cd4ml_nb.tiny import TINY

pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")  # Ibis 12 on DuckDB 2
COLUMNS = {"date": "date", "item": "item", "quantity": "qty", "store": "store"}
SMALL = dict(windows=dict(horizon=7, calibration_windows=2, evaluation_windows=1), history=7)


def sell(days, stores, items, mean, seed=1):
    "A table of sales: so many a day of each item in each store, days without a sale left out."
    random = np.random.default_rng(seed)
    parts = [
        pd.DataFrame({"date": days, "store": store, "item": f"i{item}", "qty": random.poisson(mean, len(days))})
        for store in stores
        for item in range(items)
    ]
    rows = pd.concat(parts, ignore_index=True)
    return rows[rows.qty > 0]


def project(folder, sales, **table):
    "A project whose own table holds these sales, with its raw tables."
    sales.to_csv(folder / "sales.csv", index=False)
    params = yaml.safe_load(TINY)
    params["ingest"]["source"] = "table"
    params["table"] = {"sales": "sales.csv", "columns": COLUMNS, **table}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    ingest(folder, "table", table=params["table"])
    return folder


def closed_days(root, why):
    "The days that the calendar closes for one reason, by store."
    calendar = read_prepared(root, "calendar")
    shut = calendar[~calendar.is_open & (calendar.why_closed == why)]
    return shut.groupby("store_nbr").date.agg(list)


def check(root, **changed):
    "What `cd4ml data check` says in a project, with changed parameters of prepare."
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["prepare"] |= {"closed_days": [], **changed}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    said = io.StringIO()
    with mock.patch.dict(os.environ, CD4ML_ROOT=str(root)), redirect_stdout(said), redirect_stderr(said):
        return main(["data", "check"]), said.getvalue()


@pytest.fixture(scope="module")
def typo(tmp_path_factory):
    "Two hundred days of 2017, and one row dated 2088."
    sales = sell(pd.date_range("2017-06-01", periods=200), ["s1", "s2"], 3, 5)
    sales.loc[sales.index[5], "date"] = pd.Timestamp("2088-01-02")
    return project(tmp_path_factory.mktemp("typo"), sales)


def test_a_mistyped_year_moves_no_window(typo):
    with pytest.raises(UserError, match="1 row on 2088-01-02 stands 25,583 days after the others, .* on 2017-12-17"):
        prepare(typo, **SMALL)
    assert not (typo / "data" / "prepared").exists()
    code, said = check(typo)
    assert code == 1 and "set prepare.last_day in params.yaml: '2017-12-17' leaves it out" in said
    assert "Traceback" not in said


def test_the_row_is_left_out_or_kept_as_the_user_says(typo):
    steps = {step["step"]: step["change"] for step in prepare(typo, last_day="2017-12-17", **SMALL)}
    assert (steps["other days"], read_version(typo)["last_day"]) == (-1, "2017-12-17")
    good = read_version(typo)
    with pytest.raises(UserError, match="there is no sale in the days left by prepare"):
        prepare(typo, last_day="2001-01-01", **SMALL)
    with pytest.raises(UserError, match="'17.12.2017' is no day"):
        prepare(typo, last_day="17.12.2017", **SMALL)
    assert read_version(typo) == good
    assert check(typo, last_day="2017-12-17")[0] == 0
    code, said = check(typo, last_day="2017-12-17", first_day="2017-11-01")
    assert code == 1 and "The data have 47 days, from 2017-11-01 to 2017-12-17, and 169 are needed" in said


@pytest.fixture(scope="module")
def german(tmp_path_factory):
    "Three stores over 400 days, closed on Sundays and holidays, the third one until June; prepared, and to be left so."
    import holidays

    days = pd.date_range("2016-09-01", periods=400)
    off = holidays.country_holidays("DE", years=[2016, 2017])
    days = days[(days.dayofweek != 6) & ~np.array([day.date() in off for day in days])]
    sales = pd.concat([sell(days, ["s1", "s2"], 30, 4), sell(days[days < "2017-06-20"], ["s3"], 30, 4)])
    root = project(tmp_path_factory.mktemp("german"), sales, country="DE")
    prepare(root, **SMALL)
    return root


def test_sundays_holidays_and_the_end_are_learnt_and_go_on(german):
    sundays, unity = closed_days(german, "every Sunday"), closed_days(german, "German Unity Day")
    last = pd.Timestamp(read_version(german)["last_day"])
    coming = pd.date_range(last + pd.Timedelta(days=1), periods=60)
    assert set(sundays.index) == {"s1", "s2", "s3"}
    assert {day for day in sundays["s1"] if day > last} == set(coming[coming.dayofweek == 6])
    assert pd.Timestamp("2017-10-03") in unity["s1"], "the first one teaches nothing, the store was not yet known"
    ended = closed_days(german, "no sale since 2017-06-19")
    assert list(ended.index) == ["s3"] and set(coming) <= set(ended["s3"])
    panel = read_prepared(german)
    late = panel[panel.date > "2016-11-15"]
    assert not ((late.date.dt.dayofweek == 6) & (late.unit_sales == 0)).any(), "no zeros to learn on closed days"
    (doubt,) = read_version(german)["opening"]["doubts"]
    assert doubt.startswith("The data hold no Reformation Day (2017-10-31), so nobody knows"), doubt


@pytest.fixture(scope="module")
def bakery(tmp_path_factory):
    "One shop of 230 days with six products, closed on Sundays and for two weeks in its tenth and eleventh week."
    days = pd.date_range("2024-01-01", periods=230)
    days = days[(days.dayofweek != 6) & ~days.isin(pd.date_range("2024-03-04", periods=14))]
    root = project(tmp_path_factory.mktemp("bakery"), sell(days, ["shop"], 6, 6))
    prepare(root, **SMALL)
    return root


def test_a_weekly_closing_day_outlives_a_holiday_of_two_weeks(bakery):
    sundays, last = set(closed_days(bakery, "every Sunday")["shop"]), pd.Timestamp("2024-08-17")
    every = pd.date_range("2024-01-01", last + pd.Timedelta(days=60), freq="W-SUN")
    assert sundays == set(every), sorted(set(every) - sundays)
    panel = read_prepared(bakery)
    assert not (panel.date.dt.dayofweek == 6).any(), "no zeros to learn on Sundays"


def test_the_check_names_the_cure_of_a_gap_and_the_cure_heals_it(bakery, tmp_path):
    shutil.copytree(bakery, tmp_path / "bakery")
    code, said = check(tmp_path / "bakery")
    stretch = "2024-03-03 to 2024-03-17"  # the Sundays at both ends belong to it
    assert code == 0 and f"If all was closed, add '{stretch}' to prepare.closed_days." in said
    code, said = check(tmp_path / "bakery", closed_days=[stretch])
    assert code == 0 and "Nothing was sold anywhere" not in said and "as params.yaml or the source says: 15" in said


def test_what_was_learnt_can_be_said_otherwise(german, tmp_path):
    rules = [
        {"store": "s1", "open": "sunday"},
        {"store": "s2", "open": "2017-10-15"},
        {"store": "s2", "closed": "2017-10-09 to 2017-10-10"},
        {"store": "s3", "open": "from 2017-11-02"},
    ]
    root = shutil.copytree(german, tmp_path / "german")
    prepare(root, closed_days=rules, **SMALL)
    calendar = read_prepared(root, "calendar").set_index(["store_nbr", "date"]).is_open
    day = lambda store, date: calendar[store, pd.Timestamp(date)]
    assert day("s1", "2017-10-15") and day("s2", "2017-10-15") and not day("s2", "2017-10-22")
    assert not day("s2", "2017-10-09") and day("s2", "2017-10-11")
    assert not day("s3", "2017-11-01") and day("s3", "2017-11-02")


@pytest.mark.parametrize(
    "rules, said",
    [
        ([{"store": "s1", "closed": "sunday"}, {"store": "s1", "open": "sunday"}], "said to be open and to be closed"),
        ([{"store": "s9", "closed": "sunday"}], "there is no store 's9'"),
        ([{"store": "s1"}], "should say either closed or open"),
        (["christmas"], "'christmas' is no day"),
        (
            ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"],
            "closed on all seven weekdays",
        ),
        (["from 2030-01-01", {"open": "2031-01-01 to 2031-02-01"}], "said to be open and to be closed on"),
    ],
)
def test_rules_that_cannot_be_followed_are_refused(german, rules, said):
    good = read_version(german)
    with pytest.raises(UserError, match=said):
        prepare(german, closed_days=rules, **SMALL)
    assert read_version(german) == good
    code, words = check(german, closed_days=rules)
    assert code == 1 and said in words and "Traceback" not in words


def test_small_shops_on_full_sales_and_samples_are_doubted_in_both_directions(tmp_path):
    days = pd.date_range("2017-01-01", periods=300)
    closed = days[[100, 140, 200, 250, 290]]
    shop = project(tmp_path, sell(days.difference(closed), ["s1"], 6, 3))
    prepare(shop, **SMALL)
    assert "5 of 5 store-days without a sale are of stores that sell on nearly every other day" in check(shop)[1]
    assert "doubt" not in check(shop, absent="closed")[1]

    (tmp_path / "sample").mkdir()
    sample = project(tmp_path / "sample", sell(days, ["s1", "s2"], 2, 0.5))
    assert "doubt" not in check(sample)[1]
    assert "set prepare.absent: sold_nothing" in check(sample, absent="closed")[1]
    prepare(sample, **SMALL)
    zeros = (read_prepared(sample).unit_sales == 0).sum()
    prepare(sample, absent="closed", **SMALL)
    assert zeros > 1.5 * (read_prepared(sample).unit_sales == 0).sum()


def test_one_item_in_one_store_over_sixty_days(tmp_path):
    root = project(tmp_path, sell(pd.date_range("2017-06-01", periods=60), ["s1"], 1, 3))
    prepare(root, **SMALL)
    version, series = read_version(root), read_prepared(root, "series")
    assert (version["series"], version["rows"]) == (1, 60)
    assert str(series.last_sale[0])[:10] <= version["last_day"]
    with pytest.raises(UserError, match="The data have 60 days, .* and 169 are needed"):
        prepare(root, windows={"horizon": 16, "calibration_windows": 2, "evaluation_windows": 3})


def test_a_shop_that_opens_on_saturdays(tmp_path):
    root = project(tmp_path, sell(pd.date_range("2016-01-02", periods=80, freq="7D"), ["s1"], 2, 9), grain="day")
    prepare(root, **SMALL)
    calendar = read_prepared(root, "calendar")
    coming = calendar[calendar.date > read_version(root)["last_day"]]
    assert set(coming.date[coming.is_open].dt.dayofweek) == {5}


def test_a_row_dated_tomorrow_or_a_century_ago_can_be_left_out(tmp_path):
    today = pd.Timestamp.today().normalize()
    sales = sell(pd.date_range(end=today - pd.Timedelta(days=1), periods=200), ["s1", "s2"], 3, 5)
    early, late = pd.Timestamp("1900-01-01"), today + pd.Timedelta(days=1)
    sales.loc[sales.index[[5, 50]], "date"] = [early, late]
    root = project(tmp_path, sales)
    code, said = check(root)
    assert code == 1 and f"1 row on {late:%Y-%m-%d} stands 2 days after" in said and "1 row on 1900-01-01" in said
    first, last = re.findall(r"set prepare.(?:first|last)_day in params.yaml: '(\S+)'", said)[::-1]
    assert check(root, first_day=first, last_day=last)[0] == 0
    prepare(root, first_day=first, last_day=last, **SMALL)
    assert (read_version(root)["first_day"], read_version(root)["last_day"]) == (first, last)


ZEROS = sell(pd.date_range("2017-06-01", periods=200), ["s1"], 2, 5).assign(qty=0)
REFUSED = {  # what somebody brings, and what `cd4ml data check` says of it
    "one day": (
        sell(pd.date_range("2017-06-01", periods=1), ["s1"], 5, 9),
        {},
        ["The data have 1 day, from 2017-06-01"],
    ),
    "few days": (sell(pd.date_range("2017-06-01", periods=168), ["s1"], 2, 5), {}, ["168 days", "169 are needed"]),
    "only zeros": (ZEROS, {}, ["There is no sale"]),
    "only returns": (ZEROS.assign(qty=-1), {}, ["There is no sale"]),
    "two things": (ZEROS.assign(qty=1).head(30), {"absent": "shut"}, ["absent is 'shut'; it should", "169 are needed"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_check_says_all_that_the_pipeline_would_refuse(tmp_path, name):
    sales, rule, words = REFUSED[name]
    root = project(tmp_path, sales)
    code, said = check(root, **rule)
    assert code == 1 and "table fits" not in said and "Traceback" not in said
    assert all(word in said for word in words), said
    params = yaml.safe_load((root / "params.yaml").read_text())
    with pytest.raises(UserError) as refused:
        prepare(root, **stage_values("prepare", params))
    assert str(refused.value).splitlines()[-1] in said


def test_the_check_names_misspelt_keys_of_all_stages_with_what_else_is_wrong(tmp_path):
    root = project(tmp_path, sell(pd.date_range("2017-06-01", periods=100), ["s1"], 2, 5))
    stages = Path(__file__).parents[2] / "nbs" / "stages"
    shutil.copytree(stages, root / "nbs" / "stages")
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["gate"]["biass"], params["prepare"]["lastday"] = params["gate"].pop("bias"), None
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    code, said = check(root)
    assert code == 1 and "lacks bias and has the unknown key biass (did you mean bias" in said
    assert "unknown key lastday" in said and "169 are needed" in said


def test_the_report_keeps_what_was_learnt(german):
    about = json.loads((german / "data/prepared/version.json").read_text())["opening"]
    assert about["absent"] == "sold_nothing"
    assert {"what": "closed every Sunday", "stores": 3, "which": "s1, s2, s3"} not in about["facts"], "s3 has ended"
    assert {"what": "closed every Sunday", "stores": 2, "which": "s1, s2"} in about["facts"]
    assert {"what": "ended", "stores": 1, "which": "s3 (since 2017-06-20)"} in about["facts"]


def test_parts_that_sell_once_in_two_months_raise_a_doubt_about_delisted_after(tmp_path):
    days = pd.date_range("2017-01-01", periods=365)
    bread = sell(days, ["s1"], 1, 1).assign(qty=1)
    parts = [
        pd.DataFrame({"date": days[start::70], "store": "s1", "item": f"part {start}", "qty": 9}) for start in range(9)
    ]
    root = project(tmp_path, pd.concat([bread, *parts]))
    code, said = check(root)
    assert code == 0 and "9 of 10 series (90%" in said and "sold again after they had ended" in said, said
    assert "prepare.delisted_after: 70 in params.yaml" in said
    code, said = check(root, delisted_after=70)
    assert code == 0 and "sold again" not in said


def test_spare_parts_that_live_on_are_on_offer_and_those_that_ended_leave(tmp_path):
    "A hundred parts, one sale in forty days on average; twenty of them, and as many that sold daily, end on day 300."
    random, days = np.random.default_rng(2), pd.date_range("2017-01-01", periods=700)
    sold = random.random((120, 700)) < np.where(np.arange(120) < 100, 1 / 40, 1)[:, None]
    sold[80:, 301:] = False
    part, day = np.nonzero(sold)
    rows = pd.DataFrame({"date": days[day], "store": "s1", "item": [f"part {one:03}" for one in part], "qty": 1})
    root = project(tmp_path, rows)
    prepare(root, **SMALL)
    block = load_block(root / "data/prepared")
    on = {day: on_offer(block, day) for day in (500, 600, 699)}
    for day, offered in on.items():
        assert offered[:80].all() and not offered[100:].any(), (day, offered)
    assert [int(on[day][80:100].sum()) for day in (500, 699)] == [14, 0], on  # gone after a year at most
    assert on_offer(block, 356)[100:].all() and not on_offer(block, 357)[100:].any()  # what sold daily, after 56 days


def test_a_slow_part_is_not_called_silent_by_the_check_nor_beside_its_forecast(tmp_path):
    "A part sold four times in most of a year, then on five days in a row; bread daily, until it stopped 20 days ago."
    days = pd.date_range("2017-01-01", periods=400)
    milk, bread = (
        sell(days[:until], ["s1"], 1, 30).assign(item=item) for item, until in (("milk", 400), ("bread", 380))
    )
    part = pd.DataFrame({"date": days[[10, 90, 170, 240, *range(344, 349)]], "store": "s1", "item": "part", "qty": 1})
    root = project(tmp_path, pd.concat([milk, bread, part]))
    code, said = check(root)
    assert code == 0 and "1 product has not been sold anywhere for longer than by chance: bread (since" in said, said
    prepare(root, **SMALL)
    whole = load_block(root / "data/prepared")
    for rows in (slice(None), [0, 2]):  # With other series beside it, and not
        block = take_series(whole, rows)
        items = np.asarray(block.series["item_nbr"])
        assert on_offer(block, 399).all() and items[silence(block, 399).rows].tolist() == ["bread"]
    short = last_days(replace(whole, series=whole.series.assign(offered_until=offered_until(whole, 399))), 140)
    assert items[silence(short, 139).rows[[0, 2]]].tolist() == ["bread"]


def test_slow_parts_beside_a_few_fast_ones_raise_the_doubt_too(tmp_path):
    days = pd.date_range("2017-01-01", periods=365)
    fast = sell(days, ["s1"], 3, 10).assign(qty=40)
    slow = [
        pd.DataFrame({"date": days[start::61], "store": "s1", "item": f"part {start}", "qty": 1}) for start in range(9)
    ]
    code, said = check(project(tmp_path, pd.concat([fast, *slow])))
    assert code == 0 and "9 of 12 series (75%, with 0% of all units) sold again after they had ended" in said, said


def test_the_check_refuses_another_unit_as_prepare_would_at_its_end(tmp_path):
    root = project(tmp_path, sell(pd.date_range("2017-06-01", periods=200), ["s1"], 4, 5))
    assert check(root)[0] == 0
    prepare(root, **SMALL)
    table = root / "sales.csv"
    sales = pd.read_csv(table)
    sales.assign(qty=sales["qty"] * 1000).to_csv(table, index=False)
    code, said = check(root)
    assert code == 1 and "about 1,000 times larger than before" in said and "accept_schema" in said, said


def test_a_plan_that_the_sales_contradict_is_doubted_by_the_check_and_by_prepare(tmp_path):
    "A leaflet every other week; in s2 three days of one were cancelled, and one day sold with a promotion of no plan."
    sales = sell(pd.date_range("2017-01-01", periods=200), ["s1", "s2"], 3, 9)
    week = (sales["date"] - pd.Timestamp("2017-01-01")).dt.days // 7
    sales["leaflet"] = np.where((week % 2 == 1) & (sales["item"] == "i0"), "yes", "no")
    starts = pd.date_range("2017-01-08", "2017-07-31", freq="14D")
    plan = pd.DataFrame({"from": starts, "until": starts + pd.Timedelta(days=6), "item": "i0"})
    plan.to_csv(tmp_path / "plan.csv", index=False)
    promotions = {"table": "plan.csv", "columns": {"first_date": "from", "last_date": "until", "item": "item"}}
    columns = {**COLUMNS, "promotion": "leaflet"}
    code, said = check(project(tmp_path, sales, promotions=promotions, columns=columns))
    assert code == 0 and "contradict" not in said, said

    own = (sales["store"] == "s2") & (sales["item"] == "i0")
    sales.loc[own & sales["date"].between("2017-03-06", "2017-03-08"), "leaflet"] = "no"
    other = (sales["store"] == "s2") & (sales["item"] == "i1") & (sales["date"] == "2017-05-04")
    assert other.sum() == 1
    sales.loc[other, "leaflet"] = "yes"
    root = project(tmp_path, sales, promotions=promotions, columns=columns)
    code, said = check(root)
    covered = (week % 2 == 1).sum()
    told = f"4 of {covered:,} rows of sales: 3 planned with a promotion and sold without, 1 sold with one"
    assert code == 0 and told in said and "the first is i0 in store s2 on 2017-03-06" in said, said
    prepare(root, **SMALL)
    (doubt,) = [one for one in read_version(root)["opening"]["doubts"] if "contradict" in one]
    assert doubt in said
    panel = read_prepared(root)
    day = panel[panel.store_nbr == "s2"].set_index(["item_nbr", "date"]).onpromotion
    assert day["i0"]["2017-03-06":"2017-03-08"].tolist() == [1, 1, 1]  # The plan is believed
    assert day["i1"]["2017-05-04"] == 0
