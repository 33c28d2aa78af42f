"Files of a project that hold something else than they should: a command ends with a sentence, never a traceback."

import io, json, shutil, subprocess
from contextlib import redirect_stderr, redirect_stdout
import pytest
from copies import copy_project, run
from cd4ml_nb.cli.__init__ import main
from cd4ml_nb.delivery import release
from cd4ml_nb.delivery.registry import new_version
from cd4ml_nb.delivery.release import verify
from cd4ml_nb.tiny import tiny_project

NO_MLFLOW = release.Outside(probe=lambda root: None, mirror=lambda root, names: None)
COMMANDS = [
    "release status",
    "release show VERSION",
    "release verify",
    "release history",
    "gate",
    "data versions",
    "data provenance",
    "data provenance VERSION",
    "report",
    "forecast --item milk --date DAY",
]


@pytest.fixture(scope="module")
def project():
    "A tiny project whose model is registered and live."
    root = tiny_project("register")
    card = json.loads((root / "data/model/forecaster.json").read_text())["card"]
    with new_version(root, card["model_version"]) as folder:
        shutil.copytree(root / "data/model", folder / "package")
        for name in ("gate.json", "metrics.json", "explanation.json"):
            shutil.copy(root / "reports" / name, folder)
        shutil.copy(root / "params.yaml", folder)
        about = {name: card[name] for name in ("data_version", "git_revision")}
        (folder / "registration.json").write_text(json.dumps({**about, "releasable": True, "mlflow_version": 1}))
        (folder / "review.html").write_text("<p>as it was</p>")
    (root / "data/registered.json").write_text(json.dumps({"model_version": card["model_version"]}))
    for act in (release.approve, release.promote):
        act(root, card["model_version"], by="Ana", reason="it is good", override=True, outside=NO_MLFLOW)
    return root, card


def ask(root, card, command, monkeypatch):
    "The exit code of a command and what it said; any exception but its own ends the test."
    monkeypatch.setenv("CD4ML_ROOT", str(root))
    words = [{"VERSION": card["model_version"], "DAY": card["first_day"]}.get(word, word) for word in command.split()]
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = main(words)
    return code, said.getvalue()


FILES = ["reports/gate.json", "reports/metrics.json", "reports/explanation.json", "reports/data_quality.json"]
FILES += ["data/registered.json", "data/raw/left_out.json", "data/prepared/version.json", "data/split/windows.json"]
FILES += ["data/fitted/fitted.json", "data/model/forecaster.json", "data/model/promotions.json"]
FILES += [f"data/registry/*/{name}.json" for name in ("gate", "metrics", "explanation", "registration")]
FILES += ["data/registry/*/package/forecaster.json", "reports/releases.head.json", "reports/run.json"]


@pytest.mark.parametrize("content", ["null", "[]", "{}", "3", "not JSON"])
@pytest.mark.parametrize("pattern", FILES)
def test_a_json_file_with_something_else_in_it(project, monkeypatch, pattern, content):
    root, card = project
    for path in root.glob(pattern):
        good = path.read_bytes()
        path.write_text(content)
        try:
            for command in COMMANDS:
                code, said = ask(root, card, command, monkeypatch)
                assert code in (0, 1) and (code == 0 or said.strip()), command
        finally:
            path.write_bytes(good)


@pytest.mark.parametrize("name", ["review.html", "metrics.json", "explanation.json"])
def test_swapped_evidence_of_the_live_model(project, name):
    root, card = project
    path = root / "data/registry" / card["model_version"] / name
    good = path.read_bytes()
    assert verify(root) == []
    path.write_bytes(good + b" ")
    found = verify(root)
    path.write_bytes(good)
    assert len(found) == 1 and f"{name} was changed" in found[0]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    root = copy_project(tmp_path_factory.mktemp("clone"))
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    return root


@pytest.mark.parametrize(
    "name, content",
    [
        *(("dvc.yaml", text) for text in ("", "null", "stages: null", "stages: {split: 3}", "stages: [", "[]")),
        *(
            ("dvc.lock", text)
            for text in ("", "stages:\n  split:\n    cmd: [", "<<<<<<< HEAD\nstages: {}\n", "stages: 3")
        ),
        *((".dvc/config", text) for text in ("[core", "nonsense", "[core]\n    autostage = perhaps\n")),
    ],
)
def test_damaged_settings_of_dvc(clone, name, content):
    good = (clone / name).read_text() if (clone / name).exists() else ""
    (clone / name).write_text(content)
    done = run(clone, "cd4ml", "pipeline")
    (clone / name).write_text(good) if good else (clone / name).unlink()
    said = done.stdout + done.stderr
    assert done.returncode == 1 and name.split("/")[-1] in said and "Traceback" not in said
    assert f"git checkout {name}" in said


@pytest.mark.parametrize("command", ["pipeline", "stage split", "report", "dashboard --port 9923"])
def test_a_file_where_the_folder_of_reports_should_be(tmp_path, command):
    root = copy_project(tmp_path)
    (root / "reports").write_text("mine")
    done = run(root, "cd4ml", *command.split())
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "a file stands where a folder should be" in said and "Traceback" not in said
    assert (root / "reports").read_text() == "mine"
