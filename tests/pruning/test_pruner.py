from __future__ import annotations

from math import cos, pi, prod
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from regime_cases import (
    ALLOCATIONS,
    CYCLIC,
    GRIDS,
    MONOTONE,
    SCORES,
    Shapes,
    Training,
    can_be,
    regime,
    shapes,
    zeros,
)

from sparsity_lab.pruning.allocation import share_out, zeros_for
from sparsity_lab.pruning.patterns import unit_mask
from sparsity_lab.pruning.scores import Request, WeightStatistics
from sparsity_lab.specs.regimes.patterns import unit_size

SHAPES: Shapes = {"a": (8, 12), "b": (4, 4), "c.w": (5, 24)}

grids, scores, allocations = st.sampled_from(GRIDS), st.sampled_from(SCORES), st.sampled_from(ALLOCATIONS)
monotone = st.sampled_from(MONOTONE)
levels = st.floats(0.05, 0.9)
lengths = st.integers(1, 40)
slow_enough = settings(deadline=None, max_examples=50)


def expected_zeros(training: Training, level: float) -> dict[str, int]:
    """Of every tensor that does not compete with others."""
    return share_out(training.regime, training.sparsity, dict(sorted(training.shapes.items()))).at(level)


def check_counts(training: Training, step: int) -> None:
    """Exact counts, whole units."""
    level, found = training.pruner.ramp.sparsity_after(step), zeros(training.masks)
    pattern, total = training.regime.pattern, sum(map(prod, training.shapes.values()))
    units = {unit_size(pattern, shape) for shape in training.shapes.values()}
    if training.regime.allocation.kind != "global":
        assert found == expected_zeros(training, level)
    elif len(units) == 1:
        (unit,) = units
        assert sum(found.values()) == int(level * total / unit + 0.5) * unit
    else:
        assert abs(sum(found.values()) - level * total) <= max(units), "as near as the next channel"
    for mask in training.masks.values():
        units_kept = unit_mask(pattern, mask)
        assert int(units_kept.sum()) * unit_size(pattern, (mask.shape[0], mask.shape[1])) == int(mask.sum()), (
            "units are whole"
        )
        if getattr(pattern, "within", "") == "row":
            assert int(mask.sum(1).max() - mask.sum(1).min()) <= 1


@given(grids, scores, allocations, monotone, levels, shapes(), lengths, st.integers(0, 99))
@slow_enough
def test_masked_counts_are_exact_and_no_weight_comes_back(  # noqa: PLR0917
    pattern: Any, score: Any, allocation: Any, schedule: Any, sparsity: float, shapes: Shapes, steps: int, seed: int
) -> None:
    asked = regime(pattern=pattern, score=score, allocation=allocation, schedule=schedule)
    assume(can_be(asked, sparsity, shapes))
    training = Training(asked, sparsity, shapes, steps, seed)
    changes = 0
    for step, before in training.changes():
        check_counts(training, step)
        assert not any((mask & ~before[name]).any() for name, mask in training.masks.items()), "one came back"
        changes += 1
    assert changes == len(training.pruner.ramp.updates)
    assert training.pruner.ramp.sparsity_after(steps) == sparsity


@given(st.sampled_from([(2, 4), (1, 4), (4, 8), (2, 8), (1, 8), (1, 2), (3, 4)]), scores, monotone, lengths)
@slow_enough
def test_groups_are_exact_at_the_end_and_counts_on_the_way(
    groups: tuple[int, int], score: Any, schedule: Any, steps: int
) -> None:
    n, m = groups
    asked = regime(pattern={"kind": "n:m", "m": m}, score=score, schedule=schedule)
    training = Training(asked, 1 - n / m, {"a": (4, 8), "b": (3, 16), "c.w": (8, 24)}, steps)
    for step, before in training.changes():
        level = training.pruner.ramp.sparsity_after(step)
        assert zeros(training.masks) == {name: zeros_for(level, mask.numel()) for name, mask in training.masks.items()}
        assert not any((mask & ~before[name]).any() for name, mask in training.masks.items())
    assert all((mask.view(-1, m).sum(1) == n).all() for mask in training.masks.values())


@given(grids, scores, allocations, st.sampled_from([*MONOTONE, CYCLIC]), levels, shapes(), lengths)
@slow_enough
def test_straight_through_counts_are_exact_and_the_best_weights_win_whatever_was_before(  # noqa: PLR0917
    pattern: Any, score: Any, allocation: Any, schedule: Any, sparsity: float, shapes: Shapes, steps: int
) -> None:
    refresh = {"every": 3, "until": 1.0}
    fields = {"pattern": pattern, "score": score, "allocation": allocation, "schedule": schedule, "refresh": refresh}
    asked = regime("straight-through", **fields)
    assume(can_be(asked, sparsity, shapes))
    training = Training(asked, sparsity, shapes, steps)
    for step, _ in training.changes():
        check_counts(training, step)
        chosen = training.copy()
        for mask in training.masks.values():
            mask.fill_(value=True)
        training.update(step)
        assert all(torch.equal(mask, chosen[name]) for name, mask in training.masks.items()), "history must not matter"


def test_the_dense_phases_of_a_cycle_let_every_weight_come_back() -> None:
    training = Training(regime(schedule=CYCLIC), 0.75, SHAPES, 60)
    found = [sum(zeros(training.masks).values()) for _ in training.changes()]
    total = zeros_for(0.75, 96) + zeros_for(0.75, 16) + zeros_for(0.75, 120)
    assert found == [total, 0, total, 0, total]


dynamic_schedules = st.sampled_from([MONOTONE[0], MONOTONE[3], MONOTONE[4]])


@given(
    grids, scores, allocations, dynamic_schedules, levels, shapes(), lengths, st.sampled_from(["gradient", "random"])
)
@slow_enough
def test_dynamic_regimes_keep_the_count_and_grow_nothing_that_they_drop(  # noqa: PLR0917
    pattern: Any, score: Any, allocation: Any, schedule: Any, sparsity: float, shapes: Shapes, steps: int, grow: str
) -> None:
    refresh = {"every": 2, "minimum_updates": 4, "until": 0.9}
    fields = {"pattern": pattern, "score": score, "allocation": allocation, "schedule": schedule, "refresh": refresh}
    asked = regime("dynamic", grow=grow, **fields)
    assume(can_be(asked, sparsity, shapes))
    training = Training(asked, sparsity, shapes, steps)
    unit = {name: unit_size(asked.pattern, shape) for name, shape in shapes.items()}
    for step, before in training.changes():
        check_counts(training, step)
        if step in training.pruner.ramp.updates:
            continue
        share = 0.15 * (1 + cos(pi * step / (0.9 * steps)))
        moved = {name: int((mask & ~before[name]).sum()) for name, mask in training.masks.items()}
        gone = {name: int((before[name] & ~mask).sum()) for name, mask in training.masks.items()}
        if asked.allocation.kind == "global":
            assert sum(moved.values()) == sum(gone.values())
            continue
        assert moved == gone
        if getattr(asked.pattern, "within", "") != "row":
            for name, mask in training.masks.items():
                kept = int(mask.sum()) // unit[name]
                free = mask.numel() // unit[name] - kept
                pruned = free if expected_zeros(training, sparsity)[name] else 0
                assert moved[name] == min(zeros_for(share, kept), pruned) * unit[name]


def test_rigl_grows_where_the_gradient_is_largest_and_drops_the_smallest() -> None:
    training = Training(regime("dynamic", refresh={"every": 10, "minimum_updates": 1}), 0.5, SHAPES, 100)
    for step, before in training.changes():
        if step == 0:
            continue
        gradient = {name: training.chance(step, name, "gradient").abs() for name in SHAPES}
        for name, mask in training.masks.items():
            grown, free = mask & ~before[name], ~mask & ~before[name]
            if grown.any() and free.any():
                assert gradient[name][grown].min() >= gradient[name][free].max()
    assert training.pruner.request(0) == Request()
    assert training.pruner.request(10) == Request(frozenset({"gradient"}))


def test_a_static_dynamic_regime_starts_at_random_or_by_its_score() -> None:
    by_score = Training(regime("dynamic", initial="score"), 0.5, SHAPES, 100)
    before = {name: weight.abs() for name, weight in by_score.weights.items()}
    by_score.update(0)
    at_random = Training(regime("dynamic", score={"kind": "fisher"}), 0.5, SHAPES, 100)
    assert at_random.pruner.request(0) == Request()
    at_random.update(0)
    for name, magnitude in before.items():
        assert magnitude[by_score.masks[name]].min() > magnitude[~by_score.masks[name]].max()
        assert not torch.equal(by_score.masks[name], at_random.masks[name])


def test_globally_the_smallest_of_all_tensors_go() -> None:
    training = Training(regime(allocation={"kind": "global"}, schedule={"kind": "one-shot"}), 0.6, SHAPES, 10)
    weights = torch.cat([weight.abs().flatten() for weight in training.weights.values()])
    training.update(5)
    kept = torch.cat([mask.flatten() for mask in training.masks.values()])
    assert int((~kept).sum()) == zeros_for(0.6, kept.numel())
    assert weights[~kept].max() < weights[kept].min()


@pytest.mark.parametrize("score", ["magnitude", "saliency"])
def test_scores_by_their_norm_do_not_ask_how_large_a_tensor_is(score: str) -> None:
    def masks(scale: float, normalize: str) -> dict[str, torch.Tensor]:
        asked = regime(
            score={"kind": score},
            allocation={"kind": "global", "normalize": normalize},
            schedule={"kind": "one-shot"},
        )
        training = Training(asked, 0.6, SHAPES, 10)
        next(iter(training.weights.values())).mul_(scale)
        training.update(5)
        assert sum(int((~mask).sum()) for mask in training.masks.values()) == zeros_for(
            0.6, sum(mask.numel() for mask in training.masks.values())
        )
        return dict(training.masks)

    plain, large = (masks(scale, "l2") for scale in (1.0, 1024.0))
    assert all(torch.equal(mask, large[name]) for name, mask in plain.items())
    plain, large = (masks(scale, "none") for scale in (1.0, 1024.0))
    assert not all(torch.equal(mask, large[name]) for name, mask in plain.items())


@given(st.sampled_from(SCORES), st.sampled_from(["masked", "dynamic"]), st.sampled_from(ALLOCATIONS), st.randoms())
@settings(deadline=None, max_examples=20)
def test_neither_the_order_of_tensors_nor_another_pruner_changes_a_mask(
    score: Any, method: str, allocation: Any, random: Any
) -> None:
    asked = regime(method, score=score, allocation=allocation)
    shapes = dict.fromkeys(("a", "b", "c.w"), (8, 12))  # equal shapes, so that ties are real
    names = list(shapes)
    random.shuffle(names)
    one, other = (Training(asked, 0.5, given, 30) for given in (shapes, {name: shapes[name] for name in names}))
    for training in (one, other):
        for weight in training.weights.values():
            weight.round_()
        for _ in training.changes():
            pass
    assert all(torch.equal(mask, other.masks[name]) for name, mask in one.masks.items())


def test_masks_are_written_in_place_and_weights_left_alone() -> None:
    training = Training(regime(), 0.5, SHAPES, 10)
    views = {name: mask.view(-1) for name, mask in training.masks.items()}
    before = {name: weight.clone() for name, weight in training.weights.items()}
    training.pruner.update(10, training.weights, WeightStatistics())
    assert not any(view.all() for view in views.values())
    assert all(torch.equal(weight, before[name]) for name, weight in training.weights.items())


@pytest.mark.parametrize("score", SCORES, ids=lambda fields: str(fields["kind"]))
@pytest.mark.parametrize("method", ["masked", "straight-through", "dynamic"])
def test_evidence_is_asked_for_where_it_is_used(score: dict[str, Any], method: str) -> None:
    """Updates are given what they ask for and nothing else; without it a score that needs it could not be computed."""
    needs = {"saliency": {"gradient"}, "fisher": {"fisher"}, "wanda": {"inputs"}}.get(score["kind"], set())
    training = Training(regime(method, score=score, schedule={"kind": "one-shot"}), 0.5, SHAPES, 20)
    assert (12 in training.pruner.ramp.refreshes) == (method != "masked")
    assert training.pruner.request(10).needs == needs
    assert training.pruner.request(12).needs == needs | ({"gradient"} if method == "dynamic" else set())
    for step, _ in training.changes():
        check_counts(training, step)


@pytest.mark.parametrize("pattern", [{"kind": "unstructured"}, {"kind": "n:m", "n": 2, "m": 4}])
@pytest.mark.parametrize("damage", [float("nan"), float("inf")])
@pytest.mark.parametrize("method", ["masked", "straight-through"])
def test_broken_weights_are_left_for_training_to_report(pattern: Any, damage: float, method: str) -> None:
    """A run whose weights are no numbers has diverged, which its loss tells: pruning must not fail before."""
    training = Training(regime(method, pattern=pattern), 0.5, SHAPES, 40)
    for weight in training.weights.values():
        weight[0] = damage
    for step in training.pruner.ramp.changes:
        training.update(step)
    assert not any(bool(weight.isfinite().all()) for weight in training.weights.values()), "damage must stay visible"
