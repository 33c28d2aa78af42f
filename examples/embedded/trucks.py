"""How many packs of each product go on the next truck to a store? The live model answers in this process.

python trucks.py PROJECT STORE DAYS"""

import math, sys
from pathlib import Path
from cd4ml_nb.core import UserError
from cd4ml_nb.serving.live import Shelf

PACK = 6  # Units


def packs(model, store, days):
    "Product -> packs for the expected units of the coming days, and the model that said so."
    found = model.arrays(None, store)
    expected = found["mean"][:, :days].sum(axis=1)
    orders = {item: math.ceil(units / PACK) for item, units in zip(found["item_nbr"], expected) if units >= PACK / 2}
    return orders, model.card["model_version"], model.card["data_version"]


def main(project, store, days):
    "Say what goes on the truck; a long-running program keeps the shelf and asks it each time."
    shelf = Shelf(Path(project))
    orders, model, data = packs(shelf.current(), store, int(days))
    for item, number in sorted(orders.items()):
        print(f"{number:4} packs of {item}")
    print(f"Model {model} on data {data}.")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as e:
        raise SystemExit(str(e)) from None
