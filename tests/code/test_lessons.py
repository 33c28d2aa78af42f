"The notebooks' own lesson cells, one test a notebook."

import json, subprocess, sys
import pytest
from copies import ROOT, environment
from test_notebooks import NOTEBOOKS, name

# Stage notebooks run in tests/code/test_stage_runner.py, benchmarks in `make bench`; these two guides walk the roads of
# tests/pipeline and tests/delivery/test_tracking.py, for minutes.
ELSEWHERE = {"stages", "benchmarks", "02_your_first_change", "06_experiments"}
LESSONS = [path for path in NOTEBOOKS if not ELSEWHERE & {path.parent.name, path.stem}]

# nbdev_test itself leaves joblib's idle worker processes to be waited for, for five minutes; _exit does not wait.
RUN = """
import os, sys
from pathlib import Path
from nbdev.test import test_nb
passed, seconds = test_nb(Path(sys.argv[1]), do_print=False)
sys.stdout.flush(), sys.stderr.flush()
os._exit(0 if passed else 1)
"""


def run_lessons(path):
    "Run a notebook's lesson cells in a process of their own."
    command = [sys.executable, "-c", RUN, str(path)]
    env = environment(ROOT, MPLBACKEND="agg")
    return subprocess.run(
        command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
    )


def needs_pipeline(path):
    "Guides show the project's own data."
    return path.parent.name == "guides" or path.name == "index.ipynb"


MARKED = [
    pytest.param(path, marks=[pytest.mark.pipeline] if needs_pipeline(path) else [], id=name(path)) for path in LESSONS
]


@pytest.mark.parametrize("path", MARKED)
def test_the_lessons_hold(path):
    done = run_lessons(path)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


def test_a_lesson_that_does_not_hold_is_seen(tmp_path):
    notebook = json.loads((ROOT / "nbs/core.ipynb").read_text(encoding="utf-8"))
    notebook["cells"].append({**notebook["cells"][-1], "source": ["assert 1 + 1 == 3"]})
    (tmp_path / "core.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    assert run_lessons(tmp_path / "core.ipynb").returncode != 0


def test_there_are_lessons():
    assert len(LESSONS) > 40
