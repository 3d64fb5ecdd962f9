"""Samplers on studies that are really trained: `python benchmarks/trained_search.py --project FOLDER`.

What `benchmarks/samplers.py` does with simulated losses, with runs of the studies' own models and data. The reference
is dense: for every budget `--levels` sparsities with `--reference-seeds` seeds each, and the smooth curve through their
losses. Then each sampler makes the study's search anew, `--seeds` times with other seeds of the sampler and of every
run, knowing nothing of the grid. All spend the same training FLOPs: those of `--trials` trials a budget. `LawSampler`,
which chooses among the budgets, may make up to twice as many, and what counts is where it stood when it had spent as
much. What a sampler says of a budget is its optimum, or the lowest point of its curve where that is not identified.

    miss      the mean of |S_opt - reference| over the budgets
    regret    the mean loss, read off the reference's curves, that training at the optima found would give away, in
              standard deviations of the noise between seeds at that budget, which the reference measures
    behind    regret of `law` less that of another sampler, seed by seed, with a t-interval: nothing within it is a
              difference, and nothing below the reference's own interval is a miss

FOLDER must hold `specs/` and takes everything else: data, and a record of every run below `runs/`. A run that is there
is not trained again, so an interrupted call goes on where it was, and a second one costs little.

`--ledger evidence/repetitions.jsonl` trains nothing: the reference is the smooth curve through the trials of the
repeated quickstarts, five sparsities with several seeds each at every budget and what the searches added, and a sampler
that asks for a run is told the curve's loss with noise of the size that lies between the seeds of that budget. No law's
form is in it. The same seeds then cost minutes, so there can be more of them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import optuna
from rich.console import Console
from scipy.stats import t as student

from sparsity_lab.artifacts.records import Machine, RunCost, RunRecord, Stopped
from sparsity_lab.artifacts.searches import BudgetResult
from sparsity_lab.artifacts.stopping import StopRule
from sparsity_lab.results.noise import pooled_noise
from sparsity_lab.search.answer.curve import LossCurve, LossPoints, fit_curve
from sparsity_lab.search.optuna_study import SearchContext
from sparsity_lab.search.requests import RunRequest
from sparsity_lab.search.study import SearchProgress, search
from sparsity_lab.specs.compute import here
from sparsity_lab.specs.fingerprint import ENGINE_VERSION, name_runs
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
    """What the optima are held against: for each budget a curve, and the noise between seeds in nats."""

    curves: tuple[LossCurve, ...]
    noise: tuple[float, ...]

    @classmethod
    def of(cls, study: Trained, levels: int, seeds: int) -> Reference:
        """Train it."""
        low, high = study.spec.space.sparsity.ends
        sparsities = [round(float(S), 3) for S in np.linspace(low, high, levels)]
        runs: dict[float, list[tuple[float, float]]] = {}
        for budget in study.spec.budgets:
            size, data = study.spec.nonzero[0], study.spec.data_dense(study.spec.nonzero[0], budget)
            asked = [
                RunRequest.of(size, data, {"sparsity": S}, study.context.multiplier, seed)
                for S in sparsities
                for seed in range(seeds)
            ]
            runs[budget] = [(one.sparsity, one.loss) for one in study.made(asked) if isinstance(one, RunRecord)]
        return cls.through(runs)

    @classmethod
    def of_ledger(cls, study: Trained, ledger: Path) -> Reference:
        """Through the trials that repetitions of the study's search left."""
        lines = map(json.loads, ledger.read_text(encoding="utf-8").splitlines())
        tried = [trial for line in lines if line["study"] == study.space.name for trial in line["trials"]]
        size = study.spec.nonzero[0]
        at = {budget: study.spec.data_dense(size, budget) for budget in study.spec.budgets}
        return cls.through({one: [(S, loss) for of, S, _, loss in tried if of == data] for one, data in at.items()})

    @classmethod
    def through(cls, runs: Mapping[float, Sequence[tuple[float, float]]]) -> Reference:
        """Curves through (sparsity, loss) at each budget, of which some have the same sparsity and other seeds."""
        curves, noise = [], []
        for budget, pairs in runs.items():
            points: dict[float, list[float]] = {}
            for S, loss in pairs:
                points.setdefault(round(S, 3), []).append(loss)
            between = pooled_noise(points.values())
            assert between is not None, "the reference has several seeds"
            S, found = np.array(sorted(run for run in pairs if np.isfinite(run[1]))).T
            curve = fit_curve(LossPoints(S, found), between.deviation, np.ones(2000), np.random.default_rng(0))
            bottom, top = np.quantile(curve.optima, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
            told = f"S_opt {curve.optimum:.2f} ({bottom:.2f} to {top:.2f}), noise between seeds {between.deviation:.2g}"
            print(f"reference, budget {budget:g}: {told} nats, {len(S)} runs", flush=True)
            curves.append(curve)
            noise.append(between.deviation)
        return cls(tuple(curves), tuple(noise))

    def standing(self, flops: float, optima: Sequence[float]) -> Standing:
        """Miss and regret of optima, one a budget."""
        miss = [abs(found - curve.optimum) for found, curve in zip(optima, self.curves, strict=True)]
        given = [np.interp(S, c.grid, c.mean) - c.mean.min() for S, c in zip(optima, self.curves, strict=True)]
        return Standing(flops, float(np.mean(miss)), float(np.mean(np.array(given) / self.noise)))


@dataclass(frozen=True, eq=False)
class Tabulated(Trained):
    """The same without training: a run's loss is that of the reference's curve, with the noise between seeds."""

    reference: Reference

    def made(self, requests: Sequence[RunRequest], _: Sequence[StopRule | None] = ()) -> Sequence[RunRecord | Stopped]:
        """Records that hold what a search reads."""
        return [self._record(request) for request in requests]

    def _record(self, request: RunRequest) -> RunRecord:
        run, S, N = self.requests.run(request), request.sparsity, request.nonzero
        budget = data_of(self.spec).index(request.data_dense)
        curve, noise = self.reference.curves[budget], self.reference.noise[budget]
        error = np.random.default_rng([request.seed, request.data_dense, round(1e6 * S)]).normal()
        return RunRecord(
            fingerprint=self.requests.fingerprint(request),
            engine=ENGINE_VERSION,
            data_hash=self.requests.data_hash,
            spec=run,
            status="finished",
            sparsity=S,
            nonzero=N,
            dense=round(N / (1 - S)),
            other_params=0,
            nonzero_total=N,
            paper_dense=0,
            data=request.data,
            data_unit=run.data_unit,
            epochs=1.0,
            loss=float(np.interp(S, curve.grid, curve.mean)) + noise * error,
            first_loss=float(curve.mean.max()),
            curve=(),
            cost=RunCost(flops_dense=0.0, flops_sparse=0.0, flops_mask_updates=0.0, seconds=0.0),
            machine=Machine(torch="", device="", processor="", instruction_set="", threads=1, platform=""),
        )


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
        study.context,
        noise=float(np.median(reference.noise)),
        fingerprint=lambda request: study.requests.fingerprint(own(request)),
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


def report(study: Trained, reference: Reference, samplers: Sequence[SamplerName], seeds: int) -> None:
    """One study: every sampler's standing at equal FLOPs, and how far the law sampler is behind each other."""
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
    parser.add_argument("--ledger", type=Path, help="of repeated quickstarts, in the place of training")
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for name in options.studies:
        space = open_workspace(name, options.project)
        prepare_study(space)
        assert space.study.spec.search is not None, f"{name} asks for no search"
        changes = {"trials": options.trials, "storage": None, "nonzero": space.study.spec.search.nonzero[:1]}
        study = Trained(space, space.study.spec.search.model_copy(update=changes), options.workers)
        print(f"\n{name}: {options.trials} trials at each of {len(study.spec.budgets)} budgets", flush=True)
        if options.ledger:
            reference = Reference.of_ledger(study, options.ledger)
            study = Tabulated(study.space, study.spec, study.workers, reference)
        else:
            reference = Reference.of(study, options.levels, options.reference_seeds)
        report(study, reference, options.samplers, options.seeds)


if __name__ == "__main__":
    main()
