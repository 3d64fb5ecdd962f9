"""From trials to an answer: the optimum of every budget with its interval, the flat region, the trend and the front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from sparsity_lab.artifacts.searches import BudgetResult, Params, SearchResult, TrialRecord
from sparsity_lab.messages import Message, message
from sparsity_lab.search.answer.curve import LossCurve, LossPoints, NoiseEstimate, different, fit_curve, noise_of
from sparsity_lab.search.answer.optimum import Optimum, optimum_by_law, optimum_on, verdict_beside
from sparsity_lab.search.answer.repeats import distinct_runs, tried_points
from sparsity_lab.search.answer.trend import trend_of
from sparsity_lab.search.propose.targets import LEAST_DIFFERENT, Target
from sparsity_lab.search.propose.variants import Kind, kind_of
from sparsity_lab.specs.choices import DataUnit
from sparsity_lab.specs.searches import SearchSpec

NOTHING: Mapping[Target, LossCurve] = MappingProxyType({})


def conclude(
    study: str,
    spec: SearchSpec,
    data_unit: DataUnit,
    trials: Mapping[Target, Sequence[TrialRecord]],
    *,
    noise: float | None,
    confidence: float,
    explored: Sequence[TrialRecord] = (),
    by_law: Mapping[Target, LossCurve] = NOTHING,
) -> SearchResult:
    """The search's answer.

    A run that was proposed several times is one observation, in curves, noise and tests alike. The trend rests on the
    curves of single budgets, whatever the optima come from: a law's form may leave the optimum no choice but to rise
    with data. No optimum, of a curve or of a law, counts where fewer than four different sparsities were trained at the
    budget, or where its lowest point lies in a gap between them (`optimum.gap_at`).

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
    points = {target: points_of(spec, found) for target, found in runs.items()}
    level = noise_of(list(points.values()), list(runs.values()), noise, rng)
    curves = {a: fit_curve(p, level.value, level.scale, rng) for a, p in points.items() if p.enough and level.value > 0}
    alone = {a: _alone(runs[a], curve, level, confidence).among(points[a].sparsity) for a, curve in curves.items()}
    pooled = {a: optimum_by_law(law, curves[a], confidence) for a, law in by_law.items() if a in curves}
    lawful = {a: optimum.among(points[a].sparsity) for a, optimum in pooled.items()}
    order, ends = sorted(trials), spec.space.sparsity.ends
    every = [trial for target in order for trial in trials[target]] + list(explored)
    sizes = {nonzero: [a for a in order if a.nonzero == nonzero] for nonzero in dict.fromkeys(a.nonzero for a in order)}
    optima = {a: curves[a].optima for a, optimum in alone.items() if optimum.gap is None}
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
        budgets=tuple(_budget(spec, target, trials[target], alone.get(target), lawful.get(target)) for target in order),
        explored=tuple(explored),
        trends=tuple(
            trend_of(nonzero, {a.data_dense: optima[a] for a in here if a in optima}, len(here), ends, confidence)
            for nonzero, here in sizes.items()
        ),
        front=front(every) if len(spec.objectives) > 1 else (),
        flops=math.fsum({trial.fingerprint: trial.flops for trial in every}.values()),
    )


def points_of(spec: SearchSpec, trials: Sequence[TrialRecord]) -> LossPoints:
    """Finished trials that one curve is drawn through: dense ones, and those of the best kind.

    A dense anchor below the space is compared with, not fitted. Other parameters (pruning's start and end, the learning
    rate) stay mixed, and add to the scatter about the curve.
    """
    kinds = {best_kind(trials)} - {None} | ({None} if spec.space.sparsity.ends[0] == 0 else set())
    pairs = [(t.sparsity, t.loss) for t in trials if t.loss is not None and kind_of(t.params) in kinds]
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return LossPoints(table[:, 0], table[:, 1])


def best_kind(trials: Sequence[TrialRecord]) -> Kind | None:
    """Regime, pattern and allocation of the best sparse trial; None where no sparse trial has a loss.

    Kinds whose trials, with the dense ones, are enough for a curve come before all others.
    """
    tried: dict[Kind | None, list[TrialRecord]] = {}
    for trial in sorted((t for t in trials if t.loss is not None), key=lambda t: t.loss or 0.0):
        tried.setdefault(kind_of(trial.params), []).append(trial)
    dense = tried.pop(None, [])
    enough = (kind for kind, own in tried.items() if different([t.sparsity for t in own + dense]) >= LEAST_DIFFERENT)
    return next(enough, next(iter(tried), None))


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
    few = message("search-few-sparsities", n=points_of(spec, runs).distinct, needed=LEAST_DIFFERENT)
    verdict = verdict_beside(optimum, alone) if optimum else few
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
    return [trial.loss for trial in trials if kind_of(trial.params) is None and trial.loss is not None]


def _beside_lost(verdict: Message, trials: Sequence[TrialRecord]) -> Message:
    """A verdict; it says so where trials came to nothing."""
    diverged, given_up = (sum(trial.state == state for trial in trials) for state in ("diverged", "stopped"))
    if not diverged + given_up:
        return verdict
    both = diverged > 0 and given_up > 0
    key = "search-diverged-and-given-up" if both else "search-diverged" if diverged else "search-given-up"
    lost = message(key, diverged=diverged, given_up=given_up)
    return message("search-lost", lost=lost, n=len(trials), verdict=verdict)
