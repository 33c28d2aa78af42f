"The shipper with processes: killed at any point, a store that moves, peers that do anything but their job."

import os, shutil, signal, socketserver, sqlite3, subprocess, sys, threading, time
from collections import Counter
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
import msgspec, pytest
from copies import ROOT, environment, run
from waiting import free_port, wait_for
from cd4ml_nb.cli import main
from cd4ml_nb.core import UserError
from cd4ml_nb.monitoring import elastic, fluentd, peers
from cd4ml_nb.monitoring.peers import PeerTrouble, Refused
from cd4ml_nb.monitoring.ship import ship
from cd4ml_nb.monitoring.shipped import MOST_REFUSED, open_shipped, refused_count
from cd4ml_nb.serving.events import Disk, Event, events_folder, id_at, insert_packed, read_events
from cd4ml_nb.serving.events import roll_events, store_turn, write_events

DAY = datetime(2017, 12, 1, 6, tzinfo=timezone.utc)


def project_for(root, to):
    "A project that has nothing but an address."
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(f"monitoring:\n  ship: {{to: '{to}'}}\n")
    return root


def event(number, day=0, **more):
    return Event(
        "night", {"number": number, "day": "2017-12-01"}, more, time=DAY + timedelta(days=day), id=f"e{number}"
    )


def packed(folder, many, day=0):
    "So many forecasts at once, as a busy service keeps them; their ids."
    first = int((DAY + timedelta(days=day)).timestamp() * 1e6)
    rows = [(id_at(first + n), first + n, "forecast", "trees-1", "aaaa", "{}", '{"mean":2.5}') for n in range(many)]
    disk = Disk(folder)
    disk.keep(rows, insert_packed)
    disk.close()
    return [row[0] for row in rows]


class Taking(socketserver.BaseRequestHandler):
    "Stores the ids of each chunk, then confirms it."

    def handle(self):
        heard = b""
        while some := self.request.recv(262_144):
            heard += some
            try:
                message, heard = msgspec.msgpack.decode(heard), b""
            except msgspec.DecodeError:
                continue
            many = message[2]["size"]
            entries = msgspec.msgpack.decode(b"\xdd" + many.to_bytes(4, "big") + message[1])  # as an array of so many
            self.server.taken.update(record["id"] for _, record in entries)
            self.server.chunks += 1
            time.sleep(self.server.pause)
            self.request.sendall(msgspec.msgpack.encode({"ack": message[2]["chunk"]}))


@contextmanager
def taking(pause=0.0):
    "A server that takes chunks and counts ids."
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Taking) as server:
        server.daemon_threads = True
        server.taken, server.chunks, server.pause = Counter(), 0, pause
        server.url = f"fluentd://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def start(root, *words):
    "The command, running."
    command = [str(Path(sys.executable).parent / "cd4ml"), "ship", *words]
    return subprocess.Popen(command, env=environment(ROOT, CD4ML_ROOT=str(root)), stderr=subprocess.PIPE, text=True)


@contextmanager
def shipping(root, peer):
    "A shipper in a thread."
    stop, said = threading.Event(), []

    def work():
        try:
            ship(root, stop=stop, peer=peer)
        except Exception as e:
            said.append(e)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert said == []


class Counting:
    "A peer that counts, and is in trouble every now and then after it has taken all."

    def __init__(self, trouble=0):
        self.taken, self.calls, self.trouble = Counter(), 0, trouble

    def send(self, rows):
        self.calls += 1
        self.taken.update(row[0] for row in rows)
        if self.trouble and self.calls % self.trouble == 0:
            raise PeerTrouble("the answer was lost.")
        return []

    def close(self):
        pass


def write_much(folder, first, rounds):
    "Events of three past days, late and early ones, singly and in packs; rolled meanwhile. Their ids."
    ids = []
    for number in range(first, first + rounds):
        day = -(number * 7 % 3)
        write_events(folder, [event(number, day)])
        ids += [f"e{number}", *packed(folder, 25 + number % 9, -(number % 3))]
        if number % 5 == 4:
            roll_events(folder, "2017-12-01")
    return ids


def move_store(folder, to):
    "Move the store away, and leave the days' files; who uses it meanwhile takes the open file along."
    to.mkdir()
    with store_turn(folder):
        for part in folder.glob("events.db*"):
            part.rename(to / part.name)


def test_nothing_is_skipped_whatever_befalls_the_store(tmp_path, monkeypatch):
    monkeypatch.setattr("cd4ml_nb.monitoring.ship._SOON", 0.01)
    monkeypatch.setattr("cd4ml_nb.monitoring.ship._SHORTEST", 0.01)
    root = project_for(tmp_path / "project", "http://127.0.0.1:9")
    folder, peer, away = events_folder(root), Counting(trouble=7), []
    ids = write_much(folder, 0, 12)  # before anybody follows; most of it lies in the days' files
    with shipping(root, peer):
        for part in range(3):
            ids += write_much(folder, 100 * (part + 1), 12)
            away.append(tmp_path / f"away{part}")
            move_store(folder, away[-1])  # with the shipper in the middle of it
        ids += (last := write_much(folder, 1000, 12))
        wait_for(lambda: set(last) <= set(peer.taken))
    for old in away:  # what lay in the stores of before is written into the new one, as its sentence says
        write_events(folder, read_events(old))
    ship(root, once=True, peer=(rest := Counting()))
    assert set(ids) == set(peer.taken) | set(rest.taken) and len(set(ids)) == len(ids) > 1500


def test_a_shipper_that_forgot_all_sends_all(tmp_path):
    root = project_for(tmp_path, "http://127.0.0.1:9")
    ids = write_much(events_folder(root), 0, 12)
    ship(root, once=True, peer=(first := Counting()))
    (root / "production/shipped.db").unlink()
    ship(root, once=True, peer=(second := Counting()))
    assert set(first.taken) == set(second.taken) == set(ids)


def test_what_went_through_the_queue_is_sent_once(tmp_path):
    root = project_for(tmp_path, "http://127.0.0.1:9")
    folder, peer = events_folder(root), Counting()
    ship(root, once=True, peer=peer)
    ids = []
    for part in range(4):
        ids += write_much(folder, 100 * part, 10)
        ship(root, once=True, peer=peer)
    assert set(peer.taken) == set(ids) and set(peer.taken.values()) == {1}


def test_a_store_that_was_restored_from_a_copy_goes_on(tmp_path):
    root = project_for(tmp_path / "project", "http://127.0.0.1:9")
    folder, peer = events_folder(root), Counting()
    write_events(folder, [event(n) for n in range(3)])
    ship(root, once=True, peer=peer)
    shutil.copytree(folder, tmp_path / "copy")
    write_events(folder, [event(n) for n in range(10, 60)])
    ship(root, once=True, peer=peer)
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "copy", folder)
    write_events(folder, [event(n) for n in range(70, 80)])  # numbers of the queue that were there before
    ship(root, once=True, peer=peer)
    assert {f"e{n}" for n in [*range(3), *range(10, 60), *range(70, 80)]} == set(peer.taken)


def test_a_shipper_that_is_killed_goes_on_where_it_was(tmp_path):
    with taking(pause=0.05) as server:
        root = project_for(tmp_path, server.url)
        folder = events_folder(root)
        ids = [name for n in range(20) for name in packed(folder, 4_000, -(n % 3))]
        for kill in range(2):
            before, process = server.chunks, start(root)
            wait_for(lambda: server.chunks > before + 1, lambda: "nothing was sent", process)
            process.kill()
            process.wait()
            roll_events(folder, "2017-11-30")
        done = run(root, "cd4ml", "ship", "--once")
        assert done.returncode == 0 and done.stdout.endswith("events were sent.\n"), done.stderr
        assert set(server.taken) == set(ids)
        assert sum(server.taken.values()) - len(ids) <= 2 * 8_000  # what was on its way when it was killed
        assert run(root, "cd4ml", "ship", "--once").stdout == "0 events were sent.\n"


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_whoever_stops_it_is_told_how_much_went(tmp_path, by):
    with taking() as server:
        root = project_for(tmp_path, server.url)
        packed(events_folder(root), 50)
        process = start(root)
        wait_for(lambda: server.taken.total() == 50, lambda: "nothing was sent", process)
        for to in (server.url, ""):  # nor does another one take the queue away
            project_for(root, to)
            second = run(root, "cd4ml", "ship", "--once")
            assert second.returncode == 1 and "Events are shipped (process" in second.stderr
            assert "One shipper is enough" in second.stderr
        os.kill(process.pid, by)
        assert process.wait(10) == 0
        assert process.stderr.read() == f"Events are sent to {server.url} (Ctrl-C ends it)\n"


def test_a_peer_that_is_down_costs_nothing(tmp_path):
    port = free_port()
    root = project_for(tmp_path, f"fluentd://127.0.0.1:{port}")
    ids = packed(events_folder(root), 30)
    done = run(root, "cd4ml", "ship", "--once")
    said = done.stderr.splitlines()
    assert done.returncode == 1 and len(said) == 1, done.stderr
    assert said[-1].startswith(f"fluentd://127.0.0.1:{port}: nobody listens there.") and said[-1].endswith(
        "run it again."
    )
    ship(root, once=True, peer=(peer := Counting()))
    assert set(peer.taken) == set(ids)


class Hanging(socketserver.BaseRequestHandler):
    "Takes the connection, and says nothing, or never an end of it."

    def handle(self):
        for place in range(1000):
            if self.server.over.wait(0.1):
                return
            if self.server.drips:
                self.request.sendall((self.server.drips + b"a" * 1000)[place : place + 1])


@pytest.mark.parametrize("scheme, start", [("fluentd", b"\xdb\x00\xff\xff\xff"), ("http", b"HTTP/1.1 200 ")])
@pytest.mark.parametrize("drips", [False, True])
def test_a_peer_that_never_answers_is_waited_for_once_and_nothing_is_lost(tmp_path, monkeypatch, scheme, start, drips):
    for module in (peers, fluentd, elastic):
        monkeypatch.setattr(module, "PATIENCE", 1)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Hanging) as server:
        server.daemon_threads, server.over, server.drips = True, threading.Event(), start if drips else b""
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"{scheme}://127.0.0.1:{server.server_address[1]}"
        root, began = project_for(tmp_path, address), time.monotonic()
        ids = packed(events_folder(root), 30)
        with pytest.raises(UserError) as error:
            ship(root, once=True)
        waited = time.monotonic() - began
        server.over.set(), server.shutdown()
    stays = "What was not sent stays on record: run it again."
    assert str(error.value) == f"{address}: it did not answer within 1 seconds. {stays}"
    assert waited < 15
    ship(root, once=True, peer=(peer := Counting()))
    assert set(peer.taken) == set(ids)


def test_a_full_table_of_refused_events_stops_the_shipper_and_loses_nothing(tmp_path):
    class Refusing(Counting):
        def send(self, rows):
            return [Refused(row, "failed to parse") for row in rows]

    root = project_for(tmp_path, "http://127.0.0.1:9")
    ids = [name for _ in range(3) for name in packed(events_folder(root), 4_000)]
    with pytest.raises(
        UserError, match="12,000 events were refused, and 10,000 are kept at most; .*cd4ml ship --again"
    ):
        ship(root, once=True, peer=Refusing())
    with open_shipped(root) as memory:
        assert 0 < refused_count(memory) <= MOST_REFUSED
    listed = run(root, "cd4ml", "ship", "--refused")
    assert "failed to parse" in listed.stdout and "more were refused" in listed.stdout, listed.stderr
    sent, refused = ship(root, once=True, again=True, peer=(peer := Counting()))
    assert (sent, refused, set(peer.taken)) == (12_000, 0, set(ids))


def test_who_refuses_every_event_is_no_success_and_is_repeated_in_one_line(tmp_path, monkeypatch, capsys):
    class Refusing(Counting):
        def send(self, rows):
            return [Refused(row, elastic._reason({"reason": "no\n\x1b[2J" + "x" * 999})) for row in rows]

    root = project_for(tmp_path, "http://127.0.0.1:9")
    packed(events_folder(root), 3)
    monkeypatch.setenv("CD4ML_ROOT", str(root))
    monkeypatch.setattr("cd4ml_nb.monitoring.ship.peer_at", lambda to: Refusing())
    for words in ([], ["--again"]):
        assert main(["ship", "--once", *words]) == 1
        told = capsys.readouterr().err.splitlines()
        assert told[-1] == "No event was sent; 3 were refused (cd4ml ship --refused shows why)."
        assert all(line.isprintable() and len(line) < 300 for line in told), told
    assert main(["ship", "--once"]) == 0  # nothing was there


def test_writers_of_before_are_served_by_the_queue_too(tmp_path):
    "A process that opened the store before anybody followed goes on writing, and its events are sent."
    root = project_for(tmp_path, "http://127.0.0.1:9")
    folder = events_folder(root)
    disk, peer = Disk(folder), Counting()
    row = lambda n: (f"w{n}", int(time.time() * 1e6), "night", None, None, "{}", "{}")
    disk.keep([row(1)])
    ship(root, once=True, peer=peer)
    disk.keep([row(2)])
    ship(root, once=True, peer=peer)
    assert peer.taken == {"w1": 1, "w2": 1}
    (root / "params.yaml").write_text("monitoring:\n  ship: {to: null}\n")
    with pytest.raises(UserError, match="The queue of before was removed"):
        ship(root, once=True)
    disk.keep([row(3)])
    disk.close()
    with sqlite3.connect(folder / "events.db") as con:
        names = {name for (name,) in con.execute("SELECT name FROM sqlite_master")}
    assert not names & {"arrivals", "followed", "event_arrives"}
