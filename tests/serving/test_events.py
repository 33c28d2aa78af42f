"The record of production with real processes: killed under load, several at once, full disks, system calls."

import os, re, shutil, signal, sqlite3, subprocess, sys, threading, time
from collections import Counter
from datetime import datetime, timedelta, timezone
import pytest
from copies import ROOT, environment
from waiting import wait_for
from cd4ml_nb.core import UserError
from cd4ml_nb.serving import events
from cd4ml_nb.serving.events import Event, EventStore, read_events, read_table, roll_events

# Threads that hand events over until they are stopped (or so many each) and print each id once it is acknowledged.
WRITER = """
import os, sys, threading
from pathlib import Path
from cd4ml_nb.serving.events import Event, EventStore

folder, threads, each = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
store = EventStore(folder)

def write():
    for number in range(each):
        event = Event("outcome", {"process": os.getpid(), "number": number, "text": "x" * 200})
        assert store.submit(event).result() == "written"
        os.write(1, f"{event.id}\\n".encode())

running = [threading.Thread(target=write) for _ in range(threads)]
[one.start() for one in running]
[one.join() for one in running]
store.close()
"""


def start_writer(folder, threads=8, each=10**9):
    words = [sys.executable, "-c", WRITER, str(folder), str(threads), str(each)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment(ROOT), cwd=folder.parent)


def ids_in(folder):
    "How often each id is on record, read without any deduplication."
    found = Counter()
    for path in folder.glob("*.parquet"):
        found.update(events._read_day(path)["id"].to_pylist())
    con = sqlite3.connect(folder / "events.db")
    found.update(name for (name,) in con.execute("SELECT id FROM events"))
    con.close()
    return found


def kill_under_load(folder, times, processes):
    "Acknowledged ids of writers that were killed again and again."
    acknowledged, counts = [], []
    for number in range(times):
        writers = [start_writer(folder) for _ in range(processes)]
        lines = [writer.stdout.readline() for writer in writers]
        time.sleep(0.05 + 0.037 * number % 0.4)
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
        said = [line + writer.communicate()[0] for line, writer in zip(lines, writers)]
        assert all(writer.returncode == -signal.SIGKILL for writer in writers)
        whole = [line for text in said for line in text.split("\n")[:-1]]
        assert all(len(line) == 32 for line in whole)
        acknowledged += whole
        counts.append(len(whole))
    assert min(counts) >= processes, counts
    return acknowledged


@pytest.mark.parametrize(
    "times, processes",
    [(2, 2), pytest.param(20, 1, marks=pytest.mark.prove), pytest.param(20, 3, marks=pytest.mark.prove)],
)
def test_killed_under_load_nothing_acknowledged_is_lost_or_doubled(tmp_path, times, processes):
    folder = tmp_path / "events"
    acknowledged = kill_under_load(folder, times, processes)
    read = read_table(folder)  # what the killed left unfinished is mended by whoever opens it first, a reader too
    there = ids_in(folder)
    assert not set(acknowledged) - there.keys()
    assert set(there.values()) == {1} and len(set(acknowledged)) == len(acknowledged)
    assert Counter(read["id"].to_pylist()) == there
    with EventStore(folder) as store:  # and it goes on
        assert store.submit(Event("night")).result() == "written" and store.trouble is None


def test_several_processes_write_one_record(tmp_path):
    "What several processes were told is there once, and none of them starves."
    folder = tmp_path / "events"
    writers = [start_writer(folder, threads=2, each=150) for _ in range(4)]
    said = [writer.communicate(timeout=120)[0].split() for writer in writers]
    assert [len(ids) for ids in said] == [300] * 4 and not any(writer.returncode for writer in writers)
    assert ids_in(folder) == Counter(name for ids in said for name in ids)


def test_two_stores_know_each_others_ids(tmp_path):
    with EventStore(tmp_path) as one, EventStore(tmp_path) as other:
        first = one.submit(Event("decision", {"n": 1}, id="order 7")).result()
        again = other.submit(Event("decision", {"n": 2}, id="order 7")).result()
    assert (first, again) == ("written", "known")
    assert [event.inputs for event in read_events(tmp_path)] == [{"n": 1}]


def test_on_the_disk_before_it_is_acknowledged(tmp_path):
    "The order of the system calls: the row is written, the disk is forced, and only then comes the acknowledgement."
    if not shutil.which("strace"):
        pytest.skip("strace is not installed: that fsync comes before the acknowledgement is NOT tested here")
    folder, trace = tmp_path / "events", tmp_path / "trace"
    calls = "trace=pwrite64,write,fsync,fdatasync"
    words = ["strace", "-f", "-yy", "-s", "4096", "-e", calls, "-o", str(trace), sys.executable, "-c", WRITER]
    done = subprocess.run(
        [*words, str(folder), "4", "5"], capture_output=True, text=True, env=environment(ROOT), timeout=300
    )
    if "ptrace" in done.stderr.lower() and "not permitted" in done.stderr.lower():
        pytest.skip("this machine does not let strace trace: fsync before the acknowledgement is NOT tested here")
    ids = done.stdout.split()
    assert done.returncode == 0 and len(ids) == 20, done.stderr[-2000:]
    waiting, forced, checked, under_way = set(), set(), 0, {}
    for line in trace.read_text(errors="replace").splitlines():
        thread = line.split()[0]
        if "events.db-wal" in line and "pwrite64(" in line:
            waiting |= {name for name in ids if name in line}
        elif "events.db-wal" in line and re.search(r"f(data)?sync\(", line):  # its end may stand on a later line
            under_way[thread] = set(waiting)
        if re.search(r"f(data)?sync(\(| resumed)", line) and line.endswith("= 0"):
            forced |= under_way.pop(thread, set())
        if "write(1<" in line and (found := re.search(r'"([0-9a-f]{32})\\n"', line)):
            assert found[1] in forced, f"{found[1]} was acknowledged before it was on disk"
            checked += 1
    assert checked == 20


@pytest.fixture
def small_disk(tmp_path):
    "A disk of two megabytes, or a loud skip."
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", disk]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("needs root and mount: a full disk is NOT tested here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def fill(disk):
    "Leave no room at all."
    with open(disk / "filler", "wb", buffering=0) as file:
        try:
            while file.write(b"x" * 65536) == 65536:
                pass
            while file.write(b"x"):
                pass
        except OSError as e:
            assert e.errno == 28
    return disk / "filler"


def test_a_full_disk_stops_only_the_events_and_says_so(small_disk, capfd):
    big = lambda number: Event("outcome", {"text": "y" * 20_000}, id=f"big {number}")
    with EventStore(small_disk / "events") as store:
        assert store.submit(Event("night", id="before")).result() == "written"
        filler = fill(small_disk)
        refused = [store.submit(big(number)) for number in range(30)]
        errors = [one.exception(timeout=60) for one in refused]
        assert all(isinstance(error, UserError) and "the disk is full" in str(error) for error in errors), errors
        assert "the disk is full" in store.trouble
        assert [event.id for event in read_events(small_disk / "events")] == ["before"]

        filler.unlink()
        assert store.submit(big(1)).result(timeout=60) == "written" and store.trouble is None
    assert {event.id for event in read_events(small_disk / "events")} == {"before", "big 1"}
    said = capfd.readouterr().err
    assert said.count("is not on record") == 1 and said.count("Events are kept again") == 1


def test_a_service_starts_on_a_full_disk(small_disk):
    filler = fill(small_disk)
    with EventStore(small_disk / "events") as store:
        assert "the disk is full" in store.trouble
        assert isinstance(store.submit(Event("night")).exception(timeout=60), UserError)
        filler.unlink()
        assert store.submit(Event("night")).result(timeout=60) == "written"


def test_a_folder_that_cannot_be_is_said(tmp_path):
    (tmp_path / "events").write_text("a file")
    with EventStore(tmp_path / "events") as store:
        error = store.submit(Event("night")).exception(timeout=60)
    assert isinstance(error, UserError) and "a file stands where a folder should be" in str(error)


@pytest.mark.parametrize("takes", ["moves", "removes"])
def test_what_is_acknowledged_is_found_though_the_folder_is_taken_away(tmp_path, takes, capfd):
    "By the programs that write into it meanwhile, too."
    folder, away = tmp_path / "events", tmp_path / "elsewhere"
    take = {"moves": lambda: folder.rename(away), "removes": lambda: shutil.rmtree(folder, True)}[takes]
    with EventStore(folder) as store:
        assert store.submit(Event("night", id="before")).result(timeout=60) == "written"
        writer = start_writer(folder, threads=4, each=1_500)
        lines = [writer.stdout.readline() for _ in range(200)]
        take()
        assert store.submit(Event("night", id="before")).result(timeout=60) == "written"  # it is known there no more
        assert store.submit(Event("night", id="after")).result(timeout=60) == "written" and store.trouble is None
        lines += writer.communicate()[0].splitlines()
    acknowledged = [line.strip() for line in lines]
    assert writer.returncode == 0 and len(acknowledged) == 6_000
    here = {event.id for event in read_events(folder)}
    there = {event.id for event in read_events(away)} if away.exists() else set(acknowledged[:300])  # removed by hand
    assert {"before", "after"} <= here and set(acknowledged[-4_000:]) <= here
    assert not set(acknowledged) - here - there
    assert capfd.readouterr().err.count(f"{folder} was moved or removed") == 2  # by each program once


def test_no_room_to_wait_is_said(tmp_path, monkeypatch):
    "Where the disk hangs, memory does not fill up."
    monkeypatch.setattr(events, "_WAITING", 3)
    with EventStore(tmp_path) as store:
        with events.store_turn(tmp_path):  # the disk hangs
            store.submit(Event("night", id="held"))
            wait_for(lambda: store._committer.waiting.qsize() == 0)
            futures = [store.submit(Event("night", id=f"n{number}")) for number in range(5)]
            assert ["too slow" in str(one.exception()) for one in futures[3:]] == [True, True]
        assert [one.result(timeout=60) for one in futures[:3]] == ["written"] * 3


def test_closing_keeps_all_that_was_handed_over(tmp_path):
    store = EventStore(tmp_path)
    futures = [store.submit(Event("outcome", {"n": number})) for number in range(5_000)]
    store.close()
    store.close()  # twice does no harm
    assert all(one.done() and one.result() == "written" for one in futures)
    assert len(read_table(tmp_path)) == 5_000


def test_a_record_opened_before_a_fork_is_refused_in_the_child(tmp_path):
    with EventStore(tmp_path) as store:
        child = os.fork()
        if not child:
            try:
                store.submit(Event("night"))
            except UserError as e:
                os._exit(7 if "another process" in str(e) else 8)
            os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


DAYS = [datetime(2017, 12, day, 12, tzinfo=timezone.utc) for day in (1, 2, 3)]


def three_days(folder, each=4):
    "A store with events of three days, one of which has been rolled before."
    with EventStore(folder) as store:
        for day in DAYS:
            for number in range(each):
                store.submit(Event("outcome", {"n": number}, time=day + timedelta(hours=number))).result()
        roll_events(folder, "2017-12-01")
        store.submit(Event("outcome", {"late": 1}, time=DAYS[0])).result()
    return read_table(folder)


def roll_until(folder, line):
    "In a process of its own: roll, and be killed at the so-manieth line of the module; the process's exit code."
    child = os.fork()
    if not child:
        left = line

        def count(frame, event, argument):
            nonlocal left
            if frame.f_code.co_filename not in watched:
                return None
            left -= event == "line"
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return count

        watched = {events.__file__, sys.modules["cd4ml_nb.core"].__file__}
        sys.settrace(count)
        roll_events(folder, "2017-12-02")
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.prove
def test_a_roll_killed_at_any_line_loses_and_doubles_nothing(tmp_path):
    ready = tmp_path / "ready"
    before, killed, halfway = three_days(ready), 0, 0
    for line in range(1, 1_000, 3):
        folder = tmp_path / "events"
        shutil.copytree(ready, folder)
        code = roll_until(folder, line)
        assert read_table(folder).equals(before), line
        halfway += bool(set(ids_in(folder).values()) - {1})
        roll_events(folder, "2017-12-02")
        assert read_table(folder).equals(before) and set(ids_in(folder).values()) == {1}, line
        assert sorted(path.name for path in folder.glob("*.parquet")) == ["2017-12-01.parquet", "2017-12-02.parquet"]
        shutil.rmtree(folder)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        killed += 1
    assert code == 0 and killed > 30 and halfway > 0  # some were killed between the file and the deletion


def test_a_reader_sees_every_event_once_while_days_are_rolled(tmp_path):
    "Writers write, days are rolled, and whoever reads meanwhile sees no event vanish or twice."
    stop, seen, trouble = threading.Event(), [0], []

    def read():
        while not stop.is_set():
            ids = read_table(tmp_path)["id"].to_pylist()
            if len(set(ids)) < len(ids) or len(ids) < seen[-1]:
                trouble.append((len(ids), len(set(ids)), seen[-1]))
            seen.append(len(ids))

    with EventStore(tmp_path) as store:
        reader = threading.Thread(target=read)
        reader.start()
        for number in range(40):
            for event in [Event("outcome", {"n": number}, time=DAYS[number % 3]) for _ in range(10)]:
                last = store.submit(event)
            last.result()
            if number % 4 == 3:
                roll_events(tmp_path, "2017-12-03")
        stop.set()
        reader.join()
    assert not trouble and len(read_table(tmp_path)) == 400
    assert len(set(seen)) > 3


def test_a_damaged_file_of_a_day_is_named(tmp_path):
    three_days(tmp_path)
    path = tmp_path / "2017-12-01.parquet"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match="2017-12-01.parquet cannot be read"):
        read_table(tmp_path)
    assert len(read_table(tmp_path, since="2017-12-02")) == 8


@pytest.mark.prove
def test_writing_together_is_worth_it(tmp_path, capsys):
    "Eight writers: what they share a commit for, against a commit each; best of three, on one machine at one time."

    def rate(write):
        counts, end = [0] * 8, time.monotonic() + 1.5

        def one(number):
            while time.monotonic() < end:
                write(Event("forecast", {"item_nbr": "milk", "store_nbr": "1", "date": "2017-12-01"}, {"mean": 3.1}))
                counts[number] += 1

        running = [threading.Thread(target=one, args=[number]) for number in range(8)]
        [thread.start() for thread in running]
        [thread.join() for thread in running]
        return sum(counts) / 1.5

    single = events.connect_store(tmp_path / "single")
    gate = threading.Lock()

    def alone(event):
        with gate:
            events._write(single, tmp_path / "single", [events._row(event)])

    with EventStore(tmp_path / "together") as store:
        rates = [(rate(lambda event: store.submit(event).result()), rate(alone)) for _ in range(3)]
    single.close()
    with capsys.disabled():
        print(f"\nacknowledged a second, together and alone: {[tuple(map(round, pair)) for pair in rates]}")
    assert max(together / one for together, one in rates) > 1.5, rates


def test_a_write_without_rows_says_nothing_of_the_disk(tmp_path):
    place, said = tmp_path / "events", []
    place.write_text("a file where the folder should be")
    disk = events.Disk(place, said.append)
    with pytest.raises(UserError, match="Cannot write"):
        disk.keep([])
    place.unlink()
    disk.keep([])
    assert "Cannot write" in disk.trouble and len(said) == 1
    disk.keep([events._row(Event("outcome", {}))])
    assert disk.trouble is None and "kept again" in said[1]
    disk.close()
