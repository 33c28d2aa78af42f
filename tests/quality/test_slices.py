"""Scores by slice survive the way through a file, whatever a shop calls its things,

And files of older versions are read.
"""

import json, subprocess
import pandas as pd, pytest
from cd4ml_nb.core import UserError
from cd4ml_nb.quality.metrics import score_terms
from cd4ml_nb.quality.slices import read_slices, slice_scores, write_slices
from copies import ROOT

NAMES = ["NA", "null", "", "Bread, fresh", 'the "best"', "two\nlines", "Käse", "=1+1", "<b>"]


@pytest.fixture(scope="module")
def scores():
    rows = [{"store_nbr": str(i), "family": name, "mean": 1.0 + i} for i, name in enumerate(NAMES)]
    table = pd.DataFrame(rows).assign(
        forecast_origin="2017-03-10",
        item_nbr="milk",
        unit_sales=2.0,
        weight=1.0,
        q10=0.0,
        q50=1.0,
        q90=4.0,
        log_mean=1.0,
    )
    return {"ets": slice_scores(score_terms(table), pd.DataFrame({"family": table["family"], "item age": "known"}))}


def test_every_name_survives_and_every_number_keeps_four_decimals(scores, tmp_path):
    write_slices(tmp_path, scores)
    found = read_slices(tmp_path)["ets"]["family"]
    assert set(found) == set(NAMES)
    for name in NAMES:
        assert found[name] == json.loads(
            json.dumps(scores["ets"]["family"][name]), parse_float=lambda x: round(float(x), 4)
        )


def test_the_file_is_sorted_and_the_last_digits_of_another_machine_change_nothing(scores, tmp_path):
    write_slices(tmp_path, scores)
    before = (tmp_path / "slices.csv").read_bytes()
    other = json.loads(json.dumps(scores), parse_float=lambda x: float(x) * (1 + 1e-7))
    write_slices(tmp_path, {name: dict(reversed(kinds.items())) for name, kinds in other.items()})
    assert (tmp_path / "slices.csv").read_bytes() == before


def test_an_older_file_is_read_and_a_damaged_one_is_said(scores, tmp_path):
    (tmp_path / "slices.json").write_text(json.dumps(scores))
    assert read_slices(tmp_path) == scores
    (tmp_path / "slices.csv").write_text("estimator,kind,slice,rows\nets,family,Dairy,many\n")
    with pytest.raises(UserError, match="damaged. Make it again with: make pipeline"):
        read_slices(tmp_path)
    with pytest.raises(UserError, match="missing. Make it again with: make pipeline"):
        read_slices(tmp_path / "nowhere")


def test_generated_files_are_marked_so():
    "On a page that shows a change, and in statistics of languages, they are folded away."
    files = ["cd4ml_nb/core.py", "README.md", "dvc.lock", "reports/gate.json", "reports/slices.csv", "nbs/core.ipynb"]
    asked = subprocess.run(
        ["git", "check-attr", "linguist-generated", *files], cwd=ROOT, capture_output=True, text=True, check=True
    )
    marked = dict(line.split(": linguist-generated: ") for line in asked.stdout.splitlines())
    assert marked == {**dict.fromkeys(files, "true"), "nbs/core.ipynb": "unspecified"}
