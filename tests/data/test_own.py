"Columns of one's own: declared, checked, laid out, and asked for ahead."

import datetime
import json

import pandas as pd
import pytest

from cd4ml_nb.core import UserError, replace_folder
from cd4ml_nb.data.deliveries import table
from cd4ml_nb.data.own_rows import prepare_own, require_ahead
from cd4ml_nb.data.table import check_source, check_table

DAYS = pd.date_range("2018-01-01", periods=60).strftime("%Y-%m-%d")
COLUMNS = {"date": "day", "item": "sku", "store": "shop", "quantity": "pieces"}
OWN = {"known_future": ["price", {"offer": "flag"}], "past_only": ["visitors"], "static": ["size"]}


def sales(**more):
    rows = [(day, sku, "A", 20 + n % 7) for n, day in enumerate(DAYS) for sku in ("milk", "bread")]
    known = pd.DataFrame(rows, columns=["day", "sku", "shop", "pieces"])
    return known.assign(price="1.5", offer="no", visitors="90", size=known["sku"].str[:1], **more)


def ahead(days=16):
    later = pd.date_range(DAYS[-1], periods=days + 1).strftime("%Y-%m-%d")[1:]
    return pd.DataFrame({"day": later, "price": "1.2", "offer": "yes"})


def mapping(root, known, coming=None, **more):
    known.to_csv(root / "sales.csv", index=False)
    if coming is not None:
        coming.to_csv(root / "ahead.csv", index=False)
        more = {"ahead": "ahead.csv", **more}
    return {"sales": "sales.csv", "columns": {**COLUMNS, **OWN}, **more}


def bring(root, *given, **more):
    with replace_folder(root / "raw") as folder:
        rules = table(folder, root=root, **mapping(root, *given, **more))
    return rules, root / "raw"


def test_values_are_typed_and_the_coming_days_are_read(tmp_path):
    _, raw = bring(tmp_path, sales(), ahead())
    last = datetime.date.fromisoformat(DAYS[-1])
    require_ahead(raw, last, 16)
    told = prepare_own(raw, tmp_path, datetime.date(2018, 1, 1), last)
    types = {name: (one["kind"], one["type"]) for name, one in told.items()}
    assert types["price"] == ("known-future", "number") and types["offer"] == ("known-future", "flag")
    assert types["visitors"] == ("past-only", "number") and types["size"] == ("static", "category")
    rows = pd.read_parquet(tmp_path / "own.parquet")
    rows = rows[rows["date"].notna()]
    assert rows.loc[rows["date"].astype(str) > DAYS[-1], "c0"].tolist() == [1.2] * 16  # one row a day, for all


def test_what_is_missing_ahead_is_said_with_column_day_and_mend(tmp_path):
    _, raw = bring(tmp_path, sales(), ahead(10))
    with pytest.raises(UserError, match="price: missing for 2 of 2 series on 6 days") as said:
        require_ahead(raw, datetime.date.fromisoformat(DAYS[-1]), 16)
    assert "2018-03-12" in str(said.value) and "table.ahead" in str(said.value)


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"price": ["1.5"] * 119 + ["cheap"]}, ("wrong type", "price", "cheap")),
        ({"price": ["NaN"] + ["1.5"] * 119}, ("wrong type", "price", "NaN")),
        ({"size": ["m"] * 119 + ["s"]}, ("changing column", "size", "one value for each series")),
        ({"visitors": ""}, ("empty column", "visitors", "empty in every row")),
    ],
)
def test_what_is_no_value_is_found(tmp_path, wrong, says):
    found = check_table(mapping(tmp_path, sales().assign(**wrong), ahead()), tmp_path)
    assert len(found) == 1
    kind, column, told = says
    assert (found[0]["kind"], found[0]["column"]) == (kind, column) and told in json.dumps(found[0])


def test_a_column_that_means_something_else_is_refused(tmp_path):
    given = mapping(tmp_path, sales(), ahead())
    given["columns"] = {**given["columns"], "past_only": ["pieces"]}
    with pytest.raises(UserError, match="'pieces' means something else already"):
        check_table(given, tmp_path)


def test_a_last_day_that_is_cut_off_is_dropped_by_rule_and_kept_without(tmp_path):
    known = sales()
    known.loc[known["day"] == DAYS[-1], "pieces"] = 3
    rules, raw = bring(tmp_path, known, ahead(), last_day="drop")
    assert rules["cut off"]["rows"] == 2 and DAYS[-1] in rules["cut off"]["why"]
    require_ahead(raw, datetime.date.fromisoformat(DAYS[-2]), 16)  # that day's price is known all the same
    assert "cut off" not in bring(tmp_path, known, ahead())[0]
    assert any("table.last_day: drop" in line for line in check_source(mapping(tmp_path, known), tmp_path)["fits"])
