"The shipper against real peers: an OpenSearch node, and a server of Fluentd's forward protocol in Node."

import os, resource, signal, subprocess, sys, threading, time
from collections import Counter
from contextlib import contextmanager
import pytest
from copies import ROOT, environment, run
from forward_and_search import FluentServer, SearchNode, running, why_no_fluentd, why_no_search
from test_ship import event, packed, project_for, start
from waiting import wait_for
from cd4ml_nb.monitoring.fluentd import Fluentd
from cd4ml_nb.monitoring.peers import PeerTrouble, read_address
from cd4ml_nb.serving.events import Event, events_folder, read_table, roll_events, write_events

pytestmark = pytest.mark.prove
AT_LEAST = 20_000  # Events a second


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    if why := why_no_search():
        pytest.skip(why)
    with running(SearchNode(tmp_path_factory.mktemp("search") / "node")) as node:
        yield node


@pytest.fixture
def fluentd(tmp_path):
    if why := why_no_fluentd():
        pytest.skip(why)
    return lambda **how: running(FluentServer(tmp_path / "fluentd", **how))


def told(root, *words, **more):
    done = run(root, "cd4ml", "ship", "--once", *words, **more)
    return done.returncode, done.stdout, done.stderr


# OpenSearch


def emptied(node):
    node.ask("DELETE", "/cd4ml-events-*")


def test_each_event_is_indexed_once_however_often_it_is_sent(search, tmp_path):
    emptied(search)
    root = project_for(tmp_path, search.url)
    folder = events_folder(root)
    ids = [name for day in range(3) for name in packed(folder, 3_000, -day)]
    write_events(folder, [event(n) for n in range(10)])
    ids += [f"e{n}" for n in range(10)]
    code, said, _ = told(root)
    assert (code, said) == (0, f"{len(ids):,} events were sent.\n")
    assert sorted(search.ids()) == sorted(ids)
    (root / "production/shipped.db").unlink()  # nobody knows any more what was sent: all goes again
    roll_events(folder, "2017-12-01")
    assert told(root)[1] == f"{len(ids):,} events were sent.\n"
    assert sorted(search.ids()) == sorted(ids)
    indexes = sorted(search.ask("GET", "/cd4ml-events-*")[1])
    assert indexes == ["cd4ml-events-2017.11.29", "cd4ml-events-2017.11.30", "cd4ml-events-2017.12.01"]


def test_what_is_refused_is_kept_with_its_reason_and_blocks_nothing(search, tmp_path):
    emptied(search)
    root = project_for(tmp_path, search.url)
    bad = [Event("night", {}, {"by_horizon": "none"}, id="bad"), Event("night", {}, id="ä" * 200)]  # 400 bytes, and
    bad += [Event("night", {}, id="語" * 200)]  # 600, more than an id may have there
    write_events(events_folder(root), [event(1), *bad, event(2)])
    code, said, why = told(root)
    assert (code, said) == (0, "3 events were sent; 2 were refused (cd4ml ship --refused shows why).\n"), why
    assert sorted(search.ids()) == sorted(["e1", "e2", "ä" * 200])
    listed = run(root, "cd4ml", "ship", "--refused").stdout
    assert "object mapping for [outputs.by_horizon]" in listed and "is too long" in listed
    assert told(root, "--again")[1].startswith("0 events were sent")


def test_a_node_without_lifecycles_says_so(search, tmp_path):
    root = project_for(tmp_path, search.url)
    assert "knows no lifecycles of indexes" in told(root)[2] or told(root)[2] == ""  # nothing to send: nobody is asked
    write_events(events_folder(root), [event(1)])
    code, _, said = told(root)
    assert code == 0 and f"{search.url} knows no lifecycles of indexes" in said
    (template,) = search.ask("GET", "/_index_template/cd4ml-events")[1]["index_templates"]
    assert template["index_template"]["version"] == 1


def write_for_a_while(folder, ends, ids):
    "Events of three days in packs and singly, until it is stopped."
    number = 0
    while not ends.is_set():
        number += 1
        ids += packed(folder, 300, -(number % 3))
        write_events(folder, [event(f"{os.getpid()}-{number}")])
        ids.append(f"e{os.getpid()}-{number}")


@contextmanager
def written(folder):
    "A service that writes all the while; the ids that are on record."
    ids, ends = [], threading.Event()
    thread = threading.Thread(target=write_for_a_while, args=[folder, ends, ids])
    thread.start()
    try:
        yield ids
    finally:
        ends.set()
        thread.join()


def kill_in_turn(root, peer, times=4):
    "Kill the shipper and its peer in turn, under load; the ids on record in the end."
    folder = events_folder(root)
    with written(folder) as ids:
        process = start(root)
        for number in range(times):
            time.sleep(1.5)
            if number % 2:
                peer.kill()
                time.sleep(1)
                peer.start()
            else:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                roll_events(folder, "2017-11-30")
                process = start(root)
    process.terminate()
    process.wait()
    code, _, said = told(root)
    assert code == 0, said
    assert set(read_table(folder)["id"].to_pylist()) == set(ids)
    return ids


def test_killed_in_turn_each_event_is_indexed_exactly_once(tmp_path):
    if why := why_no_search():
        pytest.skip(why)
    with running(SearchNode(tmp_path / "node")) as node:
        ids = kill_in_turn(project_for(tmp_path / "project", node.url), node)
        assert sorted(node.ids()) == sorted(ids) and len(ids) > 1_000


def test_killed_in_turn_nothing_is_lost_on_the_way_to_fluentd(tmp_path):
    if why := why_no_fluentd():
        pytest.skip(why)
    with running(FluentServer(tmp_path / "fluentd")) as server:
        ids = kill_in_turn(project_for(tmp_path / "project", server.url), server)
        taken = Counter(name for _, name, _ in server.taken())
    assert set(taken) == set(ids) and len(ids) > 1_000
    assert max(taken.values()) <= 4  # what was on its way at a kill came twice, with the same ids


def shipped(root, many=100_000):
    "Events shipped a second, by the clock and by the work of the shipper alone."
    ids = [name for n in range(many // 5_000) for name in packed(events_folder(root), 5_000, -(n % 3))]
    worked = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    work, since = worked(), time.perf_counter()
    process = start(root, "--once")
    assert process.wait() == 0, process.stderr.read()
    return ids, many / (time.perf_counter() - since), many / (worked() - work)


def is_quick(name, root):
    "Twenty thousand a second; on a machine that is busy otherwise, so many by the shipper's own work. The ids."
    busy, (ids, by_clock, by_work) = os.getloadavg()[0], shipped(root)
    print(
        f"{name}: {by_clock:,.0f} events/s by the clock, {by_work:,.0f} by the shipper's work, at a load of {busy:.1f}"
    )
    assert by_work > AT_LEAST and (by_clock > AT_LEAST or busy > 0.8)
    return ids


def test_a_node_is_sent_twenty_thousand_a_second(search, tmp_path):
    emptied(search)
    shipped(project_for(tmp_path / "warm", search.url))
    emptied(search)
    ids = is_quick("OpenSearch", project_for(tmp_path / "project", search.url))
    assert sorted(search.ids()) == sorted(ids)


# Fluentd


def test_fluentd_is_sent_twenty_thousand_a_second(fluentd, tmp_path):
    with fluentd() as server:
        ids = is_quick("Fluentd", project_for(tmp_path / "project", server.url))
        assert sorted(name for _, name, _ in server.taken()) == sorted(ids)


def test_a_fluentd_with_a_key_is_shown_that_we_know_it(fluentd, tmp_path):
    root = project_for(tmp_path / "project", "")
    write_events(events_folder(root), [event(1)])
    with fluentd(key="of ours", user="ada", password="and hers") as server:
        project_for(root, server.url)
        keys = {"FLUENTD_SHARED_KEY": "of ours", "FLUENTD_USER": "ada", "FLUENTD_PASSWORD": "and hers"}
        says = lambda **more: told(root, **more)[2].splitlines()[-1]
        assert "it asks for a key; put it into the environment as FLUENTD_SHARED_KEY" in says()
        assert "it does not let us in" in says(**keys | {"FLUENTD_SHARED_KEY": "a guess"})
        assert "FLUENTD_USER and FLUENTD_PASSWORD" in says(**keys | {"FLUENTD_PASSWORD": "a guess"})
        assert server.taken() == []
        assert told(root, **keys)[:2] == (0, "1 events were sent.\n")
        ((tag, name, record),) = server.taken()
    assert (tag, name) == ("cd4ml.events", "e1")
    assert (
        record["inputs"] == {"number": 1, "day": "2017-12-01"} and record["@timestamp"] == "2017-12-01T06:00:00.000000Z"
    )


def certificate(folder):
    "A certificate of this machine's own, and its key."
    cert, key = folder / "cert.pem", folder / "key.pem"
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost".split()
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(words, check=True, capture_output=True)
    return cert, key


def test_fluentd_under_tls(fluentd, tmp_path):
    cert, key = certificate(tmp_path)
    root = project_for(tmp_path / "project", "")
    write_events(events_folder(root), [event(1)])
    with fluentd(tls=(cert, key)) as server:
        project_for(root, server.url)
        assert "its certificate is not trusted" in told(root)[2]
        assert told(root, SSL_CERT_FILE=str(cert))[:2] == (0, "1 events were sent.\n")
        plain = Fluentd(read_address(server.url.replace("+tls", "")))
        with pytest.raises(PeerTrouble):
            plain.send([("x", 0, "night", None, None, "{}", "{}")])
    with fluentd() as server:
        project_for(root, server.url.replace("fluentd:", "fluentd+tls:"))
        assert "it does not speak TLS there" in told(root)[2] or "ended the connection" in told(root)[2]


# The article's own call


ARTICLE = """import sys
from fluent.sender import FluentSender

sender = FluentSender("cd4ml", host="127.0.0.1", port=int(sys.argv[1]))
for number in range(int(sys.argv[2]), int(sys.argv[2]) + 100):
    print(sender.emit("prediction", {"id": f"a{number}", "prediction": 2.5}))
sender.close()"""


@pytest.fixture(scope="module")
def article(tmp_path_factory):
    "The package of the article's call, in a folder of its own."
    folder = tmp_path_factory.mktemp("article")
    words = ["uv", "pip", "install", "--quiet", "--target", str(folder), "fluent-logger==0.11.1"]
    done = subprocess.run(words, env=environment(ROOT), capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the package fluent-logger could not be brought: {done.stderr.strip().splitlines()[-1]}")

    def call(port, first):
        words = [sys.executable, "-c", ARTICLE, str(port), str(first)]
        done = subprocess.run(words, env=environment(folder), capture_output=True, text=True)
        return done.stdout.split()

    return call


def test_the_articles_call_arrives_and_loses_what_a_killed_peer_had_not_read(fluentd, article):
    with fluentd() as server:
        assert article(server.port, 0) == ["True"] * 100
        wait_for(lambda: len(server.taken()) == 100)
        os.kill(server.process.pid, signal.SIGSTOP)  # a Fluentd that is busy with something else
        assert article(server.port, 100) == ["True"] * 100  # all of them are said to be sent
        server.kill()
        server.start()
        time.sleep(1)
        assert len(server.taken()) == 100  # none of them was
