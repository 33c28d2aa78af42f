"The service as its users meet it: a real process, real sockets, real signals."

import json, re, shutil, signal, socket, subprocess, sys, threading, time
from dataclasses import replace
from pathlib import Path
import numpy as np, psutil, pytest
from copies import ROOT, environment
from shop import approve, live_shop, make_shop, promote, put_live, query, register, serving
from waiting import PATIENCE, wait_for
from cd4ml_nb.core import UserError, sha256_of
from cd4ml_nb.model.forecaster import make_ready
from cd4ml_nb.model.package import _seal_of, read_state, write_state
from cd4ml_nb.serving.events import events_folder, read_events
from cd4ml_nb.serving.live import load_champion


@pytest.fixture(scope="module", autouse=True)
def unfinished(service):
    "A request whose body does not come, asked before all others: what is said to it, and after how many seconds."
    found, began = [], time.monotonic()

    def ask():
        said = raw(service, b"POST /forecast HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        found.extend((said, time.monotonic() - began))

    asks = threading.Thread(target=ask)
    asks.start()
    yield lambda: (asks.join(PATIENCE), found)[1]
    asks.join(PATIENCE)


def as_query(question, **more):
    names = {"item_nbr": "item", "store_nbr": "store"}
    return query(**{names.get(name, name): value for name, value in {**question, **more}.items()})


def command_says(root, *options):
    command = [sys.executable, "-c", "from cd4ml_nb.start import main; raise SystemExit(main())", "forecast", "--json"]
    env = environment(root, PYTHONPATH=str(ROOT))
    done = subprocess.run([*command, *options], env=env, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.pop("event")  # each is on record as an event of its own
    return told


@pytest.mark.parametrize("store", [True, False], ids=["one store", "all stores"])
@pytest.mark.parametrize("promotion", [None, "yes", "no"])
def test_the_service_says_what_the_command_says(shop, service, good, store, promotion):
    asked = [("--item", good["item_nbr"]), ("--date", good["date"])]
    asked += [("--store", good["store_nbr"])] if store else []
    asked += [("--promotion", promotion)] if promotion else []
    path = query(**{name[2:]: value for name, value in asked})
    assert service.ask(path) == (200, command_says(shop, *[word for pair in asked for word in pair]))


def test_every_planned_answer_is_the_forecasters(service, model):
    rows = [
        {"item_nbr": item, "store_nbr": store, "date": str(date)[:10]}
        for store, item in model.series.itertuples(index=False)
        for date in model.dates
    ]
    status, said = service.ask("/forecast", "POST", rows)
    assert status == 200 and len(rows) > 100
    assert said["answers"] == [model.answer(row["item_nbr"], row["store_nbr"], row["date"]) for row in rows]


def test_a_range_is_the_sum_of_its_days(service, model, good):
    status, said = service.ask(as_query(good, to=model.card["last_day"]))
    one_by_one = [service.ask(as_query({**good, "date": str(date)[:10]}))[1]["mean"] for date in model.dates]
    assert (status, said["to"]) == (200, model.card["last_day"]) and said["mean"] == pytest.approx(sum(one_by_one))


def test_the_workshops_interface_says_a_whole_number(service, model, good):
    total = model.total(good["item_nbr"], None, good["date"])["mean"]
    asked = query("/prediction", date=good["date"], item_nbr=good["item_nbr"])
    assert service.ask(asked) == (200, round(total))


BAD = {
    "an unknown item": ({"item_nbr": "unobtainium"}, 404, "There is no item 'unobtainium'"),
    "an unknown store": ({"store_nbr": "north pole"}, 404, "There is no store 'north pole'"),
    "a day outside the horizon": ({"date": "1999-12-31"}, 422, "forecasts reach from"),
    "no day": ({"date": "soon"}, 422, "'soon' is not a date"),
    "days in the wrong order": ({"to": "1999-12-31"}, 422, "forecasts reach from"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_questions_have_a_status_and_a_sentence(service, good, name):
    changed, status, sentence = BAD[name]
    for found in (service.ask(as_query({**good, **changed})), service.ask("/forecast", "POST", {**good, **changed})):
        assert found[0] == status and sentence in found[1]["error"] and set(found[1]) == {"error"}


BODIES = {
    "cut off": (b'{"item_nbr": "milk"', 400, "The body is not JSON"),
    "empty": (b"", 400, "The body is not JSON"),
    "no text": (b"\xff\xfe", 400, "The body is not JSON"),
    "nested without end": (b"[" * 100_000, 400, "The body is not JSON"),
    "NaN": (b'{"item_nbr": NaN, "date": "2018-01-02"}', 422, "NaN and Infinity are no numbers"),
    "a wrong type": (b'{"item_nbr": ["milk"], "date": "2018-01-02"}', 422, "$.item_nbr"),
    "an unknown field": (
        b'{"item_nbr": "milk", "date": "2018-01-02", "stor_nbr": "9"}',
        422,
        "(did you mean store_nbr or item_nbr?)",
    ),
    "a misspelt name": (b'{"itm": "milk", "date": "2018-01-02"}', 422, "'itm' (did you mean item_nbr?)"),
    "another name for questions": (b'{"question": [{"item_nbr": "milk"}]}', 422, "(did you mean questions?)"),
    "a missing field": (b'{"item_nbr": "milk"}', 422, "date"),
    "no question": (b"[]", 422, "There is no question in the list"),
    "too many questions": (json.dumps([1] * 10_001).encode(), 413, "10,001 questions are more than 10,000"),
    "too long": (b" " * 1_000_001, 413, "longer than 1,000,000 bytes"),
}


@pytest.mark.parametrize("name", BODIES)
def test_bad_bodies_have_a_status_and_a_sentence(service, name):
    body, status, sentence = BODIES[name]
    found = service.ask("/forecast", "POST", body)
    assert found[0] == status and sentence in found[1]["error"]


def test_addresses_and_methods_that_are_not_there(service):
    assert service.ask("/forecasts")[0] == 404 and "/forecast" in service.ask("/forecasts")[1]["error"]
    assert (
        service.ask("/forecast", "DELETE")[0] == 405
        and "GET, HEAD, POST" in service.ask("/forecast", "PUT")[1]["error"]
    )


def test_a_bad_row_is_named_and_the_others_answered_when_asked_so(service, model, good):
    rows = [good, {**good, "item_nbr": "unobtainium"}, {**good, "date": 5}, {**good, "promotion": True}]
    status, said = service.ask("/forecast", "POST", rows)
    first, second = said["error"].splitlines()
    assert status == 404 and first.startswith("Row 2: There is no item 'unobtainium'") and second.startswith("Row 3: ")
    status, said = service.ask("/forecast", "POST", {"questions": rows, "partial": True})
    first, second, third, fourth = said["answers"]
    assert status == 200 and first == model.answer(*good.values()) and fourth == model.answer(*good.values(), True)
    assert [(bad["row"], bad["status"]) for bad in (second, third)] == [(2, 404), (3, 422)]


def test_the_first_bad_rows_of_a_batch_are_named_and_the_others_counted(service, good):
    rows = [{**good, "item_nbr": "unobtainium"} if number % 10 == 4 else good for number in range(120)]
    status, said = service.ask("/forecast", "POST", rows)
    lines = said["error"].splitlines()
    assert status == 404 and [line.partition(":")[0] for line in lines[:5]] == [
        f"Row {row}" for row in (5, 15, 25, 35, 45)
    ]
    assert lines[5:] == ["7 more rows are wrong, too."]  # of the twelve


def test_no_answer_of_a_refused_batch_goes_on_record(tmp_path):
    root = live_shop(tmp_path / "shop")
    model = load_champion(root)
    store, item = model.series.loc[0, ["store_nbr", "item_nbr"]]
    good = {"item_nbr": item, "store_nbr": store, "date": model.card["first_day"]}
    with serving(root) as service:
        assert service.ask("/forecast", "POST", [good, {**good, "item_nbr": "unobtainium"}])[0] == 404
        service.ask("/forecast", "POST", [good, good, good])
        kept = lambda: len(list(read_events(events_folder(root), kinds=["forecast"])))
        wait_for(lambda: kept() >= 3, said=service.log.read_text, process=service.process)
        assert kept() == 3


def raw(service, text, most=PATIENCE):
    "What comes back for some bytes before the other end closes."
    with socket.create_connection(("127.0.0.1", service.port), timeout=most) as line:
        line.sendall(text)
        return line.makefile("rb").read()


def test_a_body_that_says_it_is_too_long_is_refused_unread(service):
    said = raw(service, b"POST /forecast HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 413") and b"longer than" in said


def test_a_body_that_grows_too_long_is_refused_on_the_way(service):
    part = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    said = raw(service, b"POST /forecast HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + part * 16)
    assert said.startswith(b"HTTP/1.1 413")


def test_either_word_is_understood_in_address_and_body(service, good):
    short = {"item": good["item_nbr"], "store": good["store_nbr"], "date": good["date"]}
    told = [service.ask(query(**asked)) for asked in (good, short)]
    told += [service.ask("/forecast", "POST", asked) for asked in (good, short)]
    assert told[0][0] == 200 and all(one == told[0] for one in told)
    both = {**good, "item": good["item_nbr"]}
    for status, said in (service.ask(query(**both)), service.ask("/forecast", "POST", both)):
        assert status == 422 and "Leave one of the two out" in said["error"]


def test_every_status_is_in_the_document(service, good):
    paths = service.ask("/openapi.json")[1]["paths"]
    assert {"/forecast", "/prediction", "/models", "/live", "/ready", "/metrics"} <= set(paths)
    for body, status, _ in BODIES.values():
        assert str(status) in paths["/forecast"]["post"]["responses"]
    for changed, status, _ in BAD.values():
        assert str(status) in paths["/forecast"]["get"]["responses"]


def test_what_is_counted(service, good):
    before, after = [], []
    for counts in (before, after):
        lines = service.ask("/metrics")[1].splitlines()
        counts += [
            float(line.split()[-1]) for line in lines if 'requests_total{route="/forecast",status="404"}' in line
        ]
        assert 'cd4ml_model_live{model_version="trees-1",role="champion"} 1.0' in lines
        service.ask(as_query({**good, "item_nbr": "unobtainium"}))
    assert after[0] == (before or [0])[0] + 1


def test_a_token_is_asked_for_where_others_can_ask(shop, good):
    with serving(shop, CD4ML_TOKEN="secret") as guarded:
        known = {"authorization": "Bearer secret"}
        assert guarded.ask(as_query(good), headers=known)[0] == 200
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "secret"}):
            status, said = guarded.ask(as_query(good), headers=headers)
            assert status == 401 and "Authorization: Bearer" in said["error"]


def test_no_other_address_without_a_token(shop):
    command = [sys.executable, "-c", "from cd4ml_nb.start import main; raise SystemExit(main())", "serve"]
    env = {**environment(shop, PYTHONPATH=str(ROOT)), "CD4ML_TOKEN": ""}
    done = subprocess.run([*command, "--host", "0.0.0.0"], env=env, cwd=shop, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "") and "there is no token" in done.stderr


def test_what_was_accepted_is_answered_before_the_end(shop, good):
    rows = [{**good, "promotion": True}] * 1000
    with serving(shop) as stopped:
        found = []
        asks = threading.Thread(target=lambda: found.append(stopped.ask("/forecast", "POST", rows)))
        asks.start()
        wait_for(lambda: b":" in connections(stopped.port))
        time.sleep(0.3)
        stopped.process.send_signal(signal.SIGTERM)
        asks.join(PATIENCE)
        assert stopped.process.wait(PATIENCE) == 0
    assert found[0][0] == 200 and len(found[0][1]["answers"]) == 1000


def connections(port):
    "Established connections to a port, as the system lists them."
    lines = open("/proc/net/tcp", "rb").read().splitlines()
    return b"\n".join(line for line in lines if f":{port:04X} ".encode() in line and b" 01 " in line)


def held_together(service):
    "The files of a model that both workers map; empty until they map the same."
    workers = psutil.Process(service.process.pid).children()
    maps = [{Path(one.path).name for one in worker.memory_maps() if ".arrow" in one.path} for worker in workers]
    first, second = [*filter(None, maps), None, None][:2]
    return first if first == second else None


def test_several_workers_answer_as_one_and_hold_the_model_once(tmp_path, good, model):
    own, asked = live_shop(tmp_path / "shop"), as_query(good)
    register(own, "trees-2", 2.0)
    approve(own, "trees-2")
    with serving(own, "--workers", "2") as several:
        expected = 200, model.answer(*good.values())
        wait_for(lambda: held_together(several), process=several.process)
        wait_for(lambda: all(several.ask(asked) == expected for _ in range(20)), process=several.process)
        first = held_together(several)
        assert {name.partition("-")[0] for name in first} == {"state", "numbers"}
        promote(own, "trees-2")
        wait_for(lambda: (held_together(several) or first).isdisjoint(first), process=several.process)
        said = [several.ask(asked)[1] for _ in range(20)]
        assert {(one["model_version"], one["mean"] > expected[1]["mean"]) for one in said} == {("trees-2", True)}
        killed = psutil.Process(several.process.pid).children()[-1]
        killed.kill()
        told = rf"Worker {killed.pid} .* ended.*; worker \d+ takes its place\."
        wait_for(lambda: re.search(told, several.log.read_text()), process=several.process)
        wait_for(lambda: held_together(several), process=several.process)
        workers = psutil.Process(several.process.pid).children()
        together = {Path(one.path).parent for one in workers[-1].memory_maps() if ".arrow" in one.path}.pop()
        several.process.kill()  # it can tell nobody, and its workers end all the same
        several.process.wait(PATIENCE)
        wait_for(lambda: not any(one.is_running() for one in workers) and not together.exists())


# hot swap


@pytest.fixture
def own(tmp_path):
    return live_shop(tmp_path / "shop")


def test_a_service_without_a_live_model_says_so_and_follows_the_first(tmp_path, good):
    root = make_shop(tmp_path / "empty")
    with serving(root, ready=False) as service:
        wait_for(lambda: "No model is live yet" in service.ask("/ready")[1]["error"])
        assert service.ask(as_query(good))[0] == 503
        put_live(root, "trees-1")
        wait_for(lambda: service.version() == "trees-1", process=service.process)
        assert service.ask(as_query(good))[1]["model_version"] == "trees-1"


def test_a_tampered_version_is_refused_and_the_last_good_one_stays(own, good):
    with serving(own) as service:
        register(own, "trees-2", 2.0)
        approve(own, "trees-2")
        service.process.send_signal(signal.SIGSTOP)  # so that it sees both at once
        promote(own, "trees-2")
        shutil.copy(own / "made/state.parquet", own / "data/registry/trees-2/package/state.parquet")
        service.process.send_signal(signal.SIGCONT)
        wait_for(lambda: "trees-2, is refused" in service.ask("/ready")[1]["trouble"], said=service.log.read_text)
        assert service.ask(as_query(good))[1]["model_version"] == "trees-1"
        assert "trees-1 goes on answering" in service.log.read_text()
        assert "cd4ml_model_refused 1.0" in service.ask("/metrics")[1]
        put_live(own, "trees-3", 3.0)
        wait_for(lambda: service.version() == "trees-3" and service.ask("/ready")[1]["trouble"] == "")


@pytest.mark.pipeline
@pytest.mark.prove
def test_what_was_replaced_leaves_no_memory_behind(tmp_path):
    "Two models at once take 200 MB more than one; of models that are gone nothing is held."
    root = make_shop(tmp_path / "shop", ROOT / "data/model")
    put_live(root, "trees-2", 3.0)
    put_live(root, "trees-1")
    resident = lambda: psutil.Process(service.process.pid).memory_info().rss / 1e6
    with serving(root) as service:
        begun, after = resident(), []
        for number in range(6):
            promote(root, version := f"trees-{2 - number % 2}")
            wait_for(lambda: service.version() == version, process=service.process)
            time.sleep(0.5)
            after.append(resident())
    assert np.median(after) < begun + 50 and after[-1] < after[0] + 50, (begun, after)


def test_contents_and_seal_that_somebody_changed_together_are_refused(own, good):
    "The log of releases knows which seal was released."
    package = own / "data/registry/trees-1/package"
    with serving(own) as service:
        before = service.ask(as_query(good))[1]
        state = read_state(package / "state.parquet")
        write_state(package / "state.parquet", replace(state, sales=state.sales * np.float32(5)))
        told = json.loads((package / "forecaster.json").read_text())
        told["files"]["state.parquet"] = sha256_of(package / "state.parquet")
        (package / "forecaster.json").write_text(json.dumps(told | {"seal": _seal_of(told)}))
        make_ready(package)
        wait_for(lambda: "changed after the release" in service.ask("/ready")[1]["trouble"], said=service.log.read_text)
        assert service.ask(as_query(good))[1] == before
    with pytest.raises(UserError, match="changed after the release"):
        load_champion(own)


BEGUN = """
import asyncio, gc, sys, threading
from types import SimpleNamespace
from cd4ml_nb.serving.http import make_app

async def begin(app):
    async with app.router.lifespan_context(app):
        print(gc.get_freeze_count(), len(gc.get_objects()))

follower = SimpleNamespace(answers=None, trouble="none is live", ends=threading.Event())
asyncio.run(begin(make_app(sys.argv[1], follower)))
"""


def test_what_a_service_is_made_of_is_not_looked_through_again(tmp_path):
    "A full collection walked through a hundred thousand objects of libraries, and every answer waited for it."
    words = [sys.executable, "-c", BEGUN, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(tmp_path, PYTHONPATH=str(ROOT)))
    frozen, walked = map(int, done.stdout.split())
    assert frozen > 20 * walked, done.stderr


EACH, CONNECTIONS = 2, 8  # Seconds between two swaps, and askers at once


def ask_until(service, ends, rows, found, failed):
    "One asker: single questions and batches by turns, until it is over."
    line = service.connect()
    while time.monotonic() < ends:
        for asked in [*([row] for row in rows), rows]:
            single = len(asked) == 1
            path, method, body = (as_query(asked[0]), "GET", None) if single else ("/forecast", "POST", asked)
            status, said = service.ask(path, method, body, connection=line)
            if status != 200:
                failed.append(said)
            else:
                found.append(list(zip(asked, [said] if single else said["answers"])))


def asked_of(row):
    return row["item_nbr"], row["store_nbr"], row["date"], row.get("promotion")


@pytest.mark.parametrize("seconds", [6, pytest.param(20, marks=pytest.mark.prove)])
def test_no_answer_fails_or_is_of_two_models_while_they_change(own, model, seconds):
    pairs, day = model.series.head(5).itertuples(index=False), model.card["first_day"]
    rows = [{"item_nbr": item, "store_nbr": store, "date": day} for store, item in pairs]
    switched = [{**row, "promotion": True} for row in rows[:2]]  # computed, not looked up
    put_live(own, "trees-2", 3.0)
    truth = {}
    for version in ("trees-1", "trees-2"):
        promote(own, version)
        live = load_champion(own)
        truth |= {(version, *asked_of(row)): live.answer(*asked_of(row)) for row in rows + switched}
    means = [truth[version, *asked_of(row)]["mean"] for version in ("trees-1", "trees-2") for row in rows + switched]
    assert not np.isclose(*np.reshape(means, (2, -1))).any()  # else nothing mixed could be seen
    found, failed, version = [], [], "trees-2"
    with serving(own) as service:
        ends = time.monotonic() + seconds
        asks = [(rows if i % 4 else switched) for i in range(CONNECTIONS)]
        askers = [threading.Thread(target=ask_until, args=(service, ends, ask, found, failed)) for ask in asks]
        for asker in askers:
            asker.start()
        while time.monotonic() < ends:
            version = {"trees-1": "trees-2", "trees-2": "trees-1"}[version]
            promote(own, version)
            time.sleep(EACH)
        for asker in askers:
            asker.join(PATIENCE)
        assert service.process.poll() is None
    assert failed == [] and len(found) > 1000
    for answers in found:
        versions = {said["model_version"] for _, said in answers}
        assert len(versions) == 1, f"one answer is of {versions}"
        assert all(said == truth[(*versions, *asked_of(row))] for row, said in answers)
    assert {answers[0][1]["model_version"] for answers in found} == {"trees-1", "trees-2"}


def test_a_body_that_does_not_come_is_not_waited_for(unfinished):
    said, seconds = unfinished()
    assert said.startswith(b"HTTP/1.1 408") and seconds >= 9
