"""The noise that an answer reckons with: what was measured between seeds, or the scatter of the trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparsity_lab.artifacts.searches import TrialRecord
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.messages import Message, message
from sparsity_lab.search.answer.curve import Points, scatter
from sparsity_lab.search.answer.repeats import seed_spread

DRAWS = 2000
"""resampled searches behind every interval"""
FLOOR = 1e-9
"""noise below this share of the loss is taken for rounding"""
LEAST_REPEATS = 2
"""degrees of freedom from which the search's own repeats say how large the noise is"""


@dataclass(frozen=True, eq=False)
class Noise:
    """The standard deviation of a held-out loss.

    Attributes:
        value: nats; NaN if nothing is known of it.
        source: where it comes from.
        scale: (DRAWS,) factors that say how uncertain it is itself.
    """

    value: float
    source: Message
    scale: FloatArray


def noise_of(
    budgets: Sequence[Points],
    trials: Sequence[Sequence[TrialRecord]],
    measured: float | None,
    rng: np.random.Generator,
) -> Noise:
    """What was measured between seeds, or the scatter of the trials where that is larger.

    The scatter holds what seeds do not: sizes and steps that were rounded, parameters beside sparsity that were varied,
    and what the polynomials cannot follow.

    Args:
        budgets: the points of every curve.
        trials: of every budget, among which repeats are looked for.
        measured: standard deviation between seeds, nats, where the study's grid measured it.
        rng: source of the draws.
    """
    spread, freedom = scatter(list(budgets))
    floor = FLOOR * max((float(abs(p.loss).max()) for p in budgets if p.loss.size), default=1.0)
    between, repeats = seed_spread(trials)
    seeds, how, known = measured, message("search-noise-of-seeds"), math.inf
    if measured is None and repeats >= LEAST_REPEATS:
        seeds, how, known = between, message("search-noise-of-repeats", freedom=repeats), repeats
    if seeds is not None and not spread > seeds:
        return Noise(max(seeds, floor), how, _scale(known, rng))
    if not freedom:
        return Noise(math.nan, message("search-noise-unknown"), np.ones(DRAWS))
    source = message("search-noise-of-scatter", freedom=freedom)
    if seeds is not None:
        source = message("search-noise-above-seeds", source=source, seeds=seeds)
    return Noise(max(spread, floor), source, _scale(freedom, rng))


def _scale(freedom: float, rng: np.random.Generator) -> FloatArray:
    """What the true standard deviation may be relative to the one estimated: √(f / χ²_f)."""
    return np.sqrt(freedom / rng.chisquare(freedom, size=DRAWS)) if math.isfinite(freedom) else np.ones(DRAWS)
