"Who is assigned stays assigned, changes move as few as can be, and the balance is watched without crying wolf."

import json, subprocess, sys
from time import process_time
import numpy as np, pandas as pd, pytest
from cd4ml_nb.core import UserError
from cd4ml_nb.serving.assignment import PARTS, Allocation, allocate, assign, balance, deal
from cd4ml_nb.serving.assignment import points_of, sample_ratio, unit_points

UNITS = pd.DataFrame({"store_nbr": np.arange(20_000) % 50, "item_nbr": np.arange(20_000) // 50}).astype(str)


def shares_of(rng, arms):
    parts = rng.multinomial(1000, rng.dirichlet(np.ones(len(arms))))
    return {arm: part / 1000 for arm, part in zip(arms, parts)}


def owners(allocation):
    "The arm of each part of the line."
    arms = sorted({arm for arm, *_ in allocation.pieces})
    line = np.full(PARTS // 1000, -1)  # all shares are of thousands
    for arm, first, end in allocation.pieces:
        assert (line[first // 1000 : end // 1000] == -1).all()  # nobody owns what another one does
        line[first // 1000 : end // 1000] = arms.index(arm)
    assert (line >= 0).all()
    return np.array(arms)[line]


def test_a_change_of_shares_moves_no_part_more_than_it_must():
    "Thirty changes in a row among four arms, some of them of no share: what moves is what the losers lose."
    rng, stands, shares = np.random.default_rng(0), None, {}
    for _ in range(30):
        asked = shares_of(rng, ["champion", "a", "b", "c"])
        then = allocate(asked, stands)
        if stands is not None:
            moved = int((owners(stands) != owners(then)).sum())
            assert moved == round(sum(max(0, shares[arm] - asked[arm]) for arm in asked) * 1000)
        assert then.shares() == pytest.approx({arm: share for arm, share in asked.items() if share})
        stands, shares = then, asked


def test_a_unit_keeps_its_arm_in_another_process_and_in_any_order():
    allocation = allocate({"champion": 0.5, "challenger": 0.5})
    arms = list(assign(unit_points(UNITS, "spring"), allocation))
    backwards = UNITS[::-1]
    assert list(assign(unit_points(backwards, "spring"), allocation))[::-1] == arms
    code = (
        "import sys, json, pandas as pd; from cd4ml_nb.serving.assignment import *\n"
        "units = pd.DataFrame({'store_nbr': [str(n % 50) for n in range(200)],"
        " 'item_nbr': [str(n // 50) for n in range(200)]})\n"
        "print(json.dumps(list(assign(unit_points(units, 'spring'), allocate({'champion': 0.5, 'challenger': 0.5})))))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(said.stdout) == arms[:200]


def test_two_experiments_know_nothing_of_each_other():
    one, other = (unit_points(UNITS, salt) for salt in ("spring", "summer"))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03
    assert (unit_points(UNITS[["item_nbr", "store_nbr"]], "spring") == one).all()
    swapped = UNITS.rename(columns={"store_nbr": "item_nbr", "item_nbr": "store_nbr"})
    assert abs(np.corrcoef(one, unit_points(swapped, "spring"))[0, 1]) < 0.03  # store 1, product 2 is not 2, 1


def test_an_allocation_survives_json():
    allocation = allocate({"champion": 0.7, "challenger": 0.3})
    row = json.loads(json.dumps(allocation.as_row()))
    assert Allocation.of(row) == allocation


@pytest.mark.parametrize(
    "row",
    [
        {"pieces": [["champion", 0, 5]]},
        {"pieces": [["champion", 0, PARTS], ["challenger", 5, PARTS]]},
        {"pieces": "all"},
        {},
    ],
)
def test_a_broken_allocation_is_a_sentence(row):
    with pytest.raises(UserError, match="pieces"):
        Allocation.of(row)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_what_is_dealt_is_balanced_by_volume(share):
    "Stores as unequal as real ones: the share of the volume lies twice as near than by the hash alone."
    shops = pd.DataFrame({"store_nbr": np.arange(400).astype(str)})
    volume = np.random.default_rng(1).lognormal(5, 1, 400)
    allocation, off = allocate({"champion": 1 - share, "challenger": share}), {True: [], False: []}
    for salt in map(str, range(25)):
        for is_dealt in off:
            dealt = deal(shops.assign(volume=volume), salt) if is_dealt else None
            arms = assign(points_of(shops, salt, dealt), allocation)
            off[is_dealt].append(balance(arms, volume, allocation).loc["challenger", "volume_share"] - share)
    assert np.std(off[True]) < np.std(off[False]) / 2
    assert abs(np.mean(off[True])) < 0.01


def test_who_came_later_moves_nobody_and_is_shared_as_asked():
    shops = pd.DataFrame({"store_nbr": np.arange(95).astype(str), "volume": np.arange(95.0)})
    dealt, allocation = deal(shops, "spring"), allocate({"champion": 0.8, "challenger": 0.2})
    later = pd.DataFrame({"store_nbr": np.arange(5000).astype(str)})
    points = points_of(later, "spring", dealt)
    assert (points[:95] == points_of(shops[["store_nbr"]], "spring", dealt)).all()
    assert abs((assign(points[95:], allocation) == "challenger").mean() - 0.2) < 0.02
    assert (points_of(later.astype(int), "spring", dealt) == points).all()  # a number is the same key


def test_daily_looks_at_a_sound_split_raise_no_alarm():
    "A hundred experiments of sixty days: a chance below 1 in 1,000 comes in one of them at most, about."
    rng, alarms = np.random.default_rng(2), 0
    for _ in range(100):
        total = rng.integers(1, 400, 60)
        came = rng.binomial(total, 0.2)
        day = pd.DataFrame({"champion": total - came, "challenger": came})
        alarms += sample_ratio(day, {"champion": 0.8, "challenger": 0.2})["alarm"].any()
    assert alarms <= 1


def test_a_lost_tenth_is_seen_and_a_retired_arm_that_answers_at_once():
    days = pd.DataFrame({"champion": [8000] * 20, "challenger": [1800] * 20})
    assert sample_ratio(days, {"champion": 0.8, "challenger": 0.2})["alarm"].iloc[-1]
    wrong = pd.DataFrame({"champion": [50, 50], "challenger": [0, 1]})
    assert sample_ratio(wrong, {"champion": 1.0, "challenger": 0.0})["alarm"].tolist() == [False, True]
    with pytest.raises(UserError, match="Units were counted of"):
        sample_ratio(days, {"champion": 1.0})


def test_a_million_keys_a_second():
    "In the processor's time; a hash that were asked for each product in each store would take ten times as long."
    many = pd.DataFrame({"store_nbr": np.arange(300_000) % 500, "item_nbr": np.arange(300_000) // 500}).astype(str)
    allocation = allocate({"champion": 0.8, "challenger": 0.2})
    began = process_time()
    assign(unit_points(many, "spring"), allocation)
    assert len(many) / (process_time() - began) > 1_000_000
