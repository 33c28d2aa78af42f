"What train leaves is the same on every run; what is put in its place is not run, by no stage and not by the gate."

import json, pickle
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
import pytest
from cd4ml_nb.core import UserError, read_json, read_params, write_json
from cd4ml_nb.delivery.gate import judge_model
from cd4ml_nb.delivery.package import package
from cd4ml_nb.model import training
from cd4ml_nb.model.training import load_fitted, train
from cd4ml_nb.tiny import tiny_project


class Trap:
    "Leaves a file when it is unpickled."

    def __init__(self, caught):
        self.caught = caught

    def __reduce__(self):
        return Path.touch, (self.caught,)


@pytest.fixture
def root():
    return tiny_project("package")


def fit(root, estimator="gradient_boosting"):
    params = read_params(root=root)
    with redirect_stderr(StringIO()):
        train(root, estimator, params["estimators"][estimator], params["training_rows"])
    return {path.name: path.read_bytes() for path in (root / "data/fitted").iterdir()}


def test_the_same_data_leave_the_same_bytes(root):
    assert fit(root) == fit(root)
    assert set(fit(root)) == {"estimator.skops", "fitted.json"}


def test_what_the_backtest_fitted_is_taken_over_if_it_learnt_from_the_same(root):
    "A second fit would be the same to the byte; after other parameters, rows or data it would not."
    kept = root / "data/evaluation/gradient_boosting"
    taken, learnt = fit(root), read_json(kept / "learnt.json")
    for part in ("parameters", "training_rows", "data_version", "trained_to"):
        (kept / "estimator.skops").write_bytes(b"of others")
        write_json(kept / "learnt.json", {**learnt, part: "other"})
        assert fit(root) == taken, part
    write_json(kept / "learnt.json", learnt)
    assert fit(root)["estimator.skops"] == b"of others", "it was not looked at"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_library", lambda: "of tomorrow")
        assert fit(root) == taken, "the library"
    for name in ("estimator.skops", "learnt.json"):  # the free rule's shares stay: they come from the windows
        (kept / name).unlink()
    assert fit(root) == taken


@pytest.mark.parametrize("name", ["estimator.skops", "estimator.joblib"])
def test_a_swapped_estimator_is_not_run(root, tmp_path, name):
    "As from a remote that somebody else can write to; under today's name and under that of older versions."
    caught = tmp_path / "caught"
    (root / "data/fitted/estimator.skops").unlink()
    (root / "data/fitted" / name).write_bytes(pickle.dumps(Trap(caught)))
    for ask in (load_fitted, package):
        with pytest.raises(UserError, match="estimator.skops"), redirect_stderr(StringIO()):
            ask(root)
    assert not caught.exists()
    pickle.loads(pickle.dumps(Trap(caught)))
    assert caught.exists(), "the trap works where a pickle is read"


def test_the_gate_fails_on_a_swapped_estimator_and_does_not_run_it(tmp_path):
    root, caught = tiny_project("gate"), tmp_path / "caught"
    (root / "data/fitted/estimator.skops").write_bytes(pickle.dumps(Trap(caught)))
    with redirect_stderr(StringIO()):
        found = judge_model(root, "gradient_boosting", **read_params("gate", root))
    says = [check["says"] for check in found["checks"] if check["verdict"] == "failed"]
    assert not found["passed"] and any("dvc repro --force train" in said for said in says), says
    assert not caught.exists()


def test_a_changed_number_is_found_by_the_gate_and_not_by_chance(root):
    "An estimator that was exchanged for another real one does not answer as the package does."
    with redirect_stderr(StringIO()):
        package(root)
    sealed = json.loads((root / "data/model/forecaster.json").read_text())
    fit(root, "decision_tree")
    from cd4ml_nb.quality.equivalence import check_packaging, gather

    both = gather(root, root / "data/model", load_fitted(root))
    assert sealed["card"]["estimator"] == "gradient_boosting"
    assert check_packaging(both)["verdict"] == "failed"
