"""Every sampler that a spec can name: proposals are a function of the finished rounds."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import get_args

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from simulated import BUDGETS, spec

from sparsity_lab.errors import MachineError
from sparsity_lab.search.sampler import SPARSITY, SamplerName, distribution, grid_levels, propose
from sparsity_lab.search.space import Space
from sparsity_lab.specs.studies import SearchSpec

BUDGET = BUDGETS[1]
INSTALLED = importlib.util.find_spec("cmaes") is not None
NAMES = [name for name in get_args(SamplerName) if name != "cma-es" or INSTALLED]


def finished(sparsities: Iterable[float], settings: SearchSpec) -> list[FrozenTrial]:
    """Losses of a valley at S = 0.6; what lies beyond 0.85 diverges."""
    axis = {SPARSITY: distribution(Space.of(settings))}
    return [
        create_trial(params={SPARSITY: S}, distributions=axis, value=(S - 0.6) ** 2)
        if S < 0.85
        else create_trial(params={SPARSITY: S}, distributions=axis, state=TrialState.PRUNED)
        for S in sparsities
    ]


def played(settings: SearchSpec, rounds: int) -> list[float]:
    sparsities = list(Space.of(settings).design(4))
    for turn in range(1, rounds + 1):
        sparsities += propose(settings, BUDGET, turn, finished(sparsities, settings))
    return sparsities[4:]


@pytest.mark.parametrize("name", NAMES)
def test_rounds_follow_from_the_rounds_before(name: SamplerName) -> None:
    settings = spec(sampler=name, batch=2)
    rounds = 1 if name == "gp" else 4  # GP is slow
    once, again = played(settings, rounds), played(settings, rounds)
    assert once == again
    assert len(once) == 2 * rounds
    assert all(S in Space.of(settings) for S in once)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "gp"])
def test_seeds_differ(name: SamplerName) -> None:
    assert played(spec(sampler=name, seed=1), 2) != played(spec(sampler=name), 2)


def test_the_grid_is_gone_through_once() -> None:
    settings = spec(sampler="grid", batch=4)
    levels = grid_levels(Space.of(settings))
    assert len(levels) == 12
    assert sorted(played(settings, 3)) == sorted(levels)


def test_nsga_breeds_from_its_first_generation() -> None:
    """Two parents of the better half at most, so later generations crowd about the valley."""
    sparsities = played(spec(sampler="nsga-ii", batch=4), 8)
    first, last = sparsities[:8], sparsities[-8:]
    miss = [sum(abs(S - 0.6) for S in part) for part in (first, last)]
    assert miss[1] < miss[0]


@pytest.mark.skipif(INSTALLED, reason="cmaes is installed")
def test_a_missing_package_is_named() -> None:
    with pytest.raises(MachineError, match=r"cma-es needs a package.*sparsity-lab\[cma-es\]"):
        played(spec(sampler="cma-es"), 1)
