"What a service is asked is on record, and the record stops no answer."

import signal
from pathlib import Path
import pytest
from shop import live_shop, query, serving
from waiting import PATIENCE, wait_for
from cd4ml_nb.serving.events import events_folder, read_events

MODEL = "/v2/models/sales_forecast/infer"


@pytest.fixture
def own(tmp_path):
    return live_shop(tmp_path / "shop")


def as_query(good, path="/forecast", **more):
    return query(path, item=good["item_nbr"], store=good["store_nbr"], date=good["date"], **more)


def tensors(good):
    texts = {name: {"name": name, "datatype": "BYTES", "shape": [1], "data": [good[name]]} for name in good}
    return {"inputs": list(texts.values())}


def on_record(root):
    return {event.id: event for event in read_events(events_folder(root), kinds=["forecast"])}


def test_every_answer_names_its_event(own, good):
    with serving(own) as service:
        single, switched = (service.ask_all(as_query(good, **more))[1] for more in ({}, {"promotion": "yes"}))
        bad = {**good, "item_nbr": "unobtainium"}
        batch = service.ask_all("/forecast", "POST", {"questions": [good, bad, good], "partial": True})[1]["answers"]
        workshop = query("/prediction", item_nbr=good["item_nbr"], date=good["date"])
        _, units, headers = service.ask_all(workshop)
        inferred = service.ask_all(MODEL, "POST", tensors(good))[1]
        refused = service.ask_all(as_query({**good, "store_nbr": "north pole"}))
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(PATIENCE) == 0
    assert "event" not in refused[1] and "event" not in batch[1]
    kept = on_record(own)
    for said in (single, switched, batch[0], batch[2]):
        event = kept[said.pop("event")]
        assert event.outputs == said
        assert (event.model_version, event.data_version) == (said["model_version"], said["data_version"])
    assert round(kept[headers["event-id"]].outputs["mean"]) == units
    row = kept[inferred["parameters"]["event"] + ".1"]
    assert row.outputs["mean"] == inferred["outputs"][0]["data"][0] and row.inputs == good
    assert len(kept) == 6  # and nothing of what got no number


def test_a_record_that_is_away_stops_no_answer_and_is_said(own, good):
    folder = events_folder(own)
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file where the folder should be")
    with serving(own) as service:
        wait_for(lambda: "Cannot write" in service.ask("/ready")[1]["events"], said=service.log.read_text)
        status, said, _ = service.ask_all(as_query(good))
        assert status == 200
        wait_for(lambda: "cd4ml_events_lost_total 1.0" in service.ask("/metrics")[1])
        assert "cd4ml_events_trouble 1.0" in service.ask("/metrics")[1]
        assert "a file stands where a folder should be" in service.log.read_text()
        folder.unlink()
        wait_for((folder / "events.db").exists, said=service.log.read_text)
        assert service.ask("/ready")[1]["events"]  # that a place is there again shows not that events have room
        kept = service.ask_all(as_query(good))[1]["event"]
        wait_for(lambda: "cd4ml_events_kept_total 1.0" in service.ask("/metrics")[1])
        assert service.ask("/ready")[1]["events"] == ""
    assert list(on_record(own)) == [kept] != [said["event"]]


@pytest.mark.parametrize("share", [0, 0.3])
def test_a_share_of_the_requests_is_kept(own, good, share):
    path = Path(own) / "params.yaml"
    path.write_text(path.read_text().replace("forecasts_kept: 1.0", f"forecasts_kept: {share}"))
    with serving(own) as service:
        line = service.connect()
        named = [service.ask_all(as_query(good), connection=line)[1].get("event") for _ in range(200)]
        service.process.send_signal(signal.SIGTERM)
        service.process.wait(PATIENCE)
    named = {event for event in named if event}
    assert set(on_record(own)) == named
    assert abs(len(named) - share * 200) <= 40 * bool(share)  # six standard deviations
