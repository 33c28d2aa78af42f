"""Whatever became of a file that a night wrote: who reads it says which, what is wrong, and how to mend it."""

import shutil
import pandas as pd
import pytest
from cd4ml_nb.core import UserError
from cd4ml_nb.data import panel
from cd4ml_nb.data.panel import NewDays, read_as_one
from cd4ml_nb.delivery.registry import registry_folder
from cd4ml_nb.monitoring.actuals import OUTCOME_KINDS
from cd4ml_nb.monitoring.curation import each_usual
from cd4ml_nb.monitoring.inputs import FACTS, read_inputs
from cd4ml_nb.monitoring.judged import read_promise
from cd4ml_nb.monitoring.kept import DAYS, NUMBERS, TEXTS
from cd4ml_nb.monitoring.outputs import read_outputs
from cd4ml_nb.monitoring.performance import read_sums
from cd4ml_nb.monitoring.tried import read_arm
from cd4ml_nb.tiny import tiny_project

_SLICE, _SUMS = {"kind": TEXTS, "slice": TEXTS}, dict.fromkeys(["days", "week", "rows", "sold", "said"], NUMBERS)
_FACTS = dict.fromkeys([*FACTS, "seen"], NUMBERS)
READ = {  # Where a file stands, what it holds, and who reads it
    "production/outputs/2017-12-01-v1.parquet": (
        _SLICE | {"measure": TEXTS, "value": NUMBERS, "far": NUMBERS, "limit": NUMBERS},
        lambda root: read_outputs(root, "2017-12-01", "v1"),
    ),
    "production/inputs.parquet": (_SLICE | {"date": DAYS} | _FACTS, read_inputs),
    "production/performance/2017-12-01.parquet": (
        {"model_version": TEXTS, **_SLICE, "date": DAYS, **_SUMS, "weight": NUMBERS, "log": NUMBERS},
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


@pytest.mark.parametrize("name", READ)
def test_what_is_no_table_of_a_night_is_a_sentence(tmp_path, name):
    (tmp_path / "params.yaml").write_text("{}")
    kinds, read = READ[name]
    path = registry_folder(tmp_path) / "v1" / name if name == "promise.parquet" else tmp_path / name
    path.parent.mkdir(parents=True)
    table = pd.DataFrame({column: [_VALUE[kind]] for column, kind in kinds.items()})
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
