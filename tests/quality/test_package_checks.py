"""What is wrong with a package is found by the check that is meant for it.

Mis-packaged, skewed, stale, leaky, badly behaved, contract-breaking."""

import json, shutil
from contextlib import redirect_stderr
from dataclasses import replace
from datetime import date, timedelta
from io import StringIO
from types import SimpleNamespace
import numpy as np, pandas as pd, pytest
from cd4ml_nb.delivery.onnx import onnx_pair
from cd4ml_nb.delivery.package import package
from cd4ml_nb.model.training import load_fitted
from cd4ml_nb.tiny import tiny_project
from cd4ml_nb.model.block import take_series
from cd4ml_nb.model.forecaster import Forecaster, load_forecaster
from cd4ml_nb.model.package import read_state, seal, write_state
from cd4ml_nb.quality.contracts import package_checks, read_contract, read_contracts
from cd4ml_nb.quality.explain import effects, reasons
from copies import ROOT

CONTRACTS = ROOT / "tests/contracts"


@pytest.fixture(scope="module")
def root():
    folder = tiny_project("package")
    with redirect_stderr(StringIO()):
        package(folder)
    return folder


@pytest.fixture(scope="module")
def fitted(root):
    return load_fitted(root)


@pytest.fixture
def planted(root, tmp_path):
    "A function that copies the package, lets `change(folder, sealed)` go wrong in it, and seals it again."

    def plant(change):
        folder = shutil.copytree(root / "data/model", tmp_path / "model")
        sealed = json.loads((folder / "forecaster.json").read_text())
        (folder / "forecaster.json").unlink()
        change(folder, sealed)
        seal(folder, sealed["card"], sealed["serving"])
        return folder

    return plant


def failed(root, folder, fitted, contracts=CONTRACTS):
    "Key -> sentence of each failed check."
    found = package_checks(root, folder, fitted, contracts)
    assert len(found) >= 3 or found[0]["verdict"] == "failed"
    assert all(
        isinstance(f["says"], str) and f["says"].strip() and f["verdict"] in ("passed", "failed", "not judged")
        for f in found
    )
    return {f["check"]: f["says"] for f in found if f["verdict"] == "failed"}


def test_a_good_package_passes_every_check(root, fitted):
    found = package_checks(root, root / "data/model", fitted, CONTRACTS)
    assert {f["verdict"] for f in found} == {"passed"}, [f["says"] for f in found if f["verdict"] != "passed"]
    assert {
        "packaging",
        "holdout_score",
        "skew",
        "freshness",
        "blindness",
        "promotion",
        "closed_days",
        "contract_orders",
        "contract_dashboard",
    } <= {f["check"] for f in found}


def test_the_findings_are_the_same_on_every_run(root, fitted):
    told = lambda: json.dumps(package_checks(root, root / "data/model", fitted, CONTRACTS), sort_keys=True)
    assert told() == told()


# mis-packaged


def test_another_model_in_the_package_is_found(root, fitted, planted):
    "Sealed, loadable, plausible: the model of the log mean where the mean should be."
    wrong = failed(
        root, planted(lambda folder, sealed: shutil.copy(folder / "log_mean.onnx", folder / "mean.onnx")), fitted
    )
    assert "packaging" in wrong and "differ by" in wrong["packaging"] and "holdout_score" not in wrong


def test_a_model_that_is_a_little_off_is_found(root, fitted, planted):
    "One leaf in a thousand moved by a thousandth."
    import onnx

    def nudge(folder, sealed):
        graph = onnx.load(folder / "mean.onnx")
        for node in graph.graph.node:
            for attribute in node.attribute:
                if attribute.name == "target_weights":
                    attribute.floats[0] += 0.001
        onnx.save(graph, folder / "mean.onnx")

    before = (root / "data/model/mean.onnx").read_bytes()
    folder = planted(nudge)
    assert (folder / "mean.onnx").read_bytes() != before
    assert set(failed(root, folder, fitted)) == {"packaging"}


@pytest.mark.filterwarnings("ignore:divide by zero")  # what such a package says without a promotion is 0
def test_a_wrong_log_link_is_the_wrong_scale(root, fitted, planted):
    wrong = failed(root, planted(lambda folder, sealed: sealed["serving"].update(log_link=False)), fitted)
    assert "packaging" in wrong


def test_a_changed_byte_is_refused(root, fitted, tmp_path):
    folder = shutil.copytree(root / "data/model", tmp_path / "model")
    state = bytearray((folder / "state.parquet").read_bytes())
    state[len(state) // 2] ^= 1
    (folder / "state.parquet").write_bytes(state)
    wrong = failed(root, folder, fitted)
    assert "state.parquet" in wrong["package"] and "changed after it was packaged" in wrong["package"]
    assert "changed after it was packaged" in wrong["contract"]


def test_a_holdout_with_other_sales_does_not_reproduce_its_score(root, fitted, planted):
    def edit(folder, sealed):
        held = pd.read_parquet(folder / "holdout.parquet")
        held.loc[held.index[:3], "unit_sales"] += 5
        held.to_parquet(folder / "holdout.parquet", index=False)

    assert list(failed(root, planted(edit), fitted)) == ["holdout_score"]


def test_a_better_score_on_the_card_is_found(root, fitted, planted):
    wrong = failed(root, planted(lambda folder, sealed: sealed["card"]["holdout"].update(nwrmsle=0.4)), fitted)
    assert list(wrong) == ["holdout_score"] and "its card says 0.40000" in wrong["holdout_score"]


def test_a_card_without_a_score_is_found(root, fitted, planted):
    assert (
        "records no score"
        in failed(root, planted(lambda folder, sealed: sealed["card"].pop("holdout")), fitted)["holdout_score"]
    )


def test_intervals_that_are_too_narrow_are_found(root, fitted, planted):
    def narrow(folder, sealed):
        for entry in sealed["serving"]["calibration"]["series"].values():
            entry["error"] = [[[row[2]] * len(row) for row in knot] for knot in entry["error"]]

    assert list(failed(root, planted(narrow), fitted)) == ["package_intervals"]


# skewed


def test_another_encoding_is_skew(root, fitted, planted):
    wrong = failed(root, planted(lambda folder, sealed: sealed["serving"]["encoding"]["class"].reverse()), fitted)
    assert "class of item" in wrong["skew"]


@pytest.mark.parametrize("array", ["sales", "item_sales", "class_sales", "onpromotion", "holiday"])
def test_a_state_that_differs_from_the_data_is_skew(root, fitted, planted, array):
    "One number of one series in the package's state."

    def edit(folder, sealed):
        state = read_state(folder / "state.parquet")
        values = getattr(state, array).copy()
        row, day = 2, state.n_days - 3
        values[row, day] = ~values[row, day] if array == "holiday" else values[row, day] + 1
        write_state(folder / "state.parquet", replace(state, **{array: values}))

    wrong = failed(root, planted(edit), fitted)
    assert "skew" in wrong and "in training and" in wrong["skew"]


def test_a_serving_path_that_computes_otherwise_is_skew(root, fitted, monkeypatch):
    "The same state, the same encoding, but the serving code adds the days in another way."
    import cd4ml_nb.model.kernel as serving, cd4ml_nb.quality.equivalence as equivalence
    from cd4ml_nb.model.features import FEATURES, feature_parts

    def drifted(*given):
        for rows, x in feature_parts(*given):
            x[..., FEATURES.index("horizon")] -= 1
            yield rows, x

    for module in (serving, equivalence):
        monkeypatch.setattr(module, "feature_parts", drifted)
    assert "horizon" in failed(root, root / "data/model", fitted)["skew"]


# stale


def test_yesterdays_package_is_stale(root, fitted, planted):
    wrong = failed(root, planted(lambda folder, sealed: sealed["card"].update(data_version="0123456789ab")), fitted)
    assert list(wrong) == ["freshness"] and "0123456789ab" in wrong["freshness"]


def test_data_that_went_on_make_the_package_stale(root, fitted, tmp_path):
    "A day more in the data, the package as it was."
    newer = shutil.copytree(root, tmp_path / "newer")
    path = newer / "data/prepared/version.json"
    version = json.loads(path.read_text())
    version["last_day"] = str(date.fromisoformat(version["last_day"]) + timedelta(days=1))
    path.write_text(json.dumps(version))
    assert "the day after the last sale" in failed(newer, newer / "data/model", fitted)["freshness"]


def test_a_model_trained_past_the_holdouts_start_is_found(root, fitted, planted):
    wrong = failed(
        root,
        planted(lambda folder, sealed: sealed["card"].update(trained_to=sealed["card"]["forecast_origin"])),
        fitted,
    )
    assert "learnt from sales up to" in wrong["freshness"]


# leaky


class Peeking:
    "A fitted model that looks at what is sold on the days it forecasts."

    def __init__(self, inner):
        self.inner, self.encoding = inner, inner.encoding

    def forecast(self, block, origin, horizon):
        mean, log_mean = self.inner.forecast(block, origin, horizon)
        ahead = np.nan_to_num(
            np.pad(block.sales, ((0, 0), (0, horizon)), constant_values=np.nan)[:, origin + 1 : origin + 1 + horizon]
        )
        return 0.9 * mean + 0.1 * ahead, log_mean


def test_a_model_that_looks_ahead_is_leaky(root, fitted):
    wrong = failed(root, root / "data/model", Peeking(fitted))
    assert "the fitted model" in wrong["blindness"] and "leaks" in wrong["blindness"]


def test_a_feature_that_looks_ahead_is_leaky(root, fitted, monkeypatch):
    "As when a window ends a day too late: training sees the first target day, serving cannot."
    import cd4ml_nb.quality.equivalence as equivalence
    from cd4ml_nb.model.features import FEATURES, build_features

    def late(block, origins, horizon, encoding):
        rows = build_features(block, origins, horizon, encoding)
        ahead = np.pad(block.sales, ((0, 0), (0, 1)), constant_values=np.nan)[:, np.atleast_1d(origins) + 1]
        rows.x[..., FEATURES.index("log_mean_1")] = np.log1p(ahead).T[..., None]
        return rows

    monkeypatch.setattr(equivalence, "build_features", late)
    wrong = failed(root, root / "data/model", fitted)
    assert "a feature" in wrong["blindness"] and "log_mean_1" in wrong["skew"]


def test_a_model_that_learnt_the_holdout_does_not_reproduce_its_score(root, fitted, planted):
    "Fitted up to the end of the data, but said to be trained up to the holdout."
    from cd4ml_nb.core import read_params
    from cd4ml_nb.model.loading import load_block
    from cd4ml_nb.model.estimators import make_estimator

    params, block = read_params(root=root), load_block(root / "data/prepared")
    rows = {name: value for name, value in params["training_rows"].items() if name != "max_series"}
    cheat = make_estimator("gradient_boosting", params["estimators"]["gradient_boosting"], rows).fit(
        block, block.n_days - 1, 16
    )

    cheat.blend = fitted.blend  # the package's rule has its share of it, too

    def swap(folder, sealed):
        for name, graph in zip(("mean", "log_mean"), onnx_pair(cheat)):
            (folder / f"{name}.onnx").write_bytes(graph)

    assert list(failed(root, planted(swap), cheat)) == ["holdout_score"]


# behaviour


def behaving(monkeypatch, change):
    "Every loaded forecaster answers through `change(mean, block, origin)`."
    import cd4ml_nb.quality.contracts as contracts

    def load(folder):
        f = load_forecaster(folder)
        inner = f.models.on_block

        def on_block(block, origin, horizon, rows):
            mean, log_mean = inner(block, origin, horizon, rows)
            return change(mean, block, origin), log_mean

        f.models.on_block = on_block
        return f

    monkeypatch.setattr(contracts, "load_forecaster", load)


@pytest.mark.parametrize(
    "check, change",
    {
        "promotion": lambda mean, block, origin: (
            mean / (1 + np.nan_to_num(block.onpromotion[:, origin + 1 : origin + 2]) * 2)
        ),
        "level": lambda mean, block, origin: mean * 10,
        "more_sales": lambda mean, block, origin: (
            mean / (1 + np.nan_to_num(block.sales[:, origin - 27 : origin + 1]).mean())
        ),
        "alone": lambda mean, block, origin: mean * (1 + np.arange(len(mean))[:, None] / 100),
        "package_answers": lambda mean, block, origin: np.where(np.arange(mean.shape[1]) == 3, np.nan, mean),
        "closed_days": lambda mean, block, origin: np.full_like(mean, np.nan),
    }.items(),
)
def test_bad_behaviour_is_found(root, fitted, monkeypatch, check, change):
    behaving(monkeypatch, change)
    assert check in failed(root, root / "data/model", fitted)


# contract-breaking


def test_a_shorter_horizon_breaks_contracts(root, fitted, planted):
    def edit(folder, sealed):
        last = np.datetime64(sealed["card"]["forecast_origin"]) + 5
        sealed["card"].update(horizon=5, last_day=str(last))
        rest = pd.read_parquet(folder / "remainder.parquet")
        rest.groupby(["grain", "name"], sort=False).head(5).to_parquet(folder / "remainder.parquet", index=False)

    wrong = failed(root, planted(edit), fitted)
    assert "orders" in wrong["contract_orders"] and "reach 5 days ahead, and 7 are needed" in wrong["contract_orders"]


def test_a_card_without_what_the_dashboard_shows_breaks_its_contract(root, fitted, planted):
    wrong = failed(
        root,
        planted(lambda folder, sealed: (sealed["card"]["metrics"].pop("wape"), sealed["card"].pop("source"))),
        fitted,
    )
    assert list(wrong) == ["contract_dashboard"]
    assert (
        "dashboard" in wrong["contract_dashboard"]
        and "metrics.wape is missing in the answer of card" in wrong["contract_dashboard"]
        and "the field source" in wrong["contract_dashboard"]
    )


def test_a_new_demand_of_a_consumer_is_named(root, fitted, tmp_path):
    folder = shutil.copytree(CONTRACTS, tmp_path / "contracts")
    contract = json.loads((folder / "orders.json").read_text())
    contract["questions"][1]["outputs"]["q95"] = {"type": "number"}
    (folder / "orders.json").write_text(json.dumps(contract))
    wrong = failed(root, root / "data/model", fitted, folder)
    assert (
        list(wrong) == ["contract_orders"]
        and "the field q95 is missing in the answer of total" in wrong["contract_orders"]
    )


def test_an_input_that_became_compulsory_is_named(root, fitted, monkeypatch):
    "The order desk asks for a total without a store; a model that demands one breaks it."

    def total(self, item_nbr, store_nbr, first_date=None, last_date=None, promotion=None):
        return {"mean": 1.0, "q10": 0.5, "q50": 1.0, "q90": 2.0}

    monkeypatch.setattr(Forecaster, "total", total)
    wrong = failed(root, root / "data/model", fitted)
    assert "the example of total is refused" in wrong["contract_orders"] and "store_nbr" in wrong["contract_orders"]


def test_a_damaged_contract_fails_alone(root, fitted, tmp_path):
    folder = shutil.copytree(CONTRACTS, tmp_path / "contracts")
    (folder / "orders.json").write_text("{")
    wrong = failed(root, root / "data/model", fitted, folder)
    assert list(wrong) == ["contract_orders"] and "is not JSON" in wrong["contract_orders"]


def test_every_contract_has_an_example_and_its_answer():
    contracts = read_contracts(CONTRACTS)
    assert {"dashboard.json", "orders.json"} <= set(contracts)
    for contract in contracts.values():
        assert all(question["outputs"] for question in contract["questions"]) and any(
            "example" in question for question in contract["questions"]
        )


def test_the_dashboard_contract_covers_what_the_page_reads(root):
    "Every question that the page's remembered forecaster keeps stands in the contract."
    from cd4ml_nb.apps.page import remember

    kept = {name for name in vars(remember(load_forecaster(root / "data/model")))} & {
        "forecast",
        "total",
        "recent",
        "known",
        "daily_totals",
        "card",
        "items",
        "stores",
    }
    assert kept <= {question["ask"] for question in read_contract(CONTRACTS / "dashboard.json")["questions"]}


# path models, and reasons


def test_an_estimator_without_features_is_judged_too(root, tmp_path):
    other = shutil.copytree(root, tmp_path / "naive")
    from cd4ml_nb.core import read_params
    from cd4ml_nb.model.training import train

    params = read_params(root=other)
    with redirect_stderr(StringIO()):
        train(other, "seasonal_naive", params["estimators"]["seasonal_naive"], params["training_rows"])
        package(other)
    naive = load_fitted(other)
    found = {f["check"]: f["verdict"] for f in package_checks(other, other / "data/model", naive, CONTRACTS)}
    assert "failed" not in found.values() and found["promotion"] == found["alone"] == "not judged"
    f = load_forecaster(other / "data/model")
    item = f.series["item_nbr"].iloc[0]
    assert effects(f, item, None, f.card["first_day"], f.card["last_day"]) is None
    assert isinstance(reasons(f, item, None, f.card["first_day"], f.card["last_day"]), list)
    from cd4ml_nb.quality.importance import explanation

    told = explanation(other)
    assert not told["importance"] and "own past only" in told["words"][0]


def test_usual_and_reasons_are_the_forecast_on_every_day(root):
    "For each day, series and switch a usual day and the shares add up, through the remembered forecaster, too."
    from cd4ml_nb.apps.page import remember

    f = load_forecaster(root / "data/model")
    model = remember(f)
    for store, item in f.series.iloc[::5].itertuples(index=False):
        for day in map(str, f.dates.date[::5]):
            for switch in (None, True):
                assert sum(effects(model, item, store, day, day, switch).values()) == pytest.approx(
                    f.total(item, store, day, day, switch)["mean"], abs=1e-6
                )


def test_reasons_add_up_as_they_are_shown(root):
    "From the start that is shown to the headline: one day, a range, one store and all of them."
    f = load_forecaster(root / "data/model")
    store, item = f.series.iloc[0]
    days = [str(day.date()) for day in f.dates]
    for where in (store, None):
        for last in (days[0], days[6], days[-1]):
            said = reasons(f, item, where, days[0], last)
            headline = f.total(item, where, days[0], last)["mean"]
            sold = f.recent(item, where, 140)["unit_sales"]  # twenty weeks, as the start's words say
            assert said[0]["kind"] == "start" and "of the last twenty weeks" in said[0]["text"]
            assert said[0]["units"] == pytest.approx(sold.mean() * (days.index(last) + 1), abs=0.5)
            assert sum(r["units"] for r in said) == pytest.approx(headline, abs=1e-6)
            step = 0.1 if headline < 9.95 else 1
            assert sum(r["shown"] for r in said) == pytest.approx(round(headline / step) * step, abs=1e-6)


@pytest.mark.parametrize(
    "learnt, reason", [([], False), (["Feast (observed)"], True), (["Labor Day"], False), (None, True)]
)
def test_a_holiday_that_was_never_learnt_is_no_reason(learnt, reason):
    days = pd.date_range("2018-01-01", periods=16)
    units = pd.DataFrame({"date": days, "mean": [40.0] + [10.0] * 15})
    known = pd.DataFrame({"store_nbr": "1", "date": days, "onpromotion": 0.0, "holiday": None, "is_open": True})
    known.loc[0, "holiday"] = "Feast"
    sold = pd.DataFrame({"date": pd.date_range(end="2017-12-31", periods=56), "unit_sales": 10.0})
    answers = {"forecast": lambda *a: units, "known": lambda *a: known, "recent": lambda *a: sold}
    feast = SimpleNamespace(card={} if learnt is None else {"learnt_holidays": learnt}, **answers)
    said = reasons(feast, "milk", "1", "2018-01-01", "2018-01-01")
    assert ("holiday" in [r["kind"] for r in said]) == reason
    assert sum(r["units"] for r in said) == 40 and any("no Feast" in r["text"] for r in said) != reason


def test_a_closed_day_has_one_reason(root):
    f = load_forecaster(root / "data/model")
    shut, calendar, (store, item) = f.block.is_open.copy(), f.calendar.copy(), f.series.iloc[0]
    shut[(f.block.series["store_nbr"] == store).to_numpy(), f.origin + 3] = False
    calendar.loc[(calendar["store_nbr"] == store) & (calendar["date"] == f.dates[2]), "is_open"] = False
    closed = Forecaster(f.card, f.serving, replace(f.block, is_open=shut), f.models, calendar)
    day = str(f.dates[2].date())
    parts = effects(closed, item, store, day, day)
    assert parts["closed"] == -parts["usual"] < 0 and sum(parts.values()) == 0
    start, shut = reasons(closed, item, store, day, day)
    assert (start["kind"], shut["kind"], shut["text"]) == ("start", "closed", "The store is closed that day.")
    assert start["shown"] + shut["shown"] == 0
    everywhere = {r["kind"]: r["text"] for r in reasons(closed, item, None, day, day, least=0)}
    assert everywhere["closed"] == f"1 of {(f.series['item_nbr'] == item).sum()} stores is closed."
    assert sum(effects(closed, item, None, day, day).values()) == pytest.approx(
        closed.total(item, None, day, day)["mean"], abs=1e-6
    )


def test_a_product_that_the_store_never_sold_has_reasons(root):
    f = load_forecaster(root / "data/model")
    store, item = f.series.iloc[0]
    few = f.with_block(take_series(f.block, np.arange(1, len(f.series))))
    asked = item, store, f.card["first_day"], f.card["last_day"]
    (only,) = reasons(few, *asked)
    assert only["units"] == few.total(*asked)["mean"] > 0 and "what its class sells in the store" in only["text"]


def test_what_cannot_even_be_gathered_is_one_failed_check_that_says_why(root, fitted, monkeypatch):
    import cd4ml_nb.quality.equivalence as equivalence

    monkeypatch.setattr(equivalence, "gather", lambda *_: {}["gone"])
    found = package_checks(root, root / "data/model", fitted, CONTRACTS)
    wrong = [check for check in found if check["verdict"] == "failed"]
    assert [check["check"] for check in wrong] == ["package"]
    assert wrong[0]["says"] == "This could not be judged (KeyError: 'gone'): failed."
