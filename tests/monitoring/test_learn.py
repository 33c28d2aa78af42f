"Learning: what is live stays, the log stays whole, nothing falls back to older sales, no night fails by it."

import json, shutil, sys
from dataclasses import replace
import pytest, yaml
from copies import ROOT
from cd4ml_nb.cli import main
from cd4ml_nb.core import UserError, run_git, write_json
from cd4ml_nb.data.corrections import CORRECTIONS as LOG_OF_CORRECTIONS
from cd4ml_nb.data.corrections import Correction, add_correction, undo_correction
from cd4ml_nb.data.known import KNOWN
from cd4ml_nb.delivery.acts import LOG, log_trouble, read_log, release_log
from cd4ml_nb.delivery.ledger import append
from cd4ml_nb.delivery.parameters import check_params
from cd4ml_nb.delivery.release import begin_learning, verify
from cd4ml_nb.delivery.state import state
from cd4ml_nb.delivery.taught import UNDER_WAY, find_learning
from cd4ml_nb.monitoring import due as due_of
from cd4ml_nb.monitoring import learn as learning
from cd4ml_nb.monitoring.alerts import Wrong, acknowledge, read_alerts, settle
from cd4ml_nb.monitoring.causes import BROKEN, LEVEL, TOLD, UNITS, Drift
from cd4ml_nb.monitoring.drifted import DRIFT
from cd4ml_nb.monitoring.due import Due, Trigger, corrections_trigger, drift_trigger, read_grounds, worse_trigger
from cd4ml_nb.monitoring.judged import WORSE, Verdict
from cd4ml_nb.tiny import tiny_live


@pytest.fixture
def shop():
    return tiny_live("2017-08-20")


def nothing(root):
    "A pipeline that finds nothing to do."


def test_a_turn_is_one_line_of_an_intact_log(shop):
    before = (shop / LOG).read_bytes()
    live = state(shop)["champion"]["model_version"]
    said = learning.learn(shop, "spring", run=nothing)
    assert said.startswith("No new model was made") and state(shop)["champion"]["model_version"] == live
    assert (shop / LOG).read_bytes().startswith(before), "what was written stays as it was written"
    assert [act["act"] for act in read_log(shop)][-1] == "learn" and verify(shop) == []


@pytest.mark.parametrize("at", ["before its line", "after its line, unseen"])
def test_a_turn_that_is_killed_beside_its_line_has_one_line(shop, at, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    def written_and_killed(*given):
        begin_learning(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(learning, "begin_learning", killed if at == "before its line" else written_and_killed)
    with pytest.raises(KeyboardInterrupt):
        learning.learn(shop, "spring", run=nothing)
    assert find_learning(shop)["state"] == UNDER_WAY
    monkeypatch.undo()
    learning.learn(shop, if_due=True, run=nothing)
    assert [act["act"] for act in read_log(shop)].count("learn") == 1 and verify(shop) == []


def test_an_invented_line_of_learning_is_seen(shop):
    act = {**read_log(shop)[-1], "act": "learn", "role": "", "model_version": "trees-9"}
    append(release_log(shop), {name: value for name, value in act.items() if name != "before"})
    assert "begins to learn beside trees-9, which was not live" in log_trouble(shop)[0]


def test_a_failing_pipeline_leaves_what_is_live_and_goes_on_next_time(shop):
    def fails(root):
        raise UserError("the disk is full")

    with pytest.raises(UserError, match="disk is full"):
        learning.learn(shop, "spring", run=fails)
    assert find_learning(shop)["state"] == UNDER_WAY and verify(shop) == []
    assert learning.learn(shop, if_due=True, run=nothing).startswith("No new model")


@pytest.mark.parametrize("file, damage", [(KNOWN, "{"), (LOG_OF_CORRECTIONS, "half a line")])
def test_a_preview_foretells_what_a_turn_would_be_refused_for(shop, file, damage):
    assert learning.say_hindered(shop, "2017-08-20") == ""
    (shop / file).parent.mkdir(parents=True, exist_ok=True)
    (shop / file).write_text(damage)
    assert file in learning.say_hindered(shop, "2017-08-20")
    with pytest.raises(UserError, match=file):
        learning.learn(shop, "spring", run=nothing)


def test_a_schedule_before_the_first_release_is_told_so(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    assert learning.learn(tmp_path, if_due=True, run=nothing).startswith("No model is live")
    with pytest.raises(UserError, match="No model is live"):
        learning.learn(tmp_path, "spring", run=nothing)


def test_a_night_is_not_failed_by_learning(shop, monkeypatch, capfd):
    text = (shop / "params.yaml").read_text()
    (shop / "params.yaml").write_text(text + "monitoring: {learn: {after_days: 1, by_night: true}}\n")
    monkeypatch.setattr(learning, "look_due", lambda root: Due("m", "d", [Trigger("age", True, "x")], ""))
    monkeypatch.setattr(learning, "_COMMAND", [sys.executable, "-c", "raise SystemExit(1)"])
    learning.after_night(shop)
    said = capfd.readouterr().err
    assert (
        "cd4ml learn. Why in full: cd4ml learn --preview" in said and "The night is live; learning did not come" in said
    )
    (shop / "params.yaml").write_text(text + "monitoring: {learn: 5}\n")
    learning.after_night(shop)
    assert "Whether it is time to learn cannot be told" in capfd.readouterr().err


def test_what_cannot_be_told_is_not_taken_for_nothing(shop, monkeypatch, capsys):
    monkeypatch.setenv("CD4ML_ROOT", str(shop))
    record = shop / LOG_OF_CORRECTIONS
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text("half a line")
    (waits := shop / learning.WAITS).mkdir(parents=True)
    learning.after_night(shop)
    said = capsys.readouterr().err
    assert "Whether learning is due cannot be told. Corrections: " in said and f"{waits} cannot be removed" in said
    for command in (["learn", "--if-due"], ["monitor"]):
        assert main(command) == 1
        told = capsys.readouterr()
        assert str(record) in told.err and "nothing calls for it" not in told.out + told.err
    waits.rmdir()
    record.unlink()
    for damaged in ("events/events.db", "drift/2017-08-21.json"):
        (path := shop / "production" / damaged).parent.mkdir(parents=True, exist_ok=True)
        path.write_text("[]")
    assert main(["monitor"]) == 1
    told = capsys.readouterr()
    assert "Which alerts are open cannot be told." in told.out and "has looked for drift" not in told.out
    assert main(["monitor", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["alerts"], told["drift"], told["learning"]) == (None, None, None)


def test_a_preview_does_not_name_the_command_just_typed(shop, monkeypatch, capsys):
    monkeypatch.setenv("CD4ML_ROOT", str(shop))
    due = Due("m", "d", [Trigger("age", True, "x")], "")
    monkeypatch.setattr("cd4ml_nb.monitoring.due.look_due", lambda root: due)
    for name in ("say_hindered", "say_waiting"):
        monkeypatch.setattr(learning, name, lambda root, day: "")
    assert main(["learn", "--preview"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "Learning is due (age): cd4ml learn."


def test_an_experiment_reads_as_far_as_the_project():
    "DVC's temporary copy has the files that git knows; the project commits this one."
    assert KNOWN in run_git(ROOT, "ls-files", "data/known").decode()
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert "data/known" in stages["ingest"]["deps"]


def test_splits_at_random_are_refused_before_anything_runs(shop):
    params = yaml.safe_load((shop / "params.yaml").read_text())
    for wish in ({**params["split"], "shuffle": True}, {**params["split"], "method": "random"}, "random"):
        with pytest.raises(UserError, match="days are split by time only"):
            check_params({**params, "split": wish})


@pytest.mark.parametrize("cause, due", [(LEVEL, True), (BROKEN, False), (UNITS, False)])
def test_a_fault_of_the_data_is_nothing_to_learn_from(shop, cause, due):
    found = Drift(cause, "level", "all", ("",), "2017-08-20", "It sells 50 % less than usual since Sun 20 Aug.")
    (shop / DRIFT).mkdir(parents=True)
    told = {"state": TOLD, "day": "2017-08-20", "found": [found.as_row()], "off": []}
    write_json(shop / DRIFT / "2017-08-20.json", told)
    assert not drift_trigger(read_grounds(shop)).due
    model = state(shop)["champion"]["model_version"]
    settle(shop, {"drift": Wrong("2017-08-20", "2017-08-20", found.says, model)})
    assert drift_trigger(read_grounds(shop)).due == due


def test_what_a_fault_explains_calls_for_no_learning(shop, monkeypatch):
    found = Drift(UNITS, "product", "product", ("101",), "2017-08-19", "Units changed: 101.", 12.0, (), "bread", 2.0)
    (shop / DRIFT).mkdir(parents=True)
    told = {"state": TOLD, "day": "2017-08-20", "found": [found.as_row()], "off": []}
    write_json(shop / DRIFT / "2017-08-20.json", told)
    row = {"off": True, "kind": "family", "slice": "bread", "since": "2017-08-20"}
    worse = lambda rows: monkeypatch.setattr(due_of, "is_as_judged", lambda _: Verdict(WORSE, "Worse.", "m", rows=rows))
    worse([row])
    assert worse_trigger(read_grounds(shop)).due, "no alert of it is open"
    model = state(shop)["champion"]["model_version"]
    settle(shop, {"drift": Wrong("2017-08-20", found.since, found.says, model, found.about)})
    assert not worse_trigger(read_grounds(shop)).due
    assert due_of.look_due(shop).says.startswith("First mend: units of product 101. Learning is not due")
    worse([row, {**row, "slice": "cake"}])
    assert worse_trigger(read_grounds(shop)).due, "another family is not explained by it"
    acknowledge(shop, read_alerts(shop)[0].id, "Kim", "counted in pieces", normal=True)
    assert "First mend" not in due_of.look_due(shop).says


def test_learning_waits_until_the_data_are_mended_or_a_person_says_why(shop, capfd, monkeypatch):
    monkeypatch.setattr(due_of, "age_trigger", lambda *_: Trigger("age", True, "31 days of sales came"))
    found = Drift(UNITS, "product", "product", ("101",), "2017-08-19", "Units changed: 101.", 12.0, (), "bread", 2.0)
    (shop / DRIFT).mkdir(parents=True)
    told = {"state": TOLD, "day": "2017-08-20", "found": [found.as_row()], "off": []}
    write_json(shop / DRIFT / "2017-08-20.json", told)
    live = state(shop)["champion"]["model_version"]
    assert due_of.look_due(shop).why, "no alert of it is open"
    settle(shop, {"drift": Wrong("2017-08-20", found.since, found.says, live, found.about)})

    said = learning.learn(shop, if_due=True, run=nothing)
    assert said.startswith("First mend: units of product 101. Learning is called for (") and "--normal" in said
    with pytest.raises(UserError, match="First mend: units of product 101"):  # by hand: exit code 1
        learning.learn(shop, run=nothing)
    assert "First mend: units of product 101" in due_of.say_due(shop), "which the monitor page shows"
    assert "learn" not in [act["act"] for act in read_log(shop)]
    learning.after_night(shop)
    assert "and waits for that" in capfd.readouterr().err
    learning.learn(shop, "the fair", run=nothing)
    reason = read_log(shop)[-1]["reason"]
    assert "by hand: the fair" in reason and "waited for units of product 101" in reason
    assert "although it is not mended: units of product 101" in reason and verify(shop) == []
    assert "learnt from all the same: units of product 101" in capfd.readouterr().err

    one = Correction("stock_out", "1", "101", "2017-08-19", "2017-08-20", "Kim", "counted in pieces")
    for store, first, left in (("1", "2017-08-20", 1), ("1", "2017-08-19", 1), ("", "2017-08-19", 0)):
        assert len(due_of.open_faults(shop)) == 1, "some of its days in some store are not marked"
        add_correction(shop, replace(one, store_nbr=store, first_date=first, id=f"{store}{first}"))
        assert len(due_of.open_faults(shop)) == left


def test_a_correction_that_was_undone_is_nothing_to_learn_from(shop):
    one = Correction("stock_out", "2", "101", "2017-08-01", "2017-08-02", "Kim", "the shelf was empty")
    add_correction(shop, one)
    assert corrections_trigger(read_grounds(shop), 1).due
    undo_correction(shop, one.id, "Kim", "it was the neighbour's")
    said = corrections_trigger(read_grounds(shop), 1)
    assert not said.due and said.says.startswith("0 lines came")
