"""Faults planted in good files: each is found, named with file, line, column and value, and nothing is written."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import ibis
import pytest

from cd4ml_nb.core import UserError
from cd4ml_nb.data.contract import check_raw, list_violations
from cd4ml_nb.data.panel import read_prepared
from cd4ml_nb.data.prepare import prepare
from cd4ml_nb.data.ingest import ingest
from cd4ml_nb.data.split import split

pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")  # Ibis 12 on DuckDB 2


@pytest.fixture(scope="session")
def tiny_raw(tmp_path_factory):
    root = tmp_path_factory.mktemp("tiny")
    ingest(root, "tiny")
    prepare(root)
    return root


@pytest.fixture
def tiny(tiny_raw, tmp_path):
    "A fresh project with the tiny source ingested and prepared, for a test to change."
    shutil.copytree(Path(tiny_raw) / "data", tmp_path / "data")
    return tmp_path


def cell(line, column, value):
    "Put a value into a cell of train.csv; lines count from 1, the header."

    def change(raw):
        rows = (raw / "train.csv").read_text().splitlines()
        fields = rows[line - 1].split(",")
        fields[rows[0].split(",").index(column)] = value
        rows[line - 1] = ",".join(fields)
        (raw / "train.csv").write_text("\n".join(rows) + "\n")

    return change


def text(file, old, new):
    def change(raw):
        assert old in (raw / file).read_text()
        (raw / file).write_text((raw / file).read_text().replace(old, new, 1))

    return change


def whole(file, content):
    return lambda raw: (raw / file).write_bytes(content)


def copy_line(raw):
    rows = (raw / "train.csv").read_text().splitlines()
    (raw / "train.csv").write_text("\n".join([*rows, rows[4]]) + "\n")


FAULTS = {
    "a word for a number": (
        cell(7, "unit_sales", "many"),
        ["train.csv, column unit_sales: wrong type in 1 rows", "line 7: 'many'"],
    ),
    "a decimal comma": (cell(7, "unit_sales", '"1,5"'), ["train.csv, column unit_sales: wrong type", "line 7: '1,5'"]),
    "not a number": (cell(7, "unit_sales", "nan"), ["train.csv, column unit_sales: wrong type", "line 7: 'nan'"]),
    "a German date": (
        cell(9, "date", "01.11.2016"),
        ["train.csv, column date: wrong type", "line 9: '01.11.2016'", "such as 2017-12-31"],
    ),
    "a day that does not exist": (
        cell(9, "date", "2017-02-30"),
        ["train.csv, column date: wrong type", "line 9: '2017-02-30'"],
    ),
    "no number": (cell(7, "unit_sales", ""), ["train.csv, column unit_sales: missing value", "line 7"]),
    "no day": (cell(9, "date", ""), ["train.csv, column date: missing value", "line 9"]),
    "no store": (cell(7, "store_nbr", ""), ["train.csv, column store_nbr: missing value", "line 7"]),
    "out of range": (
        cell(7, "unit_sales", "2000000"),
        ["train.csv, column unit_sales: out of range", "between -1000000.0 and 1000000.0", "line 7: '2000000'"],
    ),
    "a negative promotion": (
        cell(900, "onpromotion", "-1"),
        ["train.csv, column onpromotion: out of range", "line 900: '-1'"],
    ),
    "the same row twice": (
        copy_line,
        ["duplicate key in 2 rows", "one row for each date, store_nbr, item_nbr", "line 5: '2016-11-01,"],
    ),
    "an unknown item": (
        cell(7, "item_nbr", "milk2"),
        ["train.csv, column item_nbr: unknown reference", "line 7: 'milk2'"],
    ),
    "an unknown store": (
        cell(7, "store_nbr", "99"),
        ["train.csv, column store_nbr: unknown reference", "line 7: '99'"],
    ),
    "a missing column": (
        text("train.csv", "unit_sales", "sales"),
        ["train.csv, column unit_sales: missing column", "the file has: id, date"],
    ),
    "a doubled column": (
        text("stores.csv", "city,state", "city,city"),
        ["stores.csv has more than one column named city"],
    ),
    "an item twice": (
        text("items.csv", "102,", "101,"),
        ["items.csv, column item_nbr: duplicate key in 2 rows", "line 2: '101'", "line 3: '101'"],
    ),
    "an item twice, below a name of three lines": (
        lambda raw: (text("items.csv", "102,", "101,")(raw), text("items.csv", "1,Milk", '1,"Milk,\n\nfresh"')(raw)),
        ["items.csv, column item_nbr: duplicate key in 2 rows", "line 2: '101'", "line 5: '101'"],
    ),
    "a perishable of 7": (
        text("items.csv", "(fresh),1,", "(fresh),7,"),
        ["items.csv, column perishable: wrong type", "True or False, or 1 or 0", "line 2: '7'"],
    ),
    "no rows": (whole("train.csv", b"id,date,store_nbr,item_nbr,unit_sales,onpromotion\n"), ["train.csv: no rows"]),
    "an empty file": (whole("train.csv", b""), ["train.csv is empty"]),
    "semicolons": (
        whole("stores.csv", b"store_nbr;city;state;type;cluster\n1;Quito;;A;\n"),
        ["stores.csv separates its columns by semicolons"],
    ),
    "UTF-16": (
        whole("stores.csv", "store_nbr,city,state,type,cluster\n".encode("utf-16")),
        ["stores.csv is UTF-16 text. Save it as UTF-8."],
    ),
    "Latin-1": (
        whole("stores.csv", "store_nbr,city,state,type,cluster\n1,Bogotá,,A,\n2,,,,\n3,,,,\n".encode("latin-1")),
        ["stores.csv: broken line", "UTF-8", "line 2"],
    ),
    "a cut last line": (
        lambda raw: (raw / "train.csv").write_bytes((raw / "train.csv").read_bytes()[:-12]),
        ["train.csv: broken line", "Expected Number of Columns: 6"],
    ),
    "an open quote": (text("items.csv", "Milk", '"Milk'), ["items.csv: broken line", "unterminated quote"]),
    "a plan that ends before it begins": (
        text("promotions.csv", "\n", "\n2017-05-10,2017-05-01,1,101,1\n"),
        ["promotions.csv, column last_date: out of order", "line 2: '2017-05-01'"],
    ),
    "an empty line above": (
        text("promotions.csv", "\n", "\n\n\n2017-05-10,2017-05-01,1,101,1\n"),
        ["promotions.csv, column last_date: out of order", "line 4: '2017-05-01'"],
    ),
    "a missing file": (lambda raw: (raw / "items.csv").unlink(), ["items.csv: missing file"]),
}


def folder_hash(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named_and_nothing_is_written(tiny, fault):
    plant, said = FAULTS[fault]
    before = folder_hash(tiny / "data" / "prepared")
    plant(tiny / "data" / "raw")
    with pytest.raises(UserError) as error:
        prepare(tiny)
    for words in said:
        assert words in str(error.value), str(error.value)
    assert folder_hash(tiny / "data" / "prepared") == before
    assert sorted(path.name for path in (tiny / "data").iterdir()) == ["prepared", "raw"]


def test_all_faults_in_one_pass(tiny):
    for fault in (
        "a word for a number",
        "a German date",
        "the same row twice",
        "an item twice",
        "semicolons",
        "a plan that ends before it begins",
    ):
        FAULTS[fault][0](tiny / "data" / "raw")
    con = ibis.duckdb.connect()
    listed = list_violations(check_raw(con, tiny / "data" / "raw"))
    con.disconnect()
    assert set(listed.columns) == {"file", "row", "column", "value", "expectation"}
    assert {"train.csv", "items.csv", "stores.csv", "promotions.csv"} == set(listed.file)
    assert {"many", "01.11.2016", "2017-05-01"} <= set(listed.value)


def test_first_twenty_and_the_count(tiny):
    for line in range(10, 50):
        cell(line, "unit_sales", "x")(tiny / "data" / "raw")
    with pytest.raises(UserError) as error:
        prepare(tiny)
    assert "wrong type in 40 rows" in str(error.value) and "and 20 more" in str(error.value)
    assert str(error.value).count("'x'") == 20


@pytest.mark.parametrize(
    "form", ["byte-order mark", "Windows line ends", "no last line end", "True and False", "quoted"]
)
def test_harmless_forms_are_read(tiny, form):
    before, path = read_prepared(tiny), tiny / "data" / "raw" / "train.csv"
    data = path.read_bytes()
    if form == "byte-order mark":
        data = b"\xef\xbb\xbf" + data
    if form == "Windows line ends":
        data = data.replace(b"\n", b"\r\n")
    if form == "no last line end":
        data = data.rstrip(b"\n")
    if form == "True and False":
        data = b"\n".join(
            line[:-2] + {b",0": b",False", b",1": b",True"}.get(line[-2:], line[-2:]) for line in data.split(b"\n")
        )
    if form == "quoted":
        data = (
            b"\n".join(
                b",".join(b'"' + field + b'"' for field in line.split(b",")) for line in data.split(b"\n") if line
            )
            + b"\n"
        )
    path.write_bytes(data)
    prepare(tiny)
    assert read_prepared(tiny).equals(before)


def test_optional_tables_may_be_missing(tiny):
    for name in ("holidays_events", "transactions", "promotions"):
        (tiny / "data" / "raw" / f"{name}.csv").unlink()
    with pytest.raises(UserError, match="The table is gone"):
        prepare(tiny)
    shutil.rmtree(tiny / "data" / "prepared")  # the first data of a project have no shape to keep
    prepare(tiny)
    panel = read_prepared(tiny)
    assert panel.holiday.isna().all() and panel.onpromotion.isna().any() and panel.onpromotion.notna().any()


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"windows": {"horizon": 60, "calibration_windows": 2, "evaluation_windows": 3}}, "lower split.horizon"),
        ({"closed_days": ["25.12."]}, "'25.12.' is no day"),
    ],
)
def test_parameters_that_leave_nothing(tiny, wrong, said):
    before = folder_hash(tiny / "data" / "prepared")
    with pytest.raises(UserError, match="(?s)" + said):
        prepare(tiny, **wrong)
    assert folder_hash(tiny / "data" / "prepared") == before


def test_stages_out_of_order(tmp_path):
    with pytest.raises(UserError, match="train.csv is missing. Run the stage ingest"):
        prepare(tmp_path)
    with pytest.raises(UserError, match="version.json is missing"):
        split(tmp_path)


def test_the_layout_needs_nothing_but_python():
    code = "import sys, cd4ml_nb.data.layout; print({'numpy', 'pandas', 'ibis', 'duckdb', 'ftfy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
