"Nights that add a day to what was prepared: the files of a whole prepare, and those of before where nothing changed."

import shutil
import numpy as np, pandas as pd, pytest
from cd4ml_nb.core import UserError, read_json
from cd4ml_nb.data import added, stores
from cd4ml_nb.data.panel import read_series
from cd4ml_nb.data.prepare import prepare_folder
from cd4ml_nb.data.sources import tiny
from cd4ml_nb.delivery import package
from cd4ml_nb.model import loading
from cd4ml_nb.model.block import ARRAYS
from cd4ml_nb.model.remainder import Remainders

pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")  # Ibis 12 on DuckDB 2
RULE = dict(delisted_after=56, absent="closed", closed_days=["12-25"])


def write_raw(folder, sales, later=0):
    "The tiny source's tables with other sales, all days later."
    folder.mkdir(parents=True)
    tiny(folder)
    for name in ("promotions", "transactions", "holidays_events"):
        (folder / f"{name}.csv").unlink()
    known = pd.read_csv(folder / "train.csv", dtype=str) if sales is None else sales
    if later:
        known["date"] = (pd.to_datetime(known["date"]) + pd.Timedelta(days=later)).dt.strftime("%Y-%m-%d")
    known.to_csv(folder / "train.csv", index=False)
    return known


def files_of(prepared):
    "The bytes of each Parquet file."
    return {str(path.relative_to(prepared)): path.read_bytes() for path in sorted(prepared.rglob("*.parquet"))}


class Shop:
    "Sales that are prepared night by night."

    def __init__(self, folder, sales):
        self.folder, self.sales, self.before = folder, sales, folder / "none"

    def raw(self, day):
        folder = self.folder / f"raw-{len(list(self.folder.iterdir()))}"
        write_raw(folder, self.sales[self.sales["date"] <= day].copy())
        return folder

    def night(self, day, **rule):
        "The folder of a night, and of all prepared at once."
        raw, out = self.raw(day), self.folder / day
        prepare_folder(raw, out, before=self.before, **RULE | rule)
        whole = self.folder / f"{day}-whole"
        steps = prepare_folder(raw, whole, before=self.folder / "none", **RULE | rule)
        self.before = out
        return out, whole, steps


def shared(prepared):
    "The files that have a second name."
    return {str(path.relative_to(prepared)) for path in prepared.rglob("*.parquet") if path.stat().st_nlink > 1}


@pytest.fixture
def shop(tmp_path):
    "The tiny source's sales around a turn of the year."
    return Shop(tmp_path, write_raw(tmp_path / "raw", None, later=133))


@pytest.fixture
def ways(monkeypatch):
    "Which way each night went."
    went = []
    for name in ("add_day", "do_stores"):
        own = getattr(added, name)
        monkeypatch.setattr(added, name, lambda *given, own=own, name=name: went.append(name) or own(*given))
    return went


DAYS = [f"{day:%Y-%m-%d}" for day in pd.date_range("2017-12-29", "2018-01-03")]


@pytest.mark.prove  # tests/delivery/test_night.py and test_came.py hold nights of every day against a whole prepare
@pytest.mark.parametrize("cells", [stores.CELLS_AT_ONCE, 1_600])
def test_nights_over_a_turn_of_the_year_write_what_a_whole_prepare_does(shop, ways, monkeypatch, cells):
    "Whether the items are one range or several; the files of the year that is over are the same ones."
    monkeypatch.setattr(stores, "CELLS_AT_ONCE", cells)
    for day in DAYS:
        out, whole, _ = shop.night(day)
        assert files_of(out) == files_of(whole), day
        ranges = {path.stem.split("-")[1] for path in out.glob("panel/*/*.parquet")}
        assert (len(ranges) > 1) == (cells == 1_600)
    assert ways == ["do_stores"] * 2 + ["add_day", "do_stores"] * (len(DAYS) - 1)
    kept = {str(path.relative_to(out)) for path in out.rglob("201[67]-*.parquet")}
    assert kept and kept <= shared(out)


def test_a_new_series_a_return_and_a_store_without_a_sale(shop, ways):
    day = DAYS[2]
    sales = shop.sales[(shop.sales["date"] != day) | (shop.sales["store_nbr"] != "2")]
    first = sales[sales["date"] == day].iloc[0]
    store, item = "1", max(sales["item_nbr"])
    sales = sales[(sales["store_nbr"] != store) | (sales["item_nbr"] != item)]
    more = [
        {**first, "id": "90001", "store_nbr": store, "item_nbr": item, "unit_sales": "3"},
        {**first, "id": "90002", "store_nbr": "2", "item_nbr": item, "unit_sales": "-2"},
    ]
    shop.sales = pd.concat([sales, pd.DataFrame(more)], ignore_index=True)
    for one in DAYS[1:4]:
        out, whole, _ = shop.night(one)
        assert files_of(out) == files_of(whole)
    assert ways == ["do_stores"] * 2 + ["add_day", "do_stores"] * 2
    assert len(read_series(shop.folder / day)) == len(read_series(shop.folder / DAYS[1])) + 1
    assert any(name.startswith("panel/store_nbr=2/2017") for name in shared(shop.folder / day))


def test_another_past_of_a_store_has_its_files_written_anew(shop, ways):
    "Of the same rows: the days on which it was open are others, so its zeros are."
    shop.night(DAYS[0]), shop.night(DAYS[1])
    out, whole, _ = shop.night(DAYS[2], closed_days=["12-25", "2017-11-07"], absent="sold_nothing")
    assert files_of(out) == files_of(whole) and not shared(out)
    assert ways[-2:] == ["do_stores"] * 2 and ways[2] == "add_day"


def test_a_row_that_stands_twice_is_refused(shop):
    shop.night(DAYS[0])
    twice = shop.sales[shop.sales["date"] == DAYS[1]].iloc[:1].assign(id="90001")
    shop.sales = pd.concat([shop.sales, twice], ignore_index=True)
    with pytest.raises(UserError, match="duplicate key"):
        shop.night(DAYS[1])


def test_the_steps_count_the_same(shop):
    shop.night(DAYS[0])
    raw = shop.raw(DAYS[1])
    rolled = prepare_folder(raw, shop.folder / "a", before=shop.before, **RULE)
    assert rolled == prepare_folder(raw, shop.folder / "b", before=shop.folder / "none", **RULE)


def long_sales(seed):
    "Three years of three stores: series of every rate, that ended, pause for a season, or whose store shut."
    random, days = np.random.default_rng(seed), pd.date_range("2015-01-01", "2017-11-20")
    rates, parts = [0.95, 0.4, 0.12, 0.04, 0.015, 0.9, 0.3], []
    for store in ("1", "2", "3"):
        for number, item in enumerate(("101", "102", "103", "104", "105", "106", "107")):
            ended = random.integers(3, 25)
            for turn, stretch in enumerate(np.array_split(np.arange(len(days)), 12)):
                live = (random.random() < 0.75 or turn == 0) and turn < ended
                sold = stretch[random.random(len(stretch)) < rates[number] * live]
                parts.append(pd.DataFrame({"date": days[sold], "store_nbr": store, "item_nbr": item}))
    sales = pd.concat(parts)
    shut = (sales["store_nbr"] == "3") & (sales["date"] > "2017-08-01")
    pause = (sales["store_nbr"] == "2") & sales["date"].between("2016-10-01", "2017-02-20")
    sales = sales[~shut & ~pause].sort_values(["date", "store_nbr", "item_nbr"])
    sales["unit_sales"] = random.integers(1, 9, len(sales)).astype(float)
    sales["date"] = sales["date"].dt.strftime("%Y-%m-%d")
    return sales.assign(onpromotion="").reset_index(names="id")


LATER = [pytest.param("closed", seed, marks=pytest.mark.prove) for seed in (3, 4)]


@pytest.mark.parametrize("absent, seed", [("closed", 1), ("sold_nothing", 2), *LATER])
def test_a_state_of_the_last_days_is_that_of_all(tmp_path, monkeypatch, absent, seed):
    "Whatever ended when, and however long it is waited for."
    write_raw(tmp_path / "raw", long_sales(seed).astype(str))
    prepare_folder(tmp_path / "raw", tmp_path / "prepared", **RULE | {"absent": absent})
    load, widths, found = loading.load_block, [], []
    for days in (True, False):
        loading.forget_block()
        monkeypatch.setattr(
            loading,
            "load_block",
            lambda *given, days=None, ask=days, **named: (
                widths.append(days) or load(*given, days=days if ask else None, **named)
            ),
        )
        rest = Remainders(tmp_path / "prepared", ["2017-11-20"], 16)
        block, *_ = package.last_state(tmp_path / "prepared", None, 16, rest.add)
        found.append((block, rest.table()))
    assert set(widths) == {161 + 16}
    (late, its), (whole, those) = found
    pd.testing.assert_frame_equal(late.series, whole.series)
    pd.testing.assert_frame_equal(its, those)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(late, name), getattr(whole, name))
    ended = pd.to_datetime(late.series["offered_until"]) < pd.Timestamp("2017-06-01")
    assert 0 < ended.sum() < len(ended)


def flip(path):
    bytes_of = bytearray(path.read_bytes())
    bytes_of[len(bytes_of) // 2] ^= 1
    path.write_bytes(bytes_of)


def cut(path):
    path.write_bytes(path.read_bytes()[:100])


KEPT = ["panel/store_nbr=1/2017-0.parquet", "item_pool/2017-0.parquet", "series.parquet", "returns.parquet"]
KEPT += ["calendar.parquet", "counts.kept", "version.json", "days.json", "files.json"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    "What a night prepared, the raw tables of the next one, and the files of all of them prepared at once."
    folder = tmp_path_factory.mktemp("kept")
    shop = Shop(folder, write_raw(folder / "raw", None, later=133))
    prepare_folder(shop.raw(DAYS[2]), folder / "before", before=folder / "none", **RULE)
    raw = shop.raw(DAYS[3])
    prepare_folder(raw, folder / "whole", before=folder / "none", **RULE)
    return folder / "before", raw, files_of(folder / "whole")


def next_night(kept, folder, damage=lambda before: None):
    "The folder of the next night, built upon a copy to which something was done; its files are those of all at once."
    before, raw, whole = kept
    damage(shutil.copytree(before, folder / "before"))
    prepare_folder(raw, folder / "out", before=folder / "before", **RULE)
    assert files_of(folder / "out") == whole
    return folder / "out"


# One byte is the hardest to see; a file that is cut or gone is looked at for two of them, and for all by `make prove`.
WAYS = {"flip": flip, "cut": cut, "remove": lambda path: path.unlink()}
SEEN = {("counts.kept", "cut"), ("series.parquet", "remove")}
DAMAGED = [
    pytest.param(
        name, WAYS[way], id=f"{name}-{way}", marks=[] if way == "flip" or (name, way) in SEEN else pytest.mark.prove
    )
    for name in KEPT
    for way in WAYS
]


@pytest.mark.parametrize("name, damage", DAMAGED)
def test_what_is_not_what_it_was_is_not_built_upon(kept, tmp_path, ways, name, damage):
    "A night that cannot trust what was prepared before prepares all, and says why."
    out = next_night(kept, tmp_path, lambda before: damage(before / name))
    assert ways == ["do_stores"]
    why = read_json(out / "days.json")["why"]
    assert why and (name in why or name.endswith(".json")), why


def test_what_is_what_it_was_is_built_upon(kept, tmp_path, ways):
    "So that none of the tests above can pass by itself."
    out = next_night(kept, tmp_path)
    assert ways == ["add_day"] and shared(out)
