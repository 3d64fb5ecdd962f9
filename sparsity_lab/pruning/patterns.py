"""Patterns: which sets of weights may be zero together.

Scores of weights are pooled to a grid of units, units are chosen with an exact count, and the choice is spread over
the mask. Units of one table are ranked together: a tensor, a row, or all tensors end to end.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Any, Protocol, assert_never, cast

import numpy as np
import torch
from torch import Tensor

from sparsity_lab.pruning.allocation import zeros_for
from sparsity_lab.pruning.masks import keep_largest_in_rows
from sparsity_lab.pruning.scores import mark_pruned_
from sparsity_lab.specs.regimes.patterns import Block, Channel, MatrixShape, NofM, Pattern, Unstructured, unit_shape
from sparsity_lab.specs.regimes.plugins import PATTERNS, Plugin

PAIRWISE_GROUPS = 16
"""largest m for which comparing all pairs of a group beats selecting in every group"""
CACHED = 1 << 16
"""scores whose groups are compared at a time"""


class PatternRule(Protocol):
    """What a pattern from outside is; `pruning.conformance.check_pattern` checks it."""

    @property
    def version(self) -> int:
        """Enters the identity of every run that uses it."""

    def nearest(self, zeros: int, shape: MatrixShape) -> int:
        """Number of zeros closest to `zeros` that a matrix (out, in) can have; never fewer for a larger `zeros`.

        Raises:
            ValueError: the pattern does not fit the shape; the message says why.
        """

    def choose(self, score: Tensor, zeros: int) -> Tensor:
        """Bool mask (out, in) with exactly `zeros` zeros, a count that `nearest` gave, from scores (out, in).

        Weights that are pruned already score below 0 and all others at least 0: with more zeros than before, none
        of the pruned may come back.
        """


def pool(pattern: Pattern, score: Tensor) -> Tensor:
    """Scores of units, a grid (out / height, in / width), from scores of weights (out, in)."""
    blocks = _blocks(pattern, score)
    match pattern:
        case Unstructured() | NofM() | Plugin():
            return score
        case Block(pooling="max") | Channel(pooling="max"):
            return blocks.amax((1, 3))
        case Block() | Channel():
            return blocks.mean((1, 3))
        case _:
            assert_never(pattern)


def unit_mask(pattern: Pattern, mask: Tensor) -> Tensor:
    """Which units are kept, a view of the grid, from a mask (out, in) whose units are whole."""
    return _blocks(pattern, mask)[:, 0, :, 0]


def live_units(pattern: Pattern, mask: Tensor) -> Tensor:
    """Which units keep any weight, a grid; of masks whose units are whole the same as `unit_mask`."""
    return _blocks(pattern, mask).any(3).any(1)


def pool_count(pattern: Pattern, mask: Tensor) -> Tensor:
    """How many weights each unit keeps, a grid of int64."""
    return _blocks(pattern, mask).sum((1, 3))


def fits(pattern: Pattern, kept: Tensor, zeros: int) -> bool:
    """Whether zeros (out, in) that were there before training lie as the pattern asks on the way to `zeros` of them.

    Of n:m no group has more zeros than m - n, of rows that are ranked each for itself none has more than its own, and
    units of blocks are zero as a whole or not at all.
    """
    match pattern:
        case NofM():
            assert pattern.n is not None
            return bool((kept.reshape(-1, pattern.m).sum(1) >= pattern.n).all())
        case Unstructured(within="row"):
            return int((~kept).sum(1).max()) <= math.ceil(zeros / len(kept))
        case Unstructured() | Block() | Channel():
            blocks = _blocks(pattern, kept)
            return bool((live_units(pattern, kept)[:, None, :, None] == blocks).all())
        case Plugin():
            return True
        case _:
            assert_never(pattern)


def spread_(pattern: Pattern, units: Tensor, mask: Tensor) -> None:
    """Write a choice of units, a grid, into a mask (out, in)."""
    blocks = _blocks(pattern, mask)
    blocks.copy_(units.view(blocks.shape[0], 1, blocks.shape[2], 1).expand_as(blocks))


def _blocks(pattern: Pattern, matrix: Tensor) -> Tensor:
    """View (out / height, height, in / width, width)."""
    rows, columns = matrix.shape
    height, width = unit_shape(pattern, (rows, columns))
    return matrix.view(rows // height, height, columns // width, width)


def choose(pattern: Pattern, score: Tensor, zeros: int) -> Tensor:
    """Mask of a grid of units with exactly `zeros` zeros that lies on the way to the pattern.

    Args:
        pattern: the pattern the schedule ends on.
        score: the grid, contiguous; n:m groups run along its second dimension.
        zeros: number of units to drop.
    """
    match pattern:
        case Unstructured() | Block() | Channel():
            return keep_in_table(table(pattern, score), zeros).view(score.shape)
        case NofM():
            return _towards_groups(pattern, score, zeros)
        case Plugin():
            return cast("PatternRule", pattern.load(PATTERNS)).choose(score, zeros)
        case _:
            assert_never(pattern)


def narrow(pattern: Pattern, score: Tensor, before: Tensor, zeros: int) -> Tensor:
    """As `choose`, with the zeros among them that were there before, however they lie.

    A row that is ranked for itself and has more zeros than its share stays as it is, and the others give up less.

    Args:
        pattern: as in `choose`.
        score: as in `choose`; those pruned before score lowest.
        before: which units were kept, a grid.
        zeros: number of units to drop, at least as many as were.
    """
    rows, columns = table(pattern, score).shape
    if rows == 1:
        return choose(pattern, score, zeros)
    floors = (~before).sum(1)
    level = bisect_right(range(columns + 1), zeros, key=lambda each: int(floors.clamp(min=each).sum())) - 1
    counts = floors.clamp(min=level)
    lowest = (floors <= level).nonzero().flatten()
    counts[lowest[: zeros - int(counts.sum())]] += 1
    mask = before.clone()
    for each in (level, level + 1):
        chosen = (counts == each) & (counts > floors)
        if chosen.any():
            mask[chosen] = keep_largest_in_rows(score[chosen], columns - each)
    return mask


def table(pattern: Pattern, grid: Tensor) -> Tensor:
    """The grid as rows that are ranked each for itself: its own where the pattern asks for it, else a single one."""
    if isinstance(pattern, Unstructured) and pattern.within == "row":
        return grid
    return grid.reshape(1, -1)


def keep_in_table(score: Tensor, zeros: int) -> Tensor:
    """Mask of a table with `zeros` zeros: as many in every row, and one more in the first rows where that is uneven."""
    parts = _even_parts(score.shape[0], zeros)
    return _stack([keep_largest_in_rows(score[rows], score.shape[1] - each) for rows, each in parts])


def drop_and_grow(score: Tensor, growth: Tensor, before: Tensor, zeros: int, fraction: float) -> Tensor:
    """Mask of a table with `zeros` zeros in which a share of the kept units has moved.

    The lowest scores go; of the units that were pruned before, those with the largest growth come. Nothing that was
    just dropped comes back.

    Args:
        score: (rows, columns), at least 0; changed in place.
        growth: like score; changed in place.
        before: which units were kept, at least as many as are to be kept now.
        zeros: as in `keep_in_table`.
        fraction: share of the kept units to move, where as many are pruned.
    """
    mark_pruned_(score, before)
    mark_pruned_(growth, ~before)
    parts = []
    for rows, each in _even_parts(score.shape[0], zeros):
        kept, free = score.shape[1] - each, int((~before[rows]).sum(1).min())
        moving = min(zeros_for(fraction, kept), free)
        stay = keep_largest_in_rows(score[rows], kept - moving)
        parts.append(stay | keep_largest_in_rows(growth[rows], moving))
    return _stack(parts)


def _even_parts(rows: int, zeros: int) -> list[tuple[slice, int]]:
    """Rows that give up the same number of units, and that number."""
    each, more = divmod(zeros, rows)
    parts = [(slice(0, more), each + 1), (slice(more, rows), each)]
    return [(part, count) for part, count in parts if part.stop > part.start]


def _stack(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _towards_groups(pattern: NofM, score: Tensor, zeros: int) -> Tensor:
    """The smallest losers of their groups go first: with all of them gone the mask is the pattern."""
    assert pattern.n is not None
    winners = group_winners(score, pattern.n, pattern.m)
    losers = score.numel() // pattern.m * (pattern.m - pattern.n)
    assert 0 <= zeros <= losers
    if zeros == losers:
        return winners
    safe = score.masked_fill(winners, math.inf).view(1, -1)
    return keep_largest_in_rows(safe, score.numel() - zeros).view(score.shape)


def group_winners(score: Tensor, n: int, m: int) -> Tensor:
    """Mask of the n largest of every m consecutive scores along the last dimension; ties by index."""
    groups = score.reshape(-1, m)
    if m > PAIRWISE_GROUPS:
        return keep_largest_in_rows(groups, n).view(score.shape)
    if not score.is_cpu:
        places = groups.t().contiguous()
        count: Tensor = _beaten_by(places, torch.zeros_like(places, dtype=torch.int8))
        return (count < n).t().reshape(score.shape)
    won = np.empty(groups.shape, dtype=np.bool_)  # numpy compares several times faster, in parts that fit the cache
    for start in range(0, len(groups), CACHED // m):
        part = np.ascontiguousarray(groups[start : start + CACHED // m].numpy().T)
        won[start : start + CACHED // m] = (_beaten_by(part, np.zeros(part.shape, dtype=np.int8)) < n).T
    return torch.from_numpy(won).view(score.shape)


def _beaten_by(places: Any, count: Any) -> Any:
    """How many of its group beat each score; the earlier of two equal ones wins.

    Args:
        places: (m, groups), an array or a tensor.
        count: zeros, int8, of the same shape and kind; changed in place.
    """
    for late in range(1, len(places)):
        wins = places[:late] >= places[late]
        count[late] += wins.sum(0, dtype=count.dtype)
        count[:late] += ~wins
    return count
