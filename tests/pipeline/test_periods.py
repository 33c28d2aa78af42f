"Tables of weeks and of months: from a file that was never seen to a judged model, and what of them is said."

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from cd4ml_nb.core import UserError
from cd4ml_nb.data.suggest import suggest
from cd4ml_nb.data.table import check_source, check_table
from cd4ml_nb.model.forecaster import load_forecaster
from cd4ml_nb.tiny import TINY, stage_function

COLUMNS = {"date": "date", "item": "dept", "store": "store", "quantity": "sales"}
WEEKS = pd.date_range("2010-02-05", periods=70, freq="7D")
MONTHS = pd.date_range("2010-01-01", periods=60, freq="MS")


def table(dates, seed=1):
    "Sales of four departments in two stores, with a year that comes again."
    rng, rows = np.random.default_rng(seed), []
    for store in "AB":
        for dept, base in enumerate((40, 90, 200, 500)):
            season = np.exp(0.6 * np.cos(2 * np.pi * (dates.dayofyear - 90 * dept) / 365))
            units = rng.poisson(base * season)
            rows.append(pd.DataFrame({"store": store, "dept": f"d{dept}", "date": dates, "sales": units}))
    return pd.concat(rows)


def project(tmp_path, rows, horizon, first, estimators=("seasonal_naive", "gradient_boosting")):
    "A project whose table is described as `suggest` says."
    rows.to_csv(tmp_path / "sales.csv", index=False)
    params = yaml.safe_load(TINY)
    params["ingest"]["source"], params["table"] = "table", suggest(tmp_path / "sales.csv", tmp_path).mapping
    params["split"]["horizon"], params["split"]["evaluation_windows"] = horizon, 2
    params["training_rows"] |= {"first": first, "every": horizon}
    params["prepare"]["closed_days"] = []
    params["estimators"] = {name: params["estimators"][name] for name in estimators}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "settings.ini").write_text("[DEFAULT]\n")
    for folder in ("data", "reports"):
        (tmp_path / folder).mkdir()
    return params


def run(root, params, name="gradient_boosting"):
    "The stages from ingest to the gate."
    stage_function("ingest")(root, **params["ingest"], table=params["table"])
    history = params["training_rows"]["first"]
    stage_function("prepare")(root, **params["prepare"], windows=params["split"], history=history)
    stage_function("split")(root, **params["split"])
    how = {"training_rows": params["training_rows"]}
    for one, own in params["estimators"].items():
        stage_function("backtest")(root, estimator=one, estimator_parameters=own, **how)
    stage_function("evaluate")(root)
    stage_function("train")(root, estimator=name, estimator_parameters=params["estimators"][name], **how)
    stage_function("package")(root)
    stage_function("gate")(root, estimator=name, **params["gate"])
    return load_forecaster(root / "data/model"), json.loads((root / "reports/gate.json").read_text())


@pytest.mark.parametrize(
    ("dates", "horizon", "first", "grain", "ahead"),
    [
        (WEEKS, 4, 30, "week", ["2011-06-10", "2011-06-17", "2011-06-24", "2011-07-01"]),
        (MONTHS, 3, 24, "month", ["2015-01-01", "2015-02-01", "2015-03-01"]),
    ],
)
def test_a_table_of_periods_goes_from_a_file_to_a_judged_model(tmp_path, dates, horizon, first, grain, ahead):
    params = project(tmp_path, table(dates), horizon, first)
    assert params["table"]["grain"] == grain
    forecaster, gate = run(tmp_path, params)
    assert (forecaster.card["grain"], forecaster.horizon) == (grain, horizon)
    assert [str(day)[:10] for day in forecaster.dates] == ahead
    checks = {check["check"]: check["verdict"] for check in gate["checks"]}
    wrong = [name for name, verdict in checks.items() if verdict == "failed" and name.startswith("contract")]
    alike = [checks[name] for name in ("skew", "freshness", "blindness", "closed_days")]
    assert not wrong and set(alike) == {"passed"}, checks
    last = pd.Timestamp(ahead[-1]) + pd.Timedelta(days=3)  # a day of the last week or month is asked for it
    total = forecaster.total("d3", "A", f"{last:%Y-%m-%d}")
    assert 200 < total["mean"] < 1500
    naive, own = (
        json.loads((tmp_path / "reports/metrics.json").read_text())["models"][name]
        for name in ("seasonal_naive", "gradient_boosting")
    )
    assert own["nwrmsle"]["mean"] < 2 * naive["nwrmsle"]["mean"]


def found(tmp_path, rows, grain="week", **more):
    "What `data check` says of a table."
    rows.to_csv(tmp_path / "sales.csv", index=False)
    mapping = {"sales": "sales.csv", "columns": COLUMNS, **({"grain": grain} if grain else {}), **more}
    return [f["expectation"] for f in check_table(mapping, tmp_path)], check_source(mapping, tmp_path)["fits"]


def test_weeks_are_recognised_and_a_change_half_way_is_told_with_its_day(tmp_path):
    says, _ = found(tmp_path, table(WEEKS), None)
    assert "100% of the dates are Fridays, 7 days apart. Write grain: week" in says[0]
    both = pd.concat([table(WEEKS), table(pd.date_range("2011-06-04", periods=90), 2)])
    for grain in (None, "week", "day"):
        says, _ = found(tmp_path, both, grain)
        assert grain == "day" or "from 2011-06-04 on of days" in says[0], (grain, says)
    says, _ = found(tmp_path, table(pd.date_range("2011-06-04", periods=90)), "month")
    assert "these look like days. Write grain: day" in says[0]


def test_rows_on_another_weekday_count_to_the_nearest_week_and_are_told(tmp_path):
    rows = table(WEEKS)
    rows.loc[rows["date"] == WEEKS[9], "date"] = WEEKS[9] - pd.Timedelta(days=1)
    says, fits = found(tmp_path, rows)
    assert not says and any("8 rows are dated on another weekday" in line for line in fits)
    twice = pd.concat([rows, rows[rows["date"] == WEEKS[9] - pd.Timedelta(days=1)].assign(date=WEEKS[9])])
    says, _ = found(tmp_path, twice)
    assert "one row for each" in says[0]


def test_what_is_missing_is_told_and_single_days_are_no_closed_weeks(tmp_path):
    rows = table(WEEKS)
    rows = rows[~rows["date"].isin(WEEKS[30:32])]
    params = project(tmp_path, rows, 4, 30)
    stage_function("ingest")(tmp_path, **params["ingest"], table=params["table"])
    prepare = lambda closed: stage_function("prepare")(tmp_path, **{**params["prepare"], "closed_days": closed})
    prepare([])
    version = json.loads((tmp_path / "data/prepared/version.json").read_text())
    assert (version["grain"], version["first_day"], version["last_day"]) == ("week", "2010-02-05", "2011-06-03")
    assert "2 weeks are missing" in version["opening"]["doubts"][0]
    with pytest.raises(UserError, match="'12-25' is a day of a week"):
        prepare(["12-25"])
    prepare(["2011-06-10 to 2011-06-23"])
    calendar = pd.read_parquet(tmp_path / "data/prepared/calendar.parquet")
    shut = calendar[(calendar["store_nbr"] == "A") & ~calendar["is_open"]]["date"].astype(str).tolist()
    assert shut == ["2011-06-10", "2011-06-17"]
