"Tables of one's own that are read night by night, and prepared: each time, what a fresh prepare of everything gives."

import shutil
import pandas as pd, pytest
from cd4ml_nb.core import UserError, read_json
from cd4ml_nb.data.ingest import raw_folder
from cd4ml_nb.data.prepare import prepare_folder
from cd4ml_nb.data.seen import SEEN, sales_only_of
from cd4ml_nb.data.sources import tiny
from cd4ml_nb.delivery.night import say_read

RULE = dict(delisted_after=56, absent="closed", closed_days=["12-25"])
COLUMNS = {"date": "date", "item": "item_nbr", "quantity": "unit_sales", "store": "store_nbr"}
DAYS = [f"2017-08-{day}" for day in range(20, 25)]


def tiny_sales(folder):
    "The tiny source's sales, a return, a new product and a new store among them."
    tiny(folder)
    known = pd.read_csv(folder / "train.csv", dtype=str)[list(COLUMNS.values())]
    more = [("2017-08-22", "108", "4.0", "3"), ("2017-08-22", "101", "2.25", "4"), ("2017-08-23", "104", "-1.0", "9")]
    known = pd.concat([known, pd.DataFrame(more, columns=known.columns)])
    return known.sort_values(["date", "store_nbr", "item_nbr"]).reset_index(drop=True)


class Shop:
    "Own tables that are read night by night, and prepared; and, beside it, all of them at once."

    def __init__(self, folder, **mapping):
        self.folder, self.before = folder, folder / "none"
        self.mapping = {"sales": "sales", "columns": dict(COLUMNS), **mapping}
        (folder / "sales").mkdir()

    def bring(self, day, out, before):
        "Tonight's prepared files, as a night makes them."
        for known in (before, None):
            given = (self.folder, "table", "", day, self.folder / "kept", known)
            with raw_folder(*given, table=self.mapping) as raw:
                try:
                    return prepare_folder(raw, out, before=before, **RULE)
                except UserError:
                    if not sales_only_of(raw):
                        raise

    def night(self, day):
        "What the night says it read; its files are those of a fresh prepare."
        out, whole = self.folder / f"night-{day}", self.folder / f"whole-{day}"
        steps = self.bring(day, out, self.before)
        shutil.rmtree(whole, ignore_errors=True)
        assert steps == self.bring(day, whole, self.folder / "none")
        assert files_of(out) == files_of(whole), day
        assert read_json(out / "version.json")["data_version"] == read_json(whole / "version.json")["data_version"]
        told, fresh = (read_json(folder / SEEN) for folder in (out, whole))
        for name in ("files", "items", "stores", "first", "left", "sha256"):
            assert told[name] == fresh[name], name
        for name in ("kept", "not known yet"):
            assert told["rules"][name] == pytest.approx(fresh["rules"][name]), name
        self.before = out
        return say_read(out)


def files_of(prepared):
    "The bytes of each Parquet file."
    return {str(path.relative_to(prepared)): path.read_bytes() for path in sorted(prepared.rglob("*.parquet"))}


def up_to(sales, day):
    "The sales up to a day."
    return sales[sales["date"] <= day]
