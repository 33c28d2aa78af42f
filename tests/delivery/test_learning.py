"What a night learns online is a matter of its record alone."

from dataclasses import replace
import json, shutil
import numpy as np, pyarrow as pa, pyarrow.parquet as pq, pytest
from cd4ml_nb.core import UserError, sha256_of, write_json
from cd4ml_nb.delivery import learning
from cd4ml_nb.delivery.learning import _read_said, learn_tonight
from cd4ml_nb.delivery.night import turn
from cd4ml_nb.delivery.nights import live_folder
from cd4ml_nb.delivery.registry import new_version, package_folder, registry_folder
from cd4ml_nb.delivery.release import approve, promote
from cd4ml_nb.delivery.routing import arm_folder
from cd4ml_nb.delivery.state import state
from cd4ml_nb.model.forecaster import load_forecaster, make_ready
from cd4ml_nb.model.online import LEARNT, Learnt, read_learnt, write_learnt
from cd4ml_nb.model.package import seal, unseal
from cd4ml_nb.monitoring.published import ready_arms
from cd4ml_nb.tiny import tiny_live


@pytest.fixture(scope="module")
def evening(tmp_path_factory):
    "A released package, the block of the day after it, and where nights lie."
    root = tiny_live("2017-08-20")
    package = package_folder(root, state(root)["champion"])
    block = load_forecaster(package).block
    came = np.concatenate([block.sales, np.full((block.n_series, 1), 3.0, np.float32)], axis=1)
    return package, replace(block, sales=came), tmp_path_factory.mktemp("production") / "nights"


def learn_into(folder, evening, block=None):
    "What the card would say, and the bytes that are kept."
    package, tonight, nights = evening
    folder.mkdir()
    told = learn_tonight(package, tonight if block is None else block, folder, nights)
    return told, (folder / LEARNT).read_bytes()


def test_a_night_learns_the_same_again_and_a_corrected_day_anew(evening, tmp_path):
    told, kept = learn_into(tmp_path / "first", evening)
    assert (told["first"], told["last"], told["nights"]) == ("2017-08-21", "2017-08-21", 1)
    assert learn_into(tmp_path / "again", evening) == (told, kept)
    corrected = replace(evening[1], sales=np.where(evening[1].sales == 3, 4, evening[1].sales).astype(np.float32))
    assert learn_into(tmp_path / "corrected", evening, corrected)[0]["sha256"] != told["sha256"]
    assert told["heard"] == "The frozen model answers until 7 nights speak for what is learnt; there are 1"


def test_a_damaged_record_is_named_and_the_frozen_model_answers(evening, tmp_path):
    learn_into(tmp_path / "first", evening)
    (path,) = evening[2].parent.glob("online/*/*.parquet")
    sound = path.read_bytes()
    path.write_bytes(sound[:100])
    try:
        told, _ = learn_into(tmp_path / "damaged", evening)
    finally:
        path.write_bytes(sound)
    assert told["nights"] == 0 and "2017-08-21.parquet cannot be read" in told["missing"][0]


WRONG = {  # What a column of the record may have become
    "null": ("mean", lambda column: pa.nulls(len(column))),
    "some null": ("mean", lambda column: pa.array([None, *column.to_pylist()[1:]], pa.float32())),
    "bool": ("mean", lambda column: pa.array([True] * len(column))),
    "text": ("promoted", lambda column: column.cast(pa.string())),
    "absurd": ("mean", lambda column: pa.array([1e30] * len(column), pa.float32())),
    "below 0": ("promoted", lambda column: pa.array([-0.5] * len(column), pa.float32())),
    "numbers for names": ("store_nbr", lambda column: pa.array(range(len(column)))),
    "no name": ("item_nbr", lambda column: pa.array([None] * len(column), pa.string())),
}


@pytest.fixture(scope="module")
def record(evening, tmp_path_factory):
    "The file that holds what was said of a day."
    learn_into(tmp_path_factory.mktemp("record") / "night", evening)
    return next(evening[2].parent.glob("online/*/*.parquet"))


@pytest.mark.parametrize("wrong", WRONG)
def test_a_record_of_wrong_columns_is_named_and_not_learnt_from(record, tmp_path, wrong):
    table, (name, change) = pq.read_table(record), WRONG[wrong]
    at = table.column_names.index(name)
    pq.write_table(table.set_column(at, name, change(table[name])), tmp_path / record.name)
    with pytest.raises(ValueError, match=f"{record.name} holds what is no forecast: its {name} should be"):
        _read_said(tmp_path / record.name, record.parent.name)
    assert len(_read_said(record, record.parent.name)) == len(table)


@pytest.mark.parametrize("place", ["online", "online/MODEL"])
def test_a_file_where_the_record_should_be_stops_no_night(evening, tmp_path, place):
    package, tonight, _ = evening
    path = tmp_path / place.replace("MODEL", unseal(package)["card"]["model_version"])
    path.parent.mkdir(exist_ok=True)
    path.write_text("not a folder")
    (tmp_path / "night").mkdir()
    told = learn_tonight(package, tonight, tmp_path / "night", tmp_path / "nights")
    assert f"{path}" in told["missing"][0] and "cannot be written" in told["missing"][0]
    assert (told["nights"], told["moves"]) == (0, 1) and (tmp_path / "night" / LEARNT).is_file()


def test_whatever_befalls_learning_the_frozen_model_answers(evening, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("what nobody thought of")

    monkeypatch.setattr(learning, "gather_nights", fail)
    told, _ = learn_into(tmp_path / "night", evening)
    assert "The frozen model answers" in told["heard"] and "what nobody thought of" in told["heard"]
    assert (read_learnt(tmp_path / "night", evening[1].n_series).level == 1).all()


def test_a_day_without_sales_teaches_nothing(evening, tmp_path):
    unknown = evening[1].sales.copy()
    unknown[:, -1] = np.nan
    closed = replace(evening[1], sales=unknown, is_open=np.zeros_like(evening[1].is_open))
    told, _ = learn_into(tmp_path / "night", evening, closed)
    assert told["missing"] == ["nothing is known of what 2017-08-21 sold"] and told["moves"] == 1


def with_factors(package, folder, level):
    "The package with what was learnt beside its state."
    shutil.copytree(package, folder)
    sealed = unseal(folder)
    ones = np.ones(load_forecaster(package).block.n_series)
    write_learnt(folder, Learnt(level * ones, ones, {}, np.zeros((0, 2, 1)), np.ones((2, 1), bool)), {})
    (folder / "forecaster.json").unlink()
    seal(folder, sealed["card"], sealed["serving"])
    return folder


def test_what_was_learnt_moves_every_number_alike(evening, tmp_path):
    plain, moved = load_forecaster(evening[0]), load_forecaster(with_factors(evening[0], tmp_path / "more", 1.2))
    was, now = plain.arrays(), moved.arrays()
    np.testing.assert_allclose(now["mean"], 1.2 * was["mean"], rtol=1e-6)
    np.testing.assert_allclose(now["log_mean"], 1.2 * was["log_mean"], rtol=1e-6)
    assert (now["q10"] <= now["q50"]).all() and (now["q50"] <= now["q90"]).all() and (now["q90"] >= was["q90"]).all()
    np.testing.assert_allclose(moved.frozen()[plain.offered], plain.frozen()[plain.offered])
    item = was["item_nbr"][0]
    rest = plain.remainder([item], None).sum()
    assert moved.total(item)["mean"] - rest == pytest.approx(1.2 * (plain.total(item)["mean"] - rest), rel=1e-6)


@pytest.mark.parametrize("level", [np.nan, -1.0, 100.0])
def test_factors_that_cannot_be_are_refused(evening, tmp_path, level):
    with pytest.raises(UserError, match="learnt online"):
        load_forecaster(with_factors(evening[0], tmp_path / "odd", level))


@pytest.mark.prove
def test_a_challenger_learns_online_beside_a_champion_that_does_not(tmp_path):
    root = shutil.copytree(tiny_live("2017-08-20"), tmp_path / "shop")
    live = state(root)["champion"]["model_version"]
    with new_version(root, "twin") as new:  # the same model, let learn online
        shutil.copytree(registry_folder(root) / live, new, dirs_exist_ok=True)
        sealed = unseal(new / "package")
        (new / "package/forecaster.json").unlink()
        card = {**sealed["card"], "model_version": "twin"}
        seal(new / "package", card, {**sealed["serving"], "online": True})
        make_ready(new / "package")
        package = {"package": sha256_of(new / "package/forecaster.json")}
        for file, facts in (("gate.json", {"champion": live}), ("registration.json", package)):
            said = json.loads((new / file).read_text())
            write_json(new / file, said | {"model_version": "twin"} | facts)
    (root / "params.yaml").open("a").write("serving: {routing: {policy: split, unit: series}}\n")
    approve(root, "twin", "Ana", "for a trial", override=True)
    promote(root, "twin", "challenger", "Ana", "does it learn?", share=0.4)
    for _ in range(2):
        tonight = turn(root)["tonight"]
        assert ready_arms(root) == {"twin": ""}  # it turned its night, and nothing is said against it
    champion = unseal(live_folder(root, state(root)["champion"]))
    folder = arm_folder(root, state(root)["champion"], state(root)["beside"][0])
    card = unseal(folder)["card"]
    assert "online" not in champion["card"] and not champion["serving"].get("online")
    assert (folder / LEARNT).exists() and "twin" in card["model_version"]
    assert card["online"]["nights"] == 2 and card["online"]["heard"].startswith("The frozen model answers until 7")
    before, twin = load_forecaster(live_folder(root, state(root)["champion"])), load_forecaster(folder)
    np.testing.assert_allclose(twin.forecast()["mean"], before.forecast()["mean"])  # two nights are no proof
    assert tonight.card["model_version"] == champion["card"]["model_version"]
    assert "2 nights" in learning.learnt_beside(folder)
