"Nights on tables of one's own: what came is read, and gives what a fresh prepare of everything gives, byte for byte."

import gzip, shutil
from functools import partial
import numpy as np, pandas as pd, pytest
from own_tables import DAYS, Shop, tiny_sales, up_to
from cd4ml_nb.core import UserError, find_json
from cd4ml_nb.data import table as table_module
from cd4ml_nb.data.seen import SEEN

pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")  # Ibis 12 on DuckDB 2


@pytest.fixture(scope="module")
def sales(tmp_path_factory):
    return tiny_sales(tmp_path_factory.mktemp("tiny"))


def deliver(shop, sales, day):
    "A file a night."
    path = shop.folder / f"sales/{day}.csv"
    rows = up_to(sales, day) if day == DAYS[0] else sales[sales["date"] == day]
    rows.to_csv(path, index=False)


def deliver_early(shop, sales, day):
    "A file for two days, every second night."
    if DAYS.index(day) % 2 == 0:
        ahead = DAYS[min(DAYS.index(day) + 1, len(DAYS) - 1)]
        rows = sales[(sales["date"] >= day if day != DAYS[0] else True) & (sales["date"] <= ahead)]
        rows.to_csv(shop.folder / f"sales/{day}.csv", index=False)


def grow(shop, sales, day, end="\n", **written):
    "One file, to which a day's lines are added."
    path = shop.folder / "sales/all.csv"
    if day == DAYS[0]:
        return up_to(sales, day).to_csv(path, index=False, lineterminator=end, **written)
    with open(path, "a", newline="", encoding=written.get("encoding")) as file:
        sales[sales["date"] == day].to_csv(file, index=False, header=False, lineterminator=end, **written)


def grow_stores(shop, sales, day):
    "A file a store, each of which grows."
    for store, rows in sales.groupby("store_nbr"):
        path = shop.folder / f"sales/{store}.csv"
        new = up_to(rows, day) if not path.exists() else rows[rows["date"] == day]
        if len(new):
            new.to_csv(path, index=False, header=not path.exists(), mode="a")


def rewrite(shop, sales, day, write=pd.DataFrame.to_parquet, name="all.parquet"):
    "One file, written anew each night, rows in another order."
    rows = up_to(sales, day).astype({"unit_sales": float})
    write(rows.sample(frac=1, random_state=len(rows)), shop.folder / "sales" / name, index=False)


def parquet_a_day(shop, sales, day):
    rows = up_to(sales, day) if day == DAYS[0] else sales[sales["date"] == day]
    rows.assign(date=pd.to_datetime(rows["date"])).to_parquet(shop.folder / f"sales/{day}.parquet", index=False)


def grow_packed(shop, sales, day):
    with gzip.open(shop.folder / "sales/all.csv.gz", "wt") as file:
        up_to(sales, day).to_csv(file, index=False)


def receipts(shop, sales, day):
    "Lines of receipts, a file a night, one file twice."
    rows = up_to(sales, day) if day == DAYS[0] else sales[sales["date"] == day]
    lines = pd.concat([rows.assign(unit_sales=(rows["unit_sales"].astype(float) * part)) for part in (0.1, 0.7, 0.2)])
    lines.sample(frac=1, random_state=3).to_csv(shop.folder / f"sales/{day}.csv", index=False)
    if day == DAYS[3]:
        shutil.copy(shop.folder / f"sales/{day}.csv", shop.folder / f"sales/{day}-again.csv")


def all_there(shop, sales, day):
    "Everything is there from the first night on."
    if day == DAYS[0]:
        sales.to_csv(shop.folder / "sales/all.csv", index=False)


def all_there_by_store(shop, sales, day):
    if day == DAYS[0]:
        for store, rows in sales.groupby("store_nbr"):
            rows.to_csv(shop.folder / f"sales/{store}.csv", index=False)


def with_tomorrow(shop, sales, day):
    "A file a night, and one of the day that has just begun, which is another one the night after."
    deliver(shop, sales, day)
    (shop.folder / "sales/now.csv").unlink(missing_ok=True)
    tomorrow = sales[sales["date"] == str(pd.Timestamp(day).date() + pd.Timedelta(days=1))]
    tomorrow.head(5).to_csv(shop.folder / "sales/now.csv", index=False)


GERMAN = {"encoding": "cp1252", "decimal": ","}
KINDS = {
    "a file a night": (deliver, {}),
    "a file for two days": (deliver_early, {}),
    "one file that grows": (grow, {}),
    "its lines end as Windows writes": (partial(grow, end="\r\n"), {}),
    "of another encoding": (partial(grow, encoding="cp1252"), GERMAN),
    "a file a store that grows": (grow_stores, {}),
    "a Parquet file written anew": (rewrite, {}),
    "a CSV written anew": (partial(rewrite, write=pd.DataFrame.to_csv, name="all.csv"), {}),
    "a Parquet file a night": (parquet_a_day, {}),
    "a packed file that grows": (grow_packed, {}),
    "lines of receipts": (receipts, {"grain": "line"}),
    "all days from the first night on": (all_there, {}),
    "all days, a file a store": (all_there_by_store, {}),
    "a day that has just begun": (with_tomorrow, {}),
}


OFTEN = {"a file a night"}  # The others take minutes together
TURNS = [pytest.param(kind, marks=[] if kind in OFTEN else [pytest.mark.prove]) for kind in KINDS]


@pytest.mark.parametrize("kind", TURNS)
def test_nights_in_turn_give_what_a_fresh_prepare_gives(sales, tmp_path, kind):
    come, mapping = KINDS[kind]
    shop = Shop(tmp_path, **mapping)
    if mapping.get("encoding"):
        sales = sales.assign(item_nbr="Käse " + sales["item_nbr"], unit_sales=sales["unit_sales"].str.replace(".", ","))
    said = []
    for day in DAYS:
        come(shop, sales, day)
        said.append(shop.night(day))
    assert ["only what came" in one for one in said] == [False] + [True] * 4, said


@pytest.mark.prove
def test_what_stands_in_for_tables_that_are_not_there_is_the_same(sales, tmp_path):
    "Products and stores of before, holidays, a plan without stores; and tables beside the sales that change."
    shop = Shop(tmp_path, country="EC")
    del shop.mapping["columns"]["store"]
    sales = sales[sales["store_nbr"] == "1"].drop(columns="store_nbr")
    columns = {"first_date": "from", "item": "sku"}
    shop.mapping["promotions"] = {"table": "plan.csv", "columns": columns}
    plan = "from,sku\n2017-08-24,101\n"
    for day in DAYS:
        plan += f"{day},102\n"
        (tmp_path / "plan.csv").write_text(plan)
        grow(shop, sales, day)
        said = shop.night(day)
    assert "only what came" in said


@pytest.fixture(scope="module")
def two_nights(sales, tmp_path_factory):
    "Two nights of deliveries, and the third night's is there."
    shop = Shop(tmp_path_factory.mktemp("lived"))
    for day in DAYS[:2]:
        deliver(shop, sales, day), shop.night(day)
    deliver(shop, sales, DAYS[2])
    return shop


@pytest.fixture
def lived(two_nights, tmp_path):
    "A copy of it for a test that goes on from there."
    shop = Shop(tmp_path)
    shutil.copytree(two_nights.folder, tmp_path, dirs_exist_ok=True)
    shop.before = tmp_path / two_nights.before.name
    return shop


def change(shop, name, old, new):
    "Change the first such row of a file."
    path = shop.folder / "sales" / f"{name}.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def an_old_row(shop, sales):
    change(shop, DAYS[0], "2017-05-05,101,", "2017-05-05,101,1")


def a_late_row(shop, sales):
    with open(shop.folder / f"sales/{DAYS[2]}.csv", "a") as file:
        file.write("2017-05-05,106,3.0,3\n")


def a_late_row_of_an_old_file(shop, sales):
    with open(shop.folder / f"sales/{DAYS[0]}.csv", "a") as file:
        file.write("2017-05-05,106,3.0,3\n")


def a_file_less(shop, sales):
    (shop.folder / f"sales/{DAYS[1]}.csv").unlink()
    sales[sales["date"] == DAYS[1]].to_csv(shop.folder / "sales/again.csv", index=False)


def another_mapping(shop, sales):
    shop.mapping = {**shop.mapping, "country": "EC"}


def a_correction_that_becomes_known(shop, sales):
    "It came with a day that is not known yet, and counts when that day is."
    rows = sales[sales["date"] == DAYS[3]]
    correction = sales[sales["date"] == "2017-05-05"].head(1).assign(unit_sales="77")
    pd.concat([rows, correction]).to_csv(shop.folder / f"sales/{DAYS[3]}.csv", index=False)


CHANGES = {
    an_old_row: "sales/2017-08-20.csv is not what it was: its rows up to 2017-08-21 are others",
    a_late_row: "rows of 2017-05-05 came late",
    a_late_row_of_an_old_file: "rows of 2017-05-05 came late",
    a_file_less: "sales/2017-08-21.csv is missing",
    another_mapping: "params.yaml asks for other sales than the night before",
    a_correction_that_becomes_known: "rows of 2017-05-05 came late",
}


# A correction that becomes known is a late row, too; a file less is known like one that was changed; and that
# params.yaml asks for other sales, test_night.py has.
LONG = (an_old_row, a_late_row, a_late_row_of_an_old_file, a_file_less, another_mapping)
SPOILT = [pytest.param(kind, marks=[pytest.mark.prove] * (kind in LONG), id=kind.__name__) for kind in CHANGES]


@pytest.mark.parametrize("spoil", SPOILT)
def test_what_is_more_than_a_new_day_has_all_read_and_is_said(lived, sales, spoil):
    spoil(lived, sales)
    said = lived.night(DAYS[2])
    assert f"The source was read whole: {CHANGES[spoil]}" in said, said
    if spoil is not a_correction_that_becomes_known:
        deliver(lived, sales, DAYS[3])
    said = lived.night(DAYS[3])
    late = spoil is a_correction_that_becomes_known
    assert ("only what came" in said) != late, said
    deliver(lived, sales, DAYS[4])
    assert "only what came" in lived.night(DAYS[4])
    if late:
        panel = pd.read_parquet(lived.before / "panel")
        assert 77 in panel[panel["date"].astype(str) == "2017-05-05"]["unit_sales"].to_numpy()


def test_what_came_is_all_that_is_parsed(sales, tmp_path, monkeypatch):
    "And of a file that is written anew only the later rows are checked."
    shop, rows, own = Shop(tmp_path), [], table_module._check_opened
    count = lambda opened, *more: rows.append(opened.table.count().execute()) or own(opened, *more)
    monkeypatch.setattr(table_module, "_check_opened", count)
    for come in (grow, rewrite):
        shutil.rmtree(shop.folder / "sales"), (shop.folder / "sales").mkdir()
        shop.before = shop.folder / "none"
        for day in DAYS[:3]:
            come(shop, sales, day)
            shop.bring(day, shop.folder / "out", shop.before)
            shop.before = shop.folder / "out"
        new = [int((sales["date"] == day).sum()) for day in DAYS[1:3]]
        assert rows == [len(up_to(sales, DAYS[0])), *new]
        rows.clear()


def test_a_faulty_delivery_is_told_as_ever_and_mended_the_next_night(lived, sales):
    change(lived, DAYS[2], "2017-08-22,101,", "2017-08-22,101,x")
    with pytest.raises(UserError, match="2017-08-22.csv"):
        lived.night(DAYS[2])
    deliver(lived, sales, DAYS[2])
    assert "only what came" in lived.night(DAYS[2])


def test_a_row_twice_in_what_came_is_told_as_ever(sales, tmp_path):
    shop = Shop(tmp_path)
    for day in DAYS[:2]:
        grow(shop, sales, day)
    shop.night(DAYS[0])
    with open(tmp_path / "sales/all.csv", "a") as file:
        file.write(f"{DAYS[1]},101,1.0,1\n")
    with pytest.raises(UserError, match="duplicate key"):
        shop.night(DAYS[1])


def test_a_file_written_to_while_it_is_read_is_not_noted(sales, tmp_path, monkeypatch):
    from cd4ml_nb.data import came

    shop, own = Shop(tmp_path), came.rows_said
    deliver(shop, sales, DAYS[0])

    def meanwhile(*given, **named):
        with open(tmp_path / f"sales/{DAYS[0]}.csv", "a") as file:
            file.write("2017-08-20,106,3.0,3\n")
        return own(*given, **named)

    monkeypatch.setattr(came, "rows_said", meanwhile)
    shop.bring(DAYS[0], tmp_path / "out", shop.before)
    assert not find_json(tmp_path / "out" / SEEN, {})


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(6))
def test_whatever_comes_nights_give_what_a_fresh_prepare_gives(sales, tmp_path, seed):
    "Days early, late or twice, in whichever files; a file that is another one; what comes is drawn by chance."
    random = np.random.default_rng(seed)
    shop = Shop(tmp_path, grain=["day", "line"][seed % 2])
    up_to(sales, DAYS[0]).to_csv(tmp_path / "sales/0.csv", index=False)
    read = []
    for night, day in enumerate(DAYS):
        if night:
            sales[sales["date"] == day].to_csv(tmp_path / f"sales/{night}.csv", index=False)
        for _ in range(random.integers(0, 3)):
            some = sales[sales["date"].isin(random.choice(DAYS, 2))]
            some = some.sample(frac=0.3, random_state=int(random.integers(99)))
            units = (some["unit_sales"].astype(float) * random.choice([1, 2])).astype(str)
            name = random.choice(["a", "1b", "z"])
            some.assign(unit_sales=units).to_csv(tmp_path / f"sales/{name}.csv", index=False)
        read.append("only what came" in shop.night(day))
    assert not all(read)
