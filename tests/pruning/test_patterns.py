from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from regime_cases import GRIDS, scores, stable_sort_mask
from torch import Tensor

from sparsity_lab.pruning.masks import keep_largest
from sparsity_lab.pruning.patterns import choose, drop_and_grow, group_winners, pool, spread_, unit_mask
from sparsity_lab.specs.regimes.patterns import NofM, Pattern, Unstructured, unit_shape

PATTERNS: TypeAdapter[Any] = TypeAdapter(Pattern)


def random_scores(rows: int, columns: int, seed: int) -> Tensor:
    return torch.rand((rows, columns), generator=torch.Generator().manual_seed(seed))


@given(scores(), st.data())
def test_without_a_pattern_the_count_is_all_that_is_asked(score: Tensor, data: st.DataObject) -> None:
    zeros = data.draw(st.integers(0, score.numel()))
    mask = choose(Unstructured(), score, zeros)
    assert torch.equal(mask, stable_sort_mask(score, score.numel() - zeros))


@given(scores(), st.data())
def test_within_rows_every_row_gives_up_as_much_as_the_others(score: Tensor, data: st.DataObject) -> None:
    zeros = data.draw(st.integers(0, score.numel()))
    each, more = divmod(zeros, len(score))
    mask = choose(Unstructured(within="row"), score, zeros)
    for number, (row, kept) in enumerate(zip(score, mask, strict=True)):
        assert torch.equal(kept, stable_sort_mask(row, len(row) - each - (number < more)))


@st.composite
def grouped(draw: st.DrawFn) -> tuple[NofM, Tensor]:
    m = draw(st.integers(2, 5) | st.sampled_from([8, 16, 17]))
    return NofM(kind="n:m", n=draw(st.integers(1, m - 1)), m=m), draw(scores(multiple=m))


@given(grouped())
def test_each_group_has_n_winners(case: tuple[NofM, Tensor]) -> None:
    pattern, score = case
    assert pattern.n is not None
    winners = group_winners(score, pattern.n, pattern.m).view(-1, pattern.m)
    groups = score.view(-1, pattern.m)
    for group, won in zip(groups, winners, strict=True):
        assert torch.equal(won, stable_sort_mask(group, pattern.n))


@given(grouped(), st.data())
def test_on_the_way_to_groups_counts_are_exact_and_losers_go_first(
    case: tuple[NofM, Tensor], data: st.DataObject
) -> None:
    """The definition: in one ranking every group's winners stand above all losers."""
    pattern, score = case
    assert pattern.n is not None
    losers = score.numel() // pattern.m * (pattern.m - pattern.n)
    zeros = data.draw(st.integers(0, losers))
    won = group_winners(score, pattern.n, pattern.m).flatten()
    order = sorted(range(score.numel()), key=lambda index: (not won[index], -float(score.flatten()[index])))
    expected = torch.zeros(score.numel(), dtype=torch.bool)
    expected[order[: score.numel() - zeros]] = True
    assert torch.equal(choose(pattern, score, zeros), expected.view(score.shape))


@given(grouped())
def test_the_ramp_ends_on_the_groups(case: tuple[NofM, Tensor]) -> None:
    pattern, score = case
    assert pattern.n is not None
    mask = choose(pattern, score, score.numel() // pattern.m * (pattern.m - pattern.n))
    assert (mask.view(-1, pattern.m).sum(1) == pattern.n).all()


@pytest.mark.parametrize("fields", GRIDS, ids=lambda fields: "-".join(map(str, fields.values())))
@pytest.mark.parametrize("shape", [(4, 8), (8, 4), (12, 12)])
def test_units_are_pooled_chosen_and_spread_whole(fields: dict[str, Any], shape: tuple[int, int]) -> None:
    pattern = PATTERNS.validate_python(fields)
    height, width = unit_shape(pattern, shape)
    score = random_scores(*shape, seed=1)
    grid = pool(pattern, score)
    reduce = Tensor.amax if fields.get("pooling") == "max" else Tensor.mean
    for row in range(shape[0] // height):
        for column in range(shape[1] // width):
            block = score[row * height : (row + 1) * height, column * width : (column + 1) * width]
            assert torch.isclose(grid[row, column], reduce(block, (0, 1)))
    mask = torch.ones(shape, dtype=torch.bool)
    units = keep_largest(grid, grid.numel() // 2)
    spread_(pattern, units, mask)
    assert torch.equal(unit_mask(pattern, mask), units)
    assert torch.equal(mask, units.repeat_interleave(height, 0).repeat_interleave(width, 1))


@given(scores(), st.integers(0, 10**6), st.floats(0, 1))
def test_a_permutation_of_distinct_weights_permutes_the_mask(score: Tensor, seed: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    distinct = score.flatten() + torch.rand(score.numel(), generator=generator)
    order = torch.randperm(score.numel(), generator=generator)
    zeros = int(share * score.numel())
    shuffled = choose(Unstructured(), distinct[order].view(1, -1), zeros).flatten()
    assert torch.equal(shuffled, choose(Unstructured(), distinct.view(1, -1), zeros).flatten()[order])


@given(scores(), st.integers(0, 1000), st.floats(0, 1), st.data())
def test_the_lowest_are_dropped_and_others_grown(
    score: Tensor, seed: int, fraction: float, data: st.DataObject
) -> None:
    """Brute force, over one row of units."""
    size = score.numel()
    score = (score + 1).view(1, size)
    zeros = data.draw(st.integers(0, size))
    earlier = data.draw(st.integers(0, zeros))  # an update may come first
    growth = random_scores(1, size, seed)
    before = torch.ones(1, size, dtype=torch.bool)
    before[0, torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:earlier]] = False
    pruned = [index for index in range(size) if not before[0, index]]
    kept = [index for index in range(size) if before[0, index]]
    kept = sorted(kept, key=lambda index: -float(score[0, index]))[: size - zeros]
    moving = min(int(fraction * len(kept) + 0.5), len(pruned))
    grown = sorted(pruned, key=lambda index: -float(growth[0, index]))[:moving]
    found = drop_and_grow(score.clone(), growth.clone(), before, zeros, fraction)
    assert sorted(found.nonzero()[:, 1].tolist()) == sorted(kept[: len(kept) - moving] + grown)
    assert int((~found).sum()) == zeros
