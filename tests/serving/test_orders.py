"Order lists of the packaged model: service levels held against the last run's forecasts, and how long a list takes."

import time
import numpy as np, pandas as pd
import pytest
from copies import ROOT
from cd4ml_nb.model.forecaster import load_forecaster
from cd4ml_nb.model.kernel import quantiles, sum_quantiles
from cd4ml_nb.serving.orders import order_list, said_of

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def forecaster():
    found = load_forecaster(ROOT / "data/model")
    found.plan()
    return found


LEVELS = (0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99)


@pytest.fixture(scope="module")
def judged(forecaster):
    "What was sold and forecast on each of the 16 days of the judged windows, (n, 16), and how each series sells."
    table = pd.read_parquet(
        ROOT / f"data/evaluation/{forecaster.card['estimator']}.parquet", filters=[("role", "!=", "calibration")]
    ).astype({"store_nbr": str, "item_nbr": str})
    keys = ["forecast_origin", "store_nbr", "item_nbr"]
    sold, mean = (table.pivot(index=keys, columns="horizon", values=name).dropna() for name in ("unit_sales", "mean"))
    uneven = table.groupby(keys)["dispersion"].first().loc[sold.index]
    whole = forecaster.whole[forecaster.rows_of(sold.index.to_frame(index=False))]
    return sold.to_numpy(), mean.to_numpy(), whole, uneven.to_numpy(float)


@pytest.mark.parametrize("days", [1, 3, 7, 16])
def test_every_service_level_holds_as_often_as_it_says(forecaster, judged, days):
    "Within two points, 90 and 95 % within one, 99 % as 98.3 to 99.4: sums of 0.5 units or more expected, unrounded."
    sold, mean, whole, uneven = judged
    q = sum_quantiles(forecaster.curves["series"], mean[:, :days], np.zeros(len(sold), bool), uneven, 1, LEVELS)
    # counts are spread evenly over their unit, as they were when they were learnt
    there = sold[:, :days].sum(axis=1) + np.where(whole, np.random.default_rng(0).random(len(sold)) - 0.5, 0)
    enough = mean[:, :days].sum(axis=1) >= 0.5
    held = {level: (there <= own)[enough].mean() for level, own in zip(LEVELS, q.T)}
    assert enough.sum() > 1_000 and 0.983 <= held[0.99] <= 0.994, held
    assert all(abs(share - level) <= 0.01 for level, share in held.items() if 0.9 <= level <= 0.95), held
    lower = {} if days == 1 else {level: share for level, share in held.items() if level < 0.9}  # of a day, many are 0
    assert all(abs(share - level) <= 0.02 for level, share in lower.items()), held


def test_no_sum_falls_with_a_further_day_nor_with_a_higher_level(forecaster):
    "Of any series, from any day on; each number of days alone does fall for some."
    f, found = forecaster, forecaster.arrays()
    rows = f.rows_of(pd.DataFrame({name: found[name] for name in ("store_nbr", "item_nbr")}))
    habits, levels = (f.whole[rows], f.dispersion[rows]), (0.1, 0.3, 0.5, 0.9, 0.95, 0.975, 0.99)
    for first in (1, 8):
        daily = found["mean"][:, first - 1 :]
        counts = range(1, daily.shape[1] + 1)
        sums = [sum_quantiles(f.curves["series"], daily[:, :days], *habits, first, levels) for days in counts]
        assert (np.diff(sums, axis=0) >= 0).all() and (np.diff(sums, axis=2) >= 0).all()
    alone = [quantiles(f.curves["series"], found["mean"][:, :days].sum(axis=1), *habits, days) for days in range(2, 17)]
    assert (np.diff(alone, axis=0) < 0).any()


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
