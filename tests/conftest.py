"What all tests share: a copy of the project, skips that are said aloud, and a record that no test writes to."

import gc, os, signal, sqlite3, sys, time
from contextlib import closing
import pytest
from copies import ROOT, copy_project
from warm import rarely_collect, unsynced

# A background job ignores Ctrl-C, and so would all that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test here takes the power away, and a night waits for its disk some fifty times.
os.fsync = unsynced


@pytest.fixture
def project(tmp_path):
    return copy_project(tmp_path / "project")


def pytest_collection_finish():
    "What was imported stays; to search it for garbage again and again took a tenth of the tests' time."
    rarely_collect()


def pytest_unconfigure():
    "Else DuckDB says at the end what it was not asked to let go of."
    gc.unfreeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    "Where time is limited, as in .ci/run, a test that would begin too late is left out."
    if time.time() > float(os.environ.get("BEGIN_UNTIL") or "inf"):
        pytest.skip("no time was left for it")


RECORD, BEGAN = ROOT / "production/events/events.db", time.time_ns() // 1_000


def refuse_own_record(event, given):
    "The project's own record of production is no place for what a test says."
    if event == "sqlite3.connect" and str(given[0]) == str(RECORD):  # readers name it as a URI
        raise RuntimeError(f"A test writes to {RECORD}; give it a project of its own.")


sys.addaudithook(refuse_own_record)


def came_on_record():
    "What programs that the tests started, or anybody else, put on the project's own record meanwhile."
    if not RECORD.is_file():
        return []
    with closing(sqlite3.connect(f"file:{RECORD}?mode=ro", uri=True)) as con:
        return con.execute("SELECT kind, model_version, inputs FROM events WHERE time >= ?", [BEGAN]).fetchall()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    "On a build server nobody else asks the project; elsewhere a dashboard may be open."
    if os.environ.get("CI") and not hasattr(session.config, "workerinput") and came_on_record():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    "A skipped test is said aloud, and so is what came on the project's own record."
    if came := came_on_record():
        some = "; ".join(f"{kind} of {model}: {asked[:200]}" for kind, model, asked in came[:3])
        said = (
            f"!! {len(came)} events came on the project's own record while the tests ran, by them or by others: {some}"
        )
        terminalreporter.write_line(said, red=True)
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.write_line(
            f"!! {len(skipped)} tests were SKIPPED on this machine; the reasons stand above.", red=True
        )
