"""Allocation: how a sparsity is shared out over the tensors. No torch: planning needs the same counts.

The asked sparsity is that of all prunable weights together: what excluded tensors keep, the others give up.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import partial
from typing import assert_never

from sparsity_lab.errors import SpecError
from sparsity_lab.specs.regimes.allocations import Allocation, ErdosRenyiKernel, Global, Layers, Uniform
from sparsity_lab.specs.regimes.patterns import MatrixShape, Pattern, unit_size
from sparsity_lab.specs.regimes.plugins import PATTERNS, Plugin
from sparsity_lab.specs.regimes.regime import SparseRegime

CLOSE = 1e-12
"""how closely, of the whole, the level is found at which tensors beside sparse ones end"""
TOLERANCE = 1e-6
"""how closely a map of all layers must give the asked sparsity"""


def zeros_for(sparsity: float, size: int) -> int:
    """How many of `size` weights are zero at `sparsity`: the nearest whole number, halves up."""
    return min(size, int(sparsity * size + 0.5))


def balanced_sparsity(sparsity: float) -> float:
    """1 - sqrt(1 - S), of embeddings and head: at equal N the width grows as 1 / sqrt(1 - S), and they with it.

    Their non-zero weights then track those of the dense model of equal N (Frantar et al. 2024: `embed_sparsity =
    'auto'` in bigsparse, for token embedding and logits layer).
    """
    return 1 - math.sqrt(1 - sparsity)


@dataclass(frozen=True)
class Shares:
    """Zeros of every tensor at any level on the way to the final sparsity: each follows the same schedule to its own.

    `rates[name]` is a tensor's final sparsity over that of the whole. Without `final`, every tensor rounds for
    itself to whole units; with it, the total is exact at every level.
    """

    sparsity: float
    sizes: Mapping[str, int]
    units: Mapping[str, int]
    """weights of one unit"""
    rates: Mapping[str, float]
    final: Mapping[str, int] | None = None
    nearest: Mapping[str, Callable[[int], int]] = field(default_factory=dict)
    """what a pattern from outside makes of a tensor's count"""

    def at(self, level: float) -> dict[str, int]:
        """Zeros of every tensor at `level`; never fewer at a higher level."""
        if self.final is None:
            counts = {name: self._own(name, level) for name in self.sizes}
        else:
            names, ends = list(self.final), list(self.final.values())
            total = zeros_for(level, sum(self.sizes.values()))
            counts = dict(zip(names, apportion(min(total, sum(ends)), ends), strict=True))
        return counts | {name: nearest(counts[name]) for name, nearest in self.nearest.items()}

    def above(self, level: float, floors: Mapping[str, int]) -> dict[str, int]:
        """Zeros of every tensor at `level` where some have zeros already that stay: none gets fewer than its floor.

        The others give up less, each as it would at one lower level, so that the total is that of `level` as nearly
        as whole units allow, or that of the floors where these are more.
        """

        def at(level: float) -> dict[str, int]:
            return {name: max(count, floors[name]) for name, count in self.at(level).items()}

        total = zeros_for(level, sum(self.sizes.values()))
        low, high = at(0.0), at(level)
        least, most = 0.0, level
        while sum(high.values()) > total and most - least > level * CLOSE:
            middle = (least + most) / 2
            counts = at(middle)
            if sum(counts.values()) > total:
                most, high = middle, counts
            else:
                least, low = middle, counts
        if sum(high.values()) <= total:
            return high
        for name in sorted(low):  # what is left over goes to the first tensors that take it
            if sum(low.values()) - low[name] + high[name] <= total:
                low[name] = high[name]
        return low

    def together(self, level: float) -> int:
        """Zeros of all tensors at `level`, to whole units where all tensors have equal ones."""
        sizes = {self.units[name] for name, rate in self.rates.items() if rate}
        unit = sizes.pop() if len(sizes) == 1 else 1
        return int(level * sum(self.sizes.values()) / unit + 0.5) * unit

    def _own(self, name: str, level: float) -> int:
        unit = self.units[name]
        return zeros_for(level * self.rates[name], self.sizes[name] // unit) * unit


def blocks_of(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Weights block by block, in order: a block is what shares a name up to its first number (`encoder.0`)."""
    blocks: dict[str, list[str]] = {}
    for name in names:
        parts = name.split(".")
        first = next((place for place, part in enumerate(parts) if part.isdigit()), len(parts))
        blocks.setdefault(".".join(parts[: first + 1]), []).append(name)
    return tuple(map(tuple, blocks.values()))


def share_out(regime: SparseRegime, sparsity: float, shapes: Mapping[str, MatrixShape]) -> Shares:
    """The shares of a regime that ends on `sparsity` > 0 over tensors of these shapes; a global one has equal rates.

    Raises:
        SpecError: a name pattern matches no tensor, or the tensors that may be pruned cannot give up that much.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    units = {name: unit_size(regime.pattern, shape) for name, shape in shapes.items()}
    included = included_tensors(regime.allocation, shapes)
    ends = _final_sparsities(regime.allocation, sparsity, shapes, included)
    _check_reach(ends, sparsity, sizes)
    nearest = _nearest(regime.pattern, {name: shapes[name] for name in ends})
    rates = {name: ends.get(name, 0.0) / sparsity for name in shapes}
    if isinstance(regime.allocation, Uniform | Global):
        share = sum(sizes.values()) / sum(sizes[name] for name in included)
        rates = {name: share if name in ends else 0.0 for name in shapes}
        return Shares(sparsity, sizes, units, rates, nearest=nearest)
    if any(unit > 1 for unit in units.values()):
        return Shares(sparsity, sizes, units, rates)
    final = _largest_remainder(ends, sizes, zeros_for(sparsity, sum(sizes.values())))
    return Shares(sparsity, sizes, units, rates, final, nearest)


def final_zeros(regime: SparseRegime, sparsity: float, shapes: Mapping[str, MatrixShape]) -> int:
    """Zeros of all tensors at the end of a run; channels under the global ranking come as near as they can."""
    shares = share_out(regime, sparsity, shapes)
    if isinstance(regime.allocation, Global):
        return shares.together(sparsity)
    return sum(shares.at(sparsity).values())


def _nearest(pattern: Pattern, shapes: Mapping[str, MatrixShape]) -> dict[str, Callable[[int], int]]:
    if not isinstance(pattern, Plugin):
        return {}
    rule = pattern.load(PATTERNS)
    return {name: partial(rule.nearest, shape=shape) for name, shape in shapes.items()}


def included_tensors(allocation: Allocation, shapes: Mapping[str, MatrixShape]) -> tuple[str, ...]:
    """Names of the tensors that no pattern excludes.

    Raises:
        SpecError: a pattern matches no tensor, or all are excluded.
    """
    excluded = {name for pattern in allocation.exclude for name in matching(pattern, shapes, "allocation.exclude")}
    included = tuple(name for name in shapes if name not in excluded)
    if not included:
        raise SpecError("no tensor is left to prune", field="allocation.exclude", found=list(allocation.exclude))
    return included


def matching(pattern: str, shapes: Mapping[str, MatrixShape], field: str) -> list[str]:
    """Names that a pattern matches.

    Raises:
        SpecError: there are none.
    """
    names = [name for name in shapes if fnmatchcase(name, pattern)]
    if not names:
        known = ", ".join(list(shapes)[:4])
        raise SpecError("matches no prunable tensor", field=field, found=pattern, expected=f"names such as {known}")
    return names


def _final_sparsities(
    allocation: Allocation, sparsity: float, shapes: Mapping[str, MatrixShape], included: Sequence[str]
) -> dict[str, float]:
    """Of the tensors that are pruned."""
    total = sum(math.prod(shape) for shape in shapes.values())
    inside = {name: shapes[name] for name in included}
    match allocation:
        case Uniform() | Global():
            return dict.fromkeys(inside, sparsity * total / sum(map(math.prod, inside.values())))
        case ErdosRenyiKernel():
            kept = sum(map(math.prod, inside.values())) - sparsity * total
            return {name: 1 - density for name, density in kernel_densities(inside, kept).items()}
        case Layers():
            return _by_hand(allocation, sparsity * total, inside)
        case _:
            assert_never(allocation)


def kernel_densities(shapes: Mapping[str, MatrixShape], kept: float) -> dict[str, float]:
    """Densities min(1, c (out + in) / (out in)) that keep `kept` weights (Mocanu et al. 2018; Evci et al. 2020, 3.1).

    With the densest first, those that would exceed 1 are a beginning of the list: c is solved for each beginning in
    turn until the next tensor stays below 1. A tensor's kept weights are c (out + in).
    """
    order = sorted(shapes, key=lambda name: (-sum(shapes[name]) / math.prod(shapes[name]), name))
    full, rest = 0, sum(sum(shape) for shape in shapes.values())
    for name in order:
        factor = (kept - full) / rest
        if factor * sum(shapes[name]) <= math.prod(shapes[name]):
            break
        full += math.prod(shapes[name])
        rest -= sum(shapes[name])
    else:
        factor = math.inf
    return {name: max(0.0, min(1.0, factor * sum(shape) / math.prod(shape))) for name, shape in shapes.items()}


def _by_hand(allocation: Layers, zeros: float, shapes: Mapping[str, MatrixShape]) -> dict[str, float]:
    """Sparsities by name pattern; the rest shares what is left of `zeros` evenly."""
    field = "allocation.sparsity"
    given: dict[str, float] = {}
    for pattern, sparsity in allocation.sparsity:
        for name in matching(pattern, shapes, field):
            if name in given:
                raise SpecError(f"two patterns match {name}", field=field, found=pattern)
            given[name] = sparsity
    rest = {name: math.prod(shape) for name, shape in shapes.items() if name not in given}
    named = sum(sparsity * math.prod(shapes[name]) for name, sparsity in given.items())
    total = sum(map(math.prod, shapes.values()))
    if rest:
        left = 0.0 if abs(zeros - named) <= TOLERANCE * total else zeros - named
        return given | dict.fromkeys(rest, left / sum(rest.values()))
    if abs(zeros - named) > TOLERANCE * total:
        raise SpecError(
            "the map names every tensor and gives another sparsity than the one asked for",
            field=field,
            found=named / total,
            expected=f"{zeros / total:g}",
        )
    return {name: sparsity * zeros / named for name, sparsity in given.items()}


def _check_reach(ends: Mapping[str, float], sparsity: float, sizes: Mapping[str, int]) -> None:
    """No tensor can be more than empty or less than dense."""
    total = sum(sizes.values())
    if max(ends.values()) >= 1:
        most = sum(min(end, 1.0) * sizes[name] for name, end in ends.items()) / total
        message = "tensors that may be pruned would have to give up more than they have"
        raise SpecError(message, field="allocation", found=sparsity, expected=f"less than {most:g}")
    if min(ends.values()) < 0:
        least = sum(end * sizes[name] for name, end in ends.items() if end > 0) / total
        message = "named tensors give up more than is asked of all"
        raise SpecError(message, field="allocation", found=sparsity, expected=f"at least {least:g}")


def _largest_remainder(ends: Mapping[str, float], sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Whole numbers next to the exact shares that sum to `total`; equal remainders by name."""
    exact = {name: ends.get(name, 0.0) * sizes[name] for name in sorted(sizes)}
    counts = {name: min(math.floor(share), sizes[name]) for name, share in exact.items()}
    order = sorted(ends, key=lambda name: (counts[name] - exact[name], name))
    for name in order[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def apportion(total: int, ends: Sequence[int]) -> list[int]:
    """`total` split in proportion to `ends`, by Webster's method: a larger total never takes from anyone.

    The k-th zero of a tensor with end w comes at time (2k - 1) / w; the first `total` zeros are given, ties by
    index. So every tensor ends on its own count exactly, and a mask can only lose weights on the way.

    Args:
        total: 0 <= total <= sum(ends).
        ends: final counts.
    """
    whole = sum(ends)
    assert 0 <= total <= whole
    if not whole:
        return [0] * len(ends)
    counts = [(2 * total * end + whole) // (2 * whole) for end in ends]  # within half a tensor's zero of the answer
    missing = total - sum(counts)
    sign = 1 if missing > 0 else -1

    def turn(index: int) -> tuple[Fraction, int]:
        place = counts[index] + (sign > 0)
        return sign * Fraction(2 * place - 1, ends[index]), sign * index

    heap = [turn(index) for index, end in enumerate(ends) if end]
    heapq.heapify(heap)
    for _ in range(abs(missing)):
        index = abs(heap[0][1])
        counts[index] += sign
        heapq.heapreplace(heap, turn(index))
    return counts
