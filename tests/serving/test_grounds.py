"A release that goes back, to a model of other data or of earlier days, is said when it goes live, in status, on pages."

import json, shutil
from datetime import date, timedelta
import pandas as pd, pyarrow as pa, pyarrow.parquet as pq, pytest
from shop import NO_MLFLOW, approve, make_shop, promote, put_live, register
from cd4ml_nb.core import write_json
from cd4ml_nb.delivery.grounds import doubt_grounds, say_older
from cd4ml_nb.delivery.registry import registry_folder
from cd4ml_nb.delivery.release import rollback, status_in_words
from cd4ml_nb.delivery.state import state
from cd4ml_nb.model.package import _seal_of
from cd4ml_nb.serving.live import load_champion
from cd4ml_nb.serving.orders import order_list
from cd4ml_nb.tiny import tiny_project


@pytest.fixture
def own(tmp_path):
    "A shop whose models are of the sales that are prepared there."
    root = make_shop(tmp_path / "shop")
    shutil.copytree(tiny_project("gate") / "data/prepared", root / "data/prepared")
    return root


def sell_others(root):
    "Let the sales that are here be of other products, from another source."
    prepared = root / "data/prepared"
    series = pd.read_parquet(prepared / "series.parquet")
    series.assign(item_nbr="other " + series["item_nbr"].astype(str)).to_parquet(prepared / "series.parquet")
    version = json.loads((prepared / "version.json").read_text())
    write_json(prepared / "version.json", version | {"source": "table"})


def known_to(root, day):
    "Let the package from which versions are made know sales up to a day, by what it says."
    path = root / "made/forecaster.json"
    told = json.loads(path.read_text())
    after = lambda days: str(date.fromisoformat(day) + timedelta(days=days))
    told["card"] |= {"forecast_origin": day, "first_day": after(1), "last_day": after(told["card"]["horizon"])}
    path.write_text(json.dumps({**told, "seal": _seal_of(told)}))


def doubt(root):
    return doubt_grounds(root, state(root)["champion"])


def test_a_model_of_the_sales_that_are_here_is_not_doubted(own, capfd):
    put_live(own, "trees-1")
    put_live(own, "trees-2", 1.5)
    rollback(own, "Prüferin", "back", outside=NO_MLFLOW)
    assert doubt(own) == "" and load_champion(own).card["doubt"] == ""
    assert "other data" not in capfd.readouterr().err


def test_a_rollback_to_other_data_is_said_everywhere(own, capfd):
    put_live(own, "trees-1")
    put_live(own, "trees-2", 1.5)
    sell_others(own)
    capfd.readouterr()
    rollback(own, "Prüferin", "back", outside=NO_MLFLOW)
    model = load_champion(own)
    day, said = model.card["forecast_origin"], doubt(own)
    here = len(pd.read_parquet(own / "data/prepared/series.parquet"))
    assert (
        f"trees-1 is of other data (tiny): of the {here} series of the source table, which are here, it knows 0."
        in said
    )
    assert f"It answers from its sales up to {day}, whatever is sold since. Put a model of these data live" in said
    assert said in capfd.readouterr().err
    assert said in status_in_words(state(own), said) and said == model.card["doubt"]
    assert said in order_list(model, model.series.loc[0, "store_nbr"], 3).notes


def test_a_release_that_goes_back_in_time_is_said(own, capfd):
    newest = json.loads((own / "made/forecaster.json").read_text())["card"]["forecast_origin"]
    put_live(own, "trees-1")
    known_to(own, "2017-08-01")
    register(own, "trees-2", 1.5)
    capfd.readouterr()
    approve(own, "trees-2")
    older = f"The sales that trees-2 knows end on 2017-08-01, while what was live so far knew those up to {newest}."
    assert capfd.readouterr().err.strip() == older == say_older(own, "trees-2")
    promote(own, "trees-2")
    back = f"trees-2 answers from the sales up to 2017-08-01, while what was live before knew those up to {newest}."
    assert back in capfd.readouterr().err and back in doubt(own)
    rollback(own, "Prüferin", "back", outside=NO_MLFLOW)
    assert doubt(own) == ""


def test_what_cannot_be_read_is_nobodys_doubt(own):
    put_live(own, "trees-1")
    (own / "data/prepared/series.parquet").write_bytes(b"none")
    assert doubt(own) == ""


def test_two_tables_of_the_same_source_are_two_data(own):
    "Both are called `table`, say: the live one ends earlier, and the other one's days are none of its own."
    newest = json.loads((own / "made/forecaster.json").read_text())["card"]["forecast_origin"]
    put_live(own, "trees-1")
    known_to(own, "2017-08-01")
    put_live(own, "trees-2", 1.5)
    assert f"knew those up to {newest}" in doubt(own)
    state_of = registry_folder(own) / "trees-1/package/state.parquet"
    table = pq.read_table(state_of)
    others = pa.array([f"other {name}" for name in table["item_nbr"].to_pylist()])
    pq.write_table(table.set_column(table.schema.get_field_index("item_nbr"), "item_nbr", others), state_of)
    assert doubt(own) == "" == say_older(own, "trees-2")
