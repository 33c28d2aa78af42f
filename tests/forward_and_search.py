"Real peers of the shipper, started here: an OpenSearch node in Java, a server of Fluentd's forward protocol in Node."

import http.client, json, os, shutil, subprocess, tempfile
from contextlib import contextmanager
from pathlib import Path
from filelock import FileLock
from copies import ROOT
from waiting import answers, free_port, wait_for
from cd4ml_nb.core import sha256_of

PEERS = ROOT / "tests/peers"


def kept(name, *files):
    "A folder for what is brought once on this machine, in these versions of it."
    digest = "".join(sha256_of(file)[:8] for file in files)
    return Path(tempfile.gettempdir()) / f"cd4ml-peers-{os.getuid()}" / f"{name}-{digest}"


def brought(folder, bring):
    "Fill a folder unless it is filled already; why that cannot be, in a line, or nothing."
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if (folder / "whole").exists():
            return ""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        done = bring(folder)
        if done.returncode:
            return (done.stderr + done.stdout).strip().splitlines()[0][:300]
        (folder / "whole").touch()
    return ""


def lacking(programs, packages):
    "That programs are missing; empty where they are there."
    missing = [name for name in programs if not shutil.which(name)]
    return f"needs {' and '.join(missing)} (Debian and Ubuntu: apt install {packages})" if missing else ""


class Process:
    "A peer that can be killed and started again on the same disk."

    process = None

    def run(self, words, is_ready):
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as out:
            self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=out, stderr=out)
        wait_for(is_ready, self.log.read_text, self.process)
        return self

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextmanager
def running(peer):
    "A peer that runs; killed afterwards."
    try:
        yield peer.start()
    finally:
        peer.kill()


# OpenSearch

NODE = PEERS / "opensearch"
JARS = kept("opensearch", NODE / "pom.xml", NODE / "jars.sha256")


def bring_jars(folder):
    "The node's jars, by Maven; each is one that is known."
    where = [f"-DoutputDirectory={folder}", "-f", str(NODE / "pom.xml")]
    words = ["mvn", "-q", "-B", "-C", "dependency:copy-dependencies", *where]
    done = subprocess.run(words, capture_output=True, text=True)
    if not done.returncode:
        known = dict(line.split()[::-1] for line in (NODE / "jars.sha256").read_text().splitlines())
        found = {jar.name: sha256_of(jar) for jar in folder.glob("*.jar")}
        assert found == known, f"not the jars that are known: {sorted(found.items() ^ known.items())}"
    return done


def why_no_search():
    "Why no OpenSearch node can run here; empty where one can."
    if missing := lacking(["javac", "mvn"], "openjdk-17-jdk-headless maven"):
        return missing
    trouble = brought(JARS, bring_jars)
    return f"the jars of OpenSearch could not be brought: {trouble}" if trouble else ""


class SearchNode(Process):
    "An OpenSearch node."

    def __init__(self, folder):
        self.folder, self.port, self.wire = folder, free_port(), free_port()
        self.url, self.log = f"http://127.0.0.1:{self.port}", folder / "node.log"

    def start(self):
        words = ["java", "-Xms512m", "-Xmx1g", f"-Dlog4j2.configurationFile={NODE / 'log4j2.properties'}"]
        words += ["-cp", f"{JARS}/*", str(NODE / "SearchNode.java"), str(self.folder), str(self.port), str(self.wire)]
        return self.run(words, self.is_ready)

    def is_ready(self):
        return answers(self.port) and self.ask("GET", "/_cluster/health")[1].get("status") in ("green", "yellow")

    def ask(self, method, path, said=None):
        "Status and answer of one question."
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            body = None if said is None else json.dumps(said)
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        finally:
            connection.close()

    def ids(self):
        "The ids of all documents, page by page."
        self.ask("POST", "/cd4ml-events-*/_refresh")
        found, page = [], {"size": 10_000, "sort": [{"id": "asc"}], "_source": False}
        while hits := self.ask("POST", "/cd4ml-events-*/_search", page)[1]["hits"]["hits"]:
            found += [hit["_id"] for hit in hits]
            page["search_after"] = hits[-1]["sort"]
        return found


# Fluentd's forward protocol

FLUENTD = PEERS / "fluentd"
MODULES = kept("fluentd", FLUENTD / "package.json", FLUENTD / "package-lock.json")


def bring_modules(folder):
    "The server's packages, by npm; each is the one of package-lock.json."
    for name in ("package.json", "package-lock.json"):
        shutil.copy(FLUENTD / name, folder)
    words = ["npm", "ci", "--silent", "--no-audit", "--no-fund"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True)


def why_no_fluentd():
    "Why no server of the forward protocol can run here; empty where one can."
    if missing := lacking(["node", "npm"], "nodejs npm"):
        return missing
    trouble = brought(MODULES, bring_modules)
    return f"the package @fluent-org/logger could not be brought: {trouble}" if trouble else ""


class FluentServer(Process):
    "A server of the forward protocol."

    def __init__(self, folder, key="", tls=("", ""), user="", password=""):
        self.folder, self.port = folder, free_port()
        self.url = f"fluentd{'+tls' if tls[0] else ''}://127.0.0.1:{self.port}"
        self.log, self.file = folder / "fluentd.log", folder / "taken.txt"
        self.words = ["node", str(FLUENTD / "server.js"), str(MODULES / "node_modules"), str(self.port), str(self.file)]
        self.words += [key, *map(str, tls), user, password]

    def start(self):
        return self.run(self.words, lambda: answers(self.port))

    def taken(self):
        "Tag, id and record of each event that it stored, in order; a line that a kill cut off is none."
        lines = self.file.read_text().split("\n")[:-1] if self.file.exists() else []
        return [tuple(json.loads(line)) for line in lines if line.startswith("[") and line.endswith("]")]
