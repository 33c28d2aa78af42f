"What the packaged model does when one thing changes: promotion, closed days, order, scale, seed, a new pair."

from dataclasses import replace
import numpy as np, pandas as pd, pytest
from cd4ml_nb.core import read_params
from cd4ml_nb.model.block import take_series
from cd4ml_nb.model.kernel import item_factors
from cd4ml_nb.model.loading import load_block
from cd4ml_nb.model.estimators import make_estimator
from cd4ml_nb.model.forecaster import load_forecaster
from cd4ml_nb.delivery.onnx import to_onnx
from copies import ROOT

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def forecaster():
    return load_forecaster(ROOT / "data/model")


@pytest.fixture(scope="module")
def block():
    return load_block(ROOT / "data/prepared")


def with_block(forecaster, block):
    "The same model on another state."
    return forecaster.with_block(block)


def test_a_promotion_sells_more(forecaster):
    without, promoted = (forecaster.forecast(promotion=answer)["mean"] for answer in (False, True))
    assert promoted.sum() > 1.01 * without.sum()
    assert (promoted >= without * 0.98).mean() > 0.8


def test_a_switch_changes_all_stores_and_days_of_a_product_alike(forecaster):
    without, promoted = (forecaster.forecast(promotion=answer) for answer in (False, True))
    knows_both = [
        not (forecaster.switch_note(item, None, True) or forecaster.switch_note(item, None, False))
        for item in forecaster.items["item_nbr"]
    ]
    sells = (without["mean"] > 0) & without["item_nbr"].isin(forecaster.items["item_nbr"][knows_both])
    lift = (promoted["mean"] / without["mean"])[sells].groupby(without["item_nbr"][sells])
    assert (lift.max() - lift.min()).max() < 1e-9
    assert sum(knows_both) > 100 and lift.max().max() > 1.05


def test_nothing_sells_on_a_closed_day(forecaster):
    closed = forecaster.block.is_open.copy()
    closed[:, forecaster.origin + 3] = False
    answer = with_block(forecaster, replace(forecaster.block, is_open=closed)).forecast()
    third = answer["horizon"] == 3
    assert (answer.loc[third, ["mean", "q10", "q50", "q90", "log_mean"]] == 0).all().all()
    assert (answer.loc[~third, "mean"] > 0).mean() > 0.99


def test_the_order_of_series_does_not_matter(forecaster):
    order = np.random.default_rng(0).permutation(len(forecaster.pairs))
    keys = ["store_nbr", "item_nbr", "date"]
    mixed = with_block(forecaster, take_series(forecaster.block, order)).forecast().sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(mixed, forecaster.forecast().sort_values(keys, ignore_index=True))


def test_a_batch_of_all_series_in_any_order_gets_each_its_own(forecaster):
    asked = forecaster.series[::-1].assign(date=forecaster.card["last_day"])
    answer = load_forecaster(ROOT / "data/model").forecast_table(asked).set_index(["store_nbr", "item_nbr"])["mean"]
    every = forecaster.forecast(date=forecaster.card["last_day"]).set_index(["store_nbr", "item_nbr"])["mean"]
    assert answer.tolist() == every.loc[answer.index].tolist()


def test_one_series_alone_gets_the_same_forecast(forecaster):
    every = forecaster.forecast().set_index(["store_nbr", "item_nbr"])
    for store, item in forecaster.series.sample(5, random_state=1).itertuples(index=False):
        alone = load_forecaster(ROOT / "data/model").forecast(item, store)
        assert alone["mean"].tolist() == every.loc[(store, item), "mean"].tolist()
        assert alone["q90"].tolist() == every.loc[(store, item), "q90"].tolist()


def test_three_times_the_sales_are_much_more_forecast(forecaster):
    "Of a level that three times as much is a level that others have: trees do not extrapolate."
    level = np.nansum(forecaster.block.sales[:, -56:], axis=1) / 56
    rows = np.flatnonzero((level > 0.3) & (level < 1))
    assert (level > 3 * level[rows].mean()).sum() > 300
    scaled = lambda values: np.log1p(3 * np.expm1(values))
    block = take_series(forecaster.block, rows)
    tripled = replace(
        block, sales=3 * block.sales, item_sales=scaled(block.item_sales), class_sales=scaled(block.class_sales)
    )
    ratio = (
        with_block(forecaster, tripled).forecast()["mean"].sum()
        / with_block(forecaster, block).forecast()["mean"].sum()
    )
    assert 2 < ratio < 3.6


def test_the_same_seed_gives_the_same_model_and_another_does_not(block):
    params = read_params(root=ROOT)
    few = take_series(block, np.arange(0, len(block.series), 40))
    short = {**params["estimators"]["gradient_boosting"], "max_iter": 20}
    fit = lambda seed: make_estimator("gradient_boosting", short, {**params["training_rows"], "seed": seed}).fit(
        few, 300, 16
    )
    first, again, other = fit(0), fit(0), fit(1)
    assert to_onnx(first.mean) == to_onnx(again.mean) and to_onnx(first.log_mean) == to_onnx(again.log_mean)
    assert to_onnx(first.mean) != to_onnx(other.mean)


def test_every_pair_of_a_known_item_and_store_has_a_forecast(forecaster):
    "What was never sold there is forecast to sell next to nothing, and something together; what has ended, nothing."
    every = pd.MultiIndex.from_product([forecaster.stores["store_nbr"], forecaster.items["item_nbr"]])
    never = every.difference(pd.MultiIndex.from_frame(forecaster.pairs)).to_frame(index=False)[::97]
    never.columns = ["store_nbr", "item_nbr"]
    answer = forecaster.forecast_table(never.assign(date=forecaster.card["last_day"]))
    assert (answer["history"] == "none").all() and (answer["mean"] > 0).all() and answer["mean"].max() < 0.2
    assert answer[["q10", "q50", "q90"]].eq(0).all().all()
    ended = forecaster.pairs[~forecaster.offered]
    ended = ended[
        ended["store_nbr"].isin(forecaster.stores["store_nbr"]) & ended["item_nbr"].isin(forecaster.items["item_nbr"])
    ]
    answer = forecaster.forecast_table(ended[::97].assign(date=forecaster.card["last_day"]))
    assert (answer["mean"] == 0).all() and (answer["history"] != "none").all()


def test_the_holdout_that_travels_with_the_model_can_be_forecast_again(forecaster):
    "The state reaches back far enough to stand at the holdout's origin; the forecasts recorded there come out again."
    held_out = pd.read_parquet(ROOT / "data/model/holdout.parquet")
    origin = forecaster.block.day(held_out["forecast_origin"].iloc[0])
    mean, log_mean = forecaster.predict(forecaster.block, np.arange(len(forecaster.pairs)), origin)
    mean /= item_factors(forecaster.serving["levels"], forecaster.pairs["item_nbr"])[:, None]  # learnt later, too
    held_out = held_out[held_out["mean"] > 0]  # nothing sells on closed days
    place = forecaster.rows_of(held_out)
    before = held_out["mean"] / held_out["level"]
    np.testing.assert_allclose(mean[place, held_out["horizon"] - 1], before, rtol=1e-4)
    np.testing.assert_allclose(log_mean[place, held_out["horizon"] - 1], held_out["log_mean"], rtol=1e-4, atol=1e-6)


def test_promotions_that_nobody_knows_do_not_stop_a_fit():
    from cd4ml_nb.core import read_params
    from cd4ml_nb.tiny import tiny_project
    from cd4ml_nb.model.estimators import make_estimator

    root = tiny_project("backtest")
    params, own = read_params(root=root), load_block(root / "data/prepared")
    own.onpromotion[:] = np.nan
    rows = {name: value for name, value in params["training_rows"].items() if name != "max_series"}
    fitted = make_estimator("gradient_boosting", params["estimators"]["gradient_boosting"], rows).fit(own, 250, 16)
    assert np.isfinite(fitted.forecast(own, 250, 16)[0]).all()
