"The whole pipeline on a tiny panel: killed and resumed, changed, pushed, pulled, its reports' numbers run again."

import hashlib, json, os, re, shutil, signal, subprocess, sys, tempfile, time
from pathlib import Path
import nbformat, pytest, yaml
from copies import ROOT, copy_project, environment, run
from waiting import wait_for
from cd4ml_nb.core import hold_lock, replace_folder, sha256_of

SMALL = {
    "ingest": {"source": "tiny", "until": None},
    "estimators": {
        "decision_tree": {"min_samples_leaf": 20},
        "random_forest": {"n_estimators": 5, "min_samples_leaf": 20},
        "gradient_boosting": {"max_iter": 10, "min_samples_leaf": 20},
    },
}


def tiny_copy(to):
    "A copy of the project on the tiny source with small models, under git."
    root = copy_project(to)
    params = yaml.safe_load((root / "params.yaml").read_text())
    for section, values in SMALL.items():
        for key, value in values.items():
            if isinstance(value, dict) and key in params[section]:
                params[section][key].update(value)
            elif not isinstance(value, dict):
                params[section][key] = value
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "start"]):
        assert run(root, "git", *words).returncode == 0
    return root


def start(root, *targets):
    "Begin the pipeline in a process group of its own."
    return subprocess.Popen(
        ["cd4ml", "pipeline", *targets],
        cwd=root,
        env=environment(root),
        stdin=subprocess.DEVNULL,
        stdout=(root / "repro.log").open("a"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def finish(root, process):
    assert process.wait(timeout=300) == 0, (root / "repro.log").read_text()[-5000:]


def bytes_of(root):
    "What must be the same for the same inputs: all data and the reports' JSON; not run.json, which remembers runs."
    files = [
        p
        for folder in ("data", "reports")
        for p in (root / folder).rglob("*")
        if p.is_file() and not p.name.startswith(".") and not {"mlflow", "registry"} & set(p.parts)
    ]
    kept = [p for p in files if p.parts[-2] != "reports" or (p.suffix in (".json", ".csv") and p.name != "run.json")]
    return {
        str(p.relative_to(root)): re.sub(rb'"trained_at": "[^"]*"', b"", p.read_bytes()) for p in kept
    }  # the one thing in a model that says when


def same(these, those):
    "Same files, same bytes; else which are not."
    assert set(these) == set(those), f"only in one: {sorted(set(these) ^ set(those))}"
    assert not [name for name in these if these[name] != those[name]]


def name_of_run(root):
    "A name for what the pipeline makes of these very sources with this Python and these packages."
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and ".git" not in path.relative_to(root).parts]
    digest = hashlib.sha256(f"{sys.version}{os.getuid()}".encode())
    for path in [ROOT / "requirements.lock", *files]:
        digest.update(f"{path.name} {sha256_of(path)}\n".encode())
    return f"cd4ml-whole-{digest.hexdigest()[:16]}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "A copy of an uninterrupted run. It is done once, whoever asks first: `make prove` has that of `make test`."
    root = tiny_copy(tmp_path_factory.mktemp("whole") / "project")
    kept = Path(tempfile.gettempdir()) / name_of_run(root)
    for old in kept.parent.glob("cd4ml-whole-????????????????"):
        if old.stat().st_uid == os.getuid() and old.stat().st_mtime < time.time() - 86400:
            shutil.rmtree(old, ignore_errors=True)
    with hold_lock(kept.with_suffix(".lock"), "a whole run"):
        if not kept.exists():
            finish(root, start(root))
            with replace_folder(kept) as tmp:
                shutil.copytree(root, tmp, symlinks=True, dirs_exist_ok=True)
        assert kept.stat().st_uid == os.getuid(), f"{kept} belongs to another user"
    shutil.rmtree(root)
    return shutil.copytree(kept, root, symlinks=True)


@pytest.mark.prove
def test_killed_in_the_middle_of_stages_and_resumed(whole, tmp_path):
    "While it prepares, then while it fits what is asked for: what two more runs leave is what one leaves."
    root, target = tiny_copy(tmp_path / "project"), "backtest@gradient_boosting"
    for stage in ("prepare", "backtest-gradient_boosting"):
        process, begun = start(root, target), root / f"reports/.lock-{stage}.holder"
        begun.unlink(missing_ok=True)
        wait_for(begun.exists, (root / "repro.log").read_text, process)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    finish(root, start(root, target))
    resumed, uninterrupted = bytes_of(root), bytes_of(whole)
    same(resumed, {name: uninterrupted[name] for name in resumed if name in uninterrupted})
    assert {"data/prepared/version.json", "data/evaluation/gradient_boosting.parquet"} <= set(resumed)


@pytest.mark.prove
def test_the_output_is_quiet(whole):
    "One line a stage and the verdict, no warning, no traceback, no kernel's chatter, nothing of DVC."
    said = (whole / "repro.log").read_text()
    told = [line for line in said.splitlines() if not line.startswith("Waiting for:")]  # on a slow machine
    *lines, verdict = told
    assert "passed the gate" in verdict
    assert [line.split(",")[0] for line in lines] == [f"stage {n} of 13" for n in range(1, 14)], said
    assert not re.search(r"warning|traceback|IPKernelApp|nanobind", said, re.I), said


def stages_of(root):
    "The names of all stages, and of their reports."
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    return [f"backtest-{one}" for one in stages.pop("backtest")["matrix"]["estimator"]] + list(stages)


@pytest.fixture(
    params=[pytest.param("here", marks=pytest.mark.pipeline), pytest.param("tiny", marks=pytest.mark.prove)]
)
def made(request):
    "What the pipeline left: here, by `make pipeline`, or in a copy on the tiny panel."
    return ROOT if request.param == "here" else request.getfixturevalue("whole")


def test_every_stage_left_a_report_fit_to_read(made):
    reports, stages = made / "reports", stages_of(made)
    pages = [reports / f"{stage}.html" for stage in stages]
    for page in pages:
        text = page.read_text()
        assert page.with_suffix(".ipynb").exists() and "This run" in text and 'name="viewport"' in text
        assert not re.search(r"Warning:|Traceback|papermill|In&nbsp;\[", text), page.name
        assert not re.search(r'(src|href)="(https?:)?//', text), f"{page.name} needs a network"
    drawn = {page.stem: page.read_text().count("<img") for page in pages}
    assert all(drawn[stage] for stage in ("ingest", "prepare", "split", "backtest-ets", "evaluate", "train", "gate")), (
        drawn
    )
    assert made == ROOT or set(stages) == set(json.loads((reports / "run.json").read_text()))  # others run here, too
    assert run(made, "cd4ml", "report").returncode == 0
    index = (reports / "index.html").read_text()
    assert all(f'href="{page.name}"' in index for page in pages)
    assert [index.index(f'"{stage}.html"') for stage in ("ingest", "prepare", "split")] == sorted(
        index.index(f'"{stage}.html"') for stage in ("ingest", "prepare", "split")
    )


@pytest.mark.prove
def test_nothing_changed_means_nothing_runs(whole):
    done = run(whole, "cd4ml", "pipeline")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture(scope="module")
def clone(whole, tmp_path_factory):
    "Push the run, clone the sources elsewhere, pull."
    remote, clone = tmp_path_factory.mktemp("remote"), tmp_path_factory.mktemp("elsewhere") / "clone"
    assert (
        run(whole, "git", "add", ".").returncode == 0
        and run(whole, "git", "commit", "--quiet", "-m", "run").returncode == 0
    )
    for root, words in (
        (whole, ["dvc", "remote", "modify", "--local", "local", "url", remote]),
        (whole, ["dvc", "push", "--quiet"]),
        (clone.parent, ["git", "clone", "--quiet", whole, clone]),
        (clone, ["dvc", "remote", "modify", "--local", "local", "url", remote]),
        (clone, ["dvc", "pull", "--quiet"]),
    ):
        done = run(root, *words)
        assert done.returncode == 0, (words, done.stderr)
    return clone


@pytest.mark.prove
def test_push_clone_pull(whole, clone):
    "Another machine gets the same bytes without running anything."
    same(bytes_of(clone), bytes_of(whole))
    done = run(clone, "dvc", "repro")
    assert "Running stage" not in done.stdout and done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def again(clone):
    "nbval runs the executed stage notebooks once more, in the clone, while other tests go on."
    copies = clone / "again"
    copies.mkdir()
    for path in sorted((clone / "reports").glob("*.ipynb")):
        if path.stem.startswith("backtest-") and path.stem != "backtest-gradient_boosting":
            continue
        nb, checked = nbformat.read(path, as_version=4), 0
        for cell in nb.cells:
            kinds = {kind for output in cell.get("outputs", []) for kind in output.get("data", {"text": ""})}
            if (
                not kinds
                or any(kind.startswith("image/") for kind in kinds)
                or "nbval-ignore-output" in cell.metadata.get("tags", [])
            ):
                continue
            cell.metadata.setdefault("tags", []).append("nbval-check-output")
            checked += 1
        assert checked, f"{path.name} records no number"
        nbformat.write(nb, copies / path.name)
    (copies / "sanitize.cfg").write_text(
        "[address]\nregex: 0x[0-9a-f]+\nreplace: 0x\n\n[folder]\nregex: /tmp/\\S+\nreplace: FOLDER\n"
    )
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--nbval-lax",
        "--nbval-current-env",
        "--nbval-sanitize-with",
        copies / "sanitize.cfg",
        copies,
    ]
    process = subprocess.Popen(
        [str(w) for w in words],
        cwd=clone,
        env=environment(clone),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield process
    if process.poll() is None:
        process.kill()
        process.wait()


@pytest.mark.prove
def test_a_changed_parameter_reruns_only_what_it_touches(whole):
    before = bytes_of(whole)
    params = (whole / "params.yaml").read_text()
    changed = yaml.safe_load(params)
    changed["estimators"]["decision_tree"]["max_depth"] = 2
    (whole / "params.yaml").write_text(yaml.safe_dump(changed, sort_keys=False))
    (whole / ".dvc/tmp/rwlock").write_text("")  # as a DVC that was ended in the middle of writing leaves it
    done = run(whole, "cd4ml", "pipeline", "evaluate")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"stage \d+ of 9, (\S+):", done.stderr) == ["backtest-decision_tree", "evaluate"], done.stderr
    after = bytes_of(whole)
    assert "data/evaluation/decision_tree.parquet" in {name for name in before if before[name] != after[name]}
    difference = run(whole, "dvc", "params", "diff")
    assert difference.returncode == 0 and "estimators.decision_tree.max_depth" in difference.stdout, difference.stderr
    (whole / "params.yaml").write_text(params)
    done = run(whole, "dvc", "repro")
    assert done.returncode == 0, done.stderr
    same(bytes_of(whole), before)


def test_dvc_shows_stages_and_scores(made):
    for words in (["dag", "--dot"], ["metrics", "show"], ["plots", "show", "--json"], ["status"]):
        done = run(made, "dvc", *words)
        assert done.returncode == 0, (words, done.stderr)
    assert "gradient_boosting" in run(made, "dvc", "metrics", "show", "--json").stdout


@pytest.mark.prove
def test_the_recorded_numbers_come_again(again):
    "Every number and table that a report shows is compared."
    said = again.communicate(timeout=300)[0]
    assert again.returncode == 0, said[-6000:]
    assert int(re.search(r"(\d+) passed", said)[1]) > 10
