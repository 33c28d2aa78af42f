"Items' factors of made-up cafés whose truth is known, and origins of few series."

import numpy as np, pandas as pd, pytest
from cd4ml_nb.model.features import days_between, training_origins
from cd4ml_nb.model.levels import learn_levels, window_levels

DAYS, WINDOWS = 14, 6


def cafe(seed, off):
    "Windows of nine ordinary goods, forecast right, and of three standing orders whose forecasts are off by a share."
    rng = np.random.default_rng(seed)
    level = np.r_[np.exp(rng.uniform(np.log(5), np.log(60), 9)), [10.0, 24.0, 35.0]]
    uneven = np.r_[0.4 * np.sqrt(1 / level[:9] + 1 / 5), [0.01] * 3]  # of counts with a variance of m + m² ÷ 5
    said = level * np.r_[np.ones(9), np.full(3, 1 + off)]
    each = lambda values: np.repeat(values, DAYS)
    windows = []
    for _ in range(WINDOWS):
        chance = rng.negative_binomial(5, 5 / (5 + level[:9, None]), (9, DAYS))
        steady = level[9:, None] + rng.choice([-1, 0, 0, 0, 0, 0, 0, 0, 0, 1], (3, DAYS))
        named = {"item_nbr": each(np.arange(12).astype(str)), "mean": each(said), "dispersion": each(uneven)}
        windows.append(window_levels(pd.DataFrame({**named, "unit_sales": np.concatenate([chance, steady]).ravel()})))
    factors = learn_levels(windows)
    return np.array([factors.get(str(item), 1.0) for item in range(12)]) * said / level - 1


@pytest.mark.parametrize("off", [-0.04, 0.0, 0.03])
def test_a_standing_order_gets_its_level_and_ordinary_goods_keep_theirs(off):
    "What hardly varies shows in a few weeks what it is, whatever happens beside it; what varies much does not."
    wrong = np.abs([cafe(seed, off) for seed in range(20)])
    assert wrong[:, 9:].mean() < 0.01, wrong[:, 9:].mean()
    assert wrong[:, :9].mean() < 0.03, wrong[:, :9].mean()


def test_a_forecast_of_nothing_has_a_factor():
    "A product that always sold nothing of nothing, and one that is forecast with nothing and sells."
    nothing = pd.DataFrame({"item_nbr": ["a", "b"], "unit_sales": [0.0, 2.0], "mean": 0.0, "dispersion": [1.0, 0.0]})
    factors = learn_levels([window_levels(nothing)])
    assert all(0.7 < factor < 1.5 for factor in factors.values()), factors


@pytest.mark.parametrize("series, days", [(1, 4), (12, 4), (156, 4), (200, 8), (400, 16), (24_000, 16)])
def test_of_few_series_is_learnt_at_more_origins_and_windows_share_them(series, days):
    "No more rows in 16 days than 10,000 where there are more origins; those of one window are among the next one's."
    found = days_between(16 * series, 16, 10_000)
    assert found == days and (found == 16 or 16 // found * 16 * series <= 10_000)
    one, other = (set(training_origins(last, 16, 56, found)) for last in (400, 416))
    assert one < other
