from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparsity_lab.pruning.masks import keep_largest
from sparsity_lab.pruning.patterns import choose, group_winners
from sparsity_lab.pruning.scores import PRUNED, magnitude
from sparsity_lab.specs.regimes import NofM, Unstructured


@st.composite
def scores(draw: st.DrawFn, multiple: int = 1) -> Tensor:
    """(rows, columns), from a few whole values, so that ties are common."""
    rows, groups = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    size = rows * groups * multiple
    values = draw(st.lists(st.integers(-1, 4), min_size=size, max_size=size))
    return torch.tensor(values, dtype=torch.float32).view(rows, groups * multiple)


def stable_sort_mask(score: Tensor, keep: int) -> Tensor:
    """The definition: the first `keep` of a stable descending sort."""
    order = sorted(range(score.numel()), key=lambda index: -float(score.flatten()[index]))
    mask = torch.zeros(score.numel(), dtype=torch.bool)
    mask[order[:keep]] = True
    return mask.view(score.shape)


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
def test_without_a_pattern_the_count_is_all_that_is_asked(score: Tensor, data: st.DataObject) -> None:
    zeros = data.draw(st.integers(0, score.numel()))
    mask = choose(Unstructured(), score, zeros)
    assert int((~mask).sum()) == zeros
    assert torch.equal(mask, stable_sort_mask(score, score.numel() - zeros))


@st.composite
def grouped(draw: st.DrawFn) -> tuple[NofM, Tensor]:
    m = draw(st.integers(2, 5))
    return NofM(kind="n:m", n=draw(st.integers(1, m - 1)), m=m), draw(scores(multiple=m))


@given(grouped())
def test_each_group_has_n_winners(case: tuple[NofM, Tensor]) -> None:
    pattern, score = case
    winners = group_winners(score, pattern.n, pattern.m).view(-1, pattern.m)
    groups = score.view(-1, pattern.m)
    for group, won in zip(groups, winners, strict=True):
        assert torch.equal(won, stable_sort_mask(group, pattern.n))


@given(grouped(), st.data())
def test_on_the_way_to_a_pattern_counts_are_exact_and_losers_go_first(
    case: tuple[NofM, Tensor], data: st.DataObject
) -> None:
    pattern, score = case
    losers = score.numel() // pattern.m * (pattern.m - pattern.n)
    zeros = data.draw(st.integers(0, losers))
    mask = choose(pattern, score, zeros)
    won = group_winners(score, pattern.n, pattern.m)
    assert int((~mask).sum()) == zeros
    assert bool(mask[won].all()), "no group loses a winner before the pattern is full"
    dropped, kept = score[~mask], score[mask & ~won]
    assert not (dropped.numel() and kept.numel()) or float(dropped.max()) <= float(kept.min()), "smallest losers first"


@given(grouped())
def test_the_ramp_ends_on_the_pattern(case: tuple[NofM, Tensor]) -> None:
    pattern, score = case
    losers = score.numel() // pattern.m * (pattern.m - pattern.n)
    mask = choose(pattern, score, losers)
    assert torch.equal(mask, group_winners(score, pattern.n, pattern.m))
    assert (mask.view(-1, pattern.m).sum(1) == pattern.n).all()


@given(scores(), st.data())
def test_the_score_is_the_magnitude_and_pruned_weights_rank_last(weight: Tensor, data: st.DataObject) -> None:
    bits = data.draw(st.lists(st.booleans(), min_size=weight.numel(), max_size=weight.numel()))
    mask = torch.tensor(bits).view(weight.shape)
    score = magnitude(weight * mask, mask)
    assert torch.equal(score[mask], weight[mask].abs())
    assert (score[~mask] == PRUNED).all()
    assert not mask.any() or float(score[mask].min()) > PRUNED
