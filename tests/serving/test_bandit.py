"The bandit's shares: replay, order, corrections, and what cannot be."

import json, os, subprocess, sys
import numpy as np, pandas as pd, pytest
from cd4ml_nb.core import UserError
from cd4ml_nb.serving.bandit import Bandit, bandit_of, bandit_shares

ARMS = ("a", "b", "c")


def rewards(days=10, worse=(0.0, 0.1, -0.1), seed=0, stores=30):
    rng = np.random.default_rng(seed)
    store, day = np.tile(np.arange(stores), days), np.repeat(np.arange(days), stores)
    arm, sold = store % 3, rng.lognormal(3, 0.5, stores)[store]
    loss = 0.3 * sold * (1 + np.array(worse)[arm]) * (1 + 0.1 * rng.standard_normal(len(store)))
    date = pd.Timestamp("2018-01-01") + pd.to_timedelta(day, unit="D")
    named = {"arm": np.array(ARMS)[arm], "store_nbr": store.astype(str), "date": date}
    return pd.DataFrame(named | {"order_error": loss, "sold": sold})


def tonight(rows, arms=ARMS, today="2018-01-11", **asked):
    return bandit_shares(rows, arms, "a", Bandit(**asked), today)[""]


def test_each_night_can_be_made_again_from_the_record_alone():
    rows = rewards()
    for night in pd.date_range("2018-01-02", "2018-01-11"):
        until, today = rows[rows["date"] < night], str(night)[:10]
        told = json.dumps(tonight(until, today=today).as_row())
        shuffled = until.sample(frac=1, random_state=night.day)
        assert json.dumps(tonight(shuffled, ARMS[::-1][:2] + ("a",), today=today).as_row()) == told


def test_another_process_says_the_same_bytes(tmp_path):
    rows = rewards()
    rows.to_parquet(tmp_path / "rewards.parquet")
    code = "import sys, json, pandas as pd; from cd4ml_nb.serving.bandit import Bandit, bandit_shares; "
    code += "rows = pd.read_parquet(sys.argv[1]); "
    code += "print(json.dumps(bandit_shares(rows, 'abc', 'a', Bandit(half_life=5), '2018-01-11')[''].as_row()))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "rewards.parquet")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert done.stdout.strip() == json.dumps(tonight(rows, half_life=5).as_row())


def test_a_correction_counts_as_if_it_had_always_been_so_and_another_record_has_another_name():
    rows = rewards()
    later = rows.assign(order_error=rows["order_error"].where(rows["arm"] != "b", 0.1 * rows["sold"]))
    before, after = tonight(rows), tonight(later)
    assert before.shares["c"] > 0.9 and after.shares["b"] > 0.9
    assert before.record != after.record
    assert tonight(pd.concat([later.head(5), later.iloc[5:]])) == after


@pytest.mark.parametrize("floor", [0.0, 0.05, 1 / 3])
def test_each_arm_keeps_the_floor_and_shares_are_a_whole(floor):
    shares = tonight(rewards(), floor=floor).shares
    assert min(shares.values()) >= floor - 1e-6
    assert abs(sum(shares.values()) - 1) < 1e-9


def test_what_units_and_days_are_measured_in_does_not_matter():
    rows = rewards()
    grams = rows.assign(order_error=rows["order_error"] * 1000, sold=rows["sold"] * 1000)
    assert tonight(grams).shares == pytest.approx(tonight(rows).shares, abs=1e-5)


def test_a_common_day_moves_nobody():
    rows = rewards(worse=(0, 0, 0))
    hard = rows["date"].map(lambda day: 3.0 if day.day == 5 else 1.0)
    worse_day = rows.assign(order_error=rows["order_error"] + rows["sold"] * (hard - 1))
    assert tonight(worse_day).difference["b"][0] == pytest.approx(tonight(rows).difference["b"][0], abs=0.05)


def test_one_store_on_one_day_proves_nothing():
    rows = rewards(days=1, stores=3, worse=(0, 5, 5))
    assert tonight(rows, today="2018-01-02").shares == pytest.approx(dict.fromkeys(ARMS, 1 / 3), abs=0.01)


def test_a_cap_ends_an_arm_for_good_and_the_others_share_the_rest():
    rows, today = rewards(30), "2018-01-31"
    cost = tonight(rows, today=today).cost["b"]
    assert cost > 0 and tonight(rows, today=today, cap=2 * cost).over == ()
    ended = tonight(rows, today=today, cap=cost / 2)
    assert ended.over == ("b",) and ended.shares["b"] == 0 and "more than the cap" in ended.says
    assert tonight(rows.assign(own=False), today=today, cap=0.01).over == ()  # who answers nobody costs nothing


def test_the_cap_holds_but_for_the_night_under_way():
    rng, cap, spent, shares, seen = np.random.default_rng(0), 60.0, [], dict.fromkeys(ARMS, 1 / 3), []
    for day in range(20):
        rows = rewards(1, (0.0, 0.5, 0.0), seed=day).assign(date=pd.Timestamp("2018-01-01") + pd.Timedelta(days=day))
        ends = np.round(np.cumsum([30 * shares[arm] for arm in ARMS])).astype(int)
        rows["arm"] = np.repeat(ARMS, np.diff([0, *ends]))
        worse = rows["arm"].eq("b")
        rows["order_error"] = 0.3 * rows["sold"] * np.where(worse, 1.5, 1.0) * (1 + 0.05 * rng.standard_normal(30))
        spent.append((0.1 * rows["sold"] * worse).sum() * 1.5)
        seen.append(rows)
        today = str(pd.Timestamp("2018-01-02") + pd.Timedelta(days=day))[:10]
        shares = tonight(pd.concat(seen), today=today, cap=cap, floor=0.2).shares
    assert shares["b"] == 0
    assert sum(spent) < cap + max(spent) + 30


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"reward": "orders"}, "reward is 'orders' (did you mean order_error?)"),
        ({"cap": float("inf")}, "cap is inf"),
        ({"cap": True}, "cap is True"),
        ({"half_life": 0}, "half_life is 0"),
        ({"days": 2.5}, "days is 2.5"),
        ({"floor": "small"}, "floor is 'small'"),
        ({"ground": 1}, "unknown key ground"),
        ({"segment": ["family"]}, "segment is ['family']; it is a column"),
        ([0.1], "it holds keys"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(section, says):
    with pytest.raises(UserError) as refused:
        bandit_of(section)
    assert says in str(refused.value)


def test_what_is_no_record_of_rewards_is_a_sentence():
    rows = rewards()
    for wrong, says in (
        (rows.drop(columns="sold"), "lack sold"),
        (rows.assign(order_error="much"), "Row 0 of the rewards has no order_error"),
        (rows.assign(sold=np.inf), "Row 0 of the rewards has no sold"),
    ):
        with pytest.raises(UserError, match=says):
            tonight(wrong)
    with pytest.raises(UserError, match="It can be 0.333 at most"):
        tonight(rows, floor=0.34)


def test_a_segment_believes_itself_as_far_as_the_record_tells():
    other = [rewards(20, (0, 0, -0.3), seed=k).assign(family=f"f{k}") for k in range(6)]
    other = [rows.assign(store_nbr=f"{k} " + rows["store_nbr"]) for k, rows in enumerate(other)]
    odd = lambda days: rewards(days, (0, 0, 0.3), seed=9).assign(
        family="odd", store_nbr=lambda rows: "odd " + rows["store_nbr"]
    )
    share = lambda *rows: bandit_shares(pd.concat(rows), ARMS, "a", Bandit(segment="family"), "2018-01-21")
    alone, beside = (share(*rows, odd(2))["odd"].shares["c"] for rows in ([], other))
    assert alone < beside  # two days are believed less where all others say the opposite
    told = share(*other, odd(20))
    assert told["odd"].shares["c"] < 0.1 < 0.9 < told["f0"].shares["c"] and set(told) == {
        "",
        "odd",
        *map("f{}".format, range(6)),
    }


def test_a_fresh_arm_begins_with_what_it_was_given_until_it_was_seen():
    rows, begins = rewards(10), {"b": 0.05, "c": 0.05}
    shares = lambda days: bandit_shares(
        rows[rows["date"] < f"2018-01-{days + 1:02}"], ARMS, "a", Bandit(), "2018-01-11", begins
    )
    for days in (0, 1, 2):
        assert shares(days)[""].shares == {"a": 0.9, "b": 0.05, "c": 0.05} and "begin" in shares(days)[""].says
    assert shares(10)[""].fresh == () and shares(10)[""].shares["c"] > 0.5
    capped = bandit_shares(rows.head(60), ARMS, "a", Bandit(cap=1e-6), "2018-01-11", begins)[""]
    assert all(capped.shares[arm] == 0 for arm in capped.over) and abs(sum(capped.shares.values()) - 1) < 1e-9
