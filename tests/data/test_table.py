"The user's own table: each form of file is read rightly, or refused by file, line, column and value in one sentence."

import gzip
import hashlib
import io
import json
import zipfile

import duckdb
import pandas as pd
import pytest
import yaml

from cd4ml_nb.core import UserError, replace_folder
from cd4ml_nb.data.contract import check_raw
from cd4ml_nb.data.deliveries import table
from cd4ml_nb.data.suggest import say_proposal, suggest
from cd4ml_nb.data.table import check_source, check_table

pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")  # Ibis 12 on DuckDB 2

COLUMNS = {"date": "day", "item": "sku", "store": "shop", "quantity": "pieces"}
ROWS = [
    ("2018-01-01", "milk", "A", "2"),
    ("2018-01-01", "bread", "A", "5"),
    ("2018-01-02", "milk", "A", "3.5"),
    ("2018-01-02", "milk", "B", "-1"),
]
MAPPING = {"sales": "sales.csv", "columns": COLUMNS}


def csv(rows=ROWS, header="day,sku,shop,pieces", mark=",", end="\n"):
    return end.join([header, *(mark.join(row) for row in rows)]) + end


def bring(root, content, **mapping):
    "Write the sales, run the source as ingest does; returns rules and train.csv."
    name = mapping.setdefault("sales", "sales.csv")
    if content is not None:
        (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with replace_folder(root / "data" / "raw") as folder:
        rules = table(folder, root=root, **{"columns": COLUMNS, **mapping})
    return rules, pd.read_csv(root / "data" / "raw" / "train.csv", dtype=str, keep_default_na=False)


def cells(train):
    return [tuple(row) for row in train[["date", "item_nbr", "store_nbr", "unit_sales"]].values]


EXPECTED = [
    ("2018-01-01", "milk", "A", "2.0"),
    ("2018-01-01", "bread", "A", "5.0"),
    ("2018-01-02", "milk", "A", "3.5"),
    ("2018-01-02", "milk", "B", "-1.0"),
]
German = [
    (day[8:] + "." + day[5:7] + "." + day[:4], item, shop, pieces.replace(".", ",")) for day, item, shop, pieces in ROWS
]


def zipped(**tables):
    with zipfile.ZipFile(packed := io.BytesIO(), "w") as file:
        for name, text in tables.items():
            file.writestr(name, text)
    return packed.getvalue()


def workbook(title, **sheets):
    "A workbook with days as days and pieces as numbers, as Excel keeps them."
    top = [[title], []] if title else []
    with pd.ExcelWriter(book := io.BytesIO(), engine="xlsxwriter") as writer:
        for name, rows in sheets.items():
            typed = [[pd.Timestamp(day), item, shop, float(pieces)] for day, item, shop, pieces in rows]
            lines = [*top, ["day", "sku", "shop", "pieces"], *typed]
            pd.DataFrame(lines).to_excel(writer, sheet_name=name, header=False, index=False)
    return book.getvalue()


JSON_ROWS = [(day, item, shop, float(pieces)) for day, item, shop, pieces in ROWS]

HARMLESS = {
    "plain": (csv(), {}),
    "a byte-order mark": ("\ufeff" + csv(), {}),
    "semicolons": (csv(header="day;sku;shop;pieces", mark=";"), {}),
    "tabs": (csv(header="day\tsku\tshop\tpieces", mark="\t"), {}),
    "semicolons and a comma in a name": (
        csv(
            header='day;sku;shop;pieces;"note, or two, or three, or four, or five"',
            mark=";",
            rows=[(*row, "") for row in ROWS],
        ),
        {},
    ),
    "Windows line ends": (csv(end="\r\n"), {}),
    "no last line end": (csv().rstrip("\n"), {}),
    "quoted numbers": (
        "\n".join(",".join(f'"{cell}"' for cell in row) for row in [("day", "sku", "shop", "pieces"), *ROWS]) + "\n",
        {},
    ),
    "decimal commas": (csv(German, "day;sku;shop;pieces", ";"), {"decimal": ",", "date_format": "%d.%m.%Y"}),
    "decimal commas within quotes": (
        csv([(day, item, shop, f'"{pieces}"') for day, item, shop, pieces in German]),
        {"decimal": ",", "date_format": "%d.%m.%Y"},
    ),
    "other columns": (csv([("x", *row, "") for row in ROWS], "junk,day,sku,shop,pieces,"), {}),
    "an unused column twice": (csv([("x", *row, "y") for row in ROWS], "junk,day,sku,shop,pieces,junk"), {}),
    "times of day": (csv([(f"{day} 23:59:01", *rest) for day, *rest in ROWS]), {}),
    "times of day in Greenwich": (
        csv([(f"{day[:-1]}{int(day[-1]) + 1}T04:30:00Z", *rest) for day, *rest in ROWS]),
        {"time_zone": "America/New_York"},
    ),
    "UTC without saying so": (
        csv([(f"{day[:-1]}{int(day[-1]) + 1} 04:30:00", *rest) for day, *rest in ROWS]),
        {"time_zone": {"from": "UTC", "to": "America/New_York"}},
    ),
    "UTF-16": (csv().encode("utf-16"), {"encoding": "utf-16"}),
    "gzip": (gzip.compress(csv().encode()), {"sales": "sales.csv.gz"}),
    "Windows-1252, zipped": (gzip.compress(csv().encode("cp1252")), {"sales": "sales.csv.gz", "encoding": "cp1252"}),
    "brackets in the file's name": (csv(), {"sales": "sales [1] 'new'.csv"}),
    "tabs by name": (csv(header="day\tsku\tshop\tpieces", mark="\t"), {"sales": "sales.tsv"}),
    "a title above": ("Sales of the North\n\n" + csv(), {"header_line": 3}),
    "a zip file": (zipped(**{"sales/train.csv": csv()}), {"sales": "sales.zip"}),
    "one of a zip file": (zipped(**{"b.csv": csv(), "a.csv": "x\n"}), {"sales": "sales.zip", "inside": "b.csv"}),
    "a workbook": (workbook(None, Sales=ROWS), {"sales": "sales.xlsx"}),
    "a sheet below a title": (
        workbook("Sales", North=ROWS, South=ROWS[:1]),
        {"sales": "sales.xlsx", "inside": "North", "header_line": 3},
    ),
    "JSON lines": (
        "".join(json.dumps(dict(zip(("day", "sku", "shop", "pieces"), row))) + "\n" for row in JSON_ROWS),
        {"sales": "sales.jsonl"},
    ),
    "wide": (
        "sku;shop;note;01.01.2018;02.01.2018\nmilk;A;x;2;3,5\nmilk;B;x;;-1\nbread;A;y;5;\n",
        {
            "wide": {"date_from_columns": "%d.%m.%Y"},
            "columns": {"item": "sku", "store": "shop"},
            "decimal": ",",
            "date_format": "%Y",
        },
    ),
    "wide and numbered": (
        "sku,shop,d_1,d_2\nmilk,A,2,3.5\nmilk,B,,-1\nbread,A,5,\n",
        {
            "wide": {"id": ["sku", "shop"], "numbered_columns": "d_", "first_day": "2018-01-01"},
            "columns": {"item": "sku", "store": "shop", "date": None, "quantity": None},
        },
    ),
}


@pytest.mark.parametrize("form", HARMLESS)
def test_harmless_forms_are_read(tmp_path, form):
    content, mapping = HARMLESS[form]
    rules, train = bring(tmp_path, content, **mapping)
    assert sorted(cells(train)) == sorted(EXPECTED) if "wide" in mapping else cells(train) == EXPECTED
    assert rules == {"kept": {"rows": 4, "units": 9.5, "why": "kept"}}


def faulty(line, column, value):
    rows = [list(row) for row in ROWS]
    rows[line - 2][list(COLUMNS.values()).index(column)] = value
    return csv(rows)


cut_gzip = gzip.compress(csv([(f"2018-01-{i % 28 + 1:02d}", f"item{i}", "A", str(i)) for i in range(20000)]).encode())
parquet_magic = b"PAR1" + b"\0" * 200
REFUSED = {  # content, mapping, what the message must say
    "a missing column": (
        csv(header="day,sku,shop,peices"),
        {},
        ["sales.csv, column pieces: missing column", "did you mean peices", "the file has 4: day, sku, shop, peices"],
    ),
    "a column of another case": (
        csv(header="Day,sku,shop,pieces"),
        {},
        ["column day: missing column", "did you mean Day"],
    ),
    "a doubled column": (
        csv([(*row, "1") for row in ROWS], "day,sku,shop,pieces,pieces"),
        {},
        ["column pieces: doubled column", "one column of this name; the file has 2"],
    ),
    "a word": (faulty(4, "pieces", "many"), {}, ["sales.csv, column pieces: wrong type in 1 rows", "line 4: 'many'"]),
    "nan": (faulty(4, "pieces", "nan"), {}, ["column pieces: wrong type", "line 4: 'nan'"]),
    "a decimal comma": (
        faulty(4, "pieces", '"3,5"'),
        {},
        ["line 4: '3,5'", '1 of 1 can be read: set decimal: ","'],
    ),
    "a thousands mark": (faulty(4, "pieces", '"1,234.5"'), {}, ["line 4: '1,234.5'", 'set thousands: ","']),
    "a comma that may be either": (
        csv([(*row[:3], '"1,234"') for row in ROWS]),
        {},
        ['4 of 4 can be read: set decimal: ",", or thousands: "," (both would fit: you alone know which)'],
    ),
    "a comma beside decimal points": (
        faulty(4, "pieces", '"1,234"').replace("2018-01-01,milk,A,2", "2018-01-01,milk,A,2.5"),
        {},
        ['1 of 1 can be read: set thousands: ","'],
    ),
    "a point in decimal commas": (
        csv(header="day;sku;shop;pieces", mark=";"),
        {"decimal": ","},
        ["line 4: '3.5 ?'", 'set thousands: "."'],
    ),
    "mixed dates": (
        faulty(4, "day", "02.01.2018"),
        {},
        [
            "column day: wrong type in 1 rows",
            "a day such as 2017-12-31",
            "1 of 1 can be read as %d.%m.%Y",
            "if the column mixes forms, write them in one",
            "line 4: '02.01.2018'",
        ],
    ),
    "mixed dates the other way": (
        faulty(4, "day", "02.01.2018"),
        {"date_format": "%d.%m.%Y"},
        ["wrong type in 3 rows", "line 2: '2018-01-01 ?'"],
    ),
    "American or English dates": (
        csv([("01/02/2018", *row[1:]) for row in ROWS[:1]]),
        {},
        ["%d/%m/%Y or as %m/%d/%Y", "you alone know which"],
    ),
    "a day that does not exist": (faulty(3, "day", "2018-02-30"), {}, ["line 3: '2018-02-30'"]),
    "points in time without a zone": (
        faulty(3, "day", "2018-01-01T05:00:00+02:00"),
        {},
        ["line 3: '2018-01-01T05:00:00+02:00'", "set time_zone, such as"],
    ),
    "no item": (faulty(3, "sku", ""), {}, ["column sku: missing value", "line 3"]),
    "no quantity": (faulty(3, "pieces", " "), {}, ["column pieces: missing value", "line 3"]),
    "too much": (faulty(3, "pieces", "99000000"), {}, ["column pieces: out of range", "line 3: '99000000'"]),
    "the same day twice": (
        csv([*ROWS, ROWS[1]]),
        {},
        [
            "column day, shop, sku: duplicate key in 2 rows",
            "set grain: line",
            "line 3: '2018-01-01, A, bread'",
            "line 6:",
        ],
    ),
    "garbled names": (
        csv([("2018-01-01", "LÃ¡cteos", "A", "1")]),
        {},
        ["column sku: garbled text", "'LÃ¡cteos' was 'Lácteos'", "line 2"],
    ),
    "Latin-1": (
        csv([("2018-01-01", "café", "A", "1"), *ROWS]).encode("latin-1"),
        {},
        ["sales.csv: broken line", "UTF-8", "set encoding: cp1252", "line 2"],
    ),
    "the wrong encoding": (
        csv([("2018-01-01", "caf\x81", "A", "1")]).encode("latin-1"),
        {"encoding": "cp1252"},
        ["is not cp1252: byte 0x81"],
    ),
    "UTF-16 unsaid": (csv().encode("utf-16"), {}, ["is UTF-16 text", "set encoding: utf-16"]),
    "a truncated last line": (csv()[:-9], {}, ["sales.csv: broken line in 1 rows", "line 5: '2018-01-02"]),
    "an open quote": (faulty(3, "sku", '"bread'), {}, ["sales.csv: broken line", "quote"]),
    "a gzip cut short": (
        cut_gzip[: len(cut_gzip) // 2],
        {"sales": "sales.csv.gz"},
        ["sales.csv.gz: unreadable file", "cut short or damaged"],
    ),
    "a gzip without its end": (
        cut_gzip[:-6],
        {"sales": "sales.csv.gz"},
        ["sales.csv.gz: unreadable file", "cut short or damaged"],
    ),
    "no gzip": (csv(), {"sales": "sales.csv.gz"}, ["is not gzip, though its name says so"]),
    "gzip unsaid": (cut_gzip, {}, ["is a gzip file. Name it .csv.gz"]),
    "a spreadsheet": (b"PK\x03\x04" + b"\0" * 50, {}, ["is an Excel or zip file. Export it as CSV"]),
    "a spreadsheet by name": (
        b"PK\x03\x04",
        {"sales": "sales.xlsx"},
        ["is no workbook, or damaged; or export it as CSV"],
    ),
    "several tables in a zip file": (
        zipped(**{"b.csv": csv(), "a.csv": "x\n"}),
        {"sales": "sales.zip"},
        ["sales.zip is a zip file with 2 tables: b.csv, a.csv", 'inside: "b.csv"'],
    ),
    "a workbook with five sheets": (
        workbook(None, **{str(year): ROWS for year in range(2014, 2019)}),
        {"sales": "sales.xlsx"},
        ["is a workbook with 5 sheets: 2014, 2015, 2016, 2017, 2018", 'inside: "2014"'],
    ),
    "a 7z archive": (b"7z\xbc\xaf\x27\x1c", {"sales": "sales.csv.7z"}, ["is a 7z archive", "7z x sales.csv.7z"]),
    "half a line of JSON": (
        '{"day": "2018-01-01", "sku": "milk", "shop": "A", "pieces": 2}\n{"day": "2018-01-02", "sk',
        {"sales": "sales.jsonl"},
        ["JSON, one object a line"],
    ),
    "where leaves nothing": (csv(), {"where": ["shop", "=", "Z"]}, ["leaves none: shop holds A (3), B (1)"]),
    "weeks": (
        csv([(f"{day:%Y-%m-%d}", "milk", "A", "1") for day in pd.date_range("2018-01-05", periods=9, freq="7D")]),
        {},
        ["column day: not daily", "looks weekly: 100% of the dates are Fridays, 7 days apart"],
    ),
    "a spreadsheet's days": (faulty(3, "day", "43101"), {}, ["look like days as a spreadsheet", "date_format: excel"]),
    "seconds": (faulty(3, "day", "1514809800"), {}, ["seconds since 1970", "set date_format: epoch, and time_zone"]),
    "a wide table without the word": (
        "sku,shop,2018-01-01,2018-01-02\nmilk,A,2,3\n",
        {},
        ["column day: missing column", "2 columns are named like days", 'wide: {date_from_columns: "%Y-%m-%d"}'],
    ),
    "no rows": ("day,sku,shop,pieces\n", {}, ["sales.csv: no rows", "at least one row below the column names"]),
    "an empty file": ("", {}, ["is empty. It needs a first line"]),
    "a missing file": (None, {"sales": "sale.csv"}, ["sale.csv: missing file", "the file is not there"]),
    "a missing folder": (None, {"sales": "nowhere/sales.csv"}, ["there is no folder"]),
    "a folder without tables": (None, {"sales": "data"}, ["the folder holds no table"]),
    "a damaged Parquet": (parquet_magic, {"sales": "sales.parquet"}, ["a whole Parquet file; this one is cut short"]),
}


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("fault", REFUSED)
def test_refused_in_a_sentence_and_nothing_is_touched(tmp_path, fault):
    bring(tmp_path, csv())
    before = hashes(tmp_path / "data" / "raw")
    (tmp_path / "sales.csv").unlink()
    if fault == "a folder without tables":
        for file in (tmp_path / "data" / "raw").iterdir():
            file.rename(file.with_suffix(".txt"))
        before = hashes(tmp_path / "data" / "raw")
    content, mapping, said = REFUSED[fault]
    with pytest.raises(UserError) as error:
        bring(tmp_path, content, **mapping)
    for words in said:
        assert words in str(error.value), str(error.value)
    assert "Traceback" not in str(error.value) and "duckdb" not in str(error.value).lower()
    assert hashes(tmp_path / "data" / "raw") == before
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["raw"]


def test_all_faults_in_one_pass_and_first_twenty(tmp_path):
    rows = [(f"2018-01-{i % 28 + 1:02d}", f"item{i}", "A", "x" if i < 25 else "1") for i in range(60)]
    rows[30] = ("31.01.2018", "a", "A", "1")
    rows[31] = ("2018-01-01", "", "A", "1")
    rows[32] = rows[33]
    (tmp_path / "sales.csv").write_text(csv(rows) + "2018-01-01,short\n")
    found = {(f["kind"], f["column"]): f for f in check_table(MAPPING, tmp_path)}
    assert {(kind, column): f["count"] for (kind, column), f in found.items()} == {
        ("broken line", None): 1,
        ("wrong type", "day"): 1,
        ("missing value", "sku"): 1,
        ("wrong type", "pieces"): 25,
        ("duplicate key", "day, shop, sku"): 2,
    }
    assert [line for line, _ in found["wrong type", "pieces"]["rows"]] == list(range(2, 22))
    assert [line for line, _ in found["duplicate key", "day, shop, sku"]["rows"]] == [34, 35]
    assert found["broken line", None]["rows"][0][0] == 62


def test_lines_are_right_below_a_broken_line(tmp_path):
    (tmp_path / "sales.csv").write_text(csv([ROWS[0], ("2018-01-01", "short"), ("2018-01-03", "milk", "A", "?")]))
    found = {f["kind"]: f["rows"][0][0] for f in check_table(MAPPING, tmp_path)}
    assert found == {"broken line": 3, "wrong type": 4}


HOLES = 'day,sku,shop,pieces\n2018-01-01,a,A,1\n\n2018-01-01,"b\n\nc",A,1\n2018-01-02,short\n\n\n2018-01-01,a,A,x\n'


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_lines_are_right_below_empty_ones(tmp_path, end, encoding):
    "As an editor counts them: a row whose cell holds line breaks has so many lines, and is told by its first."
    (tmp_path / "sales.csv").write_bytes(HOLES.replace("\n", end).encode(encoding))
    found = check_table({**MAPPING, "encoding": encoding}, tmp_path)
    told = {f["kind"]: [line for line, _ in f["rows"]] for f in found}
    assert told == {"broken line": [7], "wrong type": [10], "duplicate key": [2, 10]}


def test_lines_are_right_below_quoted_line_breaks(tmp_path):
    "In each table, plain or gzip, where a quote stands within a cell, and in a table of one column."
    shift = 'day,sku,shop,pieces\n2018-01-01,"a ""b"" c","A\nB\nC",1\n'
    (tmp_path / "sales").mkdir()
    (tmp_path / "sales/1.csv").write_text(shift + '2018-01-01,5" pipe,A,x\n2018-01-01,d,A,2,3\n')
    with gzip.open(tmp_path / "sales/2.csv.gz", "wt") as file:
        file.write(shift.replace("\n", "\r\n") + "2018-01-02,d,A,y\r\n")
    (tmp_path / "items.csv").write_text('sku\n"a ""b"" c"\n5" pipe\n"d\ne"\nLÃ¡cteos\n')
    items = {"table": "items.csv", "columns": {"item": "sku"}}
    found = check_table({"sales": "sales", "columns": COLUMNS, "items": items}, tmp_path)
    told = {(f["file"], f["kind"]): [line for line, _ in f["rows"]] for f in found}
    assert told == {
        ("sales/1.csv", "broken line"): [6],
        ("sales/1.csv", "wrong type"): [5],
        ("sales/2.csv.gz", "wrong type"): [5],
        ("sales/2.csv.gz", "unknown reference"): [5],
        ("items.csv", "garbled text"): [6],
    }


def test_lines_are_right_below_empty_ones_in_each_file_and_each_table(tmp_path):
    (tmp_path / "sales").mkdir()
    (tmp_path / "sales/1.csv").write_text("day,sku,shop,pieces\n\n2018-01-01,a,A,1\n")
    with gzip.open(tmp_path / "sales/2.csv.gz", "wt") as file:
        file.write("day,sku,shop,pieces\n2018-01-02,a,A,1\n\n\n2018-01-02,b,A,y\n")
    (tmp_path / "items.csv").write_text("sku,group\n\na,LÃ¡cteos\n\na,Bread\n")
    items = {"table": "items.csv", "columns": {"item": "sku", "family": "group"}}
    found = check_table({"sales": "sales", "columns": COLUMNS, "items": items}, tmp_path)
    told = {(f["file"], f["kind"]): [line for line, _ in f["rows"]] for f in found}
    assert told == {
        ("sales/2.csv.gz", "wrong type"): [5],
        ("sales/2.csv.gz", "unknown reference"): [5],
        ("items.csv", "garbled text"): [3],
        ("items.csv", "contradicting rows"): [3, 5],
    }


@pytest.mark.parametrize("shop", [True, False])
@pytest.mark.parametrize("mark", [",", ";"])
def test_a_line_of_nothing_but_separators_is_told_once(tmp_path, shop, mark):
    "As a spreadsheet leaves it behind; a line that lacks something only is told by its column."
    rows = [ROWS[0], ("", "", "", ""), ("2018-01-05", "", "A", "1"), ("", "", "", "")]
    (tmp_path / "sales.csv").write_text(csv(rows, mark.join("day,sku,shop,pieces".split(",")), mark))
    columns = COLUMNS if shop else {name: column for name, column in COLUMNS.items() if name != "store"}
    found = check_table({**MAPPING, "columns": columns}, tmp_path)
    told = {(f["kind"], f["column"]): [line for line, _ in f["rows"]] for f in found}
    assert told == {("empty line", None): [3, 5], ("missing value", "sku"): [4]}
    assert "Remove such lines" in found[0]["expectation"]


GARBLED = {  # as it stands in the file: what it was, whichever encoding it was read in
    "LÃ¡cteos": "Lácteos",
    "PanaderÃ\xada": "Panadería",
    "CafÃ© â€“ tÃ©": "Café – té",
    "FrÃ¼hstÃ¼ck": "Frühstück",
    "PÃ\x83O": "PÃO",
    "ÐœÐ¾Ð»Ð¾ÐºÐ¾": "Молоко",
    "ç‰›ä¹³": "牛乳",
    "Käse, LÃ¡cteos": "Käse, Lácteos",
}
SOUND = [
    "Lácteos",
    "SÃO PAULO",
    "PÂTÉ",
    "NESCAFÉ®",
    "Crème brûlée ½",
    "Żółć",
    "Молоко",
    "牛乳",
    "CORAÇÃO™",
    "naïve – 5 €",
]


@pytest.mark.parametrize("garbled", GARBLED)
def test_names_read_in_another_encoding_are_told(tmp_path, garbled):
    rows = [("2018-01-01", f'"{name}"', "A", "1") for name in (*SOUND, garbled)]
    (tmp_path / "sales.csv").write_text(csv(rows[:-1]) + "2018-01-01\n" + csv(rows[-1:], header="").lstrip("\n"))
    broken, found = check_table(MAPPING, tmp_path)
    assert (broken["kind"], found["kind"], found["column"], found["count"]) == ("broken line", "garbled text", "sku", 1)
    assert found["rows"] == [(len(SOUND) + 3, garbled)]  # below the header, the sound rows and the broken line
    assert f"'{garbled}' was '{GARBLED[garbled]}' before" in found["expectation"]


def test_one_row_is_enough(tmp_path):
    rules, train = bring(tmp_path, csv(ROWS[:1]))
    assert cells(train) == EXPECTED[:1] and rules["kept"]["rows"] == 1


def test_ten_thousand_columns(tmp_path):
    names = [f"c{i}" for i in range(10_000)]
    names[10], names[500], names[7_000], names[9_999] = (
        COLUMNS["date"],
        COLUMNS["item"],
        COLUMNS["store"],
        COLUMNS["quantity"],
    )

    def wide(row):
        line = ["1.5"] * 10_000
        line[10], line[500], line[7_000], line[9_999] = row
        return ",".join(line)

    _, train = bring(tmp_path, "\n".join([",".join(names), *map(wide, ROWS)]) + "\n")
    assert cells(train) == EXPECTED
    assert (
        "the file has 10000"
        in check_table({**MAPPING, "columns": {**COLUMNS, "item": "c77777"}}, tmp_path)[0]["expectation"]
    )


def write_parquet(path, select):
    duckdb.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet)")


def test_parquet(tmp_path):
    write_parquet(
        tmp_path / "sales.parquet",
        "SELECT DATE '2018-01-01' + CAST(i AS INT) AS day, 100 + i AS sku, CAST(i AS DECIMAL(9, 2)) / 2 AS pieces, "
        "i = 1 AS promo FROM range(3) t(i)",
    )
    rules, train = bring(
        tmp_path,
        None,
        sales="sales.parquet",
        columns={"date": "day", "item": "sku", "quantity": "pieces", "promotion": "promo"},
    )
    assert train.values.tolist() == [
        ["2018-01-01", "all", "100", "0.0", "0.0"],
        ["2018-01-02", "all", "101", "0.5", "1.0"],
        ["2018-01-03", "all", "102", "1.0", "0.0"],
    ]


def test_parquet_in_another_time_zone(tmp_path):
    write_parquet(
        tmp_path / "sales.parquet", "SELECT TIMESTAMPTZ '2018-01-01 04:30:00+00' AS day, 'milk' AS sku, 1 AS pieces"
    )
    mapping = {"sales": "sales.parquet", "columns": {"date": "day", "item": "sku", "quantity": "pieces"}}
    assert "set time_zone" in check_table(mapping, tmp_path)[0]["expectation"]
    assert bring(tmp_path, None, **mapping, time_zone="America/New_York")[1].date.tolist() == ["2017-12-31"]


def test_parquet_of_numbers_as_days(tmp_path):
    write_parquet(tmp_path / "sales.parquet", "SELECT 20180102 AS day, 'milk' AS sku, '1,5' AS pieces")
    assert cells(
        bring(
            tmp_path,
            None,
            sales="sales.parquet",
            columns={"date": "day", "item": "sku", "quantity": "pieces"},
            date_format="%Y%m%d",
            decimal=",",
        )[1]
    ) == [("2018-01-02", "milk", "all", "1.5")]


@pytest.mark.parametrize(
    "select, said",
    [
        ("SELECT 20180101 AS day, 'milk' AS sku, 1 AS pieces", ("wrong type", "day", [(1, "20180101")])),
        ("SELECT DATE '2018-01-01' AS day, ['milk'] AS sku, 1 AS pieces", ("wrong type", "sku", [])),
        (
            "SELECT DATE '2018-01-01' AS day, 'milk' AS sku, 'NaN'::DOUBLE AS pieces",
            ("wrong type", "pieces", [(1, "nan")]),
        ),
        ("SELECT DATE '2018-01-01' AS day, 'milk' AS sku, true AS pieces", ("wrong type", "pieces", [(1, "true")])),
    ],
)
def test_parquet_of_wrong_types(tmp_path, select, said):
    write_parquet(tmp_path / "sales.parquet", select)
    found = check_table(
        {"sales": "sales.parquet", "columns": {"date": "day", "item": "sku", "quantity": "pieces"}}, tmp_path
    )
    assert [(f["kind"], f["column"], f["rows"]) for f in found] == [said]


def test_a_parquet_cut_short(tmp_path):
    write_parquet(
        tmp_path / "sales.parquet",
        "SELECT DATE '2018-01-01' + CAST(i AS INT) AS day, 'milk' AS sku, random() AS pieces FROM range(10000) t(i)",
    )
    whole = (tmp_path / "sales.parquet").read_bytes()
    mapping = {"sales": "sales.parquet", "columns": {"date": "day", "item": "sku", "quantity": "pieces"}}
    for damaged in (whole[: len(whole) // 2], whole[:4] + bytes(60) + whole[64:]):
        (tmp_path / "sales.parquet").write_bytes(damaged)
        found = check_table(mapping, tmp_path)
        assert [(f["file"], f["kind"]) for f in found] == [
            ("sales.parquet", "unreadable file")
        ] and "cut short" in found[0]["expectation"]
    (tmp_path / "sales.parquet").write_bytes(whole[:2000] + bytes(4000) + whole[6000:])
    assert check_table(mapping, tmp_path)  # the format has no checksum, but a hole is no good sale


def deliver(root, **nights):
    (root / "sales").mkdir(exist_ok=True)
    for name, rows in nights.items():
        (root / "sales" / f"{name}.csv").write_text(csv(rows))


def test_deliveries_twice_corrected_and_late(tmp_path):
    first = [("2018-01-01", "milk", "A", "2"), ("2018-01-02", "milk", "A", "3"), ("2018-01-02", "bread", "A", "1")]
    deliver(
        tmp_path,
        n1=first,
        n2=[first[1], ("2018-01-02", "bread", "A", "4"), ("2018-01-03", "milk", "A", "1")],
        n3=[("2018-01-02", "bread", "A", "6"), ("2018-01-01", "soap", "A", "9"), ("2018-01-03", "soap", "A", "1")],
    )
    rules, train = bring(tmp_path, None, sales="sales")
    assert cells(train) == [
        ("2018-01-01", "milk", "A", "2.0"),
        ("2018-01-01", "soap", "A", "9.0"),
        ("2018-01-02", "bread", "A", "6.0"),
        ("2018-01-02", "milk", "A", "3.0"),
        ("2018-01-03", "milk", "A", "1.0"),
        ("2018-01-03", "soap", "A", "1.0"),
    ]
    assert {rule: (count["rows"], count["units"]) for rule, count in rules.items()} == {
        "kept": (6, 22.0),
        "twice": (1, 3.0),
        "corrected": (2, 5.0),
        "late": (1, 9.0),
    }


def test_the_same_deliveries_again_change_nothing(tmp_path):
    deliver(tmp_path, n1=ROWS)
    _, once = bring(tmp_path, None, sales="sales")
    deliver(tmp_path, n2=ROWS, n3=list(reversed(ROWS)))
    rules, thrice = bring(tmp_path, None, sales="sales")
    assert sorted(cells(once)) == sorted(cells(thrice)) and (
        rules["twice"]["rows"],
        rules["corrected"]["rows"],
        rules["late"]["rows"],
    ) == (8, 0, 0)


def test_a_bad_delivery_is_named(tmp_path):
    deliver(tmp_path, n1=ROWS, n2=[("2018-01-03", "milk", "A", "many")], n3=[("2018-01-03", "soap", "A", "1")] * 2)
    (tmp_path / "sales" / "n4.csv").write_bytes(b"")
    (tmp_path / "sales" / "n5.csv").write_text("day,sku,shop,pieces\n")  # a night without sales is none
    assert [
        (f["file"], f["kind"], f["rows"]) for f in check_table({"sales": "sales", "columns": COLUMNS}, tmp_path)
    ] == [
        ("sales/n4.csv", "unreadable file", []),
        ("sales/n2.csv", "wrong type", [(2, "many")]),
        ("sales/n3.csv", "duplicate key", [(2, "2018-01-03, A, soap"), (3, "2018-01-03, A, soap")]),
    ]


def test_a_folder_without_any_row(tmp_path):
    deliver(tmp_path, n1=[], n2=[])
    assert [(f["file"], f["kind"]) for f in check_table({"sales": "sales", "columns": COLUMNS}, tmp_path)] == [
        ("sales/n1.csv", "no rows"),
        ("sales/n2.csv", "no rows"),
    ]


def test_receipts_are_added_up_and_a_file_twice_counts_once(tmp_path):
    deliver(tmp_path, n1=[ROWS[0], ROWS[0]], n2=[ROWS[0], ROWS[0]], n3=[ROWS[0]])
    rules, train = bring(tmp_path, None, sales="sales", grain="line")
    assert cells(train) == [("2018-01-01", "milk", "A", "6.0")]
    assert (rules["twice"]["rows"], rules["summed"]["rows"], rules["kept"]["units"]) == (2, 2, 6.0)


def test_a_later_table_of_items_holds(tmp_path):
    (tmp_path / "goods").mkdir()
    (tmp_path / "goods" / "1.csv").write_text("sku,group,fresh\nmilk,Dairy,yes\nbread,Bread,no\n")
    (tmp_path / "goods" / "2.csv").write_text("sku,group,fresh\nbread,Bakery,no\n")
    bring(
        tmp_path, csv(), items={"table": "goods", "columns": {"item": "sku", "family": "group", "perishable": "fresh"}}
    )
    items = pd.read_csv(tmp_path / "data" / "raw" / "items.csv", dtype=str)
    assert items[["item_nbr", "family", "perishable"]].values.tolist() == [
        ["bread", "Bakery", "0"],
        ["milk", "Dairy", "1"],
    ]


def test_what_is_written_keeps_the_contract(tmp_path):
    import ibis

    (tmp_path / "plan.csv").write_text("from;what\n06.01.2018;milk\n")
    bring(
        tmp_path,
        csv(),
        country="EC",
        promotions={"table": "plan.csv", "date_format": "%d.%m.%Y", "columns": {"first_date": "from", "item": "what"}},
    )
    con = ibis.duckdb.connect()
    assert check_raw(con, tmp_path / "data" / "raw") == []
    con.disconnect()
    assert (tmp_path / "data" / "raw" / "promotions.csv").read_text().splitlines()[1:] == [
        "2018-01-06,2018-01-06,A,milk,1",
        "2018-01-06,2018-01-06,B,milk,1",
    ]


def plan_of(tmp_path, rows):
    (tmp_path / "plan.csv").write_text(f"from,to,what\n{rows}\n")
    columns = {"first_date": "from", "last_date": "to", "item": "what"}
    return {"table": "plan.csv", "columns": columns}


def test_a_promotion_may_hold_for_years(tmp_path):
    import ibis

    bring(tmp_path, csv(), promotions=plan_of(tmp_path, "2000-01-01,2099-12-31,milk"))
    con = ibis.duckdb.connect()
    assert check_raw(con, tmp_path / "data" / "raw") == []
    con.disconnect()


def test_a_promotion_that_ends_before_it_begins_is_shown_where_it_stands(tmp_path):
    plan = plan_of(tmp_path, "2018-01-01,2018-01-05,bread\n2018-01-06,2018-01-01,milk")
    with pytest.raises(UserError, match=r"(?s)plan\.csv, column to.*from or a later day.*line 3: '2018-01-01'"):
        bring(tmp_path, csv(), promotions=plan)


def test_the_same_table_gives_the_same_bytes(tmp_path):
    bring(tmp_path, csv(), country="EC")
    first = hashes(tmp_path / "data" / "raw")
    bring(tmp_path, csv(), country="EC")
    assert hashes(tmp_path / "data" / "raw") == first


def test_what_fits_is_said(tmp_path):
    (tmp_path / "other.csv").write_text(csv())
    said = check_source(MAPPING, tmp_path, path="other.csv")
    assert said["findings"] == [] and said["fits"][0] == "sales: 4 rows, 2 items, 2 stores, 2018-01-01 to 2018-01-02"


@pytest.mark.parametrize(
    "pieces, doubtful",
    [
        (("1.234", "12", "2.500.000"), False),
        (("1.234", "12", "25.000"), True),
        (("1.234", "0.250"), False),
        (("1.234", "1.25"), False),
        (("12", "7"), False),
    ],
)
def test_points_that_may_stand_between_thousands_are_mentioned(tmp_path, pieces, doubtful):
    (tmp_path / "sales.csv").write_text(
        csv([("2018-01-01", f"item{i}", "A", number) for i, number in enumerate(pieces)])
    )
    said = check_source(MAPPING, tmp_path)
    assert bool(said["findings"]) == ("2.500.000" in pieces)
    assert any(line.startswith("doubt: every point in pieces") for line in said["fits"]) == (
        doubtful or "2.500.000" in pieces
    )


def test_dates_of_a_plan_written_otherwise_name_the_plans_own_section(tmp_path):
    "The sales' form of date holds for the plan as well, until the plan's section has one of its own."
    German = csv([("01.01.2018", "milk", "A", "2")])
    (tmp_path / "plan.csv").write_text("from,until,what\n2018-01-08,2018-01-14,milk\n")
    columns = {"first_date": "from", "last_date": "until", "item": "what"}
    plan = {"table": "plan.csv", "columns": columns}
    with pytest.raises(UserError) as e:
        bring(tmp_path, German, date_format="%d.%m.%Y", promotions=plan)
    assert "1 of 1 can be read as %Y-%m-%d. If all dates look so, set table.promotions.date_format to it" in str(
        e.value
    )
    bring(tmp_path, German, date_format="%d.%m.%Y", promotions={**plan, "date_format": "%Y-%m-%d"})
    (tmp_path / "plan.csv").write_text("from,until,what\n2018-01-14,2018-01-08,milk\n")
    with pytest.raises(UserError, match="column until: out of order in 1 rows. Expected: from or a later day"):
        bring(tmp_path, csv(), promotions=plan)


def test_norway_is_no_false(tmp_path):
    with pytest.raises(UserError, match='YAML reads NO as false; write Norway in quotes, "NO"'):
        bring(tmp_path, csv(), country=False)


EXPORT = [
    (f"{day:02d}.12.2017", item, shop, f"{day},5") for day in range(1, 5) for item in ("Käse", "Brot") for shop in "AB"
]


def export(tmp_path, *rows, encoding="utf-8"):
    lines = [";".join(row) for row in [("day", "sku", "shop", "pieces"), *EXPORT, *rows]]
    (tmp_path / "sales.csv").write_bytes("\n".join([*lines, ""]).encode(encoding))
    return tmp_path


def test_a_messy_export_is_told_in_one_run(tmp_path):
    "Its encoding, its dates, its numbers and the total below; each was a run of its own."
    found = check_table(MAPPING, export(tmp_path, ("Summe", "", "", "48,0"), encoding="cp1252"))
    said = {(f["kind"], f["column"]): f["expectation"] for f in found}
    assert "encoding: cp1252" in said["broken line", None]
    assert "16 of 17 can be read as %d.%m.%Y" in said["wrong type", "day"]
    assert '17 of 17 can be read: set decimal: ","' in said["wrong type", "pieces"]
    assert all("1 row looks like a total ('Summe')" in said["missing value", column] for column in ("sku", "shop"))
    mended = {**MAPPING, "encoding": "cp1252", "date_format": "%d.%m.%Y", "decimal": ","}
    assert {(f["kind"], f["column"]) for f in check_table(mended, tmp_path)} == set(said) - {
        ("broken line", None), ("wrong type", "pieces"),
    }  # fmt: skip


def test_all_that_is_wrong_in_the_mapping_is_told_at_once(tmp_path):
    wrong = {"columns": {"date": "day", "articel": "sku"}, "decimal": ";", "date_format": "dd.mm", "grain": "year"}
    with pytest.raises(UserError) as e:
        check_table({**MAPPING, **wrong}, export(tmp_path))
    said = str(e.value)
    assert all(
        words in said for words in ("did you mean", "the item and the quantity", "table.decimal", "dd.mm", "week")
    )


FORMS = {"date_format": "%d.%m.%Y", "decimal": ","}
DATED = {
    "of a day": ([(f"{day:02d}.12.2017", "Gesamt", "A", f"{4 * day + 2}") for day in range(1, 5)], ["Gesamt"]),
    "of a day and shop, by a number": (
        [(f"{day:02d}.12.2017", "Z99", shop, f"{2 * day + 1}") for day in range(1, 5) for shop in "AB"],
        ["Z99"],
    ),
    "of the last day": ([("04.12.2017", "Total sales", "A", "18")], ["Total sales"]),
    "called so, and no total": ([("04.12.2017", "Total cereal", "A", "17")], []),
    "none": ([], []),
}


@pytest.mark.parametrize("rows, items", DATED.values(), ids=DATED)
def test_a_total_that_bears_a_day_is_doubted(tmp_path, rows, items):
    said = check_source({**MAPPING, **FORMS}, export(tmp_path, *rows))
    doubts = [fit for fit in said["fits"] if "looks like a total" in fit]
    assert (said["findings"], len(doubts)) == ([], len(items)), said
    assert all(f"the item '{item}'" in doubt for item, doubt in zip(items, doubts))


def test_events_are_counted_and_rows_left_out_are_told(tmp_path):
    rides = "at;line;state\n01.01.2018 09:30;U1;done\n01.01.2018 10:00;U1;done\n02.01.2018 10:00;U1;void\n"
    columns = {"date": "at", "item": "line"}
    forms = {"grain": "event", "date_format": "%d.%m.%Y %H:%M", "where": [["state", "!=", "void"]]}
    rules, train = bring(tmp_path, rides, columns=columns, **forms)
    assert cells(train) == [("2018-01-01", "U1", "all", "2.0")]
    assert (rules["left_out"]["rows"], rules["summed"]["rows"]) == (1, 1)
    rules, train = bring(tmp_path, rides, columns={"date": "at", "item": None}, **forms)
    assert cells(train) == [("2018-01-01", "all", "all", "2.0")]


DAYS = pd.date_range("2017-01-02", periods=60)
SEEN_FIRST = {  # name, text, what is proposed besides the columns, the columns
    "receipts": (
        "receipts.csv",
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,Country\n"
        + "".join(
            f"{n},A{n % 7},LAMP,{n % 3},{d.month}/{d.day}/{d.year} 8:26,2.55,{'FR' if n % 7 < 3 else 'UK'}\n"
            for d in DAYS
            for n in range(14)
        ),
        {"date_format": "%m/%d/%Y %H:%M", "grain": "line"},
        {"date": "InvoiceDate", "item": "StockCode", "store": "Country", "quantity": "Quantity"},
    ),
    "rides": (
        "rides.tsv",
        "ride_id\tstarted_at\tended_at\tstart_station_name\tend_station_name\n"
        + "".join(
            f"R{d.day}{n}\t{d:%F} 08:0{n}\t{d:%F} 09:00\tClark St {n % 3}\tState St\n" for d in DAYS for n in range(9)
        ),
        {"grain": "event"},
        {"date": "started_at", "item": None, "store": "start_station_name"},
    ),
    "German, below a title": (
        "wurst.csv",
        "Absatz 2017\nDatum;Artikelnummer;Bezeichnung;Filiale;Absatz;Umsatz\n"
        + "".join(f"{d:%d.%m.%Y};10{n};Käse;Süd;{n},25;9,50\n" for d in DAYS for n in range(5)),
        {"date_format": "%d.%m.%Y", "decimal": ",", "grain": "day", "encoding": "cp1252", "header_line": 2},
        {"date": "Datum", "item": "Artikelnummer", "store": "Filiale", "quantity": "Absatz"},
    ),
    "bookings": (
        "hotel.csv",
        "hotel,is_canceled,lead_time,arrival_date,adults,reserved_room_type,adr,total_of_special_requests\n"
        + "".join(f"City,{n % 2},{n},{d:%F},2,{'AB'[n % 2]},80.5,{n % 3}\n" for d in DAYS for n in range(6)),
        {"grain": "event", "where": [["is_canceled", "=", 0]]},
        {"date": "arrival_date", "item": "reserved_room_type", "store": "hotel"},
    ),
    "M5": (
        "m5.csv",
        "id,item_id,dept_id,store_id,"
        + ",".join(f"d_{n}" for n in range(1, 41))
        + "\n"
        + "".join(f"H_{n}_CA,H_{n},H,CA," + ",".join("0100" * 10) + "\n" for n in range(5)),
        {"wide": {"numbered_columns": "d_", "first_day": "2011-01-29"}},
        {"item": "item_id", "store": "store_id"},
    ),
    "births": (
        "births.csv",
        "rownames,date,births,wday,year,day_of_week\n"
        + "".join(f"{n},{d:%F},{80 + n % 9},{d:%a},{d.year},{d.day_of_week}\n" for n, d in enumerate(DAYS)),
        {"grain": "day"},
        {"date": "date", "quantity": "births", "item": None, "store": None},
    ),
    "weather": (
        "weather.csv",
        "date,rain,wind,weather\n"
        + "".join(
            f"{d:%Y/%m/%d %H:%M:%S},0.{n % 7},1.{n % 5},{'sun' if n % 3 else 'fog'}\n" for n, d in enumerate(DAYS)
        ),
        {"grain": "day", "date_format": "%Y/%m/%d %H:%M:%S"},
        {"date": "date", "quantity": "rain", "item": None, "store": None},
    ),
    "ids": (
        "m4.csv",
        "id,date,value\n" + "".join(f"D{n},{d:%b} {d.day} {d.year},{n}.5\n" for d in DAYS for n in range(3)),
        {"grain": "day", "date_format": "%b %d %Y"},
        {"date": "date", "quantity": "value", "item": "id", "store": None},
    ),
    "order lines": (
        "orders.csv",
        "order_date,quantity,model,frame_material,bikeshop_name\n"
        + "".join(f"{d:%F},{n},M {n},{'AB'[n % 2]},S{(n + d.day) % 3}\n" for d in DAYS for n in range(9)),
        {"grain": "day"},
        {"date": "order_date", "quantity": "quantity", "item": "model", "store": "bikeshop_name"},
    ),
    "nested": (
        "rides.jsonl",
        "".join(
            f'{{"started": "{d:%F}T0{n}:00:00Z", "start": {{"station": "S{n}"}}, "station": "S{n}", "url": "u{n}"}}\n'
            for d in DAYS
            for n in range(3)
        ),
        {"grain": "event", "time_zone": "UTC"},
        {"date": "started", "item": None, "store": "station"},
    ),
}


@pytest.mark.parametrize("kind", SEEN_FIRST)
def test_a_file_that_was_never_described_is_proposed_as_its_owner_would(tmp_path, kind):
    name, text, forms, columns = SEEN_FIRST[kind]
    (tmp_path / name).write_bytes(text.encode(forms.get("encoding", "utf-8")))
    proposal = suggest(tmp_path / name, tmp_path)
    assert proposal.mapping == {"sales": name, "columns": columns, **forms}
    assert yaml.safe_load(say_proposal(proposal))["table"] == proposal.mapping
    assert check_table(proposal.mapping, tmp_path) == []


def test_a_proposal_says_what_else_would_do(tmp_path):
    "Rivals of a weak name, what a zone changes, and what stands in a column that is named like dates."
    why = {}
    for kind in ("order lines", "nested", "weather"):
        name, text, *_ = SEEN_FIRST[kind]
        (tmp_path / name).write_text(text)
        why[kind] = suggest(tmp_path / name, tmp_path).why
    assert "9 values; frame_material (2) would do, too" in why["order lines"]["columns.item"]
    assert "wind (5) would do, too" in why["weather"]["columns.quantity"]
    assert "ONLY YOU KNOW" in why["nested"]["time_zone"] and "100% in America/New_York" in why["nested"]["time_zone"]
    (tmp_path / "odd.csv").write_text("date,price\nfirst of May,3\nsecond of May,4\n")
    with pytest.raises(UserError, match="date is named like one and holds 'first of May' and 'second of May'"):
        suggest(tmp_path / "odd.csv", tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("twice.jsonl", b'{"date": "2018-01-01", "units": 1, "units": 2}\n', 'duplicate key "units"'),
        ("book.xlsx", b"no workbook", "no workbook, or damaged"),
        ("packed.zip", b"no zip file", "cut short or damaged"),
        ("index.csv", b",store,item,units\n2018-01-01,a,milk,3\n2018-01-02,a,milk,4\n", "has no name"),
    ],
)
def test_a_file_of_which_nothing_can_be_proposed_is_a_sentence(tmp_path, name, text, says):
    (tmp_path / name).write_bytes(text)
    with pytest.raises(UserError, match=says):
        suggest(tmp_path / name, tmp_path)


def test_lists_and_objects_are_no_columns_and_stores_no_quantities(tmp_path):
    rows = [
        {"date": f"2018-01-{day:02}", "store": store, "item": {"name": "milk"}}
        for day in range(1, 29)
        for store in "12"
    ]
    (tmp_path / "nested.jsonl").write_text("\n".join(json.dumps({**row, "units": [3]}) for row in rows))
    proposal = suggest(tmp_path / "nested.jsonl", tmp_path)
    assert proposal.mapping["columns"] == {"date": "date", "item": None, "store": "store"}
    assert proposal.mapping["grain"] == "event"


def test_a_parquet_files_own_zone_is_not_asked_for_again(tmp_path):
    at = pd.to_datetime(["2018-01-01T04:30:00Z", "2018-01-02T12:00:00Z"]).tz_convert("America/New_York")
    pd.DataFrame({"at": at, "sku": ["milk"] * 2, "pieces": [2, 3]}).to_parquet(tmp_path / "sales.parquet")
    columns = {"date": "at", "item": "sku", "quantity": "pieces"}
    _, train = bring(tmp_path, None, sales="sales.parquet", columns=columns)
    assert cells(train) == [("2017-12-31", "milk", "all", "2.0"), ("2018-01-02", "milk", "all", "3.0")]


def test_contradicting_rows_are_shown_with_what_they_contradict(tmp_path):
    (tmp_path / "sales.csv").write_text(
        "day,sku,group,pieces\n" + "2018-01-01,milk,Dairy,1\n" * 30 + "2018-01-02,milk,Drinks,1\n"
    )
    columns = {"date": "day", "item": "sku", "quantity": "pieces"}
    items = {"table": "sales.csv", "columns": {"item": "sku", "family": "group"}}
    found = check_table({"sales": "sales.csv", "columns": columns, "grain": "line", "items": items}, tmp_path)
    assert [(f["kind"], f["count"], f["rows"]) for f in found] == [
        ("contradicting rows", 31, [(2, "milk, Dairy"), (32, "milk, Drinks")])
    ]
