"A free rule's share, learnt from windows that are over."

import numpy as np, pytest
from cd4ml_nb.model.blend import SHARES, learn_blend


def losses(best, n, noise=1.0, seed=0):
    "Of n series, as far off as their share is from the best one, and by chance."
    chance = noise * np.random.default_rng(seed).normal(size=(n, 1)) * (SHARES - 0.5)
    each = 1 + (SHARES - best) ** 2 + chance
    return {"mean": each, "log_mean": each}


@pytest.mark.parametrize("best", [0.3, 0.7, 1.0])
def test_many_series_say_their_share_and_few_stay_in_the_middle(best):
    many, few = (learn_blend([losses(best, n)]).get("mean", 0) for n in (20_000, 4))
    assert abs(many - best) < 0.06 and 0 <= few < 0.95, (many, few)


def test_a_model_that_is_best_alone_stays_alone():
    assert learn_blend([losses(0.0, 50)] * 2) == {} and learn_blend([losses(0.0, 1)]) == {}
