"The Open Inference Protocol V2, asked by Triton's own client, and every address by schemathesis."

import json, re, struct, subprocess, sys
from pathlib import Path
import numpy as np, pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException
from waiting import PATIENCE

MODEL = "sales_forecast"
NUMBERS = ("mean", "q10", "q50", "q90")


@pytest.fixture
def client(service):
    with triton.InferenceServerClient(f"127.0.0.1:{service.port}", network_timeout=PATIENCE) as found:
        yield found


def tensors(columns, binary=True):
    "Columns of questions as Triton's client sends them."
    kinds = {"promotion": ("BOOL", bool)}
    for name, values in columns.items():
        kind, dtype = kinds.get(name, ("BYTES", object))
        one = triton.InferInput(name, [len(values)], kind)
        one.set_data_from_numpy(np.array(values, dtype), binary_data=binary)
        yield one


@pytest.fixture(scope="module")
def columns(model):
    "Every series on each day, so that lengths of names and texts differ."
    rows = [
        (item, store, str(date)[:10]) for store, item in model.series.itertuples(index=False) for date in model.dates
    ]
    return dict(zip(("item_nbr", "store_nbr", "date"), map(list, zip(*rows))))


def test_health_and_metadata(client, model):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "trees-1") and not client.is_model_ready(MODEL, "trees-0")
    assert not client.is_model_ready("another")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    told = client.get_model_metadata(MODEL)
    assert told["versions"] == ["trees-1"]
    assert [one["name"] for one in told["inputs"]] == ["item_nbr", "store_nbr", "date", "promotion"]


def test_health_says_so_in_words_too(service):
    assert service.ask("/v2/health/live") == (200, {"live": True})
    assert service.ask("/v2/health/ready")[1]["ready"] is True


@pytest.mark.parametrize("asks", [True, False], ids=["asks in binary", "asks in JSON"])
@pytest.mark.parametrize("answers", [True, False, None], ids=["answers in binary", "answers in JSON", "by default"])
def test_forecasts_are_the_forecasters(client, model, columns, asks, answers):
    wanted = None if answers is None else [triton.InferRequestedOutput(name, answers) for name in (*NUMBERS, "history")]
    found = client.infer(MODEL, list(tensors(columns, asks)), outputs=wanted, request_id="7")
    expected = [model.answer(*row) for row in zip(*columns.values())]
    for name in NUMBERS:
        assert found.as_numpy(name).tolist() == [one[name] for one in expected]
    history = [text.decode() if isinstance(text, bytes) else text for text in found.as_numpy("history")]
    assert history == [one["history"] for one in expected]
    told = found.get_response()
    assert (told["id"], told["model_version"]) == ("7", "trees-1")


def test_what_if_and_all_stores(client, model, good):
    found = client.infer(MODEL, list(tensors({name: [value] for name, value in good.items()} | {"promotion": [True]})))
    assert found.as_numpy("mean")[0] == model.answer(*good.values(), True)["mean"]
    everywhere = client.infer(MODEL, list(tensors({name: [good[name]] for name in ("item_nbr", "date")})))
    assert everywhere.as_numpy("mean")[0] == model.total(good["item_nbr"], None, good["date"])["mean"]


def test_errors_are_sentences_in_the_client(client, good):
    def error(model=MODEL, version="", **changed):
        asked = {name: [value] for name, value in {**good, **changed}.items()}
        with pytest.raises(InferenceServerException) as raised:
            client.infer(model, list(tensors(asked)), version)
        return raised.value.status(), raised.value.message()

    assert error(item_nbr="unobtainium")[0] == "404" and "There is no item" in error(item_nbr="unobtainium")[1]
    assert error(date="1999-12-31")[0] == "422" and "forecasts reach from" in error(date="1999-12-31")[1]
    assert error(model="another")[0] == "404" and error(version="trees-0")[0] == "404"
    assert "There is no input 'stor'" in error(stor="9")[1]


def request(**changed):
    texts = b"".join(struct.pack("<I", len(text)) + text for text in (b"milk", b"bread"))
    names = {"name": "item_nbr", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(texts)}}
    days = {"name": "date", "shape": [2], "datatype": "BYTES", "data": ["2018-01-02"] * 2}
    return json.dumps({"inputs": [{**names, **changed}, days]}).encode(), texts


BROKEN = {
    "the JSON's length is beyond the body": (lambda text, rest: (text + rest, len(text + rest) + 1), 400),
    "the JSON's length is no number": (lambda text, rest: (text + rest, "-5"), 400),
    "the JSON's length is short": (lambda text, rest: (text + rest, len(text) - 1), 400),
    "the tensor is cut off": (lambda text, rest: (text + rest[:-1], len(text)), 400),
    "bytes stand behind it": (lambda text, rest: (text + rest + b"x", len(text)), 400),
    "a text is longer than the tensor": (lambda text, rest: (text + b"\xff" * len(rest), len(text)), 400),
    "no length at all": (lambda text, rest: (text + rest, None), 400),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_binary_requests_are_refused(service, name):
    broken, status = BROKEN[name]
    body, length = broken(*request())
    headers = {} if length is None else {"Inference-Header-Content-Length": str(length)}
    found = service.ask(f"/v2/models/{MODEL}/infer", "POST", body, headers)
    assert found[0] == status and set(found[1]) == {"error"}


@pytest.mark.parametrize("size", [-1, True, "9", 1e300, 10**9])
def test_a_size_that_is_none_is_refused(service, size):
    text, rest = request(parameters={"binary_data_size": size})
    asked = {"Inference-Header-Content-Length": str(len(text))}
    assert service.ask(f"/v2/models/{MODEL}/infer", "POST", text + rest, asked)[0] == 400


@pytest.mark.parametrize("examples", [2, pytest.param(100, marks=pytest.mark.prove)])
def test_schemathesis_finds_no_fault_and_no_undeclared_status(service, tmp_path, examples):
    "Invented requests to every address of the document, sound and broken ones."
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [Path(sys.executable).parent / "schemathesis", "run", f"http://127.0.0.1:{service.port}/openapi.json"]
    options = ["--checks", checks, "--max-examples", str(examples), "--seed", "1", "--suppress-health-check", "all"]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=5 * PATIENCE)
    assert done.returncode == 0, done.stdout[-6000:]
    made, passed = map(int, re.search(r"(\d+) generated, (\d+) passed", done.stdout).groups())
    assert made == passed > 100, done.stdout[-3000:]
