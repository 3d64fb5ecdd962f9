"""Features of a run: what the power terms of a law form are powers of.

Every feature is N^size · D^data · g(S). So a change of units shifts its log by a constant, its logarithmic slopes in
N and D are the numbers `size` and `data`, and only g needs a function. Where g(S) = 0 (a share S of zeros that is
zero, a level of sparsity that a run is not at) its log is −inf and a term that holds it is absent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.rows.runs import FloatArray

LEVEL_TOLERANCE = 0.005
"""runs whose sparsities differ by no more are at the same level"""
MOST_LEVELS, FEWEST_AT_LEVEL = 8, 3
"""with more levels than the first, only those with as many runs as the second are a design's"""
MOST_TOLD = 6
"""levels that a fit tells the gains at"""


def _log_one(sparsity: FloatArray) -> FloatArray:
    return np.zeros_like(sparsity)


def _log_sparsity(sparsity: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore"):
        return np.log(sparsity)


@dataclass(frozen=True)
class Feature:
    """N^size · D^data · g(S).

    Attributes:
        name: for people.
        size: power of N in it.
        data: power of D in it.
        log_g: ln g(S) of an array of sparsities; −inf where g is 0.
    """

    name: str
    size: int = 0
    data: int = 0
    log_g: Callable[[FloatArray], FloatArray] = _log_one

    def log(self, sparsity: FloatArray, log_nonzero: FloatArray, log_data: FloatArray) -> FloatArray:
        """Natural log of the feature; broadcasts."""
        return np.asarray(self.size * log_nonzero + self.data * log_data + self.log_g(sparsity))

    @property
    def sees_sparsity(self) -> bool:
        """Whether it depends on S."""
        return self.log_g is not _log_one

    @property
    def column(self) -> str:
        """The column of the runs that must change for a power of the feature to be told from a constant."""
        return "nonzero" if self.size else "data" if self.data else "sparsity"


DENSITY = Feature("density", log_g=lambda S: np.log1p(-S))
"""1 − S"""
SPARSITY = Feature("sparsity", log_g=_log_sparsity)
"""S; zero for dense runs"""
NONZERO = Feature("nonzero", size=1)
"""N"""
DENSE = Feature("dense", size=1, log_g=lambda S: -np.log1p(-S))
"""N_dense = N / (1 − S)"""
DATA = Feature("data", data=1)
"""D"""


def average_size(mean_progress: float) -> Feature:
    """N̄, the time average of the non-zero weights over training: N (1 − q S) / (1 − S).

    Args:
        mean_progress: q, the time average of S(t) / S; 0.625 for the cubic schedule from 25 % to 75 %.
    """

    def log_g(sparsity: FloatArray) -> FloatArray:
        return np.asarray(np.log1p(-mean_progress * sparsity) - np.log1p(-sparsity))

    return Feature("average", size=1, log_g=log_g)


def level(index: int, levels: tuple[float, ...]) -> Feature:
    """1 for runs at `levels[index]`, 0 at the other levels and beyond them, linear between."""

    def log_g(sparsity: FloatArray) -> FloatArray:
        share = np.interp(at_levels(sparsity, levels), levels, np.eye(len(levels))[index])
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(share))

    return Feature(f"level {levels[index]:.4g}", log_g=log_g)


def at_levels(sparsity: FloatArray, levels: tuple[float, ...]) -> FloatArray:
    """The sparsities, those near a level at it.

    Raises:
        RecordError: a sparsity lies beyond the last level.
    """
    known, given = np.array(levels), np.asarray(sparsity, dtype=np.float64)
    nearest = known[np.abs(given[..., None] - known).argmin(axis=-1)]
    snapped = np.where(np.abs(given - nearest) <= LEVEL_TOLERANCE, nearest, given)
    lost = snapped > levels[-1]
    if lost.any():
        raise RecordError(
            "no such level of sparsity: the form has one free efficiency for each level that it was fitted to",
            field="sparsity",
            found=float(given[lost].flat[0]),
            expected="one of " + ", ".join(f"{one:.4g}" for one in levels) + ", or between them",
        )
    return np.asarray(snapped)


def levels_of(sparsity: FloatArray) -> tuple[float, ...]:
    """The levels in a column of sparsities, increasing: means of values that lie within the tolerance of the first."""
    values, found = np.unique(sparsity), []
    while len(values):
        near = values <= values[0] + LEVEL_TOLERANCE
        found.append(float(values[near].mean()))
        values = values[~near]
    return tuple(found)


def design_levels(sparsity: FloatArray) -> tuple[float, ...]:
    """The levels of a design where a search tried many sparsities once: those of several runs, and the ends."""
    found = levels_of(sparsity)
    if len(found) <= MOST_LEVELS:
        return found
    near = np.abs(np.asarray(sparsity)[:, None] - np.array(found)) <= LEVEL_TOLERANCE
    kept = near.sum(axis=0) >= FEWEST_AT_LEVEL
    kept[[0, -1]] = True
    return tuple(one for one, there in zip(found, kept, strict=True) if there)


def told_levels(sparsity: FloatArray) -> Sequence[float]:
    """The levels that a reader would name: distinct to three digits, the dense one left out.

    Of more than `MOST_TOLD`, as a search tries them, those of a design, evenly picked.
    """
    named = np.unique(np.round(sparsity, 3))
    if len(named) > MOST_TOLD:
        named = np.unique(np.round(design_levels(sparsity), 3))
    named = named[named > 0]
    if not len(named):
        return []
    picked = np.unique(np.linspace(0, len(named) - 1, MOST_TOLD).round().astype(int))
    return [float(value) for value in named[picked]]
