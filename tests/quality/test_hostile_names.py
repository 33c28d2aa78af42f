"""A shop may call its things what it likes: no name becomes markup in a report.

On a table of one's own, through all stages as the pipeline runs them.
"""

import shutil
import numpy as np, pandas as pd, pytest, yaml
from cd4ml_nb.delivery.parameters import STAGES
from cd4ml_nb.delivery.reports import write_index
from cd4ml_nb.delivery.stages import run_stage
from cd4ml_nb.tiny import TINY
from copies import ROOT

pytestmark = pytest.mark.prove

ITEM = "<script>alert(1)</script>"
FAMILY = "<img src=x onerror=alert(2)>"
STORE = "<b onmouseover=alert(3)>7</b>"
CITY = "</td></table><iframe src=javascript:alert(4)>"
HOSTILE = (ITEM, FAMILY, STORE, CITY)


def till_receipts(days=240):
    "Six items in three stores that sell with a weekly rhythm; the first of each kind has a hostile name."
    rng, dates = np.random.default_rng(0), pd.date_range("2017-01-02", periods=days)
    rows = [
        pd.DataFrame({"date": dates, "item": item, "store": store, "family": family, "class": f"{family} 1"}).assign(
            quantity=rng.poisson(3 + 2 * np.sin(np.arange(days) * 2 * np.pi / 7), days), city=city
        )
        for item, family in [(ITEM, FAMILY), ("milk & more", FAMILY), *((f"item {i}", "Dairy") for i in range(4))]
        for store, city in [(STORE, CITY), ("8", "Ghent"), ("9", "Ghent")]
    ]
    sold = pd.concat(rows, ignore_index=True)
    return sold[sold.quantity > 0]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    "A project of such receipts after its last stage, with its reports."
    root = tmp_path_factory.mktemp("hostile") / "project"
    (root / "data/source").mkdir(parents=True)
    shutil.copytree(ROOT / "nbs/stages", root / "nbs/stages")
    shutil.copytree(ROOT / "tests/contracts", root / "tests/contracts")
    sold = till_receipts()
    names = ["date", "item", "store", "quantity"]
    sold[names].to_csv(root / "data/source/sales.csv", index=False)
    sold[["item", "family", "class"]].drop_duplicates("item").to_csv(root / "data/source/items.csv", index=False)
    sold[["store", "city"]].drop_duplicates().to_csv(root / "data/source/stores.csv", index=False)
    params = yaml.safe_load(TINY)
    params["ingest"] = {"source": "table", "path": "data/source", "until": None}
    params["table"] = {
        "sales": "data/source/sales.csv",
        "query": None,
        "columns": dict(zip(names, names)),
        "items": {"table": "data/source/items.csv", "columns": {name: name for name in ("item", "family", "class")}},
        "stores": {"table": "data/source/stores.csv", "columns": {"store": "store", "city": "city"}},
    }
    params["estimators"] = {name: params["estimators"][name] for name in ("seasonal_naive", "gradient_boosting")}
    params["gate"]["slice_series"] = 1
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    for stage in STAGES:
        for given in [{"estimator": name} for name in params["estimators"]] if stage == "backtest" else [{}]:
            run_stage(stage, root, **given)
    write_index(root)
    return root


def test_no_name_becomes_markup_in_a_report(project):
    pages = sorted(project.rglob("*.html"))
    assert {f"{stage}.html" for stage in STAGES if stage != "backtest"} <= {page.name for page in pages}
    found = {
        page.name: [name for name in HOSTILE if name in page.read_text(encoding="utf-8")]
        for page in pages
        if page.name != "facets.html"  # its data are a binary message in base 64, drawn as text
    }
    assert not {name: said for name, said in found.items() if said}


def test_names_are_still_shown_as_they_are(project):
    "Escaped once: the reader sees the name, not its code."
    shown = {name: (project / "reports" / f"{name}.html").read_text(encoding="utf-8") for name in ("gate", "package")}
    assert "&lt;img src=x onerror=alert(2)&gt;" in shown["gate"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown["package"]
    assert not any("&amp;lt;" in text for text in shown.values())
