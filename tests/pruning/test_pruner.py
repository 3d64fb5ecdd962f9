from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity_lab.errors import SpecError
from sparsity_lab.pruning.allocation import zeros_for
from sparsity_lab.pruning.feasibility import check_feasible
from sparsity_lab.pruning.pruner import Pruner, make_pruner
from sparsity_lab.specs.regimes import Dense, Gradual, RegimeSpec

SHAPES = {"a": (8, 12), "b": (4, 4), "c": (5, 24)}
DENSE = Dense(version=1, method="dense")


def gradual(pattern: Mapping[str, Any] | None = None, **schedule: Any) -> Gradual:
    pattern = pattern or {"kind": "unstructured"}
    fields = {"version": 1, "method": "gradual", "pattern": pattern, "schedule": schedule}
    return Gradual.model_validate(fields)


def pruner_of(regime: RegimeSpec, sparsity: float, steps: int, seed: int = 0) -> Pruner:
    generator = torch.Generator().manual_seed(seed)
    weights = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    masks = {name: torch.ones(shape, dtype=torch.bool) for name, shape in SHAPES.items()}
    return make_pruner(regime, sparsity, weights, masks, steps)


def move(pruner: Pruner, seed: int) -> None:
    """Training moves the weights that are kept, some of them to zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in pruner.weights.items():
        weight.add_(torch.randn(weight.shape, generator=generator) * pruner.masks[name])
        weight.mul_(torch.rand(weight.shape, generator=generator) > 0.05)


patterns = st.sampled_from([None, {"kind": "n:m", "n": 2, "m": 4}, {"kind": "n:m", "n": 1, "m": 4}])


@given(patterns, st.floats(0.05, 0.95), st.integers(1, 60), st.integers(0, 1000))
@settings(deadline=None)
def test_counts_are_exact_at_every_update_and_no_weight_comes_back(
    pattern: Mapping[str, Any] | None, sparsity: float, steps: int, seed: int
) -> None:
    regime = gradual(pattern, every=7, minimum_updates=5)
    if pattern:
        sparsity = 1 - pattern["n"] / pattern["m"]
    pruner = pruner_of(regime, sparsity, steps, seed)
    updates = 0
    for step in range(1, steps + 1):
        move(pruner, seed * 1000 + step)
        if not pruner.due(step):
            continue
        before = {name: mask.clone() for name, mask in pruner.masks.items()}
        pruner.update(step)
        updates += 1
        for name, mask in pruner.masks.items():
            assert int((~mask).sum()) == zeros_for(pruner.ramp.sparsity_after(step), mask.numel())
            assert not (mask & ~before[name]).any(), "a pruned weight came back"
            assert (pruner.weights[name][~mask] == 0).all()
    assert updates == len(pruner.ramp.updates)
    for mask in pruner.masks.values():
        assert int((~mask).sum()) == zeros_for(sparsity, mask.numel())
        if pattern:
            assert (mask.view(-1, pattern["m"]).sum(1) == pattern["n"]).all()


def test_the_smallest_weights_go_first() -> None:
    pruner = pruner_of(gradual(), 0.75, 100)
    before = {name: weight.abs() for name, weight in pruner.weights.items()}
    pruner.update(pruner.ramp.updates[-1])
    for name, mask in pruner.masks.items():
        assert before[name][mask].min() > before[name][~mask].max()


def test_masks_and_weights_are_written_in_place() -> None:
    pruner = pruner_of(gradual(), 0.5, 10)
    views = {name: (weight.view(-1), pruner.masks[name].view(-1)) for name, weight in pruner.weights.items()}
    pruner.update(10)
    for weight, mask in views.values():
        assert not mask.all()
        assert (weight[~mask] == 0).all()


@pytest.mark.parametrize(("regime", "sparsity"), [(DENSE, 0.0), (gradual(), 0.0)])
def test_a_dense_run_is_never_due(regime: RegimeSpec, sparsity: float) -> None:
    pruner = pruner_of(regime, sparsity, 20)
    assert not pruner.prunes
    assert not any(pruner.due(step) for step in range(25))


@pytest.mark.parametrize("pattern", [None, {"kind": "n:m", "n": 2, "m": 4}])
@pytest.mark.parametrize("damage", [float("nan"), float("inf")])
def test_broken_weights_are_left_for_training_to_report(pattern: Mapping[str, Any] | None, damage: float) -> None:
    """A run whose weights are no numbers has diverged, which its loss tells: pruning must not fail before."""
    pruner = pruner_of(gradual(pattern), 0.5, 40)
    for weight in pruner.weights.values():
        weight[0] = damage
    for step in pruner.ramp.updates:
        pruner.update(step)
    assert not any(bool(weight.isfinite().all()) for weight in pruner.weights.values()), "the damage must stay visible"


def feasible(regime: RegimeSpec, sparsity: float, shapes: Mapping[str, tuple[int, int]] | None = None) -> str:
    """What is said against a regime; nothing when it can be."""
    try:
        check_feasible(regime, sparsity, shapes or {"b.q": (8, 12)}, where="study.yaml")
    except SpecError as error:
        return str(error)
    return ""


def test_what_can_be_pruned_is_not_refused() -> None:
    two_of_four = gradual({"kind": "n:m", "n": 2, "m": 4})
    assert not feasible(DENSE, 0.0)
    assert not feasible(gradual(), 0.99, {"a": (3, 7)})
    assert not feasible(two_of_four, 0.5)
    assert not feasible(two_of_four, 0.0, {"a": (3, 7)}), "a dense run needs no groups"
    assert not feasible(gradual({"kind": "n:m", "n": 1, "m": 3}), 0.6666666666666666)


def test_what_cannot_be_pruned_says_why() -> None:
    two_of_four = gradual({"kind": "n:m", "n": 2, "m": 4})
    assert feasible(DENSE, 0.5) == "study.yaml: sparsity: a dense regime cannot prune (found 0.5, expected 0)"
    assert (
        feasible(two_of_four, 0.75)
        == "study.yaml: sparsity: 2:4 ends on one sparsity only (found 0.75, expected 0.5, or 0 for the dense run)"
    )
    message = (
        "study.yaml: pattern: 2:4 does not divide the input dimension of w (found 6, expected a multiple of 4 (see "
    )
    assert feasible(two_of_four, 0.5, {"v": (6, 8), "w": (8, 6)}).startswith(message)
