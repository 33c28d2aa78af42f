"Order lists of the packaged model: service levels held against the last run's forecasts, and how long a list takes."

import time
import numpy as np, pandas as pd
import pytest
from copies import ROOT
from cd4ml_nb.model.forecaster import load_forecaster
from cd4ml_nb.model.kernel import find_knots, knot_ratios
from cd4ml_nb.serving.orders import order_list, ratio_at, said_of

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def forecaster():
    found = load_forecaster(ROOT / "data/model")
    found.plan()
    return found


def window_sums(f, days):
    "Sold and forecast units of each series, summed over the first days of each window, and how it sells."
    table = pd.read_parquet(
        ROOT / f"data/evaluation/{f.card['estimator']}.parquet", filters=[("role", "!=", "calibration")]
    )
    ahead = (pd.to_datetime(table["date"]) - pd.to_datetime(table["forecast_origin"])).dt.days
    own = table[(ahead <= days).to_numpy()]
    own = own[own.groupby(["forecast_origin", "store_nbr", "item_nbr"])["unit_sales"].transform("count") == days]
    of_each = {"unit_sales": ("unit_sales", "sum"), "mean": ("mean", "sum"), "dispersion": ("dispersion", "first")}
    sums = own.groupby(["forecast_origin", "store_nbr", "item_nbr"]).agg(**of_each).reset_index()
    sums = sums[sums["mean"] > 0].astype({"store_nbr": str, "item_nbr": str})
    numbers = (sums[name].to_numpy(float) for name in of_each)
    return *numbers, f.whole[f.rows_of(sums)]


@pytest.mark.parametrize("days", [3, 16])
def test_a_service_level_between_and_beyond_the_calibrated_ones_holds(forecaster, days):
    "As often as it says, give or take two points; counts are spread evenly over their unit, as in the calibration."
    sold, mean, uneven, whole = window_sums(forecaster, days)
    ratios = knot_ratios(find_knots(forecaster.serving["calibration"]["series"], days), mean, uneven)
    there = (sold + np.where(whole, np.random.default_rng(0).random(len(sold)), 0.5)) / (mean + 1)
    held = {level: (there <= ratio_at(ratios, level)).mean() for level in (0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99)}
    assert len(sold) > 1_000 and all(abs(share - level) <= 0.02 for level, share in held.items()), held


def test_the_list_of_a_large_store_takes_no_time(forecaster):
    store = forecaster.series["store_nbr"].value_counts().index[0]
    seconds = []
    for days in (3, 2, 7, 16, 5):
        start = time.perf_counter()
        orders = order_list(forecaster, store, days, 0.95)
        seconds.append(time.perf_counter() - start)
    assert len(orders.table) == (forecaster.series["store_nbr"] == store).sum() > 100
    assert min(seconds) <= 0.05, seconds


def test_a_list_says_what_the_forecaster_says(forecaster):
    "Mean and 80 % range of each sum are those that the dashboard shows; more service is never fewer units."
    store = forecaster.series["store_nbr"].value_counts().index[0]
    lists = {level: order_list(forecaster, store, 4, level) for level in (0.5, 0.8, 0.9, 0.95)}
    table = lists[0.9].table
    for row in table.sample(25, random_state=0).itertuples():
        told = forecaster.total(row.item_nbr, store, lists[0.9].first_day, lists[0.9].last_day)
        assert np.allclose([row.mean, row.low, row.high], [told["mean"], told["q10"], told["q90"]])
    ordered = np.stack([orders.table["suggested"] for orders in lists.values()])
    assert (np.diff(ordered, axis=0) >= 0).all()
    assert np.array_equal(table["suggested"], table["quantile"]) and said_of(lists[0.9], row.item_nbr).mean == row.mean


def test_the_list_of_an_ended_store_says_why_it_asks_for_nothing(forecaster):
    "In words before all else, and in each row of what programs read."
    from cd4ml_nb.cli.orders import in_words
    from cd4ml_nb.serving.orders import with_decisions

    store = next(store for store in forecaster.index.by_store if forecaster.ended(None, store))
    found = order_list(forecaster, store, 3)
    assert len(found.table) and set(found.table["note"]) == {forecaster.ended(None, store)}
    head, reason, *_ = in_words(found, with_decisions(found, [])).splitlines()
    assert head.endswith("nothing need be ordered.") and reason == forecaster.ended(None, store)
