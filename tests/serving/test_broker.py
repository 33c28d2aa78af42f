"What goes live is told to a real NATS server, whatever becomes of it; each message is heard once."

import asyncio, socket, subprocess, sys, threading, time
from pathlib import Path
import pytest
from brokers import broker, heard
from copies import ROOT, environment
from shop import NO_MLFLOW, live_shop, make_shop, put_live
from waiting import wait_for
from cd4ml_nb.core import UserError
from cd4ml_nb.delivery import broker as room
from cd4ml_nb.delivery.acts import read_log
from cd4ml_nb.delivery.broker import TOLD, announce, tell
from cd4ml_nb.delivery.night import turn
from cd4ml_nb.delivery.release import rollback
from cd4ml_nb.delivery.state import state
from cd4ml_nb.delivery.store import publish_live
from cd4ml_nb.monitoring.record import record_nights
from cd4ml_nb.serving.events import open_events, read_events
from cd4ml_nb.serving.news import keep_acts
from cd4ml_nb.tiny import tiny_live


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    "No key of whoever runs the tests."
    for name in ("NATS_USER", "NATS_PASSWORD", "NATS_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def told_to(root, url):
    "The project, told to name a broker."
    path = Path(root) / "params.yaml"
    lines = [line for line in path.read_text().splitlines() if "broker:" not in line]
    place = next(n for n, line in enumerate(lines) if line.strip().startswith("auto_approve:") or "release: {" in line)
    if "release: {" in lines[place]:
        lines[place] = lines[place].replace("release: {", f"release: {{broker: '{url}', ")
    else:
        lines.insert(place, f"  broker: {url}")
    path.write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def own(tmp_path):
    return make_shop(tmp_path / "shop")


@pytest.fixture
def lived(tmp_path):
    "The same, in which a first version is live."
    return live_shop(tmp_path / "shop")


def go_back(root):
    return rollback(root, "Prüferin", "it was better", outside=NO_MLFLOW)


def test_releases_are_told_under_the_ids_that_they_have_on_record(own, tmp_path):
    with broker(tmp_path / "nats") as server:
        told_to(own, server.url)
        put_live(own, "trees-1")
        put_live(own, "trees-2", 1.5)
        go_back(own)
        announce(own)  # nothing is new
        found = heard(server.url)
    acts = [act for act in read_log(own) if act["role"] == "champion"]
    assert [(said["act"], said["model_version"]) for _, said in found] == [
        (act["act"], act["model_version"]) for act in acts
    ]
    assert [said["act"] for _, said in found] == ["promote", "promote", "rollback"]
    assert [said["event"] for _, said in found] == [named for named, _ in found]
    with open_events(own) as store:
        for done in keep_acts(own, store):
            done.result()
        on_record = {event.id for event in read_events(store.folder, kinds=["release"])}
    assert {named for named, _ in found} <= on_record


def test_nights_are_told(tmp_path):
    root = tiny_live("2017-08-20")
    with broker(tmp_path / "nats") as server:
        told_to(root, server.url)
        announce(root)
        turn(root)
        announce(root)
        turn(root), turn(root)
        announce(root)
        found = heard(server.url)
    assert [said["kind"] for _, said in found] == ["release", "night", "night", "night"]
    assert [said.get("day") for _, said in found] == [None, "2017-08-21", "2017-08-22", "2017-08-23"]
    assert {event.id for event in record_nights(root) if event.kind == "night"} == {named for named, _ in found[1:]}


def test_a_broker_that_was_away_is_told_later_and_holds_up_nothing(own, tmp_path, capfd):
    with broker(tmp_path / "nats", start=False) as server:
        told_to(own, server.url)
        began = time.monotonic()
        put_live(own, "trees-1")
        put_live(own, "trees-2", 1.5)
        assert time.monotonic() - began < 10
        said = capfd.readouterr().err
        assert f"The broker was not told what is live: {server.url}: it cannot be reached. It stays on record" in said
        assert state(own)["champion"]["model_version"] == "trees-2"
        server.start()
        go_back(own)
        assert "was not told" not in capfd.readouterr().err
        assert [said["model_version"] for _, said in heard(server.url)] == ["trees-1", "trees-2", "trees-1"]


def test_a_broker_killed_midway_has_each_message_once(lived, tmp_path, monkeypatch, capfd):
    with broker(tmp_path / "nats") as server:
        tell(lived, server.url)
        server.kill()
        told_to(lived, server.url)
        for n in range(2, 6):
            put_live(lived, f"trees-{n}", 1 + n / 10)
        server.start()
        publish, done = room._publish, []

        async def killed_after_two(stream, one):
            await publish(stream, one)
            done.append(one)
            if len(done) == 2:
                server.kill()

        monkeypatch.setattr(room, "_publish", killed_after_two)
        capfd.readouterr()
        announce(lived)
        assert "The broker was not told what is live" in capfd.readouterr().err
        monkeypatch.setattr(room, "_publish", publish)
        server.start()
        announce(lived)
        found = heard(server.url)
    assert [said["model_version"] for _, said in found] == [f"trees-{n}" for n in range(1, 6)]


def test_what_was_confirmed_and_forgotten_here_is_not_heard_twice(lived, tmp_path):
    "Killed between the broker's word and its note: told again, and left out by the broker."
    with broker(tmp_path / "nats") as server:
        tell(lived, server.url)
        before = (lived / TOLD).read_bytes()
        told_to(lived, server.url)
        put_live(lived, "trees-2", 1.5)
        (lived / TOLD).write_bytes(before)
        assert tell(lived, server.url) == 1
        assert [said["model_version"] for _, said in heard(server.url)] == ["trees-1", "trees-2"]
        (lived / TOLD).write_text("{")  # damaged: it begins with what is live
        assert tell(lived, server.url) == 1 and len(heard(server.url)) == 2


def test_a_new_broker_begins_with_what_is_live(own, tmp_path):
    for n in (1, 2, 3):
        put_live(own, f"trees-{n}", 1 + n / 10)
    with broker(tmp_path / "nats") as server:
        tell(own, server.url)
        assert [said["model_version"] for _, said in heard(server.url)] == ["trees-3"]


def why_not(root, url):
    with pytest.raises(UserError) as e:
        tell(root, url)
    return str(e.value)


def test_without_jetstream_a_sentence_says_so(lived, tmp_path):
    with broker(tmp_path / "nats", jetstream=False) as server:
        assert (
            why_not(lived, server.url)
            == f"{server.url}: its JetStream is off; turn it on with: nats-server --jetstream."
        )


@pytest.mark.parametrize(
    "keys, given",
    [
        (("--user", "shop", "--pass", "correct-horse"), {"NATS_USER": "shop", "NATS_PASSWORD": "correct-horse"}),
        (("--auth", "correct-horse"), {"NATS_TOKEN": "correct-horse"}),
    ],
)
def test_who_one_is_comes_from_the_environment_and_is_never_said(lived, tmp_path, monkeypatch, capfd, keys, given):
    with broker(tmp_path / "nats", keys=keys) as server:
        assert "it does not let us in" in why_not(lived, server.url)
        for name, value in given.items():
            monkeypatch.setenv(name, value.replace("horse", "HORSE"))
        assert "it does not let us in" in why_not(lived, server.url)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        assert tell(lived, server.url) == 1
    said = capfd.readouterr()
    assert "orrect-" not in said.out + said.err + (lived / TOLD).read_text()


@pytest.mark.parametrize(
    "url, says",
    [
        ("nats://shop:correct-horse@127.0.0.1:4222", "release.broker is 'nats://…@127.0.0.1:4222'; it should be"),
        ("http://127.0.0.1:4222", "release.broker is 'http://127.0.0.1:4222'; it should be"),
        ("nats://127.0.0.1:1", "nats://127.0.0.1:1: it cannot be reached"),
        ("nats://no-such-host.invalid:4222", "nats://no-such-host.invalid:4222: it cannot be reached"),
    ],
)
def test_a_wrong_address_is_said_and_the_release_stands(own, capfd, url, says):
    told_to(own, url)
    put_live(own, "trees-1")
    said = capfd.readouterr().err
    assert says in said and "correct-horse" not in said and "Traceback" not in said
    assert state(own)["champion"]["model_version"] == "trees-1"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", None])
def test_what_is_no_broker_is_left_in_time(lived, answer):
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def serve():
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return
                if answer is not None:
                    held[-1].sendall(answer) if answer else held[-1].close()

        threading.Thread(target=serve, daemon=True).start()
        began = time.monotonic()
        said = why_not(lived, f"nats://127.0.0.1:{server.getsockname()[1]}")
        assert time.monotonic() - began < 10 and said.startswith("nats://127.0.0.1:")


def test_somebody_elses_stream_of_the_subject_is_used(lived, tmp_path):
    import nats

    async def make(url):
        connection = await nats.connect(url)
        await connection.jetstream().add_stream(name="OURS", subjects=["cd4ml.>"])
        await connection.close()

    with broker(tmp_path / "nats") as server:
        asyncio.run(make(server.url))
        tell(lived, server.url)
        assert [said["model_version"] for _, said in heard(server.url, "OURS")] == ["trees-1"]


def test_a_program_that_listens_has_what_it_is_told_of(own, tmp_path):
    "The example under examples/told, with the release that was made before it began, and one made while it listens."
    with broker(tmp_path / "nats") as server:
        told_to(own, server.url)
        put_live(own, "trees-1")
        log = tmp_path / "heard.log"
        words = [sys.executable, str(ROOT / "examples/told/listen.py"), server.url, str(own)]
        with log.open("w") as out:
            env = environment(own, PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1")
            process = subprocess.Popen(words, env=env, cwd=tmp_path, stdout=out, stderr=out)
        try:
            wait_for(lambda: "trees-1 is live" in log.read_text(), log.read_text, process)
            put_live(own, "trees-2", 1.5)
            wait_for(lambda: "trees-2 is live" in log.read_text(), log.read_text, process)
        finally:
            process.kill()
            process.wait()
    assert log.read_text().count("is live") == 2, log.read_text()


def listening(own, url, log):
    "The example under examples/told, at work."
    words = [sys.executable, str(ROOT / "examples/told/listen.py"), url, str(own)]
    with log.open("w") as out:
        return subprocess.Popen(words, env=environment(own, PYTHONPATH=str(ROOT)), stdout=out, stderr=out)


def test_a_program_that_listens_waits_for_a_broker_that_is_not_there(lived, tmp_path):
    "Absent at first, empty then, killed and back: each is one line, and what was told meanwhile is heard."
    with broker(tmp_path / "nats", start=False) as server:
        told_to(lived, server.url)
        log = tmp_path / "heard.log"
        process = listening(lived, server.url, log)
        heard_of = lambda words: wait_for(lambda: words in log.read_text(), log.read_text, process)
        try:
            heard_of("cannot be reached; waiting for it.")
            server.start()
            heard_of("Nothing was published yet")
            announce(lived)
            heard_of("trees-1 is live")
            server.kill()
            wait_for(lambda: log.read_text().count("cannot be reached") == 2, log.read_text, process)
            time.sleep(5)  # some attempts, about which nothing is said
            server.start()
            put_live(lived, "trees-2", 1.5)
            heard_of("trees-2 is live")
        finally:
            process.kill()
            process.wait()
    lines = [line for line in log.read_text().splitlines() if not line.startswith("Live: ")]  # the copy's own word
    lines = [line.replace(server.url, "it").partition(" is live")[0] for line in lines]
    lost = ["it cannot be reached; waiting for it.", "it is there again."]
    assert lines == [*lost, "Nothing was published yet; waiting for it.", "trees-1", *lost, "trees-2"], lines


def test_a_program_that_listens_waits_for_what_it_follows(lived, tmp_path):
    "Told before the store has it, it confirms nothing, however long that takes; what came meanwhile comes after."
    store = f"file://{tmp_path}/store"
    publish_live(lived, store)
    with broker(tmp_path / "nats") as server:
        tell(lived, server.url)
        log = tmp_path / "heard.log"
        words = [sys.executable, str(ROOT / "examples/told/listen.py"), server.url, store]
        with log.open("w") as out:
            process = subprocess.Popen(words, env=environment(lived, PYTHONPATH=str(ROOT)), stdout=out, stderr=out)
        try:
            wait_for(lambda: "trees-1 is live" in log.read_text(), log.read_text, process)
            put_live(lived, "trees-2", 1.5)
            tell(lived, server.url)
            wait_for(lambda: "trees-2 is told, and not there yet" in log.read_text(), log.read_text, process)
            time.sleep(2)
            assert log.read_text().count("is live from") == 1, log.read_text()
            put_live(lived, "trees-3", 2.0)
            tell(lived, server.url)
            publish_live(lived, store)  # trees-3, which went live after trees-2
            wait_for(lambda: log.read_text().count("trees-3 is live") == 2, log.read_text, process)
        finally:
            process.kill()
            process.wait()


def test_a_program_that_listens_where_nobody_lets_it_in_says_so_once(lived, tmp_path):
    with broker(tmp_path / "nats", keys=("--auth", "correct-horse")) as server:
        process = listening(lived, server.url, log := tmp_path / "heard.log")
        try:
            wait_for(lambda: "does not let us in; waiting for it." in log.read_text(), log.read_text, process)
            time.sleep(5)  # some attempts
            assert process.poll() is None
        finally:
            process.kill()
            process.wait()
    assert len(log.read_text().splitlines()) == 1, log.read_text()


def test_news_is_told_in_the_order_of_its_kind_whatever_clocks_say(monkeypatch):
    "What was told is noted as the last line and day, so that a line never comes after one that follows it."
    news = lambda kind, place, moment: room.News(f"{kind} {place}", moment, {kind: place}, {})
    releases, nights = [news("release", 4, 90.0), news("release", 5, 10.0)], [news("night", "2017-12-01", 50.0)]
    monkeypatch.setattr(room, "_releases_since", lambda root, line: iter(releases))
    monkeypatch.setattr(room, "_nights_since", lambda root, told: iter(nights))
    told = [one.id for one in room.untold(None, {"release": 3, "night": ""})]
    assert [one for one in told if "release" in one] == ["release 4", "release 5"] and len(told) == 3
