"""Which sparsities to try next: Optuna's samplers, made a function of what is known.

A sampler that lives through a search carries a state that dies with the process. Here one is made afresh for every
round of every budget, and told of the finished rounds only: the proposals of a round depend on nothing else, so an
interrupted search goes on exactly as if it had not been.

TPE, GP and random sampling look at the finished trials alone, and their seed is the round's. CMA-ES, NSGA-II and the
grid remember what they proposed themselves; they are led through all earlier rounds again, with one seed for all, which
repeats the same proposals and so restores what they knew.
"""

from __future__ import annotations

import importlib.util
import math
import zlib
from collections.abc import Iterable, Sequence
from typing import Literal, assert_never

import optuna
from optuna.distributions import FloatDistribution
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import Study
from optuna.trial import FrozenTrial

from sparsity_lab.errors import MachineError
from sparsity_lab.search.space import RESOLUTION, Space, on_grid
from sparsity_lab.specs.studies import SearchSpec

SPARSITY = "sparsity"
"""name of the parameter in Optuna"""

STARTUP = 2
"""finished trials from which TPE and GP take over: the space-filling start replaces their random one"""
POPULATION = 8
"""of a generation of NSGA-II: searches have tens of trials"""
GRID_INTERVALS = 16
"""into which the grid divides the span of log density"""

SamplerName = Literal["tpe", "gp", "cma-es", "random", "grid", "nsga-ii"]
REPLAYED = frozenset[SamplerName](("cma-es", "grid", "nsga-ii"))
"""samplers that keep notes on their own proposals"""


def propose(spec: SearchSpec, budget: int, turn: int, known: Iterable[FrozenTrial]) -> tuple[float, ...]:
    """The `spec.batch` sparsities of a budget's round `turn`, given the trials of all earlier rounds in their order.

    Raises:
        MachineError: the sampler needs a package that is not installed.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trials, space, replayed = list(known), Space.of(spec), spec.sampler in REPLAYED
    seed = zlib.crc32(f"{spec.seed}/{budget}/{'all' if replayed else turn}".encode())
    study = optuna.create_study(sampler=make_sampler(spec.sampler, seed, space))
    opening = len(trials) - (turn - 1) * spec.batch if replayed else len(trials)
    study.add_trials(trials[:opening])
    for first in range(opening, len(trials), spec.batch):
        _replay(study, trials[first : first + spec.batch])
    return tuple(on_grid(study.ask({SPARSITY: distribution(space)}).params[SPARSITY]) for _ in range(spec.batch))


def make_sampler(name: SamplerName, seed: int, space: Space) -> BaseSampler:
    """The sampler of that name.

    TPE (Bergstra 2011) counts the trials of the same batch as poor (constant liar), which keeps them apart. GP is told
    that losses are noisy.

    Raises:
        MachineError: it needs a package that is not installed.
    """
    match name:
        case "tpe":
            return TPESampler(n_startup_trials=STARTUP, constant_liar=True, seed=seed)
        case "gp":
            return GPSampler(n_startup_trials=STARTUP, deterministic_objective=False, seed=seed)
        case "cma-es":
            _require("cmaes", name)
            return CmaEsSampler(n_startup_trials=STARTUP, seed=seed)
        case "random":
            return RandomSampler(seed=seed)
        case "grid":
            return GridSampler({SPARSITY: grid_levels(space)}, seed=seed)
        case "nsga-ii":
            return NSGAIISampler(population_size=POPULATION, seed=seed)
        case _ as unknown:
            assert_never(unknown)


def distribution(space: Space) -> FloatDistribution:
    """The space as Optuna knows it."""
    return FloatDistribution(space.lowest, space.highest, step=RESOLUTION)


def grid_levels(space: Space) -> list[float]:
    """The grid's sparsities, evenly spaced in log density, but for the dense anchor and the space-filling start."""
    start, end = math.log1p(-space.lowest), math.log1p(-space.highest)
    parts = (start + k / GRID_INTERVALS * (end - start) for k in range(GRID_INTERVALS + 1))
    levels = dict.fromkeys(on_grid(-math.expm1(part)) for part in parts)
    opening = (0.0, *space.design(GRID_INTERVALS))
    return [level for level in levels if level not in opening] or list(levels)


def _replay(study: Study, batch: Sequence[FrozenTrial]) -> None:
    """Have the sampler propose a round that is over, and tell it what came of it."""
    asked = [study.ask(trial.distributions) for trial in batch]
    for again, trial in zip(asked, batch, strict=True):
        study.tell(again, trial.values, state=trial.state)


def _require(package: str, sampler: SamplerName) -> None:
    if importlib.util.find_spec(package) is None:
        raise MachineError(
            f"the sampler {sampler} needs a package that is not installed",
            field="sampler",
            found=f"no {package}",
            expected=f"pip install 'sparsity-lab[{sampler}]', or another sampler",
        )
