"What lies ready in a package is what its models say, is used as it is, and never beside other models or another state."

import json, shutil
import numpy as np, pandas as pd, pyarrow as pa, pyarrow.parquet as pq, pytest
from dataclasses import replace
from cd4ml_nb.core import sha256_of
from cd4ml_nb.model.forecaster import load_forecaster, make_ready
from cd4ml_nb.model.package import read_state, seal, write_state
from cd4ml_nb.tiny import tiny_project


@pytest.fixture(scope="module")
def made():
    return tiny_project("gate")


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made / "data/model", tmp_path / "model")


def reseal(folder, **serving):
    told = json.loads((folder / "forecaster.json").read_text())
    (folder / "forecaster.json").unlink()
    seal(folder, told["card"], told["serving"] | serving)


def planned(folder):
    "Everything, from what lies ready where that is taken."
    f = load_forecaster(folder)
    f.plan()
    return f.forecast()


def computed(folder):
    f = load_forecaster(folder)
    f.ready = None
    return f.forecast()


def test_a_package_holds_what_its_models_say(folder):
    f = load_forecaster(folder)
    assert f.ready[0].tolist() == np.flatnonzero(f.offered).tolist()
    pd.testing.assert_frame_equal(planned(folder), computed(folder), check_exact=True)


def test_what_lies_ready_is_not_computed(folder, monkeypatch):
    f = load_forecaster(folder)
    monkeypatch.setattr(f.models, "on_block", None)
    f.plan()
    f.forecast()
    with pytest.raises(TypeError):
        f.forecast(promotion=True)  # a what-if asks the models


def other_state(folder):
    block = read_state(folder / "state.parquet")
    write_state(folder / "state.parquet", replace(block, sales=block.sales * np.float32(3)))
    reseal(folder)


def other_models(folder):
    shutil.copy(folder / "log_mean.onnx", folder / "mean.onnx")
    reseal(folder)


def other_settings(folder):
    reseal(folder, levels={"": 2.0})


@pytest.mark.parametrize("change", [other_state, other_models, other_settings])
def test_of_others_it_is_not_taken(folder, change):
    before = planned(folder)
    change(folder)
    assert (folder / "ready.parquet").exists() and load_forecaster(folder).ready is None
    pd.testing.assert_frame_equal(planned(folder), computed(folder), check_exact=True)
    assert not planned(folder)["mean"].equals(before["mean"])
    make_ready(folder)
    assert load_forecaster(folder).ready is not None
    pd.testing.assert_frame_equal(planned(folder), computed(folder), check_exact=True)


def test_made_twice_it_is_the_same(folder):
    before, version = sha256_of(folder / "ready.parquet"), load_forecaster(folder).card["model_version"]
    make_ready(folder)
    assert sha256_of(folder / "ready.parquet") == before
    assert load_forecaster(folder).card["model_version"] == version


def test_the_gate_sees_ready_numbers_that_the_models_do_not_say(made, folder):
    from cd4ml_nb.model.training import load_fitted
    from cd4ml_nb.quality.equivalence import check_packaging, gather

    fitted = load_fitted(made)
    assert check_packaging(gather(made, folder, fitted))["verdict"] == "passed"
    table = pq.read_table(folder / "ready.parquet")
    more = np.frombuffer(table["mean"].combine_chunks().buffers()[1]) * 1.01
    column = pa.FixedSizeBinaryArray.from_buffers(table["mean"].type, len(table), [None, pa.py_buffer(more)])
    place = table.column_names.index("mean")
    pq.write_table(table.set_column(place, "mean", column), folder / "ready.parquet")
    reseal(folder)
    assert load_forecaster(folder).ready is not None
    assert check_packaging(gather(made, folder, fitted))["verdict"] == "failed"
