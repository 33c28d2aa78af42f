"Each file of what is live is missing in turn: whoever reads answers as before, or says in a sentence what is gone."

import json, shutil
import pytest
from cd4ml_nb.core import UserError
from cd4ml_nb.delivery.acts import HEAD, LIVE, LOG
from cd4ml_nb.delivery.live_copy import copy_live
from cd4ml_nb.delivery.night import next_day, turn
from cd4ml_nb.delivery.nights import RECOUNTS, keep_recounts
from cd4ml_nb.delivery.release import status_in_words
from cd4ml_nb.delivery.state import state
from cd4ml_nb.delivery.store import fetch_live, publish_live
from cd4ml_nb.model.notes import Recount
from cd4ml_nb.serving.live import Shelf, load_champion
from cd4ml_nb.tiny import tiny_live

READERS = {
    "copy": lambda root, folder: copy_live(root, folder / "copy"),
    "load": lambda root, folder: load_champion(root),
    "status": lambda root, folder: status_in_words(state(root)),
    "next day": lambda root, folder: next_day(root),
}


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    "A project that has lived through a night."
    root = tmp_path_factory.mktemp("lived") / "shop"
    tiny = tiny_live("2017-08-20")
    turn(tiny)
    shutil.copytree(tiny, root)
    return root


def parts(root):
    "The files and folders that say and hold what is live."
    name = state(root)["champion"]["model_version"]
    version, night = root / "data/registry" / name, root / "production/nights/2017-08-21" / name
    ledgers = sorted((root / "data/registry").glob(".registrations*"))
    files = [root / "params.yaml", root / LOG, root / HEAD, *ledgers, root / LIVE, version, night]
    files += [path for folder in (version, version / "package", night) for path in folder.iterdir()]
    return [*files, root / "production/forecasts/2017-08-21.parquet", root / "production/prepared", root / "production"]


def test_what_is_missing_is_said(lived, tmp_path):
    root, wrong = tmp_path / "shop", []
    shutil.copytree(lived, root)
    for gone in parts(root):
        gone.rename(tmp_path / "aside")
        for name, read in READERS.items():
            try:
                read(root, tmp_path)
            except UserError as e:
                misleads = str(e).startswith("Cannot write")  # it is something to read that is gone
                wrong += [f"{gone.relative_to(root)} is missing, {name}: {e}"] * misleads
            except Exception as e:
                wrong.append(f"{gone.relative_to(root)} is missing, {name}: {type(e).__name__}: {e}")
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink(missing_ok=True)
        (tmp_path / "aside").rename(gone)
    assert wrong == []
    assert load_champion(root).card["forecast_origin"] == "2017-08-21"


def test_a_night_is_copied_though_the_file_that_names_it_is_gone(lived, tmp_path):
    root = tmp_path / "shop"
    shutil.copytree(lived, root)
    (root / LIVE).unlink()
    copy_live(root, tmp_path / "copy")
    publish_live(root, f"file://{tmp_path / 'store'}")
    fetch_live(f"file://{tmp_path / 'store'}", tmp_path / "here")
    cards = [load_champion(folder).card for folder in (lived, root, tmp_path / "copy", tmp_path / "here/current")]
    assert [card["forecast_origin"] for card in cards] == ["2017-08-21"] * 4


def test_a_model_that_is_live_again_is_copied_with_its_own_night(lived, tmp_path):
    "The live night is another model's: what is copied stands where what is live stands."
    root = tmp_path / "shop"
    shutil.copytree(lived, root)
    night = json.loads((root / LIVE).read_text())
    (root / LIVE).write_text(json.dumps({**night, "model_version": "trees-2"}))
    copy_live(root, tmp_path / "copy")
    origins = [load_champion(folder).card["forecast_origin"] for folder in (root, tmp_path / "copy")]
    assert origins == ["2017-08-21"] * 2


def test_a_product_that_is_counted_otherwise_is_marked_until_it_is_over(lived, tmp_path, capsys):
    "By what is loaded, by a service that is up, in a copy; and a damaged mark stops nobody."
    root, plain = tmp_path / "shop", load_champion(lived)
    shutil.copytree(lived, root)
    shelf, (store, item) = Shelf(root), plain.series.iloc[0]
    assert shelf.current().note(item, store) == plain.note(item, store)

    keep_recounts(root, {item: Recount("2017-08-19", 12.0, (store,))})
    assert "about 12 times as high as before in store" in shelf.current().note(item, store)
    copy_live(root, tmp_path / "copy")
    assert load_champion(tmp_path / "copy").note(item, store) == shelf.current().note(item, store)

    (root / RECOUNTS).write_text("[")
    assert shelf.current().note(item, store) == plain.note(item, store)
    assert "recounts.json is damaged" in capsys.readouterr().err
    keep_recounts(root, {})
    assert shelf.current().note(item, store) == plain.note(item, store)
