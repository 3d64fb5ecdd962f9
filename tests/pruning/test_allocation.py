from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from math import prod
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from regime_cases import ALLOCATIONS, GRIDS, Shapes, Training, can_be, regime, zeros

from sparsity_lab.pruning.allocation import (
    apportion,
    balanced_sparsity,
    final_zeros,
    kernel_densities,
    share_out,
    zeros_for,
)

sparsities = st.floats(0.001, 0.999)


@st.composite
def shapes(draw: st.DrawFn) -> Shapes:
    side = st.integers(1, 40)
    return {f"t{number}": (draw(side), draw(side)) for number in range(draw(st.integers(1, 8)))}


def sizes_of(shapes: Shapes) -> dict[str, int]:
    return {name: prod(shape) for name, shape in shapes.items()}


def zeros_at(allocation: dict[str, Any], sparsity: float, shapes: Shapes, level: float | None = None) -> dict[str, int]:
    shares = share_out(regime(allocation=allocation), sparsity, shapes)
    return shares.at(sparsity if level is None else level)


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 10**9))
def test_zeros_are_the_nearest_whole_number(sparsity: float, size: int) -> None:
    zeros = zeros_for(sparsity, size)
    assert 0 <= zeros <= size
    assert abs(zeros - sparsity * size) <= 0.5 + 1e-6


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (4, 8), (1, 3), (2, 3), (3, 7), (1, 5)])
def test_the_sparsity_of_a_pattern_means_whole_groups(n: int, m: int) -> None:
    for groups in (1, 2, 3, 1000, 999_999):
        assert zeros_for(1 - n / m, groups * m) == groups * (m - n)


@given(shapes(), sparsities, sparsities)
def test_uniform_gives_every_tensor_the_same_sparsity(shapes: Shapes, one: float, other: float) -> None:
    low, high = sorted((one, other))
    at_low = zeros_at({"kind": "uniform"}, high, shapes, low)
    assert at_low == {name: int(low * size + 0.5) for name, size in sizes_of(shapes).items()}
    assert all(at_low[name] <= zeros for name, zeros in zeros_at({"kind": "uniform"}, high, shapes).items())


@given(shapes(), sparsities)
def test_what_excluded_tensors_keep_the_others_give_up(shapes: Shapes, sparsity: float) -> None:
    shapes = shapes | {"head": (4, 4)}
    total, head = sum(sizes_of(shapes).values()), 16
    assume(sparsity * total / (total - head) < 1)
    zeros = zeros_at({"kind": "uniform", "exclude": ["head"]}, sparsity, shapes)
    assert zeros.pop("head") == 0
    assert abs(sum(zeros.values()) - sparsity * total) <= len(zeros) / 2 + 1e-6
    densities = [zeros[name] / size for name, size in sizes_of(shapes).items() if name in zeros and size > 100]
    assert not densities or max(densities) - min(densities) <= 0.01


@given(shapes(), st.floats(0, 1))
def test_kernel_densities_are_proportional_where_they_are_not_clamped(shapes: Shapes, share: float) -> None:
    total = sum(sizes_of(shapes).values())
    densities = kernel_densities(shapes, share * total)
    assert all(0 <= density <= 1 for density in densities.values())
    assert sum(densities[name] * size for name, size in sizes_of(shapes).items()) == pytest.approx(share * total)
    raw = {name: sum(shape) / prod(shape) for name, shape in shapes.items()}
    factors = [densities[name] / raw[name] for name in shapes if densities[name] < 1 - 1e-12]
    assert all(factor == pytest.approx(factors[0]) for factor in factors)
    assert all(raw[name] * factors[0] >= 1 - 1e-9 for name in shapes if factors and densities[name] >= 1 - 1e-12), (
        "only tensors that would exceed 1 are clamped"
    )


@given(shapes(), sparsities, st.floats(0, 1), st.randoms(use_true_random=False))
def test_totals_are_exact_and_do_not_depend_on_the_order_of_tensors(
    shapes: Shapes, sparsity: float, part: float, random: Any
) -> None:
    kernel = {"kind": "erdos-renyi-kernel"}
    total = sum(sizes_of(shapes).values())
    zeros = zeros_at(kernel, sparsity, shapes)
    assert sum(zeros.values()) == zeros_for(sparsity, total)
    assert all(0 <= zeros[name] <= size for name, size in sizes_of(shapes).items())
    names = list(shapes)
    random.shuffle(names)
    assert zeros_at(kernel, sparsity, {name: shapes[name] for name in names}) == zeros
    level = part * sparsity
    assert sum(zeros_at(kernel, sparsity, shapes, level).values()) == zeros_for(level, total)


@given(shapes(), st.floats(0.05, 0.95), st.floats(0, 1))
def test_named_tensors_get_their_sparsity_and_the_rest_shares_what_is_left(
    shapes: Shapes, sparsity: float, named: float
) -> None:
    shapes = shapes | {"head": (6, 5)}
    total = sum(sizes_of(shapes).values())
    rest = (sparsity * total - named * 30) / (total - 30)
    assume(0 <= rest < 1 and named < 1)
    zeros = zeros_at({"kind": "layers", "sparsity": {"h*": named}}, sparsity, shapes)
    assert sum(zeros.values()) == zeros_for(sparsity, total)
    assert abs(zeros.pop("head") - named * 30) <= 1
    assert all(abs(zeros[name] - rest * prod(shapes[name])) <= 1 for name in zeros)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_a_growing_total_takes_from_nobody_and_ends_exactly(ends: list[int]) -> None:
    """Against the definition: the k-th zero of a tensor with end w comes at time (2k - 1) / w, ties by index."""
    queue = sorted((Fraction(2 * k - 1, end), index) for index, end in enumerate(ends) for k in range(1, end + 1))
    expected = [0] * len(ends)
    assert apportion(0, ends) == expected
    for total, (_, index) in enumerate(queue, start=1):
        expected[index] += 1
        assert apportion(total, ends) == expected
    assert expected == ends


@given(st.floats(0, 1, exclude_max=True))
def test_embeddings_track_the_dense_model_of_equal_size(sparsity: float) -> None:
    """N falls with the square of the width, an embedding with the width itself."""
    assert (1 - balanced_sparsity(sparsity)) ** 2 == pytest.approx(1 - sparsity)


@given(shapes(), sparsities, st.integers(1, 3), st.integers(1, 3))
def test_blocks_are_counted_whole(shapes: Shapes, sparsity: float, height: int, width: int) -> None:
    shapes = {name: (rows * height, columns * width) for name, (rows, columns) in shapes.items()}
    pattern = {"kind": "block", "height": height, "width": width}
    size = height * width
    shares = share_out(regime(pattern=pattern), sparsity, shapes)
    assert shares.at(sparsity) == {
        name: zeros_for(sparsity, prod(shape) // size) * size for name, shape in shapes.items()
    }
    assert abs(shares.together(sparsity) - sparsity * sum(map(prod, shapes.values()))) <= size / 2 + 1e-6
    assert shares.together(sparsity) % size == 0


@given(st.sampled_from(GRIDS), st.sampled_from(ALLOCATIONS), st.floats(0.1, 0.9))
@settings(deadline=None, max_examples=30)
def test_what_is_planned_is_what_the_pruner_makes(pattern: Any, allocation: Any, sparsity: float) -> None:
    shapes = {"a": (8, 12), "b": (12, 4), "c.w": (4, 24)}
    asked = regime(pattern=pattern, allocation=allocation, schedule={"kind": "one-shot", "at": 0.0})
    assume(can_be(asked, sparsity, shapes))
    assume(pattern["kind"] != "channel" or allocation["kind"] != "global")
    training = Training(asked, sparsity, shapes, 1)
    training.update(0)
    assert final_zeros(asked, sparsity, shapes) == sum(zeros(training.masks).values())


def test_planning_needs_no_torch() -> None:
    rooms = ", ".join(f"sparsity_lab.pruning.{room}" for room in ("allocation", "feasibility", "schedules"))
    code = f"import sys, {rooms}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
