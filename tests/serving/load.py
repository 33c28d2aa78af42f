"""Ask a service as fast as it answers, or at a rate, over some connections: a program of its own, with work of its own.

python tests/serving/load.py PORT CONNECTIONS SECONDS RATE < requests.json

requests.json is a list of [method, path, body]; RATE is requests a second in all, 0 for as fast as it goes.
Each connection has one request on its way at a time. Plain sockets: the service is measured, not who asks it."""

import json, select, socket, sys, time

_LONGEST = 60  # Seconds that an answer may take


def as_bytes(method, path, body):
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body.encode())}\r\n\r\n{body}".encode()


class Line:
    "One connection, and what came over it."

    def __init__(self, port, number, due):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number, self.due, self.began, self.got, self.whole = number, due, None, b"", 0

    def answer(self):
        "The answer once it is there, None before."
        more = self.socket.recv(1 << 18)
        if not more:
            raise ConnectionError(f"The service closed a connection after {self.number:,} answers: {self.got[:200]!r}")
        self.got += more
        if not self.whole and (end := self.got.find(b"\r\n\r\n")) > 0:
            place = self.got.lower().index(b"content-length:", 0, end) + 15
            self.whole = end + 4 + int(self.got[place : self.got.index(b"\r", place)])
        if not self.whole or len(self.got) < self.whole:
            return None
        answer, self.got, self.whole = self.got, b"", 0
        return answer


def note(found, answer, seconds):
    "What an answer says."
    found["seconds"].append(seconds)
    found["failed"] += answer[9:12] != b"200"
    parts = answer.split(b'"model_version":"')[1:]
    versions = {part[: part.index(b'"')] for part in parts}
    found["mixed"] += len(versions) > 1
    found["versions"] |= versions


def send_due(lines, requests, now, pause):
    "Send what is due; when the next is."
    for line in lines:
        if line.began is None and line.due <= now:
            line.began = line.due if pause else now  # what waits for its turn has begun
            line.socket.sendall(requests[line.number % len(requests)])
    return min((line.due for line in lines if line.began is None), default=now + _LONGEST)


def load(port, connections, seconds, rate, requests):
    "Ask until it is over."
    found = {"seconds": [], "failed": 0, "mixed": 0, "versions": set()}
    start, pause = time.perf_counter(), connections / rate if rate else 0
    lines = [Line(port, number, start + (number / rate if rate else 0)) for number in range(connections)]
    known, ready = {line.socket: line for line in lines}, []
    while (now := time.perf_counter()) < start + seconds:
        due = send_due(lines, requests, now, pause)
        ready, _, _ = select.select(list(known), [], [], max(0, min(due, start + seconds) - now))
        for line in map(known.get, ready):
            if (answer := line.answer()) is not None:
                note(found, answer, (now := time.perf_counter()) - line.began)
                line.began, line.due, line.number = None, line.due + pause if pause else now, line.number + 1
    for line in lines:
        line.socket.close()
    return found


if __name__ == "__main__":
    port, connections, seconds, rate = map(float, sys.argv[1:])
    requests = [as_bytes(*one) for one in json.load(sys.stdin)]
    found = load(int(port), int(connections), seconds, rate, requests)
    taken = sorted(found["seconds"])
    at = lambda share: taken[min(int(len(taken) * share), len(taken) - 1)] * 1000
    told = {"requests": len(taken), "per_second": len(taken) / seconds, "p50": at(0.5), "p99": at(0.99)}
    print(json.dumps(told | {name: found[name] for name in ("failed", "mixed")} | {"versions": len(found["versions"])}))
