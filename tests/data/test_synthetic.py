"The planted truth is found in the written files; one seed gives the same bytes; faults stand where they are told."

import csv
import datetime
import hashlib
import json
import shutil

import duckdb
import ibis
import pandas as pd
import pytest

from cd4ml_nb.core import UserError
from cd4ml_nb.data import synthetic
from cd4ml_nb.data.contract import check_raw
from cd4ml_nb.data.synthetic import synthesize

pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")  # Ibis 12 on DuckDB 2
EARTHQUAKE = datetime.date(2016, 4, 16)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    "Eight stores and sixty items over more than four years."
    folder = tmp_path_factory.mktemp("synthetic") / "made"
    return (
        folder,
        synthesize(folder, rows=270_000, stores=8, items=60, seed=5),
        json.loads((folder / "truth.json").read_text()),
    )


@pytest.fixture(scope="session")
def con(made):
    "The written tables and the truth, as views."
    folder, connection = made[0], duckdb.connect()
    for name in ("train", "items", "stores", "transactions"):
        connection.execute(
            f"CREATE VIEW {name}_text AS SELECT * FROM read_csv('{folder}/{name}.csv', all_varchar = true)"
        )
    connection.execute(
        "CREATE TABLE train AS SELECT id::BIGINT id, date::DATE date, store_nbr, item_nbr, "
        "unit_sales::DOUBLE unit_sales, onpromotion FROM train_text"
    )
    for name in ("series", "store_days", "stockouts", "returns"):
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{folder}/truth/{name}.parquet')")
    connection.execute(
        "CREATE TABLE daily AS SELECT t.*, family, lift * chance AS store_factor FROM train t "
        "JOIN items_text USING (item_nbr) JOIN store_days d ON d.store_nbr = t.store_nbr AND d.date = t.date"
    )
    return connection


def test_size_order_and_layout(made, con):
    folder, done, truth = made
    assert (
        abs(done["rows"] / 270_000 - 1) < 0.01
        and done["rows"] == truth["rows"] == con.execute("SELECT count(*) FROM train").fetchone()[0]
    )
    assert con.execute(
        "SELECT count(*) FROM (SELECT id, row_number() OVER (ORDER BY date, store_nbr::INT, item_nbr::INT) - 1 "
        "AS place FROM train) WHERE id <> place"
    ).fetchone() == (0,)
    assert con.execute(
        "SELECT count(*) FROM (SELECT 1 FROM train GROUP BY date, store_nbr, item_nbr HAVING count(*) > 1)"
    ).fetchone() == (0,)
    assert con.execute("SELECT min(date)::VARCHAR, count(*) FILTER (unit_sales = 0) FROM train").fetchone() == (
        "2013-01-01",
        0,
    )
    assert (folder / "items.csv").read_text().startswith("item_nbr,family,class,perishable\n") and not (
        folder / "promotions.csv"
    ).exists()
    connection = ibis.duckdb.connect()
    assert check_raw(connection, folder) == []
    connection.disconnect()


@pytest.mark.parametrize("rows, stores, items", [(60_000, 3, 40), (400_000, 54, 1000), (120_000, 1, 300)])
def test_the_rows_asked_for(tmp_path, rows, stores, items):
    assert abs(synthesize(tmp_path / "made", rows, stores, items, 1)["rows"] / rows - 1) < 0.01


def test_weekday_profiles_are_found(made, con):
    for family, planted in made[2]["weekday"].items():
        found = (
            con.execute(
                """SELECT sum(unit_sales / store_factor) / count(DISTINCT date) AS units FROM daily
            WHERE family = ? AND unit_sales > 0 GROUP BY isodow(date) ORDER BY isodow(date)""",
                [family],
            )
            .df()
            .units
        )
        if len(found) == 7:
            assert (found / found.mean() / planted - 1).abs().max() < (
                0.09 if family in ("GROCERY I", "BEVERAGES", "CLEANING") else 0.3
            ), family


def test_holiday_lift_is_found(con):
    "A store's day, compared with its same weekdays one to three weeks away, over the truth's own ratio."
    days = con.execute(
        "SELECT s.store_nbr, s.date, units, lift FROM store_days s "
        "JOIN (SELECT store_nbr, date, sum(unit_sales) AS units FROM train GROUP BY ALL) USING (store_nbr, date)"
    ).df()
    table, lift = (
        days.pivot(index="date", columns="store_nbr", values=value).asfreq("D") for value in ("units", "lift")
    )
    ordinary = table.where(lift == 1)
    usual = pd.concat([ordinary.shift(7 * weeks) for weeks in (-3, -2, -1, 1, 2, 3)]).groupby(level=0).mean()
    ratio = (table / usual).stack().rename("ratio").to_frame().join(lift.stack().rename("lift"))
    ratio = ratio[ratio.index.get_level_values("date") < "2016-04-01"]
    means = ratio.groupby(ratio["lift"].round(2)).ratio.agg(["mean", "count"])
    means = means[means["count"] >= 20]
    assert len(means) >= 6 and means.index.max() >= 1.5
    assert (means["mean"] / means.index - 1).abs().max() < 0.12, means


def test_promotion_lift_is_found(con):
    "Of series that sell almost daily: units on promoted days over others, weekday and the store's day divided out."
    found = con.execute("""
        WITH busy AS (SELECT store_nbr, item_nbr, promotion_lift FROM series
                      WHERE level > 8 AND NOT by_weight AND promotion_share > .03),
        clean AS (SELECT item_nbr, busy.promotion_lift, onpromotion,
                         unit_sales / store_factor / exp(trend * (date - DATE '2013-01-01') / 365.25) / level AS units
                  FROM daily JOIN busy USING (store_nbr, item_nbr) JOIN series s USING (store_nbr, item_nbr)
                  WHERE onpromotion IS NOT NULL AND unit_sales > 0)
        SELECT item_nbr, any_value(promotion_lift) AS planted,
               avg(units) FILTER (onpromotion = 'True') / avg(units) FILTER (onpromotion = 'False') AS found,
               count(*) FILTER (onpromotion = 'True') AS days
        FROM clean GROUP BY item_nbr HAVING days > 150""").df()
    assert len(found) >= 5
    assert (found.found / found.planted - 1).abs().median() < 0.06 and (
        found.found / found.planted - 1
    ).abs().max() < 0.2, found


def test_trend_is_found(con):
    found = con.execute("""
        WITH years AS (
            SELECT item_nbr, any_value(trend) AS trend, year(date) AS year, avg(unit_sales / store_factor) AS units
            FROM daily JOIN series USING (store_nbr, item_nbr)
            WHERE level > 8 AND onpromotion IS DISTINCT FROM 'True' AND first_day = DATE '2013-01-01'
                  AND date BETWEEN DATE '2014-01-01' AND DATE '2016-12-31'
            GROUP BY item_nbr, year(date))
        SELECT item_nbr, any_value(trend) AS planted, regr_slope(ln(units), year) AS found
        FROM years GROUP BY item_nbr HAVING count(*) = 3""").df()
    assert len(found) >= 5 and (found.found - found.planted).abs().median() < 0.06, found


def test_promotions_are_unknown_at_first(made, con):
    known_from = made[2]["promotions_known_from"]
    unknown, known = con.execute("SELECT count(*) FILTER (onpromotion IS NULL), count(*) FROM train").fetchone()
    assert 0.15 < unknown / known < 0.17
    assert con.execute(
        "SELECT count(*) FROM train WHERE (onpromotion IS NULL) <> (date < ?::DATE)", [known_from]
    ).fetchone() == (0,)
    assert {
        word
        for (word,) in con.execute("SELECT DISTINCT onpromotion FROM train WHERE onpromotion IS NOT NULL").fetchall()
    } == {"True", "False"}


def test_stock_outs_new_items_and_closed_stores(made, con):
    truth = made[2]
    assert con.execute(
        "SELECT count(*) FROM train JOIN stockouts USING (store_nbr, item_nbr) "
        "WHERE date BETWEEN first_day AND last_day"
    ).fetchone() == (0,)
    assert con.execute("SELECT count(*) FROM stockouts").fetchone()[0] > 5
    first = dict(con.execute("SELECT item_nbr, min(date)::VARCHAR FROM train GROUP BY item_nbr").fetchall())
    assert truth["new_items"] and all(first.get(item, day) >= day for item, day in truth["new_items"].items())
    sold = set(con.execute("SELECT DISTINCT store_nbr, date::VARCHAR FROM train").fetchall())
    assert sold == set(con.execute("SELECT store_nbr, date::DATE::VARCHAR FROM store_days WHERE is_open").fetchall())
    assert {store for store, date in sold if date[5:] == "12-25"} == set() and {
        store for store, date in sold if date[5:] == "01-01"
    } == {"8"}
    ((late, opened),) = truth["stores_opened_late"].items()
    assert min(date for store, date in sold if store == late) == opened
    ((shut, (first_shut, last_shut)),) = truth["stores_closed"].items()
    assert not [date for store, date in sold if store == shut and first_shut <= date <= last_shut]


def test_returns_fractions_and_the_earthquake(made, con):
    assert (
        con.execute(
            "SELECT date, store_nbr, item_nbr, unit_sales FROM train WHERE unit_sales < 0 ORDER BY ALL"
        ).fetchall()
        == con.execute("SELECT date::DATE, store_nbr, item_nbr, unit_sales FROM returns ORDER BY ALL").fetchall()
    )
    assert con.execute("SELECT count(*) FROM returns").fetchone()[0] >= 5
    weighed = {item for (item,) in con.execute("SELECT DISTINCT item_nbr FROM series WHERE by_weight").fetchall()}
    assert {
        item for (item,) in con.execute("SELECT DISTINCT item_nbr FROM train WHERE unit_sales % 1 <> 0").fetchall()
    } == weighed
    rows = list(csv.DictReader((made[0] / "holidays_events.csv").open()))
    shaken = [row for row in rows if row["description"].startswith("Terremoto")]
    assert shaken[0]["date"] == "2016-04-16" and {row["type"] for row in shaken} == {"Event"}
    assert {row["locale"] for row in rows} == {"National", "Regional", "Local"} and {
        "Transfer",
        "Bridge",
        "Work Day",
        "Additional",
    } <= {row["type"] for row in rows}
    moved = {row["description"] for row in rows if row["transferred"] == "True"}
    assert {f"Traslado {name}" for name in moved} == {row["description"] for row in rows if row["type"] == "Transfer"}
    manta, quito = (
        con.execute(
            """SELECT avg(units) FILTER (date BETWEEN ?::DATE AND ?::DATE + 6)
                      / avg(units) FILTER (date BETWEEN ?::DATE - 28 AND ?::DATE - 1)
               FROM (SELECT date, sum(unit_sales) AS units FROM train JOIN stores_text USING (store_nbr)
                     WHERE city = ? GROUP BY date)""",
            [EARTHQUAKE] * 4 + [city],
        ).fetchone()[0]
        for city in ("Manta", "Quito")
    )
    assert manta > 1.6 > 1.3 > quito > 1.05


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_same_seed_same_bytes_on_any_number_of_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "ROWS_A_CHUNK", 10_000)
    for name, processes in (("one", 1), ("two", 2)):
        synthesize(tmp_path / name, 60_000, 5, 60, 3, faults=True, processes=processes)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    synthesize(tmp_path / "other", 60_000, 5, 60, 4)
    ids = [line.split(",", 1)[0] for line in (tmp_path / "other" / "train.csv").read_text().splitlines()[1:]]
    assert ids == [str(number) for number in range(len(ids))]
    assert hashes(tmp_path / "other")["train.csv"] != hashes(tmp_path / "one")["train.csv"]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faulty") / "made"
    synthesize(folder, 60_000, 5, 60, 3, faults=True)
    return folder, json.loads((folder / "faults.json").read_text())


def test_each_fault_stands_where_it_is_said(faulty):
    folder, faults = faulty
    assert len(faults) == 50 and {
        "holidays_events.csv",
        "items.csv",
        "oil.csv",
        "stores.csv",
        "train.csv",
        "transactions.csv",
    } == {fault["file"] for fault in faults}
    for fault in faults:
        header, *lines = (folder / fault["file"]).read_bytes().rstrip(b"\n").split(b"\n")
        line = lines[fault["line"] - 2]
        if fault["kind"] == "broken line":
            assert line.decode(errors="backslashreplace") == fault["value"]
            assert line.count(b",") != header.count(b",") or b"\xe1" in line or line.count(b'"') % 2
            continue
        cells = dict(zip(header.decode().split(","), next(csv.reader([line.decode()]))))
        assert ", ".join(cells[column] for column in fault["column"].split(", ")) == fault["value"], fault
    train = [fault["line"] for fault in faults if fault["file"] == "train.csv"]
    assert min(train) < 20 and max(train) > 59_000


def test_the_contract_finds_these_faults_and_no_others(faulty):
    folder, faults = faulty
    connection = ibis.duckdb.connect()
    found = {
        (finding["file"], finding["kind"], line)
        for finding in check_raw(connection, folder)
        for line, _ in finding["rows"]
    }
    connection.disconnect()
    assert found == {(fault["file"], fault["kind"], fault["line"]) for fault in faults}


def test_faults_change_nothing_else(faulty, tmp_path):
    folder, faults = faulty
    synthesize(tmp_path / "clean", 60_000, 5, 60, 3)
    spoilt = {fault["line"] for fault in faults if fault["file"] == "train.csv"}
    clean, dirty = ((where / "train.csv").read_bytes().split(b"\n") for where in (tmp_path / "clean", folder))
    assert (
        len(clean) == len(dirty) and {number for number, (a, b) in enumerate(zip(clean, dirty), 1) if a != b} <= spoilt
    )


@pytest.mark.parametrize(
    "given, said",
    [
        (dict(rows=0), "rows should be a whole number from 1"),
        (dict(rows=10**7, stores=2, items=20), "rows do not fit"),
        (dict(rows=1000, stores=-1), "stores should be"),
        (dict(rows="many"), "not 'many'"),
        (dict(rows=10**9, stores=1000, items=10_000), "more than 5,000,000 series"),
        (dict(rows=5 * 10**7), "need about 2.1 GB, and .* has 1.0 GB free"),
        (dict(rows=100, stores=2, items=20, faults=True), "1,000 rows or more"),
    ],
)
def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path, monkeypatch, given, said):
    usage = shutil.disk_usage(tmp_path)._replace(free=10**9)
    monkeypatch.setattr(synthetic.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="(?s)" + said):
        synthesize(tmp_path / "made", **given)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_stays(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty"):
        synthesize(tmp_path, 1000, 2, 20)
    with pytest.raises(UserError, match="is a file"):
        synthesize(tmp_path / "mine.txt", 1000, 2, 20)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_error_on_the_way_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "truth_page", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        synthesize(tmp_path / "made", 1000, 2, 20)
    assert list(tmp_path.iterdir()) == []
