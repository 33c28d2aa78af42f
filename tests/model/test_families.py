"""Ranges of families, held against the windows of the last run: each learns from the windows before it only."""

from functools import cache
import numpy as np, pandas as pd
import pytest
from cd4ml_nb.core import project_root, read_json
from cd4ml_nb.data.panel import read_series
from cd4ml_nb.model.families import calibrate_families, family_sums
from cd4ml_nb.model.kernel import FAMILIES, FAMILY, open_curves, quantiles
from cd4ml_nb.model.remainder import item_rows

pytestmark = pytest.mark.pipeline


@cache
def shares():
    "(kind, days) -> how often 80 % intervals of so many days hold in the windows that have two or more before them."
    root, held = project_root(), {}
    series = read_series(root / "data/prepared").drop_duplicates("item_nbr").set_index("item_nbr")["family"]
    families = series.dropna().astype(str).to_dict()
    estimator = read_json(root / "data/fitted/fitted.json")["estimator"]
    table = pd.read_parquet(root / f"data/evaluation/{estimator}.parquet")
    rest = pd.read_parquet(root / "data/evaluation/remainders.parquet")
    origins = sorted(table["forecast_origin"].astype(str).unique())
    horizon, of = int(table["horizon"].max()), table["forecast_origin"].astype(str)
    left = {origin: item_rows(rest, origin) for origin in origins}
    for origin in origins[2:]:
        curves = open_curves(calibrate_families(table[of < origin], families, horizon, left))
        sums = family_sums(table[of == origin], families, horizon, left[origin])
        for kind in (FAMILY, FAMILIES):
            found = sums[kind]["all_stores"]
            for days in (1, horizon):
                sold, said = (
                    np.add.reduceat(units, range(0, horizon, days), axis=1) for units in (found.sold, found.said)
                )
                known = np.isfinite(sold) & (said > 0)
                q = quantiles(curves[kind], said[known], False, None, days)
                inside = (q[:, 0] <= sold[known]) & (sold[known] <= q[:, 2])
                held.setdefault((kind, days == 1), []).append(inside)
    return {key: np.concatenate(parts) for key, parts in held.items()}


@pytest.mark.parametrize("kind, single, low, high", [(FAMILY, False, 0.75, 0.86), (FAMILIES, True, 0.75, 0.85)])
def test_ranges_of_families_hold(kind, single, low, high):
    "A store's family over the horizon, and each family's single days in all stores: 80 %, a count's a little more."
    inside = shares()[kind, single]
    luck = 2 * (0.16 / len(inside)) ** 0.5
    assert low - luck <= inside.mean() <= high + luck, f"{inside.mean():.3f} of {len(inside)}"


def test_the_horizon_of_all_stores():
    "There are few of these sums, and they share their windows: twice the luck of as many by chance."
    inside = shares()[FAMILIES, False]
    assert abs(inside.mean() - 0.8) <= 0.05 + 4 * (0.16 / len(inside)) ** 0.5, f"{inside.mean():.3f} of {len(inside)}"
