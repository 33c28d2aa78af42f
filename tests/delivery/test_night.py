"Nights: each follows the other, none is half done, and what was published stays."

import hashlib, json, os, re, shutil, signal, subprocess, sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
import pandas as pd, pytest, yaml
from cd4ml_nb.core import UserError, read_json, read_params
from cd4ml_nb.data import prepare as prepare_module
from cd4ml_nb.data.ingest import raw_folder
from cd4ml_nb.data.prepare import prepare_folder
from cd4ml_nb.delivery import night as night_module, package
from cd4ml_nb.delivery.night import doubt_of, turn
from cd4ml_nb.delivery.nights import FORECASTS, LIVE, NIGHTS, live_folder, live_night, published_by
from cd4ml_nb.delivery.parameters import stage_values
from cd4ml_nb.delivery.state import state
from cd4ml_nb.model import groups, loading, remainder
from cd4ml_nb.model.forecaster import load_forecaster
from cd4ml_nb.monitoring.actuals import OUTCOME_KINDS, OUTCOMES, join_actuals, published_for, score_day
from cd4ml_nb.monitoring.kept import read_rows
from cd4ml_nb.monitoring.record import outcome_events
from cd4ml_nb.monitoring.watch import look_back
from cd4ml_nb.serving.live import Shelf
from cd4ml_nb.tiny import stage_function, tiny_live


@pytest.fixture(scope="module")
def released():
    return tiny_live("2017-08-20")


@pytest.fixture
def shop(released, tmp_path):
    return shutil.copytree(released, tmp_path / "shop")


@pytest.fixture(scope="module")
def after_one(released, tmp_path_factory):
    "The shop after its first night, for all tests that begin there."
    root = shutil.copytree(released, tmp_path_factory.mktemp("after") / "shop")
    turn(root)
    return root


@pytest.fixture
def lived(after_one, tmp_path):
    return shutil.copytree(after_one, tmp_path / "shop")


def bytes_of(folder):
    "Each file's hash."
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def to_csv(shop):
    "Point the project to a folder of CSV files with the same sales, so that a test can change them."
    from cd4ml_nb.data.sources import tiny

    raw, source = shop / "raw", shop / "source"
    raw.mkdir(), source.mkdir()
    tiny(raw)
    pd.read_csv(raw / "train.csv").to_csv(source / "1.csv", index=False)
    params = yaml.safe_load((shop / "params.yaml").read_text())
    params["ingest"] = {"source": "table", "path": "data/source", "until": None}
    names = {"date": "date", "item": "item_nbr", "quantity": "unit_sales", "store": "store_nbr"}
    params["table"] = {"sales": str(source), "columns": names}
    (shop / "params.yaml").write_text(yaml.safe_dump(params))
    return source


def test_the_same_night_gives_the_same_bytes(shop, after_one):
    turn(shop)
    assert bytes_of(shop / FORECASTS) == bytes_of(after_one / FORECASTS)
    assert bytes_of(shop / NIGHTS) == bytes_of(after_one / NIGHTS)
    assert (shop / LIVE).read_bytes() == (after_one / LIVE).read_bytes()


def test_a_panel_too_large_for_the_memory_is_walked_through_once(shop, after_one, monkeypatch):
    "In parts, and the state is the same."
    loaded, load = [], loading.load_block
    few = partial(groups.series_parts, cells=2_000)  # of 300 days: six series at a time, a store's seven in two parts
    monkeypatch.setattr(loading, "CELLS", 1)
    for module in (package, remainder):
        monkeypatch.setattr(module, "series_parts", few)
    monkeypatch.setattr(loading, "load_block", lambda *given, **named: loaded.append(1) or load(*given, **named))
    turn(shop)
    assert len(loaded) == 3 * 2
    assert bytes_of(shop / NIGHTS) == bytes_of(after_one / NIGHTS)


def test_a_delivery_without_the_day_leaves_what_is_live(shop):
    source = to_csv(shop)
    turn(shop)
    before = bytes_of(shop / "production")
    sales = pd.read_csv(source / "1.csv")
    sales[sales["date"] != "2017-08-22"].to_csv(source / "1.csv", index=False)
    with pytest.raises(UserError, match="The source holds no sale of 2017-08-22, where"):
        turn(shop)
    assert bytes_of(shop / "production") == before
    sales.to_csv(source / "1.csv", index=False)
    assert turn(shop)["night"]["day"] == "2017-08-22"


def test_a_day_that_is_gone_from_the_source_is_not_taken_for_one_without_sales(shop):
    source = to_csv(shop)
    turn(shop), turn(shop)
    before, sales = bytes_of(shop / "production"), (source / "1.csv").read_bytes()
    rows = pd.read_csv(source / "1.csv")
    rows[rows["date"] != "2017-08-21"].to_csv(source / "1.csv", index=False)
    with pytest.raises(
        UserError, match="Of 2017-08-21 0 units are left, where last night knew 7.; bring them back, or"
    ):
        turn(shop)
    assert bytes_of(shop / "production") == before
    assert any("Of 2017-08-21" in check["says"] for check in turn(shop, insist=True)["checks"])
    (source / "1.csv").write_bytes(sales)
    assert turn(shop)["night"]["day"] == "2017-08-24"


def cut(source, day, share):
    "Leave so much of a day's units in the delivery."
    sales = pd.read_csv(source / "1.csv", dtype={"unit_sales": float})
    sales.loc[sales["date"] == day, "unit_sales"] *= share
    sales.to_csv(source / "1.csv", index=False)


def test_a_day_that_sold_less_than_any_before_is_refused_unless_somebody_insists(shop):
    source = to_csv(shop)
    cut(source, "2017-08-21", 0.35)  # the slowest day before sold two thirds of its usual one, so about half is asked
    with pytest.raises(
        UserError, match="of the 7. that such a day sells; .*if it is whole, insist: cd4ml night --until"
    ):
        turn(shop)
    assert live_night(shop) is None
    done = turn(shop, insist=True)
    assert live_night(shop)["day"] == "2017-08-21" and "somebody insisted" in done["checks"][0]["says"]
    assert done["doubt"].startswith("Only 3") and doubt_of(shop, "2017-08-21") == done["doubt"]


def test_a_day_far_below_its_weekday_goes_live_with_a_doubt(shop):
    source = to_csv(shop)
    cut(source, "2017-08-21", 0.6)
    doubt = turn(shop)["doubt"]
    assert re.match(r"Only 6\d% of what a Monday sells came: 4\d units, where 7\d are usual; of the", doubt), doubt
    assert turn(shop)["doubt"] == "" and doubt_of(shop, "2017-08-22") == ""


def test_the_end_of_a_source_is_said(shop):
    source = to_csv(shop)
    sales = pd.read_csv(source / "1.csv")
    sales[sales["date"] <= "2017-08-21"].to_csv(source / "1.csv", index=False)
    turn(shop)
    with pytest.raises(UserError, match="no sale of 2017-08-22 yet, nor of any later day: it is exhausted"):
        turn(shop)
    sales[sales["date"] != "2017-08-22"].to_csv(source / "1.csv", index=False)  # the day alone is missing
    with pytest.raises(UserError, match="no sale of 2017-08-22, where such a day sells"):
        turn(shop)


def test_the_data_of_another_model_that_begin_later_are_said_to_be_others(shop):
    "Another table was named and run, whose sales begin after the live model's next day."
    source = to_csv(shop)
    for table in source.glob("*.csv"):
        rows = pd.read_csv(table, dtype=str)
        moved = {"date": lambda rows: (pd.to_datetime(rows["date"]) + pd.DateOffset(years=5)).dt.strftime("%Y-%m-%d")}
        if "date" in rows:
            rows.assign(**moved).to_csv(table, index=False)
    others = shop / "data/prepared"
    series = pd.read_parquet(others / "series.parquet")
    series.assign(item_nbr="other " + series["item_nbr"].astype(str)).to_parquet(others / "series.parquet")
    told = read_json(others / "version.json")
    (others / "version.json").write_text(json.dumps(told | {"source": "table"}))
    with pytest.raises(UserError, match="is of other data .*Put a model of these data live "):
        turn(shop)
    assert live_night(shop) is None


def test_a_delivery_that_lost_a_store_is_refused(shop):
    source = to_csv(shop)
    turn(shop)
    sales = pd.read_csv(source / "1.csv")
    sales[sales["store_nbr"] != 3].to_csv(source / "1.csv", index=False)
    with pytest.raises(UserError, match="are missing, such as .* in store 3"):
        turn(shop)
    assert live_night(shop)["day"] == "2017-08-21"


def test_a_row_of_sums_that_bears_a_day_is_refused(shop):
    "It is no new product, and what is live is left as it was; who knows better insists."
    path = to_csv(shop) / "1.csv"
    sales = pd.read_csv(path, dtype=str)
    day = sales[sales["date"] == "2017-08-21"]
    total = {"date": "2017-08-21", "store_nbr": "Total", "item_nbr": "Total"}
    total["unit_sales"] = str(day["unit_sales"].astype(float).sum())
    pd.concat([sales, pd.DataFrame([total])]).to_csv(path, index=False)
    before = bytes_of(shop / "data")
    with pytest.raises(UserError, match="Total is new and sold exactly what all others did together"):
        turn(shop, "2017-08-21")
    assert bytes_of(shop / "data") == before and not live_night(shop)
    sales.to_csv(path, index=False)
    assert turn(shop, "2017-08-21")["night"]["day"] == "2017-08-21"


def test_a_corrected_day_is_joined_again_and_what_was_published_stays(shop):
    source = to_csv(shop)
    for _ in range(3):
        join_actuals(shop, turn(shop)["tonight"])
    path, published = shop / OUTCOMES / "2017-08-22.parquet", bytes_of(shop / FORECASTS)
    milk = lambda: pd.read_parquet(path).query("item_nbr == '101' and store_nbr == '1'")["unit_sales"].unique().tolist()
    before = milk()
    corrected = {"date": ["2017-08-22"], "item_nbr": [101], "unit_sales": [before[0] + 5], "store_nbr": [1]}
    pd.DataFrame(corrected).to_csv(source / "2.csv", index=False)
    joined = join_actuals(shop, turn(shop)["tonight"])
    assert joined == ["2017-08-22", "2017-08-24"]
    assert milk() == [before[0] + 5]
    assert published.items() <= bytes_of(shop / FORECASTS).items()


def test_a_state_that_was_changed_is_refused_by_name(lived):
    path = live_folder(lived, state(lived)["champion"]) / "forecaster.json"
    told = json.loads(path.read_text())
    told["serving"]["levels"] = {"": 2.0}
    path.write_text(json.dumps(told))
    for act in (lambda: live_folder(lived, state(lived)["champion"]), lambda: turn(lived)):
        with pytest.raises(UserError, match="state of the night of 2017-08-21 was changed"):
            act()


def test_who_follows_what_is_live_sees_the_night(shop):
    shelf = Shelf(shop)
    assert shelf.current().card["forecast_origin"] == "2017-08-20"
    turn(shop)
    tonight = shelf.current()
    assert (tonight.card["forecast_origin"], tonight.card["first_day"]) == ("2017-08-21", "2017-08-22")
    assert tonight is shelf.current()


def test_a_night_forecasts_what_a_package_of_the_day_would(shop):
    "The state is the one that the stage package makes of the same sales; the weights are the released ones."
    other = shutil.copytree(shop, shop.with_name("other"))
    params = yaml.safe_load((other / "params.yaml").read_text().replace("2017-08-20", "2017-08-21"))
    given = {"backtest": {"estimator": "gradient_boosting"}}
    for stage in ("ingest", "prepare", "split", "backtest", "train", "package"):
        stage_function(stage)(other, **stage_values(stage, params, **given.get(stage, {})))
    turn(shop)
    fresh = load_forecaster(other / "data/model")
    assert fresh.card["forecast_origin"] == "2017-08-21"
    tonight = load_forecaster(live_folder(shop, state(shop)["champion"]))
    for name in ("sales", "item_sales", "class_sales", "onpromotion", "is_open", "holiday"):
        ours, theirs = getattr(tonight.block, name), getattr(fresh.block, name)
        assert ours.tobytes() == theirs.tobytes(), name
    assert tonight.rest.keys() == fresh.rest.keys()


def test_what_was_published_and_never_shown_is_replaced(shop, monkeypatch):
    "A night that ends between publishing and going live, and is done again on corrected sales."
    source = to_csv(shop)
    with monkeypatch.context() as patch:
        patch.setattr(
            "cd4ml_nb.delivery.night.write_json", lambda *given: (_ for _ in ()).throw(OSError("killed here"))
        )
        with pytest.raises(OSError):
            turn(shop)
    sales = pd.read_csv(source / "1.csv")
    sales.loc[sales["date"] == "2017-08-21", "unit_sales"] *= 1.8
    sales.to_csv(source / "1.csv", index=False)
    said = turn(shop)["tonight"].arrays()["mean"].sum()
    published = pd.read_parquet(shop / FORECASTS / "2017-08-21.parquet")["mean"].sum()
    assert abs(published / said - 1) < 1e-5


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"day": 5}'])
def test_a_damaged_record_of_what_is_live_is_said(lived, text):
    (lived / LIVE).write_text(text)
    for act in (lambda: turn(lived), lambda: Shelf(lived).current()):
        with pytest.raises(UserError, match="live.json"):
            act()
    assert (lived / LIVE).read_text() == text


def test_a_damaged_forecast_is_named(lived):
    path = lived / FORECASTS / "2017-08-21.parquet"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="2017-08-21.parquet cannot be read"):
        turn(lived)
    path.unlink()
    turn(lived)
    assert path.exists()


@pytest.mark.parametrize("day", ["tomorrow", "20170822", "2017-8-22", "../../x", ""])
def test_what_is_no_day_is_refused(shop, day):
    with pytest.raises(UserError, match="is no day of a night. Write it as 2017-12-01"):
        turn(shop, day)


def test_a_closed_day_is_no_late_delivery(shop):
    "Where nobody knew of it, params.yaml says so."
    source = to_csv(shop)
    sales = pd.read_csv(source / "1.csv")
    sales[sales["date"] != "2017-08-21"].to_csv(source / "1.csv", index=False)
    shutil.rmtree(shop / "production", ignore_errors=True)
    with pytest.raises(UserError, match="if the stores were closed, add '2017-08-21' to prepare.closed_days"):
        turn(shop)
    params = yaml.safe_load((shop / "params.yaml").read_text())
    params["prepare"]["closed_days"] = ["12-25", "2017-08-21"]
    (shop / "params.yaml").write_text(yaml.safe_dump(params))
    done = turn(shop)
    assert "known to be closed on 2017-08-21" in done["checks"][0]["says"]
    assert published_for(shop, "2017-08-21") and join_actuals(shop, done["tonight"]) == ["2017-08-21"]
    joined = read_rows(shop / OUTCOMES / "2017-08-21.parquet", OUTCOME_KINDS)
    assert len(joined) == len(score_day(joined.to_pandas())) == 0
    assert look_back(shop, done["tonight"])[0].says == "Not enough days yet: 0 of 7 were held against what was sold."
    assert [one.outputs["rows"] for one in outcome_events(shop)] == [0]


def test_the_night_after_a_newer_release(lived):
    "A newly released model may know more days than the last night did."
    night = json.loads((lived / LIVE).read_text())
    (lived / LIVE).write_text(json.dumps({**night, "day": "2017-08-18", "model_version": "trees-of-before"}))
    assert turn(lived)["night"]["day"] == "2017-08-21"


def prepared_anew(shop, day, folder):
    "The data version of a whole prepare of the same sales."
    params = read_params(root=shop)
    values = stage_values("prepare", params) | {"windows": None, "last_day": None}
    with raw_folder(shop, params["ingest"]["source"], "", day, table=params["table"]) as raw:
        prepare_folder(raw, folder, **values)
    return read_json(folder / "version.json")["data_version"]


def add(source, name, **columns):
    "A file of sales more."
    pd.DataFrame(columns).to_csv(source / name, index=False)


@pytest.mark.prove
def test_nights_rolled_forward_are_those_prepared_anew(shop, tmp_path):
    "New and ended series, returns, a new store's first day: the data version, and so every byte, is the same."
    source, read = to_csv(shop), []
    odd = {
        "date": ["2017-08-23", "2017-08-23", "2017-08-24", "2017-08-24"],
        "store_nbr": [2, 1, 3, 4],
        "item_nbr": [106, 104, 108, 101],
        "unit_sales": [1.0, -1.0, 1.0, 2.0],
    }
    sales = pd.read_csv(source / "1.csv")
    free = sales[~((sales["date"] == "2017-08-23") & (sales["store_nbr"] == 1) & (sales["item_nbr"] == 104))]
    pd.concat([free, pd.DataFrame(odd)]).to_csv(source / "1.csv", index=False)
    for day in range(21, 27):
        done = turn(shop)
        if day in (24, 26):  # what a night writes stays, so that the nights between are looked at with these
            assert done["night"]["data_version"] == prepared_anew(shop, f"2017-08-{day}", tmp_path / "whole")
        read.append("were added" in done["read"])
    assert read == [False, True, True, True, True, True]
    new = {("3", "108"), ("4", "101")}
    assert new <= set(map(tuple, done["tonight"].pairs[["store_nbr", "item_nbr"]].to_numpy()))


def to_favorita(shop, until="2017-08-20"):
    "Point the project to a folder like Kaggle's with the same sales up to a day; the rows of the days after it."
    from cd4ml_nb.data.sources import tiny

    source = shop / "kaggle"
    source.mkdir()
    tiny(source)
    (source / "promotions.csv").unlink()
    params = yaml.safe_load((shop / "params.yaml").read_text())
    params["ingest"] = {"source": "favorita", "path": str(source), "until": None}
    (shop / "params.yaml").write_text(yaml.safe_dump(params))
    head, *rows = (source / "train.csv").read_text().splitlines()
    day = lambda row: row.split(",")[1]
    (source / "train.csv").write_text("\n".join([head, *(row for row in rows if day(row) <= until), ""]))
    return source, [row for row in rows if day(row) > until]


def append(source, rows):
    "Add rows at the end of the sales."
    with open(source / "train.csv", "a") as file:
        file.writelines(f"{row}\n" for row in rows)


def whole_night(shop, day, folder):
    "The data version of a whole prepare of a folder like Kaggle's."
    params = read_params(root=shop)
    values = stage_values("prepare", params) | {"windows": None, "last_day": None}
    with raw_folder(shop, "favorita", params["ingest"]["path"], day, favorita=params.get("favorita") or {}) as raw:
        prepare_folder(raw, folder, **values)
    return read_json(folder / "version.json")["data_version"]


NEW_ROWS = {  # What comes besides the day's own rows
    "2017-08-22": [
        "900001,2017-08-22,3,108,4.0,",
        "900002,2017-08-22,4,101,2.0,",
    ],  # a product and a store that are new
    "2017-08-23": ["900003,2017-08-23,1,104,-1.0,"],  # brought back
    "2017-08-24": ["900004,2017-08-25,1,101,1.0,"],  # a day early, in a file that is not in order
}


BESIDE = {  # And what other tables gain
    "2017-08-22": {"items": "108,Bakery,Bakery (fresh),1,New bread\n", "stores": "4,Quito,Pichincha,B,4\n"},
    "2017-08-25": {"holidays_events": "2017-08-28,Holiday,National,Ecuador,A new feast,False\n"},
}


@pytest.fixture
def parsed(monkeypatch):
    "The sizes of the files that a night reads as tables of sales."
    sizes, read = [], prepare_module.heap_day

    def note(con, raw, folder, earlier):
        sizes.append((raw / "train.csv").stat().st_size)
        return read(con, raw, folder, earlier)

    monkeypatch.setattr(prepare_module, "heap_day", note)
    return sizes


@pytest.mark.parametrize("subset", [pytest.param({}, marks=pytest.mark.prove), {"stores": [1, 2, 3]}])
def test_only_what_came_is_read_of_a_file_that_grows(shop, tmp_path, parsed, subset):
    "Night for night the files of a whole prepare, byte for byte, with a holiday, too."
    source, coming = to_favorita(shop)
    params = yaml.safe_load((shop / "params.yaml").read_text())
    (shop / "params.yaml").write_text(yaml.safe_dump({**params, "favorita": subset}))
    size, read = (source / "train.csv").stat().st_size, []
    for number in range(21, 27):
        day = f"2017-08-{number}"
        rows = [row for row in coming if row.split(",")[1] == day] + NEW_ROWS.get(day, [])
        twice = {tuple(row.split(",")[1:4]) for row in NEW_ROWS.get("2017-08-24", []) if number == 25}
        append(source, [row for row in rows if tuple(row.split(",")[1:4]) not in twice])
        for table, row in BESIDE.get(day, {}).items():
            with open(source / f"{table}.csv", "a") as file:
                file.write(row)
        done = turn(shop)
        if number in (23, 26):  # what a night writes stays, so that the nights between are looked at with these
            assert done["night"]["data_version"] == whole_night(shop, day, tmp_path / "whole"), day
        read.append("Of the source only what came was read" in done["read"])
    assert read == [False, True, True, True, True, True]
    assert parsed[0] > size / 2 and max(parsed[1:]) < size / 20
    known = set(map(tuple, done["tonight"].pairs[["store_nbr", "item_nbr"]].to_numpy()))
    assert ("3", "108") in known and (("4", "101") in known) == (not subset)


def test_days_that_the_file_held_before_are_not_read_again(shop, tmp_path):
    "The file stays as it is, and nights go through it."
    source, coming = to_favorita(shop)
    append(source, coming)
    says = [turn(shop)["read"] for _ in range(4)]
    assert ["only what came" in said for said in says] == [False, True, True, True]
    assert live_night(shop)["data_version"] == whole_night(shop, "2017-08-24", tmp_path / "whole")


def spoil(source, old, new):
    "Change one row of the sales."
    text = (source / "train.csv").read_text()
    assert text.count(old) == 1, text.count(old)
    (source / "train.csv").write_text(text.replace(old, new))


def one_row(source, day):
    "A row of a day."
    return next(row for row in (source / "train.csv").read_text().splitlines() if f",{day}," in row)


def raised(source, day):
    "The same row with 5 units more."
    cells = one_row(source, day).split(",")
    return ",".join([*cells[:4], str(float(cells[4]) + 5), *cells[5:]])


@pytest.mark.parametrize(
    "change, says",
    [
        pytest.param(
            lambda source: append(source, ["7,2017-05-05,3,106,3.0,"]),
            "rows of 2017-05-05 came late",
            marks=pytest.mark.prove,
        ),
        (lambda source: spoil(source, one_row(source, "2017-05-05"), raised(source, "2017-05-05")), "was changed"),
        pytest.param(
            lambda source: spoil(source, one_row(source, "2017-05-05") + "\n", ""),
            "was changed",
            marks=pytest.mark.prove,
        ),
        pytest.param(
            lambda source: (source / "items.csv").write_text(reordered(source / "items.csv")),
            "",
            marks=pytest.mark.prove,
        ),
    ],
)
def test_what_is_more_than_a_new_day_has_all_read_and_is_said(shop, tmp_path, change, says):
    source, coming = to_favorita(shop)
    append(source, coming)
    turn(shop), turn(shop)
    change(source)
    done = turn(shop)
    assert done["night"]["data_version"] == whole_night(shop, "2017-08-23", tmp_path / "whole")
    assert says in done["read"] and ("only what came" in done["read"]) == (not says)
    assert "only what came" in turn(shop)["read"]


def reordered(path):
    "A table with its rows the other way round."
    head, *rows = path.read_text().splitlines()
    return "\n".join([head, *rows[::-1], ""])


def test_a_delivery_that_comes_twice_is_refused_as_ever(shop):
    source, coming = to_favorita(shop)
    day = [row for row in coming if ",2017-08-21," in row]
    append(source, day)
    turn(shop)
    append(source, day)
    with pytest.raises(UserError, match="duplicate key"):
        turn(shop, "2017-08-22")
    assert live_night(shop)["day"] == "2017-08-21"


def test_a_day_that_is_not_there_is_refused_and_a_night_goes_on_when_it_came(shop, tmp_path):
    source, coming = to_favorita(shop)
    by_day = lambda day: [row for row in coming if f",{day}," in row]
    append(source, by_day("2017-08-21"))
    turn(shop)
    kept = bytes_of(shop / "production/prepared")
    with pytest.raises(UserError, match="The source holds no sale of 2017-08-22 yet"):
        turn(shop)
    assert bytes_of(shop / "production/prepared") == kept
    append(source, by_day("2017-08-22"))
    done = turn(shop)
    assert "only what came" in done["read"]
    assert done["night"]["data_version"] == whole_night(shop, "2017-08-22", tmp_path / "whole")


def test_another_subset_has_all_read_anew(shop, tmp_path):
    source, coming = to_favorita(shop)
    append(source, coming)
    turn(shop)
    params = yaml.safe_load((shop / "params.yaml").read_text())
    (shop / "params.yaml").write_text(yaml.safe_dump({**params, "favorita": {"last_day": "2017-08-26"}}))
    done = turn(shop)
    assert "params.yaml asks for other sales than the night before" in done["read"]
    assert done["night"]["data_version"] == whole_night(shop, "2017-08-22", tmp_path / "whole")


@pytest.mark.prove
def test_a_corrected_old_day_has_all_read_anew(shop, tmp_path):
    source = to_csv(shop)
    turn(shop), turn(shop)
    add(source, "2.csv", date=["2017-05-05"], item_nbr=[101], unit_sales=[77.0], store_nbr=[1])
    done = turn(shop)
    assert "All sales were prepared: the sales of 2017-05-05 are not what they were" in done["read"]
    assert done["night"]["data_version"] == prepared_anew(shop, "2017-08-23", tmp_path / "whole")
    assert "were added" in turn(shop)["read"]


def close_on_22_august(shop):
    "A day without a row, which params.yaml says was closed."
    source = to_csv(shop)
    sales = pd.read_csv(source / "1.csv")
    sales[sales["date"] != "2017-08-22"].to_csv(source / "1.csv", index=False)
    params = yaml.safe_load((shop / "params.yaml").read_text())
    params["prepare"]["closed_days"] = ["12-25", "2017-08-22"]
    (shop / "params.yaml").write_text(yaml.safe_dump(params))


def close_in_own_tables(shop):
    close_on_22_august(shop)
    return prepared_anew, lambda day: None


def close_in_a_growing_file(shop):
    source, coming = to_favorita(shop)
    params = yaml.safe_load((shop / "params.yaml").read_text())
    params["prepare"]["closed_days"] = ["12-25", "2017-08-22"]
    (shop / "params.yaml").write_text(yaml.safe_dump(params))
    of_day = lambda day: [row for row in coming if row.split(",")[1] == day and day != "2017-08-22"]
    return whole_night, lambda day: append(source, of_day(day))


@pytest.mark.parametrize("lay", [close_in_own_tables, pytest.param(close_in_a_growing_file, marks=pytest.mark.prove)])
def test_a_day_without_a_row_is_added_like_any_other(shop, tmp_path, lay):
    "That night and the next, byte for byte what a whole prepare makes; of the source only what came is read."
    anew, deliver = lay(shop)
    for number in range(21, 24):
        day = f"2017-08-{number}"
        deliver(day)
        read = turn(shop)["read"]
        assert (number > 21) == ("were added" in read) == ("only what came" in read), (day, read)
        assert live_night(shop)["data_version"] == anew(shop, day, tmp_path / "whole"), day
    closed = read_json(shop / "production/prepared/version.json")["opening"]
    assert closed == read_json(tmp_path / "whole/version.json")["opening"]


@pytest.mark.prove
def test_without_the_record_of_what_is_live_nights_go_on(shop):
    "And what was published stays, even where the sales it knew were corrected since."
    source = to_csv(shop)
    for _ in range(3):
        turn(shop)
    was, published = live_night(shop), bytes_of(shop / FORECASTS)
    (shop / LIVE).unlink()
    add(source, "2.csv", date=["2017-08-22"], item_nbr=[101], unit_sales=[30.0], store_nbr=[1])
    assert live_night(shop) == was
    assert turn(shop)["night"]["day"] == "2017-08-24"
    shutil.rmtree(shop / NIGHTS)
    (shop / LIVE).unlink()
    assert turn(shop)["night"]["day"] == "2017-08-21"
    assert published.items() <= bytes_of(shop / FORECASTS).items()


def test_a_damaged_state_falls_back_to_the_night_before(lived):
    turn(lived)
    folder = live_folder(lived, state(lived)["champion"])
    (folder / "state.parquet").write_bytes(b"")
    with pytest.raises(UserError, match="state.parquet .* was changed .* Remove .*production/live.json"):
        turn(lived)
    (folder / "state.parquet").unlink()
    with pytest.raises(UserError, match="lacks the file state.parquet. Remove .*production/live.json"):
        load_forecaster(folder)
    (folder / "forecaster.json").write_bytes(b"{}")
    with pytest.raises(UserError, match="Remove production/live.json"):
        turn(lived)
    (lived / LIVE).unlink()
    assert live_night(lived)["day"] == "2017-08-21"
    assert turn(lived)["night"]["day"] == "2017-08-22"


def test_another_model_between_nights(lived):
    "It stands where it was released; the one that comes back stands on its own last night; both keep what they said."
    champion = state(lived)["champion"]
    first = published_by(lived / FORECASTS / "2017-08-21.parquet")
    night = json.loads((lived / LIVE).read_text())
    (lived / LIVE).write_text(json.dumps({**night, "day": "2017-08-22", "model_version": "trees-2"}))
    assert live_folder(lived, champion) == lived / NIGHTS / "2017-08-21" / champion["model_version"]
    assert turn(lived)["night"]["day"] == "2017-08-23"
    assert published_by(lived / FORECASTS / "2017-08-21.parquet") == first


def add_model(shop, name):
    "Register the live model's package under another name, with a gate that compared it with the live one."
    from cd4ml_nb.core import sha256_of, write_json
    from cd4ml_nb.delivery.registry import new_version
    from cd4ml_nb.model.package import seal, unseal

    live = state(shop)["champion"]["model_version"]
    registered = shop / "data/registry" / live
    with new_version(shop, name) as tmp:
        shutil.copytree(registered, tmp, dirs_exist_ok=True)
        sealed = unseal(tmp / "package")
        (tmp / "package/forecaster.json").unlink()
        seal(tmp / "package", {**sealed["card"], "model_version": name}, sealed["serving"])
        package = sha256_of(tmp / "package/forecaster.json")
        for file, facts in (("gate.json", {"champion": live}), ("registration.json", {"package": package})):
            write_json(tmp / file, read_json(tmp / file) | {"model_version": name} | facts)


@pytest.fixture(scope="module")
def released_twice(after_one, tmp_path_factory):
    "Two nights of the first model, then another one is released."
    from cd4ml_nb.delivery.release import approve, promote

    root = shutil.copytree(after_one, tmp_path_factory.mktemp("twice") / "shop")
    add_model(root, "trees-2")
    first = state(root)["champion"]["model_version"]
    turn(root)
    approve(root, "trees-2", "Ana", "a trial", override=True)
    promote(root, "trees-2", by="Ana", reason="a trial", override=True)
    return root, first


@pytest.fixture
def after_a_release(released_twice, tmp_path):
    "A copy of it for a test that goes on from there."
    root, first = released_twice
    return shutil.copytree(root, tmp_path / "shop"), first


def stands_on(shop):
    "The live model, and the last day that it knows."
    folder = live_folder(shop, state(shop)["champion"])
    card = load_forecaster(folder).card
    return card["model_version"], card["forecast_origin"]


def test_a_released_model_gets_the_night_of_the_live_day(after_a_release):
    "And is live on the same data version; the night after is its own."
    shop, _ = after_a_release
    assert stands_on(shop) == ("trees-2", "2017-08-22")
    assert live_night(shop)["model_version"] == "trees-2"
    both = [published_by(path) for path in sorted((shop / FORECASTS).glob("2017-08-22*.parquet"))]
    assert len(both) == 2 and both[0]["data_version"] == both[1]["data_version"]
    done = turn(shop)
    assert done["night"]["day"] == "2017-08-23" and "were added" in done["read"]


def test_the_night_of_a_model_that_goes_live_between_nights_is_news_of_its_own(after_a_release):
    "Who was told of the live day's night, of the model before, is told of that of the model that is live now."
    from cd4ml_nb.delivery.broker import begin, untold

    shop, first = after_a_release
    told = {"release": 2, "night": "2017-08-22"}  # as it was kept of a broker before 28 November 2026
    news = untold(shop, told)
    named = lambda news: [(one.says["kind"], one.says["model_version"], one.says.get("day")) for one in news]
    assert named(news) == [("release", "trees-2", None), ("night", "trees-2", "2017-08-22")]
    for one in news:
        told |= one.place
    assert untold(shop, told) == []
    assert named(untold(shop, begin(shop))) == named(news)  # of a new broker the night before is no news
    turn(shop)
    assert named(untold(shop, told)) == [("night", "trees-2", "2017-08-23")]


def test_a_rollback_between_nights_brings_the_night_of_the_model_that_comes_back(after_a_release, capfd):
    from cd4ml_nb.delivery.release import rollback

    shop, first = after_a_release
    turn(shop), turn(shop)
    published = bytes_of(shop / FORECASTS)
    rollback(shop, by="Ana", reason="too low")
    assert stands_on(shop) == (first, "2017-08-24")
    assert f"{first} was brought up to the sales of 2017-08-24" in capfd.readouterr().err
    assert published.items() <= bytes_of(shop / FORECASTS).items()
    assert Shelf(shop).current().card["forecast_origin"] == "2017-08-24"
    assert turn(shop)["night"]["day"] == "2017-08-25"
    assert stands_on(shop) == (first, "2017-08-25")


def test_what_is_tried_has_its_own_night_and_its_own_place(after_a_release):
    "It is held against what was sold; one that cannot be brought up is told; neither touches what is live."
    from cd4ml_nb.delivery.beside import BESIDE, forecasts_beside, turn_beside
    from cd4ml_nb.delivery.release import promote, retire

    shop, first = after_a_release
    promote(shop, first, "shadow", "Ana", "the old one, for comparison")
    turn(shop)
    live, published = live_night(shop), bytes_of(shop / FORECASTS)
    assert turn_beside(shop) == {first: ""}
    done = turn(shop)
    published |= bytes_of(shop / FORECASTS)
    assert join_actuals(shop, done["tonight"], f"{BESIDE}/{first}") == [done["night"]["day"]]
    outcomes = pd.read_parquet(shop / BESIDE / first / f"outcomes/{done['night']['day']}.parquet")
    assert set(outcomes["model_version"]) == {first} and outcomes["mean"].notna().any()
    (shop / f"data/registry/{first}/package/forecaster.json").write_text("{}")
    assert "It has no forecast tonight" in (said := turn_beside(shop)[first]) and f"retire {first}" in said
    assert live_night(shop) == done["night"] != live and bytes_of(shop / FORECASTS) == published
    assert not forecasts_beside(shop, first, done["night"]["day"]).exists()
    retire(shop, first, "Ana", "seen enough")
    assert turn_beside(shop) == {} and forecasts_beside(shop, first, live["day"]).exists()


def test_a_rollback_during_a_night_does_not_wait_and_says_what_is_left_to_do(after_a_release, capfd):
    from cd4ml_nb.core import hold_lock
    from cd4ml_nb.delivery.release import rollback

    shop, first = after_a_release
    turn(shop)
    with hold_lock(shop / "production/.lock", "the night of 2017-08-24"):
        rollback(shop, by="Ana", reason="too low")
    said = capfd.readouterr().err
    assert "the night of 2017-08-24" in said and "cd4ml night --until 2017-08-23" in said
    assert stands_on(shop) == (first, "2017-08-22")
    assert turn(shop, "2017-08-23")["night"]["model_version"] == first
    assert stands_on(shop) == (first, "2017-08-23")


@pytest.mark.prove
def test_a_night_on_a_read_only_disk_leaves_what_is_live(released, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200m", "none", disk]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs root and mount: a read-only disk is NOT tested here")
    try:
        shop = shutil.copytree(released, disk / "shop")
        turn(shop)
        before = bytes_of(shop)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        words = [sys.executable, "-c", NIGHT]
        child = subprocess.run(words, cwd=shop, env=os.environ | {"CD4ML_ROOT": str(shop)}, **PIPES)
        assert child.returncode == 1 and "Traceback" not in child.stderr, child.stderr
        assert "read-only" in child.stderr and "untouched" in child.stderr
        assert Shelf(shop).current().card["forecast_origin"] == "2017-08-21"
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        assert bytes_of(shop) == before
        assert turn(shop)["night"]["day"] == "2017-08-22"
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@contextmanager
def held(shop, path):
    "A single file that is a read-only mount of its own, as a container has it."
    mount = ["mount", "--bind", path, path]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs root and mount: a file that is read-only is NOT tested here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", path], check=True)
        yield
    finally:  # it goes where its folder goes
        for line in Path("/proc/mounts").read_text().splitlines():
            if path.name in line and str(shop) in line:
                subprocess.run(["umount", "-l", line.split()[1]], check=True)


HELD = [(LIVE, True), pytest.param("production/doubt.json", True, marks=pytest.mark.prove)]


@pytest.mark.parametrize("name, stops", [*HELD, ("production/prepared/series.parquet", False)])
def test_a_night_where_a_single_file_is_read_only_names_it_and_leaves_what_is_live(lived, name, stops):
    "Such as the record of what is live; a file of last night's sales is not written to, and stops nothing."
    shop, path, live = lived, lived / name, lived / LIVE
    before, day = live.read_bytes(), live_night(shop)["day"]
    with held(shop, path):
        words = [sys.executable, "-c", NIGHT]
        child = subprocess.run(words, cwd=shop, env=os.environ | {"CD4ML_ROOT": str(shop)}, **PIPES)
        assert "Traceback" not in child.stderr and (child.returncode == 1) == stops, child.stderr
        assert not stops or f"Cannot write {path}: it is held there by something else" in child.stderr
        assert (live.read_bytes() == before) == stops
        assert Shelf(shop).current().card["forecast_origin"] == live_night(shop)["day"]
    assert (live_night(shop)["day"] == day) == stops
    turn(shop)
    assert not [path.name for path in (shop / "production").iterdir() if path.name.startswith(("tonight", "prepared."))]


def test_past_closed_days_are_closed_in_the_state(shop):
    "Whether the night was prepared whole or rolled forward."
    close_on_22_august(shop)
    for _ in range(4):
        block = turn(shop)["tonight"].block
        days = [block.day(f"2017-08-{day}") for day in (21, 22, 23)]
        assert block.is_open[:, days].all(axis=0).tolist() == [True, False, True]
        assert not block.is_open[:, days[1]].any()


def test_a_night_on_a_full_disk_leaves_what_is_live(lived):
    shop = lived
    before = bytes_of(shop / "production")
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); "
    child = subprocess.run(
        [sys.executable, "-c", limit + NIGHT], cwd=shop, env=os.environ | {"CD4ML_ROOT": str(shop)}, **PIPES
    )
    assert child.returncode == 1 and "Traceback" not in child.stderr, child.stderr
    after = bytes_of(shop / "production")
    assert before.items() <= after.items()
    assert turn(shop)["night"]["day"] == "2017-08-22"


PIPES = {"capture_output": True, "text": True}
NIGHT = "import sys; from pathlib import Path; from cd4ml_nb.cli.parser import call; "
NIGHT += "from cd4ml_nb.delivery.night import doubt_of, turn; sys.exit(call(lambda: turn(Path('.')), {}))"
TURN = "from pathlib import Path; from cd4ml_nb.delivery.night import doubt_of, turn; turn(Path('.'))"


# Counts what a night changes below its folder, is killed just before so many changes, or says how many there were.
COUNTED = """
import os, signal, sys
home, last, done = os.getcwd(), int(sys.argv[1]), [0]
WRITES = os.O_WRONLY | os.O_RDWR

def note(act, given):
    changes = act in ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
    if changes or act == "open" and isinstance(given[0], (str, os.PathLike)) and given[2] & WRITES:
        if os.path.abspath(given[0]).startswith(home):
            done[0] += 1
            if done[0] == last:
                os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(note)
"""


def counted_night(root, last=0):
    "A night in a process of its own."
    words = [sys.executable, "-c", f"{COUNTED}\n{TURN}\nprint(done[0])", str(last)]
    return subprocess.run(words, cwd=root, env=os.environ | {"CD4ML_ROOT": str(root)}, **PIPES)


@pytest.mark.prove
def test_a_night_that_is_killed_is_done_again(shop, tmp_path):
    "Wherever it is killed, last night or tonight is live, whole; and what is done again is the same."
    quiet = tmp_path / "quiet"
    shutil.copytree(shop, quiet)
    whole = counted_night(quiet)
    assert whole.returncode == 0, whole.stderr
    changes, live = int(whole.stdout.split()[-1]), []
    for part in range(1, 11):
        root = tmp_path / f"killed-{part}"
        shutil.copytree(shop, root)
        assert counted_night(root, 1 + (changes - 1) * part // 11).returncode == -signal.SIGKILL
        night = live_night(root)
        load_forecaster(live_folder(root, state(root)["champion"]))
        live.append(bool(night))
        if not night:
            turn(root)
        night_module._take_place(root)  # as the next night begins
        assert bytes_of(root / FORECASTS) == bytes_of(quiet / FORECASTS)
        assert (root / LIVE).read_bytes() == (quiet / LIVE).read_bytes()
    assert changes > 20 and not live[0], (changes, live)


def killed_as_it_goes_live(root, night, tonight, last):
    "Put a night live in a process of its own that is killed just before so many changes; whether it was."
    if (child := os.fork()) == 0:
        done = []

        def note(act, given):
            changes = act in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link")
            written = act == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)
            if (changes or written) and str(given[0]).startswith((str(root), os.path.relpath(root))):
                done.append(act)
                if len(done) == last:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(note)
        night_module._go_live(root, night, tonight)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_a_night_that_is_killed_at_any_change_as_it_goes_live(lived, tmp_path, monkeypatch):
    "Before each file that is written, renamed or removed: the night before is live, or this one, and each is whole."
    shop, found, go_live = lived, {}, night_module._go_live

    def keep(root, night, tonight):
        found.update(night=night, tonight=tonight)
        shutil.copytree(root, tmp_path / "made")
        go_live(root, night, tonight)

    with monkeypatch.context() as patched:
        patched.setattr(night_module, "_go_live", keep)
        turn(shop)
    old, new = (tmp_path / "made/production/prepared", shop / "production/prepared")
    kept = {"2017-08-21": bytes_of(old), "2017-08-22": bytes_of(new)}
    assert kept["2017-08-21"] != kept["2017-08-22"]
    days, number, killed = [], 0, True
    while killed:
        number += 1
        root = shutil.copytree(tmp_path / "made", tmp_path / f"killed-{number}")
        killed = killed_as_it_goes_live(root, found["night"], found["tonight"], number)
        day = live_night(root)["day"]
        load_forecaster(live_folder(root, state(root)["champion"]))
        night_module._take_place(root)  # as the next night begins
        assert bytes_of(root / "production/prepared") == kept[day], (number, day)
        published = bytes_of(shop / FORECASTS) if day == "2017-08-22" else bytes_of(tmp_path / "made" / FORECASTS)
        assert bytes_of(root / FORECASTS) == published, (number, day)
        assert not (root / "production/tonight").exists() and not (root / "production/prepared.old").exists()
        days.append(day)
        shutil.rmtree(root)
    assert number > 10 and days == sorted(days) and {*days} == {*kept}, days
