"What people know of single days: it reaches prepared data, models and nights, and is never half written."

import re, subprocess, sys
from dataclasses import replace
import numpy as np, pytest
from cd4ml_nb.core import UserError
from cd4ml_nb.data import added
from cd4ml_nb.data.corrections import CORRECTIONS, Correction, add_correction, digest_of, in_force, read_corrections
from cd4ml_nb.data.ingest import ingest
from cd4ml_nb.data.panel import read_prepared, read_version
from cd4ml_nb.data.prepare import prepare
from cd4ml_nb.model.features import FEATURES, build_features, make_encoding
from cd4ml_nb.model.block import stack_blocks, take_series
from cd4ml_nb.model.kernel import sells_whole_units
from cd4ml_nb.model.loading import load_block
from cd4ml_nb.model.package import read_state, write_state
from cd4ml_nb.quality.backtest import window_table
from test_rolled import DAYS, Shop, files_of, write_raw

pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")  # Ibis 12 on DuckDB 2
OUT = Correction("stock_out", "2", "101", "2017-08-01", "2017-08-10", "Kim", "the oven was broken")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    "A tiny project as it was sold."
    root = tmp_path_factory.mktemp("plain")
    ingest(root, "tiny")
    prepare(root)
    return root


@pytest.fixture
def corrected(tmp_path):
    "The same with corrections."

    def make(*said):
        for one in said:
            add_correction(tmp_path, one)
        ingest(tmp_path, "tiny")
        prepare(tmp_path)
        return tmp_path

    return make


def row_of(block, store="2", item="101"):
    return int(np.flatnonzero((block.series["store_nbr"] == store) & (block.series["item_nbr"] == item))[0])


def test_a_day_that_ran_out_is_learnt_as_what_would_have_been_sold_and_not_judged(plain, corrected):
    after_root = corrected(OUT)
    before, after = load_block(plain / "data/prepared"), load_block(after_root / "data/prepared")
    row, days = row_of(after), slice(after.day("2017-08-01"), after.day("2017-08-10") + 1)
    sold = before.sales[row, days]
    assert np.isfinite(sold).all() and (sold > 0).any()
    learnt = after.sales[row, days]
    assert np.isnan(learnt[sold == 0]).all() and (learnt[sold > 0] > sold[sold > 0]).all()
    out = np.isfinite(after.ran_out)
    assert np.array_equal(out[row, days], sold > 0) and out.sum() == (sold > 0).sum()
    assert np.array_equal(after.ran_out[row, days][sold > 0], sold[sold > 0])
    assert sells_whole_units(after, after.n_days - 1)[row] and (learnt[sold > 0] % 1 > 0).any()
    assert np.array_equal(after.is_open[row, days], sold > 0)
    rest = np.ones(after.sales.shape, bool)
    rest[row, days] = False
    assert np.array_equal(before.sales[rest], after.sales[rest], equal_nan=True)
    assert before.ran_out is None
    panel = [read_prepared(root) for root in (plain, corrected())]
    assert panel[1]["unit_sales"].sum() == panel[0]["unit_sales"].sum()  # tables of the data show what was sold

    short = load_block(corrected() / "data/prepared", days=30)
    assert np.array_equal(short.sales, after.sales[:, -30:], equal_nan=True)
    assert np.array_equal(short.ran_out, after.ran_out[:, -30:], equal_nan=True)
    wide = stack_blocks([take_series(after, [row]), take_series(after, [row - 1])])
    write_state(state := after_root / "state.parquet", wide)
    assert np.array_equal(read_state(state).ran_out, after.ran_out[[row, row - 1]], equal_nan=True)

    origin = after.day("2017-07-31")
    judged = window_table(after, origin, *2 * [np.ones((after.n_series, 12))])
    mine = judged[(judged["store_nbr"] == "2") & (judged["item_nbr"] == "101")]
    assert (mine["unit_sales"][:10].isna() == (sold > 0)).all() and mine["unit_sales"][10:].notna().all()

    at = [after.day("2017-08-15")]
    mean = FEATURES.index("mean_28")
    known = after.sales[row, at[0] - 27 : at[0] + 1]
    features = build_features(after, np.array(at), 1, make_encoding(after.series)).x[0, row, 0]
    assert features[mean] == pytest.approx(known[np.isfinite(known)].mean(), rel=1e-5)

    pool = read_prepared(after_root, "item_pool")
    pool = pool[(pool["item_nbr"] == "101") & (pool["date"] == "2017-08-02")]
    of_item = after.sales[after.series["item_nbr"] == "101", after.day("2017-08-02")]
    assert pool["sales"].item() == pytest.approx(np.nanmean(of_item), rel=1e-5)


@pytest.mark.parametrize("left_out", [False, True])
def test_a_day_of_which_nothing_is_known_is_neither_learnt_nor_judged(corrected, left_out):
    root = corrected(OUT if left_out else replace(OUT, kind="wrong_item"))
    if left_out:
        prepare(root, ran_out="left_out")
    block = load_block(root / "data/prepared")
    row, days = row_of(block), slice(block.day("2017-08-01"), block.day("2017-08-10") + 1)
    assert np.isnan(block.sales[row, days]).all() and not block.is_open[row, days].any() and block.ran_out is None


def test_what_was_counted_outweighs_what_was_sold(plain, corrected):
    one = Correction("wrong_quantity", "2", "102", "2017-08-15", "2017-08-15", "Kim", "a typing error", units=72.0)
    ran = replace(one, kind="promotion_ran", item_nbr="", units=None, id="ran")
    before, after = (read_prepared(root) for root in (plain, corrected(one, ran)))
    same = ["store_nbr", "item_nbr", "date"]
    both = before.merge(after, on=same, suffixes=("", "_now"))
    assert len(both) == len(before) == len(after)
    day = (both["store_nbr"] == "2") & (both["date"] == "2017-08-15")
    moved = both["unit_sales"] != both["unit_sales_now"]
    assert both.loc[moved, [*same[:2], "unit_sales_now"]].values.tolist() == [["2", "102", 72.0]]
    assert (both.loc[day, "onpromotion_now"] == 1).all() and not (both.loc[day, "onpromotion"] == 1).all()
    assert both.loc[~day, "onpromotion"].equals(both.loc[~day, "onpromotion_now"])


def test_nothing_said_changes_nothing(plain, corrected):
    now = corrected()
    assert read_version(now)["data_version"] == read_version(plain)["data_version"]
    assert not (now / "data/prepared/corrections.parquet").exists()


def test_of_what_is_not_in_the_data_the_prepared_ones_stay_as_they_were(corrected):
    root = corrected(OUT)
    good = files_of(root / "data/prepared")
    add_correction(root, replace(OUT, store_nbr="99", id="far"))
    with pytest.raises(UserError, match="the store '99', which is not in the data"):
        prepare(root)
    assert files_of(root / "data/prepared") == good


def test_nights_write_what_a_whole_prepare_does(tmp_path, monkeypatch):
    "With what stood before, with what was said since, and with what is said of the newest day itself."
    went, shop = [], Shop(tmp_path, write_raw(tmp_path / "raw", None, later=133))
    for name in ("add_day", "do_stores"):
        own = getattr(added, name)
        monkeypatch.setattr(added, name, lambda *given, own=own, name=name: went.append(name) or own(*given))
    out = replace(OUT, first_date="2017-12-20", last_date="2017-12-26")
    counted = replace(out, kind="wrong_quantity", item_nbr="102", units=40.0, id="counted")
    said = [[out], [out], [out, counted], [out, counted], [out, replace(out, first_date=DAYS[4], last_date=DAYS[4])]]
    for day, standing in zip(DAYS, said):
        night, whole, _ = shop.night(day, corrections=standing)
        assert files_of(night) == files_of(whole), day
        assert "corrections.parquet" in files_of(night)
    assert went[::2] == ["do_stores", "add_day", "do_stores", "add_day", "do_stores"]


_ADD = """
import sys
from pathlib import Path
from cd4ml_nb.data.corrections import Correction, add_correction
for n in range(10):
    day = "2017-08-01"
    add_correction(Path(sys.argv[1]), Correction("stock_out", sys.argv[2], f"i{n}", day, day, "Kim", "empty"))
"""


def test_two_writers_lose_nothing(tmp_path):
    both = [subprocess.Popen([sys.executable, "-c", _ADD, str(tmp_path), store]) for store in ("1", "2")]
    assert [one.wait(60) for one in both] == [0, 0]
    assert len({(one.store_nbr, one.item_nbr) for one in in_force(tmp_path)}) == 20


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("stock_out", "stockout", "line 2: There is no kind 'stockout'"),
        ("2017-08-01", "1.8.2017", "line 2: first_date is '1.8.2017'"),
        ("the oven was broken", "broken,2,3,4,5,6,7,8", "line 2: it has 18 cells, and should have 11: kind, store_nbr"),
        (",101,", ",", "line 2: it has 10 cells, and should have 11"),
        ("Kim", "", "line 2: by should be a text"),
        ("Kim", "Kim\u202e", "line 2: by should be a text of 1 to 100 printable"),
        (",2,101", ", 2 ,101", "line 2: store_nbr is ' 2 ', and should have no space"),
        (
            "2026-11-24T08:00:00+00:00",
            "2026-11-24T08:00:00",
            "line 2: marked_at is '2026-11-24T08:00:00', and should be a",
        ),
        ("2026-11-24T08:00:00+00:00", "2026-11-24", "line 2: marked_at is '2026-11-24', and should be a time with its"),
        ("2026-11-24T08:00:00+00:00", "2026-W48-2T08:00:00+00:00", "line 2: marked_at is '2026-W48"),
        ("2026-11-24T08:00:00+00:00", "9999-12-31T23:59:59-12:00", "line 2: marked_at is '9999"),
        ("gone,2026", "gone\x1b,2026", "line 3: undoes should be a text"),
        (",Lee,", ",,", "line 3: by should be a text"),
        ("it was store 3", "it was\u202e store 3", "line 3: why should be a text"),
        (",2017-08-10,Lee", ",2017-08-00,Lee", "line 3: last_date is '2017-08-00'"),
        ("\n,2,", "\nclosed,2,", "line 3: kind should be empty in a line that undoes another"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(tmp_path, old, new, says):
    add_correction(tmp_path, replace(OUT, id="gone", marked_at="2026-11-24T08:00:00+00:00"))
    path = tmp_path / CORRECTIONS
    undone = ",2,101,2017-08-01,2017-08-10,Lee,it was store 3,,gone,2026-11-24T09:00:00+00:00,b\n"
    path.write_text((path.read_text() + undone).replace(old, new))
    with pytest.raises(
        UserError, match=re.escape(f"{path}, ") + says + ".* Mend the line, or restore the file with git"
    ):
        read_corrections(tmp_path)


def test_what_a_merge_left_behind_is_named(tmp_path):
    add_correction(tmp_path, OUT)
    other = replace(OUT, kind="wrong_quantity", units=5.0, first_date="2017-08-10", last_date="2017-08-10", id="lee")
    add_correction(tmp_path / "other", other)
    line = (tmp_path / "other" / CORRECTIONS).read_text().splitlines()[1]
    with open(tmp_path / CORRECTIONS, "a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=r"contradicts itself: .*\[.*\], and .*\[lee\]"):
        in_force(tmp_path)


@pytest.mark.parametrize("begin", ["", "\ufeff", "\n"])
def test_what_is_said_of_an_empty_or_marked_file_is_told_or_found_again(tmp_path, begin):
    "Excel marks a file's beginning; a file that was emptied has no columns, and is not taken for one without lines."
    path = tmp_path / CORRECTIONS
    path.parent.mkdir(parents=True)
    path.write_text(begin)
    for ask in (lambda: in_force(tmp_path), lambda: add_correction(tmp_path, OUT)):
        with pytest.raises(UserError, match="corrections.csv is empty: its header line is missing"):
            ask()
    path.unlink()
    add_correction(tmp_path, OUT)
    path.write_text(begin.strip() + path.read_text())
    assert in_force(tmp_path) == [OUT]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("kind,store_nbr", "kind,store", "line 1: its columns should be kind"),
        ("2017-08-01", "20170801", "first_date is '20170801'"),
        ("the oven was broken", '"the oven', "line 2: its quotation marks do not fit"),
        ("the oven was broken", "x" * 200_000, "line 2: why is far too long"),
    ],
)
def test_a_file_that_was_spoilt_is_named(tmp_path, old, new, says):
    add_correction(tmp_path, OUT)
    path = tmp_path / CORRECTIONS
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=says):
        in_force(tmp_path)


def test_an_undo_is_of_one_that_is_there_and_an_id_is_of_one_line(tmp_path):
    add_correction(tmp_path, OUT)
    path = tmp_path / CORRECTIONS
    good = path.read_text()
    line = good.splitlines()[1]
    for more, says in (
        (line, "stands twice"),
        (line.replace(OUT.id, "new").replace(",,,", ",,gone,").replace("stock_out", ""), "undoes 'gone'"),
    ):
        path.write_text(f"{good}{more}\n")
        with pytest.raises(UserError, match=says):
            in_force(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        in_force(tmp_path)


def test_a_correction_that_was_changed_by_hand_is_another_one():
    assert digest_of([OUT]) != digest_of([replace(OUT, last_date="2017-08-09")])
    assert digest_of([OUT]) != digest_of([OUT], "left_out")
