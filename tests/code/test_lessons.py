"The notebooks' own lesson cells, one test a notebook."

import json, shutil
import pytest, warm
from copies import ROOT, environment
from test_notebooks import NOTEBOOKS, name

# Stage notebooks run in test_stage_runner.py, benchmarks in test_benchmarks.py; these two guides walk the roads of
# tests/pipeline and tests/delivery/test_tracking.py, for minutes.
ELSEWHERE = {"stages", "benchmarks", "02_your_first_change", "06_experiments"}
PAGES = {"forecast", "orders", "review", "monitor"}  # What they show is kept on record
# Whole pipelines, a month of nights, twenty of DVC's commands; tests/delivery/test_night.py, tests/monitoring and
# tests/data/test_versions.py hold in small what they show.
MINUTES = {
    "04_data_versions",
    "05_scale_out",
    "07_a_month_in_production",
    "11_another_domain",
    "12_suspicious_payments",
}
TINY = {"01_explore"}  # Shows a tiny panel where there is no other, which takes a tenth of the time
LESSONS = [path for path in NOTEBOOKS if not ELSEWHERE & {path.parent.name, path.stem}]


def run_lessons(path, timeout=600, **more):
    "Run a notebook's lesson cells in a process of their own."
    return warm.run(["lesson", str(path)], ROOT, environment(ROOT, MPLBACKEND="agg", **more), timeout=timeout)


def with_own_record(folder):
    "A folder that shows this project's model, and keeps what a page shows for itself."
    (folder / "reports").mkdir()
    for shown in ("params.yaml", "data", "reports/releases.jsonl"):
        (folder / shown).symlink_to(ROOT / shown)
    return folder


def of_a_tiny_one(folder):
    "A tiny project: of this one's data the page would look through hundreds of stores."
    from cd4ml_nb.tiny import tiny_project

    return shutil.copytree(tiny_project("split"), folder / "project")


def without_data(folder):
    "A folder without a run."
    (folder / "params.yaml").symlink_to(ROOT / "params.yaml")
    return folder


def needs_pipeline(path):
    "Guides show the project's own data."
    return path.parent.name == "guides" or path.name == "index.ipynb"


def marks_of(path):
    "A run for what shows the project's data; a proof where that takes minutes."
    longest = [pytest.mark.prove] if path.stem in MINUTES | TINY else []
    return [pytest.mark.pipeline, *longest] if needs_pipeline(path) else []


MARKED = [pytest.param(path, marks=marks_of(path), id=name(path)) for path in LESSONS]


@pytest.mark.parametrize("path", MARKED)
def test_the_lessons_hold(path, tmp_path):
    own = with_own_record if path.stem in PAGES else of_a_tiny_one if path.stem == "curate" else None
    own = {"CD4ML_ROOT": str(own(tmp_path))} if own else {}
    done = run_lessons(path, **own)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


@pytest.mark.parametrize("stem", sorted(TINY))
def test_a_guide_holds_on_a_tiny_panel(stem, tmp_path):
    done = run_lessons(ROOT / f"nbs/guides/{stem}.ipynb", CD4ML_ROOT=str(without_data(tmp_path)))
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


def test_a_lesson_that_does_not_hold_is_seen(tmp_path):
    notebook = json.loads((ROOT / "nbs/core.ipynb").read_text(encoding="utf-8"))
    notebook["cells"].append({**notebook["cells"][-1], "source": ["assert 1 + 1 == 3"]})
    (tmp_path / "core.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    assert run_lessons(tmp_path / "core.ipynb").returncode != 0


def test_there_are_lessons():
    assert len(LESSONS) > 40
