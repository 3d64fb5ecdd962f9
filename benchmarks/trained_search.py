"""Samplers on a study that is really trained: `python benchmarks/trained_search.py [--project FOLDER] [--study NAME]`.

What `benchmarks/samplers.py` does with simulated losses, once, with runs of the study's own model and data. The study's
search is made anew with each sampler, knowing nothing of the grid, and after each round its optima are held against a
reference: for every budget nine sparsities with `--seeds` seeds each, and the smooth curve through them. Printed for
equal training FLOPs:

    miss      the largest |S_opt - reference| of the budgets
    regret    the largest loss, read off the reference's curves, that training at the found optima would give away, in
              standard deviations of the noise between seeds
    grid      the study's whole grid, and the optima of the `frantar` law fitted to it

The reference has an interval of its own, which is printed too: nothing below it is a difference. The project folder
must hold `specs/`; runs that are in its stores are not trained again, so the second call costs little.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import optuna
from rich.console import Console

from sparsity_lab.artifacts.records import RunRecord, Stopped
from sparsity_lab.artifacts.stopping import StopRule
from sparsity_lab.laws import Law, Runs, fit, optimal_sparsity, training_flops
from sparsity_lab.results.noise import seed_noise
from sparsity_lab.search.answer.curve import LossCurve, LossPoints, fit_curve
from sparsity_lab.search.requests import RunRequest
from sparsity_lab.search.study import SearchProgress, search
from sparsity_lab.specs.fingerprint import name_runs
from sparsity_lab.specs.searches import SamplerName, SearchSpec
from sparsity_lab.stages.prepare import prepare_study
from sparsity_lab.stages.search_setup import RunRequests, context_of
from sparsity_lab.stages.train import grid_records, train_study
from sparsity_lab.stages.workspace import Workspace, open_workspace
from sparsity_lab.sweep.study import complete

SAMPLERS: tuple[SamplerName, ...] = ("random", "tpe", "gp", "law")
LEVELS = 9
"""sparsities of the reference, evenly spaced over the search's"""
TAILS = (0.05, 0.95)


@dataclass(frozen=True, eq=False)
class Trained:
    """A study whose grid is trained, and its search's questions."""

    space: Workspace
    spec: SearchSpec
    workers: int | None

    @cached_property
    def requests(self) -> RunRequests:
        """How what is asked for becomes runs."""
        return RunRequests.of(self.space)

    @cached_property
    def grid(self) -> list[RunRecord]:
        """The grid's finished runs."""
        return [record for record in grid_records(self.space) if record.finished]

    @cached_property
    def noise(self) -> float:
        """Standard deviation of the loss between the grid's seeds, nats."""
        found = seed_noise(self.grid)
        assert found is not None, "the study's grid repeats nothing"
        return found.deviation

    def made(self, requests: Sequence[RunRequest], _: Sequence[StopRule | None] = ()) -> Sequence[RunRecord | Stopped]:
        """Runs trained, or found in a store."""
        place = self.space.workplace(self.space.layout.root / "runs" / f"{self.space.name}-reference")
        quiet = Console(stderr=True, quiet=True)
        named = name_runs(map(self.requests.run, requests), self.requests.data_hash)
        done = complete(named, place, title="benchmark", workers=self.workers, console=quiet).records
        return [done[self.requests.fingerprint(request)] for request in requests]


@dataclass(frozen=True, eq=False)
class Reference:
    """What the optima are held against.

    Attributes:
        curves: of each budget.
        noise: nats.
    """

    curves: tuple[LossCurve, ...]
    noise: float

    def told(self, optima: Sequence[float]) -> tuple[float, float]:
        """Miss and regret of the optima found."""
        miss = max(abs(found - curve.optimum) for found, curve in zip(optima, self.curves, strict=True))
        losses = [
            np.interp(found, curve.grid, curve.mean) - curve.mean.min()
            for found, curve in zip(optima, self.curves, strict=True)
        ]
        return miss, float(max(losses)) / self.noise


def reference_of(study: Trained, seeds: int) -> Reference:
    """Train the reference."""
    multiplier = context_of(study.space, study.requests, ()).multiplier
    low, high = study.spec.space.sparsity.ends
    levels = [round(float(S), 3) for S in np.linspace(low, high, LEVELS)]
    curves = []
    for budget in study.spec.budgets:
        data = study.spec.data_dense(study.spec.nonzero[0], budget)
        requests = [
            RunRequest.of(study.spec.nonzero[0], data, {"sparsity": S}, multiplier, seed)
            for S in levels
            for seed in range(seeds)
        ]
        rows = [(one.sparsity, one.loss) for one in study.made(requests) if isinstance(one, RunRecord) and one.finished]
        S, losses = np.array(sorted(rows)).T
        curve = fit_curve(LossPoints(S, losses), study.noise, np.ones(2000), np.random.default_rng(0))
        bottom, top = np.quantile(curve.optima, TAILS)
        print(f"reference, budget {budget:g}: S_opt {curve.optimum:.2f} ({bottom:.2f} to {top:.2f})", flush=True)
        curves.append(curve)
    return Reference(tuple(curves), study.noise)


def of_sampler(study: Trained, reference: Reference, sampler: SamplerName) -> list[tuple[float, float, float]]:
    """FLOPs, miss and regret after each round."""
    context = replace(context_of(study.space, study.requests, ()), noise=study.noise)
    spec = study.spec.model_copy(update={"sampler": sampler, "stopping": None, "repeats": None, "storage": None})
    told: list[tuple[float, float, float]] = []

    def hear(progress: SearchProgress) -> None:
        budgets = progress.result.budgets
        optima = [one.best_sparsity if one.optimum is None else one.optimum for one in budgets]
        told.append((progress.result.flops, *reference.told(optima)))

    with tempfile.TemporaryDirectory() as folder:
        search(spec, context, study.made, Path(folder) / "search.journal", on_round=hear)
    return told


def of_grid(study: Trained, reference: Reference) -> tuple[float, float, float]:
    """FLOPs, miss and regret of the law fitted to the whole grid."""
    columns = np.array([(one.sparsity, one.nonzero, one.data, one.loss) for one in study.grid]).T
    law = Law.from_fit(fit(Runs(*columns), "frantar", starts=24))
    size = study.spec.nonzero[0]
    data = np.array([study.spec.data_dense(size, budget) for budget in study.spec.budgets], float)
    optima = optimal_sparsity(law, float(size), data, highest=study.spec.space.sparsity.ends[1])
    return (float(training_flops(*columns[:3]).sum()), *reference.told(optima.tolist()))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, default=Path())
    parser.add_argument("--study", default="quickstart-text")
    parser.add_argument("--trials", type=int, default=8, help="for each budget, the dense run not counted")
    parser.add_argument("--seeds", type=int, default=3, help="of every point of the reference")
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = open_workspace(options.study, options.project)
    prepare_study(space)
    train_study(space, workers=options.workers)
    assert space.study.spec.search is not None, "the study requests for no search"
    spec = space.study.spec.search.model_copy(update={"trials": options.trials})
    study = Trained(space, spec, options.workers)
    reference = reference_of(study, options.seeds)
    print(f"noise between seeds {study.noise:.2g} nats\n{'':>8} {'FLOPs':>9} {'of the grid':>11} {'miss':>5} regret")
    whole = of_grid(study, reference)
    row("grid", whole, whole[0])
    for sampler in options.samplers:
        for told in of_sampler(study, reference, sampler):
            row(sampler, told, whole[0])


def row(name: str, told: tuple[float, float, float], whole: float) -> None:
    """One line of the table."""
    flops, miss, regret = told
    print(f"{name:>8} {flops:9.2e} {flops / whole:11.3f} {miss:5.2f} {regret:6.2f}", flush=True)


if __name__ == "__main__":
    main()
