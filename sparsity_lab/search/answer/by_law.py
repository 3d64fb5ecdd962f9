"""The answer of a search by its loss surface: for each budget the optimal sparsity, the loss there, the curve to draw.

All figures are read off one set of curves drawn from the posterior (`surface`): the optimum is the median of their own
optima, an interval holds the middle part of the draws.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sparsity_lab.artifacts.searches import CurveBand
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.search.propose.loss_surface import Surface
from sparsity_lab.search.propose.targets import Targets, lowest

DRAWS = 2000


class LawOptimum(NamedTuple):
    """One budget's optimal sparsity with its interval, the loss there in nats, and the curve it is the lowest of."""

    optimum: float
    low: float
    high: float
    loss: float
    curve: CurveBand
    flat: tuple[float, float]
    """no sparsity of the curve between these is worse than the optimum in as many draws as the confidence asks"""
    gained: tuple[float, float, float] | None
    """loss at S = 0 less the loss at the optimum, with its interval; None where the curve does not reach S = 0"""


def optima(surface: Surface, targets: Targets, confidence: float) -> list[LawOptimum]:
    """The optimum of each of the targets' budgets, in their order; `Surface.usable` says whether to believe it.

    Args:
        surface: what the runs leave possible.
        targets: N, budgets and sparsities asked.
        confidence: of the intervals, 0 < confidence < 1.
    """
    losses, S = surface.curve_draws(targets, DRAWS, np.random.default_rng(0)), targets.sparsities
    return [_optimum(S, losses[:, budget], confidence) for budget in range(len(targets.data_dense))]


def _optimum(sparsities: FloatArray, losses: FloatArray, confidence: float) -> LawOptimum:
    """From (draws, levels) of one budget's losses."""
    found, tails = lowest(sparsities, losses), ((1 - confidence) / 2, (1 + confidence) / 2)
    optimum, mean = float(np.median(found)), losses.mean(axis=0)
    more = losses - losses[:, [np.abs(sparsities - optimum).argmin()]]
    low, high = np.quantile(found, tails).tolist()
    gained = (float(more[:, 0].mean()), *np.quantile(more[:, 0], tails).tolist())
    return LawOptimum(
        optimum,
        low,
        high,
        loss=float(np.interp(optimum, sparsities, mean)),
        curve=_band(sparsities, mean, *np.quantile(losses, tails, axis=0)),
        flat=_stretch(sparsities, optimum, sparsities[(more > 0).mean(axis=0) >= confidence]),
        gained=gained if sparsities[0] == 0 else None,
    )


def _band(sparsities: FloatArray, mean: FloatArray, low: FloatArray, high: FloatArray) -> CurveBand:
    columns = (sparsities, mean, np.minimum(low, mean), np.maximum(high, mean))
    S, middle, bottom, top = (tuple(column.tolist()) for column in columns)
    return CurveBand(sparsity=S, mean=middle, low=bottom, high=top)


def _stretch(sparsities: FloatArray, optimum: float, told: FloatArray) -> tuple[float, float]:
    """From the optimum to the last sparsity on either side before the first that is told from it."""
    below, above = told[told < optimum].max(initial=-np.inf), told[told > optimum].min(initial=np.inf)
    flat = sparsities[(sparsities > below) & (sparsities < above)]
    return min(optimum, float(flat.min(initial=optimum))), max(optimum, float(flat.max(initial=optimum)))
