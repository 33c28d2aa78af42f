"Decisions, provenance, what goes live and tables of questions, over HTTP."

import http.client, json, signal, time
from datetime import date
from urllib.parse import quote
import pyarrow as pa, pytest, yaml
from shop import live_shop, put_live, query, serving
from waiting import PATIENCE, wait_for
from cd4ml_nb.core import sha256_of
from cd4ml_nb.delivery.provenance_words import lineage_in_words
from cd4ml_nb.serving.arrow import ARROW
from cd4ml_nb.serving.decisions import read_decisions
from cd4ml_nb.serving.events import events_folder, read_events
from cd4ml_nb.serving.origins import explain

TOKEN = {"authorization": "Bearer secret"}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return live_shop(tmp_path_factory.mktemp("record") / "shop")


@pytest.fixture(scope="module")
def desk(own):
    with serving(own, CD4ML_TOKEN="secret") as running:
        wait_for(lambda: running.ask("/ready", headers=TOKEN)[0] == 200)
        yield lambda path, method="GET", body=None: running.ask(path, method, body, TOKEN)


@pytest.fixture
def write_serving(own):
    "Writes the section serving into the shop's params.yaml; afterwards all is as it was."
    path = own / "params.yaml"
    before = path.read_text()
    params = yaml.safe_load(before)
    yield lambda **section: path.write_text(yaml.safe_dump(params | {"serving": section}))
    path.write_text(before)


@pytest.fixture
def order(good):
    sent = {"store_nbr": good["store_nbr"], "item_nbr": good["item_nbr"], "days": 3, "ordered": 24}
    return {**sent, "by": "Ada", "reason": "event", "text": "the fair"}


def test_an_order_is_on_record_and_can_be_taken_back(own, desk, order, model):
    status, made = desk("/decisions", "POST", {**order, "decision": "till 7"})
    assert (status, made["decision"], made["ordered"], made["stands"]) == (200, "till 7", 24, True)
    days = [str(day)[:10] for day in model.dates[:3]]
    total = model.total(order["item_nbr"], order["store_nbr"], days[0], days[2])["mean"]
    assert made["said"]["mean"] == pytest.approx(total) and (made["first_day"], made["last_day"]) == (days[0], days[2])
    assert desk("/decisions", "POST", {**order, "decision": "till 7"}) == (200, made)  # sent again
    told = lineage_in_words(explain(own, "till 7")).splitlines()[0]
    assert told.startswith("Decision till 7, ") and f": 24 units of {order['item_nbr']} for store " in told
    assert ", by Ada (event: the fair)" in told
    for other in ({"ordered": 99}, {"by": "Grace"}, {"text": ""}, {"days": 4}, {"service_level": 0.8}):
        status, said = desk("/decisions", "POST", {**order, "decision": "till 7", **other})
        assert status == 409 and "'till 7' is on record with other content: 24 units" in said["error"]
    status, said = desk("/decisions", "POST", {**order, "ordered": 33, "by": "Pia"})
    assert status == 409 and "Ada ordered 24" in said["error"] and '"replaces": "till 7"' in said["error"]
    listed = [
        desk(query("/decisions", **asked))[1]["decisions"]
        for asked in ({"store": order["store_nbr"]}, {"day": days[1]})
    ]
    assert listed == [[made], [made]]
    assert desk(query("/decisions", item="another product"))[1] == {"decisions": []}
    status, gone = desk("/decisions", "POST", {"withdraw": "till 7", "by": "Grace", "text": "counted twice"})
    assert (status, gone["stands"], [past["by"] for past in gone["history"]]) == (200, False, ["Ada", "Grace"])
    assert desk("/decisions")[1] == {"decisions": []}
    assert desk("/decisions?withdrawn=yes")[1]["decisions"] == [gone]
    assert [one.stands for one in read_decisions(events_folder(own), withdrawn=True)] == [False]
    again = desk("/decisions", "POST", {"withdraw": "till 7", "by": "Grace", "text": "again"})
    assert again[0] == 409 and "was withdrawn already" in again[1]["error"]


BAD = {
    "an unknown product": ({"item_nbr": "unobtainium"}, 404, "There is no item 'unobtainium'"),
    "an unknown store": ({"store_nbr": "north pole"}, 404, "There is no store 'north pole'"),
    "too many days": ({"days": 99}, 422, "Ask for 1 to 16 days"),
    "less than nothing": ({"ordered": -1}, 422, "'ordered' is -1.0"),
    "half a unit of what is sold in whole ones": ({"ordered": 2.5}, 422, "only sold in whole units. Give 2 or 3."),
    "half a unit in a pack": ({"pack_size": 2.5}, 422, "only sold in whole units. Give 2 or 3."),
    "nobody": ({"by": " "}, 422, "'by' should be a text"),
    "no such reason": ({"reason": "evnt"}, 422, "There is no reason 'evnt' (did you mean event?)"),
    "another reason, untold": ({"reason": "other", "text": ""}, 422, "needs a text that says which"),
    "a level that is none": ({"service_level": 2}, 422, "The service level is 2.0"),
    "a pack of nothing": ({"pack_size": 0}, 422, "'pack_size' is 0.0"),
    "a pack of next to nothing": ({"pack_size": 1e-300}, 422, "from 0.001 to 1,000,000,000"),
    "a pack of everything": ({"pack_size": 1e300}, 422, "from 0.001 to 1,000,000,000"),
    "more stock than there is": ({"stock": 1e10}, 422, "from 0 to 1,000,000,000"),
    "not as suggested": (
        {"reason": "as_suggested", "pack_size": 200, "ordered": 9},
        422,
        "200 are suggested, and 9 are ordered",
    ),
    "a wrong type": ({"ordered": "many"}, 422, "$.ordered"),
    "a misspelt field": ({"ordred": 2}, 422, "ordred"),
    "a day that is past": ({"first_day": "1999-12-31"}, 422, "forecasts reach from"),
    "far too many": ({"ordered": 9_000_000}, 422, 'Send the order with "sure": true'),
    "a long id": ({"decision": "x" * 201}, 422, "1 to 200 printable characters"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_orders_have_a_status_and_a_sentence(desk, order, name):
    changed, status, sentence = BAD[name]
    found = desk("/decisions", "POST", {**order, **changed})
    assert found[0] == status and sentence in found[1]["error"] and set(found[1]) == {"error"}


def test_bad_requests_for_decisions(desk, service, order):
    assert desk("/decisions", "POST", {"withdraw": "nothing", "by": "Ada", "text": "?"})[0] == 404
    assert desk("/decisions", "POST", {"withdraw": "nothing", "by": "Ada", "text": ""})[0] == 422
    assert (
        desk("/decisions?day=soon")[0] == desk("/decisions?shop=9")[0] == desk("/decisions?withdrawn=maybe")[0] == 422
    )
    assert desk("/decisions", "POST", b"{")[0] == 400
    status, said = service.ask("/decisions", "POST", order)  # a service without a token
    assert status == 401 and "CD4ML_TOKEN" in said["error"]
    assert service.ask("/decisions") == (200, {"decisions": []})


def test_any_answer_leads_to_all_that_stands_behind_it(own, good):
    asked = query(item=good["item_nbr"], store=good["store_nbr"], date=good["date"])
    with serving(own) as service:
        said = service.ask_all(asked)[1]
        paths = [
            service.ask_all(f"/provenance/{quote(said[name])}") for name in ("event", "model_version", "data_version")
        ]
        nothing = service.ask("/provenance/nothing")
        released = lambda: [one.outputs["act"] for one in read_events(events_folder(own), kinds=["release"])]
        wait_for(lambda: released() == ["approve", "promote"])  # the service puts them on record
    assert [status for status, *_ in paths] == [200] * 3 and nothing[0] == 404
    event, version, data = (found for _, found, _ in paths)
    assert event["event"]["outputs"]["mean"] == said["mean"] and event["event"]["inputs"] == good
    registered = own / "data/registry/trees-1"
    assert event["gate"] == {"passed": True, "sha256": sha256_of(registered / "gate.json"), "checks": {}}
    assert event["package"] == event["state"]["sha256"] == sha256_of(registered / "package/forecaster.json")
    assert [(act["act"], act["by"]) for act in event["acts"]] == [("approve", "Prüferin"), ("promote", "Prüferin")]
    assert event["state"]["live"] and event["trouble"] == []
    same = set(version) - {"event", "how_to_get_it_back"}
    assert all(event[name] == version[name] == data[name] for name in same) and version["event"] is None


def test_a_service_whose_record_is_moved_away_says_so_and_begins_a_new_one(tmp_path, good):
    own = live_shop(tmp_path / "shop")
    folder, asked = events_folder(own), query(item=good["item_nbr"], store=good["store_nbr"], date=good["date"])
    with serving(own) as service:
        before = service.ask_all(asked)[1]["event"]
        wait_for(lambda: read_events(folder, ids=[before]))
        assert service.ask("/ready")[1]["events"] == ""
        folder.rename(tmp_path / "elsewhere")
        wait_for(lambda: "was moved or removed" in service.ask("/ready")[1]["events"])
        after = service.ask_all(asked)[1]["event"]
        assert service.ask(f"/provenance/{after}")[1]["event"]["id"] == after
        status, said = service.ask(f"/provenance/{before}")
        assert status == 404 and "nor an event of this id" in said["error"]
        wait_for(lambda: read_events(folder, kinds=["forecast"]))
    assert [event.id for event in read_events(tmp_path / "elsewhere", ids=[before, after])] == [before]
    assert "kept in a new one" in service.log.read_text()


def hear(connection):
    "The next event of a stream: its kind, and what it says."
    kind, until = None, time.monotonic() + PATIENCE
    while line := connection.readline().decode().strip() or "-":  # a sign of life now and then is no event
        assert time.monotonic() < until, "nothing was heard but signs of life"
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        if line.startswith("data: "):
            return kind, json.loads(line.removeprefix("data: "))


def test_listeners_hear_what_goes_live_and_are_let_go(tmp_path):
    root = live_shop(tmp_path / "shop")
    with serving(root) as service:
        lines = [http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE) for _ in range(3)]
        for line in lines:
            line.request("GET", "/events/releases")
        streams = [line.getresponse() for line in lines]
        wait_for(lambda: service.version() == "trees-1")
        assert {hear(stream)[1]["model_version"] for stream in streams} == {"trees-1"}
        lines[2].close()
        streams[2].close()
        put_live(root, "trees-2", 2.0)
        for stream in streams[:2]:
            kind, said = hear(stream)
            assert (kind, said["model_version"], said["released_by"]) == ("release", "trees-2", "Prüferin")
        began = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(PATIENCE) == 0 and time.monotonic() - began < 10  # and not after 30 s
        assert [stream.read().strip() for stream in streams[:2]] == [b"", b""]


def as_stream(table):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def test_a_table_of_questions_gives_a_table_of_answers(service, model, good):
    day = date.fromisoformat(good["date"])
    columns = {"item_nbr": [good["item_nbr"]] * 3, "store_nbr": [good["store_nbr"]] * 2 + [None], "date": [day] * 3}
    table = pa.table(columns | {"promotion": pa.array([None, True, None], pa.bool_())})
    line = service.connect()
    line.request("POST", "/forecast", as_stream(table), {"content-type": ARROW})
    answer = line.getresponse()
    assert (answer.status, answer.headers["content-type"]) == (200, ARROW)
    found = pa.ipc.open_stream(answer.read()).read_all()
    single = [model.answer(*good.values(), promotion)["mean"] for promotion in (None, True)]
    assert found["mean"].to_pylist() == [*single, model.total(good["item_nbr"], None, good["date"])["mean"]]
    assert len(set(found["event"].to_pylist())) == 3
    for body, status in (
        (as_stream(table.drop_columns(["date"])), 422),
        (b"no table", 400),
        (as_stream(table)[:200], 400),
    ):
        assert service.ask("/forecast", "POST", body, {"content-type": ARROW})[0] == status


def test_a_rule_of_the_parameters_is_told_with_a_decision(desk, order, write_serving):
    "What the list suggested, and which rule made it so, are on record with the decision."
    write_serving(rules=[{"item": order["item_nbr"], "order": 41, "why": "a standing order"}])
    status, made = desk("/decisions", "POST", {**order, "ordered": 41, "reason": "as_suggested"})
    assert (status, made["said"]["suggested"]) == (200, 41)
    assert "a standing order" in made["said"]["rule"] and "the model suggests" in made["said"]["rule"]
    taken_back = {"withdraw": made["decision"], "by": "Grace", "text": "the contract ended"}
    status, gone = desk("/decisions", "POST", taken_back)
    assert (status, gone["stands"]) == (200, False)
    write_serving(rules=[{"order": 41}])
    status, said = desk("/decisions", "POST", order)
    assert status == 503 and "rule 1 needs a reason" in said["error"]


def test_of_thousands_of_unknown_products_only_the_named_ones_are_searched_for(service, good):
    "The nearest name takes long to find where there are many products; the others are looked up and counted."
    rows = [{**good, "item_nbr": f"unobtainium {row}"} for row in range(9_900)]
    status, said = service.ask("/forecast", "POST", {"questions": rows})
    assert status == 404 and "9,895 more rows are wrong, too." in said["error"]
    status, said = service.ask("/forecast", "POST", {"questions": rows, "partial": True})
    told = [one["error"] for one in said["answers"]]
    assert status == 200 and all("such as" in one or "Did you mean" in one for one in told[:5])
    assert told[5:] == [f"There is no item 'unobtainium {row}'." for row in range(5, 9_900)]
