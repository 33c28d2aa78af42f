"From a registered version to a production folder, with the packaged model, a real DVC remote and real processes."

import json, os, shutil, signal, subprocess, sys, time
import pytest
from copies import ROOT, environment, run
from small_registry import add_version, make_project
from cd4ml_nb.core import UserError
from cd4ml_nb.delivery import deploy, release

FIRST, SECOND = "gradient_boosting-aaaaaaaa", "gradient_boosting-bbbbbbbb"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    "A git repository with a DVC remote, the library, and two versions of which the first is approved."
    if not (ROOT / "data" / "model" / "forecaster.json").is_file():
        pytest.skip("there is no model in data/model: run `make pipeline` first")
    root = make_project(tmp_path_factory.mktemp("deploy") / "project")
    for name in ("cd4ml_nb", "nbs"):
        (root / name).symlink_to(ROOT / name)
    (root / ".gitignore").write_text("/data/\n/dist/\n/cd4ml_nb\n/nbs\n/dvc-remote/\n")
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text(
        "[core]\n    remote = local\n    analytics = false\n['remote \"local\"']\n    url = ../dvc-remote\n"
    )
    (root / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
    for words in (
        ("git", "init", "-q"),
        ("git", "config", "user.name", "test"),
        ("git", "config", "user.email", "test@example.invalid"),
        ("git", "add", "."),
        ("git", "commit", "-q", "-m", "start"),
    ):
        done = run(root, *words)
        assert done.returncode == 0, done.stderr
    add_version(root, FIRST, 1)
    release.approve(root, FIRST, by="Ana", reason="good enough")
    return root


@pytest.fixture(autouse=True)
def trusting_git(monkeypatch):
    for name, value in environment(ROOT).items():
        if name.startswith("GIT_"):
            monkeypatch.setenv(name, value)


def test_published_here_pulled_there(project, tmp_path):
    "Another machine, which has git's files and the DVC remote, gets the very bytes that were registered."
    done = deploy.publish(project, FIRST, outputs=False)
    assert (project / done["pointer"]).is_file() and not (project / "published" / FIRST).exists()
    deploy.record(project, "Publish")
    other = tmp_path / "other"
    subprocess.run(["git", "clone", "-q", str(project), str(other)], check=True, capture_output=True)
    (other / ".dvc" / "config.local").write_text(f"['remote \"local\"']\n    url = {project / 'dvc-remote'}\n")
    assert deploy.pull(other) == {"model_version": FIRST, "fetched": True}
    here, there = (release.registry_folder(r) / FIRST for r in (project, other))
    assert not release.changed_files(there) and {p.relative_to(there) for p in there.rglob("*")} == {
        p.relative_to(here) for p in here.rglob("*")
    }
    assert (other / "dist" / "version").read_text().strip() == FIRST
    assert deploy.pull(other) == {"model_version": FIRST, "fetched": False}
    with pytest.raises(UserError, match="was not published"):
        deploy.pull(other, SECOND)
    shutil.rmtree(project / "dvc-remote")
    shutil.rmtree(other / ".dvc" / "cache")
    shutil.rmtree(there)
    with pytest.raises(UserError, match="dvc pull failed"):
        deploy.pull(other)
    assert not there.exists()


def test_what_comes_must_be_what_was_registered_and_decided(project, tmp_path):
    copy = shutil.copytree(release.registry_folder(project) / FIRST, tmp_path / FIRST)
    acts = release.read_log(project)
    deploy._check_pulled(copy, acts)
    with pytest.raises(UserError, match="another package than the log"):
        deploy._check_pulled(copy, [{**acts[-1], "package": "0" * 64}])
    (copy / "gate.json").write_text("{}")
    with pytest.raises(UserError, match="gate.json was changed"):
        deploy._check_pulled(copy, acts)


@pytest.fixture(scope="module")
def production(project):
    return project.parent / "production"


def test_build_try_deploy_promote(project, production):
    "The build answers like the registered model; once it answers in production, the log calls it champion."
    from cd4ml_nb.model.forecaster import load_forecaster

    about = deploy.build(project)
    assert (about["model_version"], about["by"], about["reason"]) == (FIRST, "Ana", "good enough")
    question, answer = about["smoke"]["question"], about["smoke"]["answer"]
    expected = load_forecaster(release.registry_folder(project) / FIRST / "package").forecast(
        question["item_nbr"], question["store_nbr"], question["date"]
    )
    assert answer["mean"] == pytest.approx(float(expected["mean"].iloc[0]))
    assert release.state(project)["champion"] is None
    done = deploy.deploy(project, production, by="pipeline")
    assert done["promoted"] and done["former"] is None and release.state(project)["champion"]["model_version"] == FIRST
    again = deploy.deploy(project, production)
    assert not again["promoted"] and again["version"] == done["version"] and len(release.read_log(project)) == 2


def test_what_nobody_approved_is_not_deployed(project, production):
    add_version(project, SECOND, 2, champion=FIRST)
    with pytest.raises(UserError, match="neither approved and waiting nor live"):
        deploy.build(project, SECOND)
    release.approve(project, SECOND, by="Bo", reason="better")
    deploy.build(project)
    release.reject(project, SECOND, by="Bo", reason="second thoughts")
    with pytest.raises(UserError, match="neither approved and waiting nor live"):
        deploy.deploy(project, production)
    assert release.state(project)["champion"]["model_version"] == FIRST and deploy.deployed(production).startswith(
        FIRST
    )
    release.approve(project, SECOND, by="Bo", reason="better after all", override=True)


@pytest.fixture(scope="module")
def second(project):
    "A good build of the second version, to copy."
    deploy.build(project, SECOND, project / "dist" / "second")
    return project / "dist" / "second"


def broken(second, change):
    "The same with one thing wrong, sealed again as if it were right."
    folder = second.with_name("broken")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(second, folder)
    change(folder)
    sealed = json.loads((folder / "release.json").read_text())
    sealed["files"] = {name: deploy.sha256_of(folder / name) for name in sealed["files"] if (folder / name).exists()}
    (folder / "release.json").write_text(json.dumps({**sealed, "build": "broken"}))
    return folder


def spoil(name, old, new):
    def change(folder):
        path = folder / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return change


@pytest.mark.parametrize(
    "change, said",
    [
        (
            spoil("app/cd4ml_nb/model/forecaster.py", "def load_forecaster(", "def load_forecaster_of_old("),
            "gave no answer",
        ),
        (
            spoil(
                "app/cd4ml_nb/model/forecaster.py",
                '"Load a packaged model after checking each file."',
                '__import__("os")._exit(9)',
            ),
            "ended with 9",
        ),
        (
            lambda folder: (folder / "package" / "mean.onnx").write_bytes(
                (folder / "package" / "log_mean.onnx").read_bytes()
            ),
            "was changed after it was packaged",
        ),
        (lambda folder: (folder / "app" / "cd4ml_nb" / "core.py").unlink(), "gave no answer|from outside its folder"),
    ],
    ids=["renamed", "dies", "other bytes", "missing"],
)
def test_a_build_that_does_not_answer_leaves_the_former_one(project, production, second, change, said):
    "Broken code or a broken model is found by the smoke test; production and the log stay as they were."
    folder, before, lines = broken(second, change), deploy.deployed(production), len(release.read_log(project))
    with pytest.raises(UserError, match=said) as error:
        deploy.deploy(project, production, folder)
    assert "as before" in str(error.value) and "Traceback" not in str(error.value)
    assert deploy.deployed(production) == before and len(release.read_log(project)) == lines
    assert deploy.read_release(production / "current")["model_version"] == FIRST


def test_a_changed_build_is_refused(project, production, second):
    folder = shutil.copytree(second, second.with_name("changed"))
    (folder / "app" / "params.yaml").write_text("changed: true\n")
    with pytest.raises(UserError, match="was changed after it was built"):
        deploy.deploy(project, production, folder)


def test_a_log_that_refuses_brings_the_former_one_back(project, production, second):
    "The promotion comes last; when the registry is not there, nothing is live that the log does not know."
    database = project / "data" / "mlflow" / "mlflow.db"
    database.rename(project / "away.db")
    try:
        with pytest.raises(UserError, match="is not there"):
            deploy.deploy(project, production, second)
    finally:
        (project / "away.db").rename(database)
    assert (
        deploy.deployed(production).startswith(FIRST) and release.state(project)["champion"]["model_version"] == FIRST
    )


def test_killed_at_any_moment(project, production, second):
    "Kill -9 while it deploys: production runs the one or the other, whole; the next deployment goes on."
    code = f"from cd4ml_nb.delivery import deploy, release\nrelease.promote = lambda *a, **k: None\ndeploy.deploy({str(project)!r}, {str(production)!r}, {str(second)!r})"
    for wait in (0.3, 0.5, 0.7, 1.0, 1.5):
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            env=environment(ROOT),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(wait)
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.wait()
        name = deploy.deployed(production)
        assert name.startswith((FIRST, SECOND)) and deploy.read_release(production / "current")["model_version"] in (
            FIRST,
            SECOND,
        )
    assert release.state(project)["champion"]["model_version"] == FIRST


def test_forth_and_back(project, production, second):
    "The second goes live for real; one command brings the first back, in production and in the log."
    done = deploy.deploy(project, production, second, by="Bo")
    assert done["promoted"] and release.state(project)["champion"]["model_version"] == SECOND
    if not (deploy.deployed(production, "former") or "").startswith(FIRST):
        deploy._point(production, "former", next(p.name for p in (production / "versions").glob(f"{FIRST}-*")))
    back = deploy.go_back(project, production, by="Ana", reason="too low on promoted days")
    assert back["rolled_back"] and back["version"].startswith(FIRST)
    assert (
        release.state(project)["champion"]["model_version"] == FIRST
        and release.read_log(project)[-1]["reason"] == "too low on promoted days"
    )
    assert deploy.read_release(production / "current")["model_version"] == FIRST
    assert not release.verify(project)


def test_bad_places(project, production, tmp_path):
    with pytest.raises(UserError, match="no build in"):
        deploy.smoke(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match="holds something else"):
        deploy.build(project, folder=tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()
    with deploy.production_lock(production), pytest.raises(UserError, match="under way"):
        deploy.restore(production, "why")
