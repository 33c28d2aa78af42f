"A model for each group, a sample of the series, a panel in parts: what each changes, and what none of them may."

import functools, json, shutil
import numpy as np, pandas as pd, pyarrow.parquet as pq, pytest
from cd4ml_nb.core import UserError
from cd4ml_nb.data.panel import read_series
from cd4ml_nb.data.split import split
from cd4ml_nb.delivery.onnx import onnx_pair
from cd4ml_nb.delivery.package import package
from cd4ml_nb.model.training import load_fitted, train
from cd4ml_nb.tiny import tiny_project
from cd4ml_nb.model.block import take_series
from cd4ml_nb.model.loading import load_block
from cd4ml_nb.model.estimators import make_estimator
from cd4ml_nb.model.features import make_encoding
from cd4ml_nb.model.forecaster import load_forecaster
from cd4ml_nb.model.kernel import item_factors
from cd4ml_nb.model.loading import panel_days
from cd4ml_nb.model.package import seal
from cd4ml_nb.model.groups import fit_group, sample_items, sample_series, series_parts
from cd4ml_nb.model import loading
from cd4ml_nb.quality import backtest as module
from cd4ml_nb.quality.backtest import backtest

BOOSTING = dict(max_iter=10, min_samples_leaf=20, random_state=0)
ROWS = dict(first=56, every=28, rows=None, unknown_plan=0.1, seed=0, max_series=None)
MORE_ROWS = {**ROWS, "every": 7}  # enough for a model of all items but the smallest
KEYS = ["forecast_origin", "store_nbr", "item_nbr", "date"]


@pytest.fixture(scope="module")
def project():
    "One window of each role: what is proved here is so in every window."
    root = tiny_project("backtest")
    split(root, 16, calibration_windows=1, evaluation_windows=1)
    return root


def forecasts(root, estimator="gradient_boosting", parameters=BOOSTING, rows=ROWS, **more):
    "The table that a backtest leaves, and what it returned."
    seconds = backtest(root, estimator, parameters, rows, **more)
    return pd.read_parquet(root / f"data/evaluation/{estimator}.parquet"), seconds


@pytest.fixture(scope="module", autouse=True)
def no_rule():
    "The free rule's share is learnt from whatever is judged; without it models are compared alone."
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "learn_blend", lambda losses: {})
        yield


@pytest.fixture(scope="module")
def whole(project):
    return forecasts(project, rows=MORE_ROWS)[0]


@pytest.fixture(scope="module")
def by_item(project):
    return forecasts(project, rows=MORE_ROWS, per="item_nbr", processes=1)


@pytest.mark.parametrize(
    "estimator, parameters", [("gradient_boosting", BOOSTING), ("seasonal_naive", {}), ("ets", {"processes": 1})]
)
def test_a_panel_in_parts_gives_the_same_forecasts(project, monkeypatch, estimator, parameters):
    at_once, _ = forecasts(project, estimator, parameters)
    days = panel_days(project / "data/prepared")
    parts = functools.partial(series_parts, cells=4 * days)
    assert len(parts(read_series(project / "data/prepared"), days)) == 6
    monkeypatch.setattr(module, "series_parts", parts)
    pd.testing.assert_frame_equal(forecasts(project, estimator, parameters)[0], at_once)


def test_the_sample_depends_on_seed_and_names_alone(project):
    series = read_series(project / "data/prepared")
    sample = sample_series(series, 7, seed=3)
    assert sample_series(series.sample(frac=1, random_state=5), 7, seed=3).sort_index().equals(sample)
    assert sample_series(series[::-1], 7, seed=3)[::-1].equals(sample)
    assert sample_series(series.drop(index=series.index.difference(sample.index)[0]), 7, seed=3).equals(sample)
    assert not sample_series(series, 7, seed=4).equals(sample)


def test_only_the_sample_is_loaded_and_learnt_from(project, monkeypatch):
    asked = []
    monkeypatch.setattr(loading, "CELLS", 0)  # a panel that is too large to be kept whole
    monkeypatch.setattr(
        loading,
        "load_block",
        lambda prepared, series, days: asked.append(series) or load_block(prepared, series=series, days=days),
    )
    rows = {**ROWS, "max_series": 5}
    sampled, _ = forecasts(project, rows=rows)
    series = read_series(project / "data/prepared")
    expected = sample_series(series, 5, ROWS["seed"])[["store_nbr", "item_nbr"]]
    assert asked[0].reset_index(drop=True).equals(expected.reset_index(drop=True)) and [
        len(part) for part in asked
    ] == [5, len(series)]
    block, window = load_block(project / "data/prepared"), sampled["forecast_origin"].iloc[-1]
    learn, origin = load_block(project / "data/prepared", series=expected), block.day(window)
    alone = make_estimator("gradient_boosting", BOOSTING, rows).fit(learn, learn.day(window), 16, make_encoding(series))
    mine = sampled[sampled["forecast_origin"] == window]
    expected_mean = pd.DataFrame(alone.forecast(block, origin, 16)[0]).stack().to_numpy()
    place = (
        mine.merge(series.reset_index(), on=["store_nbr", "item_nbr"])["index"].to_numpy() * 16
        + mine["horizon"].to_numpy()
        - 1
    )
    sold = mine["mean"].to_numpy() > 0
    before = (mine["mean"] / mine["level"]).to_numpy()  # what the model said, before the item's level
    np.testing.assert_allclose(before[sold], expected_mean[place][sold], rtol=1e-6)


def test_the_same_seed_learns_the_same_from_a_sample(project):
    one, again, other = (forecasts(project, rows={**ROWS, "max_series": 5, "seed": seed})[0] for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, again)
    assert not one["mean"].equals(other["mean"])


def test_whole_items_are_judged(project, whole):
    judged, _ = forecasts(project, rows=MORE_ROWS, max_series=7)
    items = set(sample_items(read_series(project / "data/prepared"), 7, ROWS["seed"])["item_nbr"])
    assert len(items) == 2 and set(judged["item_nbr"]) == items
    same = whole[whole["item_nbr"].isin(items)].reset_index(drop=True)
    pd.testing.assert_frame_equal(judged[KEYS + ["unit_sales", "log_mean"]], same[KEYS + ["unit_sales", "log_mean"]])
    np.testing.assert_allclose(said(judged), said(same), rtol=1e-6)  # levels are learnt from what is judged


def said(table):
    "What the model said, before the item's level."
    return (table["mean"] / table["level"]).to_numpy()


def test_each_group_is_forecast_by_its_own_model_and_small_ones_by_that_of_all(project, whole, by_item):
    table, seconds = by_item
    assert seconds["models"].iloc[-1] == 6 and seconds["too_small"].iloc[-1] == 1
    assert (seconds["models"] + seconds["too_small"] == 7).all()
    pd.testing.assert_frame_equal(table[KEYS + ["unit_sales"]], whole[KEYS + ["unit_sales"]])
    block, window = load_block(project / "data/prepared"), table["forecast_origin"].unique()[-2]
    origin, encoding, small = block.day(window), make_encoding(block.series), 0
    for item in table.loc[table["forecast_origin"] == window, "item_nbr"].unique():
        part = take_series(block, (block.series["item_nbr"] == item).to_numpy())
        model = fit_group("gradient_boosting", BOOSTING, MORE_ROWS, part, origin, 16, encoding)
        mine, all_series = (t[(t["forecast_origin"] == window) & (t["item_nbr"] == item)] for t in (table, whole))
        if model is None:
            small += 1
            np.testing.assert_allclose(said(mine), said(all_series), rtol=1e-6)
        else:
            assert said(mine).max() == pytest.approx(
                np.where(part.is_open[:, origin + 1 : origin + 17], model.forecast(part, origin, 16)[0], 0)[
                    np.isfinite(part.sales[:, origin + 1 : origin + 17])
                ].max(),
                rel=1e-6,
            )
    assert small == 1


def test_parallel_processes_give_the_same(project, by_item):
    pd.testing.assert_frame_equal(forecasts(project, rows=MORE_ROWS, per="item_nbr", processes=2)[0], by_item[0])


def test_an_estimator_that_goes_series_by_series_has_no_groups(project):
    alone, _ = forecasts(project, "seasonal_naive", {})
    pd.testing.assert_frame_equal(forecasts(project, "seasonal_naive", {}, per="store_nbr")[0], alone)


def test_a_wrong_group_or_sample_is_a_sentence(project):
    with pytest.raises(UserError, match="models.per is 'class'; it should be store_nbr, family or item_nbr"):
        forecasts(project, per="class")
    with pytest.raises(UserError, match="max_series is 'many'"):
        forecasts(project, max_series="many")
    with pytest.raises(UserError, match="There is no engine 'dask'"):
        forecasts(project, engine="dask")


@pytest.fixture(scope="module")
def packaged():
    "A tiny project whose package has a model for each item."
    root = tiny_project("train")
    about = train(root, "gradient_boosting", BOOSTING, MORE_ROWS, per="item_nbr", processes=1)
    return root, about, package(root)


def test_a_package_answers_with_the_groups_own_model(packaged):
    root, about, card = packaged
    assert about["per"] == "item_nbr" and about["models"] + about["too_small"] == 7 and card["difference"] < 1e-4
    fitted, block = load_fitted(root), load_block(root / "data/prepared")
    f = load_forecaster(root / "data/model")
    for item in f.items["item_nbr"]:
        part = take_series(block, (block.series["item_nbr"] == item).to_numpy())
        own = fitted.model(item).forecast(part, block.n_days - 1, 16)[0]
        answer = f.forecast(item)["mean"].to_numpy().reshape(own.shape) / item_factors(f.serving["levels"], [item])
        np.testing.assert_allclose(answer, own * (answer > 0), rtol=1e-4)
    assert {path.name for path in (root / "data/model").glob("*.onnx")} == {"mean.onnx", "log_mean.onnx"}
    assert len(np.unique(pq.read_table(root / "data/model/groups.parquet")["model"])) == 2 * about["models"]
    assert (
        f"one model for each item ({about['models']}; {about['too_small']} too small"
        in (root / "data/model/README.md").read_text()
    )


def test_a_what_if_and_a_table_reach_the_groups_models(packaged):
    f = load_forecaster(packaged[0] / "data/model")
    assert f.forecast(promotion=True)["mean"].sum() > f.forecast(promotion=False)["mean"].sum()
    item, store = f.series[["item_nbr", "store_nbr"]].iloc[0]
    table = pd.DataFrame({"item_nbr": item, "store_nbr": store, "date": f.dates.astype(str)})
    assert (
        f.forecast_table(table)["mean"].tolist()
        == f.forecast(item, store)["mean"].tolist()
        == f.forecast()[lambda t: (t.item_nbr == item) & (t.store_nbr == store)]["mean"].tolist()
    )


def test_an_earlier_package_with_a_file_for_each_model_answers_the_same(packaged, tmp_path):
    "Until November 2026 each group had two ONNX files."
    root, folder = packaged[0], shutil.copytree(packaged[0] / "data/model", tmp_path / "model")
    told, fitted = json.loads((folder / "forecaster.json").read_text()), load_fitted(root)
    (folder / "groups.parquet").unlink()
    for number, path in enumerate(fitted.models.values()):
        for name, graph in zip(("mean", "log_mean"), onnx_pair(path)):
            (folder / f"{name}-{number:05}.onnx").write_bytes(graph)
    ends = {name: f"-{number:05}" for number, name in enumerate(fitted.models)}
    new = {"features", "closed"}
    serving = {name: value for name, value in told["serving"].items() if name not in new} | {"groups": ends}
    (folder / "forecaster.json").unlink()
    seal(folder, told["card"], serving)
    old, now = load_forecaster(folder), load_forecaster(root / "data/model")
    assert len(old.serving["groups"]) == len(ends) > 1
    for promotion in (None, True):
        before, after = (f.forecast(promotion=promotion) for f in (old, now))
        np.testing.assert_allclose(after["mean"], before["mean"], rtol=1e-5)
        np.testing.assert_allclose(after["log_mean"], before["log_mean"], rtol=1e-5)


def test_a_changed_model_of_a_group_is_refused(packaged, tmp_path):
    shutil.copytree(packaged[0] / "data/model", tmp_path / "model")
    path = tmp_path / "model/groups.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=f"The file {path.name} of the model"):
        load_forecaster(tmp_path / "model")
    path.unlink()
    with pytest.raises(UserError, match=f"lacks the file {path.name}"):
        load_forecaster(tmp_path / "model")
