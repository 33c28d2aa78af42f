"The image that `make image` builds: small, without a shell, not root, and answering as the model does."

import json, os, shutil, signal, subprocess, urllib.request
from contextlib import contextmanager
from pathlib import Path
import pytest
from copies import ROOT, environment
from shop import query
from waiting import free_port, wait_for

pytestmark = [
    pytest.mark.prove,
    pytest.mark.skipif(
        not (shutil.which("buildah") and shutil.which("mmdebstrap") and os.geteuid() == 0),
        reason="needs buildah and mmdebstrap (Debian and Ubuntu: apt install buildah mmdebstrap), and root",
    ),
]
IMAGE, TOKEN, MOST_BYTES = "cd4ml_nb:test", "a token of this test", 400_000_000


def say(*command, **given):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **given)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def container(shop):
    "A container of the image, and where its files can be seen."
    say(ROOT / "scripts/image.sh", env=environment(ROOT, CD4ML_ROOT=str(shop), IMAGE=IMAGE))
    name = say("buildah", "from", "--pull-never", IMAGE)
    yield name, Path(say("buildah", "mount", name))
    say("buildah", "rm", name)
    say("buildah", "rmi", IMAGE)


@pytest.fixture(scope="module")
def config(container):
    "How the image says it is to be run."
    return json.loads(say("buildah", "inspect", container[0]))["Docker"]["config"]


@contextmanager
def served(container, config, tmp_path, token=TOKEN):
    "The image's own command as its own user; yields the port and the log."
    port, log = free_port(), tmp_path / "log"
    command = [*config["Entrypoint"], *config["Cmd"], "--port", str(port)]
    given = ["--env", f"CD4ML_TOKEN={token}"] if token else []
    words = ["buildah", "run", "--isolation", "chroot", "--user", config["User"], *given, container[0], "--", *command]
    with open(log, "w") as out:
        process = subprocess.Popen(words, stdout=out, stderr=out, start_new_session=True)
        try:
            yield port, log, process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(30)


def ask(port, path, token=TOKEN):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def is_ready(port):
    try:
        return ask(port, "/ready")["ready"]
    except OSError:
        return False


def files(folder):
    "Every file outside /tmp, /proc, /sys and /dev, with its size."
    inside = (
        path for path in folder.rglob("*") if path.relative_to(folder).parts[0] not in ("tmp", "proc", "sys", "dev")
    )
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in inside
        if path.is_file() and not path.is_symlink()
    }


def test_it_is_small_and_holds_nothing_else(container):
    found = files(container[1])
    assert sum(found.values()) <= MOST_BYTES
    packages = {path.split("/")[2] for path in found if path.startswith("opt/cd4ml/")}
    assert "cd4ml_nb" in packages and not packages & {"mlflow", "dvc", "jupyterlab", "papermill", "sklearn", "duckdb"}
    assert not any(path.rsplit("/", 1)[-1] in ("sh", "bash", "dash", "apt", "pip", "uv") for path in found)
    assert not any(path.endswith(("id_rsa", ".env", ".netrc")) for path in found)


def test_it_answers_as_the_model_does_and_writes_nothing(container, config, model, good, tmp_path):
    before = files(container[1])
    with served(container, config, tmp_path) as (port, log, process):
        wait_for(lambda: is_ready(port), log.read_text, process)
        path = query(item=good["item_nbr"], store=good["store_nbr"], date=good["date"])
        said = ask(port, path)
        assert said.pop("event") and said == model.answer(good["item_nbr"], good["store_nbr"], good["date"])
        say(*config["Healthcheck"]["Test"][1:2], "-c", config["Healthcheck"]["Test"][3].replace("8868", str(port)))
        processes = say("ps", "-ww", "-eo", "uid,args")
        assert any(line.split()[0] == "10001" and str(port) in line for line in processes.splitlines())
        with pytest.raises(OSError, match="401"):
            ask(port, path, "another")
    assert files(container[1]) == before


def test_without_a_token_it_does_not_listen(container, config, tmp_path):
    with served(container, config, tmp_path, token="") as (port, log, process):
        wait_for(lambda: process.poll() is not None)
    assert "CD4ML_TOKEN" in log.read_text() and "Traceback" not in log.read_text() and process.returncode != 0
