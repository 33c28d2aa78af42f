"""The raw layout through the years: layouts/1 is Favorita's of Kaggle, layouts/2 ours (item_name, promotions.csv).

layouts/expected_N.csv is what schema version 1 of this project prepared from them; it must stay so."""

import gzip
import json
import shutil
from pathlib import Path

import ibis
import pandas as pd
import pytest

from cd4ml_nb.core import UserError
from cd4ml_nb.data import contract
from cd4ml_nb.data.contract import check_raw, read_raw
from cd4ml_nb.data.layout import RAW, Table
from cd4ml_nb.data.panel import read_prepared
from cd4ml_nb.data.prepare import prepare
from cd4ml_nb.data.schema import acceptance_code, check_evolution, compare_schemas, describe_columns, describe_schema

pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")  # Ibis 12 on DuckDB 2
LAYOUTS = Path(__file__).parent / "layouts"


def prepared(layout, root):
    "A project with this layout's raw tables, prepared by today's code."
    shutil.copytree(layout, root / "data" / "raw")
    prepare(root)
    return root


@pytest.fixture(scope="module")
def projects(tmp_path_factory):
    return {v: prepared(LAYOUTS / v, tmp_path_factory.mktemp(f"layout{v}")) for v in "12"}


@pytest.fixture
def known(projects):
    return json.loads(
        json.dumps(describe_schema(LAYOUTS / "2", projects["2"] / "data" / "prepared", "favorita"))
    )  # as version.json gives it back


@pytest.fixture
def raw(tmp_path):
    shutil.copytree(LAYOUTS / "2", tmp_path / "raw")
    return tmp_path / "raw"


@pytest.mark.parametrize("layout", "12")
def test_todays_code_reads_every_layout_with_unchanged_results(projects, layout):
    "Backward compatible."
    names = ["store_nbr", "item_nbr", "date", "unit_sales", "onpromotion", "holiday"]
    before = pd.read_csv(
        LAYOUTS / f"expected_{layout}.csv", dtype={"store_nbr": str, "item_nbr": str}, parse_dates=["date"]
    )
    now = read_prepared(projects[layout], "panel")
    by = ["store_nbr", "item_nbr", "date"]
    now, before = (
        t[names]
        .sort_values(by, ignore_index=True)
        .fillna({"holiday": ""})
        .astype({"store_nbr": object, "item_nbr": object, "date": "datetime64[ns]", "holiday": object})
        for t in (now, before)
    )
    pd.testing.assert_frame_equal(now, before)
    titles = set(read_prepared(projects[layout], "panel").item_name)
    assert titles == (
        {"Item 99197", "Item 103520", "Item 1047679"}
        if layout == "1"
        else {"Lentils 500 g", "Whole milk", "Tomatoes by weight"}
    )


def test_a_reader_of_the_first_layout_reads_the_second(monkeypatch):
    "Forward compatible: the contract as it was in 2017 ignores what came later."
    old = {
        name: Table({c: column for c, column in table.columns.items() if c != "item_name"}, *table[1:])
        for name, table in RAW.items()
        if name != "promotions"
    }
    monkeypatch.setattr(contract, "RAW", old)
    assert check_raw(ibis.duckdb.connect(), LAYOUTS / "2") == []
    for name in ("train", "items"):
        seen, whole = (
            read_raw(ibis.duckdb.connect(), LAYOUTS / "2", name).execute(),
            pd.read_csv(LAYOUTS / "2" / f"{name}.csv"),
        )
        assert list(seen) == list(old[name].columns) and len(seen) == len(whole)
    assert seen.family.tolist() == whole.family.tolist()


def test_from_the_first_layout_to_the_second_is_compatible_and_back_is_not(projects):
    one, two = (describe_schema(LAYOUTS / v, projects[v] / "data" / "prepared", "favorita") for v in "12")
    there = check_evolution(one, two)
    assert {(c["table"], c["column"], c["kind"]) for c in there if c["compatible"]} == {
        ("items", "item_name", "added-optional"),
        ("promotions", None, "added-optional"),
    }
    with pytest.raises(UserError) as e:
        check_evolution(two, one)
    assert "items.csv, column item_name: removed" in str(e.value) and "promotions.csv: removed" in str(e.value)


def column(file, change):
    "Change a raw table as a frame of text."

    def act(raw):
        table = pd.read_csv(raw / file, dtype=str, keep_default_na=False)
        change(table).to_csv(raw / file, index=False)

    return act


EVOLUTIONS = {  # what happens: how, table, column, kind, compatible, a word of the message
    "unknown column": (
        column("train.csv", lambda t: t.assign(till="7")),
        "train",
        "till",
        "unknown column",
        True,
        "ignored",
    ),
    "renamed, same cells": (
        column("train.csv", lambda t: t.rename(columns={"unit_sales": "verkauft"}).iloc[:, [4, 0, 1, 2, 3, 5]]),
        "train",
        "unit_sales",
        "renamed",
        False,
        "renamed to verkauft",
    ),
    "renamed, new rows": (
        column("train.csv", lambda t: t[50:].rename(columns={"unit_sales": "units"})),
        "train",
        "unit_sales",
        "renamed",
        False,
        "renamed to units",
    ),
    "misspelt": (
        column("items.csv", lambda t: t[1:].rename(columns={"family": "famliy"}).iloc[:, ::-1]),
        "items",
        "family",
        "renamed",
        False,
        "renamed to famliy",
    ),
    "renamed in place": (
        column("items.csv", lambda t: t[1:].rename(columns={"family": "department"})),
        "items",
        "family",
        "renamed",
        False,
        "stands in its place",
    ),
    "removed": (
        column("train.csv", lambda t: t.drop(columns="onpromotion")),
        "train",
        "onpromotion",
        "removed",
        False,
        "Export it again",
    ),
    "removed table": (
        lambda raw: (raw / "promotions.csv").unlink(),
        "promotions",
        None,
        "removed",
        False,
        "Bring back promotions.csv",
    ),
    "ids with a point": (
        column("items.csv", lambda t: t.assign(item_nbr=t.item_nbr + ".0")),
        "items",
        "item_nbr",
        "retyped",
        False,
        "'99197.0'",
    ),
    "decimal commas": (
        column(
            "train.csv",
            lambda t: t.assign(
                unit_sales=t.unit_sales.str.replace(".", ",").where(
                    t.unit_sales.str.contains(".", regex=False), t.unit_sales + ",0"
                )
            ),
        ),
        "train",
        "unit_sales",
        "retyped",
        False,
        "decimal numbers such as",
    ),
    "days the other way": (
        column("train.csv", lambda t: t.assign(date=t.date.str[8:] + "/" + t.date.str[5:7] + "/" + t.date.str[:4])),
        "train",
        "date",
        "retyped",
        False,
        "'14/12/2016'",
    ),
}


@pytest.mark.parametrize("name", EVOLUTIONS)
def test_each_change_is_named(name, raw, known):
    change, table, where, kind, compatible, word = EVOLUTIONS[name]
    change(raw)
    found = compare_schemas(known, describe_schema(raw, source="favorita"))
    assert [(c["table"], c["column"], c["kind"], c["compatible"]) for c in found if c["kind"] == kind] == [
        (table, where, kind, compatible)
    ], found
    assert all(c["compatible"] for c in found if c["kind"] != kind), found
    assert word in next(c["message"] for c in found if c["kind"] == kind)
    if compatible:
        assert check_evolution(known, describe_schema(raw, source="favorita"))
    else:
        with pytest.raises(UserError, match="accept_schema"):
            check_evolution(known, describe_schema(raw, source="favorita"))


def test_units_that_became_thousands(raw, known, tmp_path):
    column("train.csv", lambda t: t.assign(unit_sales=(t.unit_sales.astype(float) / 1000).round(6).astype(str)))(raw)
    now = describe_schema(raw, prepared(raw, tmp_path / "project") / "data" / "prepared", "favorita")
    with pytest.raises(UserError, match="1,000 times smaller") as e:
        check_evolution(known, now)
    assert "train.csv, column unit_sales: rescaled" in str(e.value)


@pytest.mark.parametrize(
    "factor,said",
    [
        (1000, "1,000 times larger"),
        (12, "10 times larger"),
        (7, "7 times larger"),
        (0.1, "10 times smaller"),
        (3, None),
        (0.3, None),
    ],
)
def test_which_factors_count(factor, said, known):
    now = {
        **known,
        "scales": {
            name: {key: factor * value for key, value in scale.items()} for name, scale in known["scales"].items()
        },
    }
    found = compare_schemas(known, now)
    assert {c["kind"] for c in found} == ({"rescaled"} if said else set())
    assert all(said in c["message"] and not c["compatible"] for c in found) and (
        not said or any(c["column"] == "unit_sales" for c in found)
    )


def test_one_item_in_another_unit_is_said_and_let_through(known):
    scales = {**known["scales"]["train.unit_sales"], "99197": 1000 * known["scales"]["train.unit_sales"]["99197"]}
    now = {**known, "scales": {**known["scales"], "train.unit_sales": scales}}
    assert [(c["kind"], c["compatible"]) for c in check_evolution(known, now)] == [("rescaled", True)]
    assert "99197" in check_evolution(known, now)[0]["message"]


def test_all_items_renumbered(known):
    many = {**known, "scales": {"train.unit_sales": {str(n): 2.0 for n in range(20)}}}
    other = {**many, "scales": {"train.unit_sales": {f"A{n}": 2.0 for n in range(20)}}}
    with pytest.raises(UserError, match="renumbered"):
        check_evolution(many, other)
    assert check_evolution(many, {**other, "source": "favorita, stores 47"})[0]["kind"] == "other source"


def test_the_way_through_is_for_these_changes_and_once(raw, known):
    EVOLUTIONS["renamed in place"][0](raw)
    (raw / "promotions.csv").unlink()
    now = describe_schema(raw, source="favorita")
    codes = [acceptance_code(known, c) for c in compare_schemas(known, now)]
    assert len(set(codes)) == 2
    with pytest.raises(UserError, match=f"accept_schema: .{', '.join(codes)}"):
        check_evolution(known, now, accept=codes[:1])
    assert len(check_evolution(known, now, accept=codes)) == 2
    again = {**known, "tables": {**known["tables"], "oil": {}}}  # the known shape is another one by now
    with pytest.raises(UserError):
        check_evolution(again, now, accept=codes)


def test_the_description_does_not_depend_on_packing_marks_or_later_rows(raw, tmp_path):
    before = describe_columns(raw)
    (raw / "train.csv.gz").write_bytes(gzip.compress((raw / "train.csv").read_bytes()))
    (raw / "train.csv").unlink()
    (raw / "items.csv").write_bytes(b"\xef\xbb\xbf" + (raw / "items.csv").read_bytes().replace(b"\n", b"\r\n"))
    assert describe_columns(raw) == before


def bytes_read():
    "Bytes that this process has read so far, where the system counts them."
    counted = Path("/proc/self/io")
    return int(counted.read_text().split()[1]) if counted.exists() else 0


def test_wide_long_and_broken_files_are_read_in_part(raw):
    (raw / "items.csv").write_text(
        ",".join(f"c{n}" for n in range(10_000)) + "\n" + (",".join(["1"] * 10_000) + "\n") * 100
    )
    (raw / "stores.csv").write_bytes(b"x" * 20_000_000)
    (raw / "oil.csv").unlink()
    (raw / "oil.csv.gz").write_bytes(gzip.compress(b"date,dcoilwtico\n2017-01-01,5\n" * 100)[:-20])
    (raw / "transactions.csv").write_bytes(b"")
    (raw / "holidays_events.csv").unlink()
    packed = gzip.compress(bytes(range(32, 127)) * 1000)
    (raw / "holidays_events.csv.gz").write_bytes(packed[:50] + b"spoilt" + packed[56:])
    with (raw / "train.csv").open("w") as file:
        file.write("id,date,store_nbr,item_nbr,unit_sales,onpromotion\n")
        for day in range(1, 29):
            file.write(f"9,2017-02-{day:02},1,99197,1,{5 if day == 28 else ''}\n" * 20_000)
    before = bytes_read()
    seen = describe_columns(raw)
    assert bytes_read() - before < 5_000_000 < (raw / "train.csv").stat().st_size
    assert (
        len(seen["items"]) == 200
        and seen["oil"] is None
        and seen["transactions"] is None
        and seen["holidays_events"] is None
        and len(seen["train"]) == 6
    )
    assert seen["train"]["onpromotion"] == {
        "kind": "whole number",
        "example": "5",
        "first": None,
    }  # only the last lines say so
