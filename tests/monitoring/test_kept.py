"""Whatever became of a file that a night wrote: who reads it says which, what is wrong, and how to mend it."""

import pandas as pd
import pytest
from cd4ml_nb.core import UserError
from cd4ml_nb.delivery.registry import registry_folder
from cd4ml_nb.monitoring.actuals import OUTCOME_KINDS
from cd4ml_nb.monitoring.inputs import FACTS, read_inputs
from cd4ml_nb.monitoring.judged import read_promise
from cd4ml_nb.monitoring.kept import DAYS, NUMBERS, TEXTS
from cd4ml_nb.monitoring.outputs import read_outputs
from cd4ml_nb.monitoring.performance import read_sums
from cd4ml_nb.monitoring.tried import read_arm

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
