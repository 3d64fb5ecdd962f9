"""Training FLOPs until the optimal sparsity of every budget is known: `python benchmarks/samplers.py [--quick]`.

Simulated surfaces: published laws, and two of other forms with invented coefficients, with 0.3 % of noise on every loss
(`--noise`). What is asked is S_opt of the grid's largest size for its (three largest) data budgets, at the paper's cost
multiplier. A method is done at the first FLOPs from which its S_opt of every budget stays within ±0.05 of the true one
until it stops; the table gives what nine of ten repetitions need, relative to the grid. How each estimates S_opt:

    grid      the paper's grid of sizes, data and S = 0, 0.5, 0.75, 0.875, all of it; `frantar` fitted to it (Huber loss
              of log residuals). Where a grid does not suffice in nine of ten repetitions, each point is run with two
              seeds, or three …
    random, tpe, gp   Optuna's samplers at the largest size, a study for each budget, after the search room's
              space-filling start; every run at a budget costs the same. S_opt is that of the search room's smooth
              curve, with the noise pooled over budgets.
    law       `LawSampler`, free to try sizes down to the grid's smallest and budgets down to an eighth of the smallest;
              S_opt is the median of its own surface's posterior

Samplers stop after `ROUNDS` trials a budget, `LawSampler` after `LAW_TRIALS` in all or when it has spent half a grid:
`inf` means that fewer than nine of ten repetitions were done by then. The first check of the samplers comes after the
start of six trials a budget; `LawSampler` is asked here by itself, without that start. On `wu2026` and the invented
surfaces the form that the grid and `LawSampler` fit is not the surface's.

`--seconds` prints instead how long a proposal takes, of `LawSampler` and of TPE, after ten trials at each of three
budgets and forty earlier runs; on whatever threads and busy cores there are.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import create_trial

from sparsity_lab.laws import Law, Runs, SparseSchedule, fit, form_named, optimal_sparsity, training_flops
from sparsity_lab.search.answer.curve import LossPoints, fit_curve, scatter
from sparsity_lab.search.propose.design import anchors
from sparsity_lab.search.propose.law_sampler import LawSampler, Prior
from sparsity_lab.search.propose.targets import Targets
from sparsity_lab.stages.law import open_law

ROOT = Path(__file__).parent.parent
TOLERANCE, SHARE, HIGHEST = 0.05, 0.9, 0.9
START = (0.0, *anchors([0.0], np.linspace(0, HIGHEST, 181).tolist()))
"""of a study, as in the search room"""
ROUNDS, LAW_TRIALS, MOST_SEEDS = 40, 80, 8
COST = SparseSchedule()
Checks = Iterator[tuple[float, np.ndarray]]
"""FLOPs so far and (budgets,) estimates of S_opt, after each trial or round"""


@dataclass(frozen=True)
class Simulation:
    """A known law and the grid on which the paper measures it.

    Attributes:
        nonzero: sizes of the grid; S_opt is asked at the largest.
        data: data of the grid.
        noise: standard deviation of ln L.
    """

    law: Law
    nonzero: tuple[float, ...]
    data: tuple[float, ...]
    noise: float

    @property
    def targets(self) -> Targets:
        """The largest size and the three largest budgets."""
        return Targets.of(self.nonzero[-1], self.data[-3:], COST, highest=HIGHEST)

    @property
    def truth(self) -> np.ndarray:
        """(budgets,) S_opt."""
        return optimal_sparsity(self.law, self.nonzero[-1], np.array(self.data[-3:]), COST, highest=HIGHEST)

    def measure(self, S: float, N: float, D: float, rng: np.random.Generator) -> float:
        """A loss with noise."""
        return float(self.law.predict(S, N, D) * np.exp(self.noise * rng.normal()))

    @property
    def grid(self) -> np.ndarray:
        """(runs, 3) of S, N and D."""
        return np.array(list(product((0.0, 0.5, 0.75, 0.875), self.nonzero, self.data)))

    @property
    def grid_flops(self) -> float:
        """Training FLOPs of the grid."""
        S, N, D = self.grid.T
        return float(training_flops(S, N, D, COST).sum())


TEXT = ((1.33e6, 5.31e6, 2.12e7, 8.49e7), (1.638e10, 3.277e10, 6.554e10))
IMAGES = (tuple(6.63e5 * 2.0**k for k in range(7)), (2.25e8, 4.5e8, 9.0e8, 1.8e9))
PUBLISHED = {
    "vit": ("frantar2024-vit-jft", IMAGES),
    "t5": ("frantar2024-t5-c4", TEXT),
    "t5-minimum": ("frantar2024-t5-c4-minimum", TEXT),
    "wu2026": ("wu2026-c4", TEXT),
}
INVENTED = {
    "generalized": {"e": 1.9, "gamma": -0.03, "a": 250.0, "alpha": 0.33, "c": 20.0, "b": 400.0, "beta": 0.31},
    "average_params": {"A": 190.0, "alpha": 0.33, "B": 1000.0, "beta": 0.33, "E": 1.8},
}
SURFACES = (*PUBLISHED, *INVENTED)


def simulation(name: str, noise: float) -> Simulation:
    """The surface of that name."""
    if name in INVENTED:
        form = form_named(name)
        return Simulation(Law(form, form.make_params(INVENTED[name]), "tokens", "invented"), *TEXT, noise)
    law, grid = PUBLISHED[name]
    return Simulation(open_law(law, ROOT).law, *grid, noise)


def of_grid(surface: Simulation, rng: np.random.Generator) -> Checks:
    """The grid, then the grid with two seeds, and so on."""
    runs: list[tuple[float, ...]] = []
    for seeds in range(1, MOST_SEEDS + 1):
        runs += [(S, N, D, surface.measure(S, N, D, rng)) for S, N, D in surface.grid.tolist()]
        law = Law.from_fit(fit(Runs(*np.array(runs).T), "frantar", starts=12))
        yield (
            seeds * surface.grid_flops,
            optimal_sparsity(law, surface.nonzero[-1], np.array(surface.data[-3:]), COST, highest=HIGHEST),
        )


def of_sampler(make: Callable[[int], BaseSampler], surface: Simulation, rng: np.random.Generator) -> Checks:
    """A study for each budget; a check after each round of one trial for every budget."""
    N, budgets = surface.nonzero[-1], surface.data[-3:]
    axis: dict[str, BaseDistribution] = {"sparsity": FloatDistribution(0.0, HIGHEST)}
    studies = [optuna.create_study(sampler=make(int(rng.integers(2**31)))) for _ in budgets]
    for turn in range(ROUNDS):
        for study, budget in zip(studies, budgets, strict=True):
            if turn < len(START):
                study.enqueue_trial({"sparsity": START[turn]})
            trial = study.ask(axis)
            S = trial.params["sparsity"]
            study.tell(trial, surface.measure(S, N, float(budget / COST(S)), rng))
        if turn >= len(START) - 1:
            yield (turn + 1) * 6 * N * sum(budgets), curve_optima(studies, rng)


def curve_optima(studies: Sequence[optuna.Study], rng: np.random.Generator) -> np.ndarray:
    """(budgets,) by the search room's smooth curves."""
    points = []
    for study in studies:
        rows = np.array([(trial.params["sparsity"], trial.value) for trial in study.get_trials(deepcopy=False)])
        points.append(LossPoints(*rows[np.argsort(rows[:, 0])].T))
    noise, _ = scatter(points)
    return np.array([fit_curve(one, noise, np.ones(2), rng).optimum for one in points])


def of_law(surface: Simulation, rng: np.random.Generator) -> Checks:
    """One study for all budgets; a check after each trial from the eighth on."""
    targets, N, D = surface.targets, surface.nonzero, surface.data
    sampler = LawSampler(targets, budget="data_dense", size="nonzero", seed=int(rng.integers(2**31)))
    study, flops = optuna.create_study(sampler=sampler), 0.0
    space: dict[str, BaseDistribution] = {
        "sparsity": FloatDistribution(0.0, HIGHEST),
        "nonzero": FloatDistribution(N[0], N[-1], log=True),
        "data_dense": FloatDistribution(D[0] / 8, D[-1], log=True),
    }
    for turn in range(LAW_TRIALS):
        trial = study.ask(space)
        S, size, budget = (trial.params[name] for name in space)
        study.tell(trial, surface.measure(S, size, float(budget / COST(S)), rng))
        flops += 6 * size * budget
        known = sampler.surface(study)
        if turn >= 7 and known:
            yield flops, known.optimum(targets).median
        if flops > surface.grid_flops / 2:
            return


METHODS: dict[str, Callable[[Simulation, np.random.Generator], Checks]] = {
    "grid": of_grid,
    "random": partial(of_sampler, lambda seed: RandomSampler(seed=seed)),
    "tpe": partial(of_sampler, lambda seed: TPESampler(n_startup_trials=2, seed=seed)),
    "gp": partial(of_sampler, lambda seed: GPSampler(n_startup_trials=2, seed=seed)),
    "law": of_law,
}


def needed(method: str, name: str, noise: float, seed: int) -> float:
    """FLOPs from which the estimates stay right; infinite if they never do."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    surface = simulation(name, noise)
    truth, since = surface.truth, np.inf
    for flops, estimate in METHODS[method](surface, np.random.default_rng([seed, 7])):
        right = (np.abs(estimate - truth) <= TOLERANCE).all()
        since = min(since, flops) if right else np.inf
    return float(since)


def seconds_a_proposal(trials: int = 10, earlier: int = 40, proposals: int = 10) -> None:
    """Print the median and the longest of a few proposals, each by a sampler that knows nothing but the trials."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    surface, rng = simulation("t5", 0.003), np.random.default_rng(0)
    N, D, targets = surface.nonzero, surface.data, surface.targets
    space: dict[str, BaseDistribution] = {
        "sparsity": FloatDistribution(0.0, HIGHEST),
        "nonzero": FloatDistribution(N[0], N[-1], log=True),
        "data_dense": FloatDistribution(D[0] / 8, D[-1], log=True),
    }
    known = [(S, n, d, surface.measure(S, n, d, rng)) for S, n, d in surface.grid[:earlier].tolist()]
    told = []
    for budget, S in product(targets.data_dense.tolist(), np.linspace(0, HIGHEST, trials).tolist()):
        params = {"sparsity": S, "nonzero": N[-1], "data_dense": budget}
        loss = surface.measure(S, N[-1], float(budget / COST(S)), rng)
        told.append(create_trial(params=params, distributions=space, value=loss))
    runs = Runs(*np.array(known).T)
    samplers: dict[str, Callable[[], BaseSampler]] = {
        "law": lambda: LawSampler(targets, budget="data_dense", size="nonzero", prior=Prior(runs)),
        "tpe": lambda: TPESampler(n_startup_trials=2, seed=0),
    }
    for name, make in samplers.items():
        spent = []
        for _ in range(proposals):
            study = optuna.create_study(sampler=make())
            study.add_trials(told)
            began = time.perf_counter()
            study.ask(space)
            spent.append(time.perf_counter() - began)
        print(f"{name:>8} {np.median(spent):8.3f} s a proposal, {max(spent):.3f} s the longest of {proposals}")


def main() -> None:
    """Print the table, or the seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=50)
    parser.add_argument("--first-seed", type=int, default=0, help="of the repetitions; others than 0 are fresh")
    parser.add_argument("--surfaces", nargs="+", choices=SURFACES, default=list(SURFACES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--noise", type=float, default=0.003)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="two repetitions on one surface, without GP")
    parser.add_argument("--seconds", action="store_true", help="how long a proposal takes")
    options = parser.parse_args()
    if options.seconds:
        seconds_a_proposal()
        return
    if options.quick:
        options.repetitions, options.surfaces = 2, ["t5"]
        options.methods = [method for method in options.methods if method != "gp"]
    with ProcessPoolExecutor(options.processes) as pool:
        for name in options.surfaces:
            seeds = range(options.first_seed, options.first_seed + options.repetitions)
            report(name, options.noise, options.methods, seeds, pool)


def report(name: str, noise: float, methods: Sequence[str], seeds: range, pool: ProcessPoolExecutor) -> None:
    """One surface: FLOPs that nine of ten repetitions need, and the median, as shares of one grid."""
    surface = simulation(name, noise)
    print(f"\n{name}: grid of {len(surface.grid)} runs, {surface.grid_flops:.3g} FLOPs; S_opt {surface.truth.round(3)}")
    print(f"{'method':>8} {'FLOPs':>10} {'of a grid':>10} {'median':>8} {'done':>6} {'seconds':>8}")
    for method in methods:
        began = time.perf_counter()
        spent = np.array(list(pool.map(partial(needed, method, name, noise), seeds)))
        ninth = np.quantile(spent, SHARE, method="inverted_cdf")
        shares = [value / surface.grid_flops for value in (ninth, np.quantile(spent, 0.5, method="inverted_cdf"))]
        figures = f"{ninth:10.3g} {shares[0]:10.4f} {shares[1]:8.4f} {np.isfinite(spent).mean():6.0%}"
        print(f"{method:>8} {figures} {time.perf_counter() - began:8.0f}", flush=True)


if __name__ == "__main__":
    main()
