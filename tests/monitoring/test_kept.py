"""Whatever became of a file that a night wrote: who reads it says which, what is wrong, and how to mend it."""

import json
import shutil
from dataclasses import asdict
import pandas as pd
import pytest
from cd4ml_nb.core import UserError
from cd4ml_nb.data import panel
from cd4ml_nb.data.panel import NewDays, read_as_one
from cd4ml_nb.delivery.changed import changed_of
from cd4ml_nb.delivery.registry import registry_folder
from cd4ml_nb.delivery.taught import find_learning
from cd4ml_nb.monitoring.actuals import OUTCOME_KINDS
from cd4ml_nb.monitoring.curation import each_usual
from cd4ml_nb.monitoring.alerts import alerts_of
from cd4ml_nb.monitoring.causes import STORE, TOLD, Drift
from cd4ml_nb.monitoring.drifted import DRIFT, read_drift, say_drift
from cd4ml_nb.monitoring.inputs import FACTS, read_inputs
from cd4ml_nb.monitoring.judged import read_promise
from cd4ml_nb.monitoring.kept import DAYS, NUMBERS, TEXTS
from cd4ml_nb.monitoring.outputs import read_outputs
from cd4ml_nb.monitoring.performance import read_sums
from cd4ml_nb.monitoring.tried import read_arm
from cd4ml_nb.serving.events import Event
from cd4ml_nb.quality.promise import ALL_STORES, HELD, SUMS
from cd4ml_nb.tiny import tiny_project

_SLICE, _SUMS = {"kind": TEXTS, "slice": TEXTS}, dict.fromkeys(["days", "week", *SUMS, HELD], NUMBERS)
_FACTS = dict.fromkeys([*FACTS, "seen"], NUMBERS)
READ = {  # Where a file stands, what it holds, and who reads it
    "production/outputs/2017-12-01-v1.parquet": (
        _SLICE | {"measure": TEXTS, "value": NUMBERS, "far": NUMBERS, "limit": NUMBERS},
        lambda root: read_outputs(root, "2017-12-01", "v1"),
    ),
    "production/inputs.parquet": (_SLICE | {"date": DAYS} | _FACTS, read_inputs),
    "production/performance/2017-12-01.parquet": (
        {"model_version": TEXTS, **_SLICE, "date": DAYS, **_SUMS},
        read_sums,
    ),
    "promise.parquet": (
        _SLICE | {"date": DAYS, "forecast_origin": TEXTS} | _SUMS,
        lambda root: read_promise(root, "v1"),
    ),
    "production/outcomes/2017-12-01.parquet": (
        OUTCOME_KINDS,
        lambda root: read_arm(root / "production/outcomes", "v1"),
    ),
}
_VALUE = {TEXTS: "1", NUMBERS: 1.0, DAYS: pd.Timestamp("2017-12-01")}
DAMAGE = {
    "cut off": lambda path, table: path.write_bytes(path.read_bytes()[:-9]),
    "empty": lambda path, table: path.write_bytes(b""),
    "text": lambda path, table: path.write_text("date,units\n2017-12-01,7\n"),
    "a folder": lambda path, table: (path.unlink(), path.mkdir()),
    "foreign": lambda path, table: pd.DataFrame({"a": [1]}).to_parquet(path),
    "without a column": lambda path, table: table.drop(columns=table.columns[1]).to_parquet(path),
    "another type": lambda path, table: table.assign(**{table.columns[-1]: [["x"]]}).to_parquet(path),
    "numbers for texts": lambda path, table: table.assign(**{table.columns[0]: 7}).to_parquet(path),
}


def laid(root, name):
    "Where a file stands, what it holds, column by column, and who reads it."
    (root / "params.yaml").write_text("{}")
    kinds, read = READ[name]
    path = registry_folder(root) / "v1" / name if name == "promise.parquet" else root / name
    path.parent.mkdir(parents=True)
    return path, pd.DataFrame({column: [_VALUE[kind]] for column, kind in kinds.items()}), kinds, read


@pytest.mark.parametrize("name", READ)
def test_what_is_no_table_of_a_night_is_a_sentence(tmp_path, name):
    path, table, kinds, read = laid(tmp_path, name)
    table.to_parquet(path)
    assert read(tmp_path) is not None
    for damage, make in DAMAGE.items():
        make(path, table)
        with pytest.raises(UserError) as told:
            read(tmp_path)
        said = str(told.value)
        assert said.startswith(f"{path} cannot be read: ") and said.count("\n") == 0, damage
        assert "Remove it: " in said or "Bring it back" in said, damage
        if path.is_dir():
            path.rmdir()
        table.to_parquet(path)


def test_a_night_that_goes_live_in_the_middle_is_read_as_one(tmp_path, monkeypatch):
    root = tmp_path / "project"
    shutil.copytree(tiny_project("split"), root, symlinks=True)
    prepared, new, old = (root / "data" / name for name in ("prepared", "tonight", "prepared.old"))
    shutil.copytree(prepared.resolve(), new)
    wanted = list(each_usual(new))
    shutil.copytree(new, old)
    calendar = pd.read_parquet(old / "calendar.parquet")  # that of the day before, whose rows it does not know
    calendar[calendar["date"] < calendar["date"].max()].to_parquet(old / "calendar.parquet")
    with pytest.raises(UserError, match="after the last one of the calendar"):
        list(each_usual(old))
    shutil.rmtree(prepared)
    old.rename(prepared)
    read, nights = panel.read_store, iter([new])

    def at_night(*about, **more):
        if night := next(nights, None):
            shutil.rmtree(prepared)
            night.rename(prepared)
        return read(*about, **more)

    monkeypatch.setattr(panel, "read_store", at_night)
    found = read_as_one(prepared, lambda: list(each_usual(prepared)))
    assert [one.days[-1] for one in found] == [one.days[-1] for one in wanted] and found
    nights = iter([shutil.copytree(prepared, new)])
    with pytest.raises(NewDays, match="Run it again"):
        list(each_usual(prepared))


CELLS = {  # A cell that is empty, and should not be
    "outputs/2017-12-01-v1": "value",
    "performance/2017-12-01": "sold",
    "promise": "date",
}


@pytest.mark.parametrize("name", [name for name in READ if name.removeprefix("production/")[:-8] in CELLS])
def test_an_empty_or_infinite_cell_is_no_number(tmp_path, name):
    path, table, kinds, read = laid(tmp_path, name)
    column = CELLS[name.removeprefix("production/")[:-8]]
    for value, says in ((None, f"its column '{column}' is empty in 1 row"), (float("inf"), "that is infinite")):
        which = column if value is None else next(one for one, kind in kinds.items() if kind == NUMBERS)
        table.assign(**{which: pd.Series([value], dtype=table[which].dtype)}).to_parquet(path)
        with pytest.raises(UserError, match=says):
            read(tmp_path)


_KEYED = {"inputs": 3, "outputs": 3, "performance": 6, "promise": 6}  # How many columns tell a row from all others


@pytest.mark.parametrize("name", [name for name in READ if "outcomes" not in name])
def test_no_key_stands_twice_and_no_column_is_gone(tmp_path, name):
    path, table, kinds, read = laid(tmp_path, name)
    table = table.assign(kind=ALL_STORES)
    for column in kinds:
        table.drop(columns=column).to_parquet(path)
        with pytest.raises(UserError, match=f"lacks the column '{column}'"):
            read(tmp_path)
    pd.concat([table, table]).to_parquet(path)
    with pytest.raises(UserError, match=r"1 row stands in it twice \(.*slice 1") as told:
        read(tmp_path)
    parts = str(told.value).split("twice (")[1].split(")")[0].split(", ")
    assert len(parts) == next(many for which, many in _KEYED.items() if which in name)
    if HELD in kinds:  # a model's first nights have no sums over all stores
        table.assign(kind="all").drop(columns=HELD).to_parquet(path)
        assert len(read(tmp_path)) == 1


def test_a_record_of_drift_is_asked_for_each_field(tmp_path):
    (tmp_path / "params.yaml").write_text("{}")
    path = tmp_path / DRIFT / "2017-12-01.json"
    path.parent.mkdir(parents=True)
    said = {"state": TOLD, "day": path.stem, "found": [], "off": []}
    whole = said | {"judged": [], "model_version": "v1", "response": "", "over": []}
    for earlier in (said, whole):
        path.write_text(json.dumps(earlier))
        assert read_drift(tmp_path).state == TOLD
    for name in whole:
        damaged = [whole | {name: 7}] + [{key: one for key, one in whole.items() if key != name}] * (name != "over")
        for one in damaged:
            path.write_text(json.dumps(one))
            assert f"{path.name}, is damaged (its field '{name}' " in say_drift(read_drift(tmp_path))
    path.write_text(json.dumps({key: one for key, one in whole.items() if key != "over"} | {"made": 2}))
    assert "its field 'over' is missing" in say_drift(read_drift(tmp_path)), "no record of an earlier version says so"
    find = asdict(Drift(STORE, "level", "store", ("7",), "2017-12-01", "Store 7."))
    path.write_text(json.dumps(whole | {"found": [find]}))
    assert read_drift(tmp_path).state == TOLD
    for name, wrong in {"times": "zwölf", "since": "zwölf", "slices": [], "says": 7, "stores": [7]}.items():
        path.write_text(json.dumps(whole | {"found": [find | {name: wrong}]}))
        assert "is damaged (a find in it is none)" in say_drift(read_drift(tmp_path)), name


@pytest.mark.parametrize("name, read", [("changed", changed_of), ("learning", lambda root, day: find_learning(root))])
def test_what_a_night_kept_in_a_small_file_is_not_taken_for_nothing(tmp_path, name, read):
    (tmp_path / "params.yaml").write_text("{}")
    path = tmp_path / f"production/{name}.json"
    path.parent.mkdir()
    assert not read(tmp_path, "2017-12-01")
    for damage in ("", "[]", "{}", '{"day": 7, "says": ""}', '{"day": "2017-12-01"}'):
        path.write_text(damage)
        with pytest.raises(UserError, match=f"{name}.json is (damaged|not what)"):
            read(tmp_path, "2017-12-01")


def test_an_alert_that_somebody_wrote_otherwise_is_a_sentence():
    said = {"act": "opened", "says": "Store 7.", "level": "warning", "since": "2017-12-01"}
    assert alerts_of([Event("alert", {"of": "drift"}, said)])[0].says == "Store 7."
    for name, wrong in {"says": 7, "level": None, "since": "zwölf", "members": [7], "act": []}.items():
        with pytest.raises(UserError, match="cannot be read"):
            alerts_of([Event("alert", {"of": "drift"}, said | {name: wrong})])
