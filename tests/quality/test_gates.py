"""Bad models are planted, and each is stopped by the check that is meant for it; good ones pass.

On the project's own data and on the tiny panel.
"""

import contextlib, io, json, shutil
from dataclasses import replace
from pathlib import Path
import numpy as np, pandas as pd, pytest
from cd4ml_nb.core import UserError, read_params, write_json
from cd4ml_nb.data.split import read_windows
from cd4ml_nb.delivery import gate as gating
from cd4ml_nb.delivery.gate import judge_model
from cd4ml_nb.delivery.package import package
from cd4ml_nb.delivery.verdict import say_others
from cd4ml_nb.model.training import train
from cd4ml_nb.tiny import tiny_project
from cd4ml_nb.model.block import take_series
from cd4ml_nb.model.estimators import ESTIMATORS, SeasonalNaive
from cd4ml_nb.model.forecaster import load_forecaster
from cd4ml_nb.model.intervals import window_sums
from cd4ml_nb.model.package import _seal_of
from cd4ml_nb.quality import gates
from cd4ml_nb.quality.backtest import backtest, with_intervals
from cd4ml_nb.quality.checks import read_limits
from cd4ml_nb.quality.gates import (
    champion_forecasts,
    forecast_checks,
    make_case,
    ratchet_check,
    read_case,
    sane_check,
    with_champion,
)
from cd4ml_nb.quality.metrics import nwrmsle
from cd4ml_nb.quality.plausible import Compared
from copies import ROOT

pytestmark = pytest.mark.pipeline

LIVE = ROOT / "data/model"
CHECKS = {
    "sane",
    "absolute",
    "too_good",
    "naive",
    "ratchet",
    "orders",
    "slice_orders",
    "bias",
    "quantiles",
    "quantiles_by_dispersion",
    "high_levels",
    "all_stores",
    "slices_naive",
    "slices_champion",
    "rules",
    "by_heart",
    "groups",
    "range",
    "interval_cost",
}


@pytest.fixture(scope="module")
def limits():
    return read_limits(read_params("gate", ROOT))


@pytest.fixture(scope="module")
def whole(limits):
    "The project's model as candidate, on the project's data."
    return read_case(ROOT, json.loads((LIVE / "forecaster.json").read_text())["card"]["estimator"], limits)


@pytest.fixture(scope="module")
def tables(whole):
    "Its backtest, and seasonal naive's, on a half of the items on which it passes, which takes half the time."
    items = sorted(whole.table.item_nbr.unique())[1::2]
    naive = pd.read_parquet(ROOT / "data/evaluation/seasonal_naive.parquet")
    return tuple(table[table.item_nbr.isin(items)].reset_index(drop=True) for table in (whole.table, naive))


@pytest.fixture(scope="module")
def real(whole, tables, limits):
    "The smaller case, beside itself as champion."
    block = take_series(whole.block, whole.block.series.item_nbr.isin(set(tables[0].item_nbr)).to_numpy())
    return with_champion(make_case(whole.estimator, whole.windows, *tables, block, limits), ROOT, LIVE)


def verdicts(case):
    return {c["check"]: c for c in forecast_checks(case)}


def some_verdicts(case, keys):
    "Those of some checks only, which takes a fifth of the time."
    asked = lambda plan: [(criterion, judge) for criterion, judge in plan if criterion.key in keys]
    own, plausible = asked(gates._plan()), gates.plausible_plan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gates, "_plan", lambda: own)
        patch.setattr(gates, "plausible_plan", lambda case: asked(plausible(case)))
        if not {"slices_naive", "slices_champion"} & keys:
            patch.setattr(gates, "slice_table", lambda case: None)
            patch.setattr(gates, "slice_checks", lambda case, table: [])
        return verdicts(case)


def plant(real, tables, table):
    "The case of a planted model, beside the same champion."
    case = make_case(real.estimator, real.windows, table, tables[1], real.block, real.limits)
    same = real.judged[[*gates.FORECAST_KEYS, "champion", "champion_mean"]]
    found = case.judged[gates.FORECAST_KEYS].merge(same, on=gates.FORECAST_KEYS, how="left")
    case.judged["champion"], case.judged["champion_mean"], case.champion = (
        found["champion"],
        found["champion_mean"],
        real.champion,
    )
    return case


def calibrated(table):
    "The intervals that this model would have been given, window by window."
    done = []
    for _, part in table.groupby("forecast_origin", sort=True, observed=True):
        earlier = [window_sums(one, int(table["horizon"].max())) for one in done]
        done.append(with_intervals(part, earlier))
    return pd.concat(done, ignore_index=True)


def family_of(real, table):
    return table.merge(real.block.series[["store_nbr", "item_nbr", "family"]], how="left")["family"].to_numpy()


def scaled(table, factor, where=True):
    return table.assign(**{name: np.where(where, table[name] * factor, table[name]) for name in ("mean", "log_mean")})


def leaky(real, t):
    return t.assign(
        log_mean=np.expm1(0.7 * np.log1p(t.unit_sales) + 0.3 * np.log1p(t.log_mean)),
        mean=0.7 * t.unit_sales + 0.3 * t["mean"],
    )


def in_cases_of_two_dozen(real, t):
    return scaled(t, 24)


def still_in_logs(real, t):
    return t.assign(mean=np.log1p(t["mean"]), log_mean=np.log1p(t.log_mean))


def log_mean_for_mean(real, t):
    return calibrated(t.assign(mean=t.log_mean))


def one_family_broken(real, t):
    return scaled(t, 6, family_of(real, t) == "Produce")


def one_family_faded(real, t):
    "Thrice as much: where most days sell nothing, half as much again moves NWRMSLE less than its noise."
    return scaled(t, 3, family_of(real, t) == "Meat")


def one_family_ordered_too_much(real, t):
    "Right in logs, and twice as much in units."
    return t.assign(mean=np.where(family_of(real, t) == "Meat", t["mean"] * 2, t["mean"]))


def no_better_than_last_week_once(real, t):
    return scaled(t, 5, t.forecast_origin == real.origins[1])


def too_sure(real, t):
    return t.assign(q10=t.q50, q90=t.q50)


def blind_to_evenness(real, t):
    "The intervals of a model to which milk is as what is bought in bulk."
    blind = calibrated(t.assign(dispersion=np.float32(0.5)))
    return t.drop(columns=["q10", "q50", "q90"]).merge(blind[[*gates.FORECAST_KEYS, "q10", "q50", "q90"]])


def missing_numbers(real, t):
    return t.assign(mean=t["mean"].where(t.index % 1000 > 0))


def negative(real, t):
    return t.assign(log_mean=t.log_mean.where(t.index % 1000 > 0, -1.0))


def quantiles_crossed(real, t):
    return t.assign(q10=t.q90, q90=t.q10)


def days_left_out(real, t):
    return t[t.index % 1000 > 0]


def scored_with_other_sales(real, t):
    return t.assign(unit_sales=t.unit_sales + (t.index % 1000 == 0))


def infinite(real, t):
    return t.assign(log_mean=t.log_mean.where(t.index % 1000 > 0, np.inf))


def stale(real, t):
    "Every window gets the forecasts that were made for the window two before."
    origins = sorted(t.forecast_origin.unique())
    older = t[["forecast_origin", "store_nbr", "item_nbr", "horizon", "mean", "log_mean"]].assign(
        forecast_origin=t.forecast_origin.map(dict(zip(origins, origins[2:])))
    )
    both = t.drop(columns=["mean", "log_mean"]).merge(
        older, on=["forecast_origin", "store_nbr", "item_nbr", "horizon"], how="left"
    )
    return both.assign(**{name: both[name].fillna(t[name]) for name in ("mean", "log_mean")})


def orders_scattered(real, t):
    "log_mean is fine, mean is wrong series by series though right in sum."
    number = t.groupby(["store_nbr", "item_nbr"], observed=True).ngroup()
    return t.assign(mean=t["mean"] * np.where(number % 2, 1.5, 0.5))


def intervals_of_totals_off(real, t):
    "Steady while intervals are learnt, erratic by item afterwards."
    rng = np.random.default_rng(0)
    factor = pd.Series(rng.choice([0.35, 1.65], t.item_nbr.nunique()), index=sorted(t.item_nbr.unique()))
    return t.assign(mean=np.where(t.role == "calibration", t.unit_sales * 0.98, t["mean"] * t.item_nbr.map(factor)))


def far_too_little_for_half(real, t):
    "While intervals are learnt all is well; later every other series is forecast at two fifths, and ordered so."
    half = t.groupby(["store_nbr", "item_nbr"], observed=True).ngroup() % 2 == 0
    return t.assign(mean=np.where(half & (t.role != "calibration"), t["mean"] * 0.4, t["mean"]))


def knows_a_third(real, t):
    "Of every third series it has seen most."
    third = t.groupby(["store_nbr", "item_nbr"], observed=True).ngroup() % 3 == 0
    return t.assign(
        log_mean=np.where(third, 0.9 * t.unit_sales + 0.1 * t.log_mean, t.log_mean),
        mean=np.where(third, 0.9 * t.unit_sales + 0.1 * t["mean"], t["mean"]),
    )


def knows_the_first_day(real, t):
    return t.assign(log_mean=np.where(t.horizon == 1, 0.9 * t.unit_sales + 0.1 * t.log_mean, t.log_mean))


def too_much_on_the_first_day(real, t):
    return scaled(t, 1.5, t.horizon == 1)


def a_store_in_dozens(real, t):
    "A small one, which moves no sum."
    units = t.groupby("store_nbr", observed=True).unit_sales.sum()
    return scaled(t, 12, t.store_nbr == units[units > 100].idxmin())


def nothing_on_mondays(real, t):
    "In a family of middle size."
    units = t.unit_sales.groupby(family_of(real, t)).sum().sort_values()
    return scaled(t, 0, (family_of(real, t) == units.index[-3]) & (t.date.dt.dayofweek == 0))


def one_number_a_thousand_times(real, t):
    return scaled(t, 1000, t.index == t["mean"].where(t.role == "holdout").idxmax())


def intervals_of_others(real, t):
    names = ["q10", "q50", "q90"]
    return t.assign(**t[names].sample(frac=1, random_state=0).set_axis(t.index))


def four_weeks_again(real, t):
    "A free rule, a little too much."
    rules = Compared(make_case(real.estimator, real.windows, t, t, real.block, real.limits)).rules
    judged = (t.role != "calibration").to_numpy()
    again = lambda name, rule: t[name].mask(judged).fillna(pd.Series(1.05 * rules[rule], t.index[judged]))
    return t.assign(
        mean=again("mean", "the mean of four weeks"), log_mean=again("log_mean", "the mean of four weeks in logs")
    )


# Of these all checks are asked: what else may fail is part of what is asserted, or a check could break.
WHOLLY = {log_mean_for_mean, too_sure, blind_to_evenness, infinite}


@pytest.mark.parametrize(
    "bad, stopped_by",
    [
        (knows_a_third, "by_heart"),
        (knows_the_first_day, "by_heart"),
        (too_much_on_the_first_day, "groups"),
        (a_store_in_dozens, "groups"),
        (nothing_on_mondays, "groups"),
        (one_number_a_thousand_times, "range"),
        (intervals_of_others, "interval_cost"),
        (four_weeks_again, "rules"),
        (leaky, "too_good"),
        (in_cases_of_two_dozen, "absolute bias"),
        (still_in_logs, "bias"),
        (log_mean_for_mean, "bias"),
        (one_family_broken, "slices_naive"),
        (one_family_faded, "slices_champion"),
        (one_family_ordered_too_much, "slice_orders"),
        (no_better_than_last_week_once, "naive"),
        (stale, "ratchet"),
        (orders_scattered, "orders"),
        (too_sure, "quantiles"),
        (blind_to_evenness, "quantiles_by_dispersion"),
        (intervals_of_totals_off, "all_stores"),
        (far_too_little_for_half, "high_levels"),
        (infinite, "sane"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered")  # of an infinite forecast
def test_a_planted_bad_model_is_stopped_by_the_check_meant_for_it(real, tables, bad, stopped_by):
    case = plant(real, tables, bad(real, tables[0].copy()))
    found = verdicts(case) if bad in WHOLLY else some_verdicts(case, set(stopped_by.split()))
    assert bad not in WHOLLY or set(found) == CHECKS, "every check is made, even when one fails"
    for key in stopped_by.split():
        assert found[key]["verdict"] == "failed", {key: c["says"] for key, c in found.items()}
        assert found[key]["says"].endswith(": failed.") and any(ch.isdigit() for ch in found[key]["says"])
    if bad in (one_family_broken, one_family_faded, one_family_ordered_too_much):
        assert f"family {'Produce' if bad is one_family_broken else 'Meat'} (" in found[stopped_by]["says"]
    if bad is log_mean_for_mean:
        assert {key for key, c in found.items() if c["verdict"] == "failed"} <= {
            "bias",
            "orders",
            "slice_orders",
            "rules",
            "groups",
        }
    if bad in (too_sure, blind_to_evenness):
        failed = {key for key, c in found.items() if c["verdict"] == "failed"}
        assert failed <= {"quantiles", "quantiles_by_dispersion", "interval_cost"}
        assert (bad is too_sure) == ("quantiles" in failed)


@pytest.mark.parametrize("bad", [missing_numbers, negative, quantiles_crossed, days_left_out, scored_with_other_sales])
def test_numbers_that_cannot_be_are_found(real, tables, bad):
    check = sane_check(plant(real, tables, bad(real, tables[0].copy())))
    assert (
        check["verdict"] == "failed"
        and check["value"] > 0
        and {
            missing_numbers: "missing",
            negative: "negative",
            quantiles_crossed: "out of order",
            days_left_out: "without a forecast",
            scored_with_other_sales: "sales that differ",
        }[bad]
        in check["says"]
    )


@pytest.mark.parametrize("part", [pytest.param("whole", marks=pytest.mark.prove), "real"])
def test_the_projects_own_model_passes_beside_itself(whole, real, part):
    "On all items, and on those on which the bad ones are planted."
    case = real if part == "real" else with_champion(whole, ROOT, LIVE)
    assert {c["verdict"] for c in verdicts(case).values()} == {"passed"}


def test_the_champion_asked_again_gives_the_forecasts_that_were_recorded(real):
    "Loaded from its package and asked for the holdout's days, it says what it said in the backtest."
    mine = real.judged[real.judged.champion.notna()]
    assert set(mine.forecast_origin) == {real.origins[-1]} and real.champion.how == "by its frozen package"
    assert np.allclose(mine.champion, mine.log_mean, rtol=1e-4, atol=1e-5) and np.allclose(
        mine.champion_mean, mine["mean"], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("way", ["days", "series", "high"])
def test_three_per_cent_worse_is_stopped_and_a_fifth_of_a_per_cent_is_a_tie(real, way):
    "In NWRMSLE, on the champion's windows."
    table, rng = real.judged, np.random.default_rng(3)
    number, live = (
        table.groupby(["store_nbr", "item_nbr"], observed=True).ngroup().to_numpy(),
        table.champion.notna().to_numpy(),
    )
    shape = {
        "days": rng.standard_normal(len(table)),
        "series": rng.standard_normal(number.max() + 1)[number],
        "high": np.ones(len(table)),
    }[way]
    spoilt = lambda strength: np.expm1((np.log1p(table.log_mean.to_numpy(float)) + strength * shape).clip(min=0))
    score = lambda forecast: nwrmsle(table.unit_sales[live], forecast[live], table.weight[live])
    for share, verdict in ((0.03, "failed"), (0.002, "passed")):
        low, high = 0.0, 1.0
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (middle, high) if score(spoilt(middle)) < (1 + share) * score(table.log_mean) else (low, middle)
        check = ratchet_check(replace(real, judged=table.assign(log_mean=spoilt(high))))
        assert check["verdict"] == verdict and check["value"] == pytest.approx(share * score(table.log_mean), rel=0.01)


def test_small_slices_are_told_and_not_judged(real):
    table = gates.slice_table(real)
    assert (table.verdict[table.series < real.limits.slice_series] == "not judged").all() and (
        table.verdict == "not judged"
    ).any()
    assert {"family", "store", "volume", "promotion", "perishable", "horizon week", "item age", "panel"} == set(
        table.kind
    )


@pytest.fixture(scope="module")
def tiny():
    "A tiny project after the stage package."
    return tiny_project("gate")


@pytest.fixture
def own(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "project")
    return tmp_path / "project"


def be_live(monkeypatch, folder):
    "Make a packaged model the champion, as far as the gate can see."
    monkeypatch.setattr(
        gating,
        "state",
        lambda root: {
            "champion": {
                "model_version": json.loads((Path(folder) / "forecaster.json").read_text())["card"]["model_version"]
            }
        },
    )
    monkeypatch.setattr(gating, "champion_folder", lambda root: Path(folder))


def gate_of(root):
    return judge_model(root, "gradient_boosting", **read_params("gate", root))


def test_a_model_that_peeks_is_too_good(own, monkeypatch):
    "A real backtest of an estimator that looks at the days it should forecast."

    class Peeking(SeasonalNaive):
        def forecast(self, block, origin, horizon):
            seen = np.nan_to_num(block.sales[:, origin + 1 : origin + 1 + horizon])
            return seen * 1.01, seen * 1.01

    monkeypatch.setitem(ESTIMATORS, "peeking", Peeking)
    params = read_params(root=own)
    with contextlib.redirect_stderr(io.StringIO()):
        backtest(own, "peeking", {}, params["training_rows"])
    found = verdicts(read_case(own, "peeking", read_limits(params["gate"])))
    assert found["too_good"]["verdict"] == "failed" and found["absolute"]["verdict"] == "passed"


def test_a_champion_that_cannot_be_read_fails_its_comparison_only(own, monkeypatch):
    shutil.copytree(own / "data/model", own / "live")
    be_live(monkeypatch, own / "live")
    with (own / "live/mean.onnx").open("ab") as file:
        file.write(b"x")
    verdict = gate_of(own)
    found = {c["check"]: c for c in verdict["checks"]}
    assert (
        not verdict["passed"]
        and verdict["champion"]
        and found["ratchet"]["verdict"] == "failed"
        and "mean.onnx" in found["ratchet"]["says"]
    )
    assert [c["check"] for c in verdict["checks"] if c["verdict"] == "failed"] == ["ratchet"]
    assert json.loads((own / "reports/gate.json").read_text()) == verdict


def test_a_refusal_names_the_estimators_that_would_pass_by_the_same_checks(own):
    "The volume of the one that is trained is off by half; each other fares as if it had been trained."
    path = own / "data/evaluation/gradient_boosting.parquet"
    table = pd.read_parquet(path)
    table.assign(mean=table["mean"] * 1.5).to_parquet(path, index=False)
    refused, limits = gate_of(own), read_limits(read_params("gate", own))
    stops = lambda checks: [check["title"] for check in checks if check["verdict"] == "failed"]
    names = [one["estimator"] for one in refused["others"]]
    assert set(names) == set(ESTIMATORS) - {"gradient_boosting"}
    alone = [(name, stops(forecast_checks(read_case(own, name, limits)))) for name in names]
    assert [(one["estimator"], one["failed"]) for one in refused["others"]] == alone
    passing = [name for name, failed in alone if not failed]
    assert passing and f"{passing[-1]} would pass. Set train.estimator in params.yaml" in say_others(refused)[0]


def test_a_check_that_breaks_does_not_keep_the_others_from_being_made(own, monkeypatch):
    before = {c["check"] for c in gate_of(own)["checks"]}
    monkeypatch.setattr(gates, "bias_check", lambda case: 1 / 0)
    monkeypatch.setattr(gating, "explanation", lambda root: 1 / 0)
    verdict = gate_of(own)
    assert {c["check"] for c in verdict["checks"] if c["verdict"] == "failed"} == {
        "bias",
        "explanation",
    } and not verdict["passed"]
    assert before <= {c["check"] for c in verdict["checks"]}


def test_a_champion_that_stopped_learning_earlier_is_asked_on_more_windows(own):
    "And one that today's code cannot ask is judged by the holdout it brought."
    limits, origins = read_limits(read_params("gate", own)), [w["forecast_origin"] for w in read_windows(own)]
    sealed = own / "data/model/forecaster.json"
    content = json.loads(sealed.read_text())
    changed = {**content, "card": {**content["card"], "trained_to": origins[-2]}}
    sealed.write_text(json.dumps({**changed, "seal": _seal_of(changed)}))
    case = read_case(own, "gradient_boosting", limits)
    assert with_champion(case, own, own / "data/model").champion.windows == origins[-2:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gates, "_ask_champion", lambda *_: 1 / 0)
        assert with_champion(case, own, own / "data/model").champion == gates.Champion(
            content["card"]["model_version"],
            origins[-1:],
            "by the holdout shipped with it, as today's code cannot ask its package",
            told=f"all sales up to {origins[-2]}",
        )


def test_a_champion_that_has_learnt_from_what_is_judged_is_no_measure(own):
    "Its sales reached further: it is asked for nothing, and no check goes by it."
    model = own / "data/model"
    content = json.loads((model / "forecaster.json").read_text())
    changed = {**content, "card": {**content["card"], "trained_to": "2099-12-31"}}
    (model / "forecaster.json").write_text(json.dumps({**changed, "seal": _seal_of(changed)}))
    alone = read_case(own, "gradient_boosting", read_limits(read_params(root=own)["gate"]))
    case = with_champion(alone, own, model)
    beside, without = ({c["check"]: c for c in gates.forecast_checks(one)} for one in (case, alone))
    for key in ("ratchet", "slices_champion"):
        assert (
            beside[key]["verdict"] == "not judged"
            and "has learnt from all sales up to 2099-12-31" in beside[key]["says"]
        )
        without.pop(key), beside.pop(key)
    assert beside == without


def test_a_champion_of_other_data_is_no_measure(own):
    "The project was pointed to another table: what is live there knows nothing of it, and no check goes by it."
    model = own / "data/model"
    alone = read_case(own, "gradient_boosting", read_limits(read_params(root=own)["gate"]))
    elsewhere = alone.judged.assign(store_nbr="another " + alone.judged["store_nbr"].astype(str))
    case = with_champion(replace(alone, judged=elsewhere), own, model)
    found = {c["check"]: c for c in gates.forecast_checks(case)}
    for key in ("ratchet", "slices_champion"):
        assert found[key]["verdict"] == "not judged" and "is of other data (the source " in found[key]["says"]
    assert with_champion(alone, own, model).rival, "its own data are none of others"


def test_a_champion_without_a_function_is_compared_by_its_estimators_backtest(own):
    "Such as seasonal naive, which our model must beat."
    params = read_params(root=own)
    case = read_case(own, "gradient_boosting", read_limits(params["gate"]))
    with contextlib.redirect_stderr(io.StringIO()):
        train(own, "seasonal_naive", params["estimators"]["seasonal_naive"], params["training_rows"])
        package(own)
    _, table, how = champion_forecasts(case, own, own / "data/model", load_forecaster(own / "data/model"))
    assert "backtest" in how and set(table.forecast_origin) == {case.origins[-1]}
    assert ratchet_check(with_champion(case, own, own / "data/model"))["value"] < 0


def test_the_best_of_the_backtest_is_trained_packaged_and_judged(own):
    "Also one without a function, which says finished numbers; the card says why it was chosen, as the evaluation did."
    choice = {"estimator": "seasonal_naive", "parameters": {"weeks": 4}, "says": "seasonal_naive: best of 5."}
    (own / "data/evaluation/best").mkdir(exist_ok=True)
    write_json(own / "data/evaluation/best/choice.json", choice)
    with contextlib.redirect_stderr(io.StringIO()):
        train(own, "best", {}, read_params(root=own)["training_rows"])
        card = package(own)
    assert (card["estimator"], card["chosen"]) == ("seasonal_naive", choice["says"])
    assert choice["says"] in (own / "data/model/README.md").read_text()
    found = {c["check"]: c for c in judge_model(own, "best", **read_params("gate", own))["checks"]}
    assert "It is seasonal naive itself" in found["naive"]["says"] and found["sane"]["verdict"] == "passed"
    with pytest.raises(UserError, match="but params.yaml trains gradient_boosting"):
        gate_of(own)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"bias": "much"}, "gate.bias"),
        ({"all_stores": [0.9, 0.7]}, "gate.all_stores"),
        ({"confidence": 1.5}, "gate.confidence"),
        ({"resamples": 3}, "gate.resamples"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_limit_is_said_before_anything_is_judged(own, change, said):
    with pytest.raises(UserError, match=said):
        judge_model(own, "gradient_boosting", **{**read_params("gate", own), **change})
    assert not (own / "reports/gate.json").exists()


def test_without_a_package_or_a_backtest_it_says_what_to_run(own):
    shutil.move(own / "data/model", own / "elsewhere")
    with pytest.raises(UserError, match="make pipeline"):
        gate_of(own)
    shutil.move(own / "elsewhere", own / "data/model")
    (own / "data/evaluation/gradient_boosting.parquet").unlink()
    with pytest.raises(UserError, match="gradient_boosting.parquet is missing"):
        gate_of(own)
