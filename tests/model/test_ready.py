"What lies ready in a package is what its models say, is used as it is, and never beside other models or another state."

import json, shutil
import numpy as np, pandas as pd, pyarrow as pa, pyarrow.parquet as pq, pytest
from dataclasses import replace
from cd4ml_nb.core import UserError, sha256_of
from cd4ml_nb.model.forecaster import load_forecaster, make_ready
from cd4ml_nb.model.package import read_ready, read_state, seal, unseal, write_ready, write_state
from cd4ml_nb.model.shared import FOLDER
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
    f.forecast(promotion=True)
    f.ready, f._lifts = None, {}
    with pytest.raises(TypeError):
        f.forecast(promotion=True)


@pytest.mark.parametrize("promotion", [True, False])
def test_a_what_if_is_what_the_models_say(folder, promotion):
    ready, models = load_forecaster(folder), load_forecaster(folder)
    assert ready.ready.lifts and len({lift[0] for lift in ready.ready.lifts.values()}) > 1
    models.ready = None
    ready.plan()
    said, computed = ready.forecast(promotion=promotion), models.forecast(promotion=promotion)
    pd.testing.assert_frame_equal(said, computed, check_exact=True)
    assert not said["mean"].equals(ready.forecast()["mean"])


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


def test_what_is_held_together_says_the_same_and_never_stands_for_a_changed_package(folder, tmp_path, monkeypatch):
    own, together = planned(folder), tmp_path / "together"
    together.mkdir()
    monkeypatch.setenv(FOLDER, str(together))
    for _ in range(2):  # who lays it down, and who maps it
        pd.testing.assert_frame_equal(planned(folder), own, check_exact=True)
    (before,) = together.glob("*.arrow")
    state = (folder / "state.parquet").read_bytes()
    (folder / "state.parquet").write_bytes(state[:-1] + b"x")
    with pytest.raises(UserError, match="state.parquet of the model in .* was changed after it was packaged"):
        load_forecaster(folder)
    (folder / "state.parquet").write_bytes(state)
    other_state(folder)
    assert not planned(folder)["mean"].equals(own["mean"])
    assert [*together.glob("*.arrow")] != [before]


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


def test_the_gate_sees_ready_lifts_that_the_models_do_not_say(made, folder):
    from cd4ml_nb.model.training import load_fitted
    from cd4ml_nb.quality.equivalence import check_packaging, gather

    table = pq.read_table(folder / "ready.parquet")
    told = table.schema.metadata
    lifts = {item: [lift[0] * 1.01, *lift[1:]] for item, lift in json.loads(told[b"lifts"]).items()}
    table = table.replace_schema_metadata({**told, b"lifts": json.dumps(lifts)})
    pq.write_table(table, folder / "ready.parquet")
    reseal(folder)
    assert load_forecaster(folder).ready.lifts == lifts
    assert check_packaging(gather(made, folder, load_fitted(made)))["verdict"] == "failed"


def units(number):
    "Another mean of the first day of the first series."
    return lambda ready, _: ready.mean.__setitem__((0, 0), number)


def lift(told):
    "Other lifts of all products."
    return lambda ready, _: ready.lifts.update(dict.fromkeys(ready.lifts, told))


SENSELESS = {
    "no number": (units(np.nan), "units that are no numbers from 0 on"),
    "negative": (units(-1.0), "units that are no numbers from 0 on"),
    "infinite": (units(np.inf), "units that are no numbers from 0 on"),
    "lift of no number": (lift([float("nan"), 1.0, 0.5]), "lifts that are not above 0"),
    "negative lift": (lift([-1.5, 1.0, 0.5]), "lifts that are not above 0"),
    "lift of nothing": (lift([0.0, 1.0, 0.5]), "lifts that are not above 0"),
    "lift of text": (lift(["1.5", 1.0, 0.5]), "lifts that are not three numbers"),
    "two numbers": (lift([1.5, 1.0]), "lifts that are not three numbers"),
    "no numbers": (lift(None), "lifts that are not three numbers"),
    "beyond all series": (lambda ready, n: ready.rows.__setitem__(-1, n), "rows that are none of"),
    "negative row": (lambda ready, _: ready.rows.__setitem__(0, -1), "rows that are none of"),
    "row twice": (lambda ready, _: ready.rows.__setitem__(0, ready.rows[1]), "a row that stands twice"),
    "other days": (lambda ready, _: ready._replace(mean=ready.mean[:, 1:].copy()), "forecasts of shape"),
}


@pytest.mark.parametrize("change, says", SENSELESS.values(), ids=SENSELESS)
def test_what_makes_no_sense_is_refused_in_words(folder, change, says):
    "Somebody who makes a package by hand can seal nonsense, too."
    ready, n_series = read_ready(folder, unseal(folder)), len(load_forecaster(folder).pairs)
    ready = ready._replace(rows=ready.rows.copy(), mean=ready.mean.copy())
    changed = change(ready, n_series)
    write_ready(folder, changed if isinstance(changed, type(ready)) else ready)
    with pytest.raises(UserError, match=f"is refused: what lies ready in it makes no sense .{says}.*Restore it with"):
        load_forecaster(folder)


def settings(**wrong):
    "Other settings of serving."
    return lambda told: told["serving"].update(wrong)


def days(**wrong):
    "Other words on the card."
    return lambda told: told["card"].update(wrong)


NONSENSE = {
    "a level of nothing": (settings(levels={"": 0.0}), "levels is not factors above 0"),
    "a level of text": (settings(levels={"": "high"}), "levels is not factors above 0"),
    "levels in a list": (settings(levels=[1.0]), "its settings make no sense"),
    "a rate below 0": (settings(cold_start={"mean": -1.0, "log_mean": 0.0}), "cold_start is not two rates"),
    "a rate too few": (settings(cold_start={"mean": 1.0}), "it lacks 'log_mean'"),
    "an encoding of text": (settings(encoding={"family": "Dairy"}), "encoding is not lists of texts"),
    "no encoding": (lambda told: told["serving"].pop("encoding"), "it lacks 'encoding'"),
    "a link of text": (settings(log_link="yes"), "log_link is not true or false"),
    "a gap of text": (settings(fill="none"), "fill is not a number"),
    "a group without a model": (settings(per="family", groups={"Dairy": [0, 0]}, closed=[[]]), "whose model is not th"),
    "no intervals": (lambda told: told["serving"].pop("calibration"), "it lacks 'calibration'"),
    "a horizon of nothing": (days(horizon=0), "its horizon is no number of days"),
    "a horizon of text": (days(horizon="16"), "its horizon is no number of days"),
    "days that do not follow": (days(first_day="2030-01-01"), "its days are not those that follow"),
    "a day of no calendar": (days(forecast_origin="soon"), "its settings make no sense"),
    "days beyond the state": (
        days(horizon=900, last_day=str(np.datetime64("2017-08-27") + 900)),
        "it does not hold the days of the forecast",
    ),
}


@pytest.mark.parametrize("change, says", NONSENSE.values(), ids=NONSENSE)
def test_settings_that_make_no_sense_are_refused_in_words(folder, change, says):
    told = json.loads((folder / "forecaster.json").read_text())
    change(told)
    (folder / "forecaster.json").unlink()
    seal(folder, told["card"], told["serving"])
    with pytest.raises(UserError, match=f"is (refused|damaged): .*{says}.*Restore it with"):
        load_forecaster(folder)


def test_what_no_series_forecasts_is_units(folder):
    path = folder / "remainder.parquet"
    table = pq.read_table(path)
    wrong = pa.array(np.full(len(table), -1.0))
    pq.write_table(table.set_column(table.schema.get_field_index("mean"), "mean", wrong), path)
    reseal(folder)
    with pytest.raises(UserError, match="its state makes no sense .units that are no numbers from 0 on"):
        load_forecaster(folder)
