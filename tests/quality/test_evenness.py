"""Intervals know how evenly a series sells, on the last run: milk that sells daily is not what is bought in bulk."""

import numpy as np, pandas as pd, pytest
from copies import ROOT
from cd4ml_nb.model.forecaster import load_forecaster
from cd4ml_nb.model.intervals import calibrate_sums, window_sums
from cd4ml_nb.model.kernel import dispersion, open_curves, quantiles

pytestmark = pytest.mark.pipeline
KEYS = ["store_nbr", "item_nbr"]


@pytest.fixture(scope="module")
def windows():
    "The forecasts of the served estimator by window, in time order, and the windows that are judged."
    estimator = load_forecaster(ROOT / "data/model").card["estimator"]
    columns = ["forecast_origin", *KEYS, "horizon", "unit_sales", "mean", "whole", "dispersion", "role"]
    table = pd.read_parquet(ROOT / f"data/evaluation/{estimator}.parquet", columns=columns)
    of_each = dict(list(table.groupby("forecast_origin", sort=True)))
    return of_each, [origin for origin, part in of_each.items() if part["role"].iloc[0] == "evaluation"]


def worst(windows, days, told=lambda table: table):
    "By how many points the quantiles of sums over days miss by group, at most; `told` may hide what a table knows."
    of_each, judged = windows
    off = []
    for origin in judged:
        earlier = [window_sums(told(of_each[other]), 16, levels=("series",)) for other in of_each if other < origin]
        mine = told(of_each[origin])
        mine = mine[mine["horizon"] <= days]
        sums = mine.groupby(KEYS).agg(sold=("unit_sales", "sum"), mean=("mean", "sum"), uneven=("dispersion", "first"))
        flags = mine.groupby(KEYS)["whole"].first().to_numpy()
        curves = open_curves(calibrate_sums(earlier, [days], ("series",)))["series"]
        q = quantiles(curves, sums["mean"], flags, sums["uneven"].to_numpy(float), days)
        true = of_each[origin].groupby(KEYS)["dispersion"].first().to_numpy()
        off.append(pd.DataFrame({"sold": sums["sold"].to_numpy(), "mean": sums["mean"].to_numpy(), "uneven": true}))
        off[-1][["q10", "q50", "q90"]] = q
    every = pd.concat(off)
    often = every[every["mean"] >= 2 * days]
    place = often["uneven"].rank(method="first", pct=True)
    thirds = [part for _, part in often.groupby(np.ceil(place * 3))]
    missed = [
        max((part["sold"] < part[name]).mean() - level, level - (part["sold"] <= part[name]).mean())
        for part in thirds
        for name, level in (("q10", 0.1), ("q50", 0.5), ("q90", 0.9))
    ]
    return max(missed), len(often)


@pytest.mark.parametrize("days", [1, 3, 7])
def test_quantiles_hold_for_even_and_for_uneven_sellers(windows, days):
    "Within five points where two units a day or more are expected; those that know the mean alone do not."
    off, count = worst(windows, days)
    blind, _ = worst(windows, days, lambda table: table.assign(dispersion=0.5))
    assert count > 200 and off <= 0.05 and blind > off + 0.02, (count, off, blind)


def test_what_the_package_knows_of_a_series_is_what_its_past_says():
    "The state that travels is long enough: the dispersion served is that of the whole panel."
    from cd4ml_nb.model.loading import load_block

    f, panel = load_forecaster(ROOT / "data/model"), load_block(ROOT / "data/prepared")
    rows = panel.series.set_index(KEYS).index.get_indexer(pd.MultiIndex.from_frame(f.pairs))
    there = dispersion(panel, panel.day(f.card["forecast_origin"]))[rows]
    assert (rows >= 0).all() and np.abs(there - f.dispersion).max() < 1e-6 and there.std() > 0.05
