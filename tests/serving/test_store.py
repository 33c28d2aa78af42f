"What is live in a bucket, on a real S3 server, followed by the service and by a program with the model inside."

import hashlib, json, os, shutil, signal, subprocess, sys, threading, time
from pathlib import Path
import boto3, pytest
from buckets import KEYS, s3_server
from copies import ROOT, environment
from shop import live_shop, promote, put_live, query, serving
from waiting import PATIENCE, wait_for
from pyarrow.fs import FileSelector
from cd4ml_nb.core import UserError, hold_lock, sha256_of, write_json
from cd4ml_nb.delivery import store as store_room
from cd4ml_nb.delivery.nights import LIVE, night_folder
from cd4ml_nb.delivery.store import OBJECTS, POINTER, fetch_live, open_store, publish_live
from cd4ml_nb.serving.follow import load_live
from cd4ml_nb.serving.live import load_champion
from cd4ml_nb.serving.mirror import copy_folder


@pytest.fixture(scope="module")
def s3():
    with s3_server() as found:
        yield found


@pytest.fixture
def bucket(s3, tmp_path, monkeypatch):
    "The environment in which a store in a bucket is found, and its address."
    given = {
        **KEYS,
        "AWS_ENDPOINT_URL": s3[0],
        "AWS_DEFAULT_REGION": "us-east-1",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    name = tmp_path.name.replace("_", "-")[:50].strip("-")
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}/live"


@pytest.fixture
def own(tmp_path):
    return live_shop(tmp_path / "shop")


@pytest.fixture
def elsewhere(tmp_path):
    "A folder that holds no model: what is live comes from a store."
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shutil.copy(ROOT / "params.yaml", folder)
    return folder


@pytest.fixture
def good(model):
    store, item = model.series.loc[0, ["store_nbr", "item_nbr"]]
    return {"item": item, "store": store, "date": model.card["first_day"]}


def tamper(url, name):
    "Change an object of a store, of the same length."
    store = open_store(url)
    with store.files.open_input_stream(f"{store.folder}/{POINTER}") as file:
        sha = json.loads(file.read())["files"][name]
    with store.files.open_input_stream(f"{store.folder}/{OBJECTS}/{sha}") as file:
        content = file.read()
    with store.files.open_output_stream(f"{store.folder}/{OBJECTS}/{sha}") as file:
        file.write(content[:-1] + bytes([content[-1] ^ 1]))


def objects(url):
    store = open_store(url)
    return {
        one.base_name for one in store.files.get_file_info(FileSelector(f"{store.folder}/{OBJECTS}")) if one.is_file
    }


def trouble(service):
    return service.ask("/ready")[1].get("trouble")


def test_a_service_follows_a_bucket_through_release_rollback_and_tampering(bucket, own, elsewhere, good):
    publish_live(own, bucket)
    with serving(elsewhere, CD4ML_LIVE=bucket) as service:
        wait_for(lambda: service.version() == "trees-1" and trouble(service) == "", service.log.read_text)
        assert [one["model_version"] for one in service.ask("/models")[1]["versions"]] == ["trees-1"]
        put_live(own, "trees-2", 2.0)
        publish_live(own, bucket)
        wait_for(lambda: service.version() == "trees-2", service.log.read_text, service.process)
        assert service.ask(query(**good))[1]["model_version"] == "trees-2"
        put_live(own, "trees-3", 3.0)
        service.process.send_signal(signal.SIGSTOP)  # so that it sees both at once
        publish_live(own, bucket)
        tamper(bucket, "data/registry/trees-3/package/state.parquet")
        service.process.send_signal(signal.SIGCONT)
        wait_for(
            lambda: "trees-3/package/state.parquet is not what was published" in trouble(service), service.log.read_text
        )
        assert service.ask(query(**good))[1]["model_version"] == "trees-2"
        assert "cd4ml_model_refused 1.0" in service.ask("/metrics")[1]
        publish_live(own, bucket, anew=True)
        wait_for(lambda: service.version() == "trees-3" and trouble(service) == "", service.log.read_text)
        event = service.ask_all(query(**good))[1]["event"]
        origin = service.ask_all(f"/provenance/{event}")[1]
        assert origin["event"]["model_version"] == "trees-3" and [act["act"] for act in origin["acts"]][-1] == "promote"
    assert service.log.read_text().count("is not what was published") == 1


def test_a_bucket_that_is_away_keeps_the_last_good_one_and_is_said_once(own, elsewhere, good, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in {**KEYS, "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    with s3_server() as (address, server):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        boto3.client("s3").create_bucket(Bucket="away")
        publish_live(own, "s3://away/live")
        with serving(elsewhere, CD4ML_LIVE="s3://away/live") as service:
            wait_for(lambda: trouble(service) == "", service.log.read_text)
            server.kill()
            wait_for(lambda: "does not answer: it cannot be reached" in trouble(service), service.log.read_text)
            time.sleep(12)  # two looks more
            assert service.ask(query(**good))[1]["model_version"] == "trees-1"
            assert "cd4ml_model_refused 1.0" in service.ask("/metrics")[1]
            assert service.log.read_text().count("s3://away/live does not answer") == 1
    with serving(elsewhere, CD4ML_LIVE="s3://away/live") as service:  # a new one, and the bucket is still away
        wait_for(lambda: "does not answer" in trouble(service), service.log.read_text)
        assert service.ask(query(**good))[1]["model_version"] == "trees-1"


def test_with_no_copy_and_no_store_the_service_says_so_and_follows_the_first(bucket, own, elsewhere):
    with serving(elsewhere, ready=False, CD4ML_LIVE=bucket) as service:
        wait_for(lambda: f"Nothing was published in {bucket} yet" in service.ask("/ready")[1]["error"])
        publish_live(own, bucket)
        wait_for(lambda: service.version() == "trees-1", service.log.read_text, service.process)


def test_only_what_changed_is_brought_and_what_nobody_needs_is_removed(bucket, own, tmp_path, monkeypatch):
    monkeypatch.setattr(store_room, "_OLD", -3600)  # as if each object had been there for long
    publish_live(own, bucket)
    fetch_live(bucket, tmp_path / "here")
    first = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "here" / OBJECTS).iterdir()}
    put_live(own, "trees-2", 2.0)
    publish_live(own, bucket)
    fetch_live(bucket, tmp_path / "here")
    second = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "here" / OBJECTS).iterdir()}
    assert {name: second[name] for name in first.keys() & second.keys()} == {
        name: first[name] for name in first.keys() & second.keys()
    }
    assert first.keys() & second.keys()  # the onnx files of both
    assert set(second) <= objects(bucket) and set(first) <= objects(bucket)  # who reads the former list can finish
    put_live(own, "trees-3", 3.0)
    publish_live(own, bucket)
    assert not (set(first) - set(second)) & objects(bucket)


def spoil(url):
    "Add a byte to a file of the live model in this machine's copy."
    path = next(copy_folder(url).glob("current/data/registry/*/package/ready.parquet"))
    path.write_bytes(path.read_bytes() + b"!")


def test_a_copy_that_was_damaged_here_is_brought_again(bucket, own, elsewhere, good):
    publish_live(own, bucket)
    fetch_live(bucket, copy_folder(bucket))
    spoil(bucket)
    load_live(bucket).ends.set()
    spoil(bucket)
    with serving(elsewhere, CD4ML_LIVE=bucket) as service:
        wait_for(lambda: service.version() == "trees-1" and trouble(service) == "", service.log.read_text)
        spoil(bucket)
        wait_for(lambda: "is being brought again" in service.log.read_text())
        wait_for(lambda: trouble(service) == "", service.log.read_text)
        assert service.ask(query(**good))[1]["model_version"] == "trees-1"
    assert "backup" not in service.log.read_text() and "rollback" not in service.log.read_text()


def test_a_note_of_the_future_stops_nobody_from_following(own, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    url = f"file://{tmp_path / 'store'}"
    publish_live(own, url)
    live = load_live(url)
    try:
        os.utime(copy_folder(url) / ".trouble", (time.time() + 86400,) * 2)
        put_live(own, "trees-2", 2.0)
        publish_live(own, url)
        wait_for(lambda: live.current().card["model_version"] == "trees-2")
    finally:
        live.ends.set()


def test_a_store_that_is_gone_is_said_to_be_gone(own, elsewhere, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = tmp_path / "store"
    publish_live(own, f"file://{store}")
    with serving(elsewhere, CD4ML_LIVE=f"file://{store}") as service:
        wait_for(lambda: service.version() == "trees-1" and trouble(service) == "", service.log.read_text)
        shutil.rmtree(store)
        wait_for(lambda: f"What was published in file://{store} is gone" in trouble(service), service.log.read_text)


def test_one_publisher_takes_nothing_from_another(own, tmp_path, monkeypatch):
    url, other, put = f"file://{tmp_path / 'store'}", tmp_path / "other", store_room._put
    publish_live(own, url)
    shutil.copytree(own, other)
    put_live(own, "trees-2", 2.0)

    def put_beside(store, name, source):
        if name == POINTER and other.exists():
            other.rename(tmp_path / "beside")
            publish_live(tmp_path / "beside", url, anew=True)  # whole, between the objects and the list
        put(store, name, source)

    monkeypatch.setattr(store_room, "_put", put_beside)
    publish_live(own, url)
    fetch_live(url, tmp_path / "here")
    assert load_champion(tmp_path / "here/current").card["model_version"] == "trees-2"


def test_what_the_list_names_is_put_again_where_it_was_removed_meanwhile(own, tmp_path, monkeypatch):
    store, put = tmp_path / "store", store_room._put

    def put_and_remove(opened, name, source):
        put(opened, name, source)
        if name == POINTER:
            next((store / OBJECTS).iterdir()).unlink()

    monkeypatch.setattr(store_room, "_put", put_and_remove)
    publish_live(own, f"file://{store}")
    assert set(json.loads((store / POINTER).read_text())["files"].values()) == objects(f"file://{store}")


def test_the_command_waits_for_a_release_that_publishes(own, tmp_path):
    store = tmp_path / "store"
    words = [Path(sys.executable).with_name("cd4ml"), "deploy", "live", f"file://{store}"]
    env = environment(own, PYTHONPATH=str(ROOT), CD4ML_ROOT=str(own))
    with hold_lock(own / "production/.store", "Publishing what is live"):
        command = subprocess.Popen(words, env=env, stderr=subprocess.PIPE, text=True, cwd=own)
        waits = command.stderr.readline()
        assert "Publishing what is live" in waits and command.poll() is None and not store.exists()
    assert (command.communicate(timeout=PATIENCE), command.returncode)[1] == 0 and (store / POINTER).is_file()


def test_the_list_says_the_data_of_the_night(own, tmp_path):
    state = night_folder(own, "2017-08-20", "trees-1")
    shutil.copytree(own / "data/registry/trees-1/package", state)
    night = {"day": "2017-08-20", "model_version": "trees-1", "data_version": "data of the night", "package": ""}
    write_json(own / LIVE, {**night, "state": sha256_of(state / "forecaster.json")})
    publish_live(own, f"file://{tmp_path / 'store'}")
    assert json.loads((tmp_path / "store" / POINTER).read_text())["data_version"] == "data of the night"


ODD = [{"files": [[1, "a" * 64]]}, {"files": {"": "a" * 64}}, {"files": {"a": 1}}, {"files": 3}, [], 7, None]


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_a_list_of_an_odd_shape_is_refused_in_a_sentence_and_replaced(own, tmp_path, odd):
    store = tmp_path / "store"
    publish_live(own, f"file://{store}")
    (store / POINTER).write_text(json.dumps(odd))
    with pytest.raises(UserError, match="live.json is not what was published"):
        fetch_live(f"file://{store}", tmp_path / "here")
    publish_live(own, f"file://{store}", anew=True)
    assert fetch_live(f"file://{store}", tmp_path / "here")


@pytest.mark.parametrize("name", ["reports/releases.jsonl", "data/registry/trees-1/package/forecaster.json"])
def test_a_list_that_was_rewritten_to_name_another_file_is_refused(own, tmp_path, name):
    store, here = tmp_path / "store", tmp_path / "here"
    publish_live(own, f"file://{store}")
    told = json.loads((store / POINTER).read_text())
    forged = (store / OBJECTS / told["files"][name]).read_bytes().replace(b"trees-1", b"trees-9")
    told["files"][name] = hashlib.sha256(forged).hexdigest()
    (store / OBJECTS / told["files"][name]).write_bytes(forged)
    (store / POINTER).write_text(json.dumps(told))
    with pytest.raises(UserError, match=f"What is live in file://{store} is refused: "):
        fetch_live(f"file://{store}", here)
    assert not (here / "current").exists()


KILLED = """import os, signal, sys, threading, time
from pathlib import Path
from cd4ml_nb.delivery import store
left, put = [int(sys.argv[3])], store._put
def counted(*given):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    put(*given)
store._put = counted
store.publish_live(Path(sys.argv[1]), sys.argv[2])
"""


def test_a_publisher_killed_anywhere_leaves_the_former_or_the_new_one(own, tmp_path):
    url, here = f"file://{tmp_path / 'store'}", tmp_path / "here"
    publish_live(own, url)
    put_live(own, "trees-2", 2.0)
    seen = []
    for writes in range(30):
        words = [sys.executable, "-c", KILLED, own, url, str(writes)]
        done = subprocess.run(
            [*map(str, words)], env=environment(own, PYTHONPATH=str(ROOT)), capture_output=True, text=True
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        fetch_live(url, here)
        seen.append(load_champion(here / "current").card["model_version"])
        if done.returncode == 0:
            break
    assert seen == ["trees-1"] * (len(seen) - 1) + ["trees-2"] and len(seen) > 3


def test_a_reader_beside_a_publisher_never_has_a_half(own, tmp_path):
    url, here, ends, wrong, seen = f"file://{tmp_path / 'store'}", tmp_path / "here", time.monotonic() + 6, [], set()
    publish_live(own, url)

    def read():
        while time.monotonic() < ends:
            try:
                fetch_live(url, here)
                card = load_champion((here / "current").resolve()).card
                seen.add((card["model_version"], card["data_version"]))
            except UserError as e:
                wrong.append(str(e))

    reader = threading.Thread(target=read)
    reader.start()
    put_live(own, "trees-2", 2.0)
    while time.monotonic() < ends:
        publish_live(own, url)
        promote(own, "trees-1" if load_champion(own).card["model_version"] == "trees-2" else "trees-2")
    reader.join(PATIENCE)
    assert seen == {(name, f"data of {name}") for name in ("trees-1", "trees-2")} and not wrong


EMBEDDED = """import sys, time
from cd4ml_nb.serving.follow import load_live
live = load_live(sys.argv[1])
print(live.current().card["model_version"], flush=True)
sys.stdin.readline()
ends = time.monotonic() + 60
while live.current().card["model_version"] == "trees-1" and time.monotonic() < ends:
    time.sleep(0.1)
print(live.current().card["model_version"], flush=True)
print(sorted({"mlflow", "dvc", "duckdb", "sklearn", "starlette", "fsspec"} & set(sys.modules)))
"""


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_a_program_with_the_model_inside_follows_a_folder_or_a_bucket(bucket, own, kind):
    place = bucket if kind == "bucket" else own
    publish_live(own, bucket)
    words, env = [sys.executable, "-c", EMBEDDED, str(place)], environment(own, PYTHONPATH=str(ROOT))
    with subprocess.Popen(words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout.readline() == "trees-1\n"
        put_live(own, "trees-2", 2.0)
        publish_live(own, bucket)
        said, _ = program.communicate("\n", timeout=PATIENCE)
    assert said.splitlines() == ["trees-2", "[]"] and program.returncode == 0


def test_a_release_is_published_where_the_parameters_say_so(bucket, own, tmp_path, capsys):
    params = own / "params.yaml"
    params.write_text(params.read_text().replace("store: null", f"store: {bucket}"))
    put_live(own, "trees-2", 2.0)
    fetch_live(bucket, tmp_path / "here")
    assert load_champion(tmp_path / "here/current").card["model_version"] == "trees-2"
    params.write_text(params.read_text().replace(bucket, "s3://no-such-bucket-here/live"))
    promote(own, "trees-1")
    said = capsys.readouterr().err
    assert "was not published" in said and "no such bucket" in said and "cd4ml deploy live s3://no-such" in said
    assert load_champion(own).card["model_version"] == "trees-1"  # the release stands


@pytest.mark.prove
def test_no_answer_is_of_two_models_while_a_store_changes(bucket, own, elsewhere, model):
    day, found, failed, over = model.card["first_day"], [], [], threading.Event()
    pairs = model.series.head(20).itertuples(index=False)
    rows = [{"item_nbr": item, "store_nbr": store, "date": day} for store, item in pairs]
    put_live(own, "trees-2", 3.0)
    publish_live(own, bucket)

    def ask():
        line = service.connect()
        while not over.is_set():
            status, said = service.ask("/forecast", "POST", rows, connection=line)
            (found if status == 200 else failed).append(said)

    with serving(elsewhere, CD4ML_LIVE=bucket) as service:
        askers = [threading.Thread(target=ask) for _ in range(4)]
        for asker in askers:
            asker.start()
        for version in ("trees-1", "trees-2", "trees-1"):
            promote(own, version)
            publish_live(own, bucket)
            wait_for(lambda: service.version() == version, service.log.read_text, service.process)
        over.set()
        for asker in askers:
            asker.join(PATIENCE)
    assert failed == [] and len(found) > 100
    versions = [{(one["model_version"], one["data_version"]) for one in said["answers"]} for said in found]
    assert all(len(each) == 1 for each in versions)
    assert set.union(*versions) == {(name, f"data of {name}") for name in ("trees-1", "trees-2")}


def test_a_command_answers_from_the_store_and_leaves_a_record(own, elsewhere, good, tmp_path):
    "`cd4ml forecast` as the service: what CD4ML_LIVE names answers, and is on record by its event; --model is not."
    from cd4ml_nb.serving.events import events_folder, read_events

    url = f"file://{tmp_path / 'store'}"
    publish_live(own, url)
    asked = [f"--{name}={value}" for name, value in good.items()]
    ask = lambda *more: subprocess.run(
        [sys.executable, "-c", "from cd4ml_nb.start import main; raise SystemExit(main())", "forecast", *asked, *more],
        env=environment(elsewhere, PYTHONPATH=str(ROOT), CD4ML_LIVE=url, XDG_CACHE_HOME=str(tmp_path / "cache")),
        cwd=elsewhere,
        capture_output=True,
        text=True,
    )
    done = ask("--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    (event,) = read_events(events_folder(elsewhere))
    assert (said["model_version"], said["event"]) == ("trees-1", event.id) and event.outputs["mean"] == said["mean"]
    assert event.inputs == {"item_nbr": good["item"], "store_nbr": good["store"], "date": good["date"]}
    (tmp_path / "store/live.json").unlink()
    done = ask()
    assert "is gone" in done.stderr and "Model trees-1" in done.stdout  # the copy of before answers
    own_model = ask("--json", f"--model={own / 'data/registry/trees-1/package'}")
    assert "event" not in json.loads(own_model.stdout) and len(read_events(events_folder(elsewhere))) == 2
