"Pairs of store and item that were never sold: what they are expected to sell, all together and one by one."

from dataclasses import replace
import numpy as np, pandas as pd, pytest
from cd4ml_nb.model import cold_start
from cd4ml_nb.model.block import Block, take_series
from cd4ml_nb.model.cold_start import cold_starts, cold_table
from cd4ml_nb.model.forecaster import load_forecaster
from cd4ml_nb.model.kernel import spread
from cd4ml_nb.quality.explain import promotion_effect, reasons, say_promotion
from copies import ROOT

HORIZON, DAYS = 16, 200


def region(seed=0, n_stores=150, n_items=160):
    "A region of small and large stores, rare and common items; what does not sell from the start begins some day."
    rng = np.random.default_rng(seed)
    likely = np.outer(rng.uniform(0.1, 1, n_stores), rng.uniform(0.1, 1, n_items))
    begins = np.where(rng.random(likely.shape) < likely, 0, rng.exponential(1000 / likely)).astype(int).ravel()
    store, item = (grid.ravel() for grid in np.meshgrid(np.arange(n_stores), np.arange(n_items), indexing="ij"))
    units = rng.poisson(0.3, (len(begins), DAYS)).astype(float)
    units[np.arange(DAYS) < begins[:, None]] = np.nan
    sold = begins < DAYS
    units[np.flatnonzero(sold), begins[sold]] = 1
    names = {"store_nbr": np.char.mod("s%02d", store), "item_nbr": np.char.mod("i%02d", item)}
    ahead = np.ones((sold.sum(), DAYS + HORIZON), bool)
    series = pd.DataFrame({name: of[sold] for name, of in names.items()})
    sales = units[sold].astype(np.float32)
    return Block(series, np.datetime64("2017-01-01"), sales, *[sales * 0] * 2, ahead * 0.0, ahead, ~ahead)


@pytest.fixture
def prepared(monkeypatch):
    "The region as if it had been prepared; what was looked up is told."
    block = region()
    monkeypatch.setattr(cold_start, "read_json", lambda path: {"first_day": "2017-01-01"})
    monkeypatch.setattr(cold_start, "read_series", lambda path: block.series)
    monkeypatch.setattr(cold_start, "panel_days", lambda path: DAYS)
    monkeypatch.setattr(
        cold_start, "series_parts", lambda series, days: [np.arange(0, len(series), 2), np.arange(1, len(series), 2)]
    )
    monkeypatch.setattr(cold_start, "load_block_once", lambda path, part: take_series(block, part))
    return block


def test_the_total_is_near_what_they_sold(prepared):
    "Of all pairs that were never sold, with the many that stayed at nothing, at three held-out origins."
    origins = [str(prepared.date(day)) for day in (135, 151, 167)]
    table = cold_table(cold_starts("", origins, HORIZON)[0]).query("stores == 'at work'")
    assert (table["started"] < 0.05 * table["pairs"]).all() and (table["started"] > 40).all()
    assert abs(table["mean"].sum() / table["units"].sum() - 1) < 0.25  # 200 starts, and luck with each
    assert (1 - table["days"] / table["pair_days"] > 0.88).all()  # so all quantiles may be 0


def test_exposure_is_the_same_for_the_learner_and_for_the_one_who_asks(prepared):
    "A store's pairs are counted without being made: their sum is that of the pairs that can be asked for."
    day = 150
    found = cold_starts("", [str(prepared.date(day))], HORIZON)[0][str(prepared.date(day))]
    met = prepared.series[(prepared.sales[:, : day + 1] > 0).any(axis=1)]
    known = spread(prepared, day)
    every = pd.MultiIndex.from_product([known.stores, known.items], names=["store_nbr", "item_nbr"])
    never = every.difference(pd.MultiIndex.from_frame(met)).to_frame(index=False)
    assert found["pairs"].sum() == len(never)
    asked = known.exposure(never["store_nbr"], never["item_nbr"])
    assert found["exposure"].sum() == pytest.approx(asked.sum() * HORIZON)


def test_nothing_after_an_origin_changes_what_it_expects(prepared):
    "The rates of an origin, and its forecast."
    day = 135
    origin = str(prepared.date(day))
    before = cold_starts("", [origin], HORIZON)
    prepared.sales[:, day + 1 :] = 7
    after = cold_starts("", [origin], HORIZON)
    assert before[1] == after[1] and before[0][origin]["mean"].equals(after[0][origin]["mean"])
    assert not before[0][origin]["units"].equals(after[0][origin]["units"])


@pytest.fixture(scope="module")
def f():
    "The tiny project's package with a rate, one pair of it never sold."
    whole = load_forecaster(ROOT / "tests/model/packages/gradient_boosting")
    whole.serving |= {"cold_start": {"mean": 0.0004, "log_mean": 0.0002}}
    return whole.with_block(take_series(whole.block, np.arange(1, len(whole.pairs))))


def test_a_pair_that_was_never_sold_gets_its_share_however_it_is_asked(f):
    store, item = load_forecaster(ROOT / "tests/model/packages/gradient_boosting").pairs.iloc[0]
    lately = f.pairs[(f.block.sales[:, f.origin - 27 : f.origin + 1] > 0).any(axis=1)]
    expected = 0.0004 * ((lately["store_nbr"] == store).sum() + 0.5) * ((lately["item_nbr"] == item).sum() + 0.5)
    answers = f.forecast(item, store)
    assert answers["mean"].max() == pytest.approx(expected) and answers["log_mean"].max() < expected
    assert (answers[["q10", "q50", "q90"]] == 0).all().all()
    asked = answers[["item_nbr", "store_nbr", "date"]]
    for promotion in ("", "yes"):
        told = f.forecast_table(asked.assign(promotion=promotion))
        assert told.pop("promotion").tolist() == [promotion] * len(asked)
        pd.testing.assert_frame_equal(told, answers)
    mixed = pd.concat([asked, f.forecast(*f.pairs.iloc[5][["item_nbr", "store_nbr"]])[list(asked)]], ignore_index=True)
    assert f.forecast_table(mixed)["mean"][: len(asked)].tolist() == answers["mean"].tolist()
    total = f.total(item, store)
    assert total["mean"] == pytest.approx(answers["mean"].sum()) and total["q90"] == 0


def test_a_sum_holds_it_once_in_the_remainder(f):
    store, item = load_forecaster(ROOT / "tests/model/packages/gradient_boosting").pairs.iloc[0]
    others = f.series.query("item_nbr == @item")["store_nbr"]
    assert store not in others.tolist()
    assert f.total(item)["mean"] == pytest.approx(sum(f.total(item, other)["mean"] for other in others))


def test_its_reason_is_told_and_no_promotion_promised(f):
    store, item = load_forecaster(ROOT / "tests/model/packages/gradient_boosting").pairs.iloc[0]
    days = f.card["first_day"], f.card["last_day"]
    (only,) = reasons(f, item, store, *days)
    assert only["units"] == f.total(item, store, *days)["mean"] and "never sold it" in only["text"]
    said = say_promotion(promotion_effect(f, item, store, f.dates), True)
    assert said == "It was never sold here, so nothing is known of it on promotion."


def test_what_has_no_rate_is_what_it_was(f):
    "An older package asks its models; one whose pairs were all sold from the start takes the class's level."
    package = load_forecaster(ROOT / "tests/model/packages/gradient_boosting")
    store, item = package.pairs.iloc[0]
    less = take_series(package.block, np.arange(1, len(package.pairs)))
    older = package.with_block(less)
    block, rows = older.block_of(item, store)
    assert rows is None and older.forecast(item, store)["mean"].tolist() == older.forecast_block(block)[0][0].tolist()
    package.serving |= {"cold_start": {}}
    none = package.with_block(replace(less))
    kind = np.expm1(np.nanmean(block.class_sales[0, package.origin - 27 : package.origin + 1]))
    assert none.forecast(item, store)["mean"].max() == pytest.approx(kind, rel=1e-3)
