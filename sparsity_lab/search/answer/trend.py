"""Whether the optimal sparsity changes with data: a line through the optima of the budgets, and a test of its slope.

Every budget's optimum is known by resampled optima (`curve`), independent between budgets. The slope against log2 of
the data budget is their weighted least-squares line; resampling gives its distribution, to which normal errors of
`FLOOR` an optimum are added: the smooth curves are not that right, and the trend is no straight line. The two-sided
p-value is twice the smaller share of resampled slopes on either side of zero, the bootstrap test by inverted
percentile intervals (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13 and 15.4). Rank tests
(Jonckheere, Spearman) say nothing here: three budgets have six orders, so none can be significant.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sparsity_lab.artifacts.searches import Trend
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.messages import Message, message
from sparsity_lab.search.propose.variants import RESOLUTION

FLOOR = 0.02
"""no optimum is trusted to better than this"""
TEST = message("search-trend-bootstrap")
SEED = 5
"""of the errors added; they are the same whatever is resampled"""


def trend_of(
    nonzero: int, optima: Mapping[int, FloatArray], budgets: int, ends: tuple[float, float], confidence: float
) -> Trend:
    """Slope of the optimal sparsity against log2 of the data budget.

    Args:
        nonzero: N.
        optima: resampled optima (draws,) of each data budget that has a curve, draws independent between budgets.
        budgets: how many were searched.
        ends: lowest and highest sparsity of the space.
        confidence: of the interval; the trend is significant where p < 1 − confidence.

    Returns:
        The slope's mean over the draws, its central interval and the share of draws in which it is positive. Each
        budget counts with the inverse of its optimum's variance.
    """
    if len(optima) < 2:
        return Trend(
            nonzero=nonzero,
            slope=None,
            slope_low=None,
            slope_high=None,
            probability_rising=None,
            test=TEST,
            p_value=None,
            verdict=message("search-trend-too-few", n=len(optima), all=budgets),
        )
    slopes = _slopes(np.log2(np.array(list(optima), dtype=np.float64)), np.stack(list(optima.values())))
    low, high = (float(q) for q in np.quantile(slopes, [(1 - confidence) / 2, (1 + confidence) / 2]))
    slope, rising = float(slopes.mean()), float((slopes > 0).mean())
    p_value = min(1.0, 2 * max(min(rising, 1 - rising), 1 / len(slopes)))
    return Trend(
        nonzero=nonzero,
        slope=slope,
        slope_low=low,
        slope_high=high,
        probability_rising=rising,
        test=TEST,
        p_value=p_value,
        verdict=_edge(optima, ends)
        or _verdict(
            message("search-trend-figures", slope=slope, low=low, high=high, confidence=confidence, p=p_value),
            rising,
            significant=p_value < 1 - confidence,
        ),
    )


def _slopes(doublings: FloatArray, optima: FloatArray) -> FloatArray:
    """(draws,) weighted least-squares slopes; `optima` is (budgets, draws)."""
    weights = 1 / (optima.var(axis=1) + FLOOR**2)
    centred = doublings - np.average(doublings, weights=weights)
    errors = FLOOR * np.random.default_rng(SEED).normal(size=optima.shape)
    return np.asarray((weights * centred) @ (optima + errors) / np.sum(weights * centred**2), dtype=np.float64)


def _edge(optima: Mapping[int, FloatArray], ends: tuple[float, float]) -> Message | None:
    """Names the end of the space at which all optima lie, if they do."""
    centres = np.array([np.median(draws) for draws in optima.values()])
    if (centres - ends[0] < RESOLUTION).all():
        return message("search-trend-at-lower-edge", S=ends[0])
    if (ends[1] - centres < RESOLUTION).all():
        return message("search-trend-at-upper-edge", S=ends[1])
    return None


def _verdict(figures: Message, rising: float, *, significant: bool) -> Message:
    if not significant:
        return message("search-trend-unclear", figures=figures, rising=rising)
    return message("search-trend-rises" if rising > 0.5 else "search-trend-falls", figures=figures)
