"""Ask a service as fast as it answers, or at a rate, over some connections: a program of its own, with work of its own.

python tests/serving/load.py PORT CONNECTIONS SECONDS RATE < requests.json

requests.json is a list of [method, path, body]; RATE is requests a second in all, 0 for as fast as it goes."""

import asyncio, json, sys, time


def as_bytes(method, path, body):
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body.encode())}\r\n\r\n{body}".encode()


async def answer_of(reader):
    "Status and body of the next answer."
    head = await reader.readuntil(b"\r\n\r\n")
    place = head.lower().index(b"content-length:") + 15
    return int(head[9:12]), await reader.readexactly(int(head[place : head.index(b"\r", place)]))


async def ask(port, requests, ends, pause, first, start, found):
    "One connection."
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number, due = first, time.perf_counter() + start
    while (now := time.perf_counter()) < ends:
        if pause and now < due:
            await asyncio.sleep(due - now)
        began = due if pause else now  # what waits for its turn has begun
        writer.write(requests[number % len(requests)])
        status, body = await answer_of(reader)
        found["seconds"].append(time.perf_counter() - began)
        found["failed"] += status != 200
        versions = {part.split(b'"', 1)[0] for part in body.split(b'"model_version":"')[1:]}
        found["mixed"] += len(versions) > 1
        found["versions"] |= versions
        number, due = number + 1, due + pause
    writer.close()


async def load(port, connections, seconds, rate, requests):
    found = {"seconds": [], "failed": 0, "mixed": 0, "versions": set()}
    pause, ends = connections / rate if rate else 0, time.perf_counter() + seconds
    starts = [number / rate if rate else 0 for number in range(connections)]
    each = [ask(port, requests, ends, pause, number, start, found) for number, start in enumerate(starts)]
    await asyncio.gather(*each)
    return found


if __name__ == "__main__":
    port, connections, seconds, rate = map(float, sys.argv[1:])
    requests = [as_bytes(*one) for one in json.load(sys.stdin)]
    found = asyncio.run(load(int(port), int(connections), seconds, rate, requests))
    taken = sorted(found["seconds"])
    at = lambda share: taken[min(int(len(taken) * share), len(taken) - 1)] * 1000
    told = {"requests": len(taken), "per_second": len(taken) / seconds, "p50": at(0.5), "p99": at(0.99)}
    print(json.dumps(told | {name: found[name] for name in ("failed", "mixed")} | {"versions": len(found["versions"])}))
