"Intervals of made-up goods whose truth is known, and packages whose intervals cannot be."

import json, shutil
import numpy as np, pytest
from cd4ml_nb.core import UserError
from cd4ml_nb.model.block import Block
from cd4ml_nb.model.forecaster import load_forecaster
from cd4ml_nb.model.intervals import Sums, calibrate_sums
from cd4ml_nb.model.kernel import dispersion, open_curves, sum_quantiles
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
    "Its range is at most twice as wide as the true one, and holds; the uneven goods' ranges hold as before."
    held, widths = [], []
    for seed in range(5):
        curves, level, uneven, sold = small_panel(seed)
        daily = np.repeat(level[:, None], days, axis=1)
        low, _, high = sum_quantiles(curves, daily, np.ones(32, bool), uneven, 1).T
        sums = sold[:, : 400 // days * days].reshape(32, -1, days).sum(axis=2)
        held.append(((sums >= low[:, None]) & (sums <= high[:, None])).mean(axis=1))
        widths.append((high - low)[:2])
    held, true = np.array(held), 2 * 1.2816 * 2 * np.sqrt(days)
    assert np.max(widths) <= 2 * true + 1 and held[:, :2].mean() > 0.75, (np.max(widths), true, held[:, :2].mean())
    assert 0.75 < held[:, 2:].mean() < 0.95, held[:, 2:].mean()


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
