"`cd4ml stage` as a user meets it: what it refuses, and what it leaves behind when it cannot go on."

import json, os, signal, subprocess, sys
from pathlib import Path
import nbformat, pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from copies import environment, run
from waiting import wait_for

WRITE = """import time
from pathlib import Path
from cd4ml_nb.core import project_root, replace_file
while (project_root() / "hold").exists():
    time.sleep(seconds)
with replace_file(project_root() / 'data' / 'out.bin') as tmp: tmp.write_bytes(b'x' * kilobytes * 1000)"""


def small_project(root, kilobytes=1, tag="parameters"):
    "A project of one stage, which writes so many kilobytes once no file `hold` is there."
    nb = new_notebook(
        cells=[
            new_markdown_cell("# Write\n\n> Does it fit?"),
            new_code_cell("tiny = True\nkilobytes = 1\nseconds = 0.05"),
            new_code_cell(WRITE),
            new_code_cell("kilobytes"),
        ]
    )
    nb.cells[1].metadata["tags"] = [tag]
    nb.metadata["kernelspec"] = {"name": "python3", "display_name": "python3", "language": "python"}
    path = Path(root) / "nbs" / "stages" / "write.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, path)
    (Path(root) / "params.yaml").write_text(f"write:\n  kilobytes: {kilobytes}\n  seconds: 0.05\n")
    return Path(root)


def stage(root, *words):
    "Run `cd4ml stage` in another project; the library is this one's."
    from copies import ROOT

    return run(root, "cd4ml", "stage", *words, PYTHONPATH=str(ROOT))


def refused(done, *words):
    "It failed with a sentence that says all this, and no traceback."
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert "Traceback (most" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def leftovers(root):
    return [str(p) for p in Path(root).rglob("*") if p.name.endswith((".tmp", ".old"))]


def test_a_good_stage_is_quiet_and_leaves_its_report(tmp_path):
    root = small_project(tmp_path)
    done = stage(root, "write")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert [line.split(" ")[0] for line in done.stderr.splitlines()] == ["write", "write:"], done.stderr
    html = (root / "reports" / "write.html").read_text()
    assert all(
        word not in html + (root / "reports" / "write.ipynb").read_text()
        for word in ("Warning", "papermill", "IPKernelApp", "Traceback")
    )
    assert json.loads((root / "reports" / "run.json").read_text())["write"]["peak_memory_mb"] > 20


@pytest.mark.parametrize(
    "params, words",
    [
        ("write:\n  kilobyte: 1\n  seconds: 0\n", ["section 'write'", "lacks kilobytes", "unknown key kilobyte"]),
        ("write:\n  kilobytes: 1\n  seconds: 0\n  speed: 1\n", ["unknown key speed"]),
        ("rite:\n  kilobytes: 1\n", ["section 'write'", "lacks kilobytes, seconds"]),
        ("write: 3\n", ["section 'write'"]),
        ("write: [\n", ["not valid YAML"]),
        ("", ["should hold sections"]),
    ],
)
def test_misspelt_params_are_refused_before_anything_runs(tmp_path, params, words):
    root = small_project(tmp_path)
    (root / "params.yaml").write_text(params)
    refused(stage(root, "write"), *words)
    assert not (root / "data").exists() and not (root / "reports").exists()


def test_a_stage_without_its_tag_is_refused(tmp_path):
    root = small_project(tmp_path, tag="params")
    refused(stage(root, "write"), "no cells with the tag 'parameters'")
    assert not (root / "data").exists()


def test_unknown_stage_and_unknown_values_are_refused(tmp_path):
    root = small_project(tmp_path)
    refused(stage(root, "rite"), "no stage 'rite'; there are: write.")
    refused(stage(root, "write", "speed=1"), "unknown key speed")
    refused(stage(root, "write", "fast"), "should have the form name=value")


def test_unknown_estimator_is_refused(project):
    refused(
        run(project, "cd4ml", "stage", "backtest", "estimator=etz"),
        "no 'etz' in the section 'estimators'",
        "ets",
        "gradient_boosting",
    )
    refused(run(project, "cd4ml", "stage", "backtest"), "estimator=NAME")


def hold_stage(root):
    "Begin the stage in another process, and wait until it is at work; it goes on when the file `hold` is gone."
    from copies import ROOT

    (root / "hold").touch()
    words = {"cwd": root, "env": environment(root, PYTHONPATH=str(ROOT)), "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(["cd4ml", "stage", "write"], **words)
    wait_for((root / "reports/.lock.holder").exists, lambda: str(process.communicate()), process)
    return process, words


def test_a_second_run_waits_and_says_for_whom(tmp_path):
    root = small_project(tmp_path)
    first, words = hold_stage(root)
    second = subprocess.Popen(["cd4ml", "stage", "write"], **words)
    said = second.stderr.readline()
    (root / "hold").unlink()
    for process in (first, second):
        process.communicate(timeout=300)
    assert (first.returncode, second.returncode) == (0, 0)
    assert f"Waiting for: stage write (process {first.pid})" in said


KILLED = """
import os, signal, sys
from pathlib import Path
from cd4ml_nb import cli

file, moment, rename = sys.argv[1], sys.argv[2], os.replace

def rename_or_die(old, new):
    "Rename, and on the way end everything that belongs to this run: stage and kernel, as a power cut would."
    here = Path(new).name == file
    if here and moment == "before":
        os.killpg(0, signal.SIGKILL)
    rename(old, new)
    if here and moment == "after":
        os.killpg(0, signal.SIGKILL)

os.replace = rename_or_die  # the kernel is forked from this process, and has it too
cli.main(["stage", "write"])
"""

POINTS = [  # What is renamed last and when, how much data stand then, whether the report is the new one
    ("out.bin", "before", 1000),
    ("out.bin", "after", 2000),
    ("write.html", "before", 2000),
    ("write.html", "after", 2000),
    ("write.ipynb", "before", 2000),
    ("run.json", "before", 2000),
]
quick = {("out.bin", "before"), ("write.ipynb", "before")}


@pytest.mark.parametrize(
    "file, moment, size",
    [pytest.param(*point, marks=[] if point[:2] in quick else [pytest.mark.prove]) for point in POINTS],
)
def test_killed_at_a_write_and_run_again(tmp_path, file, moment, size):
    "SIGKILL at the very rename: each file is the old one or the new one, nobody is locked out, the next run ends well."
    from copies import ROOT

    root = small_project(tmp_path)
    assert stage(root, "write").returncode == 0
    kept = [root / "data" / "out.bin", root / "reports" / "write.html", root / "reports" / "write.ipynb"]
    before = {path: path.read_bytes() for path in kept}
    small_project(root, kilobytes=2)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, file, moment],
        cwd=root,
        env=environment(root, PYTHONPATH=str(ROOT)),
        capture_output=True,
        start_new_session=True,
        timeout=300,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (root / "data" / "out.bin").stat().st_size == size
    renamed = POINTS.index((file, moment, size)) > POINTS.index(("write.html", "before", 2000))
    assert (before[kept[1]] != kept[1].read_bytes()) == renamed
    assert before[kept[2]] == kept[2].read_bytes() or file == "run.json"
    assert stage(root, "write").returncode == 0
    assert (root / "data" / "out.bin").stat().st_size == 2000 and '"kilobytes": 2' in kept[2].read_text()


@pytest.fixture
def small_disk(tmp_path):
    "A project on a disk of two megabytes, or a loud skip."
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = (
        os.geteuid() == 0
        and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", disk], capture_output=True).returncode == 0
    )
    if not mounted:
        pytest.skip("needs root and mount: disk full and read-only disk are NOT tested here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_ends_with_a_sentence(small_disk):
    root = small_project(small_disk, kilobytes=100)
    assert stage(root, "write").returncode == 0
    before = {
        p: p.read_bytes()
        for p in root.rglob("*")
        if p.is_file() and p.relative_to(root).parts[0] in ("data", "reports") and not p.name.startswith(".lock")
    }
    small_project(root, kilobytes=5000)
    refused(stage(root, "write"), "the disk is full", "What was there before is untouched")
    assert all(p.read_bytes() == content for p, content in before.items()) and not leftovers(root)


def test_a_read_only_disk_ends_with_a_sentence(small_disk):
    root = small_project(small_disk, kilobytes=100)
    assert stage(root, "write").returncode == 0
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    refused(stage(root, "write"), "read-only")
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)


@pytest.mark.parametrize("name, size", [("ingest", "200k"), ("prepare", "2m")])
def test_the_first_stages_on_a_full_disk(tmp_path, name, size):
    "The first stages write the most: they, too, end with a sentence and without half a table."
    from copies import copy_project

    root = copy_project(tmp_path / "project")
    text = (root / "params.yaml").read_text().replace("source: complete_journey", "source: tiny")
    (root / "params.yaml").write_text(text.replace('until: "2017-11-30"', "until: null"))
    if name == "prepare":
        assert run(root, "cd4ml", "stage", "ingest").returncode == 0
    keep = root / "data"
    held = tmp_path / "held"
    keep.mkdir(exist_ok=True)
    keep.rename(held)
    keep.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", keep], capture_output=True).returncode
    ):
        pytest.skip("needs root and mount: disk full is NOT tested here")
    try:
        if (held / "raw").exists():
            subprocess.run(["cp", "-r", held / "raw", keep / "raw"], check=True)
        filled = keep / "filler"
        free = os.statvfs(keep).f_bavail * os.statvfs(keep).f_frsize
        filled.write_bytes(b"x" * max(0, free - 40_000))
        refused(run(root, "cd4ml", "stage", name), "full")
        assert not leftovers(root) and not (keep / "prepared").exists()
    finally:
        subprocess.run(["umount", "-l", keep], check=True)


def test_a_limit_on_the_size_of_files_ends_with_a_sentence(tmp_path):
    "As `ulimit -f` sets it, also where a disk's format or a quota does."
    from copies import ROOT

    root = small_project(tmp_path, kilobytes=100)
    assert stage(root, "write").returncode == 0
    small_project(root, kilobytes=900)
    limited = ["sh", "-c", "ulimit -f 1000; exec cd4ml stage write"]  # blocks of 512 bytes
    refused(run(root, *limited, PYTHONPATH=str(ROOT)), "a file would be larger than is allowed here")
    assert (root / "data/out.bin").stat().st_size == 100_000 and not leftovers(root)


def test_params_changed_in_the_middle_are_not_taken_for_those_that_ran(tmp_path):
    "DVC reads params.yaml again when a stage has ended: it would note down values that the stage never saw."
    root = small_project(tmp_path)
    process, _ = hold_stage(root)
    small_project(root, kilobytes=2)
    (root / "hold").unlink()
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 1 and "params.yaml was changed while the stage 'write' ran" in said, said


def test_whoever_has_just_taken_a_lock_is_named(tmp_path, capfd):
    "Its name comes a moment after the lock: a second one that asks in between waits for it."
    import fcntl
    from threading import Timer
    from cd4ml_nb.core import hold_lock

    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        holder = tmp_path / ".lock.holder"
        Timer(0.2, lambda: holder.write_text("the night of 2017-12-01 (process 269)")).start()
        Timer(1.0, lambda: fcntl.flock(lock, fcntl.LOCK_UN)).start()
        with hold_lock(tmp_path / ".lock", "another night"):
            assert "Waiting for: the night of 2017-12-01 (process 269) ..." in capfd.readouterr().err
