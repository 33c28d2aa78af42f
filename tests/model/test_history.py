"How much of a series is known is said in every answer."

import json
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
import numpy as np, pandas as pd, pytest
from cd4ml_nb.cli.forecast import forecast
from cd4ml_nb.model.block import take_series
from cd4ml_nb.model.forecaster import load_forecaster
from cd4ml_nb.model.package import read_state, write_state
from copies import ROOT

MODEL = ROOT / "tests/model/packages/gradient_boosting"


@pytest.fixture(scope="module")
def f():
    "The tiny project's package: its first series is new, its second one was never sold."
    whole = load_forecaster(MODEL)
    first = np.full(len(whole.pairs), np.datetime64("2001-01-01"))
    first[0] = whole.block.date(whole.origin - 55)
    series = whole.block.series.assign(first_sale=first)
    return whole.with_block(take_series(replace(whole.block, series=series), np.arange(len(first)) != 1))


@pytest.fixture(scope="module")
def pairs(f):
    "A short, a full and a missing history: (store, item)."
    missing = load_forecaster(MODEL).pairs.iloc[1]
    known = [tuple(f.pairs.iloc[row]) for row in (0, 1)]
    return {"short": known[0], "full": known[1], "none": tuple(missing)}


def told(f, monkeypatch, *words, **asked):
    "What the command prints of a model that is not the live one: what that says is nobody's record."
    monkeypatch.setattr("cd4ml_nb.cli.forecast._model", lambda folder: f)
    with redirect_stdout(StringIO()) as out:
        forecast(*words, model=MODEL, **asked)
    return out.getvalue()


def test_every_way_of_asking_says_it(f, pairs):
    day = f.card["first_day"]
    for history, (store, item) in pairs.items():
        assert f.answer(item, store, day)["history"] == f.history(item, store) == history
        assert f.answer(item, store, day, True)["history"] == history
        assert f.arrays(item, store)["history"].tolist() == [history]
        assert set(f.forecast(item, store)["history"]) == {history}
    asked = pd.DataFrame([{"store_nbr": s, "item_nbr": i, "date": day} for s, i in pairs.values()])
    for promotion in ("", "yes", ["yes", "", "no"]):
        assert f.forecast_table(asked.assign(promotion=promotion))["history"].tolist() == list(pairs)
    fields = list(f.answer(*reversed(pairs["none"]), day))
    assert fields[fields.index("log_mean") + 1] == "history"


def test_the_command_says_it_in_json_words_and_files(f, pairs, monkeypatch, tmp_path):
    day = f.card["first_day"]
    words = {"none": "No history: never sold in store", "short": "Short history: first sold in store", "full": ""}
    for history, (store, item) in pairs.items():
        assert json.loads(told(f, monkeypatch, item=item, store=store, date=day, json=True))["history"] == history
        said = told(f, monkeypatch, item=item, store=store, date=day)
        assert words[history] in said and ("history:" in said) == bool(words[history])
    everywhere = json.loads(told(f, monkeypatch, item=pairs["short"][1], date=day, json=True))
    by_store = f.forecast(pairs["short"][1], None, day)["mean"].sum()
    assert everywhere["history"] == "full" and everywhere["mean"] == pytest.approx(
        by_store + everywhere["other_stores"], abs=1e-6
    )
    asked = pd.DataFrame([{"store_nbr": s, "item_nbr": i, "date": day} for s, i in pairs.values()])
    asked.to_csv(tmp_path / "asked.csv", index=False)
    for name in ("answers.csv", "answers.parquet"):
        told(f, monkeypatch, input=tmp_path / "asked.csv", output=tmp_path / name)
    read = pd.read_csv(tmp_path / "answers.csv"), pd.read_parquet(tmp_path / "answers.parquet")
    assert all(answers["history"].tolist() == list(pairs) for answers in read)


def test_the_state_remembers_a_first_sale_before_its_days(f, tmp_path):
    "A product that came back after a year is not new, though the last days show no sale before."
    back = f.block.sales.copy()
    back[2, : f.origin - 9] = np.nan
    write_state(tmp_path / "state.parquet", replace(f.block, sales=back))
    kept = f.with_block(read_state(tmp_path / "state.parquet"))
    assert kept.histories.tolist() == f.histories.tolist() == ["short"] + ["full"] * (len(f.pairs) - 1)


def test_an_older_state_knows_that_what_it_holds_was_sold(f, tmp_path):
    "It has no day of the first sale: what its last days show as new is new, what they do not show sold before."
    silent, columns = f.block.sales.copy(), f.block.series.drop(columns="first_sale")
    silent[0], silent[1, : f.origin - 9] = np.nan, np.nan
    write_state(tmp_path / "state.parquet", replace(f.block, series=columns, sales=silent))
    assert f.with_block(read_state(tmp_path / "state.parquet")).histories[:3].tolist() == ["full", "short", "full"]
