"""The queue of days that look wrong, on invented sales of which the truth is known."""

import numpy as np, pandas as pd
import pytest
from cd4ml_nb.core import UserError
from cd4ml_nb.data.ingest import ingest
from cd4ml_nb.data.prepare import prepare
from cd4ml_nb.monitoring.doubts import find_doubts

SEEDS = (47, 1, 5)
WINDOWS = {"horizon": 16, "calibration_windows": 2, "evaluation_windows": 3}


def invented(folder, seed, rows=400_000, stores=12, items=250):
    "A prepared year and more of twelve stores, a series in twenty of which runs out once."
    (folder / "params.yaml").write_text("ingest: {source: synthetic}\n")
    ingest(folder, "synthetic", "", None, synthetic={"rows": rows, "stores": stores, "items": items, "seed": seed})
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
    sold = pd.read_parquet(root / "data/prepared/series.parquet", columns=["store_nbr", "item_nbr", "first_sale"])
    begun = pd.to_datetime(out.merge(sold, how="left")["first_sale"]).to_numpy() <= out["last_day"].to_numpy()
    out = out[begun]  # what was never sold yet ran out for nobody to see
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


def write_sales(folder, units, first="2017-01-01"):
    "Stores' regular table, shape (n_stores, n_items, n_days), or that of one, as it is prepared."
    from cd4ml_nb.tiny import write_prepared

    units = units.reshape(-1, *units.shape[-2:])
    days, stores = pd.date_range(first, periods=units.shape[2]), [str(1 + n) for n in range(len(units))]
    rows = [(stores[s], f"item-{n}", days[day], units[s, n, day], 0.0) for s, n, day in zip(*units.nonzero())]
    panel = pd.DataFrame(rows, columns=["store_nbr", "item_nbr", "date", "unit_sales", "onpromotion"])
    panel["date"] = panel["date"].dt.date
    write_prepared(folder, panel, parameters={"delisted_after": 56})
    dates = pd.DataFrame({"date": pd.date_range(days[0], periods=len(days) + 60)})
    calendar = pd.DataFrame({"store_nbr": stores}).merge(dates, how="cross")
    calendar.assign(is_open=True, why_closed=None, holiday=None, plan_known=False).to_parquet(
        folder / "calendar.parquet"
    )
    pool = (
        panel.groupby(["item_nbr", "date"], as_index=False)["unit_sales"].mean().rename(columns={"unit_sales": "sales"})
    )
    pool.assign(log_sales=0.0).to_parquet(folder / "item_pool.parquet")
    plan = pd.DataFrame({"store_nbr": [], "item_nbr": [], "first_date": [], "last_date": [], "onpromotion": []})
    plan.to_parquet(folder / "promotions.parquet")
    series = pd.read_parquet(folder / "series.parquet").assign(city=None, state=None)
    series.to_parquet(folder / "series.parquet", index=False)


def test_nothing_of_a_store_that_sells_next_to_nothing_is_in_doubt(tmp_path):
    "What sells once a month is silent for weeks, and nobody should be asked about it."
    day, item = np.arange(365), np.arange(20)[:, None]
    write_sales(tmp_path, ((day >= item) & ((day - item) % 30 == 0)).astype(float))
    assert find_doubts(tmp_path).empty


@pytest.mark.parametrize(
    "name", ["panel/store_nbr=1/*.parquet", "item_pool.parquet", "promotions.parquet", "calendar.parquet"]
)
def test_a_file_that_is_cut_off_is_named(tmp_path, name):
    "Half of a file came back from a backup, or that of something else: which it is, and how to have it again."
    write_sales(tmp_path, np.ones((2, 30)))
    path = next(tmp_path.glob(name))
    column = "date" if "date" in pd.read_parquet(path) else "first_date"
    for damage in (
        lambda: path.write_bytes(path.read_bytes()[:-9]),
        lambda: pd.DataFrame({"a": [1]}).to_parquet(path),
        lambda: pd.DataFrame({"store_nbr": ["1"], "item_nbr": ["2"], column: ["x"]}).to_parquet(path),
    ):
        damage()
        with pytest.raises(UserError, match=f"{path.name} cannot be read: .*make pipeline"):
            find_doubts(tmp_path)


@pytest.mark.parametrize("nights", [1, 30])
def test_a_change_of_units_is_one_run_for_as_long_as_it_lasts(tmp_path, nights):
    "A product is counted in pieces instead of packs of twelve; a week before, another one is cut off each noon."
    random, days = np.random.default_rng(5), 150
    units = random.poisson(12, (8, days + nights)).astype(float)
    units[3, days:] *= 12
    units[6, days - 20 : days - 14] = random.binomial(units[6, days - 20 : days - 14].astype(int), 0.3)
    write_sales(tmp_path, units)
    found = find_doubts(tmp_path)
    day = lambda number: f"{pd.Timestamp('2017-01-01') + pd.Timedelta(days=number):%Y-%m-%d}"
    first = found.iloc[0]
    assert (first["kind"], first["item_nbr"]) == ("wrong_quantity", "item-3")
    assert (first["first_date"], first["last_date"]) == (day(days), day(days + nights - 1))
    assert abs(first["sold"] - first["expected"] - 12 * nights) < 4 * nights, "usual is what was before"
    assert (found["kind"] == "wrong_quantity").sum() == 1
    sure = found[(found["kind"] == "stock_out") & (found["probability"] > 0.5)]
    assert (sure["last_date"] < day(days)).all(), "no other product looks short of sales beside the run"
    cut = sure.iloc[0]
    assert (cut["kind"], cut["item_nbr"], cut["sold"] > 0) == ("stock_out", "item-6", True)
    assert day(days - 21) <= cut["first_date"] and cut["last_date"] <= day(days - 13)


@pytest.mark.parametrize("nights", [2, 10, 19])
def test_no_usual_reaches_across_a_change_of_units_in_all_stores(tmp_path, nights):
    "In six stores a product is counted in pieces instead of packs from a day on, another in packs instead of pieces."
    random, days = np.random.default_rng(7), 90
    units = random.poisson(7, (6, 4, days + nights)).astype(float)  # by store, item and day
    units[:, 1, days:] *= 12
    units[:, 2, :days] *= 12
    write_sales(tmp_path, units)
    found = find_doubts(tmp_path)
    sure = found[found["probability"] > 0.5].sort_values(["item_nbr", "store_nbr"])
    assert sure["item_nbr"].to_list() == ["item-1"] * 6 + ["item-2"] * 6, "one run of each, and nothing else"
    assert (sure["kind"] == "wrong_quantity").all()
    ends = pd.Timestamp("2017-01-01") + pd.to_timedelta([days, days + nights - 1], "D")
    assert set(zip(sure["first_date"], sure["last_date"])) == {tuple(ends.strftime("%Y-%m-%d"))}
    missing = np.abs(units[:, 1:3, days:].sum(axis=2) * [11 / 12, -11]).T.ravel()
    assert (np.abs(sure["expected"] / missing - 1) < 0.35).all(), "usual is what was on the count of before"


def even_sellers(seed, cut_off, stores=6, items=30, days=250):
    "Units by store, item and day; of series that are cut off at noon on some days, store, item, first and last place."
    random, cut = np.random.default_rng(seed), []
    base = random.lognormal(2.2, 0.8, items) * random.lognormal(0, 0.4, (stores, items))
    units = random.poisson(base[:, :, None] * random.lognormal(0, 0.06, (stores, 1, days)), (stores, items, days))
    units = units.astype(float)
    for place in random.choice(stores * items, cut_off, replace=False):
        (store, item), first = divmod(int(place), items), int(random.integers(20, days - 20))
        last = first + int(random.integers(0, 5))
        wanted = units[store, item, first : last + 1].astype(int)
        units[store, item, first : last + 1] = random.binomial(wanted, random.uniform(0.1, 0.7))
        cut.append((str(store + 1), f"item-{item}", first, last))
    return units, pd.DataFrame(cut, columns=["store_nbr", "item_nbr", "first", "last"])


def test_where_nothing_ran_out_nothing_is_asked(tmp_path):
    "The rarest day of even sellers is no news: three such days stood here, one of them as 99% sure."
    write_sales(tmp_path, even_sellers(1, 0)[0])
    assert find_doubts(tmp_path).empty


def test_a_whole_store_is_one_entry_on_the_first_night(tmp_path):
    "One sold nothing on the last day, of another the sales until noon came: not thirty products each that ran out."
    units = even_sellers(1, 0, days=150)[0]
    units[1, :, -1] = 0
    units[4, :, -1] = np.random.default_rng(1).binomial(units[4, :, -1].astype(int), 0.5)
    write_sales(tmp_path, units)
    found = find_doubts(tmp_path)
    assert found[["kind", "store_nbr", "item_nbr"]].to_numpy().tolist() == [["closed", "2", ""], ["closed", "5", ""]]
    assert set(found["first_date"]) == set(found["last_date"]) == {"2017-05-30"}
    assert [one.split(",")[0] for one in found["evidence"]][0] == "The store sold nothing at all"
    assert "closed early" in found["evidence"][1] and (found["probability"] > 0.9).all()


def test_as_many_are_right_as_is_said(tmp_path):
    "One series in four is cut off at noon: the first tenth is right, and so is the sum of what is stated."
    units, cut = even_sellers(2, 45)
    write_sales(tmp_path, units)
    found = find_doubts(tmp_path)
    place = lambda name: (pd.to_datetime(found[name]) - pd.Timestamp("2017-01-01")).dt.days
    met = found.assign(at=found.index, begins=place("first_date"), ends=place("last_date"))
    met = met.merge(cut, on=["store_nbr", "item_nbr"])
    true = found.index.isin(met.loc[(met["begins"] <= met["last"]) & (met["ends"] >= met["first"]), "at"])
    assert true.sum() >= 20 and true[: len(found) // 10].mean() >= 0.9
    assert abs(found["probability"].sum() - true.sum()) < 0.25 * true.sum()
