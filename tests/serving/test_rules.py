"Rules of order lists: what is accepted is what is done, whatever two of them say, and of what."

import json
from dataclasses import replace
from itertools import product
import numpy as np, pytest, yaml
from shop import live_shop, serving
from waiting import wait_for
from cd4ml_nb.apps import order_page, page
from cd4ml_nb.cli import main
from cd4ml_nb.core import UserError, find_named
from cd4ml_nb.delivery.rules import counting, is_narrower, read_rules
from cd4ml_nb.serving.events import events_folder, read_events
from cd4ml_nb.serving.kept_rules import rules_kept
from cd4ml_nb.serving.live import load_champion
from cd4ml_nb.serving.ruled import apply_rules

SCOPES = [{}, {"store": "1"}, {"item": "milk"}, {"store": "1", "item": "milk"}]
ACTS = [{"least": 4}, {"least": 20}, {"order": 2}, {"order": 12}]
RULES = [scope | act | {"why": "so"} for scope, act in product(SCOPES, ACTS)]
MODEL = 7.0  # Units that the model suggests


def suggested(rules, store="1", item="milk"):
    "What is ordered of a product that is expected to sell."
    order = lambda least: np.maximum(MODEL, least)
    return apply_rules(rules, store, [item], "2018-01-08", np.array([5.0]), order).suggested[0]


def keeps(rule, units):
    "Whether so many units are what a rule wants."
    return units == rule.order if rule.order is not None else units >= rule.least


def accepted(*given):
    "The rules, or None where two of them are refused."
    try:
        return read_rules(list(given))
    except UserError as e:
        assert "contradict each other" in str(e)


def test_of_two_rules_both_are_kept_or_the_narrower_one_or_they_are_refused():
    for given in product(RULES, RULES):
        one, other = (read_rules([rule])[0] for rule in given)
        if accepted(*given) is None:
            assert not is_narrower(one, other) and not is_narrower(other, one), given
            continue
        units = suggested([one, other])
        assert units == suggested([other, one]), given  # whichever stands first
        kept = [rule for rule in (one, other) if keeps(rule, units)]
        assert len(kept) == 2 or is_narrower(kept[0], other if kept[0] is one else one), given
        wide = [rule for rule in (one, other) if not (rule.store or rule.item)]
        assert suggested([one, other], "2", "tea") == suggested(wide), given


def test_of_three_rules_all_that_count_are_kept_everywhere():
    count = 0
    for given in product(RULES, repeat=3):
        if (rules := accepted(*given)) is None:
            continue
        count += 1
        for store, item in product("12", ("milk", "tea")):
            units = suggested(rules, store, item)
            assert units == suggested(rules[::-1], store, item), given
            assert all(keeps(rule, units) for rule in counting(rules, store, item)), given
    assert count > 1000


def test_a_minimum_of_one_shop_is_its_exception_to_a_wide_order():
    rules = read_rules(
        [
            {"item": "milk", "order": 12, "why": "a standing order"},
            {"item": "milk", "store": 1, "least": 20, "why": "a large shop"},
            {"store": 1, "least": 30, "why": "a wide shelf"},
        ]
    )
    assert (suggested(rules), suggested(rules, "2"), suggested(rules, "1", "tea")) == (20, 12, 30)


@pytest.fixture
def own(tmp_path, monkeypatch):
    "A project in which a model is live, with the rules that a test writes."
    root = live_shop(tmp_path / "shop")
    monkeypatch.setenv("CD4ML_ROOT", str(root))
    return root


def write_rules(root, *rules):
    path = root / "params.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"serving": {"rules": list(rules)}}))


@pytest.fixture
def pair(own):
    return load_champion(own).series.loc[0, ["store_nbr", "item_nbr"]].tolist()


def cd4ml(capsys, *words):
    "Exit code, and what was said."
    code, said = main([str(word) for word in words]), capsys.readouterr()
    return code, said.out, said.err


def decisions(root):
    return [event.outputs for event in read_events(events_folder(root), kinds=["decision"])]


def test_what_was_decided_by_rules_is_on_record_when_something_is_done_by_them(own, pair, capsys):
    "From twelve to ten and back: what stands is what the file says; who looks writes nothing."
    store, item = pair
    twelve, ten = ({"item": item, "order": units, "why": "the contract"} for units in (12, 10))
    listed = lambda *more: cd4ml(capsys, "decisions", "list", "--rules", *more)
    order = lambda units, *more: cd4ml(
        capsys, "decisions", "record", "--store", store, "--item", item, "--days", 3,
        "--ordered", units, "--reason", "event", "--sure", *more,
    )  # fmt: skip
    write_rules(own, twelve)
    for look in (["orders", "--store", store, "--days", 3], ["decisions", "list"], ["decisions", "list", "--rules"]):
        assert cd4ml(capsys, *look)[0] == 0
    assert decisions(own) == []
    assert "params.yaml says otherwise by now" in listed()[2]
    assert order(30)[0] == 0
    for rule in (ten, twelve):
        write_rules(own, rule)
        (standing,) = json.loads(cd4ml(capsys, "decisions", "list", "--json")[1])
        assert order(31, "--replace", standing["decision"])[0] == 0
    acts = [(done["act"], [rule["order"] for rule in done.get("rules", [])]) for done in decisions(own)]
    assert acts == [("rules", [12]), ("order", []), ("rules", [10]), ("order", []), ("rules", [12]), ("order", [])]
    assert "always 12" in listed()[1] and "always 10" not in listed()[1] and not listed()[2]
    assert [rule["stands"] for rule in json.loads(listed("--withdrawn", "--json")[1])] == [True, False, False]
    write_rules(own)
    with serving(own):  # its start puts on record that there is none
        pass
    assert "No rule stands on record here." in listed()[1]
    assert rules_kept(read_events(events_folder(own), kinds=["decision"])) == []
    assert listed("--day", "2018-01-01")[0] != 0


def test_one_bad_rule_takes_no_list_away(own, pair, capsys, tmp_path):
    "Who reads the list is told first, and by the exit code; a program gets none; no decision is taken by it."
    store, item = pair
    write_rules(own, {"item": item, "order": 4321, "why": "so"}, {"item": item, "leest": 3, "why": "so"})
    asked = "--store", store, "--days", 3
    code, out, err = cd4ml(capsys, "orders", *asked)
    assert code == 1 and "made without any rule" in err and "4,321" not in out
    first, second = out.splitlines()[:2]
    assert first.startswith("params.yaml, serving.rules: no rule is applied") and second.startswith(f"Store {store}")
    assert "rule 2 has the unknown key leest (did you mean least?)" in first
    for option in (["--json"], ["--csv", tmp_path / "orders.csv"]):
        code, out, err = cd4ml(capsys, "orders", *asked, *option)
        assert (code, out) == (1, "") and "rule 2 has the unknown key leest" in err
    assert not (tmp_path / "orders.csv").exists()
    code, out, err = cd4ml(capsys, "decisions", "record", *asked, "--item", item, "--ordered", 9, "--reason", "event")
    refused = "params.yaml, serving.rules: no decision is put on record, until this is mended: rule 2 has the unknown"
    assert (code, out) == (1, "") and refused in err
    assert decisions(own) == []


def test_by_rules_that_cannot_be_read_no_door_takes_a_decision(own, pair, capsys):
    "Neither the command nor the page nor the service; mended, each takes it."
    store, item = pair
    refused = "no decision is put on record, until this is mended: rule 1 needs a reason"
    words = "--store", store, "--item", item, "--days", 3, "--ordered", 9, "--reason", "event"
    model = page.remember(load_champion(own))
    shown = order_page.make_list(
        own, model, replace(order_page.default_list(model), store=store), order_page.Record(own)
    )
    typed = {"item": item, "id": "", "seen": "", "ordered": "9", "reason": "event", "text": "", "by": "Ada"}
    sent = {"store_nbr": store, "item_nbr": item, "days": 3, "ordered": 9, "by": "Ada", "reason": "event"}
    write_rules(own, {"item": item, "order": 12})
    token = {"authorization": "Bearer secret"}
    with serving(own, CD4ML_TOKEN="secret", ready=False) as service:
        wait_for(lambda: service.ask("/ready", headers=token)[0] == 200)
        assert refused in cd4ml(capsys, "decisions", "record", *words)[2]
        with pytest.raises(UserError, match=refused):
            order_page.decide(own, shown, order_page.Record(own), typed)
        status, said = service.ask("/decisions", "POST", sent, token)
        assert status == 503 and refused in said["error"]
        assert [done["act"] for done in decisions(own)] == ["rules"]  # of the service's start
        write_rules(own, {"item": item, "order": 12, "why": "the contract"})
        assert service.ask("/decisions", "POST", sent, token)[0] == 200
    assert [done["act"] for done in decisions(own)] == ["rules", "rules", "order"]


def test_a_list_that_a_command_shows_is_on_record_as_the_page_s_is(own, pair, capsys, tmp_path):
    "As words, as JSON, as a file: each time what was asked, by whom it was answered, and what is suggested."
    store, item = pair
    write_rules(own, {"item": item, "order": 12, "why": "the contract"})
    asked = "orders", "--store", store, "--days", 3
    for more in ([], ["--json"], ["--csv", tmp_path / "orders.csv"]):
        assert cd4ml(capsys, *asked, *more)[0] == 0
    assert (
        cd4ml(capsys, "decisions", "record", *asked[1:], "--item", item, "--ordered", 12, "--reason", "event")[0] == 0
    )
    events = read_events(events_folder(own), kinds=["forecast"])
    live = load_champion(own)
    model = page.remember(live)
    choice = replace(order_page.default_list(model), store=store)
    shown = order_page.make_list(own, model, choice, order_page.Record(own))
    question, card, told = order_page.on_record(shown, model)
    assert question.pop("page") == "orders" and told["ruled"] == {
        item: str(rules_kept(read_events(events_folder(own)))[0].rule)
    }
    assert [event.inputs for event in events] == [{"command": "orders", **question}] * 3
    assert {(event.model_version, event.data_version) for event in events} == {
        (card["model_version"], card["data_version"])
    }
    assert all({**event.outputs, "order": 0} == {**told, "order": 0} for event in events)


def test_a_rule_finds_a_product_by_its_name(own, pair, capsys):
    "As the dashboard does, where one product fits; of several each is named, and the rule changes nothing."
    store, item = pair
    model = load_champion(own)
    names = dict(zip(model.items["item_nbr"], model.items["item_name"]))
    name, asked = names[item], ("orders", "--store", store, "--days", 3)
    (only,) = find_named(name, names)
    assert only == item != name
    write_rules(own, {"item": name.upper(), "order": 4321, "why": "so"})
    rows = {row["item_nbr"]: row for row in json.loads(cd4ml(capsys, *asked, "--json")[1])}
    assert rows[item]["suggested"] == 4321 and f"Rule: always 4321 of {name} (so)" in rows[item]["rule"]
    assert "4,321" in cd4ml(capsys, *asked)[1] and "changes nothing" not in cd4ml(capsys, *asked)[1]
    word = next(word for name in names.values() for word in name.split() if len(find_named(word, names)) > 1)
    write_rules(own, {"item": word, "order": 4321, "why": "so"})
    out = cd4ml(capsys, *asked)[1]
    assert "4,321" not in out and f"changes nothing: “{word}” fits" in out
    assert all(f"{names[other]} ({other})" in out for other in find_named(word, names)[:4])


def test_rules_that_contradict_each_other_by_a_name_are_applied_and_decided_by_nobody(own, pair, capsys):
    "One names the product by its number, one by its name."
    store, item = pair
    name = dict(zip(load_champion(own).items["item_nbr"], load_champion(own).items["item_name"]))[item]
    write_rules(own, {"item": item, "order": 4321, "why": "so"}, {"item": name, "order": 4322, "why": "so"})
    asked = "--store", store, "--days", 3
    out = cd4ml(capsys, "orders", *asked)[1]
    assert "4,321" not in out and "no rule is applied" in out and "rules 1 and 2 contradict each other" in out
    code, _, err = cd4ml(
        capsys, "decisions", "record", *asked, "--item", item, "--ordered", 9, "--reason", "event", "--sure"
    )
    assert code == 1 and "no decision is put on record, until this is mended: rules 1 and 2 contradict" in err


def test_where_no_delivery_comes_nobody_says_that_nothing_need_be_ordered(own, pair, capsys):
    "That none comes, why, and how much is expected all the same: of a store, and of one of its products."
    store, item = pair
    live = load_champion(own)
    first, asked = live.card["first_day"], ("--store", store, "--days", 3)
    before = json.loads(cd4ml(capsys, "orders", *asked, "--json")[1])
    lacking = [row for row in before if row["suggested"] > 0]
    closed = {"closed": first, "why": "no lorry comes"}
    write_rules(own, closed)
    head, missed, *rest = cd4ml(capsys, "orders", *asked)[1].splitlines()
    assert head.endswith(f"{len(lacking)} products by a rule: nothing is suggested.")
    units = f"about {sum(row['mean'] for row in lacking):,.0f} units are expected to sell until"
    assert missed.startswith(f"No delivery on {first} (no lorry comes): nothing of {len(lacking)} products comes on")
    assert units in missed and missed not in rest

    write_rules(own, closed | {"item": item})
    head, *rest = cd4ml(capsys, "orders", *asked)[1].splitlines()
    assert head.endswith("1 product by a rule:") and "Of 1 other product nothing is suggested, by a rule." in rest
    assert any(line.startswith(f"No delivery of {item} on {first} (no lorry comes): nothing of 1 ") for line in rest)
    others = sum(row["suggested"] == 0 for row in before)
    assert any("nothing need be ordered" in line for line in rest) == bool(others)

    write_rules(own)
    head = cd4ml(capsys, "orders", *asked)[1].splitlines()[0]
    assert "by a rule" not in head
