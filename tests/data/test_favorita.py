"""The Kaggle folder in the forms in which people have it; subsets that change no value; refusals that help."""

import csv
import gzip
import json
import shutil

import ibis
import pytest

from cd4ml_nb.core import UserError
from cd4ml_nb.data.contract import check_raw
from cd4ml_nb.data.favorita import favorita, find_tables, in_place
from cd4ml_nb.data.synthetic import synthesize

pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")  # Ibis 12 on DuckDB 2
TABLES = ["holidays_events.csv", "items.csv", "oil.csv", "stores.csv", "train.csv", "transactions.csv"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "A folder like Kaggle's, made by the generator, with the values as Favorita writes them."
    folder = tmp_path_factory.mktemp("favorita") / "kaggle"
    synthesize(folder, rows=120_000, stores=6, items=60, seed=8)
    lines = (folder / "train.csv").read_text().splitlines()
    cells = [line.split(",") for line in lines[1:]]
    (folder / "train.csv").write_text(
        "\n".join(
            [lines[0], *(",".join([*row[:4], row[4] if "." in row[4] else f"{row[4]}.0", row[5]]) for row in cells)]
        )
        + "\n"
    )
    return folder


@pytest.fixture
def kaggle(made, tmp_path):
    return shutil.copytree(made, tmp_path / "kaggle")


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


def rows_of(path):
    return list(csv.DictReader(path.open()))


def pack(path):
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    path.unlink()


def findings(folder):
    connection = ibis.duckdb.connect()
    found = check_raw(connection, folder)
    connection.disconnect()
    return found


def test_whole_folder_is_copied_byte_by_byte(kaggle, raw):
    pack(kaggle / "train.csv")
    rules = favorita(raw, kaggle)
    assert sorted(path.name for path in raw.iterdir()) == sorted(
        name + ".gz" * (name == "train.csv") for name in TABLES
    )
    assert all((raw / path.name).read_bytes() == path.read_bytes() for path in kaggle.glob("*.csv*"))
    assert list(rules) == ["kept"] and abs(rules["kept"]["rows"] / 120_000 - 1) < 0.01


@pytest.mark.parametrize("packed", [False, True])
def test_a_subset_keeps_lines_and_their_order(kaggle, raw, packed):
    before = (kaggle / "train.csv").read_text().splitlines()
    families = {row["item_nbr"]: row["family"] for row in rows_of(kaggle / "items.csv")}
    if packed:
        [pack(path) for path in list(kaggle.glob("*.csv"))]
    rules = favorita(
        raw,
        kaggle,
        stores=[2, "3"],
        families=["GROCERY I", "LIQUOR,WINE,BEER"],
        first_day="2014-01-02",
        last_day="2014-06-30",
    )
    wanted = [
        line
        for line in before[1:]
        if (cells := line.split(","))[2] in ("2", "3")
        and families[cells[3]] in ("GROCERY I", "LIQUOR,WINE,BEER")
        and "2014-01-02" <= cells[1] <= "2014-06-30"
    ]
    assert (raw / "train.csv").read_text().splitlines() == [before[0], *wanted] and len(wanted) > 1000
    assert rules["kept"]["rows"] == len(wanted) and sum(rule["rows"] for rule in rules.values()) == len(before) - 1
    assert rules["kept"]["units"] == pytest.approx(sum(float(line.split(",")[4]) for line in wanted))
    assert (
        {row["store_nbr"] for row in rows_of(raw / "stores.csv")}
        == {row["store_nbr"] for row in rows_of(raw / "transactions.csv")}
        == {"2", "3"}
    )
    assert {row["family"] for row in rows_of(raw / "items.csv")} == {"GROCERY I", "LIQUOR,WINE,BEER"}
    assert (
        max(row["date"] for row in rows_of(raw / "oil.csv"))
        <= "2014-06-30"
        < max(row["date"] for row in rows_of(raw / "holidays_events.csv"))
    )
    assert findings(raw) == []


def test_a_large_file_keeps_its_order(tmp_path, raw):
    "Where several threads read: a long list of items was a join once, which gave chunks of rows as they came."
    synthesize(tmp_path / "large", rows=400_000, stores=10, items=400, seed=8)
    items = [row["item_nbr"] for row in rows_of(tmp_path / "large" / "items.csv")][:40]
    favorita(raw, tmp_path / "large", items=items)
    ids = [int(row["id"]) for row in rows_of(raw / "train.csv")]
    assert ids == sorted(ids) and len(ids) > 10_000


def test_the_articles_subset(made, raw):
    "One store in one year, of a larger folder."
    favorita(raw, made, stores=4, first_day="2014-01-01", last_day="2014-12-31")
    assert {row["store_nbr"] for row in rows_of(raw / "train.csv")} == {"4"} and {
        row["date"][:4] for row in rows_of(raw / "train.csv")
    } == {"2014"}
    assert findings(raw) == []


def test_what_no_subset_can_judge_is_left_to_the_contract(kaggle, raw):
    lines = (kaggle / "train.csv").read_text().splitlines()
    lines[7] = lines[7].replace("2013-01-01", "01.01.2013").replace(",6,", ",2,", 1)
    (kaggle / "train.csv").write_text("\r\n".join(lines) + "\r\n")
    favorita(raw, kaggle, stores=2, first_day="2014-01-01")
    found = findings(raw)
    assert [(finding["kind"], finding["column"], finding["rows"]) for finding in found] == [
        ("wrong type", "date", [(2, "01.01.2013")])
    ]


def test_a_table_one_level_below(kaggle, raw):
    for name in ("train", "items"):
        (kaggle / f"{name}_").mkdir()
        shutil.move(kaggle / f"{name}.csv", kaggle / f"{name}_" / f"{name}.csv")
    (kaggle / "train_").rename(kaggle / "train.csv")
    assert find_tables(kaggle)["train"] == kaggle / "train.csv" / "train.csv"
    assert in_place(kaggle) is None
    favorita(raw, kaggle)
    assert sorted(path.name for path in raw.iterdir()) == TABLES and in_place(raw) == raw


def test_a_copy_below_does_not_matter(kaggle):
    shutil.copytree(kaggle, kaggle / "backup")
    assert find_tables(kaggle)["train"] == kaggle / "train.csv"


def test_a_folder_that_needs_no_copy(kaggle):
    assert (
        in_place(str(kaggle)) == kaggle
        and in_place(kaggle, stores=1) is None
        and in_place(kaggle, last_day="2014-01-01") is None
    )


def test_optional_tables_may_be_missing(kaggle, raw):
    for name in ("oil", "transactions", "holidays_events"):
        (kaggle / f"{name}.csv").unlink()
    favorita(raw, kaggle, stores=1)
    assert sorted(path.name for path in raw.iterdir()) == ["items.csv", "stores.csv", "train.csv"]


def unlink(*names):
    return lambda kaggle: [(kaggle / name).unlink() for name in names]


def packed_as(ending, name="train.csv"):
    return lambda kaggle: (kaggle / name).rename(kaggle / f"{name}{ending}")


def cut_short(kaggle):
    pack(kaggle / "train.csv")
    data = (kaggle / "train.csv.gz").read_bytes()
    (kaggle / "train.csv.gz").write_bytes(data[: len(data) // 2])


def broken_line(kaggle):
    lines = (kaggle / "train.csv").read_text().splitlines()
    (kaggle / "train.csv").write_text("\n".join([*lines[:50], "50,2013", *lines[51:]]) + "\n")


REFUSALS = {
    "a file is missing": (
        unlink("stores.csv"),
        {},
        ["stores.csv is missing in", "kaggle.com/competitions/favorita-grocery-sales-forecasting", "accept its rules"],
    ),
    "7z": (packed_as(".7z"), {}, ["train.csv is still packed", "train.csv.7z", "7z x '*.7z'", "p7zip-full"]),
    "7z of a table that may be missing": (packed_as(".7z", "oil.csv"), {}, ["oil.csv is still packed", "7z x"]),
    "zip": (packed_as(".zip"), {}, ["train.csv is still packed", "unzip train.csv.zip"]),
    "Kaggle's zip": (
        lambda kaggle: [unlink("train.csv")(kaggle), (kaggle / "favorita-grocery-sales-forecasting.zip").touch()],
        {},
        ["unzip favorita-grocery-sales-forecasting.zip"],
    ),
    "plain and gzip": (
        lambda kaggle: shutil.copy(kaggle / "items.csv", kaggle / "items.csv.gz"),
        {},
        ["items is there more than once", "Keep one of them"],
    ),
    "an unknown store": (
        None,
        dict(stores=[1, 47]),
        ["favorita.stores: '47' is not in the data, which know 6; nearest: 6, 5, 4", "They are: 1, 2, 3, 4, 5, 6"],
    ),
    "an unknown item": (None, dict(items="milk"), ["favorita.items: 'milk' is not in the data", "nearest: "]),
    "a misspelt family": (None, dict(families=["Grocery1"]), ["favorita.families: 'Grocery1'", "nearest: GROCERY I"]),
    "no day": (
        None,
        dict(first_day="2016-02-30"),
        ["favorita.first_day: '2016-02-30' is no day. Write it as 2016-12-31"],
    ),
    "a German day": (None, dict(last_day="31.12.2016"), ["favorita.last_day: '31.12.2016' is no day"]),
    "backwards": (
        None,
        dict(first_day="2014-02-01", last_day="2014-01-01"),
        ["first_day 2014-02-01 is after last_day 2014-01-01"],
    ),
    "nothing left": (None, dict(first_day="2024-01-01"), ["The subset is empty", "Its days run from 2013-01-01 to"]),
    "an empty list": (None, dict(stores=[]), ["favorita.stores is an empty list. Write null"]),
    "gzip cut short, whole": (cut_short, {}, ["train.csv.gz ends too early"]),
    "gzip cut short, subset": (cut_short, dict(stores=1), ["train.csv.gz ends too early"]),
    "a broken line, subset": (
        broken_line,
        dict(stores=1),
        ["train.csv cannot be read as it is", "Line: 51", "cd4ml data check --source favorita --path"],
    ),
    "a misnamed column": (
        lambda kaggle: (kaggle / "train.csv").write_text(
            (kaggle / "train.csv").read_text().replace("store_nbr", "shop", 1)
        ),
        dict(stores=1),
        ["has no column store_nbr, by which the subset is chosen; it has: id, date, shop"],
    ),
    "a column twice": (
        lambda kaggle: (kaggle / "train.csv").write_text(
            (kaggle / "train.csv").read_text().replace("unit_sales", "date", 1)
        ),
        dict(stores=1),
        ["train.csv cannot be read as it is", "cd4ml data check"],
    ),
    "an empty file of sales": (lambda kaggle: (kaggle / "train.csv").write_text(""), {}, ["train.csv is empty"]),
    "no gzip at all": (
        lambda kaggle: (kaggle / "train.csv").rename(kaggle / "train.csv.gz"),
        {},
        ["train.csv.gz cannot be read", "fetch it again"],
    ),
    "an empty file of items": (
        lambda kaggle: (kaggle / "items.csv").write_text(""),
        dict(stores=1),
        ["items.csv should have rows with the column item_nbr"],
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_help(kaggle, raw, case):
    change, given, said = REFUSALS[case]
    if change:
        change(kaggle)
    with pytest.raises(UserError) as error:
        favorita(raw, kaggle, **given)
    for words in said:
        assert words in str(error.value), str(error.value)
    assert "\n" not in str(error.value)


def test_a_path_that_is_no_folder(raw, tmp_path):
    with pytest.raises(UserError, match="is no folder. Name the folder that holds train.csv"):
        favorita(raw, tmp_path / "nowhere")


def test_a_path_with_a_quote(made, raw, tmp_path):
    odd = shutil.copytree(made, tmp_path / "o'brien, 1")
    assert favorita(raw, odd, stores=1)["kept"]["rows"] > 0


def test_the_truth_is_not_taken_along(made, raw):
    favorita(raw, made)
    assert not (raw / "truth").exists() and json.loads((made / "truth.json").read_text())["days"] > 900
