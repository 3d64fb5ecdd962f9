"""Samplers on studies that are really trained: `python benchmarks/trained_search.py --project FOLDER`.

What `benchmarks/samplers.py` does with simulated losses, with runs of the studies' own models and data. The reference
is dense: for every budget `--levels` sparsities with `--reference-seeds` seeds each, and the smooth curve through their
losses. Then each sampler makes the study's search anew, `--seeds` times with other seeds of the sampler and of every
run, knowing nothing of the grid. All spend the same training FLOPs: those of `--trials` trials a budget. `LawSampler`,
which chooses among the budgets, may make up to twice as many, and what counts is where it stood when it had spent as
much. What a sampler says of a budget is its optimum, or the lowest point of its curve where that is not identified.

    miss      the mean of |S_opt - reference| over the budgets
    regret    the mean loss, read off the reference's curves, that training at the optima found would give away, in
              standard deviations of the noise between seeds, which the reference measures
    behind    regret of `law` less that of another sampler, seed by seed, with a t-interval: nothing within it is a
              difference, and nothing below the reference's own interval is a miss

FOLDER must hold `specs/` and takes everything else: data, and a record of every run below `runs/`. A run that is there
is not trained again, so an interrupted call goes on where it was, and a second one costs little.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import optuna
from rich.console import Console
from scipy.stats import t as student

from sparsity_lab.artifacts.records import RunRecord, Stopped
from sparsity_lab.artifacts.searches import BudgetResult
from sparsity_lab.artifacts.stopping import StopRule
from sparsity_lab.results.noise import pooled_noise
from sparsity_lab.search.answer.curve import LossCurve, LossPoints, fit_curve
from sparsity_lab.search.optuna_study import SearchContext
from sparsity_lab.search.requests import RunRequest
from sparsity_lab.search.study import SearchProgress, search
from sparsity_lab.specs.compute import here
from sparsity_lab.specs.fingerprint import name_runs
from sparsity_lab.specs.searches import SamplerName, SearchSpec
from sparsity_lab.stages.prepare import prepare_study
from sparsity_lab.stages.searching.setup import RunRequests, context_of
from sparsity_lab.stages.workspace import Workspace, open_workspace
from sparsity_lab.sweep.study import complete

SAMPLERS: tuple[SamplerName, ...] = ("random", "tpe", "gp", "law")
STUDIES = ("quickstart-text", "quickstart-vision")
CONFIDENCE = 0.9
APART = 1000
"""between the run seeds of one repetition and the next; the reference's come before all of them"""


class SpentError(Exception):
    """A sampler has spent what all may spend."""


@dataclass(frozen=True)
class Standing:
    """What a sampler knows after a round: FLOPs spent, and miss and regret of its optima, means over budgets."""

    flops: float
    miss: float
    regret: float


@dataclass(frozen=True, eq=False)
class Trained:
    """A study whose data are prepared, and its search's questions."""

    space: Workspace
    spec: SearchSpec
    workers: int | None

    @cached_property
    def requests(self) -> RunRequests:
        """How what is asked for becomes runs."""
        return RunRequests.of(self.space)

    @cached_property
    def context(self) -> SearchContext:
        """What a search stands on that knows no grid."""
        return context_of(self.space, self.requests, ())

    def made(self, requests: Sequence[RunRequest], _: Sequence[StopRule | None] = ()) -> Sequence[RunRecord | Stopped]:
        """Runs trained, or found in the store."""
        place = self.space.workplace(self.space.layout.root / "runs" / f"{self.space.name}-samplers")
        named = name_runs(map(self.requests.run, requests), self.requests.data_hash)
        quiet = Console(stderr=True, quiet=True)
        done = complete(named, place, title="benchmark", compute=here(self.workers), console=quiet).records
        return [done[self.requests.fingerprint(request)] for request in requests]


@dataclass(frozen=True, eq=False)
class Reference:
    """What the optima are held against: a curve for each budget, and the noise between seeds in nats."""

    curves: tuple[LossCurve, ...]
    noise: float

    @classmethod
    def of(cls, study: Trained, levels: int, seeds: int) -> Reference:
        """Train it."""
        low, high = study.spec.space.sparsity.ends
        sparsities = [round(float(S), 3) for S in np.linspace(low, high, levels)]
        losses: list[list[list[tuple[float, float]]]] = []
        for budget in study.spec.budgets:
            size, data = study.spec.nonzero[0], study.spec.data_dense(study.spec.nonzero[0], budget)
            asked = [
                RunRequest.of(size, data, {"sparsity": S}, study.context.multiplier, seed)
                for S in sparsities
                for seed in range(seeds)
            ]
            runs = [(one.sparsity, one.loss) for one in study.made(asked) if isinstance(one, RunRecord)]
            losses.append([runs[k : k + seeds] for k in range(0, len(runs), seeds)])
        noise = pooled_noise([loss for _, loss in point] for points in losses for point in points)
        assert noise is not None, "the reference has several seeds"
        curves = []
        for budget, points in zip(study.spec.budgets, losses, strict=True):
            S, found = np.array(sorted(run for point in points for run in point if np.isfinite(run[1]))).T
            curve = fit_curve(LossPoints(S, found), noise.deviation, np.ones(2000), np.random.default_rng(0))
            bottom, top = np.quantile(curve.optima, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
            print(f"reference, budget {budget:g}: S_opt {curve.optimum:.2f} ({bottom:.2f} to {top:.2f})", flush=True)
            curves.append(curve)
        print(f"noise between seeds {noise.deviation:.2g} nats", flush=True)
        return cls(tuple(curves), noise.deviation)

    def standing(self, flops: float, optima: Sequence[float]) -> Standing:
        """Miss and regret of optima, one a budget."""
        miss = [abs(found - curve.optimum) for found, curve in zip(optima, self.curves, strict=True)]
        losses = [np.interp(S, c.grid, c.mean) - c.mean.min() for S, c in zip(optima, self.curves, strict=True)]
        return Standing(flops, float(np.mean(miss)), float(np.mean(losses)) / self.noise)


def told(budget: BudgetResult) -> float:
    """The sparsity that a search would have trained at a budget."""
    if budget.optimum is not None:
        return budget.optimum
    curve = budget.curve
    return budget.best_sparsity if curve is None else curve.sparsity[int(np.argmin(curve.mean))]


def of_sampler(
    study: Trained, reference: Reference, sampler: SamplerName, repetition: int, most: float | None = None
) -> Standing:
    """Where a sampler stands after its last round, or the last that has not spent more than `most` FLOPs."""
    trials = study.spec.trials * (1 if most is None else 2)
    changes = {"sampler": sampler, "trials": trials, "seed": repetition, "stopping": None, "repeats": None}
    spec = study.spec.model_copy(update=changes)
    rounds: list[Standing] = []

    def own(request: RunRequest) -> RunRequest:
        return replace(request, seed=request.seed + APART * (1 + repetition))

    def hear(progress: SearchProgress) -> None:
        if most is not None and progress.result.flops > most * (1 + 1e-9):
            raise SpentError
        rounds.append(reference.standing(progress.result.flops, [told(one) for one in progress.result.budgets]))

    context = replace(
        study.context, noise=reference.noise, fingerprint=lambda request: study.requests.fingerprint(own(request))
    )
    with tempfile.TemporaryDirectory() as folder, suppress(SpentError):
        storage = Path(folder) / "search.journal"
        search(spec, context, lambda requests, _: study.made([*map(own, requests)]), storage, on_round=hear)
    return rounds[-1]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half of its t-interval."""
    if len(values) < 2:
        return float(np.mean(values)), float("nan")
    half = student.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(half)


def report(study: Trained, samplers: Sequence[SamplerName], levels: int, reference_seeds: int, seeds: int) -> None:
    """One study: every sampler's standing at equal FLOPs, and how far the law sampler is behind each other."""
    print(f"\n{study.space.name}: {study.spec.trials} trials at each of {len(study.spec.budgets)} budgets", flush=True)
    reference = Reference.of(study, levels, reference_seeds)
    print(f"{'':>8} {'seed':>4} {'FLOPs':>9} {'miss':>6} {'regret':>6}", flush=True)
    found: dict[SamplerName, list[Standing]] = {name: [] for name in samplers}
    most = (1 + study.spec.trials) * sum(6 * study.spec.nonzero[0] * budget for budget in data_of(study.spec))
    for repetition in range(seeds):
        for name in samplers:
            one = of_sampler(study, reference, name, repetition, most if name == "law" else None)
            found[name].append(one)
            print(f"{name:>8} {repetition:4} {one.flops:9.2e} {one.miss:6.3f} {one.regret:6.2f}", flush=True)
    for name, runs in found.items():
        (miss, miss_half), (regret, half) = (
            interval([getattr(one, key) for one in runs]) for key in ("miss", "regret")
        )
        line = f"{name:>8} miss {miss:.3f} ±{miss_half:.3f}, regret {regret:.2f} ±{half:.2f}"
        if name != "law" and "law" in found:
            pairs = zip(found["law"], runs, strict=True)
            behind, half = interval([law.regret - other.regret for law, other in pairs])
            line += f"; law is behind by {behind:+.2f} ±{half:.2f}"
        print(line, flush=True)


def data_of(spec: SearchSpec) -> list[int]:
    """The budgets as data."""
    return [spec.data_dense(spec.nonzero[0], budget) for budget in spec.budgets]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, default=Path(), help="holds specs/, and will hold every record")
    parser.add_argument("--studies", nargs="+", default=list(STUDIES))
    parser.add_argument("--trials", type=int, default=8, help="for each budget, the dense run not counted")
    parser.add_argument("--levels", type=int, default=9, help="sparsities of the reference")
    parser.add_argument("--reference-seeds", type=int, default=3, help="of every point of the reference")
    parser.add_argument("--seeds", type=int, default=5, help="of every sampler")
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for name in options.studies:
        space = open_workspace(name, options.project)
        prepare_study(space)
        assert space.study.spec.search is not None, f"{name} asks for no search"
        changes = {"trials": options.trials, "storage": None, "nonzero": space.study.spec.search.nonzero[:1]}
        study = Trained(space, space.study.spec.search.model_copy(update=changes), options.workers)
        report(study, options.samplers, options.levels, options.reference_seeds, options.seeds)


if __name__ == "__main__":
    main()
