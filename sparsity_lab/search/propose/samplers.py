"""What to try next: Optuna's samplers and our own, made a function of what is known.

A sampler that lives through a search carries a state that dies with the process. Here one is made afresh for every
round, and told of the finished rounds only: the proposals of a round depend on nothing else, so an interrupted search
goes on exactly as if it had not been.

TPE, GP, random sampling and the grid look at the finished trials alone, and the seed is the round's. CMA-ES and NSGA-II
remember what they proposed themselves; they are led through all earlier rounds again, with one seed for all, which
repeats the same proposals and so restores what they knew. The law sampler's proposals depend on a trial's number.
"""

from __future__ import annotations

import importlib.util
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import assert_never

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.samplers.nsgaii import BLXAlphaCrossover
from optuna.study import Study
from optuna.trial import FixedTrial, FrozenTrial

from sparsity_lab.artifacts.searches import Params
from sparsity_lab.errors import MachineError
from sparsity_lab.laws import Runs
from sparsity_lab.search.propose.law_sampler import LawSampler, Prior, first_value
from sparsity_lab.search.propose.space import DATA_DENSE, NONZERO, Space, TrialChoice
from sparsity_lab.search.propose.targets import Targets
from sparsity_lab.search.requests import SPARSITY
from sparsity_lab.specs.searches import SamplerName, SearchSpec

STARTUP = 2
"""finished trials from which TPE and GP take over: the space-filling start replaces their random one"""
POPULATION = 8
"""of a generation of NSGA-II: searches have tens of trials"""
MUTATION = 0.2
"""share of a child's parameters drawn anew: one over their number, as usual, would be all of a single one. Children lie
about their parents (BLX-alpha, Eshelman & Schaffer 1993), where the usual crossover only swaps parameters"""
ONE_SEED = frozenset[SamplerName](("cma-es", "nsga-ii", "law"))
"""samplers with one seed for all rounds"""
REPLAYED = frozenset[SamplerName](("cma-es", "nsga-ii"))
"""samplers that keep notes on their own proposals"""
NOTHING: Params = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class LawKnowledge:
    """What a law is asked, and the runs it knows beside the trials that it is shown.

    Attributes:
        targets: N, budgets and cost.
        runs: to learn from.
        trials_too: whether the law learns from the trials, because `runs` holds none of them.
        noise: standard deviation of ln L between seeds, where it was measured.
    """

    targets: Targets
    runs: Runs | None
    trials_too: bool
    noise: float | None = None


def propose(
    spec: SearchSpec,
    space: Space,
    key: str,
    rounds: Sequence[Sequence[FrozenTrial]],
    law: LawKnowledge | None = None,
) -> list[TrialChoice]:
    """The `spec.batch` choices of the next round.

    Args:
        spec: what is searched.
        space: what may be chosen.
        key: of the Optuna study, for its seeds.
        rounds: the finished trials of each earlier round, in their order; the first is the opening.
        law: for the law sampler.

    Raises:
        MachineError: the sampler needs a package that is not installed.
    """
    seed = zlib.crc32(f"{spec.seed}/{key}/{'all' if spec.sampler in ONE_SEED else len(rounds)}".encode())
    study = _study(make_sampler(spec.sampler, seed, space, law), len(spec.objectives))
    opening, *later = rounds
    study.add_trials(opening)
    for batch in later:
        if spec.sampler in REPLAYED:
            _replay(study, space, batch)
        else:
            study.add_trials(batch)
    return [space.choose(study.ask()) for _ in range(spec.batch)]


def given(space: Space, nonzero: int, data_dense: int, params: Params, usual: Params = NOTHING) -> TrialChoice:
    """A choice that was made elsewhere: a sampler is told of it where all of it lies in the space.

    Args:
        space: what may be chosen.
        nonzero: N.
        data_dense: budget as data.
        params: of the run.
        usual: what the run has of parameters that it was not asked for.
    """
    fixed = FixedTrial({NONZERO: nonzero, DATA_DENSE: data_dense, **usual, **params})
    outside = TrialChoice(nonzero, data_dense, params, {SPARSITY: params[SPARSITY]}, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns of values outside their ranges, which are sorted out below
        try:
            chosen = space.choose(fixed)
            inside = all(
                distribution._contains(distribution.to_internal_repr(fixed.params[name]))  # noqa: SLF001
                for name, distribution in chosen.distributions.items()
            )
        except ValueError:
            return outside
    same = chosen.params[SPARSITY] == params[SPARSITY]
    return TrialChoice(nonzero, data_dense, params, chosen.asked, chosen.distributions) if inside and same else outside


def make_sampler(  # noqa: PLR0911 - one for each name
    name: SamplerName, seed: int, space: Space, law: LawKnowledge | None = None
) -> BaseSampler:
    """The sampler of that name.

    TPE (Bergstra 2011) counts the trials of the same batch as poor (constant liar), which keeps them apart. GP is told
    that losses are noisy.

    Raises:
        MachineError: it needs a package that is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        match name:
            case "law":
                assert law is not None, "the law sampler is told what it is asked"
                return _law(seed, space, law)
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
                return BruteForceSampler(seed=seed)
            case "nsga-ii":
                crossover = BLXAlphaCrossover()
                return NSGAIISampler(population_size=POPULATION, mutation_prob=MUTATION, crossover=crossover, seed=seed)
            case _:
                assert_never(name)


def _law(seed: int, space: Space, law: LawKnowledge) -> LawSampler:
    return LawSampler(
        law.targets,
        budget=DATA_DENSE if len(space.data) > 1 else float(space.data[0]),
        size=NONZERO if len(space.sizes) > 1 else float(space.sizes[0]),
        prior=Prior(law.runs, law.noise),
        seed=seed,
        loss=first_value if law.trials_too else _untold,
    )


def _untold(_: FrozenTrial) -> None:
    """A trial's loss, where the runs that a law is given have it already."""


def _study(sampler: BaseSampler, objectives: int = 1) -> Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=sampler, directions=["minimize"] * objectives)


def _replay(study: Study, space: Space, batch: Sequence[FrozenTrial]) -> None:
    """Have the sampler propose a round that is over, and tell it what came of it."""
    asked = []
    for _ in batch:
        asked.append(study.ask())
        space.choose(asked[-1])
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
