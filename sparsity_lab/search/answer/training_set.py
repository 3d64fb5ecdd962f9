"""What a law learns a search's answer from: runs of the grid and trials, by what they really were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.searches import Params, TrialRecord
from sparsity_lab.laws import Runs
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.search.answer.conclude import best_kind
from sparsity_lab.search.answer.curve import LossCurve
from sparsity_lab.search.answer.optimum import curves_by_law
from sparsity_lab.search.propose.loss_surface import Surface
from sparsity_lab.search.propose.targets import Target, Targets
from sparsity_lab.search.propose.variants import Kind, kind_of
from sparsity_lab.search.requests import SPARSITY, RunMultiplier
from sparsity_lab.search.storage.trials import StoredTrial
from sparsity_lab.specs.searches import SearchSpec


@dataclass(frozen=True)
class PriorRun:
    """A run that was made before the search, and how a search would ask for it."""

    nonzero: int
    """N asked for"""
    params: Params
    seed: int
    record: RunRecord


@dataclass(frozen=True)
class ObservedRun:
    """One finished run."""

    sparsity: float
    nonzero: float
    data: float
    loss: float
    kind: Kind | None
    """None for a dense run"""


def observations(prior_runs: Sequence[PriorRun], trials: Sequence[StoredTrial]) -> list[ObservedRun]:
    """Every finished run once, with the sparsity, N and data that it really had."""
    found: dict[str, ObservedRun] = {}
    for one in prior_runs:
        if one.record.finished:
            run = one.record
            found[run.fingerprint] = ObservedRun(run.sparsity, run.nonzero, run.data, run.loss, kind_of(one.params))
    for trial in trials:
        assert trial.outcome is not None, "a round is over"
        known = trial.outcome.facts
        if known["loss"] is not None:
            facts = trial.proposal.facts
            found[facts["fingerprint"]] = ObservedRun(
                known["sparsity"], known["nonzero"], known["data"], known["loss"], kind_of(facts["ask"]["settings"])
            )
    return list(found.values())


def runs_of(known: Sequence[ObservedRun], kind: Kind | None = None) -> Runs | None:
    """As a law wants them; only dense ones and those of a kind where one is given."""
    rows = [
        (one.sparsity, one.nonzero, one.data, one.loss) for one in known if kind is None or one.kind in {None, kind}
    ]
    return Runs(*np.array(rows, dtype=np.float64).T) if rows else None


def relative(noise: float | None, runs: Runs | None) -> float | None:
    """Noise in nats as that of ln L, for runs of a typical loss.

    What was measured between seeds must be told: a law that does not fit is else taken for noisy runs.
    """
    return noise / float(np.median(runs.loss)) if noise and runs else None


def targets_of(spec: SearchSpec, wanted: Sequence[Target], multiplier: RunMultiplier) -> Targets:
    """What is asked of a law: the optimum of every N and budget, at the cost of the first regime."""
    named = {"regime": spec.regimes[0]} if len(spec.regimes) > 1 else {}
    nonzero = max(one.nonzero for one in wanted)

    def cost(sparsity: FloatArray) -> FloatArray:
        flat = np.ravel(np.asarray(sparsity, dtype=np.float64))
        values = [multiplier(nonzero, {SPARSITY: float(S), **named}) for S in flat]
        return np.reshape(np.array(values, dtype=np.float64), np.shape(sparsity))

    low, high = spec.space.sparsity.ends
    return Targets.of(
        [one.nonzero for one in wanted], [one.data_dense for one in wanted], cost, low, max(high, low + 0.1)
    )


def answers(
    targets: Targets,
    trials: Mapping[Target, Sequence[TrialRecord]],
    known: Sequence[ObservedRun],
    noise: float | None = None,
) -> dict[Target, LossCurve]:
    """What the law says of each N and budget, of the kind that is best at most of them; nothing where it cannot.

    Args:
        targets: of the budgets, in the order of `trials`.
        trials: at each N and budget.
        known: all finished runs.
        noise: standard deviation of the loss between seeds, nats, where it was measured.
    """
    best = {target: best_kind(found) for target, found in trials.items()}
    votes = Counter(kind for kind in best.values() if kind is not None)
    kind = votes.most_common(1)[0][0] if votes else None
    runs = runs_of(known, kind)
    surface = None if runs is None else Surface.learn(runs, noise=relative(noise, runs))
    if surface is None or not surface.usable:
        return {}
    told = zip(trials, curves_by_law(surface, targets), strict=True)
    return {target: answer for target, answer in told if best[target] in {None, kind}}
