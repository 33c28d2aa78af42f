"A project with live models of which each says other numbers, and the service as a process of its own."

import http.client, json, shutil, subprocess, sys, tempfile
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from urllib.parse import urlencode
import numpy as np
from copies import ROOT, environment
from waiting import free_port, wait_for
from cd4ml_nb.core import sha256_of
from cd4ml_nb.delivery import registry, release
from cd4ml_nb.delivery.state import state
from cd4ml_nb.model.forecaster import make_ready
from cd4ml_nb.model.package import _seal_of, read_state, write_state
from cd4ml_nb.tiny import tiny_project

NO_MLFLOW = release.Outside(probe=lambda root: None, mirror=lambda root, names: None)


def make_shop(folder, model=None):
    "An empty project, and the packaged model, that of a tiny one by default, from which its versions are made."
    folder.mkdir()
    shutil.copy(ROOT / "params.yaml", folder)
    shutil.copytree(model or tiny_project("gate") / "data/model", folder / "made")
    return folder


def write_package(root, package, version, times):
    "The model under another name, with sales that many times as high, on data of its own name."
    shutil.copytree(root / "made", package)
    block = read_state(package / "state.parquet")
    more = {name: getattr(block, name) * np.float32(times) for name in ("sales", "item_sales", "class_sales")}
    write_state(package / "state.parquet", replace(block, **more))
    told = json.loads((package / "forecaster.json").read_text())
    told["files"]["state.parquet"] = sha256_of(package / "state.parquet")
    told["card"] |= {"model_version": version, "data_version": f"data of {version}"}
    told["seal"] = _seal_of(told)
    (package / "forecaster.json").write_text(json.dumps(told))
    make_ready(package)


def register(root, version, times=1.0):
    "Register a version that passed its gate."
    champion = (state(root)["champion"] or {}).get("model_version")
    with registry.new_version(root, version) as new:
        write_package(root, new / "package", version, times)
        gate = {"passed": True, "model_version": version, "champion": champion, "checks": []}
        (new / "gate.json").write_text(json.dumps(gate))
        facts = {"data_version": f"data of {version}", "git_revision": "abc", "gate_passed": True, "releasable": True}
        (new / "registration.json").write_text(json.dumps(facts))


def approve(root, version):
    release.approve(root, version, "Prüferin", "good", override=True, outside=NO_MLFLOW)


def promote(root, version):
    release.promote(root, version, by="Prüferin", reason="the best so far", override=True, outside=NO_MLFLOW)


def put_live(root, version, times=1.0):
    "Register, approve and promote a version."
    register(root, version, times)
    approve(root, version)
    promote(root, version)


@cache
def _first_shop():
    "A project in which a first version is live, made once; nobody writes to it."
    place = tempfile.TemporaryDirectory(prefix="cd4ml-shop-")
    put_live(make_shop(Path(place.name) / "shop"), "trees-1")
    return place


def live_shop(folder):
    "A project in which a first version is live: a copy, made at once, where each act of a release waits for the disk."
    return shutil.copytree(Path(_first_shop().name) / "shop", folder, symlinks=True)


def without_events(said):
    "What a service said of forecasts, without what differs from request to request."
    if isinstance(said, dict):
        rest = {name: value for name, value in said.items() if name != "event" or not isinstance(value, str)}
        return {name: [without_events(one) for one in rest[name]] if name == "answers" else rest[name] for name in rest}
    return said


class Service:
    "A running service, and one way to ask it."

    def __init__(self, port, process, log, host="127.0.0.1"):
        self.port, self.process, self.log, self.host = port, process, log, host

    def connect(self):
        return http.client.HTTPConnection(self.host, self.port, timeout=60)

    def ask(self, path, method="GET", body=None, headers={}, connection=None):
        "Status and answer; JSON where it is such, without the ids of events."
        status, said, _ = self.ask_all(path, method, body, headers, connection)
        return status, without_events(said)

    def ask_all(self, path, method="GET", body=None, headers={}, connection=None):
        "Status, answer and headers."
        own = connection or self.connect()
        own.request(method, path, body if isinstance(body, (bytes, type(None))) else json.dumps(body), headers)
        answer = own.getresponse()
        text = answer.read()
        if connection is None:
            own.close()
        is_json = answer.headers.get("content-type") == "application/json"
        return answer.status, json.loads(text) if is_json else text.decode(), answer.headers

    def version(self):
        status, said = self.ask("/ready")
        return said["model_version"] if status == 200 else None


@contextmanager
def serving(root, *options, ready=True, inside=(), host="127.0.0.1", **more):
    "The service of a project on a free port, on this machine or inside another; killed afterwards where it still runs."
    port = free_port()
    command = [*inside, sys.executable, "-c", "from cd4ml_nb.start import main; raise SystemExit(main())", "serve"]
    command += ["--host", host]
    log = root / "service.log"
    with log.open("w") as out:
        env = environment(root, **{"PYTHONPATH": str(ROOT), **more})
        process = subprocess.Popen([*command, "--port", str(port), *options], env=env, cwd=root, stdout=out, stderr=out)
    service = Service(port, process, log, host)
    try:
        wait_for(lambda: _answers(service, ready), said=log.read_text, process=process)
        yield service
    finally:
        process.kill()
        process.wait()


def _answers(service, ready):
    try:
        status, _ = service.ask("/ready")
    except OSError:
        return False
    return status == 200 or not ready


def query(path="/forecast", **asked):
    return f"{path}?{urlencode(asked)}"
