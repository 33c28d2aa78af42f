"A real NATS server, started here: Debian's nats-server, with JetStream on a folder of its own."

import asyncio, json, os, shutil, subprocess
from contextlib import contextmanager
import nats, pytest
from waiting import answers, free_port, wait_for

SERVER = shutil.which("nats-server", path=f"{os.environ['PATH']}:/usr/sbin")
WHY_NOT = "There is no program 'nats-server' here (Debian and Ubuntu: apt install nats-server)."


class Broker:
    "A NATS server that can be killed and started again on the same disk."

    def __init__(self, folder, jetstream=True, keys=()):
        self.folder, self.port, self.process = folder, free_port(), None
        self.url, self.log = f"nats://127.0.0.1:{self.port}", folder / "nats.log"
        disk = ["--jetstream", "--store_dir", str(folder / "store")] if jetstream else []
        self.command = [SERVER, "--addr", "127.0.0.1", "--port", str(self.port), *disk, *keys]

    def start(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as out:
            self.process = subprocess.Popen(self.command, stdout=out, stderr=out)
        wait_for(lambda: answers(self.port), self.log.read_text, self.process)
        return self

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextmanager
def broker(folder, start=True, **how):
    "A broker; killed afterwards. A test that asks for one is left out where the program is not there."
    if SERVER is None:
        pytest.skip(WHY_NOT)
    found = Broker(folder, **how)
    try:
        yield found.start() if start else found
    finally:
        found.kill()


def heard(url, stream="CD4ML", **keys):
    "The messages that a stream holds: the id of each, and what it says."

    async def read():
        connection = await nats.connect(url, allow_reconnect=False, **keys)
        try:
            manager = connection.jetstream()
            state = (await manager.stream_info(stream)).state
            kept = [await manager.get_msg(stream, n) for n in range(state.first_seq, state.last_seq + 1)]
            return [(one.headers["Nats-Msg-Id"], json.loads(one.data)) for one in kept]
        finally:
            await connection.close()

    return asyncio.run(read())
