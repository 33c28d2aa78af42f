"An alert is said once, wherever it goes, and nothing of it stops a night."

import json, math, shutil, socket, subprocess, sys, threading, time
from http.server import BaseHTTPRequestHandler, HTTPServer
import pandas as pd, pytest, yaml
from cd4ml_nb.core import UserError
from cd4ml_nb.delivery.beside import forecasts_beside
from cd4ml_nb.delivery.night import EXHAUSTED, HAS_BEEN
from cd4ml_nb.monitoring import watch
from cd4ml_nb.monitoring.alerts import Wrong, acknowledge, read_alerts, settle
from cd4ml_nb.delivery.nights import read_recounts
from cd4ml_nb.monitoring.causes import TOLD, UNITS, Drift, Drifted
from cd4ml_nb.monitoring.judged import AS_JUDGED, NOT_ENOUGH, Verdict
from cd4ml_nb.monitoring.watch import watch_failure
from cd4ml_nb.delivery.release import signed
from cd4ml_nb.monitoring.webhook import tell_alerts
from cd4ml_nb.serving.events import Event, open_events
from copies import ROOT

LATE = Wrong("2017-12-01", "2017-12-01", "0 units were sold.")


class Listener(BaseHTTPRequestHandler):
    def do_POST(self):
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        if status == 200:
            self.server.heard.append(said)
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def listener():
    server = HTTPServer(("127.0.0.1", 0), Listener)
    server.heard, server.statuses = [], []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "params.yaml").write_text("{}")
    return tmp_path


def tells(shop, url):
    (shop / "params.yaml").write_text(yaml.safe_dump({"monitoring": {"webhook": url}}))


def test_alerts_of_earlier_versions_are_read(shop):
    with open_events(shop) as store:
        for day in ("2017-12-01", "2017-12-01"):
            store.submit(Event("alert", {"of": "night", "day": day}, {"says": "0 units were sold."})).result()
    (alert,) = read_alerts(shop)
    assert (alert.rule, alert.level, alert.since) == ("night", "critical", "2017-12-01")
    settle(shop, {"night": None})
    assert read_alerts(shop) == [] and len(read_alerts(shop, closed=True)) == 1


def test_who_has_seen_one_cause_has_not_seen_the_next(shop):
    "Also where an earlier version had one alert of all drift: it is over, and each cause has its own."
    with open_events(shop) as store:
        store.submit(Event("alert", {"of": "drift", "day": "2017-12-01"}, {"says": "Two stores."})).result()
    one, two = (LATE._replace(says=f"Store {name}.", about=f"one store: {name}") for name in "12")
    settle(shop, {"drift": [one]})
    (alert,) = read_alerts(shop)
    acknowledge(shop, alert.id, "Ada", "it is being rebuilt")
    settle(shop, {"drift": [one, two]})
    assert [(alert.says, alert.by) for alert in read_alerts(shop)] == [("Store 1.", "Ada"), ("Store 2.", "")]
    settle(shop, {"drift": [two]})
    assert [alert.about for alert in read_alerts(shop)] == ["one store: 2"]


def test_two_processes_open_one_alert(shop):
    code = "import sys; from pathlib import Path; from cd4ml_nb.monitoring.alerts import Wrong, settle; "
    code += f"settle(Path({str(shop)!r}), {{'night': Wrong('2017-12-01', '2017-12-01', 'late')}})"
    both = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0]
    assert len(read_alerts(shop, closed=True)) == 1


def test_four_people_at_once_are_told_who_was_first(shop):
    settle(shop, {"night": LATE})
    (alert,), names = read_alerts(shop), ["Ada", "Bea", "Cem", "Dan"]
    heard = {}

    def see(name):
        try:
            heard[name] = acknowledge(shop, alert.id, name, f"{name} looks").by
        except UserError as e:
            heard[name] = str(e)

    threads = [threading.Thread(target=see, args=[name]) for name in names]
    for step in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            step(thread)
    (stands,) = read_alerts(shop)
    assert heard[stands.by] == stands.by and stands.reason == f"{stands.by} looks"
    others = [said for name, said in heard.items() if name != stands.by]
    assert len(others) == 3 and all(said.startswith(f"{stands.by} has seen it before you") for said in others)


@pytest.mark.parametrize("reason", ["", "  "])
def test_an_empty_reason_is_refused_and_nothing_is_written(shop, reason):
    settle(shop, {"night": LATE})
    with pytest.raises(UserError, match="Say what is done about it, or why nothing is"):
        acknowledge(shop, read_alerts(shop)[0].id, "Ada", reason)
    assert read_alerts(shop)[0].by == ""


@pytest.mark.parametrize("odd", ["x" * 10_000, "Ana\x1b[2J", "Ana\nBen", "\u202eana"])
def test_who_acts_has_a_name_that_can_be_shown(shop, odd):
    "One rule, whoever acts; a reason holds no control characters."
    settle(shop, {"night": LATE})
    alert = read_alerts(shop)[0].id
    with pytest.raises(UserError, match="should be a text of 1 to 100 printable characters"):
        acknowledge(shop, alert, odd, "the lorry is late")
    with pytest.raises(UserError, match="printable characters"):
        signed(shop, odd.replace("\n", "\x1b"), "late")
    for why in ("\x1b[2Jlate", "\u202elate"):
        with pytest.raises(UserError, match="printable characters"):
            acknowledge(shop, alert, "Ana", why)
        with pytest.raises(UserError, match="printable characters"):
            signed(shop, "Ana", why)
    assert read_alerts(shop)[0].by == ""


@pytest.mark.parametrize("rule", ["night", "undelivered", "worse_than_judged"])
def test_only_what_drifts_can_be_the_new_normal(shop, rule):
    settle(shop, {rule: LATE})
    with pytest.raises(UserError, match="Only what drifts can be the new normal.*leave --normal out"):
        acknowledge(shop, read_alerts(shop)[0].id, "Ada", "it is so", normal=True)
    assert [(one.by, one.closed) for one in read_alerts(shop)] == [("", None)]


def test_the_new_normal_is_over_until_it_changes_again(shop):
    one = Wrong("2017-12-01", "2017-11-28", "Store 3 sells twice as much.", about="one store: 3")
    settle(shop, {"drift": [one]})
    acknowledge(shop, read_alerts(shop)[0].id, "Ada", "a school buys there", normal=True)
    assert settle(shop, {"drift": [one]}) == [] == read_alerts(shop)
    settle(shop, {"drift": [one._replace(since="2017-12-20")]})
    assert [alert.since for alert in read_alerts(shop)] == ["2017-12-20"]


def test_a_night_that_has_been_meanwhile_is_no_alert(shop, monkeypatch):
    monkeypatch.setattr(watch, "live_night", lambda root: {"day": "2017-12-01", "model_version": "trees-1"})
    watch_failure(shop, "2017-12-01", f"The night of 2017-12-01 {HAS_BEEN}: what is live knows the sales.")
    assert read_alerts(shop, closed=True) == []
    watch_failure(shop, "2017-12-02", "0 units were sold.")
    assert [alert.level for alert in read_alerts(shop)] == ["critical"]


@pytest.mark.parametrize("within, level", [("null", "note"), ("2", "critical"), ("9000", "note")])
def test_nothing_delivered_is_a_note_unless_it_is_overdue(shop, within, level):
    (shop / "params.yaml").write_text(f"monitoring: {{delivered_within: {within}}}")
    watch_failure(shop, "2017-12-01", f"The source holds no sale of 2017-12-01 yet: {EXHAUSTED}.")
    assert [alert.level for alert in read_alerts(shop)] == [level]


def test_what_is_tried_and_fails_is_an_alert_until_its_night_comes(shop, monkeypatch):
    night = {"day": "2017-12-01", "model_version": "trees-1"}
    told = {"day": "2017-12-01", "trouble": "It has no forecast tonight: a file is gone.", "says": ""}
    monkeypatch.setattr(watch, "live_night", lambda root: night)
    held = {"role": "shadow", "model_version": "trees-2", "evidence": told}
    monkeypatch.setattr(watch, "said_beside", lambda root: [held])
    settle(shop, watch._tried_of(shop))
    (alert,) = read_alerts(shop)
    assert alert.says == "Shadow trees-2 has no forecast since the night of Fri 1 Dec: a file is gone."
    assert "cd4ml release retire" in alert.todo
    path = forecasts_beside(shop, "trees-2", "2017-12-02")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    night["day"] = "2017-12-02"
    settle(shop, watch._tried_of(shop))
    assert read_alerts(shop) == []


def test_what_cannot_be_told_tonight_is_not_over(shop, monkeypatch):
    of = Wrong("2017-12-01", "2017-12-01", "Worse than judged.", "trees-1", "store: 3")
    settle(shop, {"worse_than_judged": [of]})
    monkeypatch.setattr(watch, "live_night", lambda root: None)
    for state, version, left in ((NOT_ENOUGH, "trees-1", 1), (AS_JUDGED, "trees-1", 1), (NOT_ENOUGH, "trees-2", 0)):
        monkeypatch.setattr(watch, "is_as_judged", lambda root: Verdict(state, "", version))
        settle(shop, watch._worse_of(shop))
        assert len(read_alerts(shop)) == left


def test_many_products_of_changed_units_are_one_alert():
    many = [Drift(UNITS, "product", "product", (f"{at}",), "2017-12-01", f"Product {at}.", 12.0) for at in range(6)]
    assert [about for _, _, about, _ in watch._together(many[:2], {})] == ["units: product 0", "units: product 1"]
    ((since, says, about, _),) = watch._together(many, {})
    assert (about, since) == ("units: several products", "2017-12-01") and "6 products" in says and "3 more" in says
    assert len(watch._together(many, {"units: product 0": None})) == 2  # what was told by itself stays so


def test_products_of_changed_units_are_marked_until_somebody_says_that_it_is_normal(shop, monkeypatch):
    milk, ham = (Drift(UNITS, "product", "product", (of,), "2017-12-01", "Units changed.", 12.34) for of in ("m", "h"))
    night = {"day": "2017-12-02", "model_version": "v1"}
    monkeypatch.setattr(watch, "live_night", lambda root: night)
    marked = lambda *found, day="2017-12-02": (
        monkeypatch.setattr(watch, "read_drift", lambda root: Drifted(TOLD, day, list(found))),
        watch.mark_products(shop),
        {item: one.times for item, one in read_recounts(shop).items()},
    )[-1]
    assert marked(milk, ham) == {"m": 12, "h": 12}
    assert marked(day="2017-12-01") == {"m": 12, "h": 12}  # it did not look tonight: what was said stays

    settle(shop, {"drift": [Wrong("2017-12-02", one.since, one.says, "v1", one.about) for one in (milk, ham)]})
    acknowledge(shop, read_alerts(shop)[0].id, "Ada", "boxes now", normal=True)
    assert marked(milk, ham) == {"h": 12}
    assert marked(milk) == {}


def test_a_rule_that_is_off_says_nothing_and_closes_what_it_said(shop):
    settle(shop, {"night": LATE})
    (shop / "params.yaml").write_text("monitoring: {alerts: {night: {level: 'off'}}}")
    settle(shop, {"night": LATE})
    assert read_alerts(shop) == []
    assert settle(shop, {"night": LATE}) == []


def test_what_was_refused_is_told_with_the_next_night_in_order(shop, listener, capsys):
    tells(shop, f"http://127.0.0.1:{listener.server_port}/hook")
    listener.statuses = [500]
    watch_failure(shop, "2017-12-01", "0 units were sold.")
    assert "An alert was not told: http://127.0.0.1" in capsys.readouterr().err and listener.heard == []
    acknowledge(shop, read_alerts(shop)[0].id, "Ada", "the lorry is late")
    settle(shop, {"night": None})
    tell_alerts(shop)
    tell_alerts(shop)
    assert [said["act"] for said in listener.heard] == ["opened", "acknowledged", "closed"]
    assert len({said["event"] for said in listener.heard}) == 3


def test_a_listener_that_never_answers_costs_seconds(shop, capsys, monkeypatch):
    monkeypatch.setattr("cd4ml_nb.monitoring.webhook._SOON", 0.3)
    monkeypatch.setattr("cd4ml_nb.monitoring.webhook._LONG", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tells(shop, f"http://127.0.0.1:{silent.getsockname()[1]}/hook")
        settle(shop, {"night": LATE})
        begun = time.monotonic()
        tell_alerts(shop)
    assert time.monotonic() - begun < 3 and "did not answer within" in capsys.readouterr().err


@pytest.mark.parametrize("way", ["", "alertmanager+"])
def test_a_listener_that_answers_garbage_is_a_sentence(shop, capfd, way):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            with server.accept()[0] as wire:
                wire.recv(65_536)
                wire.sendall(b"\xff\x00garbage\r\n")
                wire.shutdown(socket.SHUT_WR)
                while wire.recv(65_536):
                    pass

        threading.Thread(target=answer, daemon=True).start()
        tells(shop, f"{way}http://127.0.0.1:{server.getsockname()[1]}/hook")
        settle(shop, {"night": LATE})
        tell_alerts(shop)
    said = capfd.readouterr().err
    assert "it does not speak HTTP; see the address" in said, said
    assert "Traceback" not in said and "did not answer" not in said, said


def test_a_webhook_that_is_no_address_is_refused_without_its_key(shop, capsys):
    tells(shop, "https://user:secret@host/hook")
    settle(shop, {"night": LATE})
    tell_alerts(shop)
    said = capsys.readouterr().err
    assert "monitoring.webhook" in said and "secret" not in said


def test_who_sends_messages_on_gets_neither_them_nor_the_token(shop, listener, monkeypatch, capfd):
    "The place that is named next is asked nothing."
    monkeypatch.setenv("CD4ML_WEBHOOK_TOKEN", "a-secret")
    asked = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append((self.path, self.headers.get("Authorization")))
            self.send_response(302 if self.path == "/hook" else 200)
            self.send_header("Location", "/login")
            self.end_headers()

        do_GET = do_POST
        log_message = Listener.log_message

    listener.RequestHandlerClass = Elsewhere
    url = f"http://127.0.0.1:{listener.server_port}/hook"
    tells(shop, url)
    settle(shop, {"night": LATE})
    tell_alerts(shop)
    assert asked == [("/hook", "Bearer a-secret")]
    assert "sends messages on to another address, with status 302" in capfd.readouterr().err
    listener.RequestHandlerClass = Listener
    tell_alerts(shop)
    assert [said["act"] for said in listener.heard] == ["opened"]


def test_a_strange_week_is_told_once_and_when_it_is_over(shop, capsys, monkeypatch):
    (shop / "production/outputs").mkdir(parents=True)

    def night(day, times, far):
        row = {"kind": "store", "slice": "12", "measure": "level", "value": math.log(times), "far": far, "limit": 5.0}
        pd.DataFrame([row]).to_parquet(shop / f"production/outputs/{day}-trees-1.parquet")
        monkeypatch.setattr(watch, "live_night", lambda root: {"day": day, "model_version": "trees-1"})
        watch.watch_night(shop)
        return [line for line in capsys.readouterr().err.splitlines() if line.startswith(("Alert", "Over"))]

    (said,) = night("2017-12-01", 3, 9.0)
    assert "The coming week is forecast unlike any before: 200.0% more than usual is forecast for store 12." in said
    assert night("2017-12-02", 2, 3.0) == []  # half as far at least
    (alert,) = read_alerts(shop)
    assert (alert.rule, alert.about, alert.since) == ("outputs", "level more: store 12", "2017-12-01")
    (shop / "production/outputs/2017-12-03-trees-1.parquet").write_text("no table")
    monkeypatch.setattr(watch, "live_night", lambda root: {"day": "2017-12-03", "model_version": "trees-1"})
    watch.watch_night(shop)
    assert (
        "cannot be read: it is no Parquet file, or a part of one. Remove it" in capsys.readouterr().err
        and read_alerts(shop) == [alert]
    )
    assert [line[:4] for line in night("2017-12-04", 1.1, 1.0)] == ["Over"]
    assert len(night("2017-12-05", 3, 9.0)) == 1
    acknowledge(shop, read_alerts(shop)[0].id, "Ada", "a school buys there", normal=True)
    assert night("2017-12-06", 2, 3.0) == night("2017-12-07", 3, 9.0) == read_alerts(shop) == []
    assert night("2017-12-08", 1.1, 1.0) == []
    assert len(night("2017-12-09", 3, 9.0)) == 1, "it was over meanwhile"


def test_who_joins_what_was_accepted_is_told_and_nobody_else_again(shop, monkeypatch):
    "A finding is known by its own name: of products and of forecasts, said one by one or together."

    def opened(rule, of, day, names):
        night = {"day": day, "model_version": "trees-1"}
        monkeypatch.setattr(watch, "live_night", lambda root: night)
        found = [Drift(UNITS, "product", "product", (n,), began[n], f"Product {n}.", 12.0) for n in names]
        monkeypatch.setattr(watch, "read_drift", lambda root: Drifted(TOLD, day, found if rule == "drift" else []))
        row = {"kind": "store", "measure": "level", "value": 1.0, "far": 9.0, "limit": 5.0}
        (shop / "production/outputs").mkdir(parents=True, exist_ok=True)
        rows = pd.DataFrame([row | {"slice": name} for name in names])
        rows.to_parquet(shop / f"production/outputs/{day}-trees-1.parquet")
        settle(shop, of(shop))
        return [(one.about.split(" ")[-1], len(one.members), one.id) for one in read_alerts(shop) if one.rule == rule]

    began = dict(zip("abcdefghijk", [f"2017-12-{day:02d}" for day in (1, 2, 2, 2, 5, 6, 6, 6, 6, 6, 6)]))
    for rule, of in (("drift", watch._drift_of), ("outputs", watch._outputs_of)):
        ((name, members, alert),) = opened(rule, of, "2017-12-02", "a")
        assert (name, members) == ("a", 0)
        acknowledge(shop, alert, "Ada", "boxes now", normal=True)
        assert [name for name, *_ in opened(rule, of, "2017-12-03", "abc")] == ["b", "c"], "and a not again"
        for *_, alert in opened(rule, of, "2017-12-03", "abc"):
            acknowledge(shop, alert, "Ada", "these, too", normal=True)
        assert opened(rule, of, "2017-12-04", "abc") == []
        ((name, _, alert),) = opened(rule, of, "2017-12-05", "abce")
        assert name == "e", "beside three that are accepted it is not one of many"
        acknowledge(shop, alert, "Ada", "and this", normal=True)
        ((_, members, alert),) = opened(rule, of, "2017-12-06", "abcefghi")
        assert members == 4
        acknowledge(shop, alert, "Ada", "all of these", normal=True)
        assert opened(rule, of, "2017-12-07", "bceghi") == [], "the first ones are over: nobody else begins anew"
        ((name, members, _),) = opened(rule, of, "2017-12-08", "bceghij")
        assert (name, members) == ("j", 0), "nobody has accepted it"


def test_nothing_of_it_stops_a_night(shop, capsys):
    (shop / "params.yaml").write_text("monitoring: {alerts: {nihgt: {level: note}}}")
    watch_failure(shop, "2017-12-01", "0 units were sold.")
    assert "No alert could be raised or closed: params.yaml, monitoring.alerts.nihgt" in capsys.readouterr().err


MANAGER = shutil.which("prometheus-alertmanager")


@pytest.mark.skipif(not MANAGER, reason="no Alertmanager: apt-get install prometheus-alertmanager")
def test_alertmanager_knows_what_stands_and_what_is_over(shop, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = tmp_path / "alertmanager.yml"
    config.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    where = [f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    manager = subprocess.Popen(
        [MANAGER, *where, f"--storage.path={tmp_path / 'am'}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        tells(shop, f"alertmanager+http://127.0.0.1:{port}")
        settle(shop, {"night": LATE})
        tell_alerts(shop)
        assert [(one["labels"]["alertname"], one["status"]["state"]) for one in known(port)] == [("night", "active")]
        assert known(port)[0]["annotations"]["summary"] == LATE.says
        tell_alerts(shop)
        assert len(known(port)) == 1
        settle(shop, {"night": None})
        tell_alerts(shop)
        assert known(port) == []
    finally:
        manager.terminate()
        manager.wait()


def known(port):
    "What an Alertmanager says of its active alerts."
    from urllib.request import urlopen

    with urlopen(f"http://127.0.0.1:{port}/api/v2/alerts?active=true", timeout=5) as answer:
        return json.loads(answer.read())
