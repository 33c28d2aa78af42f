"Intervals of made-up goods whose truth is known, and packages whose intervals cannot be."

import json, shutil
import numpy as np, pytest
from cd4ml_nb.core import UserError
from cd4ml_nb.model.block import Block
from cd4ml_nb.model.forecaster import load_forecaster
from cd4ml_nb.model.intervals import Sums, calibrate_sums
from cd4ml_nb.model.kernel import dispersion, open_curves, sum_quantiles, told_levels
from cd4ml_nb.model.package import _seal_of
from copies import ROOT

HORIZON, DAYS, WINDOWS = 16, 140, 4


def small_panel(seed):
    "Two standing orders of 40 a day, give or take 2, among 30 goods that sell in sixes: curves, levels and dispersion."
    rng = np.random.default_rng(seed)
    level = np.r_[40, 40, np.exp(rng.uniform(np.log(2), np.log(40), 30))]

    def sell(days):
        even = np.round(rng.normal(40, 2, (2, days)))
        return np.concatenate([even, rng.poisson(level[2:, None] / 6, (30, days)) * 6.0])

    past, is_open = sell(DAYS), np.ones((32, DAYS), bool)
    uneven = dispersion(Block({}, np.datetime64("2017-01-02"), *[past] * 4, is_open, is_open), DAYS - 1)
    windows = []
    for _ in range(WINDOWS):  # the level is never quite known
        said = np.repeat(level[:, None] * np.exp(rng.normal(0, 0.03, (32, 1))), HORIZON, axis=1)
        windows.append({"series": Sums(sell(HORIZON), said, np.ones(32, bool), uneven)})
    curves = open_curves(calibrate_sums(windows, list(range(1, HORIZON + 1)), ("series",)))["series"]
    return curves, level, uneven, sell(400)


@pytest.mark.parametrize("days", [1, 3, 7, 16])
def test_a_standing_order_among_uneven_goods_is_as_sure_as_it_is(days):
    "Its range is no wider than chance and a level that is 3 % off make it, and holds; so do the uneven goods'."
    held, widths = [], []
    for seed in range(5):
        curves, level, uneven, sold = small_panel(seed)
        daily = np.repeat(level[:, None], days, axis=1)
        low, _, high = sum_quantiles(curves, daily, np.ones(32, bool), uneven, 1).T
        sums = sold[:, : 400 // days * days].reshape(32, -1, days).sum(axis=2)
        held.append(((sums >= low[:, None]) & (sums <= high[:, None])).mean(axis=1))
        widths.append((high - low)[:2])
    held, true = np.array(held), 2 * 1.2816 * np.hypot(2 * np.sqrt(days), 0.03 * 40 * days)
    assert np.max(widths) <= 1.2 * true + 1 and held[:, :2].mean() > 0.75, (np.max(widths), true, held[:, :2].mean())
    assert 0.75 < held[:, 2:].mean() < 0.95, held[:, 2:].mean()


def small_shop(seed, ordinary, even):
    "Goods that sell by chance and others that hardly vary: curves, true levels, dispersion, and 4,000 true horizons."
    rng = np.random.default_rng(seed)
    level = np.r_[np.exp(rng.uniform(np.log(2), np.log(30), ordinary)), [12.0, 24.0, 40.0][:even]]
    count = len(level)

    def sell(*shape):
        chance = rng.poisson(np.broadcast_to(level[:ordinary, None], (*shape[:-1], ordinary, shape[-1])))
        steady = level[ordinary:, None] + np.round(rng.normal(0, 0.4, (*shape[:-1], even, shape[-1])))
        return np.concatenate([chance, steady], axis=-2).astype(float)

    is_open = np.ones((count, DAYS), bool)
    uneven = dispersion(Block({}, np.datetime64("2017-01-02"), *[sell(DAYS)] * 4, is_open, is_open), DAYS - 1)
    windows = []
    for _ in range(6):  # the level that is forecast is off by some per cent, for all days of a window
        said = np.repeat(level[:, None] * np.exp(rng.normal(0, 0.04, (count, 1))), HORIZON, axis=1)
        windows.append({"series": Sums(sell(HORIZON), said, np.ones(count, bool), uneven)})
    knots = calibrate_sums(windows, list(range(1, HORIZON + 1)), ("series",))
    return knots, level, uneven, sell(4000, HORIZON)


@pytest.mark.parametrize("ordinary, even", [(9, 3), (2, 1), (1, 0)])
def test_high_service_levels_of_a_small_shop_are_about_what_they_say(ordinary, even):
    "What is enough 95 or 99 times in 100, for a day to 16, is near the truth, also beside very even goods; it holds."
    levels, found, held = (0.95, 0.99), [], []
    for seed in range(8):
        knots, level, uneven, true = small_shop(seed, ordinary, even)
        curves = open_curves(knots)["series"]
        for days in (1, 3, 7, 14, 16):
            daily = np.repeat(level[:, None], days, axis=1)
            enough = sum_quantiles(curves, daily, np.ones(len(level), bool), uneven, 1, levels)[:ordinary].T
            sums = true[:, :ordinary, :days].sum(axis=2)
            found.append(enough / np.quantile(sums, levels, axis=0))
            held.append((sums <= enough[:, None]).mean(axis=(1, 2)))
    found, held = np.array(found), np.mean(held, axis=0)
    assert found.max() < 1.75 and 0.95 < np.median(found) < 1.15, (found.max(), np.median(found))
    assert held[0] > 0.92 and held[1] > 0.965, held


def test_what_so_few_sums_cannot_tell_is_known():
    "Twelve goods in six windows: of 14 days in a row there are 72 sums that share none, of which 7 lie above 0.9."
    curves = open_curves(small_shop(0, 9, 3)[0])["series"]
    assert told_levels(curves, 14) == (0.1, 0.3, 0.5, 0.7, 0.8) and told_levels(curves, 1)[-1] == 0.95


def test_a_package_of_27_november_answers_as_it_did():
    "Its quantiles, called deviations, are in a unit without the share of the level; numbers of when it was made."
    deviation = [[[-1.3, -0.5, 0.0, 0.5, 0.9, 1.3, 1.7, 2.4]], [[-1.2, -0.5, 0.0, 0.5, 0.8, 1.2, 1.6, 2.2]]]
    knots = {"mean": [4.0, 40.0], "dispersion": [[0.4], [0.4]], "deviation": deviation}
    curves = open_curves({"series": {"1 week 1": knots, "7": knots}})["series"]
    daily, uneven = np.array([[40.0] * 7, [4.0] * 7, [8.5] * 7]), np.array([0.02, 0.5, 0.3])
    q = sum_quantiles(curves, daily, np.array([True, True, False]), uneven, 1, (0.1, 0.5, 0.9, 0.95, 0.975, 0.99))
    assert np.allclose(q, OF_BEFORE) and told_levels(curves, 7)[-1] == 0.99


OF_BEFORE = [[273, 280, 287, 289, 290, 292], [12, 28, 44, 50, 54, 58], [38.9, 59.5, 80.1, 86.96667, 91.7292, 97.26667]]
PACKAGE = ROOT / "tests/model/packages/gradient_boosting"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda knots: knots["ratio"][0].reverse(),
        lambda knots: knots["ratio"][0].__setitem__(0, -0.5),
        lambda knots: knots["ratio"][0].__setitem__(1, float("nan")),
        lambda knots: knots["ratio"][0].pop(),
        lambda knots: knots["mean"].pop(),
        lambda knots: knots["mean"].reverse(),
        lambda knots: knots.pop("ratio"),
        lambda knots: knots.update(dispersion=[[0.5]]),
        lambda knots: knots.update(ratio=3),
        lambda knots: knots.update(sums=0),
        lambda knots: knots.update(sums="many"),
    ],
)
def test_a_package_with_a_right_seal_and_senseless_intervals_is_refused(tmp_path, wrong):
    "Somebody who repairs a file by hand can seal nonsense, too."
    folder = shutil.copytree(PACKAGE, tmp_path / "model")
    told = json.loads((folder / "forecaster.json").read_text())
    wrong(told["serving"]["calibration"]["series"]["3"])
    (folder / "forecaster.json").write_text(json.dumps({**told, "seal": _seal_of(told)}))
    with pytest.raises(UserError, match=r"refused: its intervals make no sense \(series, 3: .*Restore it with"):
        load_forecaster(folder)
