"The stack of `ops/`: its files are in step with the tables, and each panel's question is answered by the real thing."

import json, re, shutil, subprocess, sys, time, urllib.parse, urllib.request
from contextlib import contextmanager
import pytest, yaml
from copies import ROOT, run
from forward_and_search import SearchNode, running, why_no_search
from waiting import answers, free_port, wait_for
from cd4ml_nb.delivery.night import turn
from cd4ml_nb.monitoring.actuals import join_actuals
from cd4ml_nb.monitoring.panels import EVENT_PANELS, METRIC_PANELS, buckets_path, ops_files, value_path
from cd4ml_nb.monitoring.record import record_nights
from cd4ml_nb.monitoring.watch import watch_failure
from cd4ml_nb.serving.events import events_folder, open_events, read_events
from cd4ml_nb.serving.live import load_champion
from cd4ml_nb.serving.news import keep_acts
from cd4ml_nb.tiny import tiny_live

sys.path.append(str(ROOT / "tests/serving"))
from shop import query, serving  # noqa: E402

OPS = ROOT / "ops"


def test_the_files_are_in_step_with_the_tables():
    for path, text in ops_files().items():
        assert (OPS / path).read_text(encoding="utf-8") == text, f"ops/{path}: make tidy writes it anew"


def test_the_stack_listens_on_this_machine_only():
    done = run(ROOT, "check-jsonschema", "--builtin-schema", "vendor.compose-spec", OPS / "compose.yaml")
    assert done.returncode == 0, done.stdout
    stack = yaml.safe_load((OPS / "compose.yaml").read_text())["services"]
    for name, service in stack.items():
        assert service["network_mode"] == "host" and "ports" not in service, name
        assert "image" not in service or re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"]), name
        for given in service.get("volumes", []):
            if given.startswith("./"):
                assert (OPS / given.split(":")[0]).exists(), given
    said = json.dumps(stack) + (OPS / "fluentd/fluent.conf").read_text()
    assert set(re.findall(r"\d+\.\d+\.\d+\.\d+", said)) == {"127.0.0.1"}
    listens = {"elasticsearch": "network.host", "kibana": "SERVER_HOST", "grafana": "GF_SERVER_HTTP_ADDR"}
    assert {stack[name]["environment"][key] for name, key in listens.items()} == {"127.0.0.1"}


def test_an_event_is_one_document_through_fluentd_too():
    said = (OPS / "fluentd/fluent.conf").read_text().split("<match ")[1]
    assert said.startswith("cd4ml.events>\n")
    for line in ("id_key id", "write_operation create", "index_name cd4ml-events-%Y.%m.%d", "timekey 1d"):
        assert re.search(rf"^ +{re.escape(line)}$", said, re.M), line


# Prometheus

NEEDS = pytest.mark.skipif(
    not (shutil.which("promtool") and shutil.which("prometheus")),
    reason="needs Prometheus (Debian and Ubuntu: apt install prometheus)",
)
SERIES = {  # Alert: what is seen each minute, and how long it takes
    "Cd4mlServiceAway": ({'up{job="cd4ml", instance="a"}': "1 0x20"}, "5m"),
    "Cd4mlAnswersLate": (
        {
            'cd4ml_request_seconds_bucket{le="1.0", route="/forecast"}': "0+0x30",
            'cd4ml_request_seconds_bucket{le="2.0", route="/forecast"}': "0+60x30",
            'cd4ml_request_seconds_bucket{le="+Inf", route="/forecast"}': "0+60x30",
        },
        "20m",
    ),
    "Cd4mlAnswersFail": (
        {'cd4ml_requests_total{status="200"}': "0+60x20", 'cd4ml_requests_total{status="500"}': "0+2x20"},
        "12m",
    ),
    "Cd4mlModelRefused": ({"cd4ml_model_refused": "0 1x20"}, "8m"),
    "Cd4mlEventsLost": ({"cd4ml_events_lost_total": "0+5x20"}, "5m"),
    "Cd4mlEventsInTrouble": ({"cd4ml_events_trouble": "0 1x20"}, "5m"),
}
WELL = {
    'up{job="cd4ml", instance="a"}': "1x30",
    'cd4ml_request_seconds_bucket{le="0.1", route="/forecast"}': "0+60x30",
    'cd4ml_request_seconds_bucket{le="+Inf", route="/forecast"}': "0+60x30",
    'cd4ml_requests_total{status="200"}': "0+60x30",
    "cd4ml_model_refused": "0x30",
    "cd4ml_events_lost_total": "0x30",
    "cd4ml_events_trouble": "0x30",
}


def alerts_of(folder, series, at):
    "What promtool says when an alert is expected for these series at some time, or none."
    listed = [{"series": name, "values": values} for name, values in series.items()]
    names = [f"Cd4ml{panel.alert}" for panel in METRIC_PANELS if panel.alert]
    asked = [{"eval_time": at, "alertname": name, "exp_alerts": []} for name in names]
    test = {"rule_files": [str(OPS / "prometheus/rules.yml")], "evaluation_interval": "1m"}
    test["tests"] = [{"interval": "1m", "input_series": listed, "alert_rule_test": asked}]
    (folder / "test.yml").write_text(yaml.safe_dump(test))
    done = subprocess.run(["promtool", "test", "rules", folder / "test.yml"], capture_output=True, text=True)
    return set(re.findall(r"alertname: (\w+)", done.stdout + done.stderr)) if done.returncode else set()


@NEEDS
def test_alerts_come_when_they_should_and_only_then(tmp_path):
    done = subprocess.run(
        ["promtool", "check", "config", OPS / "prometheus/prometheus.yml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert SERIES.keys() == {f"Cd4ml{panel.alert}" for panel in METRIC_PANELS if panel.alert}
    assert alerts_of(tmp_path, WELL, "25m") == set()
    for alert, (series, at) in SERIES.items():
        assert alerts_of(tmp_path, series, at) == {alert}, alert


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    "A project that was asked, ordered in, and has lived through some nights, one of which failed."
    root = shutil.copytree(tiny_live("2017-08-20"), tmp_path_factory.mktemp("lived") / "project")
    turn(root)
    with serving(root) as service:
        model = load_champion(root)
        store, item = model.series.loc[0, ["store_nbr", "item_nbr"]]
        day = model.card["first_day"]
        for _ in range(30):
            assert service.ask(query(item=item, store=store, date=day))[0] == 200
        kept = lambda: len(read_events(events_folder(root), kinds=["forecast"]))
        wait_for(lambda: kept() == 30)
    words = ["--store", store, "--item", item, "--days", "3", "--ordered", "24", "--reason", "event"]
    done = run(root, "cd4ml", "decisions", "record", *words, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    for _ in range(2):
        join_actuals(root, turn(root)["tonight"])
    with open_events(root) as store:
        assert all(done.result() for done in keep_acts(root, store))
    record_nights(root)
    watch_failure(root, "2017-08-24", "The sales of the day are missing.")
    return root


@contextmanager
def prometheus(folder, target):
    "Debian's Prometheus with our rules, that asks a service each second."
    config = yaml.safe_load((OPS / "prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{target}"]}]
    shutil.copy(OPS / "prometheus/rules.yml", folder)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    words = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*words, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    try:
        wait_for(lambda: answers(port), (folder / "log").read_text, process)
        yield lambda asked: json.load(
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': asked})}")
        )["data"]["result"]
    finally:
        process.kill()
        process.wait()


@NEEDS
@pytest.mark.prove
def test_every_panel_of_metrics_is_answered_by_a_real_prometheus(lived, tmp_path):
    model = load_champion(lived)
    store, item = model.series.loc[0, ["store_nbr", "item_nbr"]]
    with serving(lived) as service, prometheus(tmp_path, service.port) as ask:
        counted = lambda: [
            float(one["value"][1]) for one in ask('sum(rate(cd4ml_requests_total{route="/forecast"}[5m]))')
        ]

        def asked_and_seen():
            service.ask(query(item=item, store=store, date=model.card["first_day"]))
            time.sleep(0.3)
            return any(value > 0 for value in counted())

        wait_for(asked_and_seen)
        found = {panel.title: ask(panel.asked) for panel in METRIC_PANELS}
    assert all(found.values()), [title for title, answer in found.items() if not answer]
    value = lambda title: [one["value"][1] for one in found[title]]
    assert value("Does the service answer?") == ["1"] and value("Can events be kept?") == ["0"]
    assert {one["metric"]["model_version"] for one in found["Which models answer, and how much?"]} == {
        model.card["model_version"]
    }


# OpenSearch, as Kibana would ask it


def within(answer, path):
    "What stands at a dotted path."
    for name in path.split("."):
        answer = answer[name]
    return answer


def as_asked(body):
    "Kibana's question when its dashboard has no filter, and a span that holds everything."
    clauses = body["query"]["bool"]
    assert {one for part in clauses.values() for one in part if isinstance(one, str)} == {
        f"%dashboard_context-{name}_clause%" for name in ("must", "filter", "must_not")
    }
    kept = {name: [one for one in part if not isinstance(one, str)] for name, part in clauses.items()}
    span = json.dumps({"gte": "2000-01-01", "lte": "2100-01-01"})
    return json.loads(json.dumps(body | {"query": {"bool": kept}}).replace('{"%timefilter%": true}', span))


@pytest.mark.prove
def test_every_panel_of_events_is_answered_by_a_real_node(lived, tmp_path):
    if why := why_no_search():
        pytest.skip(why)
    objects = [json.loads(line) for line in (OPS / "kibana/cd4ml.ndjson").read_text().splitlines()]
    pictures = [json.loads(one["attributes"]["visState"]) for one in objects if one["type"] == "visualization"]
    specs = [json.loads(picture["params"]["spec"]) for picture in pictures]
    with running(SearchNode(tmp_path / "node")) as node:
        params = yaml.safe_load((lived / "params.yaml").read_text())
        (lived / "params.yaml").write_text(yaml.safe_dump(params | {"monitoring": {"ship": {"to": node.url}}}))
        done = run(lived, "cd4ml", "ship", "--once", PYTHONPATH=str(ROOT))
        assert done.returncode == 0 and "refused" not in done.stdout, done.stderr + done.stdout
        node.ask("POST", "/cd4ml-events-*/_refresh")
        for panel, spec in zip(EVENT_PANELS, specs, strict=True):
            url = spec["data"]["url"]
            status, answer = node.ask("POST", f"/{url['index']}/_search", as_asked(url["body"]))
            assert status == 200, (panel.title, answer)
            buckets = within(answer, spec["data"]["format"]["property"])
            assert buckets and spec["data"]["format"]["property"] == buckets_path(panel), panel.title
            drawn = [within(bucket, value_path(panel, n)) for bucket in buckets for n in range(len(panel.values))]
            assert any(value is not None for value in drawn), panel.title
            assert all("over" in bucket["key"] for bucket in buckets), panel.title
