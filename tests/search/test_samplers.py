"""Every sampler that a spec can name: proposals are a function of the finished rounds, and lie in the space."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from simulated import BUDGETS, N, cost, spec, vit

from sparsity_lab.errors import MachineError, SpecError
from sparsity_lab.laws import Runs
from sparsity_lab.search.answer.training_set import targets_of
from sparsity_lab.search.propose.design import design
from sparsity_lab.search.propose.samplers import LawKnowledge, given, propose
from sparsity_lab.search.propose.space import Space, TrialChoice
from sparsity_lab.search.propose.targets import Target
from sparsity_lab.specs.regimes.regime import Dense
from sparsity_lab.specs.searches import SamplerName, SearchSpec

BUDGET = BUDGETS[1]
INSTALLED = importlib.util.find_spec("cmaes") is not None
NAMES = [name for name in get_args(SamplerName) if name != "cma-es" or INSTALLED]
QUICK = [name for name in NAMES if name not in {"gp", "law"}]
MIXED = {
    "start": {"low": 0.1, "high": 0.6},
    "end": {"low": 0.5, "high": 0.9},
    "learning_rate_factor": {"low": 0.5, "high": 2},
    "patterns": [{"kind": "unstructured"}, {"kind": "n:m", "m": 4}],
}


def space_of(settings: SearchSpec) -> Space:
    return Space.of(settings, [(N, BUDGET)])


def loss(params: Mapping[str, Any]) -> float:
    """A valley at S = 0.6."""
    return 1 + (float(params["sparsity"]) - 0.6) ** 2


def told(choice: TrialChoice, objectives: int = 1, fails: Callable[[float], bool] = lambda S: S > 0.85) -> FrozenTrial:
    """The finished trial; what lies beyond 0.85 diverges."""
    fixed: dict[str, Any] = {
        "params": {name: choice.asked[name] for name in choice.distributions},
        "distributions": dict(choice.distributions),
    }
    S = float(choice.params["sparsity"])
    if fails(S):
        return create_trial(**fixed, state=TrialState.PRUNED)
    return create_trial(**fixed, values=[loss(choice.params), 1 / (1 - S)][:objectives])


def proposed(settings: SearchSpec, rounds: int) -> list[TrialChoice]:
    space = space_of(settings)
    law = LawKnowledge(targets_of(settings, [Target(N, BUDGET, BUDGET)], cost), None, trials_too=True)
    dense = given(space, N, BUDGET, {"sparsity": 0.0})
    before: list[Sequence[TrialChoice]] = [*design(space, "seed", {(N, BUDGET): [dense]})]
    for _ in range(rounds):
        known = [[told(choice, len(settings.objectives)) for choice in batch] for batch in before]
        before.append(propose(settings, space, "key", known, law if settings.sampler == "law" else None))
    return [choice for batch in before[1:] for choice in batch]


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_rounds_follow_from_the_rounds_before(name: SamplerName, mixed: bool) -> None:
    settings = spec(sampler=name, batch=2, space=MIXED if mixed else {})
    rounds = 4 if name in QUICK else 1
    once, again = proposed(settings, rounds), proposed(settings, rounds)
    assert [choice.params for choice in once] == [choice.params for choice in again]
    assert len(once) == 2 * rounds
    low, high = space_of(settings).ends
    assert all(low <= float(choice.params["sparsity"]) <= high for choice in once)


@pytest.mark.parametrize("name", QUICK)
def test_seeds_differ(name: SamplerName) -> None:
    one, other = (proposed(spec(sampler=name, seed=seed), 2) for seed in (0, 1))
    assert [choice.params for choice in one] != [choice.params for choice in other]


@pytest.mark.parametrize("name", ["tpe", "random", "grid", "nsga-ii", "gp"])
def test_several_objectives_are_proposed_for(name: SamplerName) -> None:
    settings = spec(sampler=name, objectives=["loss", "inference_cost"])
    assert len(proposed(settings, 2 if name in QUICK else 1)) >= 2


def test_the_grid_is_gone_through_once() -> None:
    settings = spec(sampler="grid", batch=4)
    levels = space_of(settings).levels
    assert levels is not None
    assert len(levels) == 17
    assert levels[0] == 0
    assert levels[-1] == 0.9
    once = [choice.params["sparsity"] for choice in proposed(settings, 2)]
    assert len(set(once)) == 8, "those of the start are not asked for again"


def test_nsga_breeds_from_its_first_generation() -> None:
    """Two parents of the better half at most, so later generations crowd about the valley."""
    sparsities = [float(choice.params["sparsity"]) for choice in proposed(spec(sampler="nsga-ii", batch=4), 8)]
    miss = [sum(abs(S - 0.6) for S in part) for part in (sparsities[:8], sparsities[-8:])]
    assert miss[1] < miss[0]


def test_a_law_learns_from_runs_that_are_no_trials() -> None:
    """Without any it fills the space; with the grid of a law it looks elsewhere, and no trial of its own was needed."""
    grid = [(S, n, d) for S in (0.0, 0.5, 0.75) for n in (1e5, 3e5, 1e6) for d in (1e7, 3e7, 1e8)]
    columns = [np.array(column) for column in zip(*grid, strict=True)]
    losses = [vit(S, d, n) for S, n, d in grid]
    settings = spec(sampler="law")
    space, targets = space_of(settings), targets_of(settings, [Target(N, BUDGET, BUDGET)], cost)
    blind, taught = (
        propose(settings, space, "key", [[]], LawKnowledge(targets, runs, trials_too=False))
        for runs in (None, Runs(*columns, np.array(losses)))
    )
    assert [choice.params for choice in blind] != [choice.params for choice in taught]
    with pytest.raises(AssertionError, match="told what it is asked"):
        propose(settings, space, "key", [[]])


def test_what_was_made_elsewhere_is_told_where_it_lies_in_the_space() -> None:
    plain, mixed = space_of(spec()), space_of(spec(space=MIXED))
    assert given(plain, N, BUDGET, {"sparsity": 0.875}).distributions
    assert not given(plain, N, BUDGET, {"sparsity": 0.95}).distributions, "out of bounds"
    assert not given(plain, N, BUDGET, {"sparsity": 0.333}).distributions, "between two levels"
    assert not given(mixed, N, BUDGET, {"sparsity": 0.0}).distributions, "a dense run has no start"
    run = {"sparsity": 0.5, "pattern": "unstructured"}
    usual = {"start": 0.25, "end": 0.75, "learning_rate_factor": 1.0}
    known = given(mixed, N, BUDGET, run, usual)
    assert set(known.distributions) == {"pattern", "sparsity", "start", "end", "learning_rate_factor"}
    assert known.params == run
    assert not given(mixed, N, BUDGET, run, {**usual, "start": 0.05}).distributions


@pytest.mark.parametrize("name", ["law", "cma-es"])
def test_samplers_of_one_objective_refuse_several(name: SamplerName) -> None:
    with pytest.raises(ValueError, match=rf"{name} makes one objective small only, found 2; take nsga-ii"):
        spec(sampler=name, objectives=["loss", "training_cost"])


@pytest.mark.skipif(INSTALLED, reason="cmaes is installed")
def test_a_missing_package_is_named() -> None:
    with pytest.raises(MachineError, match=r"cma-es needs a package.*sparsity-lab\[cma-es\]"):
        proposed(spec(sampler="cma-es"), 1)


def test_a_space_of_dense_regimes_is_none() -> None:
    with pytest.raises(SpecError, match="leaves nothing to search"):
        Space.of(spec(), [(N, BUDGET)], {"gmp": Dense(version=1, method="dense")})
