"One project and one service for all tests of this folder that do not change it."

import pytest
from shop import live_shop, serving
from cd4ml_nb.serving.live import load_champion


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    return live_shop(tmp_path_factory.mktemp("serving") / "shop")


@pytest.fixture(scope="session")
def service(shop):
    with serving(shop) as running:
        yield running


@pytest.fixture(scope="session")
def model(shop):
    return load_champion(shop)


@pytest.fixture(scope="session")
def good(model):
    store, item = model.series.loc[0, ["store_nbr", "item_nbr"]]
    return {"item_nbr": item, "store_nbr": store, "date": model.card["first_day"]}
