"""What may be chosen: bounds, levels, conditions, and nothing that cannot be trained."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import RandomSampler
from optuna.trial import create_trial
from simulated import cost, multiplier, spec

from sparsity_lab.artifacts.searches import Params
from sparsity_lab.errors import SpecError
from sparsity_lab.search.propose.space import Space, TrialChoice
from sparsity_lab.search.propose.variants import GAP, RESOLUTION
from sparsity_lab.search.requests import RunRequest, data_at
from sparsity_lab.specs.regimes.regime import Dynamic, Masked, RegimeSpec, StraightThrough
from sparsity_lab.specs.regimes.schedules import Cubic, OneShot, Static

TARGET = (1_000_000, 300_000_000)
GRADUAL = Masked(version=1, method="masked")
REGIMES: dict[str, RegimeSpec] = {
    "gradual": GRADUAL,
    "late": Masked(version=1, method="masked", schedule=Cubic(start=0.6, end=0.9)),
    "at-once": Masked(version=1, method="masked", schedule=OneShot(kind="one-shot")),
    "static": StraightThrough(version=1, method="straight-through", schedule=Static(kind="static")),
    "rigl": Dynamic(version=1, method="dynamic", schedule=Cubic()),
}
bounds = st.tuples(st.floats(0, 0.97), st.floats(0, 0.97)).filter(lambda b: b[0] + 2.1 * RESOLUTION < b[1])


def space_of(regimes: Mapping[str, RegimeSpec] | None = None, **parts: Any) -> Space:
    names = list(regimes or {"gmp": GRADUAL})
    return Space.of(spec(regimes=names, space=parts), [TARGET], regimes or {})


def drawn(space: Space, count: int = 40, seed: int = 0) -> list[TrialChoice]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=RandomSampler(seed))
    return [space.choose(study.ask()) for _ in range(count)]


def test_a_space_without_a_multiple_of_the_resolution_is_refused() -> None:
    with pytest.raises(SpecError, match="leaves nothing to search at 1,000,000 non-zero weights"):
        space_of(sparsity={"low": 0.501, "high": 0.504})


def test_an_n_m_pattern_has_its_own_levels() -> None:
    fours = {"kind": "n:m", "m": 4}
    space = space_of(patterns=[fours], sparsity={"low": 0.3, "high": 0.8})
    assert space.levels == (0.5, 0.75)
    assert {choice.params["sparsity"] for choice in drawn(space)} == {0.5, 0.75}
    pairs = Masked.model_validate({"version": 1, "method": "masked", "pattern": {"kind": "n:m", "n": 1, "m": 2}})
    assert space_of({"pairs": pairs}).levels == (0.0, 0.5)
    named = space_of(sparsity={"levels": [0.0, 0.5, 0.875]})
    assert named.levels == (0.0, 0.5, 0.875)


def test_a_mix_of_patterns_shares_one_interval_and_keeps_each_to_its_levels() -> None:
    fours, threes = {"kind": "n:m", "m": 4}, {"kind": "n:m", "m": 3}
    space = space_of(patterns=[{"kind": "unstructured"}, fours, threes])
    assert space.levels is None
    found: dict[str, set[float]] = {}
    for choice in drawn(space, 80):
        found.setdefault(str(choice.params["pattern"]), set()).add(float(choice.params["sparsity"]))
    assert found["n:m(m=4)"] == {0.25, 0.5, 0.75}
    assert found["n:m(m=3)"] == {1 / 3, 2 / 3}
    assert len(found["unstructured"]) > 10
    assert 0 not in found["unstructured"], "a dense trial has no pattern"


def test_start_and_end_are_asked_for_where_the_schedule_has_a_window() -> None:
    space = space_of(REGIMES, start={"low": 0.1, "high": 0.8}, end={"low": 0.5, "high": 0.95})
    seen = set()
    for choice in drawn(space, 120):
        params, regime = choice.params, str(choice.params["regime"])
        seen.add(regime)
        if regime in {"at-once", "static"}:
            assert not {"start", "end"} & {*params}
            continue
        start, end = float(params["start"]), float(params["end"])
        assert 0.1 <= start <= 0.8
        assert 0.5 <= end <= 0.95
        assert end - start >= GAP - 1e-9
        assert regime != "rigl" or start < 0.75, "masks of a dynamic regime settle at 75 %"
    assert seen == {*REGIMES}


def test_a_start_alone_comes_before_the_schedule_s_own_end() -> None:
    space = space_of({"gradual": GRADUAL}, start={"low": 0.5, "high": 0.95})
    assert all(float(choice.params["start"]) <= 0.75 - GAP for choice in drawn(space))
    with pytest.raises(SpecError, match="leaves nothing"):
        space_of({"gradual": GRADUAL}, start={"low": 0.8, "high": 0.95})


def test_a_learning_rate_factor_is_even_on_a_logarithmic_scale() -> None:
    factors = [
        float(c.params["learning_rate_factor"])
        for c in drawn(space_of(learning_rate_factor={"low": 0.25, "high": 4}), 300)
    ]
    assert all(0.25 <= factor <= 4 for factor in factors)
    assert abs(sum(factor < 1 for factor in factors) / 300 - 0.5) < 0.1


def refusing(nonzero: int, params: Params) -> bool:
    """Small models have no blocks; block patterns exist at every second level only."""
    if str(params.get("pattern", "")).startswith("block"):
        return nonzero > 100_000 and round(float(params["sparsity"]) / RESOLUTION) % 2 == 0
    return float(params["sparsity"]) != 0.5


@given(st.integers(0, 1000), st.sampled_from(["random", "grid"]))
@settings(max_examples=15, deadline=None)
def test_what_cannot_be_trained_is_never_chosen(seed: int, sampler: str) -> None:
    block = {"kind": "block", "height": 4, "width": 4}
    asked = spec(space={"patterns": [block, {"kind": "unstructured"}]}, sampler=sampler)
    space = Space.of(asked, [TARGET, (50_000, 300_000_000)], feasible=refusing)
    seen = set()
    for choice in drawn(space, 60, seed):
        assert refusing(choice.nonzero, choice.params)
        seen.add((choice.nonzero, choice.params["pattern"]))
        create_trial(value=0.0, params=choice.asked, distributions=choice.distributions)  # refuses what lies outside
    assert seen == {(50_000, "unstructured"), (1_000_000, "unstructured"), (1_000_000, "block(height=4, width=4)")}


def test_a_size_that_nothing_can_be_trained_at_is_refused_or_left_out() -> None:
    def large(nonzero: int, _: Params) -> bool:
        return nonzero > 100_000

    with pytest.raises(SpecError, match="nothing to search at 50,000"):
        Space.of(spec(), [TARGET, (50_000, 10)], feasible=large)
    assert Space.of(spec(), [TARGET], feasible=large, smaller=[(50_000, 10)]).sizes == (1_000_000,)


def test_an_ask_is_stored_and_read_back() -> None:
    ask = RunRequest.of(10, 100, {"sparsity": 0.5, "regime": "gradual"}, cost, 3)
    assert RunRequest.parse(ask.json()) == ask
    assert (ask.data, ask.sparsity, ask.seed) == (round(100 / 1.375), 0.5, 3)


@given(st.floats(0, 0.99), st.integers(1, 10**12))
def test_data_buys_the_same_compute(sparsity: float, data_dense: int) -> None:
    data = data_at(1, data_dense, {"sparsity": sparsity}, cost)
    assert data >= 1
    assert abs(data * multiplier(sparsity) - data_dense) <= 0.5 * multiplier(sparsity) + 1e-6 * data_dense or data == 1


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_multiplier_that_is_no_cost_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        data_at(1, 100, {"sparsity": 0.5}, lambda _, __: value)


def test_answers_need_neither_optuna_nor_torch() -> None:
    code = (
        "import sys, sparsity_lab.search.propose.space, sparsity_lab.search.answer.conclude;"
        "sys.exit(any(name in sys.modules for name in ('optuna', 'torch', 'sqlalchemy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
