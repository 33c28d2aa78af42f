"Several models answer, each its units: whatever is asked says the same, and what cannot be leaves the champion."

import json, shutil
from types import SimpleNamespace
import msgspec, numpy as np, pandas as pd, pyarrow.parquet as pq, pytest
from prometheus_client import generate_latest
from shop import NO_MLFLOW
from cd4ml_nb.core import UserError
from cd4ml_nb.delivery.acts import LOG
from cd4ml_nb.delivery.live_copy import copy_live
from cd4ml_nb.delivery.night import turn
from cd4ml_nb.delivery.release import approve, promote, retire
from cd4ml_nb.cli.monitor import _routing
from cd4ml_nb.cli.release import _who_answers
from cd4ml_nb.delivery.nights import live_night
from cd4ml_nb.delivery.registry import registry_folder
from cd4ml_nb.delivery.routing import BANDIT, arm_folder
from cd4ml_nb.delivery.state import state
from cd4ml_nb.monitoring.asked import keep_questions, questions_kept, say_asked
from cd4ml_nb.monitoring.answering import ROUTED
from cd4ml_nb.monitoring.answering import say_given
from cd4ml_nb.monitoring.published import publish_routed, ready_arms, routed_file
from cd4ml_nb.monitoring.split import look_at_routing
from cd4ml_nb.serving.answers import Answers, Question
from cd4ml_nb.serving.asked import Recorder, as_row, close
from cd4ml_nb.serving.events import events_folder, read_events, utc_now
from cd4ml_nb.serving.http import Counts, tell, who_answers
from cd4ml_nb.serving.live import Shelf, load_champion
from cd4ml_nb.serving.orders import as_file, order_list, said_of, with_decisions
from cd4ml_nb.serving.routing import points_file
from cd4ml_nb.tiny import add_twin, tiny_live


def give(root, share, name="twin"):
    promote(root, name, "challenger", "Ana", "is it better?", outside=NO_MLFLOW, share=share)


@pytest.fixture(scope="module")
def routed(tmp_path_factory):
    "Two nights after a twin, which says twice as much, was given two fifths of the series."
    root = shutil.copytree(tiny_live("2017-08-20"), tmp_path_factory.mktemp("routed") / "shop")
    add_twin(root, "twin")
    (root / "params.yaml").open("a").write("serving: {routing: {policy: split, unit: series}}\n")
    approve(root, "twin", "Ana", "for a trial", override=True, outside=NO_MLFLOW)
    give(root, 0.4)
    turn(root)
    ready_arms(root)
    return root


@pytest.fixture
def shop(routed, tmp_path):
    return shutil.copytree(routed, tmp_path / "shop")


def by_series(model):
    "Who answers each series."
    told = model.forecast()
    return told.groupby(["store_nbr", "item_nbr"])["model_version"].first()


def test_all_ways_to_ask_say_the_same(routed):
    model = load_champion(routed)
    who, day = by_series(model), model.card["first_day"]
    assert 0 < (who == "twin").sum() < len(who)
    units = {name: arm["units"] for name, arm in model.card["routing"]["arms"].items()}
    that = f"That is {units['twin']} of {sum(units.values())} products in stores."
    assert say_given(routed, state(routed), "twin", 0.4) == that
    answers = Answers(model)
    for (store, item), name in who.items():
        planned = answers.find(Question(item, store, day))
        said = msgspec.json.decode(planned)
        assert said == model.answer(item, store, day) and said["model_version"] == name
        computed = msgspec.json.decode(answers.compute(Question(item, store, day, day)))
        assert computed["model_version"] == name and np.isclose(computed["mean"], said["mean"])
        assert as_row("000000000000000", None, model.card, planned)[3] == name  # its event
    store, item = who.index[0]
    for one in who.index.get_level_values("store_nbr").unique():
        listed = order_list(model, one, 3)
        table = as_file(listed, with_decisions(listed, []))
        assert dict(zip(table["item_nbr"], table["model_version"])) == dict(who[one])
        assert said_of(listed, table["item_nbr"][0]).model_version == who[one, table["item_nbr"][0]]
    everywhere = answers.compute(Question(item, None, day))
    assert set(msgspec.json.decode(everywhere).get("models", [])) in (set(), {"twin", model.card["model_version"]})


def test_who_answers_is_told_with_role_and_share(routed):
    model, counts = load_champion(routed), Counts()
    champion = state(routed)["champion"]["model_version"]
    roles = [(one["model_version"], one["role"], one["share"]) for one in who_answers(model.card)]
    assert roles == [(champion, "champion", 0.6), ("twin", "challenger", 0.4)]
    follower = SimpleNamespace(answers=SimpleNamespace(card=model.card), trouble="")
    tell(counts, follower)
    follower.answers.card = {"model_version": "twin"}
    tell(counts, follower)
    told = generate_latest(counts.registry).decode()
    for version, role, live, share in (
        (champion, "champion", 0, 0),
        ("twin", "champion", 1, 1),
        ("twin", "challenger", 0, 0),
    ):
        of = f'{{model_version="{version}",role="{role}"}}'
        assert f"cd4ml_model_live{of} {live}.0" in told and f"cd4ml_model_share{of} {share}.0" in told


def test_a_shadow_is_asked_what_was_asked_and_never_in_the_way(shop, capfd):
    retire(shop, "twin", "Ana", "to the shadow", outside=NO_MLFLOW)
    promote(shop, "twin", "shadow", "Ana", "is it better?", outside=NO_MLFLOW)
    champion, answers = state(shop)["champion"]["model_version"], Answers(load_champion(shop))
    (store, item), day = next(iter(answers.planned.places)), answers.card["first_day"]
    recorder, asked = Recorder(events_folder(shop)), [Question(item, store, day, day), Question(item, None, day)]
    for one in asked:
        recorder.note(recorder.begin(), one, answers.card, answers.compute(one))
    recorder.note(recorder.begin(), None, answers.card, answers.find(Question(item, store, day)))
    close(recorder)
    keep_questions(shop, utc_now())
    assert questions_kept(shop)["times"].sum() == 3
    says = say_asked(shop, champion, "twin")
    assert "its forecasts answer 1" in says and "it was asked 2 afterwards" in says
    beside = read_events(events_folder(shop), kinds=["beside"])
    assert {one.model_version for one in beside} == {"twin"}
    said = {one.inputs["event"]: one.outputs["mean"] for one in beside}
    own = {
        one.id: one.outputs["mean"] for one in read_events(events_folder(shop), kinds=["forecast"]) if one.id in said
    }
    assert all(np.isclose(said[event], 2 * mean) for event, mean in own.items()) and len(own) == 2
    shutil.rmtree(arm_folder(shop, state(shop)["champion"], state(shop)["beside"][0]))
    shutil.rmtree(registry_folder(shop) / "twin")
    after = Answers(load_champion(shop))  # whatever becomes of the shadow
    assert [after.compute(one) for one in asked] == [answers.compute(one) for one in asked]
    assert "twin" not in capfd.readouterr().err


def test_what_is_published_is_what_is_answered(shop):
    told = pq.read_table(publish_routed(shop)).to_pandas()
    asked = load_champion(shop).forecast()
    both = told.merge(asked, on=["store_nbr", "item_nbr", "horizon"], suffixes=("", "_asked"))
    assert len(both) == len(told) == len(asked)
    assert (both["model_version"].astype(str) == both["model_version_asked"]).all()
    assert np.allclose(both[["mean", "q10", "q90"]], both[["mean_asked", "q10_asked", "q90_asked"]])


def test_a_copy_of_what_is_live_answers_alike(shop, tmp_path):
    copy_live(shop, tmp_path / "copy")
    assert load_champion(tmp_path / "copy").forecast().equals(load_champion(shop).forecast())


def test_shares_move_only_those_who_must_and_are_given_back_at_once(shop):
    shelf = Shelf(shop)
    first = by_series(shelf.current())
    give(shop, 0.6)
    more = by_series(shelf.current())
    assert set(first[first == "twin"].index) < set(more[more == "twin"].index)
    give(shop, 0.4)
    less = by_series(shelf.current())
    assert less.equals(first)  # whoever had it before has it again, and nobody else
    kept = shelf.current()
    (shop / "params.yaml").open("a").write("# a remark\n")
    assert shelf.current() is kept
    retire(shop, "twin", "Ana", "seen enough", outside=NO_MLFLOW)
    assert set(by_series(shelf.current())) == {state(shop)["champion"]["model_version"]}
    dealt = pd.read_parquet(points_file(shop, "series"))
    give(shop, 0.4)  # another experiment
    ready_arms(shop)
    assert not pd.read_parquet(points_file(shop, "series")).equals(dealt)
    assert len(list(points_file(shop, "series").parent.glob("points-*.parquet"))) == 1  # those of before are gone
    assert not by_series(shelf.current()).equals(first)
    log = shop / LOG
    assert [json.loads(line).get("begins", False) for line in log.open()][-2:] == [False, True]


WRONG = {
    "no night": lambda shop: shutil.rmtree(arm_folder(shop, state(shop)["champion"], state(shop)["beside"][0])),
    "a damaged one": lambda shop: (
        arm_folder(shop, state(shop)["champion"], state(shop)["beside"][0]) / "state.parquet"
    ).write_bytes(b"x"),
    "no points": lambda shop: points_file(shop, "series").unlink(),
    "damaged points": lambda shop: points_file(shop, "series").write_text("nonsense"),
    "no such policy": lambda shop: (shop / "params.yaml").write_text(
        (shop / "params.yaml").read_text().replace("policy: split", "policy: dice")
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_whatever_is_wrong_the_champion_answers(shop, wrong, capfd):
    champion = state(shop)["champion"]["model_version"]
    WRONG[wrong](shop)
    model = load_champion(shop)
    assert set(model.forecast()["model_version"]) == {champion}
    assert "answers" in (capfd.readouterr().err + json.dumps(model.card.get("routing", {})))
    assert model.card.get("routing_doubt") or model.card["routing"]["doubts"]  # what /ready tells


def shares_of(shop, **changes):
    "A line of the bandit for the night that is live, as it may have been changed."
    live = state(shop)["champion"]["model_version"]
    told = {"day": live_night(shop)["day"], "shares": {live: 0.5, "twin": 0.5}, "says": "a\u2028b", **changes}
    return json.dumps(told, ensure_ascii=False) + "\n"


def nonsense(shares):
    return lambda shop, path: path.write_text(shares_of(shop, shares=shares))


def as_folder(shop, path):
    path.unlink()
    path.mkdir()


BANDIT_LINES = {
    "no UTF-8": lambda shop, path: path.write_bytes(b"\xff\xfe{}"),
    "a folder": as_folder,
    "deeply nested": lambda shop, path: path.write_text("[" * 200_000),
    "a share that is no number": nonsense({"twin": float("nan")}),
    "a huge share": nonsense({"twin": 10**400}),
    "a stranger": nonsense({"somebody": 1.0}),
    "a list": nonsense([1.0]),
    "tomorrow": lambda shop, path: path.write_text(shares_of(shop, day="2027-01-01")),
    "no day": lambda shop, path: path.write_text(shares_of(shop, day=7)),
    "a segment's shares too large": lambda shop, path: path.write_text(
        shares_of(shop, segment="family", segments={"DAIRY": {"shares": {"twin": 2.0}}})
    ),
    "a stranger in a segment": lambda shop, path: path.write_text(
        shares_of(shop, segment="family", segments={"DAIRY": {"shares": {"somebody": 1.0}}})
    ),
}


def points(change):
    "Points that can be read, and were changed."

    def damage(shop, _):
        path = points_file(shop, "series")
        change(pd.read_parquet(path)).to_parquet(path, index=False)

    return damage


POINTS = {
    "points as text": points(lambda told: told.assign(point="half")),
    "units twice": points(lambda told: pd.concat([told, told])),
    "units without a key": points(lambda told: told.assign(item_nbr=None)),
    "points that are none": points(lambda told: told.assign(point=np.nan)),
    "points outside the line": points(lambda told: told.assign(point=7.0)),
    "negative points": points(lambda told: told.assign(point=-told["point"])),
    "one point for all": points(lambda told: told.assign(point=0.5)),
    "points in a corner": points(lambda told: told.assign(point=told["point"] / 10)),
    "no points": points(lambda told: told.head(0)),
}


@pytest.fixture
def by_bandit(shop):
    params = shop / "params.yaml"
    params.write_text(params.read_text().replace("policy: split", "policy: bandit"))
    (shop / BANDIT).write_text(shares_of(shop) + "\n")
    return shop


def test_a_sound_line_of_the_bandit_routes_whatever_its_sentence_holds(by_bandit):
    assert set(by_series(load_champion(by_bandit))) == {state(by_bandit)["champion"]["model_version"], "twin"}
    assert any("a\u2028b" in said for said in _who_answers(by_bandit, state(by_bandit)))


def test_each_segment_is_answered_by_its_own_shares_wherever_it_is_asked(by_bandit):
    live = state(by_bandit)["champion"]["model_version"]
    params = by_bandit / "params.yaml"
    params.write_text(params.read_text().replace("unit: series}", "unit: series}, bandit: {segment: store_nbr}"))
    stores = sorted(by_series(load_champion(by_bandit)).index.unique("store_nbr"))
    own = {store: {live: 1.0} for store in stores} | {stores[0]: {"twin": 1.0}}
    parts = {store: {"shares": shares} for store, shares in own.items()}
    (by_bandit / BANDIT).write_text(shares_of(by_bandit, segment="store_nbr", segments=parts))
    ready_arms(by_bandit)
    model = load_champion(by_bandit)
    told = by_series(model).groupby("store_nbr").unique()
    assert {store: list(who) for store, who in told.items()} == {store: list(own[store]) for store in stores}
    assert model.card["routing"]["segments"][stores[0]] == {"twin": 1.0}
    many = by_series(model).groupby("store_nbr").size()
    share = {one["model_version"]: one["share"] for one in who_answers(model.card)}
    assert share["twin"] == pytest.approx(many[stores[0]] / many.sum())
    routed_file(by_bandit, live_night(by_bandit)["day"]).unlink(missing_ok=True)
    published = pq.read_table(publish_routed(by_bandit)).to_pandas().astype({"store_nbr": str})
    published = published.groupby("store_nbr")["model_version"].unique()
    assert list(published[stores[0]]) == ["twin"] and list(published[stores[1]]) == [live]
    points_file(by_bandit, "series", "store_nbr").unlink()
    assert "answers" in load_champion(by_bandit).card["routing_doubt"]


def test_a_wrong_section_of_the_bandit_is_told_and_shares_stay(by_bandit):
    before, params = by_series(load_champion(by_bandit)), by_bandit / "params.yaml"
    shelf = Shelf(by_bandit)
    shelf.current()
    params.write_text(params.read_text().replace("unit: series}", "unit: series}, bandit: {flor: 0.1}"))
    model = shelf.current()
    [doubt] = model.card["routing"]["doubts"]  # what /ready tells
    assert "unknown key flor (did you mean floor" in doubt and by_series(model).equals(before)


@pytest.mark.parametrize("wrong", [*BANDIT_LINES, *POINTS])
def test_a_damaged_file_of_routing_is_named_and_the_champion_answers_everybody(by_bandit, wrong, capfd):
    path = by_bandit / BANDIT
    {**BANDIT_LINES, **POINTS}[wrong](by_bandit, path)
    named = "bandit.jsonl" if wrong in BANDIT_LINES else points_file(by_bandit, "series").name
    champion = state(by_bandit)["champion"]["model_version"]
    assert set(by_series(Shelf(by_bandit).current())) == {champion}
    assert named in capfd.readouterr().err
    routed_file(by_bandit, live_night(by_bandit)["day"]).unlink(missing_ok=True)
    for told in (_who_answers(by_bandit, state(by_bandit)), _routing(by_bandit)["says"], look_at_routing(by_bandit)):
        [said] = [said for said in told if named in said]
        assert said.endswith("Until this is mended the champion answers everybody.")
    published = pq.read_table(routed_file(by_bandit, live_night(by_bandit)["day"])).to_pandas()
    assert set(published["model_version"]) == {champion}


def test_a_challenger_whose_files_are_damaged_or_gone_is_told_as_it_answers(shop):
    folder = arm_folder(shop, state(shop)["champion"], state(shop)["beside"][0])
    (folder / "state.parquet").write_bytes(b"x")
    whole, said = _who_answers(shop, state(shop))[:2]
    assert "answers 21 of 21" in whole and said.startswith("twin answers nobody: ")
    shutil.rmtree(registry_folder(shop) / "twin")
    whole, said = _who_answers(shop, state(shop))[:2]
    assert "answers 21 of 21" in whole and "is not in" in said
    assert any(said.startswith("twin answers nobody: ") for said in look_at_routing(shop))
    retire(shop, "twin", "Ana", "its folder is gone", outside=NO_MLFLOW)
    assert state(shop)["beside"] == []


def test_a_file_that_no_night_published_is_named_and_the_others_count(shop, capfd):
    path = publish_routed(shop)
    shutil.copy(path, path.with_name("2017-01-02.parquet"))
    (shop / ROUTED / "2017-01-03.parquet").write_text("x")
    (shop / ROUTED / "abcd-ef-gh.parquet").write_text("x")
    assert any("with forecasts so far" in said for said in look_at_routing(shop))
    told = capfd.readouterr().err
    assert all(name in told for name in ("2017-01-02", "2017-01-03", "abcd-ef-gh"))


REFUSED = {
    "less than one part": (lambda root: give(root, 1e-9), "a share is 0.000001 at least, or 0 for nobody"),
    "a share above 1": (lambda root: give(root, 1.2), "The share is 1.2"),
    "the same share": (lambda root: give(root, 0.4), "is a challenger already with a share of 0.4"),
    "of a shadow": (lambda root: promote(root, "twin", "shadow", "Ana", "x", share=0.1), "answered by a shadow"),
    "of the champion": (
        lambda root: promote(root, "twin", "champion", "Ana", "x", share=0.1),
        "what challengers leave",
    ),
    "of one that is not": (lambda root: give(root, 0.1, "no-such"), "no-such"),
}


@pytest.mark.parametrize("asked", REFUSED)
def test_what_cannot_be_a_share_is_refused_and_nothing_is_changed(shop, asked):
    act, why = REFUSED[asked]
    before = (shop / LOG).read_bytes()
    with pytest.raises(UserError, match=why):
        act(shop)
    assert (shop / LOG).read_bytes() == before


def test_who_is_known_to_be_worse_is_given_more_only_by_one_who_says_so_again(shop):
    place, live = shop / "production/beside/twin/evidence.json", state(shop)["champion"]["model_version"]
    known = {"live": live, "day": "2017-08-21", "says": "twin is worse. Take it off.", "state": "worse", "stops": [""]}
    place.write_text(json.dumps(known))
    before = (shop / LOG).read_bytes()
    with pytest.raises(UserError, match="known to be worse than the live model. twin is worse.*--override"):
        give(shop, 0.5)
    assert (shop / LOG).read_bytes() == before
    give(shop, 0.3)  # less is always given
    place.write_text(json.dumps(known | {"live": "another"}))
    give(shop, 0.4)
    place.write_text(json.dumps(known))
    done = promote(shop, "twin", "challenger", "Ana", "one more week", True, NO_MLFLOW, 0.5)
    assert done["overridden"] and done["share"] == 0.5


def test_all_shares_together_are_at_most_one(shop):
    add_twin(shop, "third", 3.0)
    approve(shop, "third", "Ana", "for a trial", override=True, outside=NO_MLFLOW)
    with pytest.raises(UserError, match="third can have 0.6 at most"):
        give(shop, 0.7, "third")
    give(shop, 0.6, "third")
    assert load_champion(shop).card["routing"]["arms"][state(shop)["champion"]["model_version"]]["share"] == 0
