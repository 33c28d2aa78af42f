"Releases: killed writers, two at once, changed logs and packages, real processes, a real MLflow store."

import hashlib, json, multiprocessing, os, shutil, signal, sqlite3, subprocess, sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import partial
from io import StringIO
from unittest import mock
import pytest
from copies import ROOT, environment, run
from cd4ml_nb import core
from cd4ml_nb.cli.__init__ import main
from cd4ml_nb.core import UserError
from cd4ml_nb.delivery import acts, ledger, registry, release
from cd4ml_nb.delivery.acts import read_log
from cd4ml_nb.delivery.ledger import digest as ledger_digest
from cd4ml_nb.delivery.mlflow_store import MODEL_NAME, open_store
from cd4ml_nb.delivery.registry import champion_folder, new_version
from cd4ml_nb.delivery.release import status_in_words, verify
from cd4ml_nb.delivery.state import state
from cd4ml_nb.monitoring.tried_shown import say_spell, tell_tried, tried_ever
from cd4ml_nb.serving.live import load_champion

NO_MLFLOW = release.Outside(probe=lambda root: None, mirror=lambda root, names: None)
approve, auto, promote, reject, retire, rollback = (
    partial(act, outside=NO_MLFLOW)
    for act in (release.approve, release.auto, release.promote, release.reject, release.retire, release.rollback)
)


def version(root, name, champion=None, passed=True, releasable=True, day=1, package=None, number=None):
    "Register a version of a few bytes, or of a real package."
    with new_version(root, name) as folder:
        if package:
            shutil.copytree(package, folder / "package")
        else:
            (folder / "package").mkdir()
            (folder / "package/mean.onnx").write_text(name)
            (folder / "package/forecaster.json").write_text(
                json.dumps(
                    {"card": {"model_version": name}, "files": {"mean.onnx": hashlib.sha256(name.encode()).hexdigest()}}
                )
            )
        checks = [
            {
                "check": "absolute",
                "title": "Good enough",
                "says": "NWRMSLE is 0.91, at most 0.80 is allowed.",
                "value": 0.91,
                "limit": 0.8,
                "verdict": "passed" if passed else "failed",
            }
        ]
        (folder / "gate.json").write_text(
            json.dumps({"passed": passed, "model_version": name, "champion": champion, "checks": checks})
        )
        (folder / "registration.json").write_text(
            json.dumps(
                {
                    "data_version": "d1",
                    "git_revision": "abc",
                    "gate_passed": passed,
                    "releasable": releasable,
                    "why_not": "" if releasable else "it is a DVC experiment",
                    "registered_at": f"2026-11-{day:02}T10:00:00+00:00",
                    "mlflow_version": number,
                }
            )
        )


def live(root, name, **more):
    "Register, approve and promote."
    champion = (state(root)["champion"] or {}).get("model_version")
    version(root, name, champion, **more)
    approve(root, name, "Ana", f"{name} is good")
    promote(root, name, by="Ana", reason=f"{name} is good")


@pytest.fixture(scope="module")
def whole_shop(tmp_path_factory):
    "trees-1 was live, trees-2 is, trees-3 is approved: five lines of log. Nothing writes to it."
    root = tmp_path_factory.mktemp("whole") / "shop"
    live(root, "trees-1", day=1)
    live(root, "trees-2", day=2)
    version(root, "trees-3", "trees-2", day=3)
    approve(root, "trees-3", "Ben", "better on fresh food")
    return root


@pytest.fixture
def shop(whole_shop, tmp_path):
    "A copy of it, to break: made at once, where each act waits for the disk."
    return shutil.copytree(whole_shop, tmp_path / "shop", symlinks=True)


def log(root):
    return root / acts.LOG


def refused(root, act, *said):
    "The act is refused with these words and leaves log and champion as they were."
    before, names = (
        log(root).read_bytes() if log(root).exists() else None,
        sorted(p.name for p in (root / "data").rglob("*")),
    )
    with pytest.raises(UserError) as e:
        act()
    for words in said:
        assert words in str(e.value), str(e.value)
    assert (log(root).read_bytes() if log(root).exists() else None) == before
    assert set(p.name for p in (root / "data").rglob("*")) - set(names) <= {".lock"}


# ---------------------------------------------------------------- killed at every moment
FILES = {module.__file__ for module in (core, acts, ledger, registry, release)}
COMMIT = ("append", "_write_line", "_write_head", "sync", "replace_file")  # around the moment at which an act happens


def register_again(root):
    "What the pipeline does when the live model was judged once more."
    with new_version(root, "trees-2") as folder:
        shutil.copytree(root / "data/registry/trees-2/package", folder / "package")
        gate = {"passed": True, "model_version": "trees-2", "champion": "trees-2"}
        (folder / "gate.json").write_text(json.dumps(gate))
        (folder / "review.html").write_text("new")
        (folder / "registration.json").write_text('{"gate_passed": true, "releasable": true}')


ACTS = {
    "promote": lambda root: promote(root, "trees-3", by="Ben", reason="killed"),
    "rollback": lambda root: rollback(root, "Ben", "killed"),
    "register": register_again,
}


def traced(do, root, stop=0):
    "Run an act line by line and die before line number `stop`; returns the function of each line."
    moments = []

    def tracer(frame, event, _):
        if frame.f_code.co_filename not in FILES:
            return None
        if event == "line":
            moments.append(frame.f_code.co_name)
            if len(moments) == stop:
                os.kill(os.getpid(), signal.SIGKILL)
        return tracer

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        do(root)
    finally:
        sys.settrace(before)
    return moments


def kill_points(moments, matrix):
    "Numbers of the lines before which to kill: the first and the last of each kind, or very many."
    kinds = {name: [n for n, other in enumerate(moments, 1) if other == name] for name in moments}
    close = [kinds[name] for name in (*COMMIT, "_act", "_place", "_renew", "_seal_version") if name in kinds]
    if not matrix:
        return sorted({n for numbers in close for n in (numbers[0], numbers[-1])})
    return sorted({*range(1, len(moments), max(1, len(moments) // 25)), *(n for numbers in close for n in numbers)})


def after_the_kill(act, root):
    "What a killed act left, and whether the next act works."
    names = ("trees-1", "trees-2", "trees-3")
    changed = lambda: [said for name in names for said in registry.changed_files(root / "data/registry" / name)]
    left = [said for said in changed() if act != "register" or said.startswith("package/")]
    live = lambda: state(root)["champion"]["model_version"]
    found = {"trouble": verify(root) + left, "champion": live(), "lines": len(read_log(root))}
    if found["lines"] == 5:
        ACTS[act](root)
    elif act == "promote":
        rollback(root, "Ana", "back")
    else:
        reject(root, "trees-3", "Ana", "no")
    return {**found, "next": verify(root) + changed(), "then": live()}


def all_kills(shop, act, matrix, monkeypatch):
    "Kill an act at each point, in a fresh copy of the shop; returns what was found."
    monkeypatch.setattr(ledger, "_git_trouble", lambda *_: None)  # no need to ask Git a thousand times
    copy, found = shop.with_name("copy"), []

    def fresh():
        core._clear_once.cache_clear()  # a new process finds no folder cleared yet
        shutil.rmtree(copy, ignore_errors=True)
        return shutil.copytree(shop, copy)

    moments = traced(ACTS[act], fresh())
    for stop in kill_points(moments, matrix):
        child = FORK.Process(target=traced, args=(ACTS[act], fresh(), stop))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        found.append({"stop": stop, "in": moments[stop - 1], **after_the_kill(act, copy)})
    return found


MATRIX = [False, pytest.param(True, marks=pytest.mark.prove)]


@pytest.mark.parametrize("matrix", MATRIX)
@pytest.mark.parametrize(
    "act, before, now, then",
    [("promote", "trees-2", "trees-3", "trees-2"), ("rollback", "trees-2", "trees-1", "trees-1")],
)
def test_killed_at_any_moment(shop, act, before, now, then, matrix, monkeypatch):
    "kill -9 before, during and after the line is written: the old champion or the new one, and the next act works."
    points = all_kills(shop, act, matrix, monkeypatch)
    assert len(points) >= (60 if matrix else 10)
    for p in points:
        assert p["trouble"] == p["next"] == [], p
        assert p["champion"] == (before if p["lines"] == 5 else now), p
        assert p["then"] == (now if p["lines"] == 5 else then), p
    assert {p["lines"] for p in points} == {5, 6}, "points before and after the commit"
    assert {*COMMIT, "_act"} <= {p["in"] for p in points}


@pytest.mark.parametrize("matrix", MATRIX)
def test_killed_while_registering_the_live_model_again(shop, matrix, monkeypatch):
    "The live model goes on living, whole; registering once more completes its new evidence."
    points = all_kills(shop, "register", matrix, monkeypatch)
    assert len(points) >= (25 if matrix else 8)
    for p in points:
        assert p["trouble"] == p["next"] == [] and p["lines"] == 5, p
        assert p["champion"] == p["then"] == "trees-2", p
    assert {"_renew", "_place", "_seal_version"} <= {p["in"] for p in points}


FORK = multiprocessing.get_context("fork")


def begin(act):
    "Do an act in a process of its own; returns the process, and where it says what came of it."
    mine, other = FORK.Pipe()

    def do():
        try:
            other.send(("done", act()["line"]))
        except UserError as e:
            other.send(("refused", str(e)))

    process = FORK.Process(target=do)
    process.start()
    return process, mine


@pytest.mark.parametrize("moment, live, lines", [("before", "trees-2", 5), ("after", "trees-3", 6)])
def test_killed_from_outside_around_the_write(shop, moment, live, lines, monkeypatch):
    "A whole process that is killed while it stands right before the line is written, or right after."
    write, there = ledger._write_line, FORK.Event()

    def stand_there(*given):
        if moment == "after":
            write(*given)
        there.set()
        signal.pause()

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_write_line", stand_there)
        process, _ = begin(lambda: promote(shop, "trees-3", by="Ben", reason="killed"))
    assert there.wait(60)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL and verify(shop) == []
    assert (state(shop)["champion"]["model_version"], len(read_log(shop))) == (live, lines)
    rollback(shop, "Ana", "the next act works")
    assert verify(shop) == [] and len(read_log(shop)) == lines + 1


def test_a_torn_line_did_not_happen(shop):
    whole = log(shop).read_bytes()
    with open(log(shop), "ab") as file:
        file.write(b'{"act": "promote", "model_version": "trees-3", "pack')
    assert verify(shop) == [] and state(shop)["champion"]["model_version"] == "trees-2" and len(read_log(shop)) == 5
    promote(shop, "trees-3", by="Ben", reason="now it is")
    assert log(shop).read_bytes().startswith(whole) and len(read_log(shop)) == 6 and verify(shop) == []


def test_a_full_disk(shop, monkeypatch):
    "A write that the disk takes only half of is taken back."
    write = os.write
    monkeypatch.setattr(ledger.os, "write", lambda handle, data: write(handle, data[: len(data) // 2]))
    refused(shop, lambda: promote(shop, "trees-3", by="Ben", reason="x"), "the disk is full")
    monkeypatch.undo()
    assert verify(shop) == []


def test_killed_twice(shop, monkeypatch):
    "Killed after the line and before head.json, twice in a row: each act first catches up, so it is never two behind."
    version(shop, "other", "trees-2")
    for act in (
        lambda: promote(shop, "trees-3", by="Ben", reason="x"),
        lambda: rollback(shop, "Ana", "x"),
        lambda: reject(shop, "trees-3", "Ana", "x"),
    ):
        head = (shop / acts.HEAD).read_bytes()
        act()
        now = json.loads((shop / acts.HEAD).read_text())["lines"]
        assert now == len(read_log(shop)) and verify(shop) == []
        (shop / acts.HEAD).write_bytes(head)
        monkeypatch.setattr(ledger.os, "write", lambda handle, data: 0)
        with pytest.raises(UserError, match="the disk is full"):
            reject(shop, "other", "Ana", "x")
        monkeypatch.undo()
        assert json.loads((shop / acts.HEAD).read_text())["lines"] == now


# ---------------------------------------------------------------- two at once
def test_two_at_the_same_moment(shop):
    "While one is promoting, another is told so and nothing of his happens."
    asked, done = FORK.Event(), FORK.Event()

    def slow(root):
        asked.set()
        assert done.wait(60)

    first, said = begin(
        lambda: release.promote(shop, "trees-3", by="Ben", reason="x", outside=replace(NO_MLFLOW, probe=slow))
    )
    assert asked.wait(60)
    refused(shop, lambda: promote(shop, "trees-3", by="Ana", reason="x"), "under way here: promote trees-3 (process")
    done.set()
    assert said.recv() == ("done", 6) and read_log(shop)[-1]["by"] == "Ben" and verify(shop) == []
    first.join()


@pytest.mark.parametrize("racers", [3, pytest.param(12, marks=pytest.mark.prove)])
def test_a_race(shop, racers):
    "Approved versions, each with a process: one goes live, and the log has one more line."
    names = [f"race-{n}" for n in range(racers)]
    for name in names:
        version(shop, name, "trees-2")
        approve(shop, name, "Ana", "go")
    start, lines = FORK.Barrier(racers), len(read_log(shop))

    def run_for_it(name):
        start.wait(60)
        return promote(shop, name, by=name, reason="race")

    ends = [said.recv() for _, said in [begin(partial(run_for_it, name)) for name in names]]
    assert sorted(word for word, _ in ends) == ["done"] + ["refused"] * (racers - 1), ends
    lost = ("Another act is under way", "the gate compared it with trees-2, and race-")
    assert all(word == "done" or any(why in said for why in lost) for word, said in ends), ends
    assert len(read_log(shop)) == lines + 1 and verify(shop) == []
    assert state(shop)["champion"]["by"] == read_log(shop)[-1]["by"]


# ---------------------------------------------------------------- a changed log
def edit(lines, n, old, new):
    return [*lines[:n], lines[n].replace(old, new), *lines[n + 1 :]]


def chained(acts):
    "Lines with right sha256 of the lines before."
    lines = []
    for act in acts:
        lines.append(
            json.dumps(
                {**act, "before": hashlib.sha256(lines[-1]).hexdigest() if lines else ""}, ensure_ascii=False
            ).encode()
        )
    return lines


CHANGES = {
    "a reason edited": lambda l: edit(l, 1, b"is good", b"is bad!"),
    "who, edited": lambda l: edit(l, 0, b"Ana", b"Eva"),
    "the last line edited": lambda l: edit(l, -1 % len(l), b"Ben", b"Eva"),
    "a space added": lambda l: edit(l, 2, b'"act": ', b'"act":  '),
    "the first removed": lambda l: l[1:],
    "one removed": lambda l: [*l[:2], *l[3:]],
    "the last removed": lambda l: l[:-1],
    "the last two removed": lambda l: l[:-2],
    "all removed": lambda l: [],
    "two changed places": lambda l: [l[0], l[2], l[1], *l[3:]],
    "the last two changed places": lambda l: [*l[:-2], l[-1], l[-2]],
    "the last one twice": lambda l: [*l, l[-1]],
    "not JSON": lambda l: [*l[:2], b"# a comment", *l[2:]],
    "an empty line": lambda l: [*l, b""],
    "a forged promotion, well chained": lambda l: chained(
        [*map(json.loads, l), {**json.loads(l[-1]), "act": "promote", "role": "champion", "model_version": "forged"}]
    ),
    "all written anew, well chained": lambda l: chained([{**json.loads(line), "by": "Eva"} for line in l]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_log(shop, change):
    "Found by verify; no act goes on from it and no model is loaded by it."
    log(shop).write_bytes(b"".join(line + b"\n" for line in CHANGES[change](log(shop).read_bytes().splitlines())))
    found = verify(shop)
    assert found and all(sentence.endswith(".") for sentence in found)
    refused(shop, lambda: rollback(shop, "Ana", "back"), "is not what was written", found[0])
    for ask in (champion_folder, load_champion, state):
        with pytest.raises(UserError, match="is not what was written"):
            ask(shop)


MISSHAPEN = [
    {"model_version": ["trees-3"]},
    {"model_version": None},
    {"model_version": "../trees-3"},
    {"time": 5},
    {"package": {}},
    {"role": ["champion"]},
    {"gate_passed": "no"},
]


@pytest.mark.parametrize("change", MISSHAPEN, ids=str)
def test_a_line_that_no_act_writes(shop, change):
    "Well chained, and with a head that fits: a sentence all the same, from every question."
    acts_ = [json.loads(line) for line in log(shop).read_bytes().splitlines()]
    lines = chained([*acts_[:-1], {**acts_[-1], **change}])
    log(shop).write_bytes(b"".join(line + b"\n" for line in lines))
    (shop / acts.HEAD).write_text(json.dumps({"lines": 5, "sha256": ledger_digest(lines[-1])}))
    without_ledger(shop)
    (said,) = verify(shop)
    assert said.startswith("Line 5 ") and ("in a form that no act has" in said or "cannot be a version" in said)
    for ask in (champion_folder, load_champion, state):
        with pytest.raises(UserError, match="is not what was written"):
            ask(shop)


@pytest.mark.parametrize(
    "head", ['{"lines": "5", "sha256": ""}', '{"lines": null}', "[5]", '{"lines": 2.5, "sha256": ""}']
)
def test_a_head_of_another_form(shop, head):
    (shop / acts.HEAD).write_text(head)
    assert verify(shop) == ["data/registry/head.json is damaged."]


@pytest.mark.parametrize(
    "change", [{"before": [1]}, {"before": "x"}, {"model_version": "trees-9"}, {"files": {}}, {"package": 5}], ids=str
)
def test_a_registration_of_another_form(shop, change):
    about = shop / "data/registry/trees-3/registration.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), **change}))
    assert len(verify(shop)) == 1 and "trees-3" in verify(shop)[0]
    assert champion_folder(shop).parent.name == "trees-2"


def test_a_removed_log_or_head(shop):
    kept = log(shop).read_bytes()
    log(shop).unlink()
    assert "5 of 5 lines at the end were removed" in verify(shop)[0]
    log(shop).write_bytes(kept)
    (shop / acts.HEAD).unlink()
    assert verify(shop) == [], "the ledger of registrations knows the last line"
    without_ledger(shop)
    assert "head.json is missing" in verify(shop)[0]
    refused(shop, lambda: promote(shop, "trees-3", by="Ben", reason="x"), "git checkout reports/releases.jsonl")


def without_ledger(shop):
    "Remove the ledger of registrations and its head."
    for path in (shop / "data/registry").glob(".registrations.*"):
        path.unlink()


@pytest.mark.parametrize("left", [0, 1, 4])
def test_a_log_shortened_together_with_its_head(shop, left):
    "Whoever removes lines at the end, and the head that counts them, is found by the ledger of registrations."
    lines = log(shop).read_bytes().splitlines(keepends=True)
    log(shop).write_bytes(b"".join(lines[:left]))
    (shop / acts.HEAD).unlink()
    (said,) = verify(shop)
    assert f"Line {left + 1} of reports/releases.jsonl was removed" in said and "git checkout" in said
    refused(shop, lambda: promote(shop, "trees-3", by="Ben", reason="x"), f"Line {left + 1} of")
    log(shop).write_bytes(b"".join(lines))
    assert verify(shop) == []


def test_registrations_shortened_together_with_their_head(shop):
    "The versions that it should know say so; those made before there was one, whose packages have no seal, do not."
    assert verify(shop) == []
    package = shop.parent / "package"
    package.mkdir()
    (package / "forecaster.json").write_text(json.dumps({"card": {"model_version": "trees-4"}, "seal": "invented"}))
    version(shop, "trees-4", "trees-2", day=4, package=package)
    ledger = shop / "data/registry/.registrations.jsonl"
    kept, head = ledger.read_bytes(), shop / "data/registry/.registrations.head.json"
    lines, ended = kept.splitlines(keepends=True)[:-1], head.read_bytes()
    ledger.write_bytes(b"".join(lines))
    head.write_text(json.dumps({"lines": len(lines), "sha256": ledger_digest(lines[-1].rstrip())}))
    assert f"{ledger} lacks it" in verify(shop)[0]
    without_ledger(shop)
    (said,) = verify(shop)
    assert "trees-4, which is not live" in said and f"{ledger} lacks it" in said and "make pipeline" in said
    refused(shop, lambda: approve(shop, "trees-4", "Ana", "x"), "lacks it")
    ledger.write_bytes(kept)
    head.write_bytes(ended)
    assert verify(shop) == []
    without_ledger(shop)
    version(shop, "trees-4", "trees-2", day=4, package=package)
    assert verify(shop) == [], "registering again mends it"


def test_a_project_elsewhere(shop, tmp_path):
    "No false alarm before the first release, in a clone without a registry or with a new one, or where one moved to."
    assert verify(tmp_path / "empty") == []
    clone, moved = tmp_path / "clone", tmp_path / "moved"
    shutil.copytree(shop / "reports", clone / "reports")
    git(clone, "init", "-q")
    git(clone, "add", "reports")
    git(clone, "commit", "-qm", "releases")
    shutil.copytree(clone, moved)
    missing = [sentence for sentence in verify(clone) if "cd4ml deploy pull" not in sentence]
    assert missing == [], "only the packages are not here"
    version(clone, "trees-9", "trees-2", day=9)
    assert [sentence for sentence in verify(clone) if "cd4ml deploy pull" not in sentence] == []
    shutil.copytree(shop / "data/registry", moved / "data/registry")
    assert verify(moved) == []
    promote(moved, "trees-3", by="Ben", reason="go on there")
    assert verify(moved) == []


def git(root, *words):
    subprocess.run(
        ["git", "-C", root, "-c", "user.name=t", "-c", "user.email=t@example.invalid", *words],
        check=True,
        capture_output=True,
        env=environment(root),
    )


def test_git_knows_the_log(shop, monkeypatch):
    "Where the log is committed, one written anew with head.json is found, too; a clone without head.json goes on."
    for name, value in environment(shop).items():
        monkeypatch.setenv(name, value)
    git(shop, "init", "-q")
    git(shop, "add", "reports")
    git(shop, "commit", "-qm", "releases")
    kept = log(shop).read_bytes()
    lines = chained([{**json.loads(line), "reason": "all were happy"} for line in kept.splitlines()])
    log(shop).write_bytes(b"".join(line + b"\n" for line in lines))
    (shop / acts.HEAD).write_text(json.dumps({"lines": 5, "sha256": hashlib.sha256(lines[-1]).hexdigest()}))
    assert verify(shop) == ["Line 1 is not the one that was committed to Git (see: git diff reports/releases.jsonl)."]
    refused(shop, lambda: rollback(shop, "Ana", "x"), "committed to Git")
    log(shop).write_bytes(kept)
    (shop / acts.HEAD).unlink()
    assert verify(shop) == []
    promote(shop, "trees-3", by="Ben", reason="go on")
    assert verify(shop) == [] and json.loads((shop / acts.HEAD).read_text())["lines"] == 6


def test_pulled_from_a_colleague(shop, tmp_path, monkeypatch):
    "What comes by `git pull` is known by Git: nothing stops. What nobody knows is found as before."
    for name, value in environment(shop).items():
        monkeypatch.setenv(name, value)
    (shop / ".gitignore").write_text("data\n")
    git(shop, "init", "-q")
    git(shop, "add", "reports", ".gitignore")
    git(shop, "commit", "-qm", "releases")
    clone = shutil.copytree(shop, tmp_path / "clone", symlinks=True)
    promote(clone, "trees-3", by="Ben", reason="it is good")
    rollback(clone, "Ben", "too low")
    approve(clone, "trees-3", "Ben", "mended", override=True)
    git(clone, "commit", "-qam", "three acts")
    git(shop, "pull", "-q", str(clone), "HEAD")
    assert json.loads((shop / acts.HEAD).read_text())["lines"] == 5 and len(read_log(shop)) == 8
    assert verify(shop) == [] and champion_folder(shop).parent.name == "trees-2"
    kept = log(shop).read_bytes()
    lines = chained([*map(json.loads, kept.splitlines()), *[json.loads(kept.splitlines()[-1])] * 2])
    log(shop).write_bytes(b"".join(line + b"\n" for line in lines))
    assert "2 lines at the end were not written by an act" in verify(shop)[0]
    log(shop).write_bytes(kept)
    promote(shop, "trees-3", by="Ana", reason="go on")
    assert verify(shop) == [] and json.loads((shop / acts.HEAD).read_text())["lines"] == 9


def test_a_last_line_that_only_the_file_knows(shop, monkeypatch):
    "Added by hand and well chained: every question says so, and no act seals it. Committed to Git it counts."
    for name, value in environment(shop).items():
        monkeypatch.setenv(name, value)
    lines = log(shop).read_bytes().splitlines()
    forged = chained([*map(json.loads, lines), {**json.loads(lines[-1]), "act": "reject", "by": "Eva"}])
    log(shop).write_bytes(b"".join(line + b"\n" for line in forged))
    said = "1 line at the end was not written by an act: data/registry/head.json or Git knows 5."
    assert verify(shop)[0].startswith(said)
    refused(shop, lambda: rollback(shop, "Ana", "x"), said)
    git(shop, "init", "-q")
    git(shop, "add", "reports")
    git(shop, "commit", "-qm", "it is right")
    assert verify(shop) == []


# ---------------------------------------------------------------- changed packages, missing folders
def test_a_changed_byte(shop):
    "In the live model, in the previous one, in one to be promoted: refused by name, until the byte is back."
    for name, act, said in (
        ("trees-2", lambda: champion_folder(shop), "mean.onnx was changed after it was packaged"),
        ("trees-1", lambda: rollback(shop, "Ana", "x"), "previous champion, trees-1, is refused"),
        ("trees-3", lambda: promote(shop, "trees-3", by="Ben", reason="x"), "package/mean.onnx was changed"),
    ):
        file = shop / "data/registry" / name / "package/mean.onnx"
        good = file.read_bytes()
        file.write_bytes(good[:-1] + b"!")
        refused(shop, act, said)
        assert len(verify(shop)) == 1
        file.write_bytes(good)
    evidence = shop / "data/registry/trees-3/gate.json"
    evidence.write_text(evidence.read_text() + " ")
    refused(shop, lambda: promote(shop, "trees-3", by="Ben", reason="x"), "gate.json was changed")
    assert "of trees-3, which is not live, is not what was registered: gate.json was changed" in verify(shop)[0]
    assert champion_folder(shop).parent.name == "trees-2"


@pytest.mark.parametrize("spoil", ["emptied", "cut short", "swapped", "gone"])
@pytest.mark.parametrize("words", [["status"], ["status", "--json"], ["history"], ["verify"]])
def test_a_spoilt_file_is_told_by_every_question(shop, monkeypatch, capsys, words, spoil):
    "What is live is told all the same, then what is wrong; the exit code says that something is."
    for name in ("trees-2/package/mean.onnx", "trees-1/package/forecaster.json", "trees-3/gate.json"):
        file = shop / "data/registry" / name
        good = file.read_bytes()
        changed = {"emptied": b"", "cut short": good[: len(good) // 2], "swapped": good[::-1]}
        file.write_bytes(changed[spoil]) if spoil in changed else file.unlink()
        monkeypatch.setenv("CD4ML_ROOT", str(shop))
        code = main(["release", *words])
        out, said = capsys.readouterr()
        file.write_bytes(good)
        assert code == 1 and name.split("/")[0] in said and "Traceback" not in said, said
        assert words == ["verify"] or out.strip()


def test_a_swapped_package(shop):
    "A package that is sound in itself but is not the released one."
    there = shop / "data/registry"
    shutil.rmtree(there / "trees-2/package")
    shutil.copytree(there / "trees-1/package", there / "trees-2/package")
    refused(shop, lambda: champion_folder(shop), "forecaster.json", "was changed after the release")


def test_back_from_a_broken_champion(shop):
    "Whatever happened to the live model, the previous one comes back."
    shutil.rmtree(shop / "data/registry/trees-2")
    with pytest.raises(UserError, match="trees-2, is not in .*deploy pull"):
        champion_folder(shop)
    rollback(shop, "Ana", "its files are gone")
    assert champion_folder(shop).parent.name == "trees-1" and verify(shop) == []


@pytest.mark.parametrize("content", ["", "[]", "{}", "not JSON"])
def test_one_damaged_version_does_not_stop_the_others(shop, content):
    (shop / "data/registry/trees-3/registration.json").write_text(content)
    assert champion_folder(shop).parent.name == "trees-2" and [r["model_version"] for r in state(shop)["versions"]] == [
        "trees-2",
        "trees-1",
    ]
    assert len(verify(shop)) == 1 and "no sound registration.json" in verify(shop)[0]
    refused(shop, lambda: promote(shop, "trees-3", by="Ben", reason="x"), "no registered version 'trees-3'")
    before = (shop / "data/registry/trees-3/package/forecaster.json").read_bytes()
    version(shop, "trees-3", "trees-2", day=3)
    promote(shop, "trees-3", by="Ben", reason="registered again")
    assert verify(shop) == [] and (shop / "data/registry/trees-3/package/forecaster.json").read_bytes() == before


def test_registry_gone(shop):
    (shop / "data/registry").rename(shop / "data/away")
    with pytest.raises(UserError, match="There is no registry in .*Nothing was changed"):
        rollback(shop, "Ana", "x")
    (shop / "data/away").rename(shop / "data/registry")
    shutil.rmtree(shop / "data/registry/trees-1")
    refused(shop, lambda: rollback(shop, "Ana", "x"), "previous champion, trees-1, is not in")


@pytest.mark.parametrize("where", ["data/registry", "reports"])
def test_read_only(shop, where, tmp_path_factory):
    "As a user who may not write there."
    folder, files = shop / where, [p for p in (shop / where).iterdir() if p.is_file()]
    for path in (folder, *files):
        path.chmod(path.stat().st_mode & 0o555)
    above = [
        p
        for p in [shop, *shop.parents]
        if p.is_relative_to("/tmp") or p.is_relative_to(tmp_path_factory.getbasetemp().parent.parent)
    ]
    before, modes = log(shop).read_bytes(), {p: p.stat().st_mode for p in above}
    if os.geteuid() == 0:
        for p in above:
            p.chmod(p.stat().st_mode | 0o055)
    end = os.fork()
    if end == 0:
        try:
            if os.geteuid() == 0:
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
            rollback(shop, "Ana", "x")
            os._exit(3)
        except UserError as e:
            os._exit(0 if "is not writable" in str(e) or "is read-only" in str(e) else print(e) or 4)
        except BaseException as e:
            print(repr(e))
            os._exit(5)
    code = os.waitstatus_to_exitcode(os.waitpid(end, 0)[1])
    for p, mode in modes.items():
        p.chmod(mode)
    for path in (folder, *files):
        path.chmod(path.stat().st_mode | 0o200)
    assert code == 0 and log(shop).read_bytes() == before and verify(shop) == []


# ---------------------------------------------------------------- what is refused
REFUSED = {
    "an unknown version": (lambda r: approve(r, "trees-9", "Ana", "x"), "no registered version 'trees-9'"),
    "an ambiguous one": (lambda r: approve(r, "trees", "Ana", "x"), "could be"),
    "an empty reason": (lambda r: approve(r, "trees-3", "Ana", " \n"), "Say why"),
    "no reason": (lambda r: rollback(r, "Ana"), "Say why"),
    "nobody": (lambda r: rollback(r, " ", "x"), "Say who decides"),
    "approving twice": (lambda r: approve(r, "trees-3", "Ana", "x"), "approved already, by Ben"),
    "promoting what is live": (lambda r: promote(r, "trees-2", by="Ana", reason="x"), "is the champion already"),
    "a champion as its own challenger": (
        lambda r: promote(r, "trees-2", "challenger", "Ana", "x"),
        "its own challenger",
    ),
    "retiring what is live": (lambda r: retire(r, "trees-2", "Ana", "x"), "cd4ml release rollback"),
    "retiring what is not tried": (
        lambda r: retire(r, "trees-3", "Ana", "x"),
        "not tried beside the live model; these",
    ),
    "rejecting what is tried": (
        lambda r: (promote(r, "trees-3", "shadow", "Ana", "x"), reject(r, "trees-3", "Ana", "x")),
        "is a shadow and cannot be rejected. First: cd4ml release retire trees-3",
    ),
    "trying it twice": (
        lambda r: (promote(r, "trees-3", "shadow", "Ana", "x"), promote(r, "trees-3", "shadow", "Ana", "x")),
        "trees-3 is a shadow already",
    ),
    "promoting the unapproved": (
        lambda r: (version(r, "new", "trees-2"), promote(r, "new", by="Ana", reason="x")),
        "it is not approved yet",
    ),
    "an unknown role": (lambda r: promote(r, "trees-3", "king", "Ana", "x"), "'king' is not a role"),
    "a failed gate": (
        lambda r: (version(r, "bad", "trees-2", passed=False), approve(r, "bad", "Ana", "x")),
        "the gate refused it: NWRMSLE is 0.91",
    ),
    "an experiment": (
        lambda r: (version(r, "exp", "trees-2", releasable=False), approve(r, "exp", "Ana", "x", override=True)),
        "it is a DVC experiment",
    ),
    "an old comparison": (lambda r: (version(r, "old", "trees-1"), approve(r, "old", "Ana", "x")), "make gate"),
    "rejecting the live one": (lambda r: reject(r, "trees-2", "Ana", "x"), "is the champion and cannot be rejected"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(shop, what):
    act, said = REFUSED[what]
    lines = log(shop).read_text().count("\n")
    with pytest.raises(UserError) as e:
        act(shop)
    done = log(shop).read_text().count("\n") - lines  # what is refused may follow an act that is not
    assert (
        said in str(e.value) and done == (what in ("rejecting what is tried", "trying it twice")) and not verify(shop)
    )


def test_any_number_is_tried_and_taken_off(shop):
    "Each by its own act; what goes live is tried no more, and the champion stays what it was."
    version(shop, "trees-4", "trees-2", day=4)
    approve(shop, "trees-4", "Ben", "x")
    tried = lambda: [(one["role"], one["model_version"]) for one in state(shop)["beside"]]
    promote(shop, "trees-3", "challenger", "Ana", "x")
    promote(shop, "trees-4", "challenger", "Ana", "x")
    assert tried() == [("challenger", "trees-3"), ("challenger", "trees-4")]
    promote(shop, "trees-3", "shadow", "Ana", "x")
    assert tried() == [("challenger", "trees-4"), ("shadow", "trees-3")]
    assert "shadow      trees-3, since" in release.status_in_words(state(shop))
    act = retire(shop, "trees-4", "Ana", "no better")
    assert tried() == [("shadow", "trees-3")] and "took trees-4 off, which was tried as challenger" in (
        release.history_in_words([act])
    )
    promote(shop, "trees-3", by="Ana", reason="better")
    assert tried() == [] and state(shop)["previous"]["model_version"] == "trees-2" and verify(shop) == []
    ended = [[one[name] for name in ("model_version", "role", "ended_by", "why")] for one in tried_ever(shop)]
    assert ended == [["trees-4", "challenger", "Ana", "no better"], ["trees-3", "shadow", "Ana", "better"]]
    assert "forecast since" in say_spell(tell_tried(shop, "trees-4"))
    with pytest.raises(UserError, match="'trees' is not one model; there are: trees-4, trees-3"):
        tell_tried(shop, "trees")


def test_no_previous(tmp_path):
    version(tmp_path, "trees-1")
    refused(tmp_path, lambda: rollback(tmp_path, "Ana", "x"), "No model is live, so there is nothing to roll back")
    approve(tmp_path, "trees-1", "Ana", "x")
    promote(tmp_path, "trees-1", by="Ana", reason="x")
    refused(tmp_path, lambda: rollback(tmp_path, "Ana", "x"), "no earlier champion", "trees-1 is the first")


def test_what_was_rolled_back_needs_a_new_approval(shop):
    rollback(shop, "Ana", "too low")
    refused(shop, lambda: promote(shop, "trees-2", by="Ben", reason="x"), "it is rolled back")
    (shop / "params.yaml").write_text("release:\n  auto_approve: always\n")
    assert auto(shop)["released"] is None, "no rule brings it back"
    approve(shop, "trees-2", "Ben", "it was the weather")
    promote(shop, "trees-2", by="Ben", reason="it was the weather")
    assert state(shop)["champion"]["model_version"] == "trees-2" and verify(shop) == []


def ran_last(root, name):
    "What a pipeline leaves: its model, and that it is registered."
    for path, said in (
        ("model/forecaster.json", {"card": {"model_version": name}}),
        ("registered.json", {"model_version": name}),
    ):
        core.write_json(root / "data" / path, said)


def test_a_machine_releases_the_model_of_the_newest_run_only(tmp_path):
    "Not one of an earlier run that nobody decided on, and none at all while a run is stale."
    (tmp_path / "params.yaml").write_text("release:\n  auto_approve: always\n")
    (tmp_path / "dvc.yaml").write_text("stages: {gate: {cmd: judge, params: [release]}}")
    ran_with = {"params": {"params.yaml": {"release": {"auto_approve": "always"}}}}
    core.write_json(tmp_path / "dvc.lock", {"stages": {"gate": ran_with}})
    version(tmp_path, "trees-1", day=1)
    version(tmp_path, "trees-2", day=2, passed=False)
    ran_last(tmp_path, "trees-2")
    said = auto(tmp_path)
    assert said["released"] is None and "trees-2, is stopped by the gate. trees-1, of an earlier run" in said["says"]

    ran_last(tmp_path, "trees-1")
    core.write_json(tmp_path / "reports/.pipeline.json", {"why": "it was stopped"})
    refused(tmp_path, lambda: auto(tmp_path), "Nothing was released", "did not come to its end", "make pipeline")
    (tmp_path / "reports/.pipeline.json").unlink()
    (tmp_path / "params.yaml").write_text("release:\n  auto_approve: first\n")
    refused(tmp_path, lambda: auto(tmp_path), 'release.auto_approve was "always" and is "first"')
    (tmp_path / "params.yaml").write_text("release:\n  auto_approve: always\n")
    core.write_json(tmp_path / "data/model/forecaster.json", {"card": {"model_version": "trees-3"}})
    refused(tmp_path, lambda: auto(tmp_path), "trees-3 is not registered yet")

    version(tmp_path, "trees-3", day=3)
    ran_last(tmp_path, "trees-1")  # its parameters came back
    assert auto(tmp_path)["released"] == "trees-1" and verify(tmp_path) == []


def test_no_machine_releases_what_had_nothing_fair_to_be_compared_with(tmp_path):
    "The live model has learnt from what is judged: a person decides."
    (tmp_path / "params.yaml").write_text("release:\n  auto_approve: always\n")
    live(tmp_path, "trees-1", day=1)
    version(tmp_path, "trees-2", "trees-1", day=2)
    gate = core.read_json(tmp_path / "data/registry/trees-2/gate.json")
    gate["checks"].append({"check": "ratchet", "title": "Not worse", "says": "It is unfair.", "verdict": "not judged"})
    with new_version(tmp_path, "trees-2") as folder:
        shutil.copytree(tmp_path / "data/registry/trees-2/package", folder / "package")
        core.write_json(folder / "gate.json", gate)
        core.write_json(folder / "registration.json", {"gate_passed": True, "releasable": True})
    said = auto(tmp_path)
    assert said["released"] is None
    assert "trees-2 was not compared with trees-1, which has learnt from the days that are judged" in said["says"]
    approve(tmp_path, "trees-2", "Ana", "it is right")


def judged_beside_other_data(root, name, live):
    "A version that passed the gate while a model of other data was live."
    version(root, name, live, day=2)
    gate = core.read_json(root / f"data/registry/{name}/gate.json")
    gate["checks"].append({"check": "ratchet", "title": "Not worse", "says": "Other data.", "verdict": "not judged"})
    with new_version(root, name) as folder:
        shutil.copytree(root / f"data/registry/{name}/package", folder / "package")
        core.write_json(folder / "gate.json", gate | {"apart": "other data"})
        core.write_json(folder / "registration.json", {"gate_passed": True, "releasable": True})


def test_the_first_model_of_other_data_goes_live_where_a_rule_had_put_the_last_one_live(tmp_path):
    "Who tried the default data and comes with a table is not stopped by the model of the default data."
    (tmp_path / "params.yaml").write_text("release:\n  auto_approve: first\n")
    version(tmp_path, "trees-1", day=1)
    assert auto(tmp_path)["released"] == "trees-1"
    judged_beside_other_data(tmp_path, "trees-2", "trees-1")
    said = auto(tmp_path)
    assert said["released"] == "trees-2" and "the first model of these data, while trees-1 is of others" in said["says"]
    version(tmp_path, "trees-3", "trees-2", day=3)
    assert auto(tmp_path)["released"] is None, "it is the second of its data"
    assert verify(tmp_path) == []


def said_of_data(text):
    return "trees-2 is of other data (a till)" in text


def test_what_a_person_put_live_no_rule_replaces_by_a_model_of_other_data(tmp_path):
    (tmp_path / "params.yaml").write_text("release:\n  auto_approve: first\n")
    live(tmp_path, "trees-1", day=1)
    judged_beside_other_data(tmp_path, "trees-2", "trees-1")
    said = auto(tmp_path)
    assert said["released"] is None and "trees-2 waits for a person's decision" in said["says"]
    with mock.patch("cd4ml_nb.delivery.grounds.say_former", lambda root, name: f"{name} is of other data (a till)"):
        assert said_of_data(auto(tmp_path)["says"]) and "release approve" not in auto(tmp_path)["says"]
    assert said_of_data(status_in_words(state(tmp_path), former="trees-2 is of other data (a till)"))
    (tmp_path / "params.yaml").write_text("release:\n  auto_approve: always\n")
    assert "trees-2 was not compared with trees-1, which is of other data" in auto(tmp_path)["says"]


def test_an_approval_after_which_another_went_live(shop):
    "The ratchet holds to the last moment: what was compared with an older champion is judged again first."
    version(shop, "trees-4", "trees-2")
    approve(shop, "trees-4", "Ana", "x")
    promote(shop, "trees-3", by="Ben", reason="x")
    refused(
        shop,
        lambda: promote(shop, "trees-4", by="Ana", reason="x"),
        "the gate compared it with trees-2, and trees-3 is live now",
    )
    version(shop, "trees-4", "trees-3")  # make gate
    refused(shop, lambda: promote(shop, "trees-4", by="Ana", reason="x"), "judged again after it was approved")
    approve(shop, "trees-4", "Ana", "still good")
    promote(shop, "trees-4", by="Ana", reason="still good")
    assert verify(shop) == [] and not state(shop)["champion"]["overridden"]


def test_an_override_stays_visible(shop):
    version(shop, "bad", "trees-2", passed=False)
    approve(shop, "bad", "Ana", "the shop opens tomorrow", override=True)
    promote(shop, "bad", by="Ana", reason="the shop opens tomorrow")
    version(shop, "bad", "bad", passed=True)  # registered again, with a better verdict
    for act in read_log(shop)[-2:]:
        assert act["overridden"] and not act["gate_passed"] and act["reason"] == "the shop opens tomorrow"
    assert "OVERRIDING THE GATE" in release.history_in_words(
        release.history(shop)
    ) and "--override" in release.status_in_words(state(shop))
    kept = [json.loads(p.read_text()) for p in (shop / "data/registry/bad/decided").iterdir()]
    assert [gate["passed"] for gate in kept] == [False] and verify(shop) == []


def test_registered_again_while_live(shop):
    "The same model, registered again, keeps the package that is live."
    package = shop / "data/registry/trees-2/package/forecaster.json"
    before = package.read_bytes()
    with new_version(shop, "trees-2") as folder:
        (folder / "package").mkdir()
        (folder / "package/forecaster.json").write_text(
            '{"card": {"model_version": "trees-2", "trained_at": "later"}, "files": {}}'
        )
        (folder / "gate.json").write_text(
            '{"passed": true, "model_version": "trees-2", "champion": "trees-2", "checks": []}'
        )
        (folder / "registration.json").write_text('{"gate_passed": true, "releasable": true}')
    assert package.read_bytes() == before and champion_folder(shop) == package.parent and verify(shop) == []
    assert (
        json.loads((shop / "data/registry/trees-2/registration.json").read_text())["package"]
        == hashlib.sha256(before).hexdigest()
    )


def test_text_is_only_text(shop):
    "Line breaks in a reason stay one line, of JSON and on the screen; escape codes and halves of letters are refused."
    for by, reason in (("Ana\x1b[2J", "x"), ("Ana", "\x1b[2Jx"), ("Ana", "\ud800"), ("x" * 101, "x")):
        with pytest.raises(UserError, match="printable characters"):
            promote(shop, "trees-3", by=by, reason=reason)
    act = promote(shop, "trees-3", by="Ana", reason='one\ntwo \u2028 {"act": "promote"} käse')
    assert "\n" not in act["reason"] and "käse" in act["reason"]
    assert len(read_log(shop)) == 6 and verify(shop) == []


# ---------------------------------------------------------------- the commands, with a real MLflow store
def make_store(project, *names):
    "MLflow's own store, with versions that have no model behind them."
    with open_store(project) as (_, client, _):
        client.create_registered_model(MODEL_NAME)
        for name in names:
            client.create_model_version(MODEL_NAME, f"file:///nowhere/{name}", tags={"model_version": name})


def mlflow_aliases(project):
    with sqlite3.connect(project / "data/mlflow/mlflow.db") as con:
        found = con.execute("select alias, version from registered_model_aliases")
        return {alias: int(number) for alias, number in found}


def cd4ml(project, *words, code=0):
    "A command as a user types it, in a process of its own."
    done = run(project, "cd4ml", *words)
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def typed(project, monkeypatch):
    "The same in this process, for all but a few."
    for name, value in environment(project).items():
        monkeypatch.setenv(name, value)

    def command(*words, code=0):
        with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
            assert main(words) == code, err.getvalue()
        return out.getvalue() + err.getvalue()

    return command


def test_the_commands(project, typed):
    "From nothing to a rollback as a user types it; MLflow's aliases follow."
    assert "No model is live yet: none is registered" in typed("release", "status")
    make_store(project, "trees-1", "trees-2")
    version(project, "trees-1", number=1)
    assert "trees-1 passed the gate and waits" in typed("release", "status")
    by_rule = "trees-1 is live: approved and promoted by the rule release.auto_approve: first"
    assert by_rule in typed("deploy", "auto")
    assert mlflow_aliases(project) == {"champion": 1}

    version(project, "trees-2", "trees-1", day=2, number=2)
    why = ("--by", "Ana", "--reason", "better")
    assert "Say why" in typed("release", "approve", "2", "--by", "Ana", code=1)
    assert "it is not approved yet" in typed("release", "promote", "2", *why, code=1)
    assert "Ana approved trees-2: better" in typed("release", "approve", "2", *why)
    assert "approved already" in typed("release", "approve", "trees-2", *why, code=1)
    assert "Ana made trees-2 the champion" in typed("release", "promote", "trees-2", *why)
    assert mlflow_aliases(project) == {"champion": 2, "previous": 1}

    known = json.loads(cd4ml(project, "release", "status", "--json"))
    assert [known[role]["model_version"] for role in ("champion", "previous")] == ["trees-2", "trees-1"]
    back = cd4ml(project, "release", "rollback", "--by", "Ben", "--reason", "too low")
    assert "rolled back trees-2; trees-1 is live again: too low" in back
    assert mlflow_aliases(project) == {"champion": 1}
    history = json.loads(typed("release", "history", "--json"))
    assert [act["act"] for act in history] == ["approve", "promote", "approve", "promote", "rollback"]
    assert "trees-2: rolled back" in typed("release", "show", "trees-2")
    assert "intact (5 acts)" in typed("release", "verify")
    assert "no earlier champion" in typed("release", "rollback", *why, code=1)


def test_commands_that_are_refused(project, typed):
    "Without MLflow's store nothing is decided; by a changed log nothing is said."
    make_store(project, "trees-1")
    version(project, "trees-1", number=1)
    typed("deploy", "auto")
    store = project / "data/mlflow/mlflow.db"
    store.rename(store.with_suffix(".away"))
    version(project, "trees-2", "trees-1", day=2, number=2)
    typed("release", "approve", "trees-2", "--by", "Ben", "--reason", "x", code=1)
    assert len(read_log(project)) == 2 and not store.exists()
    log(project).write_text(log(project).read_text().replace("first model", "best model"))
    assert "was edited" in typed("release", "verify", code=1)
    assert "is not what was written" in typed("release", "status", code=1)


def test_who_read_the_log_before_somebody_else_acted_is_told_and_nothing_is_done(shop):
    read = len(read_log(shop))
    since = lambda many: replace(NO_MLFLOW, read=many)
    promote(shop, "trees-3", by="Ana", reason="good", outside=since(read))
    says = "Ana has meanwhile acted on trees-3 (promote: good). Nothing was changed: read it as it stands now"
    refused(shop, lambda: rollback(shop, by="Bo", reason="bad", outside=since(read)), says)
    rollback(shop, by="Bo", reason="bad", outside=since(read + 1))


def test_aliases_are_mended(project, capsys):
    "MLflow fails after the act is done: that is said, the act stands, and the next act sets all aliases."
    seen = []
    failing = release.Outside(probe=lambda root: None, mirror=lambda root, names: 1 / 0)
    version(project, "trees-1")
    release.approve(project, "trees-1", "Ana", "x", outside=failing)
    release.promote(project, "trees-1", by="Ana", reason="x", outside=failing)
    assert "done and logged, but MLflow's aliases could not be set (division by zero)" in capsys.readouterr().err
    mended = release.Outside(probe=lambda root: None, mirror=lambda root, names: seen.append(names))
    version(project, "trees-2", "trees-1", day=2)
    release.reject(project, "trees-2", "Ana", "x", outside=mended)
    assert seen == [{"champion": "trees-1", "previous": None, "candidate": None, "challenger": None, "shadow": None}]


@pytest.mark.pipeline
def test_forecasts_come_from_the_champion(project):
    "Nothing is answered before a release; then the card says since when, and by whom."
    ask = ["forecast", "--item", "x", "--date", "2018-01-01"]
    assert "No model is live yet" in cd4ml(project, *ask, code=1)
    card = json.loads((ROOT / "data/model/forecaster.json").read_text())["card"]
    live(project, card["model_version"], package=ROOT / "data/model")
    forecaster = load_champion(project)
    assert forecaster.card["released_by"] == "Ana" and forecaster.card["live_since"] == read_log(project)[-1]["time"]
    ask = ["forecast", "--item", forecaster.items.item_nbr[0], "--date", card["first_day"]]
    assert "; live since" in (said := cd4ml(project, *ask)) and "released by Ana" in said
    assert "live since" not in cd4ml(project, *ask, "--model", str(ROOT / "data/model"))


# ---------------------------------------------------------------- what an earlier library wrote
OLD = ROOT / "tests" / "delivery" / "old_shop"  # a log and a registry as they were written in November 2026


@pytest.fixture
def old_shop(tmp_path):
    "A project that an earlier library left."
    shutil.copytree(OLD / "registry", tmp_path / "data" / "registry")
    log(tmp_path).parent.mkdir()
    shutil.copy(OLD / "releases.jsonl", log(tmp_path))
    return tmp_path


def test_an_old_registry_is_read_as_before(old_shop):
    found = state(old_shop)
    assert verify(old_shop) == [] and release.aliases(found) == {
        **dict.fromkeys(("previous", "candidate", "challenger", "shadow")),
        "champion": "trees-1",
    }
    known = [(entry["model_version"], entry["status"], entry["mlflow_version"]) for entry in found["versions"]]
    assert known == [("trees-3", "rejected", 3), ("trees-2", "rolled back", 2), ("trees-1", "approved", 1)]
    folders = [old_shop / "data" / "registry" / name for name, *_ in known]
    assert [registry.changed_files(folder) for folder in folders] == [[], [], []]
    assert champion_folder(old_shop) == folders[-1] / "package"
    approve(old_shop, "trees-3", "Ana", "December is over", override=True)
    promote(old_shop, "trees-3", by="Ana", reason="December is over")
    assert verify(old_shop) == [] and state(old_shop)["previous"]["model_version"] == "trees-1"


def test_what_is_written_is_what_was_written_before(tmp_path):
    "The same acts at the same hours give the same log, head and seals, byte for byte."
    hours = iter([act["time"] for act in map(json.loads, (OLD / "releases.jsonl").read_text().splitlines())])
    outside = replace(NO_MLFLOW, clock=lambda: next(hours))

    def again(name, gate=None):
        with new_version(tmp_path, name) as folder:
            left = shutil.ignore_patterns("decided")
            shutil.copytree(OLD / "registry" / name, folder, dirs_exist_ok=True, ignore=left)
            about = json.loads((folder / "registration.json").read_text())
            given = {key: value for key, value in about.items() if key not in ("files", "package", "gate_passed")}
            (folder / "registration.json").write_text(json.dumps(given))
            if gate:
                shutil.copy(gate, folder / "gate.json")

    (first,) = (OLD / "registry" / "trees-1" / "decided").iterdir()
    again("trees-1", gate=first)
    release.approve(tmp_path, "trees-1", "Ana Pérez", "the first model", outside=outside)
    release.promote(tmp_path, "trees-1", "champion", "Ana Pérez", "the first model", outside=outside)
    again("trees-2")
    release.approve(tmp_path, "trees-2", "Ben", "the shop opens tomorrow", True, outside)
    release.promote(tmp_path, "trees-2", "champion", "Ben", "the shop opens tomorrow", outside=outside)
    release.rollback(tmp_path, "Ana Pérez", "too low on promoted days", outside)
    again("trees-1")
    again("trees-3")
    release.reject(tmp_path, "trees-3", "Ben", "I want to see December first", outside)
    assert log(tmp_path).read_bytes() == (OLD / "releases.jsonl").read_bytes()
    there = lambda root: {p.relative_to(root): p.read_bytes() for p in root.rglob("[!.]*") if p.is_file()}
    assert there(tmp_path / "data" / "registry") == there(OLD / "registry")


# ---------------------------------------------------------------- a seal: what is there, and nothing else
ADDED = ["package/sitecustomize.py", "package/.hidden", "extra.html", ".note", "decided/gate-000000000000.json"]


@pytest.mark.parametrize("name", ADDED)
def test_an_added_file(shop, name, tmp_path):
    "A file that was put beside the others is named; nothing is decided on such a version until it is registered again."
    folder = shop / "data" / "registry" / "trees-3"
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("print('hello')")
    assert registry.changed_files(folder) == [f"{name} was added"]
    refused(shop, lambda: promote(shop, "trees-3", by="Ben", reason="x"), f"{name} was added", "Register it again")
    pulled = shutil.copytree(folder, tmp_path / "published" / "trees-3")
    assert registry.changed_files(pulled) == [f"{name} was added"], "and where it was pulled to"
    version(shop, "trees-3", "trees-2", day=3)
    assert registry.changed_files(folder) == [] and not (folder / name).exists()
    promote(shop, "trees-3", by="Ben", reason="now it is what was approved")


def test_a_kept_verdict_is_removed(shop):
    "The verdict on which somebody decided is evidence, also of a version that was judged again and is not live."
    version(shop, "trees-3", "trees-1", day=3)
    (kept,) = (shop / "data/registry/trees-3/decided").iterdir()
    assert verify(shop) == []
    content = kept.read_bytes()
    kept.unlink()
    (said,) = verify(shop)
    assert "on which trees-3 was approved is not in" in said and "backup" in said
    kept.write_bytes(content)
    assert verify(shop) == []


def test_an_added_link_or_folder(shop, tmp_path):
    "A link is named even when it points nowhere; an empty folder is nothing."
    folder = shop / "data" / "registry" / "trees-3"
    (folder / "package" / "elsewhere").symlink_to(tmp_path / "nowhere")
    (folder / "empty").mkdir()
    assert registry.changed_files(folder) == ["package/elsewhere was added"]


def test_verdicts_are_kept_when_a_spoilt_package_is_replaced(shop):
    "What somebody decided on stays, whatever happened to the package."
    folder = shop / "data" / "registry" / "trees-3"
    decided = read_log(shop)[-1]["gate"]
    (folder / "package" / "helper.py").write_text("print('hello')")
    version(shop, "trees-3", "trees-1", day=3)  # judged again, too
    assert [path.name for path in (folder / "decided").iterdir()] == [f"gate-{decided[:12]}.json"]
    assert registry.changed_files(folder) == [] and verify(shop) == []
