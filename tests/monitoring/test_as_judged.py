"Seven nights of the tiny project: what was promised is sealed, what was published is added up, and judged."

import shutil
import numpy as np, pandas as pd, pytest
from cd4ml_nb.core import UserError, read_json
from cd4ml_nb.delivery.night import turn
from cd4ml_nb.delivery.registry import changed_files, registry_folder
from cd4ml_nb.delivery.state import state
from cd4ml_nb.monitoring.actuals import OUTCOMES, join_actuals
from cd4ml_nb.monitoring.judged import AS_JUDGED, MEASURES, NOT_ENOUGH, NOT_PROMISED, WORSE
from cd4ml_nb.monitoring.judged import is_as_judged, judge, make_band, read_promise
from cd4ml_nb.monitoring.overrides import overrides_of
from cd4ml_nb.monitoring.performance import PERFORMANCE, TOTALS, keep_sums, keep_totals, read_sums, scores_by
from cd4ml_nb.quality.metrics import score
from cd4ml_nb.quality.promise import PROMISE
from cd4ml_nb.tiny import tiny_live

NIGHTS = 7


def live_through(root, nights):
    "Nights, one after the other; the last one's forecaster."
    for _ in range(nights):
        tonight = turn(root)["tonight"]
        keep_totals(root, tonight)
        join_actuals(root, tonight)
        keep_sums(root, tonight)
    return tonight


@pytest.fixture(scope="module")
def lived():
    root = tiny_live("2017-08-20")
    return root, live_through(root, NIGHTS)


@pytest.fixture
def shop(lived, tmp_path):
    return shutil.copytree(lived[0], tmp_path / "shop")


def test_a_version_keeps_its_promise_sealed(shop):
    version = state(shop)["champion"]["model_version"]
    folder = registry_folder(shop) / version
    assert PROMISE in read_json(folder / "registration.json")["files"] and not changed_files(folder)
    promise = read_promise(shop, version)
    said = read_json(folder / "metrics.json")["models"]["gradient_boosting"]["bias"]
    whole = (
        promise[(promise["kind"] == "all") & (promise["days"] == 1)].groupby("forecast_origin").sum(numeric_only=True)
    )
    for origin in (name for name in said if name != "mean"):
        assert whole.loc[origin, "said"] / whole.loc[origin, "sold"] - 1 == pytest.approx(said[origin], abs=1e-5)
    promise.assign(sold=promise["sold"] * 2).to_parquet(folder / PROMISE, index=False)
    assert changed_files(folder)


def test_windows_that_only_teach_intervals_are_promised_for_all_but_these(shop):
    "The more windows, the narrower the band; yet nothing is held to intervals that nobody had taught."
    promise = read_promise(shop, state(shop)["champion"]["model_version"])
    windows = read_json(shop / "data/split/windows.json", kind=list)
    taught = promise["forecast_origin"].isin([w["forecast_origin"] for w in windows if w["role"] != "calibration"])
    whole = [{key: make_band(part, MEASURES[key]) for key in MEASURES} for part in (promise[taught], promise)]
    weeks = 2
    assert [band["bias"].freedom[0] for band in whole] == [weeks * 3, weeks * 5]
    assert [band["order_error"].freedom[0] for band in whole] == [3, 5]
    assert whole[0]["quantiles"].half(0.001)[0] == whole[1]["quantiles"].half(0.001)[0]
    assert promise.loc[~taught & promise["days"].eq(1), "q50 below"].isna().all()


def test_sums_give_the_scores_of_the_published_forecasts(lived):
    root, tonight = lived
    day = "2017-08-27"
    joined = pd.read_parquet(root / OUTCOMES / f"{day}.parquet").dropna(subset=["mean"])
    found = scores_by(read_sums(root).query("kind == 'horizon'"), "date", "slice").loc[pd.Timestamp(day)]
    assert sorted(map(int, found.index)) == sorted(joined["horizon"].astype(int).unique())
    perishable = tonight.block.series.set_index(["store_nbr", "item_nbr"])["perishable"]
    weight = np.where(perishable.reindex(pd.MultiIndex.from_frame(joined[["store_nbr", "item_nbr"]])), 1.25, 1.0)
    for ahead, part in joined.assign(weight=weight).groupby("horizon"):
        assert found.loc[str(int(ahead)), "nwrmsle"] == pytest.approx(score(part)["nwrmsle"], rel=1e-4)
        assert found.loc[str(int(ahead)), "bias"] == pytest.approx(score(part)["bias"], abs=1e-4)


def test_intervals_of_all_stores_are_those_that_a_planner_sees(lived):
    root, tonight = lived
    path = sorted((root / TOTALS).iterdir())[-1]
    item = tonight.pairs["item_nbr"].iloc[0]
    own = pd.read_parquet(path).query("item_nbr == @item")
    assert own.query("days == 16")["q90"].item() == pytest.approx(tonight.total(item)["q90"])
    assert own.query("days == 1")["q90"].tolist() == pytest.approx(tonight.daily_totals(item)["q90"].tolist())
    held = read_sums(root).query("kind == 'all stores' and days == 1")
    assert held["rows"].sum() > 0 and (held["held"] <= held["rows"]).all()


def test_six_days_are_not_enough_and_seven_are(shop):
    verdict = is_as_judged(shop)
    assert verdict.state == AS_JUDGED and verdict.days == NIGHTS and verdict.says.startswith("As judged: what was")
    assert {row["measure"] for row in verdict.rows} >= {"nwrmsle", "bias", "quantiles", "all_stores"}
    assert is_as_judged(shop) is verdict  # nothing is read again while all files are as they were
    (shop / PERFORMANCE / "2017-08-21.parquet").unlink()
    verdict = is_as_judged(shop)
    assert (verdict.state, verdict.says) == (NOT_ENOUGH, "Not enough days yet: 6 of 7 were held against what was sold.")


def test_a_model_that_is_far_off_is_found(shop):
    version = state(shop)["champion"]["model_version"]
    sums = read_sums(shop)
    many = judge(version, sums.assign(said=sums["said"] * 12), read_promise(shop, version))
    assert many.state == WORSE and many.since == "2017-08-21" and "volume +" in many.says, many.says


def test_a_corrected_day_is_judged_again(shop, lived):
    before = read_sums(shop)
    path = shop / OUTCOMES / "2017-08-25.parquet"
    was = pd.read_parquet(path)
    was.assign(unit_sales=was["unit_sales"] * 3).to_parquet(path, index=False)
    assert keep_sums(shop, lived[1])[0] == "2017-08-25"  # and the days after, whose orders reach over it
    now = read_sums(shop)
    sold = lambda sums, day: sums[(sums["kind"] == "all") & (sums["date"] == day)]["sold"].sum()
    assert sold(now, "2017-08-25") == pytest.approx(3 * sold(before, "2017-08-25"))
    assert sold(now, "2017-08-24") == sold(before, "2017-08-24")


def test_without_a_night_or_a_promise_there_is_a_sentence(released_only):
    assert is_as_judged(released_only).says == "Not enough days yet: 0 of 7 were held against what was sold."
    assert overrides_of(released_only)[0] == "No decision stands yet."
    version = state(released_only)["champion"]["model_version"]
    (registry_folder(released_only) / version / PROMISE).unlink()
    verdict = is_as_judged(released_only)
    assert verdict.state == NOT_PROMISED and "cd4ml stage register" in verdict.says


@pytest.fixture
def released_only():
    return tiny_live("2017-08-20")


def test_a_damaged_promise_or_sum_is_named(shop):
    version = state(shop)["champion"]["model_version"]
    (registry_folder(shop) / version / PROMISE).write_bytes(b"no parquet")
    with pytest.raises(UserError, match="promise.parquet cannot be read"):
        is_as_judged(shop)
    (shop / PERFORMANCE / "2017-08-22.parquet").write_bytes(b"no parquet")
    with pytest.raises(
        UserError, match="2017-08-22.parquet cannot be read: it is no Parquet file, or a part of one. Remove it"
    ):
        read_sums(shop)
