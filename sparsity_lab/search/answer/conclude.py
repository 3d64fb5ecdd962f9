"""From trials to an answer: the optimum of every budget with its interval, the flat region, the trend and the front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from sparsity_lab.artifacts.searches import BudgetResult, Params, SearchResult, Trend, TrialRecord
from sparsity_lab.messages import Message, message
from sparsity_lab.search.answer.curve import LossCurve, LossPoints, NoiseEstimate, fit_curve, noise_of
from sparsity_lab.search.answer.optimum import Optimum, optimum_on, verdict_beside
from sparsity_lab.search.answer.repeats import distinct_runs, tried_points
from sparsity_lab.search.answer.trend import trend_of
from sparsity_lab.search.propose.targets import Target
from sparsity_lab.specs.choices import DataUnit
from sparsity_lab.specs.searches import SearchSpec

KINDS = ("regime", "pattern", "allocation")
"""parameters of which every value has a curve of its own"""


NOTHING: Mapping[Target, Optimum] = MappingProxyType({})


def conclude(
    study: str,
    spec: SearchSpec,
    data_unit: DataUnit,
    trials: Mapping[Target, Sequence[TrialRecord]],
    *,
    noise: float | None,
    confidence: float,
    explored: Sequence[TrialRecord] = (),
    by_law: Mapping[Target, Optimum] = NOTHING,
) -> SearchResult:
    """The search's answer.

    A run that was proposed several times is one observation, in curves, noise and tests alike. The trend rests on the
    curves of single budgets, whatever the optima come from: a law's form may leave the optimum no choice but to rise
    with data.

    Args:
        study: name of the study.
        spec: what was searched.
        data_unit: what budgets count.
        trials: of each N and budget, the dense anchor among them.
        noise: standard deviation between seeds, nats, where it was measured.
        confidence: of the intervals.
        explored: trials at other N and budgets.
        by_law: what a law says of each N and budget; where it is not usable, left out.
    """
    rng = np.random.default_rng(abs(spec.seed))
    runs = {target: distinct_runs(found) for target, found in trials.items()}
    points = {target: points_of(spec, of_best_kind(found)) for target, found in runs.items()}
    level = noise_of(list(points.values()), list(runs.values()), noise, rng)
    curves = {a: fit_curve(p, level.value, level.scale, rng) for a, p in points.items() if p.enough and level.value > 0}
    alone = {target: _alone(runs[target], curve, level, confidence) for target, curve in curves.items()}
    order = sorted(trials)
    every = [trial for target in order for trial in trials[target]] + list(explored)

    def trend_at(nonzero: int) -> Trend:
        here = [target for target in order if target.nonzero == nonzero]
        optima = {target.data_dense: curves[target].optima for target in here if target in curves}
        return trend_of(nonzero, optima, len(here), spec.space.sparsity.ends, confidence)

    return SearchResult(
        study=study,
        regimes=spec.regimes,
        cost=spec.cost,
        budget_unit=spec.budget_unit,
        data_unit=data_unit,
        objectives=spec.objectives,
        sampler=spec.sampler,
        noise=level.value,
        noise_source=level.source,
        confidence=confidence,
        budgets=tuple(_budget(spec, target, trials[target], alone.get(target), by_law.get(target)) for target in order),
        explored=tuple(explored),
        trends=tuple(trend_at(nonzero) for nonzero in dict.fromkeys(target.nonzero for target in order)),
        front=front(every) if len(spec.objectives) > 1 else (),
        flops=math.fsum({trial.fingerprint: trial.flops for trial in every}.values()),
    )


def points_of(spec: SearchSpec, trials: Sequence[TrialRecord]) -> LossPoints:
    """The finished trials inside the space; a dense anchor below it is compared with, not fitted."""
    lowest = spec.space.sparsity.ends[0]
    pairs = [(t.sparsity, t.loss) for t in trials if t.loss is not None and (lowest == 0 or not _is_dense(t))]
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return LossPoints(table[:, 0], table[:, 1])


def of_best_kind(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Dense trials and those of the regime, pattern and allocation of the best sparse one.

    Other parameters (pruning's start and end, the learning rate) stay mixed, and add to the scatter about the curve.
    """
    sparse = [(t.loss, k) for k, t in enumerate(trials) if t.loss is not None and not _is_dense(t)]
    if not sparse:
        return list(trials)
    best = _kind(trials[min(sparse)[1]])
    return [trial for trial in trials if _is_dense(trial) or _kind(trial) == best]


def front(trials: Sequence[TrialRecord]) -> tuple[TrialRecord, ...]:
    """Finished trials that no other equals or beats in every objective; of equal ones the first."""
    rows = [(trial, trial.values) for trial in trials if trial.values is not None]
    kept: list[tuple[TrialRecord, tuple[float, ...]]] = []
    for trial, values in sorted(rows, key=lambda row: row[1]):  # who beats a row comes before it, or equals it
        if not any(all(a <= b for a, b in zip(other, values, strict=True)) for _, other in kept):
            kept.append((trial, values))
    return tuple(trial for trial, _ in kept)


def _alone(trials: Sequence[TrialRecord], curve: LossCurve, noise: NoiseEstimate, confidence: float) -> Optimum:
    """What the trials of one budget say by themselves."""
    dense = _dense_losses(trials)
    if not dense:
        return optimum_on(curve, None, confidence)
    normal = np.random.default_rng(len(trials)).normal(size=len(noise.scale))
    spread = noise.value * noise.scale / math.sqrt(len(dense)) * normal
    return optimum_on(curve, np.mean(dense) + spread - spread.mean(), confidence)


def _budget(
    spec: SearchSpec,
    target: Target,
    trials: Sequence[TrialRecord],
    alone: Optimum | None,
    by_law: Optimum | None,
) -> BudgetResult:
    optimum, runs = by_law or alone, distinct_runs(trials)
    dense = _dense_losses(runs)
    found = optimum if optimum is not None and optimum.identified else None
    best_loss, best_sparsity, best_params = _best(runs)
    low, high = optimum.interval if optimum else (None, None)
    gained = optimum.gained if optimum and found else None
    flat_low, flat_high = optimum.flat if optimum else spec.space.sparsity.ends
    finished = sum(trial.finished for trial in runs)
    verdict = verdict_beside(optimum, alone) if optimum else message("search-too-few", n=finished)
    return BudgetResult(
        nonzero=target.nonzero,
        budget=target.budget,
        data_dense=target.data_dense,
        compute=6.0 * target.nonzero * target.data_dense,
        trials=tuple(trials),
        dense_loss=float(np.mean(dense)) if dense else None,
        best_sparsity=best_sparsity,
        best_loss=best_loss,
        best_params=best_params,
        optimum=found.sparsity if found else None,
        optimum_low=low,
        optimum_high=high,
        optimum_loss=found.loss if found else None,
        gained=gained[0] if gained else None,
        gained_low=gained[1] if gained else None,
        gained_high=gained[2] if gained else None,
        flat_low=flat_low,
        flat_high=flat_high,
        curve=optimum.band if optimum else None,
        estimate=optimum.source if optimum else "curve",
        verdict=_beside_lost(verdict, runs),
    )


def _best(trials: Sequence[TrialRecord]) -> tuple[float, float, Params]:
    """Loss, trained sparsity and parameters of the best point, by its mean over seeds."""
    found = [(c.mean, k, c) for k, c in enumerate(tried_points(trials))]
    if not found:
        return math.nan, math.nan, {}
    loss, _, best = min(found)
    return loss, next(t.sparsity for t in trials if t.params == best.params and t.finished), best.params


def _dense_losses(trials: Sequence[TrialRecord]) -> list[float]:
    return [trial.loss for trial in trials if _is_dense(trial) and trial.loss is not None]


def _is_dense(trial: TrialRecord) -> bool:
    return trial.params.get("sparsity", trial.sparsity) == 0


def _kind(trial: TrialRecord) -> tuple[object, ...]:
    return tuple(trial.params.get(name) for name in KINDS)


def _beside_lost(verdict: Message, trials: Sequence[TrialRecord]) -> Message:
    """A verdict; it says so where trials came to nothing."""
    diverged, given_up = (sum(trial.state == state for trial in trials) for state in ("diverged", "stopped"))
    if not diverged + given_up:
        return verdict
    both = diverged > 0 and given_up > 0
    key = "search-diverged-and-given-up" if both else "search-diverged" if diverged else "search-given-up"
    lost = message(key, diverged=diverged, given_up=given_up)
    return message("search-lost", lost=lost, n=len(trials), verdict=verdict)
