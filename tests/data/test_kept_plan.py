"A night reads of the promotion plan what was added, and its files are those of a whole prepare."

import shutil
import pandas as pd, pytest
from cd4ml_nb.core import UserError, find_json
from cd4ml_nb.data.ingest import raw_folder
from cd4ml_nb.data import roll
from cd4ml_nb.data.prepare import prepare_folder


@pytest.fixture(scope="module")
def evenings(tmp_path_factory):
    "The raw tables of two days, and the first day prepared; its plan knows no candles and no store 3."
    root = tmp_path_factory.mktemp("evenings")
    for day in ("2017-08-20", "2017-08-21"):
        with raw_folder(root, "tiny", "", day) as raw:
            shutil.copytree(raw, root / day)
    plan = read_plan(root / "2017-08-20")
    few = plan[(plan["item_nbr"] != "104") & (plan["store_nbr"] != "3")]
    few.to_csv(root / "2017-08-20/promotions.csv", index=False)
    prepare_folder(root / "2017-08-20", root / "prepared", before=root / "none")
    return root


def read_plan(raw):
    "A raw plan as text."
    return pd.read_csv(raw / "promotions.csv", dtype=str)


def parquet_of(folder):
    "The bytes of all prepared tables."
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


@pytest.fixture
def asked(monkeypatch):
    "How many rows of the plan each night checks and reads; None for all of them."
    rows, joins = [], roll._joins

    def note(con, earlier):
        fits = joins(con, earlier)
        rows.append(earlier.plan.added if fits and earlier.plan else None)
        return fits

    monkeypatch.setattr(roll, "_joins", note)
    return rows


def roll_on(evenings, tmp_path, plan):
    "The second day with this plan, rolled forward and prepared whole."
    raw = shutil.copytree(evenings / "2017-08-21", tmp_path / "raw")
    plan.to_csv(raw / "promotions.csv", index=False)
    prepare_folder(raw, tmp_path / "rolled", before=evenings / "prepared")
    prepare_folder(raw, tmp_path / "whole")
    assert parquet_of(tmp_path / "rolled") == parquet_of(tmp_path / "whole")
    return raw


def test_only_what_a_plan_gained_is_read(evenings, tmp_path, asked):
    "A store and a product more."
    plan, before = read_plan(evenings / "2017-08-21"), read_plan(evenings / "2017-08-20")
    roll_on(evenings, tmp_path, plan)
    assert asked == [len(plan) - len(before)] and 0 < asked[0] < len(plan) / 2
    assert find_json(tmp_path / "rolled/days.json", {})["day"] == "2017-08-21"


def test_the_night_after_keeps_what_was_added(evenings, tmp_path, asked):
    raw = roll_on(evenings, tmp_path, read_plan(evenings / "2017-08-21"))
    with raw_folder(tmp_path, "tiny", "", "2017-08-22") as later:
        shutil.copytree(later, tmp_path / "later")
    shutil.copy(raw / "promotions.csv", tmp_path / "later")
    prepare_folder(tmp_path / "later", tmp_path / "next", before=tmp_path / "rolled")
    prepare_folder(tmp_path / "later", tmp_path / "next-whole")
    assert parquet_of(tmp_path / "next") == parquet_of(tmp_path / "next-whole")
    assert asked[1] == 0


def test_rows_that_were_corrected_or_cancelled(evenings, tmp_path, asked):
    plan = read_plan(evenings / "2017-08-20")
    plan.loc[0, "onpromotion"] = "3"
    roll_on(evenings, tmp_path, plan.drop(index=[4, 5]).sample(frac=1, random_state=0))
    assert asked == [1]


def test_a_plan_that_is_no_longer_there(evenings, tmp_path):
    raw = shutil.copytree(evenings / "2017-08-21", tmp_path / "raw")
    (raw / "promotions.csv").unlink()
    with pytest.raises(UserError, match="promotions"):
        prepare_folder(raw, tmp_path / "rolled", before=evenings / "prepared")


@pytest.mark.parametrize(
    "spoil, says",
    [
        pytest.param(lambda text: text + text.splitlines()[2] + "\n", "duplicate key", marks=pytest.mark.prove),
        (lambda text: text + text.splitlines()[2][:-1] + "7\n", "duplicate key"),
        (lambda text: text + "2017-08-21,2017-08-27,1,999,1\n", "unknown reference"),
        pytest.param(lambda text: text + "2017-08-21,2017-08-27,1,101,many\n", "onpromotion", marks=pytest.mark.prove),
        pytest.param(lambda text: text + "2017-08-21,2017-08-27\n", "broken line", marks=pytest.mark.prove),
    ],
)
def test_what_is_wrong_is_named_by_its_line_in_the_whole_plan(evenings, tmp_path, spoil, says):
    raw = shutil.copytree(evenings / "2017-08-21", tmp_path / "raw")
    path = raw / "promotions.csv"
    path.write_text(spoil(path.read_text()))
    refused = []
    for before in (evenings / "prepared", None):
        with pytest.raises(UserError, match=says) as error:
            prepare_folder(raw, tmp_path / "out", before=before)
        refused.append(str(error.value))
    assert refused[0] == refused[1]


def test_a_column_that_was_renamed_is_said(evenings, tmp_path):
    raw = shutil.copytree(evenings / "2017-08-21", tmp_path / "raw")
    plan = read_plan(raw).rename(columns={"onpromotion": "promoted"})
    plan.to_csv(raw / "promotions.csv", index=False)
    with pytest.raises(UserError, match="looks like onpromotion, renamed to promoted"):
        prepare_folder(raw, tmp_path / "out", before=evenings / "prepared")


def test_a_product_that_lost_its_name_is_refused(evenings, tmp_path):
    raw = shutil.copytree(evenings / "2017-08-21", tmp_path / "raw")
    items = pd.read_csv(raw / "items.csv", dtype=str)
    items[items["item_nbr"] != "101"].to_csv(raw / "items.csv", index=False)
    with pytest.raises(UserError, match="unknown reference"):
        prepare_folder(raw, tmp_path / "out", before=evenings / "prepared")
