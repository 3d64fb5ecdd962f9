from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from regime_cases import scores, stable_sort_mask
from torch import Tensor

from sparsity_lab.pruning.masks import SAMPLE, keep_largest, keep_largest_in_rows, keep_nearest


@given(scores(), st.data())
def test_the_largest_are_kept_and_among_equals_the_first(score: Tensor, data: st.DataObject) -> None:
    keep = data.draw(st.integers(0, score.numel()))
    mask = keep_largest(score, keep)
    assert mask.dtype == torch.bool
    assert torch.equal(mask, stable_sort_mask(score, keep))


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40), st.data())
def test_any_numbers_even_infinite_are_ranked(values: list[float], data: st.DataObject) -> None:
    score = torch.tensor(values, dtype=torch.float32)
    keep = data.draw(st.integers(0, len(values)))
    assert torch.equal(keep_largest(score, keep), stable_sort_mask(score, keep))


def test_ranking_leaves_the_scores_alone() -> None:
    score = torch.tensor([[3.0, 1.0], [2.0, 1.0]])
    before = score.clone()
    keep_largest(score, 3)
    assert torch.equal(score, before)


@given(scores(), st.data())
def test_rows_are_ranked_each_for_itself(score: Tensor, data: st.DataObject) -> None:
    keep = data.draw(st.integers(0, score.shape[1]))
    expected = [stable_sort_mask(row, keep) for row in score]
    assert torch.equal(keep_largest_in_rows(score, keep), torch.stack(expected))


@given(
    st.integers(2 * SAMPLE, 12 * SAMPLE),
    st.sampled_from(["normal", "few values", "mostly pruned", "sorted", "all equal", "waves"]),
    st.floats(0, 1),
    st.integers(0, 100),
)
@settings(deadline=None, max_examples=60)
def test_many_values_are_ranked_as_a_stable_sort_does(size: int, kind: str, share: float, seed: int) -> None:
    """Selection looks at a sample first; where the sample misleads, the answer must be the same."""
    draw = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    score = {
        "normal": draw.abs(),
        "few values": (draw * 3).round(),
        "mostly pruned": torch.where(draw < 0.8, -1.0, draw),
        "sorted": draw.sort().values,
        "all equal": torch.zeros(size),
        "waves": torch.where(torch.arange(size) % (size // SAMPLE) == 0, 9.0, draw),  # the sample sees 9 alone
    }[kind]
    keep = int(share * size)
    expected = torch.zeros(size, dtype=torch.bool)
    expected[score.argsort(descending=True, stable=True)[:keep]] = True
    assert torch.equal(keep_largest(score, keep), expected)


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, math.nan, math.inf]), min_size=1, max_size=30), st.data())
def test_counts_stay_exact_where_some_scores_are_no_numbers(values: list[float], data: st.DataObject) -> None:
    score = torch.tensor(values)
    keep = data.draw(st.integers(0, len(values)))
    assert int(keep_largest(score, keep).sum()) == keep


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=12), st.data())
def test_units_of_unequal_size_come_as_near_as_whole_units_can(
    units: list[tuple[int, int]], data: st.DataObject
) -> None:
    score, sizes = (torch.tensor(column) for column in zip(*units, strict=True))
    asked = data.draw(st.integers(0, int(sizes.sum())))
    order = sorted(range(len(units)), key=lambda index: (int(score[index]), -index))
    counts = [int(sizes[order[:count]].sum()) for count in range(len(units) + 1)]
    nearest = max(range(len(counts)), key=lambda count: (-abs(counts[count] - asked), count))
    mask = keep_nearest(score.float(), sizes, asked)
    assert sorted((~mask).nonzero().flatten().tolist()) == sorted(order[:nearest])
