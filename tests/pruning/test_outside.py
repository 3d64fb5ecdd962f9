"""Embeddings and head: pruned beside the blocks, by the same scores, each by itself and to 1 - sqrt(1 - S)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from regime_cases import ALLOCATIONS, CYCLIC, GRIDS, MONOTONE, SCORES, Shapes, Training, can_be, regime, zeros

from sparsity_lab.pruning.allocation import balanced_sparsity, zeros_for
from sparsity_lab.pruning.scores import Need, Observation, WeightStatistics

SHAPES: Shapes = {"a": (8, 12), "b": (4, 4), "c.w": (5, 24)}
OUTSIDE: Shapes = {"embedding.weight": (9, 11), "head.weight": (5, 11)}


def with_outside(asked: Any, sparsity: float, steps: int = 40) -> Training:
    return Training(asked, sparsity, SHAPES | OUTSIDE, steps, outside=frozenset(OUTSIDE))


@given(
    st.sampled_from(["masked", "straight-through", "dynamic"]),
    st.sampled_from(GRIDS),
    st.sampled_from(SCORES),
    st.sampled_from([each for each in ALLOCATIONS if "exclude" not in each]),
    st.sampled_from([*MONOTONE, CYCLIC]),
    st.floats(0.05, 0.9),
)
@settings(deadline=None, max_examples=40)
def test_embeddings_and_head_follow_a_sparsity_of_their_own(  # noqa: PLR0917
    method: str, pattern: Any, score: Any, allocation: Any, schedule: Any, sparsity: float
) -> None:
    """Whatever holds for the blocks: their masks are the same with and without, and the others' counts exact."""
    asked = regime(method, pattern=pattern, score=score, allocation=allocation, schedule=schedule)
    assume(can_be(asked, sparsity, SHAPES))
    training, alone = with_outside(asked, sparsity), Training(asked, sparsity, SHAPES, 40)
    for (step, _), _ in zip(training.changes(), alone.changes(), strict=True):
        share = balanced_sparsity(training.pruner.ramp.sparsity_after(step))
        found = zeros(training.masks)
        assert {name: found[name] for name in OUTSIDE} == {
            name: zeros_for(share, rows * columns) for name, (rows, columns) in OUTSIDE.items()
        }
        assert all(torch.equal(mask, training.masks[name]) for name, mask in alone.masks.items())


@dataclass(frozen=True)
class Smallest:
    """A plug-in's score that wants inputs, and keeps what magnitude would drop."""

    version: int = 1
    needs: frozenset[Need] = frozenset({"inputs"})
    batches: int = 1

    def score(self, seen: Observation) -> torch.Tensor:
        assert seen.inputs is not None
        return 1 / (1 + seen.weight.abs() * (1 + seen.inputs))


@pytest.mark.parametrize("kind", ["wanda", "plug-in"])
def test_a_score_that_reads_inputs_is_magnitude_outside_the_blocks(kind: str) -> None:
    training = with_outside(regime(score={"kind": "wanda"}, schedule={"kind": "one-shot"}), 0.75)
    if kind == "plug-in":
        vars(training.pruner)["_score"] = Smallest()
    before = {name: weight.abs() for name, weight in training.weights.items()}
    inputs = {name: training.chance(0, name, "inputs").abs().amax(0) for name in SHAPES}  # tables are not observed
    (change,) = training.pruner.ramp.changes
    training.pruner.update(change, training.weights, WeightStatistics(inputs=inputs))
    for name, mask in training.masks.items():
        by_magnitude = bool(before[name][mask].min() > before[name][~mask].max())
        assert by_magnitude == (name in OUTSIDE)


def test_a_head_that_starts_at_zero_loses_weights_of_every_class() -> None:
    """Nothing tells its weights apart, and ties go by index: that would be whole classes."""
    training = with_outside(regime(schedule={"kind": "static"}), 0.75)
    training.weights["head.weight"].zero_()
    training.update(0)
    head = training.masks["head.weight"]
    assert int((~head).sum()) == zeros_for(0.5, head.numel())
    assert bool(head.any(1).all())
    assert not bool(head.all(1).any())
