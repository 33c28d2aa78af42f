"From a registered version to a production folder, with a real DVC remote and real processes; the model is a tiny one."

import json, os, shutil, signal, subprocess, sys
from types import SimpleNamespace
import pytest
from copies import ROOT, environment
from cd4ml_nb.core import UserError, run_git
from cd4ml_nb.delivery import build, deploy
from cd4ml_nb.delivery.acts import LOG
from cd4ml_nb.delivery.registry import changed_files, hold_registry, registry_folder
from cd4ml_nb.delivery.release import approve, history, reject, rollback, verify
from cd4ml_nb.delivery.state import state
from cd4ml_nb.tiny import tiny_package, tiny_shop

FIRST, SECOND = "trees-1", "trees-2"


@pytest.fixture(autouse=True)
def trusting_git(monkeypatch):
    for name, value in environment(ROOT).items():
        if name.startswith("GIT_"):
            monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    "A shop that has the first version live and a build of the second, approved one; to copy."
    shop = tiny_shop(tmp_path_factory.mktemp("deploy") / "shop", FIRST, SECOND)
    approve(shop, FIRST, by="Ana", reason="good enough")
    build.build(shop)
    deploy.deploy(shop, shop / "production", by="build server")
    approve(shop, SECOND, by="Bo", reason="better", override=True)
    build.build(shop)
    return shop


@pytest.fixture
def shop(ready, tmp_path):
    "Such a shop of one's own, with its folders by name."
    root = shutil.copytree(ready, tmp_path / "shop", symlinks=True)
    return SimpleNamespace(root=root, production=root / "production", built=root / "dist/release")


def champion(shop):
    return state(shop.root)["champion"]["model_version"]


def nothing_changed(shop):
    "The first version is live, whole, and the champion; nothing was added to the log."
    live = build.read_release(shop.production / "current")["model_version"]
    return (live, champion(shop), [act["act"] for act in history(shop.root)]) == (
        FIRST,
        FIRST,
        ["approve", "promote", "approve"],
    )


# To another machine and back


def test_published_here_pulled_there(tmp_path):
    "Another machine, which has git's files and the DVC remote, gets the very bytes that were registered."
    here, there = tiny_shop(tmp_path / "here", FIRST), tmp_path / "there"
    remote = (
        f"[core]\n    remote = local\n    analytics = false\n['remote \"local\"']\n    url = {tmp_path / 'remote'}\n"
    )
    (here / ".dvc").mkdir()
    (here / ".dvc/config").write_text(remote)
    (here / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (here / ".gitignore").write_text("/data/\n/dist/\n")
    approve(here, FIRST, by="Ana", reason="good enough")
    for words in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "start")):
        run_git(here, *words)

    done = deploy.publish(here, FIRST, outputs=False)
    assert (here / done["pointer"]).is_file() and not (here / "published" / FIRST).exists()
    deploy.record(here, "Publish")
    run_git(tmp_path, "clone", "-q", str(here), str(there))
    assert deploy.pull(there) == {"model_version": FIRST, "fetched": True}
    sent, came = (registry_folder(root) / FIRST for root in (here, there))
    names = lambda folder: {path.relative_to(folder) for path in folder.rglob("*")}
    assert not changed_files(came) and names(sent) == names(came)
    assert (there / "dist/version").read_text().strip() == FIRST
    assert deploy.pull(there) == {"model_version": FIRST, "fetched": False}

    shutil.rmtree(tmp_path / "remote")
    shutil.rmtree(there / ".dvc/cache")
    shutil.rmtree(came)
    with pytest.raises(UserError, match="dvc pull failed"):
        deploy.pull(there)
    assert not came.exists()


# A build, tried, put live


def test_what_nobody_approved_is_not_deployed(shop):
    reject(shop.root, SECOND, by="Bo", reason="second thoughts")
    for refused in (
        lambda: build.build(shop.root, SECOND),
        lambda: deploy.deploy(shop.root, shop.production),
    ):
        with pytest.raises(UserError, match="neither approved nor live"):
            refused()
    assert champion(shop) == FIRST and deploy.deployed(shop.production).startswith(FIRST)


def test_what_status_calls_approved_can_be_built_and_deployed(shop):
    "The first version is still approved when another one is live: status, build and deploy go by one rule."
    deploy.deploy(shop.root, shop.production)
    status = {entry["model_version"]: entry["status"] for entry in state(shop.root)["versions"] if not entry["live"]}
    assert status == {FIRST: "approved"}
    assert build.build(shop.root, FIRST)["by"] == "Ana"


def test_deployed_again_nothing_happens(shop):
    done = deploy.deploy(shop.root, shop.production)
    again = deploy.deploy(shop.root, shop.production)
    assert done["promoted"] and not again["promoted"] and again["version"] == done["version"]
    assert [act["act"] for act in history(shop.root)] == ["approve", "promote", "approve", "promote"]


def test_another_package_than_the_approved_one(shop):
    "A build that is whole, but not of what a person approved."
    tiny_package(shop.built / "package", SECOND, 9.9)
    about = json.loads((shop.built / "release.json").read_text())
    build.write_release(shop.built, about)
    with pytest.raises(UserError, match="another package than the approved one"):
        deploy.deploy(shop.root, shop.production)
    assert nothing_changed(shop)


def test_bad_places(shop, tmp_path):
    with pytest.raises(UserError, match="There is no build in"):
        build.smoke(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("x")
    with pytest.raises(UserError, match="holds something else"):
        build.build(shop.root, folder=tmp_path / "mine")
    assert (tmp_path / "mine/thesis.txt").exists()
    for damaged in ("", "[]", '{"files": {}}'):
        (shop.built / "release.json").write_text(damaged)
        with pytest.raises(UserError, match="is damaged"):
            build.smoke(shop.built)
    with deploy.production_lock(shop.production), pytest.raises(UserError, match="under way"):
        deploy.restore(shop.production, "why")


# The seal: what is there, and nothing else

LIBRARY, MARK = "app/cd4ml_nb", "I was run"
EVIL = f"raise SystemExit({MARK!r})\n"


def write(name, text=EVIL):
    def change(folder):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    return change


def link(folder):
    (folder / LIBRARY / "__init__.py").unlink()
    (folder.parent / "elsewhere.py").touch()  # the very same content
    (folder / LIBRARY / "__init__.py").symlink_to(folder.parent / "elsewhere.py")


SMUGGLED = {
    "sitecustomize": (write("app/sitecustomize.py"), "file app/sitecustomize.py was added"),
    "usercustomize": (write("app/usercustomize.py"), "file app/usercustomize.py was added"),
    "a .pth": (write("app/more.pth", "import os"), "file app/more.pth was added"),
    "shadows json": (write("app/json.py"), "file app/json.py was added"),
    "shadows numpy": (write("app/numpy/__init__.py"), r"file app/numpy/__init__.py was added \(and 1 more\)"),
    "a module": (write(f"{LIBRARY}/model/more.py"), "file app/cd4ml_nb/model/more.py was added"),
    "compiled": (write(f"{LIBRARY}/__pycache__/x.pyc"), "file app/cd4ml_nb/__pycache__/x.pyc was added"),
    "hidden": (write("package/.hidden"), "file package/.hidden was added"),
    "beside": (write("notes.txt"), "file notes.txt was added"),
    "a folder": (lambda folder: (folder / "package/more").mkdir(), "folder package/more was added"),
    "a link instead": (link, "file app/cd4ml_nb/__init__.py was replaced by a link"),
    "a link more": (lambda folder: (folder / "app/more").symlink_to("/"), "file app/more was added"),
    "a pipe": (lambda folder: os.mkfifo(folder / "app/pipe"), "file app/pipe was added"),
    "executable": (lambda folder: (folder / LIBRARY / "__init__.py").chmod(0o755), "was made executable"),
    "changed": (write("app/params.yaml", "release: {auto_approve: always}\n"), "file app/params.yaml was changed"),
    "removed": (lambda folder: (folder / "app/params.yaml").unlink(), "file app/params.yaml was removed"),
}


@pytest.mark.parametrize("change, said", SMUGGLED.values(), ids=SMUGGLED)
def test_what_the_seal_does_not_name_is_refused_before_anything_runs(shop, monkeypatch, change, said):
    change(shop.built)
    monkeypatch.setattr(build, "ask_build", lambda *given: pytest.fail("the build was run"))
    for refused in (lambda: build.smoke(shop.built), lambda: deploy.deploy(shop.root, shop.production)):
        with pytest.raises(UserError, match=said):
            refused()
    assert nothing_changed(shop)


@pytest.mark.parametrize("name", ["sitecustomize.py", "usercustomize.py", "json.py", "pathlib.py", "more.pth"])
def test_a_process_that_answers_takes_nothing_else_from_the_folder(shop, name):
    "Even if the seal were not there: the library is loaded by its path, and Python runs isolated."
    write(f"app/{name}")(shop.built)
    assert build.ask_build(shop.built / "app", shop.built / "package")["answer"]["mean"] == 1.6


def test_nothing_of_a_build_is_executable_or_left_behind_by_its_test(shop):
    (shop.root / "params.yaml").chmod(0o755)
    build.build(shop.root)
    assert not (shop.built / "app/params.yaml").stat().st_mode & 0o111
    before = sorted(shop.built.rglob("*"))
    build.smoke(shop.built)
    assert sorted(shop.built.rglob("*")) == before


# Back


def spoil(folder, name, old, new):
    "Another content, sealed again as if it were right."
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
    about = json.loads((folder / "release.json").read_text())
    about["files"][name] = build.sha256_of(folder / name)
    (folder / "release.json").write_text(json.dumps({**about, "build": "broken"}))


FORECASTER = f"{LIBRARY}/model/forecaster.py"


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("def load_forecaster(", "def load_forecaster_of_old(", "gave no answer"),
        ("import json", "import os; os._exit(9)", "ended with 9"),
        ("import json", "print('no JSON'); raise SystemExit", "gave no answer"),
        ("SimpleNamespace(card", "SimpleNamespace(cards", "gave no answer"),
        ('["answer"]', '["answer"] | {"mean": 7.0}', "mean is 7.0, and 1.6 was recorded"),
    ],
    ids=["renamed", "dies", "says nothing", "another field", "another answer"],
)
def test_a_build_that_does_not_answer_leaves_the_former_one(shop, old, new, said):
    "Broken code is found by the smoke test in production; production and the log stay as they were."
    spoil(shop.built, FORECASTER, old, new)
    with pytest.raises(UserError, match=said) as error:
        deploy.deploy(shop.root, shop.production)
    assert "as before" in str(error.value) and "Traceback" not in str(error.value)
    assert nothing_changed(shop)


def test_a_log_that_refuses_brings_the_former_one_back(shop):
    "The promotion comes last; when the registry is not there, nothing is live that the log does not know."
    database = shop.root / "data/mlflow/mlflow.db"
    database.rename(shop.root / "away.db")
    with pytest.raises(UserError, match="is not there"):
        deploy.deploy(shop.root, shop.production)
    (shop.root / "away.db").rename(database)
    assert nothing_changed(shop)


def test_a_page_that_cannot_be_written_undoes_nothing(shop, monkeypatch):
    "The act is logged by then: production must not go back for the page that leads to the reports."
    (shop.root / "reports/index.html").write_text("old")

    def full(root):
        raise UserError("the disk is full")

    monkeypatch.setattr("cd4ml_nb.delivery.reports.write_index", full)
    deploy.deploy(shop.root, shop.production)
    assert (champion(shop), build.smoke(shop.production / "current")["model_version"]) == (SECOND, SECOND)


def test_forth_and_back(shop):
    "The second goes live; one command brings the first back, in production and in the log."
    deploy.deploy(shop.root, shop.production, by="Bo")
    assert champion(shop) == SECOND
    back = deploy.go_back(shop.root, shop.production, by="Ana", reason="too low on promoted days")
    assert back["rolled_back"] and back["version"].startswith(FIRST)
    assert champion(shop) == FIRST and history(shop.root)[-1]["reason"] == "too low on promoted days"
    assert build.read_release(shop.production / "current")["model_version"] == FIRST
    assert not verify(shop.root)


def no_name(shop):
    return deploy.go_back(shop.root, shop.production, by="", reason="too low")


def busy(shop):
    with hold_registry(shop.root, "reject trees-3"):
        return deploy.go_back(shop.root, shop.production, by="Ana", reason="too low")


def damaged(shop):
    log = shop.root / LOG
    log.write_bytes(log.read_bytes().replace(b"better", b"bitter"))
    return deploy.go_back(shop.root, shop.production, by="Ana", reason="too low")


def no_mlflow(shop):
    (shop.root / "data/mlflow/mlflow.db").unlink()
    return deploy.go_back(shop.root, shop.production, by="Ana", reason="too low")


REFUSALS = [(no_name, "Say who"), (busy, "Another act"), (damaged, "is not what was written"), (no_mlflow, "not there")]


@pytest.mark.parametrize("refused, said", REFUSALS)
def test_what_the_log_refuses_leaves_production_alone(shop, refused, said):
    "Nothing moves when the rollback could not be logged."
    deploy.deploy(shop.root, shop.production)
    now = deploy.deployed(shop.production)
    with pytest.raises(UserError, match=said):
        refused(shop)
    assert deploy.deployed(shop.production) == now and deploy.deployed(shop.production, "former")


def test_a_full_disk_after_the_way_back(shop, monkeypatch):
    "Production moved and the log did not: both are said, and one command makes them agree."
    deploy.deploy(shop.root, shop.production)

    def full(handle, line, size):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("cd4ml_nb.delivery.ledger._write_line", full)
        with pytest.raises(
            UserError, match="Production went back to trees-1.*the log of releases does not know"
        ) as error:
            deploy.go_back(shop.root, shop.production, by="Ana", reason="too low")
    assert "Nothing was changed" not in str(error.value)
    assert build.smoke(shop.production / "current")["model_version"] == FIRST and champion(shop) == SECOND
    rollback(shop.root, by="Ana", reason="too low")
    assert champion(shop) == FIRST
    assert all("does not end with" in said for said in verify(shop.root)), "production's own record lacks its line"


def test_what_a_server_left_behind_does_not_stop_the_way_back(shop):
    "Compiled files in both versions: the former is made anew from its seal, the one that goes is not asked."
    deploy.deploy(shop.root, shop.production)
    for version in ("current", "former"):
        write(f"{LIBRARY}/__pycache__/core.cpython-311.pyc")(shop.production / version)
        (shop.production / version / "app/reports").mkdir()
    back = deploy.go_back(shop.root, shop.production, by="Ana", reason="too low")
    assert back["rolled_back"] and build.smoke(shop.production / "current")["model_version"] == FIRST


def test_what_was_changed_is_not_gone_back_to(shop):
    deploy.deploy(shop.root, shop.production)
    now = deploy.deployed(shop.production)
    write(FORECASTER)(shop.production / "former")
    with pytest.raises(UserError, match="forecaster.py was changed after it was built"):
        deploy.go_back(shop.root, shop.production, by="Ana", reason="too low")
    assert deploy.deployed(shop.production) == now and champion(shop) == SECOND


def test_the_way_back_does_not_need_the_seal_of_what_goes(shop):
    "Production is mended first; a log that cannot follow says so."
    deploy.deploy(shop.root, shop.production)
    (shop.production / "current/release.json").unlink()
    back = deploy.go_back(shop.root, shop.production, by="Ana", reason="too low")
    assert not back["rolled_back"] and build.smoke(shop.production / "current")["model_version"] == FIRST
    (shop.production / "former").symlink_to(f"versions/{back['was']}")
    with pytest.raises(UserError, match="release.json is missing. Nothing was changed"):
        deploy.restore(shop.production, "again")


def test_the_same_build_again_mends_what_lies_in_production(shop):
    deploy.deploy(shop.root, shop.production)
    write("app/sitecustomize.py")(shop.production / "current")
    with pytest.raises(UserError, match="sitecustomize.py was added"):
        build.smoke(shop.production / "current")
    deploy.deploy(shop.root, shop.production)
    assert build.smoke(shop.production / "current")["model_version"] == SECOND


# Killed

KILLED = """import os, shutil, signal, sys
from cd4ml_nb.delivery import deploy
holder, name, at, root = shutil if sys.argv[1] == "copyfile" else deploy, sys.argv[1], int(sys.argv[2]), sys.argv[3]
real, calls = getattr(holder, name), []
def count(*given, **more):
    calls.append(given)
    if len(calls) == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*given, **more)
setattr(holder, name, count)
deploy.deploy(root, root + "/production")
"""
POINTS = [  # The call before which the process dies, and what is live then
    pytest.param("copyfile", 3, FIRST, id="while it is copied", marks=pytest.mark.prove),
    pytest.param("point", 1, FIRST, id="placed", marks=pytest.mark.prove),
    pytest.param("point", 2, FIRST, id="former is set", marks=pytest.mark.prove),
    pytest.param("smoke", 1, SECOND, id="switched"),
    pytest.param("promote", 1, SECOND, id="tried", marks=pytest.mark.prove),
    pytest.param("_note", 1, SECOND, id="promoted", marks=pytest.mark.prove),
    pytest.param("prune", 1, SECOND, id="noted", marks=pytest.mark.prove),
]


@pytest.mark.parametrize("name, at, live", POINTS)
def test_killed_while_it_deploys(shop, name, at, live):
    "Production runs the one or the other, whole; the next deployment goes on, and the way back is open."
    words = [sys.executable, "-c", KILLED, name, str(at), str(shop.root)]
    done = subprocess.run(words, env=environment(ROOT), capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert build.smoke(shop.production / "current")["model_version"] == live
    apart = live != champion(shop)  # killed between the switch and its line in the log of releases
    assert any("was cut short: trees-2 runs there, and trees-1 is live" in said for said in verify(shop.root)) == apart
    deploy.deploy(shop.root, shop.production)
    assert not verify(shop.root)
    assert (champion(shop), build.smoke(shop.production / "current")["model_version"]) == (SECOND, SECOND)
    assert not [path.name for path in (shop.production / "versions").glob(".*")]
    assert deploy.go_back(shop.root, shop.production, by="Ana", reason="too low")["version"].startswith(FIRST)
    assert champion(shop) == FIRST and not verify(shop.root)


BACK_KILLED = """import os, signal, sys
from cd4ml_nb.delivery import deploy, release
release.append = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
deploy.go_back(sys.argv[1], sys.argv[1] + "/production", by="Ana", reason="too low")
"""


def test_killed_on_the_way_back(shop, capsys):
    "Production is back and the log does not know: the next command says so, and how to tell it."
    deploy.deploy(shop.root, shop.production)
    assert not verify(shop.root)
    done = subprocess.run([sys.executable, "-c", BACK_KILLED, str(shop.root)], env=environment(ROOT))
    assert done.returncode == -signal.SIGKILL
    said = "was cut short: trees-1 runs there, and trees-2 is live by the log of releases. Tell the log"
    assert said in verify(shop.root)[0]
    reject(shop.root, FIRST, by="Ana", reason="asked meanwhile")
    assert said in capsys.readouterr().err
    rollback(shop.root, by="Ana", reason="too low")
    assert not verify(shop.root)


@pytest.mark.parametrize(
    "spoil", [lambda lines: lines[:1], lambda lines: [lines[0].replace(b', "before": ""', b""), *lines[1:]]]
)
def test_the_record_of_production_is_checked(shop, spoil):
    deploy.deploy(shop.root, shop.production)
    record = shop.production / "deployments.jsonl"
    lines = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(b"".join(spoil(lines)))
    assert "deployments.jsonl is not what was written" in verify(shop.root)[0]
    record.write_bytes(b"".join(lines))
    assert not verify(shop.root)


@pytest.mark.parametrize(
    "name, damage",
    [
        ("deployments.jsonl", lambda kept: b"half a li\n" + kept),
        ("deployments.jsonl", lambda kept: kept + b"no act\n"),
        (".deployments.head.json", lambda kept: b"half"),
        (".deployments.head.json", lambda kept: None),
    ],
)
def test_a_damaged_record_is_named_with_its_folder(shop, capsys, name, damage):
    deploy.deploy(shop.root, shop.production)
    path = shop.production / name
    kept = damage(path.read_bytes())
    path.unlink() if kept is None else path.write_bytes(kept)
    (said,) = verify(shop.root)
    assert str(path) in said, said
    capsys.readouterr()
    deploy.go_back(shop.root, shop.production, by="Ana", reason="too low")
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize("link, what", [("current", "What runs in"), ("former", "What a way back brings in")])
@pytest.mark.parametrize("name", ["release.json", "package/mean.onnx", "app/cd4ml_nb/__init__.py"])
def test_a_damaged_build_in_production_is_found(shop, link, what, name):
    "The folder is read, not touched; and a link that leads nowhere is one, too."
    deploy.deploy(shop.root, shop.production)
    folder = (shop.production / link).resolve()
    path = next(path for path in [folder / name, *sorted((folder / "package").rglob("*"))] if path.is_file())
    kept = path.read_bytes()
    path.write_bytes(b"x" + kept)
    said = [line for line in verify(shop.root) if line.startswith(f"{what} {shop.production} is not what was built")]
    assert len(said) == 1 and str(folder) in said[0] and path.read_bytes() == b"x" + kept, said
    path.write_bytes(kept)
    assert not verify(shop.root)
    folder.rename(folder.with_name("elsewhere"))
    assert any(line.startswith(f"{what} {shop.production}") for line in verify(shop.root))


def test_killed_between_the_two_links(shop, monkeypatch):
    "Both links show what is live: what ran before is in the record, and the way back leads there."
    deploy.deploy(shop.root, shop.production)
    build.build(shop.root, FIRST)
    words = [sys.executable, "-c", KILLED, "point", "2", str(shop.root)]
    assert subprocess.run(words, env=environment(ROOT), capture_output=True).returncode == -signal.SIGKILL
    live, former = (deploy.deployed(shop.production, link) for link in ("current", "former"))
    assert live == former and live.startswith(SECOND)
    with monkeypatch.context() as patched:  # A deployment that fails now leaves the same way back
        patched.setattr(deploy, "smoke", lambda folder: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            deploy.deploy(shop.root, shop.production)
    assert deploy.deployed(shop.production, "former").startswith(FIRST)
    deploy.point(shop.production, "former", live)
    done = deploy.go_back(shop.root, shop.production, by="Ana", reason="too low")
    assert done["version"].startswith(FIRST) and done["rolled_back"] and champion(shop) == FIRST
    assert not verify(shop.root)
    with pytest.raises(UserError, match="There is no former version in .*For another one: cd4ml deploy build --model"):
        deploy.restore(shop.production, "too low")


# With the packaged model


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    "The project's own library and model, built and approved."
    from small_registry import add_version, make_project

    root = make_project(tmp_path_factory.mktemp("real") / "project")
    for name in ("cd4ml_nb", "nbs"):
        (root / name).symlink_to(ROOT / name)
    add_version(root, FIRST, 1)
    approve(root, FIRST, by="Ana", reason="good enough")
    build.build(root)
    return root


@pytest.mark.pipeline
def test_build_try_deploy_promote(real):
    "The build answers like the registered model; once it answers in production, the log calls it champion."
    from cd4ml_nb.model.forecaster import load_forecaster

    about = build.read_release(real / "dist/release")
    assert (about["model_version"], about["by"], about["reason"]) == (FIRST, "Ana", "good enough")
    asked = [about["smoke"]["question"][name] for name in ("item_nbr", "store_nbr", "date")]
    expected = load_forecaster(registry_folder(real) / FIRST / "package").forecast(*asked)
    assert about["smoke"]["answer"]["mean"] == pytest.approx(float(expected["mean"].iloc[0]))
    assert state(real)["champion"] is None
    done = deploy.deploy(real, real / "production", by="build server")
    assert done["promoted"] and done["former"] is None and state(real)["champion"]["model_version"] == FIRST


@pytest.mark.pipeline
def test_a_model_of_other_bytes_is_found_by_the_package_itself(real, tmp_path):
    "Sealed again as if it were right, the build still holds the package's own list of hashes."
    folder = shutil.copytree(real / "dist/release", tmp_path / "release")
    (folder / "package/mean.onnx").write_bytes((folder / "package/log_mean.onnx").read_bytes())
    about = json.loads((folder / "release.json").read_text())
    about["files"]["package/mean.onnx"] = build.sha256_of(folder / "package/mean.onnx")
    (folder / "release.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="was changed after it was packaged"):
        build.smoke(folder)


@pytest.mark.pipeline
def test_the_commands(real, capsys):
    "What the build server types, and what it typed before."
    from cd4ml_nb.cli.__init__ import main

    added, asked = real / "dist/release/app/sitecustomize.py", ["deploy", "smoke", str(real / "dist/release")]
    added.touch()
    assert main(asked) == 1
    said = capsys.readouterr().err
    assert "app/sitecustomize.py was added" in said and len(said.splitlines()) == 1
    added.unlink()
    assert main(asked) == 0 and f"{FIRST} answers as recorded" in capsys.readouterr().out
    for verb in "publish pull build smoke deploy restore record settle auto".split():
        assert main(["release", verb]) == 2 and capsys.readouterr().err.strip().endswith(f"cd4ml deploy {verb}")
