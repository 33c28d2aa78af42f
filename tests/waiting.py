"One way to wait in tests: for what happens, and long where the machine is loaded; a wait that is met costs nothing."

import socket, time

PATIENCE = 120  # seconds, which only what never happens takes


def wait_for(happened, said=lambda: "waited in vain", process=None):
    "Until something has happened; fails when it does not, or when the process that should do it has ended."
    end, used = time.monotonic() + PATIENCE, time.process_time()
    while not happened():
        assert time.monotonic() < end and (process is None or process.poll() is None), said()
        took, used = time.process_time() - used, time.process_time()
        time.sleep(min(0.5, max(0.02, 10 * took)))  # what is costly to ask is asked seldom


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(port):
    "Does a server listen there?"
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex(("127.0.0.1", port)) == 0
