"""A package made before its format's code moved (November 2026) loads and says what it said then.

The folders in `packages` were packed by that version, of the tiny project; the files beside them hold its answers."""

import json, shutil
import numpy as np, pandas as pd, pytest
import pyarrow.parquet as pq
from cd4ml_nb.core import UserError
from cd4ml_nb.model.forecaster import load_forecaster
from copies import ROOT

PACKAGES = ROOT / "tests/model/packages"
NUMBERS = ("mean", "q10", "q50", "q90", "log_mean")


@pytest.mark.parametrize("estimator", ["gradient_boosting", "seasonal_naive"])
def test_an_old_package_answers_as_it_did(estimator):
    f, said = load_forecaster(PACKAGES / estimator), json.loads((PACKAGES / f"{estimator}.json").read_text())
    for asked, promotion in (("planned", None), ("what_if", True)):
        for item, store, day, numbers in said[asked]:
            answer, table = f.answer(item, store, day, promotion), f.forecast(item, store, day, promotion)
            assert [answer[name] for name in NUMBERS] == pytest.approx(numbers, rel=1e-6, abs=1e-9)
            assert table[list(NUMBERS)].iloc[0].tolist() == [answer[name] for name in NUMBERS]
    for item, total in said["totals"]:
        assert f.total(item) == pytest.approx(total, rel=1e-6)
    assert f.forecast()["mean"].sum() == pytest.approx(said["sum"], rel=1e-6)


def test_one_question_many_and_all_give_the_same(tmp_path):
    "The first question computes one series, the second all of them, `plan` all at once: no number moves."
    folder = PACKAGES / "gradient_boosting"
    planned = load_forecaster(folder)
    planned.plan()
    for store, item in planned.series.iloc[::4].itertuples(index=False):
        f = load_forecaster(folder)
        first, second = f.forecast(item, store), f.forecast(item, store)
        pd.testing.assert_frame_equal(first, second)
        pd.testing.assert_frame_equal(first, planned.forecast(item, store))
    pd.testing.assert_frame_equal(f.forecast(), planned.forecast())


def test_an_answer_that_is_changed_by_its_reader_is_not_changed_for_the_next():
    f = load_forecaster(PACKAGES / "gradient_boosting")
    store, item = f.series.iloc[0]
    before, found = f.answer(item, store, f.card["first_day"]), f.arrays(item, store)
    for name in NUMBERS:
        found[name][:] = -1
    found = f.arrays()
    for name in ("item_nbr", "store_nbr", *NUMBERS):
        found[name][:] = "x" if name.endswith("nbr") else -1
    assert f.answer(item, store, f.card["first_day"]) == before


def test_a_damaged_old_package_is_refused(tmp_path):
    folder = shutil.copytree(PACKAGES / "gradient_boosting", tmp_path / "model")
    (folder / "mean.onnx").write_bytes((folder / "log_mean.onnx").read_bytes())
    with pytest.raises(
        UserError, match="mean.onnx of the model in .* was changed after it was packaged.* dvc checkout"
    ):
        load_forecaster(folder)


def test_a_package_that_does_not_say_first_sales_goes_by_its_sales():
    "Where its last days show the first sale it is that one; what sold on the first of them is taken as known before."
    folder = PACKAGES / "gradient_boosting"
    f = load_forecaster(folder)
    assert "first_sale" not in pq.read_table(folder / "state.parquet").column_names
    age = f.origin - (f.block.sales > 0).argmax(axis=1)
    assert f.histories.tolist() == np.where(age < 56, "short", "full").tolist()
