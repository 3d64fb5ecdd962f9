"""Whether the optimum moves with data: the test keeps its size, and finds what is there."""

from __future__ import annotations

import numpy as np
import pytest
from made_trials import BUDGET, at_equal_cost, sampled, several, trials

from sparsity_lab.artifacts.searches import Trend
from sparsity_lab.messages import message, words_in

pytestmark = pytest.mark.slow

BUDGETS = (150_000_000, 400_000_000, 1_000_000_000)
HERE = np.array([0.0, 0.2, 0.35, 0.5, 0.6, 0.7, 0.78, 0.85, 0.9])


def trend_at(seed: int, sd: float, *, moving: bool) -> Trend:
    """The trend of three budgets of nine trials; where nothing moves they all lie on one curve."""
    clouds = {
        budget: trials(
            sampled(at_equal_cost(budget if moving else BUDGET), sd, [float(s) for s in HERE], seed * 10 + k), budget
        )
        for k, budget in enumerate(BUDGETS)
    }
    return several(clouds, noise=sd).trends[0]


def test_under_the_null_it_seldom_raises_an_alarm() -> None:
    """100 searches whose optimum is the same at every budget: at 10 % about 10 alarms; 18 or more come once in 100."""
    found = [trend_at(seed, sd, moving=False) for seed in range(50) for sd in (0.005, 0.02)]
    alarms = [t for t in found if t.p_value is not None and t.p_value < 0.1]
    assert len(alarms) < 18
    assert {t.verdict.key for t in alarms} <= {"search-trend-rises", "search-trend-falls"}
    rising = np.mean([t.slope > 0 for t in found])  # type: ignore[operator]
    assert 0.3 < rising < 0.7, "neither direction is preferred"


def test_a_trend_that_is_there_is_found() -> None:
    found = [trend_at(seed, 0.01, moving=True) for seed in range(20)]
    assert np.mean([t.verdict.key == "search-trend-rises" for t in found]) >= 0.8
    assert all("bootstrap" in words_in("en")(t.test) for t in found)


def test_the_direction_is_named_and_the_interval_agrees() -> None:
    up = trend_at(0, 0.003, moving=True)
    assert words_in("en")(up.verdict).startswith("the optimal sparsity rises with data: +")
    assert up.slope_low is not None
    assert up.slope_low > 0
    assert up.probability_rising is not None
    assert up.probability_rising > 0.99
    clouds = [trials(sampled(at_equal_cost(b), 0.003)) for b in BUDGETS]
    down = several(dict(zip(BUDGETS, clouds[::-1], strict=True))).trends[0]
    assert words_in("en")(down.verdict).startswith("the optimal sparsity falls with data: -")


def test_optima_at_one_edge_tell_no_trend() -> None:
    cloud = trials(sampled(lambda s: 3 - 0.4 * np.log1p(-s), 0.002))
    trend = several({10_000: cloud, 20_000: cloud}).trends[0]
    assert trend.verdict == message("search-trend-at-lower-edge", S=0.0)


def test_one_budget_has_no_trend() -> None:
    trend = several({BUDGET: trials(sampled(at_equal_cost(), 0.002))}).trends[0]
    assert trend.verdict == message("search-trend-too-few", n=1, all=1)
    assert (trend.slope, trend.p_value) == (None, None)
