"Decisions of several planners at once: on record through kills, rolls and restarts, the latest one standing."

import json, os, signal, subprocess, sys, time
from dataclasses import replace
from datetime import datetime, timezone
import numpy as np, pandas as pd
import pytest
from copies import ROOT, environment
from cd4ml_nb.core import UserError
from cd4ml_nb.serving.decisions import Decision, Said, read_decisions, record_decision, withdraw_decision
from cd4ml_nb.serving.events import EventStore, roll_events

SAID = Said(8.2, 12, 0.9, 12, "2017-12-31", "2018-01-16", "trees-1", "aaaa1111")


def order(item="milk", ordered=20.0, by="Ada", **more):
    return Decision("367", item, "2018-01-01", "2018-01-03", ordered, by, "event", **more)


# A planner who orders 1, 2, 3, … units of one product, prints each id that is on record, and is killed.
PLANNER = """
import os, sys
from pathlib import Path
from cd4ml_nb.serving.decisions import Decision, Said, record_decision
from cd4ml_nb.serving.events import EventStore

said = Said(8.2, 12, 0.9, 12, "2017-12-31", "2018-01-16", "trees-1", "aaaa1111")
with EventStore(Path(sys.argv[1])) as store:
    last = ""
    for number in range(1, 10**6):
        made = Decision("367", sys.argv[2], "2018-01-01", "2018-01-03", number, sys.argv[2], "weather")
        last = record_decision(store, made, said, replaces=last, sure=True).id
        os.write(1, f"{last}\\n".encode())
"""


def test_planners_who_are_killed_lose_no_decision(tmp_path):
    words = [sys.executable, "-c", PLANNER, str(tmp_path)]
    items = ("milk", "bread")
    planners = [
        subprocess.Popen([*words, item], stdout=subprocess.PIPE, text=True, env=environment(ROOT)) for item in items
    ]
    told = [[planner.stdout.readline() for _ in range(10)] for planner in planners]
    for planner in planners:
        os.kill(planner.pid, signal.SIGKILL)
    told = [[*lines, *planner.communicate()[0].split("\n")[:-1]] for lines, planner in zip(told, planners)]
    standing = {one.decision.item_nbr: one for one in read_decisions(tmp_path, "367")}
    assert sorted(standing) == ["bread", "milk"]
    for item, ids in zip(items, told):
        history = [event.id for event in standing[item].history]
        assert [name.strip() for name in ids] == history[: len(ids)] and len(history) <= len(ids) + 1
        assert standing[item].decision.ordered == len(history)  # the latest stands


def test_a_decision_stands_through_a_roll_and_is_withdrawn_after_it(tmp_path):
    with EventStore(tmp_path) as store:
        made = record_decision(store, order(), SAID, "order 1", time=datetime(2018, 1, 1, 8, tzinfo=timezone.utc))
    before = read_decisions(tmp_path)
    assert roll_events(tmp_path, "2018-01-01") == {"2018-01-01": 1}
    assert read_decisions(tmp_path) == before and before[0].id == made.id
    with EventStore(tmp_path) as store:
        withdraw_decision(store, "order 1", "Grace", "counted twice")
        with pytest.raises(UserError, match="was withdrawn already"):
            withdraw_decision(store, "order 1", "Grace", "again")
    assert read_decisions(tmp_path) == []
    (gone,) = read_decisions(tmp_path, withdrawn=True)
    assert not gone.stands and [one.outputs["by"] for one in gone.history] == ["Ada", "Grace"]


def test_another_decision_under_a_known_id_is_refused(tmp_path):
    moment = datetime(2018, 1, 1, 8, tzinfo=timezone.utc)
    with EventStore(tmp_path) as store:
        made = record_decision(store, order(), SAID, "order 1", time=moment)
        assert record_decision(store, order(), SAID, "order 1") == made  # sent again
        newer = Said(9.5, 14, 0.9, 14, "2017-12-31", "2018-01-16", "trees-2", "bbbb2222")
        assert record_decision(store, order(), newer, "order 1") == made  # the model changed, the decision did not
        for other in (order(ordered=21.0), order(by="Grace"), order("bread"), order(text="the fair")):
            with pytest.raises(UserError, match="on record with other content: 20 units of milk for store 367"):
                record_decision(store, other, SAID, "order 1")
    assert [one.decision for one in read_decisions(tmp_path)] == [order()]


def test_a_standing_decision_is_replaced_by_who_knows_it_only(tmp_path):
    with EventStore(tmp_path) as store:
        record_decision(store, order(), SAID, "order 1")
        for replaces in ("", "order 9"):
            with pytest.raises(UserError, match="Ada ordered 20 of milk .* decision 'order 1'"):
                record_decision(store, order(ordered=33.0, by="Pia"), SAID, replaces=replaces)
        record_decision(store, order(ordered=33.0, by="Pia"), SAID, "order 2", "order 1")
        with pytest.raises(UserError, match="Pia ordered 33 of milk .* decision 'order 2'"):
            record_decision(store, order(ordered=5.0), SAID, replaces="order 1")  # seen before Pia's
        assert record_decision(store, order(), SAID, "order 1").id == "order 1"  # sent again, and not made again
        record_decision(store, order("bread"), SAID)
    assert [one.decision.ordered for one in read_decisions(tmp_path, item_nbr="milk")] == [33]


# A planner who orders of one product after another, each at a moment that others wait for, too.
AT_ONCE = """
import sys, time
from pathlib import Path
from cd4ml_nb.serving.decisions import Decision, Said, Stands, record_decision
from cd4ml_nb.serving.events import EventStore

said = Said(8.2, 12, 0.9, 12, "2017-12-31", "2018-01-16", "trees-1", "aaaa1111")
with EventStore(Path(sys.argv[1])) as store:
    print("ready", flush=True)
    moments = map(float, sys.stdin.readline().split())
    for number, moment in enumerate(moments):
        made = Decision("367", f"item {number}", "2018-01-01", "2018-01-03", 20, sys.argv[2], "weather")
        while time.time() < moment:
            pass
        try:
            print(record_decision(store, made, said).outputs["by"])
        except Stands as e:
            print(e)
"""


def test_of_planners_who_order_in_the_same_instant_one_is_on_record_and_the_others_are_told(tmp_path):
    names, rounds = ("Ada", "Grace", "Pia"), 8
    planners = [
        subprocess.Popen(
            [sys.executable, "-c", AT_ONCE, str(tmp_path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(ROOT),
        )
        for name in names
    ]
    assert [planner.stdout.readline() for planner in planners] == ["ready\n"] * len(names)
    moments = [time.time() + 0.3 * (1 + number) for number in range(rounds)]
    for planner in planners:
        planner.stdin.write(" ".join(map(str, moments)) + "\n")
        planner.stdin.flush()
    said = [planner.communicate()[0].splitlines() for planner in planners]
    standing = {one.decision.item_nbr: one for one in read_decisions(tmp_path)}
    assert [len(standing[f"item {number}"].history) for number in range(rounds)] == [1] * rounds
    for number, told in enumerate(zip(*said)):
        by = standing[f"item {number}"].decision.by
        assert [answer == by for answer in told] == [name == by for name in names]
        others = [answer for answer in told if answer != by]
        assert all(f"{by} ordered 20 of item {number}" in answer and "and that stands" in answer for answer in others)


def test_far_more_than_is_suggested_is_taken_from_who_is_sure(tmp_path):
    with EventStore(tmp_path) as store:
        with pytest.raises(UserError, match="9,000,000 is 750,000 times what is suggested, 12"):
            record_decision(store, order(ordered=9e6), SAID)
        record_decision(store, order(ordered=240.0), SAID)  # 20 times
        record_decision(store, order("bread", ordered=9e6), SAID, sure=True)
    assert [one.decision.ordered for one in read_decisions(tmp_path)] == [9e6, 240]


def test_a_decision_that_is_not_on_disk_is_an_error(tmp_path):
    (tmp_path / "events").write_text("a file")
    with EventStore(tmp_path / "events") as store, pytest.raises(UserError, match="file stands where a folder"):
        record_decision(store, order(), SAID)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    "A project in which the packaged model is live."
    from small_registry import add_version, make_project
    from cd4ml_nb.delivery.release import approve, promote

    root = make_project(tmp_path_factory.mktemp("shop") / "project")
    add_version(root, "trees-1", 1)
    approve(root, "trees-1", by="Ana", reason="good enough")
    promote(root, "trees-1", by="Ana", reason="good enough")
    return root


@pytest.mark.pipeline
def test_from_the_order_list_to_a_decision_and_back(shop, tmp_path, monkeypatch, capsys):
    "What a planner types: the list, with stock; another number, with a reason; it is seen, and taken back."
    from cd4ml_nb.cli import main
    from cd4ml_nb.serving.live import load_champion

    monkeypatch.setenv("CD4ML_ROOT", str(shop))
    series = load_champion(shop).series
    store = series["store_nbr"].value_counts().index[0]
    item = series[series["store_nbr"] == store]["item_nbr"].iloc[0]
    stock, out = tmp_path / "stock.csv", tmp_path / "orders.csv"
    stock.write_text(f"item_nbr;stock;pack_size\n{item};1;6\n")

    def cd4ml(*words):
        code, said = main([str(word) for word in words]), capsys.readouterr()
        assert code == 0, said.err
        return said.out

    asked = ["--store", store, "--days", "3", "--stock", stock]
    cd4ml("orders", *asked, "--service-level", "0.95", "--csv", out)
    listed = pd.read_csv(out, dtype={"item_nbr": str, "store_nbr": str}).set_index("item_nbr")
    assert len(listed) == (series["store_nbr"] == store).sum() and set(listed["model_version"]) == {"trees-1"}
    row = listed.loc[item]
    assert row["suggested"] == 6 * np.ceil(max(row["quantile"] - 1, 0) / 6) and row["low"] <= row["high"]

    why = ["--reason", "other", "--text", "a school trip", "--by", "Ada"]
    cd4ml("decisions", "record", *asked, "--item", item, "--ordered", "41", *why)
    half = ["decisions", "record", *asked, "--item", item, "--ordered", "41.5", *why]
    assert main([str(word) for word in half]) != 0
    assert f"41.5 of {item} cannot be: it is only sold in whole units. Give 41 or 42." in capsys.readouterr().err
    (made,) = json.loads(cd4ml("decisions", "list", "--json"))
    assert (made["ordered"], made["by"], made["text"], made["said"]["service_level"]) == (
        41,
        "Ada",
        "a school trip",
        0.9,
    )
    far = ["decisions", "record", *asked, "--item", item, "--ordered", "9000000", *why, "--replace", made["decision"]]
    assert main([str(word) for word in far]) != 0 and "add --sure" in capsys.readouterr().err
    another = ["decisions", "record", *asked, "--item", item, "--ordered", "43", *why[:-1], "Pia"]
    assert main([str(word) for word in another]) != 0
    assert f"add --replace {made['decision']}" in capsys.readouterr().err
    first = made["decision"]
    cd4ml(*another, "--replace", first)
    assert [one["ordered"] for one in json.loads(cd4ml("decisions", "list", "--json"))] == [43]
    (standing,) = json.loads(cd4ml("decisions", "list", "--json"))
    again = ["decisions", "record", *asked, "--item", item, "--ordered", "41", *why]
    cd4ml(*again, "--replace", standing["decision"])
    (made,) = json.loads(cd4ml("decisions", "list", "--json"))
    shown = {row["item_nbr"]: row for row in json.loads(cd4ml("orders", *asked, "--json"))}
    assert shown[item]["ordered"] == 41 and made["said"]["suggested"] == shown[item]["suggested"]
    assert shown[item]["decision"] == made["decision"]

    cd4ml("decisions", "withdraw", made["decision"], "--text", "the trip is off", "--by", "Ada")
    assert "No decision stands" in cd4ml("decisions", "list")
    assert "withdrawn (41)" in cd4ml("decisions", "list", "--withdrawn")


def _damaged(part):
    "A part of an event, with each field missing, and with each as something else."
    for name, value in part.items():
        yield name, {other: held for other, held in part.items() if other != name}
        yield name, part | {name: 5 if isinstance(value, (str, dict)) else "many"}


def test_what_somebody_else_wrote_otherwise_is_a_sentence_that_names_the_event():
    from cd4ml_nb.monitoring.alerts import alerts_of
    from cd4ml_nb.serving.decisions import decision_event, decisions_of, withdrawal_event
    from cd4ml_nb.serving.events import Event

    made = decision_event(order(), SAID, "order-1")
    gone = withdrawal_event([made], made.id, "Bo", "twice")
    opened = Event("alert", {"of": "drift"}, {"act": "opened", "says": "Less."}, id="alert-1")
    seen = Event("alert", {"of": "drift"}, {"act": "acknowledged", "by": "Ana", "reason": "a fair"}, id="seen-1")
    cases = [(made, "inputs", decisions_of, []), (gone, "inputs", decisions_of, [made])]
    cases += [(made, "outputs", decisions_of, []), (seen, "outputs", alerts_of, [opened])]
    for event, part, read, others in cases:
        for name, damaged in _damaged(getattr(event, part)):
            if name == "act":  # what it does tells what is read of it
                continue
            with pytest.raises(UserError, match=f"'{event.id}' cannot be read: its {name} "):
                list(read([*others, replace(event, **{part: damaged})]))
