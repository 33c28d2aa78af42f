"A project folder with a few registered versions of the packaged model, made without a pipeline and without MLflow."

import contextlib, json, shutil, sqlite3
from pathlib import Path
from copies import ROOT


def make_project(folder):
    "An empty project: parameters, and a registry of MLflow's with nothing but the tables that releases touch."
    folder = Path(folder)
    (folder / "reports").mkdir(parents=True)
    (folder / "data" / "mlflow").mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", folder)
    with contextlib.closing(sqlite3.connect(folder / "data" / "mlflow" / "mlflow.db")) as con, con:
        con.execute("CREATE TABLE registered_model_aliases (alias TEXT, version INTEGER, name TEXT, workspace TEXT)")
        con.execute("CREATE TABLE model_versions (name TEXT, version INTEGER, current_stage TEXT, workspace TEXT)")
    return folder


def add_version(root, version, number, passed=True, champion=None, slice_name="Grocery", releasable=True):
    "Register the packaged model of this project under another name, with a gate that says so."
    from cd4ml_nb.core import write_json
    from cd4ml_nb.delivery.registry import new_version
    from cd4ml_nb.delivery.card import write_card
    from cd4ml_nb.delivery.review import write_page
    from cd4ml_nb.model.package import _seal_of

    root, model = Path(root), ROOT / "data" / "model"
    card = json.loads((model / "forecaster.json").read_text())["card"]
    check = lambda key, title, value, limit, good: {
        "check": key,
        "title": title,
        "says": f"{title} is {value}, the limit is {limit}: {'passed' if good else 'failed'}.",
        "value": value,
        "limit": limit,
        "verdict": "passed" if good else "failed",
    }
    with new_version(root, version) as tmp:
        shutil.copytree(model, tmp / "package")
        sealed = json.loads((tmp / "package" / "forecaster.json").read_text())
        sealed["card"]["model_version"] = version
        sealed["seal"] = _seal_of(sealed)
        (tmp / "package" / "forecaster.json").write_text(json.dumps(sealed))
        write_json(
            tmp / "gate.json",
            {
                "passed": passed,
                "model_version": version,
                "data_version": card["data_version"],
                "champion": champion,
                "windows": card["windows"],
                "checks": [
                    check("absolute", "NWRMSLE", 0.634, 0.8, True),
                    check("bias", "Bias", 0.023 if passed else 0.23, 0.05, passed),
                ],
                "slices": [
                    {
                        "kind": "family",
                        "slice": slice_name,
                        "series": 40,
                        "rows": 640,
                        "nwrmsle": 0.6,
                        "naive": 0.8,
                        "champion": None,
                        "bias": 0.01,
                        "band": 0.02,
                        "verdict": "passed",
                    }
                ],
            },
        )
        write_json(tmp / "explanation.json", {})
        for name in ("metrics.json", "slices.csv"):
            shutil.copy(ROOT / "reports" / name, tmp)
        shutil.copy(root / "params.yaml", tmp)
        (tmp / "fairness.html").write_text(
            "<!DOCTYPE html><title>fairness</title><p id=p>waiting</p><script>p.textContent = 'the overview ran'; "
            "try { parent.document.title = 'broken out' } catch {}</script>"
        )
        write_card(tmp, owner="Sales planning")
        write_page(tmp, None, root)
        write_json(
            tmp / "registration.json",
            {
                "model_version": version,
                "mlflow_version": number,
                "releasable": releasable,
                "why_not": "" if releasable else "it was an experiment",
                "gate_passed": passed,
                "data_version": card["data_version"],
                "git_revision": card["git_revision"],
            },
        )
    with contextlib.closing(sqlite3.connect(root / "data" / "mlflow" / "mlflow.db")) as con, con:
        con.execute("INSERT INTO model_versions VALUES ('sales_forecast', ?, 'None', 'default')", (number,))
    return root / "data" / "registry" / version
