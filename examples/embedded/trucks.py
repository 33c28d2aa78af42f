"""How many packs of each product go on the next truck to a store? The live model answers in this process.

python trucks.py PLACE STORE DAYS"""

import math, sys
from cd4ml_nb.core import UserError
from cd4ml_nb.serving.follow import load_live

PACK = 6  # Units


def packs(model, store, days):
    "Product -> packs for the expected units of the coming days, and the model that said so."
    found = model.arrays(None, store)
    expected = found["mean"][:, :days].sum(axis=1)
    orders = {item: math.ceil(units / PACK) for item, units in zip(found["item_nbr"], expected) if units >= PACK / 2}
    return orders, model.card["model_version"], model.card["data_version"]


def main(place, store, days):
    "Say what goes on the truck; a long-running program keeps `live` and asks it each time."
    live = load_live(place)
    orders, model, data = packs(live.current(), store, int(days))
    for item, number in sorted(orders.items()):
        print(f"{number:4} packs of {item}")
    print(f"Model {model} on data {data}.")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as e:
        raise SystemExit(str(e)) from None
