"""Two seasonal years in which nothing changes: a model is called worse than judged by chance alone.

The shops are those of the drift's tests: their truth is known, and each December sells a third more. A model that knows
weekdays, promotions and holidays, and no December, is judged in six windows of one spring and lives for two years.
"""

import numpy as np, pandas as pd, pytest
from cd4ml_nb.monitoring.judged import SPAN, hold_against
from cd4ml_nb.monitoring.seasons import seasons_of
from cd4ml_nb.quality.promise import week_ahead
from test_drift import YEAR, facts_of, shops

HORIZON, WINDOWS, FIRST = 16, 6, YEAR + 73  # The first window's origin is in the middle of March
SEEDS, NIGHTS = range(7), 2 * YEAR


def effects(block, days):
    "What promotions, holidays and closed days make of sales."
    lifted = np.where(block.onpromotion[:, days] > 0, 1.8, 1) * np.where(block.holiday[:, days], 0.6, 1)
    return lifted * block.is_open[:, days]


def went(block, origin):
    "How all together went that are forecast from a day: what the last four weeks sold on such a weekday."
    past, ahead = slice(origin - 27, origin + 1), slice(origin + 1, origin + 1 + HORIZON)
    level, weight = (part.reshape(-1, 4, 7).sum(axis=1) for part in (block.sales[:, past], effects(block, past)))
    steps = np.arange(1, HORIZON + 1)
    mean = (level / np.maximum(weight, 1))[:, (steps - 1) % 7] * effects(block, ahead)
    sums = {"said": mean.sum(axis=0), "sold": block.sales[:, ahead].sum(axis=0), "rows": float(len(mean))}
    dates = pd.date_range(str(block.date(origin + 1)), periods=HORIZON)
    return pd.DataFrame(
        {"kind": "all", "slice": "", "days": 1, "date": dates, "week": week_ahead(steps, HORIZON)} | sums
    )


def promised_and_lived(seed):
    "A shop's promise, what two years of nights added up, and what came in."
    block, _ = shops(seed, years=3.6)
    windows = [FIRST + HORIZON * number for number in range(WINDOWS)]
    promise = pd.concat([went(block, day).assign(forecast_origin=str(block.date(day))) for day in windows])
    live = range(windows[-1] + HORIZON, windows[-1] + HORIZON + NIGHTS, SPAN)
    sums = pd.concat([went(block, day) for day in live]).groupby(["kind", "slice", "days", "date", "week"]).sum()
    return promise, sums.reset_index(), seasons_of(facts_of(block))


def volume_off(promise, sums, seasons):
    "On which days volume lies outside of what was promised, alone or beside a plain forecast's."
    found = [hold_against(key, sums, promise, seasons=seasons) for key in ("bias", "beside")]
    return np.any([one.off[0] for one in found if one is not None], axis=0)


def too_little(promise, sums, seasons):
    "How often a model that says 30 % too little from a day on is seen within a week."
    days, seen = np.sort(sums["date"].unique()), []
    for first in range(20, len(days) - SPAN, 20):
        own = sums[sums["date"].between(days[first - 2 * SPAN], days[first + SPAN - 1])]
        less = own.assign(said=own["said"].where(own["date"] < days[first], own["said"] * 0.7))
        seen.append(volume_off(promise, less, seasons)[2 * SPAN :].any())
    return np.mean(seen)


@pytest.mark.prove
def test_two_stationary_seasonal_years_raise_at_most_one_alarm_and_hide_no_fault():
    alarms, power = {}, {}
    for seed in SEEDS:
        promise, sums, seasons = promised_and_lived(seed)
        for name, known in (("without", None), ("with", seasons)):
            off = volume_off(promise, sums, known)
            alarms.setdefault(name, []).append(int((off[1:] & ~off[:-1]).sum()))
            power.setdefault(name, []).append(too_little(promise, sums, known))
    power = {name: np.mean(each) for name, each in power.items()}

    print(alarms, power)
    assert max(alarms["with"]) <= 1 and sum(alarms["without"]) > len(SEEDS), alarms
    assert power["with"] >= 0.8 and power["with"] > power["without"] - 0.02, power
