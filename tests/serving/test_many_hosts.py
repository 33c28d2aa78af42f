"Two hosts answer behind a balancer: a release reaches both, one that is lost is not missed, nor is the store."

import os, shutil, subprocess, threading
from contextlib import ExitStack, contextmanager
import boto3, pytest
from buckets import KEYS, s3_server
from copies import ROOT
from shop import Service, live_shop, put_live, query, serving
from waiting import answers, free_port, wait_for
from cd4ml_nb.delivery.store import publish_live

ROOM = os.geteuid() == 0 and shutil.which("ip") and shutil.which("haproxy")
needs = pytest.mark.skipif(not ROOM, reason="needs root, iproute2 and haproxy (Debian) for hosts of its own")
pytestmark = [pytest.mark.prove, needs]
AUTHORIZED = {"Authorization": "Bearer secret"}
# Each host has a network of its own; a balancer asks whoever says that it is ready, and asks the other at a failure.
BALANCER = """
defaults
  mode http
  timeout connect 500ms
  timeout client 30s
  timeout server 2s
  retries 3
  retry-on all-retryable-errors
  option redispatch 1
frontend shop
  bind 127.0.0.1:{port}
  monitor-uri /all-ready
  monitor fail if {{ nbsrv(hosts) lt 2 }}
  default_backend hosts
backend hosts
  option httpchk GET /ready
  default-server check inter 300ms fall 1 rise 1
  server first {first.host}:{first.port}
  server second {second.host}:{second.port}
"""


class Host:
    "A network of its own on this machine, joined to it by one line."

    def __init__(self, number):
        self.name, self.line = f"shop{os.getpid()}n{number}", f"s{os.getpid() % 10**8}n{number}"
        self.here, self.there = f"10.77.{number}.1", f"10.77.{number}.2"

    def run(self, *command):
        subprocess.run(["ip", *command], check=True)

    def __enter__(self):
        self.run("netns", "add", self.name)
        self.run("link", "add", self.line, "type", "veth", "peer", "name", "out", "netns", self.name)
        self.run("addr", "add", f"{self.here}/24", "dev", self.line)
        self.run("link", "set", self.line, "up")
        for inner in (("addr", "add", f"{self.there}/24", "dev", "out"), ("link", "set", "out", "up")):
            self.run("-n", self.name, *inner)
        return self

    def __exit__(self, *failed):
        self.run("netns", "delete", self.name)  # and its line with it


@contextmanager
def balanced(folder, first, second):
    "A balancer before two services."
    port, told = free_port(), folder / "haproxy.cfg"
    told.write_text(BALANCER.format(port=port, first=first, second=second))
    process = subprocess.Popen(["haproxy", "-db", "-f", told])
    try:
        wait_for(lambda: answers(port), process=process)
        service = Service(port, process, told)
        wait_for(lambda: service.ask("/all-ready")[0] == 200)
        yield service
    finally:
        process.kill()
        process.wait()


class Visitors(threading.Thread):
    "Ask without a pause; what was said is kept."

    def __init__(self, service, path):
        super().__init__()
        self.service, self.path, self.said, self.ends = service, path, [], threading.Event()

    def run(self):
        while not self.ends.is_set():
            try:
                self.said.append(self.service.ask(self.path, headers=AUTHORIZED))
            except OSError as e:
                self.said.append(e)

    def more(self, number):
        "Wait until so many more were answered."
        enough = len(self.said) + number
        wait_for(lambda: len(self.said) >= enough)

    def __exit__(self, *failed):
        self.ends.set()
        self.join()

    def __enter__(self):
        self.start()
        return self


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    "A project, its store, two services in networks of their own that follow it, and the address of both."
    root, url = live_shop(tmp_path / "shop"), "s3://shop/live"
    with ExitStack() as stack:
        address = stack.enter_context(s3_server("0.0.0.0"))[0]
        given = {**KEYS, "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in {**given, "AWS_ENDPOINT_URL": address}.items():
            monkeypatch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="shop")
        publish_live(root, url)
        services = []
        for number in (1, 2):
            host, own = stack.enter_context(Host(number)), tmp_path / f"host{number}"
            own.mkdir()
            shutil.copy(ROOT / "params.yaml", own)
            more = {**given, "AWS_ENDPOINT_URL": address.replace("127.0.0.1", host.here), "CD4ML_TOKEN": "secret"}
            more |= {"CD4ML_LIVE": url, "XDG_CACHE_HOME": str(own / "cache")}
            inside = ("ip", "netns", "exec", host.name)
            running = serving(own, inside=inside, host=host.there, **more)
            services.append((host, stack.enter_context(running)))
        both = stack.enter_context(balanced(tmp_path, *(service for _, service in services)))
        yield root, url, services, both


def test_hosts_behind_one_address_answer_alike_whatever_befalls_one(hosts, model):
    root, url, ((first, one), (second, two)), both = hosts
    store, item = model.series.loc[0, ["store_nbr", "item_nbr"]]
    path = query(item=item, store=store, date=model.card["first_day"])
    before = one.ask(path, headers=AUTHORIZED)
    assert before == two.ask(path, headers=AUTHORIZED) and before[0] == 200
    with Visitors(both, path) as visitors:
        visitors.more(20)
        put_live(root, "trees-2", 2.0)
        publish_live(root, url)
        wait_for(lambda: one.version() == two.version() == "trees-2")
        after = one.ask(path, headers=AUTHORIZED)
        visitors.more(20)
        first.run("link", "set", first.line, "down")  # this host is lost, to the balancer and to the store
        visitors.more(20)
        first.run("link", "set", first.line, "up")
        wait_for(lambda: both.ask("/all-ready")[0] == 200)
        two.process.kill()
        visitors.more(20)
    assert after[1]["mean"] > before[1]["mean"] and after[0] == 200
    assert [said for said in visitors.said if said not in (before, after)] == []
    assert visitors.said[0] == before and visitors.said[-1] == after
