"Tracking for real: DVC's queue, branches, a tracking server, SQLite held, killed and moved, two at once."

import contextlib, json, os, re, shutil, signal, sqlite3, subprocess, sys, urllib.request
from importlib.metadata import packages_distributions, requires
from pathlib import Path
import pytest, yaml
from copies import ROOT, copy_project, environment, run
from waiting import PATIENCE, answers, free_port, wait_for
from cd4ml_nb.core import UserError
from cd4ml_nb.delivery import experiments, mlflow_store, register, registry, release
from cd4ml_nb.tiny import TINY, tiny_project

MAKE_MODEL = """"Everything between the data and the registry in one process; the gate is only a sentence."
import json
from cd4ml_nb.core import project_root, read_params, write_json
from cd4ml_nb.delivery.package import package
from cd4ml_nb.model.training import train
from cd4ml_nb.quality.backtest import backtest
from cd4ml_nb.quality.evaluate import evaluate

root, params = project_root(), read_params()
mine = params["train"]["estimator"]
backtest(root, mine, params["estimators"][mine], params["training_rows"])
metrics = evaluate(root)
train(root, mine, params["estimators"][mine], params["training_rows"])
card, value = package(root), metrics["models"][mine]["nwrmsle"]["mean"]
passed = mine != "decision_tree"
check = {"check": "absolute", "title": "Good enough", "says": "A sentence.", "value": value, "limit": 0.8}
check["verdict"] = "passed" if passed else "failed"
gate = {"passed": passed, "model_version": card["model_version"], "data_version": metrics["data_version"]}
gate |= {"champion": None, "windows": [], "checks": [check], "slices": []}
write_json(root / "reports/gate.json", gate)
write_json(root / "reports/explanation.json", {})
"""


@pytest.fixture(scope="module", autouse=True)
def own_store():
    "No test writes to the store that the developer's environment names."
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "DVC_EXP_NAME"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    "A tracking server."
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    words = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        f"sqlite:///{folder}/server.db",
        "--artifacts-destination",
        folder / "files",
        "--host",
        "127.0.0.1",
        "--port",
        port,
        "--workers",
        "1",
    ]
    process = subprocess.Popen(
        [str(w) for w in words],
        env={**os.environ, **mlflow_store.QUIET},
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    yield f"http://127.0.0.1:{port}", process
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return shutil.copytree(tiny_project("register"), tmp_path_factory.mktemp("tiny") / "project")


@pytest.fixture
def registered(tiny):
    "The same with its model registered, whichever test of this file runs first here."
    if not (tiny / "data/mlflow/mlflow.db").exists():
        register.register(tiny, "any")
    return tiny


def in_store(root, question):
    with mlflow_store.open_store(root) as (mlflow, client, number):
        return question(mlflow, client, number)


def versions(root):
    return in_store(
        root,
        lambda mlflow, client, number: {
            v.tags["model_version"]: int(v.version)
            for v in client.search_model_versions(f"name = '{mlflow_store.MODEL_NAME}'")
        },
    )


def runs(root):
    return in_store(root, lambda mlflow, client, number: client.search_runs([number], "attributes.status = 'FINISHED'"))


# --- the queue and branches: `make prove`, for they take minutes

prove = pytest.mark.prove


@pytest.fixture(scope="module")
def project(tiny, tmp_path_factory):
    "A small project under git and DVC, whose stage register is the real one, with a first run on its branch main."
    root = copy_project(tmp_path_factory.mktemp("queue") / "project")
    for name in ("prepared", "split"):
        shutil.copytree(tiny / "data" / name, root / "data" / name)
    real = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["register"]
    left = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in real["outs"]]
    reports = [
        {f"reports/{name}": {"cache": False, "persist": True}}
        for name in ("gate.json", "explanation.json", "slices.csv", "scores.csv")
    ]
    model = {
        "cmd": 'CD4ML_ROOT="$PWD" PYTHONPATH="$PWD" python make_model.py',
        "params": ["train", "estimators", "training_rows", "gate"],
        "deps": ["make_model.py", "data/prepared", "data/split"],
        "outs": [
            {"data/evaluation": {"persist": True}},
            {"data/fitted": {"persist": True}},
            {"data/model": {"persist": True}},
            *reports,
        ],
        "metrics": [{"reports/metrics.json": {"cache": False, "persist": True}}],
    }
    register = {
        "cmd": real["cmd"],
        "params": real["params"],
        "deps": ["data/model", "reports/gate.json", "reports/metrics.json"],
        "outs": [{name: {"persist": True}} for name in left],
    }
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"model": model, "register": register}}, sort_keys=False))
    (root / "make_model.py").write_text(MAKE_MODEL)
    (root / "params.yaml").write_text(TINY.replace("releasable: any", "releasable: committed"))
    must(root, "git", "init", "--quiet", "-b", "main")
    must(root, "dvc", "add", "--quiet", "data/prepared", "data/split")
    commit(root, "start")
    must(root, "dvc", "repro", "--quiet")
    commit(root, "first run")
    return root


def must(root, *words, **more):
    done = run(root, *words, **{"CD4ML_ROOT": "", "DVC_EXP_NAME": "", **more})
    assert done.returncode == 0, (words, done.stdout[-3000:], done.stderr[-3000:])
    return done.stdout


def commit(root, why):
    must(root, "git", "add", ".")
    must(root, "git", "commit", "--quiet", "-m", why)


@pytest.fixture(scope="module")
def queued(project):
    "A grid of two experiments, run by two workers of DVC's queue."
    must(project, "dvc", "exp", "run", "--queue", "-S", "train.estimator=decision_tree,random_forest")
    must(project, "dvc", "exp", "run", "--run-all", "--jobs", "2")
    return sorted(must(project, "dvc", "exp", "list", "--name-only").split())


@prove
def test_the_queue_tracks_each_experiment_in_the_project_itself(project, queued):
    assert len(queued) == 2
    found = {r.data.tags.get("dvc_experiment", ""): r.data for r in runs(project)}
    assert sorted(found) == ["", *queued]
    assert {found[name].params["train.estimator"] for name in queued} == {"decision_tree", "random_forest"} and found[
        ""
    ].params["train.estimator"] == "gradient_boosting"
    assert {found[name].tags["gate"] for name in queued} == {"failed", "passed"}  # a failed one is tracked as well
    assert {found[name].tags["releasable"] for name in queued} == {"no"} and found[""].tags["releasable"] == "yes"
    assert len(versions(project)) == 3 and sorted(versions(project).values()) == [1, 2, 3]
    assert {
        folder.name
        for folder in (project / "data/registry").iterdir()
        if not folder.name.startswith(".") and folder.is_dir()
    } == set(versions(project))
    assert (
        release.state(project)["candidate"]["model_version"] == found[""].tags["model_version"]
    )  # an experiment never is
    assert must(project, "git", "status", "--porcelain", "--untracked-files=no") == ""


@prove
def test_the_leaderboard_lists_base_and_experiments_with_bands(project, queued):
    board = experiments.leaderboard(project)
    assert len(board["runs"]) == 3 and board["varied"] == ["train.estimator"]
    assert [r["verdict"] for r in board["runs"]].count("best") == 1 and all(
        r["verdict"] in ("best", "tie", "worse") for r in board["runs"]
    )
    said = experiments.leaderboard_in_words(board)
    assert all(name in said for name in queued) and "(candidate)" in said
    rows = experiments.compare_runs(project, queued)
    assert rows["slices"] and set(rows["parameters"]["train.estimator"]) == {"decision_tree", "random_forest"}


@prove
def test_an_experiment_taken_over_and_committed_becomes_releasable_and_branches_compare(project, queued):
    name = next(r["run"] for r in experiments.leaderboard(project)["runs"] if r["estimator"] == "random_forest")
    must(project, "git", "checkout", "--quiet", "-b", "idea")
    must(project, "dvc", "exp", "apply", name)
    assert register.unsettled(project, "committed") == "" and register.settle(project) is None
    commit(project, "a forest")
    done = must(project, "dvc", "repro")
    assert "Running stage" not in done, done  # to DVC nothing has changed ...
    said = register.settle(project)  # ... so this is asked
    assert (
        said["releasable"]
        and said["mlflow_version"] == versions(project)[said["model_version"]]
        and len(versions(project)) == 3
    )
    assert release.state(project)["candidate"]["model_version"] == said["model_version"]
    difference = json.loads(must(project, "dvc", "metrics", "diff", "main", "idea", "--json"))
    assert "random_forest" in json.dumps(difference)
    changed = json.loads(must(project, "dvc", "params", "diff", "main", "idea", "--json"))["params.yaml"][
        "train.estimator"
    ]
    assert (changed["old"], changed["new"]) == ("gradient_boosting", "random_forest")


# --- one store, many accidents

TWO_AT_ONCE = """
import os, signal, sys
from cd4ml_nb.delivery import register
import mlflow, onnxruntime  # once, for both

def die(*given, **named):
    os.kill(os.getpid(), signal.SIGKILL)

children = []
for step in ("register_model", None):
    child = os.fork()
    if child == 0:
        if step:
            setattr(register, step, die)
        register.register(sys.argv[1], "any")
        os._exit(0)
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""


def test_two_at_once_and_killed_ones_leave_one_version(tiny):
    "Two processes make the store at the same moment; one registers, one is killed in the middle; then once more."
    command = [sys.executable, "-c", TWO_AT_ONCE, str(tiny)]
    env = environment(ROOT, CD4ML_ROOT=str(tiny), **mlflow_store.QUIET)
    done = subprocess.run(command, cwd=tiny, env=env, capture_output=True, text=True, timeout=400)
    assert done.stdout.splitlines()[-1:] == [str([-signal.SIGKILL, 0])], done.stderr[-2000:]
    ((version, number),) = versions(tiny).items()
    assert number == 1 and (tiny / "data/registry" / version / "registration.json").exists() and len(runs(tiny)) == 1
    said = register.register(tiny, "any")
    assert (said["mlflow_version"], said["run_id"]) == (1, runs(tiny)[0].info.run_id) and len(versions(tiny)) == 1
    mine = f".{version}.{os.getpid()}.tmp"
    assert not (tiny / "data/registry" / mine).exists()
    assert registry.changed_files(tiny / "data/registry" / version) == []


def test_what_a_run_keeps(registered):
    (found,) = runs(registered)
    names = set(found.data.metrics)
    metrics = json.loads((registered / "reports/metrics.json").read_text())
    assert {
        "nwrmsle",
        "wape",
        "bias",
        "holdout/nwrmsle",
        *(f"nwrmsle/{origin}" for origin in metrics["windows"]),
    } <= names
    assert any(name.startswith("slice/family/") for name in names)
    assert {"data_version", "git_revision", "gate", "releasable", "model_version"} <= set(found.data.tags)
    kept = {p.name for p in Path(found.info.artifact_uri).iterdir()}
    assert {
        "gate.json",
        "metrics.json",
        "slices.csv",
        "params.yaml",
        "errors.parquet",
        "review.html",
        "model_card.md",
    } <= kept


def test_the_model_names_what_it_imports():
    "Every package that loading a forecaster imports stands in the requirements of MLflow's model."
    code = """
import sys
import cd4ml_nb.model.forecaster, onnxruntime
print(*sorted({name.split(".")[0] for name in sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment(ROOT), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    packages = packages_distributions()
    found = {each.lower() for name in done.stdout.split() for each in packages.get(name, [])}
    needs, todo = set(), list(mlflow_store.NEEDS)
    while todo:  # what is needed, and what that needs
        name = todo.pop().lower()
        if name not in needs:
            needs.add(name)
            todo += [re.match(r"[\w.-]+", need)[0] for need in requires(name) or [] if "extra ==" not in need]
    ours = {"cd4ml-nb", "cd4ml_nb", "cloudpickle", "setuptools"}  # the last two only where they happen to be installed
    assert found - ours <= {name.replace("_", "-") for name in needs}, found - needs - ours


@pytest.mark.pipeline
def test_what_a_former_run_left_is_read(tmp_path):
    "The project's own registry, log and MLflow store, copied elsewhere: every version, run and file is found."
    if not (ROOT / "data/mlflow/mlflow.db").exists():
        pytest.skip("there is no MLflow store in data/mlflow: run `make pipeline` first")
    for name in ("data/registry", "data/mlflow", "reports/releases.jsonl"):
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)  # with the ledger of registrations, whose name begins with a dot
        elif source.exists():
            shutil.copy(source, target)
    known = registry.registered(tmp_path)
    assert known and registry.unsound_versions(tmp_path) == [] and release.verify(tmp_path) == []
    assert all(not registry.changed_files(registry.registry_folder(tmp_path) / e["model_version"]) for e in known)
    found = mlflow_store.read_runs(tmp_path)
    assert {entry["run_id"] for entry in known} <= {run["run_id"] for run in found}
    kept = mlflow_store.read_artifact(tmp_path, found[0], "errors.parquet")
    assert kept.is_relative_to(tmp_path) and experiments.leaderboard(tmp_path)["runs"][0]["verdict"] == "best"


@prove
def test_the_model_opens_where_this_library_is_not(tiny, tmp_path):
    "MLflow's own format: loaded by alias in a process that knows only MLflow, no pickle in it, the same answers."
    register.register(tiny, "any")
    code = """
import sys
sys.meta_path = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
sys.path = [p for p in sys.path if p not in ("", {root!r})]
import importlib.util, mlflow
assert importlib.util.find_spec("cd4ml_nb") is None
mlflow.set_tracking_uri({uri!r})
model = mlflow.pyfunc.load_model("models:/sales_forecast@candidate")
assert model.metadata.signature is not None
print(model.predict(model.input_example[["item_nbr", "store_nbr", "date"]])["mean"].tolist())
""".format(root=str(ROOT), uri=mlflow_store.store_uris(tiny)[0])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, **mlflow_store.QUIET},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    from cd4ml_nb.model.forecaster import load_forecaster

    forecaster = load_forecaster(tiny / "data/model")
    _, example = mlflow_store.model_signature(forecaster)
    assert json.loads(done.stdout.splitlines()[-1]) == pytest.approx(
        forecaster.forecast_table(example)["mean"].tolist(), rel=1e-9
    )
    assert not list((tiny / "data/mlflow").rglob("*.pkl"))


def test_aliases_follow_releases(registered):
    (version,) = versions(registered)
    aliases = lambda: in_store(
        registered, lambda mlflow, client, number: client.get_registered_model(mlflow_store.MODEL_NAME).aliases
    )
    assert aliases() == {"candidate": 1}
    release.approve(
        registered,
        version,
        by="reviewer",
        reason="good",
        override=not json.loads((registered / "reports/gate.json").read_text())["passed"],
    )
    release.promote(registered, version, by="reviewer", reason="good")
    assert aliases() == {"champion": 1}
    register.register(registered, "any")  # the live model once more: no candidate
    assert aliases() == {"champion": 1} and experiments.leaderboard(registered)["runs"][0]["aliases"] == ["champion"]


def test_a_store_that_is_held_gone_or_no_store_gets_a_sentence(registered, tmp_path):
    database = registered / "data/mlflow/mlflow.db"
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="cannot be written"):
            mlflow_store.probe(registered)
    mlflow_store.probe(registered)
    with pytest.raises(UserError, match="is not there"):
        mlflow_store.probe(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(registered, broken, ignore=shutil.ignore_patterns("mlflow"))
    (broken / "data/mlflow").mkdir()
    (broken / "data/mlflow/mlflow.db").write_text("this is no database, though it has its name " * 100)
    with pytest.raises(UserError, match="cannot be written|is not a registry"):
        mlflow_store.probe(broken)
    before = sorted(p.name for p in (broken / "data/registry").iterdir())
    with pytest.raises(UserError) as e:
        register.register(broken, "any")
    assert "\n" not in str(e.value) and len(str(e.value)) < 400
    assert sorted(p.name for p in (broken / "data/registry").iterdir()) == before


def test_a_copied_project_keeps_its_runs_to_itself(registered, tmp_path):
    copy = shutil.copytree(registered, tmp_path / "copy")
    count = lambda root: sum(1 for _ in (root / "data/mlflow/artifacts").rglob("*"))
    before = count(registered)
    sealed = json.loads((copy / "reports/metrics.json").read_text())
    (copy / "reports/metrics.json").write_text(json.dumps({**sealed, "note": "another run"}))
    register.register(copy, "any")
    assert count(copy) > before == count(registered) and len(runs(copy)) == 2 and len(runs(registered)) == 1
    assert (
        in_store(
            copy,
            lambda mlflow, client, number: (
                mlflow.pyfunc.load_model(f"models:/{mlflow_store.MODEL_NAME}/1").metadata.signature
            ),
        )
        is not None
    )


def test_without_a_gate_nothing_is_registered(tiny, tmp_path):
    root = shutil.copytree(tiny, tmp_path / "copy", ignore=shutil.ignore_patterns("mlflow", "registry"))
    (root / "reports/gate.json").unlink()
    with pytest.raises(UserError, match="gate.json is missing"):
        register.register(root, "any")
    (root / "reports/gate.json").write_text(json.dumps({"passed": True, "model_version": "another", "checks": []}))
    with pytest.raises(UserError, match="judged another"):
        register.register(root, "any")
    assert not (root / "data/registry").exists() and not (root / "data/mlflow").exists()


@prove
def test_a_tracking_server_named_by_the_environment(tiny, server, tmp_path, monkeypatch):
    address, process = server
    wait_for(lambda: answers(int(address.rsplit(":", 1)[1])), process=process)
    urllib.request.urlopen(f"{address}/health", timeout=PATIENCE)
    root = shutil.copytree(
        tiny, tmp_path / "copy", ignore=shutil.ignore_patterns("mlflow", "registry", "releases.jsonl")
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    said = register.register(root, "any")
    mlflow_store.probe(root)
    assert said["mlflow_version"] == 1 and not (root / "data/mlflow/mlflow.db").exists()
    board = experiments.leaderboard(root)
    assert (
        board["runs"][0]["run_id"] == said["run_id"]
        and mlflow_store.read_artifact(root, board["runs"][0], "gate.json").exists()
    )
    mlflow_store.mirror(root, {"champion": said["mlflow_version"], "candidate": None})
    assert in_store(
        root, lambda mlflow, client, number: client.get_registered_model(mlflow_store.MODEL_NAME).aliases
    ) == {"champion": "1"}
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(UserError, match="does not answer"):
        mlflow_store.probe(root)
    with pytest.raises(UserError, match="does not answer"):
        register.register(root, "any")
