"What all tests share: a copy of the project, and skips that are said aloud."

import os, signal, time
import pytest
from copies import copy_project

# A background job ignores Ctrl-C, and so would all that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def project(tmp_path):
    return copy_project(tmp_path / "project")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    "Where time is limited, as in .ci/run, a test that would begin too late is left out."
    if time.time() > float(os.environ.get("BEGIN_UNTIL") or "inf"):
        pytest.skip("no time was left for it")


def pytest_terminal_summary(terminalreporter):
    "A skipped test is said aloud."
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.write_line(
            f"!! {len(skipped)} tests were SKIPPED on this machine; the reasons stand above.", red=True
        )
