"A real S3 server, started here: moto's, in a process of its own."

import os, subprocess, sys, tempfile
from contextlib import contextmanager
from waiting import answers, free_port, wait_for

KEYS = {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "correct-horse-battery"}


@contextmanager
def s3_server(host="127.0.0.1"):
    "Its address, and its process; where all hosts of this machine may ask, it is started with 0.0.0.0."
    port = free_port()
    own = {"AWS_ACCESS_KEY_ID": "server", "AWS_SECRET_ACCESS_KEY": "server"}
    command = [sys.executable, "-m", "moto.server", "-H", host, "-p", str(port)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **own})
        try:
            wait_for(lambda: answers(port), lambda: "moto's server did not start", process)
            yield f"http://127.0.0.1:{port}", process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
