"What all tests share: a copy of the project, and skips that are said aloud."

import signal
import pytest
from copies import copy_project

# A background job ignores Ctrl-C, and so would all that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def project(tmp_path):
    return copy_project(tmp_path / "project")


def pytest_terminal_summary(terminalreporter):
    "A skipped test is said aloud."
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.write_line(
            f"!! {len(skipped)} tests were SKIPPED on this machine; the reasons stand above.", red=True
        )
