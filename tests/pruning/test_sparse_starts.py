"""A run that begins with sparse weights begins there: zeros stay, schedules climb from what they find."""

from __future__ import annotations

from itertools import pairwise
from math import nextafter, prod
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from regime_cases import ALLOCATIONS, CYCLIC, GRIDS, MONOTONE, SCORES, Shapes, Training, can_be, regime, shapes, zeros
from torch import Tensor

from sparsity_lab.pruning.allocation import Shares, zeros_for
from sparsity_lab.pruning.patterns import fits, live_units
from sparsity_lab.pruning.schedules import lay_out
from sparsity_lab.specs.regimes.patterns import Block, NofM, Unstructured, unit_size

grids, scores, allocations = st.sampled_from(GRIDS), st.sampled_from(SCORES), st.sampled_from(ALLOCATIONS)
monotone = st.sampled_from(MONOTONE)
levels = st.floats(0.05, 0.9)
enough = settings(deadline=None, max_examples=60)


def start(shapes: Shapes, rates: tuple[float, float, float], seed: int) -> dict[str, Tensor]:
    """Masks with so many zeros in each of three tensors, at random; never none and never all."""
    found = {}
    for (name, shape), rate in zip(shapes.items(), rates, strict=True):
        draw = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
        count = min(max(1, zeros_for(rate, prod(shape))), prod(shape) - 1)
        found[name] = torch.ones(prod(shape), dtype=torch.bool).index_fill_(0, draw.flatten().argsort()[:count], False)
        found[name] = found[name].view(shape)
    return found


rates = st.tuples(levels, levels, levels)
Rates = tuple[float, float, float]


def shrink(training: Training) -> list[float]:
    """Train to the end; the sparsity after every change. No zero ever comes back."""
    seen = [training.found()]
    for _, before in training.changes():
        assert not any((training.masks[name] & ~old).any() for name, old in before.items())
        seen.append(training.found())
    return seen


@given(st.sampled_from(["tensor", "row"]), scores, allocations, monotone, levels, shapes(), rates, st.integers(0, 99))
@enough
def test_masks_only_shrink_and_end_on_what_was_asked(  # noqa: PLR0917
    within: str, score: Any, allocation: Any, schedule: Any, sparsity: float, shapes: Shapes, rates: Rates, seed: int
) -> None:
    pattern = {"kind": "unstructured", "within": within}
    asked = regime(pattern=pattern, score=score, allocation=allocation, schedule=schedule)
    assume(can_be(asked, sparsity, shapes))
    training = Training(asked, sparsity, shapes, 40, seed, start=start(shapes, rates, seed))
    total, first = sum(map(prod, shapes.values())), training.found()
    seen = shrink(training)
    assert seen == sorted(seen)
    assert seen[0] == first
    floors = start(shapes, rates, seed)
    names = training.pruner.shares.rates
    reach = sum(prod(shapes[name]) if names[name] else int((~floors[name]).sum()) for name in shapes)
    expected = max(zeros_for(sparsity, total), zeros_for(first, total))
    assert reach >= expected
    rounding = 0 if asked.allocation.kind in {"global", "erdos-renyi-kernel", "layers"} else len(shapes)
    assert abs(sum(zeros(training.masks).values()) - expected) <= rounding


@given(grids, scores, allocations, monotone, levels, shapes(), rates, st.integers(0, 99))
@enough
def test_old_zeros_stay_under_every_pattern(  # noqa: PLR0917
    pattern: Any, score: Any, allocation: Any, schedule: Any, sparsity: float, shapes: Shapes, rates: Rates, seed: int
) -> None:
    asked = regime(pattern=pattern, score=score, allocation=allocation, schedule=schedule)
    assume(can_be(asked, sparsity, shapes))
    old = start(shapes, rates, seed)
    training = Training(asked, sparsity, shapes, 40, seed, start=old)
    seen = shrink(training)
    assert seen[-1] >= max(seen[0], 0)
    assert not any((training.masks[name] & ~kept).any() for name, kept in old.items())
    for name, mask in training.masks.items():  # what the run itself pruned lies in whole units
        if training.pruner.shares.rates[name]:
            live = live_units(training.regime.pattern, mask)
            expected = live_units(training.regime.pattern, old[name])
            assert int((mask & ~old[name]).sum()) == 0
            assert bool((live <= expected).all())


@given(scores, monotone, levels, shapes(), st.integers(0, 99))
@enough
def test_rows_that_are_empty_do_not_empty_the_others(
    score: Any, schedule: Any, sparsity: float, shapes: Shapes, seed: int
) -> None:
    asked = regime(pattern={"kind": "unstructured", "within": "row"}, score=score, schedule=schedule)
    assume(can_be(asked, sparsity, shapes))
    rows = {name: (torch.arange(height) % 2).bool()[:, None] for name, (height, _) in shapes.items()}
    old = {name: rows[name].expand(shape).clone() for name, shape in shapes.items()}
    training = Training(asked, sparsity, shapes, 40, seed, start=old)
    shrink(training)
    for name, (height, width) in shapes.items():
        expected = max(height // 2 * width, zeros_for(sparsity, height * width))
        assert abs(zeros(training.masks)[name] - expected) <= len(shapes)
        live = (~training.masks[name][1::2]).sum(1)
        assert int(live.max() - live.min()) <= 1, "those with weights give up as much as one another"


@given(st.sampled_from([(1, 4), (2, 4), (4, 8), (3, 4)]), scores, monotone, shapes(), rates, st.integers(0, 99))
@enough
def test_an_n_m_pattern_is_reached_over_old_zeros(  # noqa: PLR0917
    pair: tuple[int, int], score: Any, schedule: Any, shapes: Shapes, rates: Rates, seed: int
) -> None:
    n, m = pair
    asked = regime(pattern={"kind": "n:m", "n": n, "m": m}, score=score, schedule=schedule)
    sparsity = 1 - n / m
    assume(can_be(asked, sparsity, shapes))
    old = start(shapes, rates, seed)
    training = Training(asked, sparsity, shapes, 40, seed, start=old)
    shrink(training)
    for name, mask in training.masks.items():
        groups = mask.view(-1, m).sum(1)
        assert int(groups.max()) <= n, "no group keeps more"
        assert torch.equal(groups, old[name].view(-1, m).sum(1).clamp(max=n)), "and none loses more than it must"


@given(
    st.sampled_from(GRIDS[:4]),
    allocations,
    st.sampled_from(["gradient", "random"]),
    levels,
    shapes(),
    rates,
    st.integers(0, 99),
    st.booleans(),
)
@enough
def test_a_dynamic_regime_takes_what_was_asked(  # noqa: PLR0917
    pattern: Any, allocation: Any, grow: str, sparsity: float, shapes: Shapes, rates: Rates, seed: int, gradual: bool
) -> None:
    schedule = MONOTONE[0] if gradual else {"kind": "static"}
    refresh = {"every": 3, "minimum_updates": 2, "until": 0.9}
    asked = regime("dynamic", pattern=pattern, allocation=allocation, grow=grow, schedule=schedule, refresh=refresh)
    assume(can_be(asked, sparsity, shapes))
    old = start(shapes, rates, seed)
    training = Training(asked, sparsity, shapes, 40, seed, start=old)
    for step, before in training.changes():
        assert step or before.keys()
    shares = training.pruner.shares
    left_out = {name: int((~old[name]).sum()) for name, rate in shares.rates.items() if not rate}
    assert {name: zeros(training.masks)[name] for name in left_out} == left_out, "excluded tensors stay as they were"
    units = max(unit_size(training.regime.pattern, shape) for shape in shapes.values())
    expected = max(zeros_for(sparsity, sum(map(prod, shapes.values()))), sum(left_out.values()))
    assert abs(sum(zeros(training.masks).values()) - expected) <= units * len(shapes)


@given(scores, levels, shapes(), rates, st.integers(0, 99), st.booleans())
@enough
def test_straight_through_and_cyclic_end_on_what_was_asked(  # noqa: PLR0917
    score: Any, sparsity: float, shapes: Shapes, rates: Rates, seed: int, cyclic: bool
) -> None:
    asked = regime("masked" if cyclic else "straight-through", score=score, schedule=CYCLIC if cyclic else MONOTONE[0])
    training = Training(asked, sparsity, shapes, 60, seed, start=start(shapes, rates, seed))
    first = training.found()
    for step, before in training.changes():
        assert step > 0
        assert before.keys() == shapes.keys()
        if step == training.pruner.ramp.updates[0]:
            kept = sum(int(mask.sum()) for mask in before.values())
            assert kept == round((1 - first) * sum(map(prod, shapes.values()))), (
                "until the first update nothing changes"
            )
    assert training.found() == pytest.approx(sparsity, abs=3 / sum(map(prod, shapes.values())))


@example({"kind": "cubic", "every": 7, "minimum_updates": 5}, 0.05, nextafter(0.05, 1), 2)  # a last bit apart
@given(monotone, st.floats(0.05, 0.95), st.floats(0.05, 0.95), st.integers(1, 200))
def test_a_schedule_begins_at_the_sparsity_that_it_finds(schedule: Any, found: float, asked: float, steps: int) -> None:
    ramp = lay_out(regime(schedule=schedule), asked, steps, found)
    levels = [ramp.sparsity_after(step) for step in range(-1, steps + 1)]
    assert levels[0] == found
    assert levels == sorted(levels)
    assert levels[-1] == max(found, asked)
    fresh = lay_out(regime(schedule=schedule), asked, steps)
    assert (ramp.updates, ramp.refreshes) == (fresh.updates, fresh.refreshes)
    mean = sum(ramp.sparsity_after(step) for step in range(steps)) / steps
    assert ramp.mean_density == pytest.approx(1 - mean)
    if asked > found and schedule["kind"] != "one-shot":
        of_fresh = [found + (asked - found) * level / asked for level in fresh.levels]
        if schedule["kind"] in {"cubic", "linear", "static"}:
            assert list(ramp.levels) == pytest.approx(of_fresh, rel=0, abs=1e-12)


def test_the_steps_of_a_geometric_schedule_from_a_sparse_start() -> None:
    ramp = lay_out(regime(schedule={"kind": "geometric", "start": 0.0, "end": 1.0, "every": 1}), 0.9, 10, 0.2)
    density = [0.8, *(1 - level for level in ramp.levels)]
    ratios = [late / early for early, late in pairwise(density)]
    assert ratios == pytest.approx([(0.1 / 0.8) ** 0.1] * 10)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.data(), levels)
def test_floors_hold_and_the_rest_gives_up_less(sizes: list[int], data: st.DataObject, level: float) -> None:
    named = {str(number): size for number, size in enumerate(sizes)}
    floors = {name: data.draw(st.integers(0, size)) for name, size in named.items()}
    shares = Shares(1.0, named, dict.fromkeys(named, 1), dict.fromkeys(named, 1.0))
    counts, higher = shares.above(level, floors), shares.above(min(1.0, level + 0.05), floors)
    assert all(floors[name] <= counts[name] <= higher[name] <= named[name] for name in named)
    total = zeros_for(level, sum(sizes))
    if sum(floors.values()) >= total:
        assert counts == floors
    else:
        assert abs(sum(counts.values()) - total) <= len(sizes)
    again = shares.above(level, counts)
    assert again == counts, "chosen once more, nothing changes"


@pytest.mark.parametrize(
    ("pattern", "rows", "expected"),
    [
        (NofM(kind="n:m", n=2, m=4), [[1, 1, 0, 0]], True),
        (NofM(kind="n:m", n=2, m=4), [[1, 1, 1, 0]], True),
        (NofM(kind="n:m", n=2, m=4), [[1, 0, 0, 0]], False),
        (Block(kind="block", height=1, width=2), [[1, 1, 0, 0]], True),
        (Block(kind="block", height=1, width=2), [[1, 0, 0, 0]], False),
        (Unstructured(), [[1, 0, 0, 1]], True),
        (Unstructured(within="row"), [[1, 0, 1, 1], [1, 1, 1, 1]], True),
        (Unstructured(within="row"), [[1, 0, 0, 1], [1, 1, 1, 1]], False),
    ],
)
def test_zeros_off_the_pattern_are_seen(pattern: Any, rows: list[list[int]], expected: bool) -> None:
    assert fits(pattern, torch.tensor(rows, dtype=torch.bool), 2) is expected
