"""Which sparsities to try next: Optuna's samplers, made a function of what is known.

A sampler that lives through a search carries a random state that dies with the process. Here one is made afresh for
every round of every budget, seeded by both, and told of the finished rounds only: the proposals of a round depend on
nothing else, so an interrupted search goes on exactly as if it had not been.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import assert_never

import optuna
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from sparsity_lab.search.space import RESOLUTION, Space, on_grid
from sparsity_lab.specs.studies import SearchSpec

SPARSITY = "sparsity"
"""name of the parameter in Optuna"""

TPE_STARTUP = 2
"""finished trials from which TPE takes over: the space-filling start replaces its random one"""


def propose(spec: SearchSpec, budget: int, turn: int, known: Iterable[FrozenTrial]) -> tuple[float, ...]:
    """The `spec.batch` sparsities of a budget's round `turn`, given the trials of all earlier rounds."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=make_sampler(spec, budget, turn))
    study.add_trials(known)
    axis = distribution(Space.of(spec))
    return tuple(on_grid(study.ask({SPARSITY: axis}).params[SPARSITY]) for _ in range(spec.batch))


def make_sampler(spec: SearchSpec, budget: int, turn: int) -> BaseSampler:
    """The spec's sampler, seeded for one round of one budget.

    TPE (Bergstra 2011) counts the trials of the same batch as poor (constant liar), which keeps them apart.
    """
    seed = zlib.crc32(f"{spec.seed}/{budget}/{turn}".encode())
    match spec.sampler:
        case "tpe":
            return TPESampler(n_startup_trials=TPE_STARTUP, constant_liar=True, seed=seed)
        case "random":
            return RandomSampler(seed=seed)
        case _ as unknown:
            assert_never(unknown)


def distribution(space: Space) -> FloatDistribution:
    """The space as Optuna knows it."""
    return FloatDistribution(space.lowest, space.highest, step=RESOLUTION)
