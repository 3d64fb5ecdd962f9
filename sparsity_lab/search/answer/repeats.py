"""More seeds where two optima are within noise: which trials are repeated, and when that is enough.

A search that ends with several sparsities of about the same loss has not said which is best. The best trial of each
neighbourhood is then run again with another seed, round by round, until every rival is told from the best or all have
as many seeds as allowed. Neighbours on the sparsity axis are not rivals: the smooth curve settles between them, and no
number of seeds would tell S = .60 from .61.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, variance

from sparsity_lab.artifacts.searches import Params, TrialRecord
from sparsity_lab.laws.uncertainty.covariance import student_tail

APART = 0.05
"""sparsities closer than this, all else being equal, are one optimum"""


@dataclass(frozen=True)
class TriedPoint:
    """A point and its losses.

    Attributes:
        params: as asked.
        losses: nats, one a seed.
        seeds: tried so far, whatever became of them.
    """

    params: Params
    losses: tuple[float, ...]
    seeds: frozenset[int]

    @property
    def mean(self) -> float:
        """Over seeds, nats."""
        return fmean(self.losses)

    def near(self, other: TriedPoint) -> bool:
        """Whether the two are the same optimum."""
        mine, theirs = ({k: v for k, v in c.params.items() if k != "sparsity"} for c in (self, other))
        return mine == theirs and abs(_sparsity(self) - _sparsity(other)) < APART - 1e-9

    def next_seed(self, first: int) -> int:
        """The smallest seed not tried, from the first on."""
        return next(seed for seed in range(first, first + len(self.seeds) + 1) if seed not in self.seeds)


def repeats_wanted(
    trials: Sequence[TrialRecord], noise: float | None, most: int, confidence: float = 0.9, first_seed: int = 0
) -> list[tuple[Params, int]]:
    """Points that get another seed: the best, and its rivals that cannot be told from it.

    Args:
        trials: all finished trials of one N and budget, repeats included.
        noise: standard deviation of a loss between seeds, nats; None where it was not measured.
        most: seeds a point may have.
        confidence: of the test.
        first_seed: of the search.

    Returns:
        What is asked (`params`, and a seed not tried yet), the best first; nothing once the best is told from every
        rival or `most` seeds are reached.
    """
    found = optima(trials)
    rivals = [other for other in found[1:] if not told_apart(found[0], other, noise, confidence)]
    contested = [found[0], *rivals] if rivals else []
    return [(point.params, point.next_seed(first_seed)) for point in contested if len(point.seeds) < most]


def optima(trials: Sequence[TrialRecord]) -> list[TriedPoint]:
    """The best point of each neighbourhood, by mean loss over seeds, the lowest first."""
    kept: list[TriedPoint] = []
    for point in sorted(tried_points(trials), key=lambda each: (each.mean, _sparsity(each))):
        if not any(point.near(other) for other in kept):
            kept.append(point)
    return kept


def distinct_runs(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Each run once, however often it was proposed: by the first trial that has its loss."""
    runs: dict[str, TrialRecord] = {}
    for trial in trials:
        known = runs.setdefault(trial.fingerprint, trial)
        if trial.finished and not known.finished:
            runs[trial.fingerprint] = trial
    return list(runs.values())


def tried_points(trials: Sequence[TrialRecord]) -> list[TriedPoint]:
    """Every point with a loss, in order of its first trial; a run that several trials stand for is one loss."""
    groups: dict[tuple[tuple[str, float | str], ...], list[TrialRecord]] = {}
    for trial in distinct_runs(trials):
        groups.setdefault(tuple(sorted(trial.params.items())), []).append(trial)
    return [
        TriedPoint(group[0].params, losses, frozenset(trial.seed for trial in group))
        for group in groups.values()
        if (losses := tuple(trial.loss for trial in group if trial.loss is not None))
    ]


def told_apart(best: TriedPoint, other: TriedPoint, noise: float | None, confidence: float) -> bool:
    """Whether the other is worse beyond doubt, one-sided at `confidence`.

    With a measured noise σ: z = difference / (σ √(1/n + 1/m)). Without: Welch's t-test, which needs two seeds of each.
    """
    difference, n, m = other.mean - best.mean, len(best.losses), len(other.losses)
    if noise is not None and noise > 0:
        return difference > NormalDist().inv_cdf(confidence) * noise * math.sqrt(1 / n + 1 / m)
    if min(n, m) < 2:
        return False
    a, b = variance(best.losses) / n, variance(other.losses) / m
    if a + b == 0:
        return difference > 0
    freedom = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (m - 1))
    return student_tail(difference / math.sqrt(a + b), freedom) < 1 - confidence


def _sparsity(point: TriedPoint) -> float:
    return float(point.params.get("sparsity", 0.0))
