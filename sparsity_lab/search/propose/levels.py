"""The values of a parameter among which the law chooses: all of a few, or some of a continuum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

LEVELS, SPARSITY_LEVELS = 6, 13
"""along a continuous size or budget, and along a continuous sparsity"""


def levels_of(distribution: BaseDistribution, rng: np.random.Generator, *, sparsity: bool) -> list[Any]:
    """Values of a parameter that are tried: all that the law understands, or evenly spaced ones."""
    match distribution:
        case CategoricalDistribution():
            values: Sequence[float] = [value for value in distribution.choices if isinstance(value, int | float)]
        case FloatDistribution() | IntDistribution():
            values = _spaced(distribution, rng, sparsity=sparsity)
        case _:
            return []
    inside = [value for value in values if (0 <= value < 1 if sparsity else value > 0)]
    return list(dict.fromkeys(inside))


def _spaced(
    distribution: FloatDistribution | IntDistribution, rng: np.random.Generator, *, sparsity: bool
) -> list[float]:
    low, high, step = distribution.low, distribution.high, distribution.step
    if sparsity:
        inner = low + (high - low) * (np.arange(SPARSITY_LEVELS) + rng.random()) / SPARSITY_LEVELS
        values = np.array([low, *inner, high])
    else:
        values = np.geomspace(low, high, LEVELS) if low > 0 else np.linspace(low, high, LEVELS)
    if step is not None:
        values = low + np.round((values - low) / step) * step
    values = np.clip(values, low, high)
    if isinstance(distribution, IntDistribution):
        return [round(value) for value in values.tolist()]
    return [float(value) for value in values]
