"""Commands of the tests, each in a process forked from one that has imported what takes seconds: pandas, DVC, nbdev.

What is ours is imported anew for each copy of the project that is asked; so a forked command sees what a new process
would. Lessons, which ask this very project, have its library as it was imported here. It can't be killed in a process
group of its own: tests that kill start processes as users do.
"""

import atexit, gc, importlib, json, os, signal, socket, subprocess, sys, tempfile, traceback
from pathlib import Path

# Only imports happen before a fork, as in the product's own warm process; the first answer doesn't wait for all.
FIRST = ("pandas",)
THEN = (
    "pyarrow.parquet",
    "nbdev.test",
    "papermill",
    "ipykernel.kernelapp",
    "nbconvert.exporters.html",
    "matplotlib.figure",
    "duckdb",
    "ibis.backends.duckdb",
    "sklearn.ensemble",
    "sklearn.tree",
    "skops.io",
    "skl2onnx",
    "scipy.stats",
    "dvc.cli",
    "dvc.repo",
    "dvc.commands.repro",
)


PYPLOT = {"course"}  # Modules that import it: where pictures go has to be settled by each command itself
OWN = Path(__file__).resolve().parent.parent / "cd4ml_nb"


def own_library():
    "What to import of this project's library, one step each."
    rooms = ("data", "model", "quality", "delivery", "serving", "monitoring")
    paths = [path for room in rooms for path in sorted((OWN / room).glob("*.py")) if path.stem not in PYPLOT]
    return [f"cd4ml_nb.{path.parent.name}.{path.stem}" for path in paths if path.stem != "__init__"]


def unsynced(handle):
    "For `os.fsync`, where nobody takes the power away: a handle that is none is refused, a disk is not waited for."
    os.fstat(handle)


def rarely_collect():
    "Look for garbage among what is new only, and seldom."
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _lesson(path):
    "Run a notebook's lesson cells."
    import matplotlib
    from nbdev.test import test_nb

    matplotlib.use("agg")
    passed, _ = test_nb(Path(path), do_print=False)
    return 0 if passed else 1


def _main(program, words):
    if program == "lesson":
        return _lesson(*words)
    return importlib.import_module({"dvc": "dvc.cli", "cd4ml": "cd4ml_nb.cli"}[program]).main(words)


def do(words):
    "In the forked process: do a command with the library of its own folder; returns the exit code."
    if words[0] != "lesson" or Path(os.environ["PYTHONPATH"].split(os.pathsep)[0]) != OWN.parent:
        for name in [name for name in sys.modules if name.split(".")[0] == "cd4ml_nb"]:
            del sys.modules[name]
    sys.path[:1] = [str(Path(sys.executable).parent), *os.environ["PYTHONPATH"].split(os.pathsep)]
    importlib.invalidate_caches()
    rarely_collect()
    sys.argv, os.fsync, code = list(words), unsynced, 1
    try:
        code = _main(words[0], words[1:])
    except SystemExit as e:
        if isinstance(e.code, str):
            print(e.code, file=sys.stderr)
        code = e.code if isinstance(e.code, int) else int(e.code is not None)
    except BaseException:
        traceback.print_exc()
    if words[0] != "lesson":  # nbdev_test leaves joblib's idle processes to be waited for, for five minutes
        atexit._run_exitfuncs()
    sys.stdout.flush(), sys.stderr.flush()
    return code or 0


SERVE = """import socket, sys
sys.path.insert(1, sys.argv[2])
from warm import FIRST, THEN, do, own_library
from cd4ml_nb.delivery.warm import serve
serve(socket.socket(fileno=int(sys.argv[1])), do, FIRST, (*THEN, *own_library()))"""


class Warm:
    "The one process that is forked from; it starts with the first command and ends with this process."

    def __init__(self):
        self.owner = None

    def _start(self):
        from cd4ml_nb.delivery.warm import PICTURES

        self.owner = os.getpid()
        self.folder = tempfile.TemporaryDirectory(prefix="cd4ml-", dir="/tmp")
        self.address = f"{self.folder.name}/warm"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen()
            words = [sys.executable, "-c", SERVE, str(listener.fileno()), str(Path(__file__).parent)]
            env = {**os.environ, **PICTURES}
            log = open(f"{self.folder.name}/log", "w")
            self.process = subprocess.Popen(
                words, env=env, pass_fds=[listener.fileno()], stdin=subprocess.PIPE, stdout=log, stderr=log
            )
        atexit.register(self._end, self.process)

    def _end(self, process):
        if self.owner == os.getpid():  # not in what was forked from here
            process.stdin.close()
            process.wait()

    def run(self, words, cwd, env, timeout):
        "Do a command; returns a `subprocess.CompletedProcess`."
        if self.owner != os.getpid():
            self._start()
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err, open(os.devnull) as none:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(timeout)
                line.connect(self.address)
                socket.send_fds(line, [b"3"], [none.fileno(), out.fileno(), err.fileno()])
                line.sendall(json.dumps({"words": words, "folder": str(cwd), "environment": env}).encode())
                line.shutdown(socket.SHUT_WR)
                answer = line.recv(1)
            said = [file.seek(0) or file.read() for file in (out, err)]
        return subprocess.CompletedProcess(words, answer[0] if answer else -signal.SIGKILL, *said)


run = Warm().run
