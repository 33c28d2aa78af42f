"Looking every day fools nobody, a real difference is known in time, and what cannot be told is not told."

import json
import numpy as np, pandas as pd, pytest
from cd4ml_nb.core import UserError
from cd4ml_nb.monitoring.evidence import ALIKE, BETTER, NOT_YET, WORSE
from cd4ml_nb.monitoring.evidence import Experiment, bound, course_of, days_more, evidence_of, state_of
from cd4ml_nb.monitoring.losses import Costs, daily_losses, order_losses, with_expected

PARTS = ("champion", "champion scale", "challenger", "challenger scale")
DAYS, STORES = 31, 60


def world(rng, effect=0.0, days=DAYS, alike=0.4, luck_of=0.01, liking_of=0.01):
    "Stores of very different size, a luck that all share and that lasts from day to day, and each store's own liking."
    size = rng.lognormal(3, 1, (STORES, 1))
    luck = np.zeros(days)
    for day in range(days):
        luck[day] = alike * luck[day - 1] * (day > 0) + rng.normal(0, luck_of)
    liking = rng.normal(0, liking_of, (STORES, 1))
    mine = size * rng.gamma(20, 1 / 20, (STORES, days))
    rival = mine * (1 + effect + luck + liking) + size * rng.normal(0, 0.05, (STORES, days))
    return dict(zip(PARTS, (mine, np.ones_like(mine), rival, np.ones_like(mine))))


def ends(effect, experiments, seed=0, **how):
    "By experiment the day on which a difference is told, 0 where none is, and the state on that day."
    rng, found = np.random.default_rng(seed), []
    for _ in range(experiments):
        course = course_of(world(rng, effect, **how), [np.arange(STORES)])
        states = [state_of(*one, 0.0) for one in zip(course.difference, course.half)]
        found.append(next(((day, one) for day, one in enumerate(states, 1) if one != NOT_YET), (0, NOT_YET)))
    return found


@pytest.mark.parametrize("alike", [0.0, 0.4, 0.6])
def test_daily_looks_at_two_that_are_alike_raise_few_alarms(alike):
    told = ends(0.0, 150, alike=alike)
    assert np.mean([day > 0 for day, _ in told]) <= 0.05


def test_stores_that_like_one_of_two_are_no_difference_of_all():
    "Each store has its own favourite, on all days, and days tell nothing: only the number of stores does."
    assert np.mean([day > 0 for day, _ in ends(0.0, 100, luck_of=0.001, liking_of=0.1)]) <= 0.05


def test_a_difference_is_told_in_time_and_on_its_own_side():
    for effect, state in ((-0.03, BETTER), (0.03, WORSE)):
        told = ends(effect, 60, seed=1)
        assert np.mean([one == state for _, one in told]) >= 0.8
        assert {one for _, one in told} <= {state, NOT_YET}


def test_the_interval_holds_on_all_days_together():
    rng, missed = np.random.default_rng(2), 0
    for _ in range(100):
        course = course_of(world(rng, -0.05), [np.arange(STORES)])
        missed += (np.abs(course.difference + 0.05) > course.half).any()
    assert missed <= 5


def test_a_bound_of_few_observations_is_wider():
    assert bound(14, 0.05, 5) > 1.5 * bound(14, 0.05) > 1.5 * bound(14, 0.2)
    assert bound(14, 0.05, 1e12) == pytest.approx(bound(14, 0.05), rel=1e-3)


def test_more_days_are_about_those_that_it_takes():
    "Told after ten days, as the median of thirty experiments that had not known by then."
    rng, told, took = np.random.default_rng(3), [], []
    for _ in range(40):
        parts = world(rng, -0.02, days=60)
        courses = {
            days: course_of({name: part[:, :days] for name, part in parts.items()}, [np.arange(STORES)])
            for days in (10, 60)
        }
        if state_of(courses[10].difference[-1], courses[10].half[-1], 0.0) != NOT_YET:
            continue
        more = days_more(courses[10], 0.0)
        known = np.abs(courses[60].difference) > courses[60].half
        told.append(np.inf if more is None else more)
        took.append(int(np.argmax(known)) + 1 - 10 if known.any() else np.inf)
    assert len(told) > 15
    assert 0.4 < np.median(told) / np.median(took) < 2.5


def table(effect=0.0, days=20, stores=12, items=4, seed=0):
    "Losses of two arms, as they are joined."
    rng = np.random.default_rng(seed)
    keys = [(str(store), str(item)) for store in range(stores) for item in range(items)]
    rows = pd.DataFrame([(*key, day) for day in pd.date_range("2018-01-01", periods=days) for key in keys])
    rows = rows.set_axis(["store_nbr", "item_nbr", "date"], axis=1).assign(sold=5.0, arm="trees")
    rows["family"] = rows["item_nbr"].map({"0": "dairy"}).fillna("other")
    rows["pinball"] = rng.gamma(9, 1 / 9, len(rows))
    other = rows.assign(arm="forest", pinball=rows["pinball"] * (1 + effect) * rng.normal(1, 0.05, len(rows)))
    return pd.concat([rows, other], ignore_index=True)


ASKED = Experiment("trees", "forest", "pinball")


def test_rows_in_any_order_and_of_other_arms_tell_the_same():
    losses = table(-0.05)
    told = evidence_of(losses, ASKED)
    other = pd.concat([losses, losses.assign(arm="naive", pinball=99.0)]).sample(frac=1, random_state=0)
    again = evidence_of(other, ASKED)
    assert (again.state, again.difference, again.low) == pytest.approx((told.state, told.difference, told.low))
    assert told.state == BETTER and "by a person, or by the rule" in told.says


def test_two_that_are_alike_are_told_so_in_the_end():
    told = evidence_of(table(0.0, days=60), Experiment("trees", "forest", "pinball", least=0.05))
    assert told.state == ALIKE and told.more == 0 and not told.stops


def test_slices_share_the_error():
    "Of many slices that are alike none is told to be worse; one that is worse stops the challenger."
    losses = table(0.0, stores=20, items=12, seed=4)
    told = evidence_of(losses, ASKED, ["store_nbr", "item_nbr", "family"])
    assert len(told.slices) == 34 and not told.stops
    worse = losses["arm"].eq("forest") & losses["item_nbr"].eq("3")
    told = evidence_of(
        losses.assign(pinball=losses["pinball"].where(~worse, 1.3 * losses["pinball"])), ASKED, ["item_nbr"]
    )
    assert told.stops == ("3",) and told.slices["slice"][0] == "3" and "Worse for 3" in told.says
    alone, among = (
        evidence_of(losses, ASKED, kinds).slices.set_index("slice").loc["dairy"]
        for kinds in (["family"], ["family", "store_nbr"])
    )
    assert among["high"] - among["low"] > alone["high"] - alone["low"]


def test_a_shadow_knows_more_than_a_split_of_the_same():
    losses = table(-0.1, days=31, stores=30)
    shadow = evidence_of(losses, ASKED)
    own = losses["store_nbr"].astype(int) % 2 == 0
    split = losses[own == losses["arm"].eq("trees")]
    apart = evidence_of(split, Experiment("trees", "forest", "pinball", scale="sold"))
    assert (apart.high - apart.low) > 2 * (shadow.high - shadow.low)
    assert apart.low < -0.1 < apart.high
    with pytest.raises(UserError, match="answered no unit on the same day"):
        evidence_of(split, ASKED)


def test_a_split_knows_more_where_it_is_known_what_stores_used_to_lose():
    "Stores that are hard to forecast stay so: by what they used to lose, the interval is half as wide."
    losses = table(-0.1, days=60, stores=40, items=4)
    hard = np.random.default_rng(5).lognormal(0, 0.5, 40)[losses["store_nbr"].astype(int)]
    losses["pinball"] *= hard
    begins = pd.Timestamp("2018-01-30")
    before = losses[losses["arm"].eq("trees") & (losses["date"] < begins)]
    split = losses[(losses["store_nbr"].astype(int) % 2 == 0) == losses["arm"].eq("trees")]
    now = with_expected(split[split["date"] >= begins], before, "pinball")
    told = {
        scale: evidence_of(now, Experiment("trees", "forest", "pinball", scale=scale)) for scale in ("sold", "expected")
    }
    assert told["expected"].high - told["expected"].low < (told["sold"].high - told["sold"].low) / 2
    assert told["expected"].low < -0.1 < told["expected"].high


def test_scale_alone_changes_nothing():
    "Money in cents, or a champion that sells a thousand times as much."
    losses = table(-0.03)
    told, again = (evidence_of(losses.assign(pinball=losses["pinball"] * times), ASKED) for times in (1.0, 1000.0))
    assert (again.low, again.high, again.more) == pytest.approx((told.low, told.high, told.more))


@pytest.mark.parametrize("days, stores, items", [(1, 1, 1), (4, 12, 4), (8, 1, 1), (8, 1, 3)])
def test_of_little_nothing_is_told_and_nothing_breaks(days, stores, items):
    told = evidence_of(table(0.0, days=days, stores=stores, items=items), ASKED)
    assert told.state == NOT_YET and told.says.startswith(f"Not enough yet after {days} day")


def test_a_program_reads_what_is_not_known_as_null():
    losses = table(0.0, days=7)
    losses.loc[losses["item_nbr"].eq("1"), "pinball"] = 0.0  # of whom nothing can be told
    row = evidence_of(losses, ASKED, ["family", "item_nbr"]).as_row()
    assert json.loads(json.dumps(row, allow_nan=False))["slices"][0]["state"] == NOT_YET
    assert "1" not in {one["slice"] for one in row["slices"]}
    assert evidence_of(losses[losses["date"] < "2018-01-03"], ASKED).as_row()["low"] is None


def test_one_store_is_told_by_its_products_and_its_days():
    assert evidence_of(table(-0.2, days=31, stores=1, items=20), ASKED).state == BETTER


def test_a_challenger_that_never_misses_and_one_where_nothing_is_lost():
    perfect = table()
    perfect.loc[perfect["arm"].eq("forest"), "pinball"] = 0.0
    told = evidence_of(perfect, ASKED)
    assert told.state == BETTER and told.difference == -1
    with pytest.raises(UserError, match="has lost nothing yet"):
        evidence_of(perfect.assign(pinball=0.0), ASKED)


def test_orders_of_several_days_wait_for_their_last_and_know_less_than_their_number():
    "An order of seven days each night: a difference that lasts a week is seven nights' but one observation."
    losses = table(-0.1, days=31)
    once, weekly = (evidence_of(losses, Experiment("trees", "forest", "pinball", overlap=days)) for days in (1, 7))
    assert weekly.high - weekly.low > 2 * (once.high - once.low)


def forecasts(arm, off, nights=10):
    rows = [
        (arm, str(night)[:10], store, "milk", night + pd.Timedelta(days=ahead), 10.0)
        for night in pd.date_range("2018-01-01", periods=nights)
        for store in map(str, range(12))
        for ahead in (1, 2, 3)
    ]
    names = ["arm", "forecast_origin", "store_nbr", "item_nbr", "date", "unit_sales"]
    told = pd.DataFrame(rows, columns=names)
    return told.assign(mean=10.0 + off, q10=7.0 + off, q50=10.0 + off, q90=13.0 + off)


def test_from_nights_to_a_verdict():
    "The tables that nights join, through losses, to a verdict, by each loss."
    both = pd.concat([forecasts("trees", 2.0), forecasts("forest", 1.0)], ignore_index=True)
    costs = Costs(lost=3, left=1)
    for losses, loss in (
        (daily_losses(both, costs), "pinball"),
        (daily_losses(both, costs), "cost"),
        (order_losses(both, 3, costs), "order_error"),
        (order_losses(both, 3, costs), "cost"),
    ):
        told = evidence_of(losses, Experiment("trees", "forest", loss))
        assert told.state == BETTER and told.difference == pytest.approx(-0.5, abs=0.3)
    with pytest.raises(UserError, match="The losses lack order_error"):
        evidence_of(daily_losses(both), Experiment("trees", "forest", "order_error"))


def test_an_order_of_which_a_day_is_unknown_counts_for_nobody():
    told = forecasts("trees", 1.0, nights=2)
    told.loc[(told["store_nbr"] == "3") & (told["date"] == "2018-01-03"), "unit_sales"] = np.nan
    assert "3" not in set(order_losses(told, 3)["store_nbr"])
    assert len(order_losses(told, 3)) == 22 and len(daily_losses(told)) == 12 * 4 - 1
