"The image that `make image` builds: small, without a shell, not root, and answering as the model does."

import json, os, urllib.request
from contextlib import contextmanager
import pytest
from containers import NEEDS, built, say, started
from shop import query
from waiting import free_port, wait_for
from cd4ml_nb.serving.events import EVENTS, read_events

pytestmark = [pytest.mark.prove, NEEDS]
IMAGE, TOKEN, MOST_BYTES = "cd4ml_nb:test", "a token of this test", 400_000_000


@pytest.fixture(scope="module")
def image(shop):
    with built(IMAGE, shop) as found:
        yield found


@pytest.fixture(scope="module")
def container(image):
    "A container of the image, and where its files can be seen."
    return image[:2]


@pytest.fixture(scope="module")
def config(image):
    "How the image says it is to be run."
    return image[2]


@contextmanager
def served(container, config, tmp_path, token=TOKEN, record=None):
    "The image's own command as its own user, its record of events in a folder; yields the port and the log."
    port, log = free_port(), tmp_path / "log"
    given = {"CD4ML_TOKEN": token} if token else {}
    volumes = {record: f"/srv/live/{EVENTS}"} if record else {}
    with started(container[0], config, log, "--port", port, volumes=volumes, **given) as process:
        yield port, log, process


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


def test_what_was_said_outlives_the_container_on_its_volume(container, config, good, tmp_path):
    record, path = tmp_path / "record", query(item=good["item_nbr"], store=good["store_nbr"], date=good["date"])
    record.mkdir()
    os.chown(record, 10001, 10001)
    with served(container, config, tmp_path, record=record) as (port, log, process):
        wait_for(lambda: is_ready(port), log.read_text, process)
        event = ask(port, path)["event"]
        assert ask(port, "/ready")["events"] == ""
        wait_for(lambda: [one.id for one in read_events(record, kinds=["forecast"])] == [event], log.read_text)
    with served(container, config, tmp_path, record=record) as (port, log, process):
        wait_for(lambda: is_ready(port), log.read_text, process)
        assert ask(port, f"/provenance/{event}")["event"]["id"] == event


def test_without_a_place_for_its_record_it_answers_and_says_so(container, config, good, tmp_path):
    record, path = tmp_path / "record", query(item=good["item_nbr"], store=good["store_nbr"], date=good["date"])
    record.mkdir()  # of root, so that it cannot be written
    with served(container, config, tmp_path, record=record) as (port, log, process):
        wait_for(lambda: is_ready(port), log.read_text, process)
        assert "event" in ask(port, path)
        wait_for(lambda: "permissions" in ask(port, "/ready")["events"], log.read_text, process)
        say(*config["Healthcheck"]["Test"][1:2], "-c", config["Healthcheck"]["Test"][3].replace("8868", str(port)))
    assert not list(record.iterdir())
