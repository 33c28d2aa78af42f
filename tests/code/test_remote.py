"What comes from a DVC remote is hashed when it arrives; a file that was changed there is refused."

import os, shutil, subprocess
import pytest
from copies import ROOT


def dvc(folder, *words):
    environment = {**os.environ, "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    return subprocess.run(["dvc", *words], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def shared(tmp_path):
    "A project with this project's DVC settings, which has pushed a file and lost its own copies."
    root = tmp_path / "project"
    (root / ".dvc").mkdir(parents=True)
    shutil.copy(ROOT / ".dvc/config", root / ".dvc/config")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    (root / "model.txt").write_text("good " * 1000)
    for words in (("add", "-q", "model.txt"), ("push", "-q")):
        done = dvc(root, *words)
        assert done.returncode == 0, done.stderr
    (root / "model.txt").unlink()
    shutil.rmtree(root / ".dvc/cache")
    return root


def test_a_file_comes_back_from_the_remote(shared):
    assert dvc(shared, "pull", "-q").returncode == 0
    assert (shared / "model.txt").read_text().startswith("good")


def test_a_file_that_was_changed_in_the_remote_is_refused(shared):
    (stored,) = (path for path in (shared / "dvc-remote").rglob("*") if path.is_file())
    stored.chmod(0o644)
    stored.write_text("evil " * 1000)
    stored.chmod(0o444)  # as DVC leaves what it has checked
    assert dvc(shared, "pull", "-q").returncode != 0
    assert not (shared / "model.txt").exists()
    assert not [path for path in (shared / ".dvc/cache").rglob("*") if path.is_file() and "evil" in path.read_text()]
