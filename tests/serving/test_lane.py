"What lies ready is answered before the framework is asked; nobody can tell by the answer, however it is asked."

import json, signal, socket, time
import pytest
from shop import live_shop, query, serving, without_events
from waiting import PATIENCE, wait_for
from cd4ml_nb.serving.events import events_folder, read_events


def as_get(good, *lines, path="/forecast", version="1.1"):
    "A request as bytes."
    address = query(path, item=good["item_nbr"], store=good["store_nbr"], date=good["date"])
    return "\r\n".join([f"GET {address} HTTP/{version}", "host: localhost", *lines, "", ""]).encode()


def as_post(asked, *lines):
    "Head and body."
    body = json.dumps(asked).encode()
    head = ["POST /forecast HTTP/1.1", "host: localhost", f"content-length: {len(body)}", *lines, "", ""]
    return "\r\n".join(head).encode(), body


class Line:
    "One connection, and the answers that come over it."

    def __init__(self, service):
        self.socket = socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE)
        self.file = self.socket.makefile("rb")

    def send(self, *pieces):
        for piece in pieces:
            self.socket.sendall(piece)
            time.sleep(0.05)  # so that it comes alone

    def answer(self):
        "Status, headers and what was said, without the id of its event."
        status, headers = int(self.file.readline().split()[1]), {}
        while line := self.file.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name] = value
        return status, headers, without_events(json.loads(self.file.read(int(headers["content-length"]))))


@pytest.fixture
def line(service):
    own = Line(service)
    yield own
    own.socket.close()


def said_of(model, question):
    return model.answer(question["item_nbr"], question["store_nbr"], question["date"])


def test_both_ways_answer_alike(line, good):
    line.send(as_get(good), as_get(good), as_get(good, "expect: nothing"))
    read, again, long_way = (line.answer() for _ in range(3))
    assert read[0] == 200 and read[2] == again[2] == long_way[2]
    assert set(read[1]) == set(again[1]) == set(long_way[1]) == {"date", "content-type", "content-length"}


def test_each_address_and_body_has_its_own_answer(line, model):
    pairs = model.series.head(20).itertuples(index=False)
    asked = [{"item_nbr": item, "store_nbr": store, "date": model.card["first_day"]} for store, item in pairs]
    for question in asked * 2:
        for request in (as_get(question), b"".join(as_post(question)), b"".join(as_post([question, question]))):
            line.socket.sendall(request)
        expected = said_of(model, question)
        assert [line.answer()[2] for _ in range(3)] == [expected, expected, {"answers": [expected] * 2}]


SPLIT = {
    "in the address": (lambda get, post: [get[:20], get[20:]], 1),
    "between the headers": (lambda get, post: [get[:-4], get[-4:]], 1),
    "before the body": (lambda get, post: [*post], 1),
    "in the body": (lambda get, post: [post[0] + post[1][:9], post[1][9:]], 1),
    "two at once": (lambda get, post: [get + get], 2),
    "two of both kinds at once": (lambda get, post: [get + b"".join(post)], 2),
    "one and the beginning of another": (lambda get, post: [get + get[:9], get[9:]], 2),
    "a body and the beginning of another": (lambda get, post: [b"".join(post) + get[:9], get[9:]], 2),
}


@pytest.mark.parametrize("name", SPLIT)
@pytest.mark.parametrize("before", [True, False], ids=["heads known", "heads new"])
def test_where_a_request_is_cut_changes_nothing(line, model, good, name, before):
    pieces, answers = SPLIT[name]
    get, post = as_get(good), as_post(good)
    expected = said_of(model, good)
    if before:
        line.send(get, b"".join(post))
        assert [line.answer()[2] for _ in range(2)] == [expected] * 2
    line.send(*pieces(get, post))
    assert [line.answer()[2] for _ in range(answers)] == [expected] * answers
    line.send(get)  # and the line is in step
    assert line.answer()[2] == expected


@pytest.mark.parametrize("in_front", [True, False])
def test_a_body_that_looks_like_a_request_is_a_body(line, model, good, in_front):
    get, post = as_get(good), b"".join(as_post(good))
    head = f"POST /forecast HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(get)}\r\n\r\n".encode()
    line.send(get, post)  # both heads are known
    line.send(post + head if in_front else head, get)
    answers = [line.answer() for _ in range(4 if in_front else 3)]
    assert answers[-1][0] == 400 and "not JSON" in answers[-1][2]["error"]
    line.send(get, post)
    assert [one[2] for one in [*answers[:-1], line.answer(), line.answer()]] == [said_of(model, good)] * (
        len(answers) + 1
    )


def test_a_header_that_looks_like_a_request_is_a_header(line, model, good):
    get = as_get(good)
    line.send(get, as_get({**good, "item_nbr": "unobtainium"})[:-2] + b"x: ", get, get)
    answers = [line.answer() for _ in range(3)]
    assert [status for status, _, _ in answers] == [200, 404, 200]


def test_a_foreign_name_is_refused_on_a_known_line_too(line, model, good):
    "A page whose name was made to mean this machine sends that name, on lines of its own or on any other."
    get, foreign = as_get(good), as_get(good).replace(b"localhost", b"shop.example")
    line.send(get, get, foreign, foreign, get)
    answers = [line.answer() for _ in range(5)]
    assert [status for status, _, _ in answers] == [200, 200, 403, 403, 200]
    assert "call it http://127.0.0.1" in answers[2][2]["error"]


def test_a_line_is_closed_when_asked_so(line, good):
    line.send(as_get(good), as_get(good, "connection: close"))
    assert line.answer()[0] == line.answer()[0] == 200 and line.file.read() == b""


def test_the_old_version_of_http_gets_its_answer(line, good):
    line.send(as_get(good, version="1.0"))
    assert line.answer()[0] == 200 and line.file.read() == b""


def test_behind_a_long_answer_one_waits(line, model, good):
    many = [{**good, "promotion": True}] * 300
    line.send(b"".join(as_post(many)) + as_get(good), as_get(good))
    assert len(line.answer()[2]["answers"]) == 300
    assert [line.answer()[2] for _ in range(2)] == [said_of(model, good)] * 2


def test_a_known_head_is_no_key(shop, good):
    with serving(shop, CD4ML_TOKEN="secret") as guarded:
        line = Line(guarded)
        line.send(
            *[as_get(good, f"authorization: Bearer {token}") for token in ("secret", "secret", "wrong", "secret")]
        )
        line.send(as_get(good))
        assert [line.answer()[0] for _ in range(5)] == [200, 200, 401, 200, 401]


def test_all_that_is_answered_is_counted_and_kept(tmp_path, good):
    root, many = live_shop(tmp_path / "shop"), 3_000
    with serving(root) as service:
        line = Line(service)
        for request in [as_get(good)] * many:
            line.socket.sendall(request)
        assert {line.answer()[0] for _ in range(many)} == {200}
        lines = service.ask("/metrics")[1].splitlines()
        counted = [line for line in lines if 'requests_total{route="/forecast",status="200"}' in line]
        assert float(counted[0].split()[-1]) == many
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(PATIENCE) == 0
    kept = read_events(events_folder(root), kinds=["forecast"])
    assert len({event.id for event in kept}) == len(kept) == many
    assert all(event.inputs == good for event in kept)


def test_a_reader_who_is_slow_does_not_fill_the_memory(service, good):
    line = Line(service)
    line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    line.socket.settimeout(3)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 100_000_000:
            sent += line.socket.send(as_get(good) * 100)
    line.socket.close()
    wait_for(lambda: service.ask("/live")[0] == 200)
