"""Draws of the Monte Carlo, of a law's parameters and of a range; and what lies beyond a law's runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from sparsity_lab.laws.law import Law
from sparsity_lab.laws.rows.runs import FloatArray


def drawn_law(law: Law, stream: np.random.Generator, draws: int) -> Law:
    """A law with (draws, 1) parameters, rows of its bootstrap; itself where it has none."""
    if law.draws is None:
        return law
    rows = stream.integers(len(law.draws[0]), size=draws)
    fields = {name: np.asarray(values)[rows, None] for name, values in law.draws._asdict().items()}
    return replace(law, params=law.params._replace(**fields))


def beyond_runs(
    spans: Mapping[str, tuple[float, float]], reach: float = 1.0, **asked: float
) -> Iterator[dict[str, float | str]]:
    """What is said of each number that lies by a factor beyond the runs of a law; infinities are none.

    Args:
        spans: least and largest value of the runs, by name.
        reach: the factor.
        asked: numbers, by names of `spans`.
    """
    for name, value in asked.items():
        low, high = spans[name]
        if np.isfinite(value) and not low / reach <= value <= high * reach:
            yield {"field": f"field-{name}", "asked": value, "low": low, "high": high}


def drawn_between(span: tuple[float, float], stream: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
    """Draws between two values: evenly in the logarithm, or evenly where the first is 0 or below."""
    low, high = span
    share = stream.random(shape)
    return np.asarray(low * (high / low) ** share if low > 0 else low + (high - low) * share)
