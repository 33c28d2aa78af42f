"dvc.yaml says what each stage depends on: compared with what the notebooks import and are given."

import sys
import pytest, yaml
from copies import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from dependencies import library_of
from cd4ml_nb.delivery.parameters import SHARED, STAGES, notebook_parameters

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())


def listed(stage, key):
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in PIPELINE[stage].get(key, [])]


def test_the_stages_are_those_of_the_runner():
    assert list(PIPELINE) == list(STAGES)


@pytest.mark.parametrize("stage", PIPELINE)
def test_a_stage_depends_on_its_notebook_and_the_library_behind_it(stage):
    deps = set(listed(stage, "deps"))
    assert f"nbs/stages/{stage}.ipynb" in deps
    assert {d for d in deps if d.startswith("cd4ml_nb/")} == set(library_of(stage)), (
        f"dvc.yaml, deps of {stage}: its library files should be {library_of(stage)}. Run: make tidy"
    )


@pytest.mark.parametrize("stage", PIPELINE)
def test_a_stage_never_depends_on_a_report(stage):
    assert not [d for d in listed(stage, "deps") if d.endswith((".html", ".ipynb")) and d.startswith("reports/")]


@pytest.mark.parametrize("stage", PIPELINE)
def test_every_value_that_a_stage_is_given_is_tracked(stage):
    tracked = {p.replace("${item.", "{").replace("${train.", "{") for p in PIPELINE[stage]["params"]}
    needed = ({stage} if PARAMS.get(stage) else set()) | set(SHARED.get(stage, {}).values())
    missing = {n for n in needed if n not in tracked and n.split(".")[0] not in tracked}
    assert not missing, f"dvc.yaml, params of {stage}: {sorted(missing)} reach the notebook but are not tracked"


@pytest.mark.parametrize("stage", PIPELINE)
def test_outputs_outlive_a_failed_run(stage):
    for key in ("outs", "metrics", "plots"):
        for entry in PIPELINE[stage].get(key, []):
            assert isinstance(entry, dict) and next(iter(entry.values())).get("persist") is True, (
                f"dvc.yaml, {stage}: {entry} should be persist: true"
            )


def test_every_estimator_is_back_tested():
    names = PIPELINE["backtest"]["matrix"]["estimator"]
    assert sorted(names) == sorted(PARAMS["estimators"]), (
        "params.yaml (estimators) and dvc.yaml (matrix of backtest) should name the same"
    )
    assert {f"data/evaluation/{name}.parquet" for name in names} <= set(listed("evaluate", "deps"))


@pytest.mark.parametrize("stage", PIPELINE)
def test_params_yaml_fits_the_notebook(stage):
    from cd4ml_nb.delivery.parameters import check_values, stage_values

    for given in [{"estimator": name} for name in PARAMS["estimators"]] if stage == "backtest" else [{}]:
        check_values(
            stage, stage_values(stage, PARAMS, **given), notebook_parameters(ROOT / "nbs" / "stages" / f"{stage}.ipynb")
        )
