"Which rows are learnt from: what hardly sells is learnt right, whatever the seed."

import numpy as np, pandas as pd, pytest
from cd4ml_nb.model.block import Block
from cd4ml_nb.model.features import draw_rows, row_chances

SELDOM, OFTEN, DAYS, HORIZON = 3_000, 20, 200, 16
SHARE = 0.05
ORIGINS = range(DAYS - 5 * HORIZON, DAYS - HORIZON, HORIZON)


@pytest.fixture(scope="module")
def block():
    "Three thousand series that sell about once in 40 days, and twenty that sell 20 a day."
    rng = np.random.default_rng(0)
    sales = rng.poisson(np.repeat([0.025, 20.0], [SELDOM, OFTEN])[:, None], (SELDOM + OFTEN, DAYS)).astype(float)
    sales[:, 100] = np.maximum(sales[:, 100], 1)  # all are on offer
    shape, ahead = sales.shape, (len(sales), DAYS + HORIZON)
    names = {"store_nbr": "1", "item_nbr": [f"item {i}" for i in range(len(sales))], "perishable": False}
    series = pd.DataFrame({**names, "family": "all", "class": "all", "type": "A"})
    pooled = np.broadcast_to(np.log1p(sales).mean(axis=0), shape)
    plan, is_open, holiday = np.zeros(ahead), np.ones(ahead, bool), np.zeros(ahead, bool)
    return Block(series, np.datetime64("2022-01-01"), sales, pooled, pooled, plan, is_open, holiday)


def told(block, seed):
    "Units that the rows drawn at an origin stand for, as a share of what was sold: of what sells seldom, and often."
    off = []
    for origin in ORIGINS:
        chance = row_chances(block, origin, HORIZON, SHARE)
        kept, _ = draw_rows(origin, seed, *chance.shape, chance, 0.3)
        sold = block.sales[:, origin + 1 : origin + 1 + HORIZON] * (chance > 0)
        stand_for = np.divide(sold, chance, out=np.zeros_like(sold), where=kept)
        off.append([stand_for[part].sum() / sold[part].sum() - 1 for part in (slice(SELDOM), slice(SELDOM, None))])
        assert kept.mean() < 1.2 * SHARE
    return np.mean(off, axis=0)


def test_what_sells_seldom_is_learnt_as_it_sold_whatever_the_seed(block):
    "One row of twenty: drawn whatever was sold, what sells seldom is off by a fifteenth, by luck."
    off = np.array([told(block, seed) for seed in range(20)])
    assert np.sqrt((off**2).mean(axis=0)).max() < 0.035, off
    assert np.abs(off.mean(axis=0)).max() < 0.02, off
