"""Does the live model keep what trucks.py relies on? Ends with 1 and a sentence where it does not.

python check_contract.py PLACE"""

import sys
import numpy as np, pyarrow.parquet as pq
from cd4ml_nb.core import UserError
from cd4ml_nb.delivery.nights import live_folder
from cd4ml_nb.serving.follow import load_live
from cd4ml_nb.serving.live import live_version
from trucks import packs

DAYS = 7  # The longest span that a truck is packed for


def broken_promises(model):
    "What the application relies on and does not find; sentences."
    store = model.series.loc[0, "store_nbr"]
    found = model.arrays(None, store)
    if model.horizon < DAYS:
        yield f"forecasts reach {model.horizon} days, and a truck is packed for {DAYS}"
    if not (np.isfinite(found["mean"]).all() and (found["mean"] >= 0).all()):
        yield "'mean' is not a number of units everywhere"
    if not ((found["q10"] <= found["q50"]) & (found["q50"] <= found["q90"])).all():
        yield "the quantiles are not in order"
    orders, version, data = packs(model, store, DAYS)
    if not (version and data and all(isinstance(number, int) for number in orders.values())):
        yield "an order is no number of packs with a model and a data version"


def holdout_error(holdout):
    "Error of the units of each product in each store over the whole holdout, as a share of all units sold."
    total = holdout.groupby(["store_nbr", "item_nbr"])[["mean", "unit_sales"]].sum()
    return (total["mean"] - total["unit_sales"]).abs().sum() / total["unit_sales"].sum()


def broken_holdout(folder, card):
    "Whether the forecasts of the days that the model never saw are as good as its card says; sentences."
    wape = holdout_error(pq.read_table(folder / "holdout.parquet").to_pandas())
    promised = card["holdout"]["wape"]
    if not abs(wape - promised) <= 0.001:
        yield f"the holdout says that totals are wrong by {wape:.1%}, and the model's card {promised:.1%}"


def main(place):
    "Look at the live model."
    live = load_live(place)
    model, root = live.current(), live.shelf.home()
    wrong = [*broken_promises(model), *broken_holdout(live_folder(root, live_version(root)), model.card)]
    if wrong:
        raise UserError(f"{model.card['model_version']} breaks the contract of trucks.py: {'; '.join(wrong)}.")
    print(f"{model.card['model_version']} keeps the contract of trucks.py.")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as e:
        raise SystemExit(str(e)) from None
