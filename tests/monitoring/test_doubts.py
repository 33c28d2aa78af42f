"""The queue of days that look wrong, on invented sales of which the truth is known."""

import pandas as pd
import pytest
from cd4ml_nb.data.ingest import ingest
from cd4ml_nb.data.prepare import prepare
from cd4ml_nb.monitoring.doubts import find_doubts

SEEDS = (47, 1, 5)
WINDOWS = {"horizon": 16, "calibration_windows": 2, "evaluation_windows": 3}


def invented(folder, seed):
    "A prepared year and more of twelve stores, a series in twenty of which runs out once."
    (folder / "params.yaml").write_text("ingest: {source: synthetic}\n")
    ingest(folder, "synthetic", "", None, synthetic={"rows": 400_000, "stores": 12, "items": 250, "seed": seed})
    prepare(folder, delisted_after=56, windows=WINDOWS, history=56)
    return folder


def judge(root):
    "Shares: of stock-outs of 5 units or more that are found, in the first fifth; of the first tenth that is false."
    queue = find_doubts(root / "data/prepared")
    read = lambda name: pd.read_parquet(root / f"data/raw/truth/{name}.parquet").astype({"store_nbr": str})
    life = read("series").rename(columns={"first_day": "begins", "last_day": "ends"})
    out = read("stockouts").merge(life[["store_nbr", "item_nbr", "level", "begins", "ends"]])
    open_days = read("store_days").query("is_open")[["store_nbr", "date"]]
    wanted = out.reset_index(names="truth").merge(open_days, on="store_nbr")
    first, last = wanted[["first_day", "begins"]].max(axis=1), wanted[["last_day", "ends"]].min(axis=1)
    days = wanted[wanted["date"].between(first, last)].groupby("truth").size()
    out["lost"] = out["level"] * days.reindex(out.index, fill_value=0)  # nobody wants it before, after, in a shut store
    out = out[out["last_day"] > pd.Timestamp(queue["last_date"].max()) - pd.Timedelta(days=370)]
    met = queue.reset_index(names="place").merge(out.reset_index(names="truth"), on=["store_nbr", "item_nbr"])
    first, last = (pd.to_datetime(met[name]) for name in ("first_date", "last_date"))
    met = met[(first <= met["last_day"]) & (last >= met["first_day"])]
    large = out[out["lost"] >= 5].index
    early = met[met["place"] < len(queue) / 5]
    found = [large.isin(met["truth"]).mean(), large.isin(early["truth"]).mean()]
    lost = out["lost"][out.index.isin(early["truth"])].sum() / out["lost"].sum()
    tenth = queue.index[: len(queue) // 10]
    return pd.Series([*found, lost, 1 - tenth.isin(met["place"]).mean()], ["found", "fifth", "lost", "false"])


@pytest.mark.prove
def test_planted_stock_outs_stand_first(tmp_path):
    "Most units that were lost stand in the first fifth of the queue, and little that is false in its first tenth."
    scores = []
    for seed in SEEDS:
        (tmp_path / str(seed)).mkdir()
        scores.append(judge(invented(tmp_path / str(seed), seed)))
    mean = pd.DataFrame(scores).mean()
    assert mean["found"] > 0.9 and mean["fifth"] > 0.8 and mean["lost"] > 0.93, mean
    assert mean["false"] < 0.1, mean


def test_nothing_of_a_store_that_sells_next_to_nothing_is_in_doubt(tmp_path):
    "What sells once a month is silent for weeks, and nobody should be asked about it."
    from cd4ml_nb.tiny import write_prepared

    days = pd.date_range("2017-01-01", "2017-12-31")
    rows = [("1", f"item-{n}", day, 1.0, 0.0) for n in range(20) for day in days[n::30]]
    panel = pd.DataFrame(rows, columns=["store_nbr", "item_nbr", "date", "unit_sales", "onpromotion"])
    panel["date"] = panel["date"].dt.date
    write_prepared(tmp_path, panel, parameters={"delisted_after": 56})
    calendar = pd.DataFrame({"store_nbr": "1", "date": pd.date_range(days[0], periods=len(days) + 60)})
    calendar.assign(is_open=True, why_closed=None, holiday=None, plan_known=False).to_parquet(
        tmp_path / "calendar.parquet"
    )
    pool = (
        panel.groupby(["item_nbr", "date"], as_index=False)["unit_sales"].mean().rename(columns={"unit_sales": "sales"})
    )
    pool.assign(log_sales=0.0).to_parquet(tmp_path / "item_pool.parquet")
    plan = pd.DataFrame({"store_nbr": [], "item_nbr": [], "first_date": [], "last_date": [], "onpromotion": []})
    plan.to_parquet(tmp_path / "promotions.parquet")
    assert find_doubts(tmp_path).empty
