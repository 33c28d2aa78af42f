"A copy of the project to break, and its commands in their own environment."

import os, shutil, subprocess, sys
from pathlib import Path
import warm
from cd4ml_nb.delivery.pipeline import start_files

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [
    "cd4ml_nb",
    "nbs",
    "scripts",
    "settings.ini",
    "setup.py",
    "pyproject.toml",
    ".importlinter",
    "params.yaml",
    "dvc.yaml",
    "data/source/README.md",
    "tests/contracts",
    ".dvcignore",
    ".gitignore",
    ".dvc/config",
    ".dvc/.gitignore",
]


LEFT_OUT = shutil.ignore_patterns(
    "*.pyc.*", ".ipynb_checkpoints", "*.tmp"
)  # what is compiled goes along, once it is whole


def copy_project(to):
    "The project's sources without data, reports and history, in a new folder."
    for name in SOURCES:
        source, target = ROOT / name, Path(to) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=LEFT_OUT)
        elif source.exists():
            shutil.copy(source, target)
    start_files(to)
    return Path(to)


def environment(root, **more):
    "The environment of a command that runs in another copy of the project: its own library, this Python."
    return {
        **os.environ,
        "PYTHONPATH": str(root),
        "CD4ML_ROOT": str(root),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_WAIT_POLICY": "PASSIVE",
        "GIT_AUTHOR_NAME": "test",
        "GIT_AUTHOR_EMAIL": "test@example.invalid",
        "GIT_COMMITTER_NAME": "test",
        "GIT_COMMITTER_EMAIL": "test@example.invalid",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
        **more,
    }


def run(root, *command, timeout=900, **more):
    "Run a command in a copy of the project; returns the finished process."
    words, env = [str(word) for word in command], environment(root, **more)
    if words[0] in ("cd4ml", "dvc") and sys.platform == "linux":
        return warm.run(words, root, env, timeout)
    return subprocess.run(
        words,
        cwd=root,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
