"Programs that others wrote ask the service: KServe's client, and a Prometheus that scrapes it."

import json, shutil, subprocess, sys
from pathlib import Path
import pytest
from urllib.parse import quote
from urllib.request import urlopen
from shop import query
from waiting import PATIENCE, free_port, wait_for

pytestmark = pytest.mark.prove
KSERVE = """import asyncio, json, sys
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
base, item, store, day = sys.argv[1:]

async def main():
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=1))
    inputs = []
    for name, value in (("item_nbr", item), ("store_nbr", store), ("date", day)):
        one = InferInput(name, [2], "BYTES")
        one.data = [value, value]
        inputs.append(one)
    live, ready = await client.is_server_live(base), await client.is_server_ready(base)
    model = await client.is_model_ready(base, "sales_forecast")
    found = await client.infer(base, InferRequest("sales_forecast", inputs), model_name="sales_forecast")
    outputs = {one.name: list(map(float, one.data)) for one in found.outputs if one.name in ("mean", "q90")}
    print(json.dumps({"well": [live, ready, model], **outputs}))

asyncio.run(main())"""


@pytest.fixture(scope="module")
def kserve(tmp_path_factory):
    "A Python that has KServe's client, which does not fit beside the project's own packages."
    folder, uv = tmp_path_factory.mktemp("kserve") / "env", Path(sys.executable).parent / "uv"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    command = [uv, "pip", "install", "--quiet", "--python", folder / "bin/python", "kserve==0.21.0"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"KServe's client cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    return folder / "bin/python"


def test_kserves_own_client_is_answered(kserve, service, model, good):
    base = f"http://127.0.0.1:{service.port}"
    words = [kserve, "-c", KSERVE, base, good["item_nbr"], good["store_nbr"], good["date"]]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    said, answer = json.loads(done.stdout), model.answer(*good.values())
    assert said["well"] == [True, True, True]
    assert (said["mean"], said["q90"]) == ([answer["mean"]] * 2, [answer["q90"]] * 2)


def test_a_prometheus_scrapes_it(service, good, tmp_path):
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("There is no program 'prometheus' here (Debian and Ubuntu: apt install prometheus).")
    port, settings = free_port(), tmp_path / "prometheus.yml"
    target = {"static_configs": [{"targets": [f"127.0.0.1:{service.port}"]}], "job_name": "cd4ml"}
    settings.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [target]}))
    words = [binary, f"--config.file={settings}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    log = tmp_path / "prometheus.log"
    with log.open("w") as out:
        process = subprocess.Popen([*words, f"--web.listen-address=127.0.0.1:{port}"], stdout=out, stderr=out)
    try:
        asked = query(item=good["item_nbr"], store=good["store_nbr"], date=good["date"])
        counted = 'cd4ml_requests_total{route="/forecast",status="200"}'
        before = _value(service, counted)
        for _ in range(7):
            assert service.ask(asked)[0] == 200
        wait_for(lambda: _scraped(port, counted) == before + 7, said=log.read_text, process=process)
        assert _scraped(port, 'up{job="cd4ml"}') == 1
        assert _scraped(port, 'cd4ml_model_live{model_version="trees-1",role="champion"}') == 1
        assert _scraped(port, "cd4ml_events_lost_total") == 0
    finally:
        process.terminate()
        process.wait()


def _value(service, name):
    "A number that the service tells."
    lines = service.ask("/metrics")[1].splitlines()
    return float(next((line.split()[-1] for line in lines if line.startswith(name)), 0))


def _scraped(port, asked):
    "The number that Prometheus knows; None while it knows none."
    try:
        with urlopen(f"http://127.0.0.1:{port}/api/v1/query?query={quote(asked)}") as answer:
            found = json.load(answer)["data"]["result"]
    except OSError:
        return None
    return float(found[0]["value"][1]) if found else None
