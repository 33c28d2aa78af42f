"dvc.yaml says what each stage depends on: compared with what the notebooks import and are given."

import ast, json
import pytest, yaml
from copies import ROOT
from cd4ml_nb.delivery.stages import SHARED, STAGES, notebook_parameters

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
RUNNER = "cd4ml_nb/delivery/stages.py"  # runs the notebook; decides nothing about its result


def modules_in(source):
    "Files of this library that a piece of code imports."
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("cd4ml_nb"):
            continue
        path = node.module.replace(".", "/")
        found |= (
            {f"{path}.py"} if (ROOT / f"{path}.py").exists() else {f"{path}/{alias.name}.py" for alias in node.names}
        )
    return found


def absolute(path):
    "A library file's source with its relative imports made absolute."
    tree, package = ast.parse((ROOT / path).read_text()), path.split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            node.module, node.level = (
                ".".join(package[: len(package) - node.level + 1] + ([node.module] if node.module else [])),
                0,
            )
    return ast.unparse(tree)


def library_of(stage):
    "Every library file that a stage notebook imports, directly or through another."
    cells = json.loads((ROOT / "nbs" / "stages" / f"{stage}.ipynb").read_text())["cells"]
    todo, seen = (
        modules_in("\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")) - {RUNNER},
        set(),
    )
    while todo:
        path = todo.pop()
        seen.add(path)
        todo |= modules_in(absolute(path)) - seen - {RUNNER}
    return seen


def listed(stage, key):
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in PIPELINE[stage].get(key, [])]


def test_the_stages_are_those_of_the_runner():
    assert list(PIPELINE) == list(STAGES)


@pytest.mark.parametrize("stage", PIPELINE)
def test_a_stage_depends_on_its_notebook_and_the_library_behind_it(stage):
    deps = set(listed(stage, "deps"))
    assert f"nbs/stages/{stage}.ipynb" in deps
    assert {d for d in deps if d.startswith("cd4ml_nb/")} == library_of(stage), (
        f"dvc.yaml, deps of {stage}: its library files should be {sorted(library_of(stage))}"
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
    from cd4ml_nb.delivery.stages import check_values, stage_values

    for given in [{"estimator": name} for name in PARAMS["estimators"]] if stage == "backtest" else [{}]:
        check_values(
            stage, stage_values(stage, PARAMS, **given), notebook_parameters(ROOT / "nbs" / "stages" / f"{stage}.ipynb")
        )
