"Images built by scripts/image.sh, and their own commands run from them without a daemon."

import json, os, shutil, signal, subprocess
from contextlib import contextmanager
from pathlib import Path
import pytest
from copies import ROOT, environment

NEEDS = pytest.mark.skipif(
    not (shutil.which("buildah") and shutil.which("mmdebstrap") and os.geteuid() == 0),
    reason="needs buildah and mmdebstrap (Debian and Ubuntu: apt install buildah mmdebstrap), and root",
)


def say(*command, **given):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **given)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@contextmanager
def built(image, root, *what):
    "A container of a fresh image of a project, where its files can be seen, and how it says that it is to be run."
    say(ROOT / "scripts/image.sh", *what, env=environment(ROOT, CD4ML_ROOT=str(root), IMAGE=image))
    name = say("buildah", "from", "--pull-never", image)
    try:
        config = json.loads(say("buildah", "inspect", name))["Docker"]["config"]
        yield name, Path(say("buildah", "mount", name)), config
    finally:
        say("buildah", "rm", name)
        say("buildah", "rmi", image)


@contextmanager
def started(name, config, log, *more, volumes={}, **environ):
    "The image's own command as its own user."
    words = ["buildah", "run", "--isolation", "chroot", "--user", config["User"]]
    for given, pairs in (("--env", environ), ("--volume", volumes)):
        words += [
            word for key, value in pairs.items() for word in (given, f"{key}{'=' if given == '--env' else ':'}{value}")
        ]
    with open(log, "w") as out:
        command = [*words, name, "--", *config["Entrypoint"], *config["Cmd"], *more]
        process = subprocess.Popen([*map(str, command)], stdout=out, stderr=out, start_new_session=True)
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(30)
