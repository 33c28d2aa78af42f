"The conductor of the pipeline on a toy: four small stages, of which the two in the middle run side by side."

import os, re, shutil, signal, subprocess, time
import nbformat, psutil, pytest, yaml
from copies import ROOT, environment, run
from cd4ml_nb.core import hold_lock
from cd4ml_nb.delivery.stale import stale
from nbformat.v4 import new_code_cell, new_notebook
from waiting import PATIENCE, wait_for

NEEDS = {"first": [], "left": ["first"], "right": ["first"], "last": ["left", "right"]}
STEP = """#!/bin/sh
# step NAME SECONDS WORD: write all inputs and WORD; files say that a step is to fail, or what it has to wait for
echo "$1 begins" >> log
sleep "$2"
if [ -e "after-$1" ]; then timeout 60 sh -c "until grep -q '$(cat "after-$1")' log; do sleep 0.05; done" || exit 1; fi
if [ -e "fail-$1" ]; then echo "$1: it is raining"; exit 1; fi
name=$1; word=$3; shift 3
cat /dev/null "$@" > "$name.tmp"
echo "$word" >> "$name.tmp"
mv "$name.tmp" "$name.txt"
echo "$name ends" >> log
"""


def write_pipeline(root, cmd=None, frozen=()):
    "dvc.yaml of the four stages."
    stages = {}
    for name, needed in NEEDS.items():
        inputs = [f"{one}.txt" for one in needed]
        words = f"${{{name}.seconds}} ${{{name}.word}}"
        stages[name] = {
            "cmd": cmd.format(name=name) if cmd else f"./step {name} {words} {' '.join(inputs)}".strip(),
            "params": [name],
            "deps": inputs,
            "outs": [{f"{name}.txt": {"persist": True}}],
            **({"frozen": True} if name in frozen else {}),
        }
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))


def write_params(root, word="a", **seconds):
    "How long each stage takes, and what it writes."
    params = {name: {"seconds": seconds.get(name, 0), "word": word} for name in NEEDS}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def change(root, stage, **values):
    "Another value for one stage."
    params = yaml.safe_load((root / "params.yaml").read_text())
    params[stage].update(values)
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def make_toy(root):
    "A project under git and DVC with nothing but a pipeline; its library is this one's."
    root.mkdir()
    (root / "step").write_text(STEP)
    (root / "step").chmod(0o755)
    (root / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc/config", root / ".dvc/config")
    (root / ".gitignore").write_text("*.txt\n/log\n/reports\n*.tmp\n/cd4ml_nb\n")
    (root / ".dvcignore").write_text("cd4ml_nb\n*.tmp\n")
    (root / "cd4ml_nb").symlink_to(ROOT / "cd4ml_nb")
    assert run(root, "git", "init", "--quiet").returncode == 0
    return root


def make_ready(root):
    "The toy before its first run."
    make_toy(root)
    write_pipeline(root)
    write_params(root)
    return root


@pytest.fixture
def toy(tmp_path):
    return make_ready(tmp_path / "toy")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    root = make_ready(tmp_path_factory.mktemp("done") / "toy")
    assert pipeline(root)[0] == 0 and len(ran(root)) == 4
    return root


@pytest.fixture
def settled(done, tmp_path):
    "The toy as one run has left it."
    return shutil.copytree(done, tmp_path / "toy", symlinks=True)


def pipeline(root, *words):
    "Exit code, and what was said."
    done = run(root, "cd4ml", "pipeline", *words)
    return done.returncode, done.stderr


def log(root, fresh=True):
    "What the steps wrote into the log, which is then emptied."
    path = root / "log"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def ran(root):
    return [line.split()[0] for line in log(root) if line.endswith("ends")]


def lock_order(root):
    return re.findall(r"(?m)^  (\w+):$", (root / "dvc.lock").read_text())


def test_two_at_a_time_and_then_nothing(toy):
    "Left and right overlap, last waits for both; dvc.lock has the order of dvc.yaml, though right ended before left."
    (toy / "after-right").write_text("left begins")
    (toy / "after-left").write_text("right ends")
    assert pipeline(toy) == (0, "")
    lines = log(toy)
    at = lines.index
    assert lines[:2] == ["first begins", "first ends"] and lines[-2:] == ["last begins", "last ends"], lines
    assert max(at("left begins"), at("right begins")) < at("right ends") < at("left ends"), lines
    assert (toy / "last.txt").read_text() == "a\na\na\na\na\n"
    assert lock_order(toy) == list(NEEDS)
    before = (toy / "dvc.lock").read_bytes()
    assert (pipeline(toy), ran(toy), (toy / "dvc.lock").read_bytes()) == ((0, ""), [], before)
    assert "up to date" in run(toy, "dvc", "repro").stdout and "up to date" in run(toy, "dvc", "status").stdout


def test_a_failure_lets_the_other_lane_end_and_nothing_else_begin(toy):
    (toy / "fail-right").touch()
    (toy / "after-right").write_text("left begins")
    (toy / "after-left").write_text("right begins")
    code, said = pipeline(toy)
    assert code == 1 and said == "right: it is raining\n", said
    assert ran(toy) == ["first", "left"] and not (toy / "last.txt").exists()
    for file in ("fail-right", "after-right", "after-left"):
        (toy / file).unlink()
    assert pipeline(toy) == (0, "") and ran(toy) == ["right", "last"]


def test_both_lanes_fail(toy):
    "The one that failed first is named; both are run again."
    (toy / "fail-right").touch(), (toy / "fail-left").touch()
    (toy / "after-right").write_text("left begins")
    write_params(toy, left=4)
    assert pipeline(toy) == (1, "right: it is raining\n") and ran(toy) == ["first"]
    for file in ("fail-right", "fail-left", "after-right"):
        (toy / file).unlink()
    assert pipeline(toy) == (0, "") and sorted(ran(toy)) == ["last", "left", "right"]


def test_a_stage_that_gives_the_same_again_stops_the_change(settled):
    "First runs and gives the same: left and right are passed over, and last, which has changed itself, still runs."
    change(settled, "first", seconds=0.1)
    assert pipeline(settled) == (0, "") and ran(settled) == ["first"]
    change(settled, "first", seconds=0.2)
    change(settled, "last", word="b")
    assert pipeline(settled) == (0, "") and ran(settled) == ["first", "last"]
    assert (settled / "last.txt").read_text() == "a\na\na\na\nb\n"


def test_a_frozen_stage_stands_still_and_its_followers_go_on(settled):
    write_pipeline(settled, frozen=["left"])
    change(settled, "first", word="b")
    assert pipeline(settled) == (0, "") and ran(settled) == ["first", "right", "last"]
    assert (settled / "left.txt").read_text() == "a\na\n" and (settled / "right.txt").read_text() == "b\na\n"


def test_an_output_deleted_by_hand_comes_back(settled):
    (settled / "left.txt").unlink()
    assert pipeline(settled) == (0, "") and (settled / "left.txt").read_text() == "a\na\n"
    assert ran(settled) in (["left"], [])  # where DVC remembers the run, it brings the output back itself


def test_a_target_and_what_it_needs(toy):
    assert pipeline(toy, "left") == (0, "") and ran(toy) == ["first", "left"]
    assert pipeline(toy, "left", "--force") == (0, "") and ran(toy) == ["first", "left"]
    assert pipeline(toy) == (0, "") and ran(toy) == ["right", "last"]


def test_params_changed_while_a_stage_waits(toy):
    "A stage that begins after the change has the new value, and one that had ended runs the next time."
    write_params(toy, left=1.5, right=1.5)
    process = start(toy)
    wait_for(lambda: "right begins" in (toy / "log").read_text() if (toy / "log").exists() else False, process=process)
    change(toy, "first", word="b")
    change(toy, "last", word="b")
    assert process.wait(timeout=PATIENCE) == 0
    assert (toy / "last.txt").read_text() == "a\na\na\na\nb\n" and len(ran(toy)) == 4
    assert pipeline(toy) == (0, "") and sorted(ran(toy)) == ["first", "last", "left", "right"]
    assert (toy / "last.txt").read_text() == "b\na\nb\na\nb\n"


def test_an_unexpected_error_in_a_fork_is_told(toy, monkeypatch):
    "Not 'DVC failed without a word': an error of our own, in the process that is to run a stage."
    from cd4ml_nb.core import UserError
    from cd4ml_nb.delivery import pipeline as conductor

    def broken(*words):
        raise ValueError("a wrong word")

    monkeypatch.setattr(conductor, "_dvc", broken)
    for name, value in environment(toy).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(toy)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(UserError, match="ValueError: a wrong word"):
            conductor.run_pipeline(root=toy)
    finally:
        signal.signal(signal.SIGTERM, before)


# --- ended from outside, with two notebooks at work

NOTEBOOK = """import time
from cd4ml_nb.core import project_root, replace_file
with replace_file(project_root() / "{name}.txt") as tmp:
    tmp.write_text(word)
    time.sleep(seconds)"""


@pytest.fixture
def slow(tmp_path):
    "The toy with notebooks for stages, as the pipeline has them: kernels forked from a warm process."
    root = make_toy(tmp_path / "slow")
    shutil.copytree(ROOT / "scripts", root / "scripts")
    write_pipeline(root, cmd="scripts/stage {name}")
    write_params(root, left=60, right=60)
    (root / "nbs/stages").mkdir(parents=True)
    for name in NEEDS:
        cells = [new_code_cell('tiny = True\nseconds = 0\nword = "a"'), new_code_cell(NOTEBOOK.format(name=name))]
        cells[0].metadata["tags"] = ["parameters"]
        nb = new_notebook(cells=cells)
        nb.metadata["kernelspec"] = {"name": "python3", "display_name": "python3", "language": "python"}
        nbformat.write(nb, root / f"nbs/stages/{name}.ipynb")
    return root


def start(root, *stages):
    "Begin the pipeline as a user does, in a process group of its own."
    said = (root / "said.tmp").open("a")
    streams = {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": said}
    return subprocess.Popen(
        ["cd4ml", "pipeline", *stages], cwd=root, env=environment(root), start_new_session=True, **streams
    )


def at_work(root):
    "Processes in this folder."
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(root) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            pass
    return found


@pytest.mark.parametrize(
    "how", ["killed", *(pytest.param(how, marks=pytest.mark.prove) for how in ("terminated", "interrupted"))]
)
def test_ended_with_two_stages_at_work(slow, how):
    "All processes go, no stage's output is half there, and the next run goes on where this one was ended."
    process = start(slow)
    try:
        wait_for(lambda: len(at_work(slow)) > 8 and len([*slow.glob(".*.tmp")]) == 2, process=process)
        if how == "interrupted":
            os.killpg(process.pid, signal.SIGINT)
        else:
            os.kill(process.pid, {"killed": signal.SIGKILL, "terminated": signal.SIGTERM}[how])
        code = process.wait(timeout=PATIENCE)
        wait_for(lambda: not at_work(slow), lambda: str(at_work(slow)))  # 3 seconds on a quiet machine
    finally:
        for left in at_work(slow):
            left.kill()
    assert code == {"killed": -signal.SIGKILL, "terminated": 130, "interrupted": 130}[how], (
        slow / "said.tmp"
    ).read_text()
    assert not (slow / "left.txt").exists() and not (slow / "right.txt").exists()
    change(slow, "left", seconds=0)
    change(slow, "right", seconds=0)
    code, said = pipeline(slow)
    ran = re.findall(r"stage \d of 4, (\w+):", said)
    assert code == 0 and ran in (["left", "right", "last"], ["right", "left", "last"]), said
    assert lock_order(slow) == list(NEEDS)


def begun(process, words):
    "The processes that a pipeline has begun, and in whose command these words stand."
    try:
        return [one for one in psutil.Process(process.pid).children(recursive=True) if words in " ".join(one.cmdline())]
    except psutil.Error:
        return []


@pytest.mark.parametrize("victim", ["DVC", pytest.param("its command", marks=pytest.mark.prove)])
def test_a_dvc_that_is_killed_is_a_sentence_at_once(slow, victim):
    "Memory ran out, say, while its stage, which nobody waits for any more, would go on for a minute."
    write_params(slow, first=60)
    process = start(slow)
    try:
        wait_for(lambda: [*slow.glob(".*.tmp")], process=process)
        (asks,) = begun(process, "cd4ml_nb.delivery.warm stage")
        dvc = next(one for one in asks.parents() if one.ppid() == process.pid)  # between them some shells stay
        (dvc if victim == "DVC" else dvc.children()[0]).kill()
        killed = time.monotonic()
        assert process.wait(timeout=PATIENCE) == 1 and time.monotonic() - killed < 30
        wait_for(lambda: not at_work(slow), lambda: str(at_work(slow)))
    finally:
        for left in at_work(slow):
            left.kill()
    said = (slow / "said.tmp").read_text()
    how = "was ended from outside (SIGKILL), perhaps because memory ran out. Run it again; what was done stays.\n"
    assert said == f"The stage 'first' {how}", said
    write_params(slow)
    assert pipeline(slow)[0] == 0


@pytest.mark.prove
@pytest.mark.parametrize("asked", [False, True])
def test_the_warm_process_is_killed_before_it_answers(slow, asked):
    "The stages are run the slow way; nobody notices but by the time."
    process = start(slow)
    try:
        wait_for(lambda: begun(process, "delivery.warm import"), process=process)
        (warm,) = begun(process, "delivery.warm import")
        if asked:
            warm.suspend()
            wait_for(lambda: begun(process, "cd4ml_nb.delivery.warm stage"), process=process)
        warm.kill()
        change(slow, "left", seconds=0)
        change(slow, "right", seconds=0)
        assert process.wait(timeout=PATIENCE) == 0, (slow / "said.tmp").read_text()
    finally:
        for left in at_work(slow):
            left.kill()
    said = (slow / "said.tmp").read_text()
    assert "Traceback" not in said and re.findall(r"stage (\d) of 4", said) == list("1234"), said


def test_asked_to_end_before_the_stages_begin(slow):
    process = start(slow)
    wait_for(lambda: begun(process, "delivery.warm import"), process=process)
    process.terminate()
    assert process.wait(timeout=PATIENCE) == 130
    wait_for(lambda: not at_work(slow), lambda: str(at_work(slow)))
    assert (slow / "said.tmp").read_text() == "Stopped.\n"


@pytest.mark.prove
def test_two_begun_while_what_a_killed_one_had_begun_is_still_there(slow):
    "On a busy machine that takes its time: one of the two runs, the other one says which."
    process = start(slow)
    holders = [slow / f"reports/.lock-{name}.holder" for name in ("left", "right")]
    try:
        wait_for(lambda: all(holder.exists() for holder in holders), process=process)
        left_over = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        for one in left_over:
            one.suspend()
        change(slow, "left", seconds=0)
        change(slow, "right", seconds=0)
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        two = [subprocess.Popen(["cd4ml", "pipeline"], cwd=slow, env=environment(slow), **pipes) for _ in range(2)]
        time.sleep(15)
        for one in left_over:
            one.resume()
        said = {one.pid: one.communicate(timeout=240)[1] for one in two}
    finally:
        for one in at_work(slow):
            one.kill()
    ran, refused = sorted(two, key=lambda one: one.returncode)
    assert (ran.returncode, refused.returncode) == (0, 1), said
    assert f"'cd4ml pipeline' (process {ran.pid}) is at work in this folder" in said[refused.pid], said


# ---------------------------------------------------------------- what is here, and the newest run
def test_a_run_that_failed_leaves_an_older_one(settled):
    "A stage fails with parameters that were put back afterwards: only the note knows of it, until a whole run is well."
    assert stale(settled) == ""
    (settled / "fail-left").touch()
    change(settled, "left", word="b")
    assert pipeline(settled)[0] == 1
    assert "did not come to its end" in stale(settled) and "raining" in stale(settled)
    change(settled, "left", word="a")
    assert "did not come to its end" in stale(settled)
    assert pipeline(settled, "first")[0] == 0 and stale(settled), "a part of the pipeline takes no note away"
    (settled / "fail-left").unlink()
    assert pipeline(settled)[0] == 0 and stale(settled) == ""


def test_a_part_of_the_pipeline_leaves_the_rest_behind(settled):
    change(settled, "first", word="b")
    assert 'first.word was "a" and is "b"' in stale(settled)
    assert pipeline(settled, "first")[0] == 0
    assert "'left' has not run since 'first' made first.txt anew" in stale(settled)
    assert pipeline(settled)[0] == 0 and stale(settled) == ""


def test_other_data_and_data_that_were_only_copied(toy):
    "A folder that was touched is compared by its bytes; a stage that has never run is said."
    (toy / "source").mkdir()
    (toy / "source/sales.csv").write_text("one\n")
    stages = yaml.safe_load((toy / "dvc.yaml").read_text())["stages"]
    stages["first"]["deps"] = ["source"]
    (toy / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    assert "'first' has not run yet" in stale(toy)
    assert pipeline(toy)[0] == 0 and stale(toy) == ""
    (toy / "source/sales.csv").write_text("two\n")
    assert "source is not what the stage 'first' read" in stale(toy)
    (toy / "source/sales.csv").write_text("one\n")
    assert stale(toy) == ""


def test_a_run_that_is_under_way_or_was_killed(settled):
    (settled / "after-first").write_text("never")
    change(settled, "first", word="b")
    begun = subprocess.Popen(["cd4ml", "pipeline"], cwd=settled, env=environment(settled), stderr=subprocess.DEVNULL)
    wait_for(lambda: "first begins" in log(settled), "the first stage to begin")
    assert "A run is under way here: 'cd4ml pipeline'" in stale(settled)
    said = run(settled, "cd4ml", "gate").stderr
    assert "A run is under way here: 'cd4ml pipeline'" in said, said
    begun.kill()
    begun.wait()
    change(settled, "first", word="a")
    wait_for(lambda: "did not come to its end" in stale(settled), "the killed run's stages to end")
    with hold_lock(settled / "reports/.lock", "stage first"):
        assert "A run is under way here: stage first" in stale(settled)


# ---------------------------------------------------------------- a second command beside a run
def busy_toy(root):
    "The slow toy with a fifth stage, which reads what the last one writes; left takes longer than a refusal."
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    stages["extra"] = {"cmd": "scripts/stage extra", "deps": ["last.txt"], "outs": [{"extra.txt": {"persist": True}}]}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    notebook = nbformat.read(root / "nbs/stages/right.ipynb", 4)
    notebook.cells[1].source = NOTEBOOK.format(name="extra")
    nbformat.write(notebook, root / "nbs/stages/extra.ipynb")
    write_params(root, left=15, right=2)
    params = yaml.safe_load((root / "params.yaml").read_text())
    (root / "params.yaml").write_text(yaml.safe_dump(params | {"extra": {"seconds": 0, "word": "a"}}, sort_keys=False))
    return root


@pytest.mark.parametrize(
    "second",
    [
        ["cd4ml", "gate", "--again"],
        pytest.param(["dvc", "repro", "--force", "--single-item", "extra"], marks=pytest.mark.prove),
    ],
)
def test_a_gate_beside_a_run_is_refused_at_once_and_the_run_goes_on(slow, second):
    "What the gate reads is what the run is about to write; asked by DVC's own command, it gives way all the same."
    root = busy_toy(slow)
    (root / "last.txt").write_text("of a former run")
    process = start(root)
    try:
        wait_for((root / "reports/.lock-left.holder").exists, (root / "said.tmp").read_text, process)
        refused = run(root, *second)
        assert (root / "reports/.lock-left.holder").exists(), refused.stderr
        assert process.wait(timeout=PATIENCE) == 0, (root / "said.tmp").read_text()
    finally:
        for left in at_work(root):
            left.kill()
    assert refused.returncode and f"'cd4ml pipeline' (process {process.pid})" in refused.stderr, refused.stderr
    assert len(re.findall(r"stage \d of 5", (root / "said.tmp").read_text())) == 5


def own_dvc(root, stage):
    "Somebody's own DVC, which forces a stage of the toy."
    words = ["dvc", "repro", "--force", "--single-item", stage]
    return subprocess.Popen(words, cwd=root, env=environment(root), stdout=subprocess.DEVNULL)


def test_a_run_waits_for_what_somebodys_own_dvc_has(settled):
    "A DVC that was begun during the first stage writes what the next one is to read: that waits, and nothing dies."
    (settled / "after-first").write_text("go on")
    (settled / "after-extra").write_text("enough")
    stages = yaml.safe_load((settled / "dvc.yaml").read_text())["stages"]
    stages["extra"] = {"cmd": "./step extra 0 a left.txt", "deps": ["left.txt"], "outs": ["extra.txt"]}
    (settled / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    change(settled, "first", word="b")
    tell = lambda word: (settled / "log").open("a").write(f"{word}\n")
    heard = lambda word: word in ((settled / "log").read_text() if (settled / "log").exists() else "")
    process, said = start(settled, "last"), lambda: (settled / "said.tmp").read_text()
    try:
        wait_for(lambda: heard("first begins"), said, process)
        second = own_dvc(settled, "extra")  # it reads what the stage 'left' is to write
        wait_for(lambda: heard("extra begins"), said, process)
        tell("go on")
        wait_for(lambda: "Waiting for: 'dvc repro --force --single-item extra'" in said(), said, process)
        tell("enough")
        assert (second.wait(timeout=PATIENCE), process.wait(timeout=PATIENCE)) == (0, 0), said()
    finally:
        for left in at_work(settled):
            left.kill()
    assert said().count("Waiting for") == 1 and (settled / "last.txt").read_text() == "b\na\nb\na\na\n"


def test_a_run_is_refused_while_somebodys_own_dvc_is_at_work(settled):
    "It is the longer one here, and comes to its end."
    (settled / "after-first").write_text("go on")
    second = own_dvc(settled, "first")
    wait_for(lambda: "first begins" in ((settled / "log").read_text() if (settled / "log").exists() else ""))
    code, said = pipeline(settled)
    with (settled / "log").open("a") as out:
        out.write("go on\n")
    assert second.wait(timeout=PATIENCE) == 0
    assert code == 1 and f"(process {second.pid}) is at work in this folder, so nothing was run" in said, said
