"The notebooks' own lesson cells, by nbdev_test: all of them, and not none."

import os, re, subprocess, sys
import pytest
from copies import ROOT, environment
from test_notebooks import NOTEBOOKS, name

ELSEWHERE = [
    "02_your_first_change",
    "06_experiments",
]  # walk the roads of tests/pipeline and tests/delivery/test_tracking.py, for minutes
LESSONS = [p for p in NOTEBOOKS if p.parent.name != "benchmarks" and p.stem not in ELSEWHERE]


@pytest.fixture(scope="module")
def tested():
    "One run over the whole folder, two notebooks at a time."
    return subprocess.run(
        [
            "nbdev_test",
            "--do_print",
            "--skip_file_re",
            rf"^[_.]|{'|'.join(ELSEWHERE)}",
            "--n_workers",
            str(min(2, os.cpu_count() or 1)),
        ],
        cwd=ROOT,
        env=environment(ROOT, MPLBACKEND="agg"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
    )


def test_the_lessons_hold(tested):
    assert tested.returncode == 0, tested.stderr[-6000:]


def test_every_notebook_was_run(tested):
    done = set(re.findall(r"- Completed (\S+\.ipynb)", tested.stdout))
    missed = [name(p) for p in LESSONS if str(p) not in done]
    assert done and not missed, f"nbdev_test ran {len(done)} notebooks, and missed {missed}"
