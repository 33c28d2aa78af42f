"What somebody types wrong is a sentence that names where it stands, short enough to read, whatever was typed."

import copy, shutil
import pandas as pd, pytest, yaml
from copies import ROOT
from cd4ml_nb.cli import main
from cd4ml_nb.core import UserError, read_params
from cd4ml_nb.delivery.parameters import check_params

GOOD = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
NUMBERS = {
    "2018-02-30": "a day that there is not",
    "9" * 5000: "a number without an end",
    "1.0e+308": "a number too large for arrays",
    "1e308": "the same, which YAML takes for text",
    ".nan": "no number",
    ".inf": "endless",
    "true": "a yes",
    "12:30": "a time, which YAML takes for 750",
    "010": "a number with a zero before it, which YAML takes for eight",
    '"100"': "a number in quotes",
    '"¹"': "a digit that is none",
    '"' + "x" * 20_000 + '"': "a text without an end",
    "[1, 2]": "a list",
    "{a: 1}": "a section",
}
NAMES = [
    "split.horizon",
    "training_rows.rows",
    "prepare.delisted_after",
    "synthetic.items",
    "estimators.random_forest.max_samples",
    "gate.bias",
    "prepare.first_day",
]


def written(name, text):
    "params.yaml with this text as one value."
    params = copy.deepcopy(GOOD)
    *sections, key = name.split(".")
    section = params
    for one in sections:
        section = section[one]
    section[key] = "HERE"
    return yaml.safe_dump(params).replace("HERE", text)


@pytest.mark.parametrize("name", NAMES)
def test_a_number_that_is_none_is_told_by_its_name(tmp_path, name):
    for text, what in NUMBERS.items():
        (tmp_path / "params.yaml").write_text(written(name, text), encoding="utf-8")
        with pytest.raises(UserError) as told:
            check_params(read_params(root=tmp_path))
        said = str(told.value)
        assert f"params.yaml, {name}" in said and len(said) < 500, (what, said[:500])


def test_what_stands_there_is_right(tmp_path):
    "So that the test above cannot pass by itself."
    shutil.copy(ROOT / "params.yaml", tmp_path)
    check_params(read_params(root=tmp_path))


# --- a table of one's own, and what params.yaml says about it

SALES = "data/source/sales.csv"
COLUMNS = {"date": "date", "item": "item", "quantity": "qty", "store": "store", "promotion": None}


def days(number, items=2, stores=2, sold=lambda day: 1 + day % 5):
    "A table of so many days, as text."
    lines = [
        f"{date:%Y-%m-%d},i{item},{sold(day)},{store}"
        for day, date in enumerate(pd.date_range("2017-01-01", periods=number))
        for item in range(items)
        for store in range(stores)
    ]
    return "\n".join(["date,item,qty,store", *lines]) + "\n"


def row(*cells):
    "A good table whose sixth line is this."
    lines = days(200).splitlines()
    lines[5] = ",".join(cells)
    return "\n".join(lines) + "\n"


TABLES = {
    "one day": (days(1), "The data have 1 day, from 2017-01-01 to 2017-01-01, and 169 are needed"),
    "sixty days": (days(60), "split.horizon: 7 would do with 57 days"),
    "empty": ("", f"{SALES} is empty. It needs a first line with the columns' names"),
    "no row": ("date,item,qty,store\n", "at least one row below the column names"),
    "other columns": ("a\n1\n", f"{SALES}, column qty: missing column"),
    "zero bytes": (days(9) + "\0\0", f"{SALES} is no text: it holds zero bytes"),
    "nothing sold": (days(200, sold=lambda day: 0), "There is no sale"),
    "only returns": (days(200, sold=lambda day: -1), "There is no sale"),
    "superscript": (row("2017-01-02", "i0", "¹", "0"), "line 6: '¹'"),
    "arabic digit": (row("2017-01-02", "i0", "٣", "0"), "line 6: '٣'"),
    "too many": (row("2017-01-02", "i0", "1e308", "0"), "line 6: '1e308'"),
    "endless": (row("2017-01-02", "i0", "inf", "0"), "line 6: 'inf'"),
    "no end of text": (row("2017-01-02", "i0", "z" * 20_000, "0"), "20,002 characters"),
    "30 February": (row("2017-02-30", "i0", "3", "0"), "line 6: '2017-02-30'"),
    "year 0": (row("0000-01-02", "i0", "3", "0"), "line 6: '0000-01-02'"),
    "year 99999": (row("99999-01-02", "i0", "3", "0"), "line 6: '99999-01-02'"),
    "mixed line ends": (days(200).replace("\n", "\r\n", 3), "line 4 ends otherwise than line 1"),
}
RULES = {
    "a store that there is not": ({"closed_days": [{"store": "9", "closed": "sunday"}]}, "there is no store '9'"),
    "open and closed": (
        {"closed_days": [{"store": "1", "closed": "sunday"}, {"store": "1", "open": "sunday"}]},
        "store 1 is said to be open and to be closed on sunday",
    ),
    "no day": ({"closed_days": ["2018-02-30"]}, "'2018-02-30' is no day"),
    "after all sales": ({"first_day": "2025-01-01"}, "no sale in the days left by prepare.first_day (2025-01-01)"),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "nbs/stages", root / "nbs/stages")
    shutil.copy(ROOT / "dvc.yaml", root)
    return root


@pytest.fixture
def check(project, monkeypatch, capsys):
    "check(text, table, prepare): exit code of `cd4ml data check`, and what it said."

    def run(text, table=(), prepare=(), until=None):
        table = {"sales": SALES, "query": None, "columns": COLUMNS, **dict(table)}
        params = {**GOOD, "ingest": {**GOOD["ingest"], "source": "table", "until": until}, "table": table}
        params["prepare"] = {**GOOD["prepare"], **dict(prepare)}
        (project / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        (project / SALES).parent.mkdir(parents=True, exist_ok=True)
        (project / SALES).write_bytes(text.encode())
        code, told = main(["data", "check"]), capsys.readouterr()
        return code, told.out + told.err

    monkeypatch.setenv("CD4ML_ROOT", str(project))
    monkeypatch.chdir(project)
    return run


@pytest.mark.parametrize("name", TABLES)
def test_a_bad_table_is_a_sentence(check, name):
    text, says = TABLES[name]
    code, said = check(text)
    assert code == 1 and says in said and len(said) < 1500, said[:1500]


@pytest.mark.parametrize("name", RULES)
def test_a_bad_rule_is_a_sentence(check, name):
    prepare, says = RULES[name]
    code, said = check(days(200), prepare=prepare)
    assert code == 1 and says in said and len(said) < 1500, said[:1500]


@pytest.mark.parametrize("place", ["p" * 5000, {"a": 1}, 1.0e308, "data/nowhere.csv"])
def test_a_place_that_is_none_is_a_sentence(check, place):
    code, said = check(days(200), {"sales": place})
    assert code == 1 and ("table.sales" in said or "the file is not there" in said) and len(said) < 900, said[:900]


def test_a_small_table_that_fits(check):
    "One product in one store: the first thing that many try."
    assert check(days(300, 1, 1))[0] == 0


@pytest.mark.parametrize("year", ["2016", "2017", "2024"])
def test_the_day_of_the_default_data_left_behind_is_named(check, year):
    "Who names his own table and leaves the day as it was: his sales end before it, go on after it, or begin later."
    text = days(365, 1, 1).replace("2017-", f"{year}-")
    code, said = check(text, until=GOOD["ingest"]["until"])
    assert code == 1 and "is the day of the default data. Write until: null in params.yaml" in said, said
    assert check(text)[0] == 0


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml"])
def test_anchors_in_anchors_are_a_sentence(check, project, capsys, name):
    "Eight lines that stand for a hundred million words; without a bound the command is busy for minutes."
    assert check(days(300, 1, 1))[0] == 0
    kept = (project / name).read_text()
    laughs = ["a: &a [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    laughs += [f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in zip("abcdefg", "bcdefgh")]
    (project / name).write_text("\n".join([kept, *laughs]))
    code, told = main(["data", "check"]), capsys.readouterr()
    (project / name).write_text(kept)
    assert code == 1 and f"{name} is not valid YAML: its anchors (&) stand for more than" in told.out + told.err
