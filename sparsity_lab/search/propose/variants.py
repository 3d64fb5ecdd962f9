"""Ways to prune that a search chooses among: a regime, with another pattern or allocation, and what they leave open."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from sparsity_lab.artifacts.searches import ParameterValue, Params
from sparsity_lab.search.requests import SPARSITY
from sparsity_lab.specs.regimes.patterns import NofM, Pattern
from sparsity_lab.specs.regimes.regime import Dynamic, SparseRegime
from sparsity_lab.specs.regimes.schedules import Cubic, Cyclic, Geometric, LinearSchedule, PluginSchedule
from sparsity_lab.specs.searches import SpaceSpec, label

RESOLUTION = 0.005
"""sparsities are multiples of this, so that points proposed close together are one run"""
GRID_INTERVALS = 16
"""into which a grid divides the span of log density"""
GAP = 0.01
"""fraction of training that a pruning window lasts at least"""
CLOSE = 1e-9
KINDS = ("regime", "pattern", "allocation")
"""parameters of which every value has a curve of its own"""
Kind = tuple[object, ...]
"""regime, pattern and allocation of a trial, as far as it was asked for them"""


@dataclass(frozen=True, eq=False)
class Variant:
    """A way to prune.

    Attributes:
        regime: its name.
        rule: the regime.
        pattern: label of the one that replaces the regime's; None for its own.
        allocation: likewise.
        space: what may be chosen.
        named: whether runs say which regime they follow, because there are several.
        coarse: whether sparsities are those of a grid.
    """

    regime: str
    rule: SparseRegime
    pattern: str | None
    allocation: str | None
    space: SpaceSpec
    named: bool
    coarse: bool

    @property
    def discrete(self) -> bool:
        """Whether only few sparsities are possible."""
        return self.coarse or self.space.sparsity.levels is not None or isinstance(self._pattern, NofM)

    @cached_property
    def levels(self) -> tuple[float, ...]:
        """All sparsities that it may have, rising; 0 only where a dense trial has nothing else to choose."""
        low, high = self.space.sparsity.ends
        inside = (level for level in self._own_levels() if low - CLOSE <= level <= high + CLOSE)
        return tuple(sorted({level for level in inside if level > 0 or not self.space.beside_sparsity(self.named)}))

    @cached_property
    def window(self) -> tuple[float, float] | None:
        """Start and end of its schedule; None where that has no window."""
        match self.rule.schedule:
            case Cubic() | LinearSchedule() | Geometric() | PluginSchedule() | Cyclic() as schedule:
                return schedule.start, schedule.end
            case _:
                return None

    @property
    def latest_start(self) -> float:
        """Before which pruning starts, whatever end is chosen: a window takes time, and later masks do not move."""
        assert self.window is not None
        end = self.space.end.high if self.space.end else self.window[1]
        return min(end, self.rule.refresh.until if isinstance(self.rule, Dynamic) else 1.0) - GAP

    @property
    def fits(self) -> bool:
        """Whether it has a sparsity, and any start that may be chosen lies before any end."""
        if self.window is None:
            return bool(self.levels)
        start = self.space.start.low if self.space.start else self.window[0]
        return bool(self.levels) and start <= self.latest_start + CLOSE

    def params(self, sparsity: float, rest: Params) -> dict[str, ParameterValue]:
        """What a run of it is asked for; a dense one has a sparsity only."""
        if sparsity == 0:
            return {SPARSITY: 0.0}
        chosen = {"regime": self.regime if self.named else None, "pattern": self.pattern, "allocation": self.allocation}
        return {SPARSITY: sparsity, **{name: value for name, value in chosen.items() if value is not None}, **rest}

    @property
    def _pattern(self) -> Pattern:
        by_label = {label(one): one for one in self.space.patterns or ()}
        return self.rule.pattern if self.pattern is None else by_label[self.pattern]

    def _own_levels(self) -> Iterable[float]:
        asked = self.space.sparsity.levels
        match self._pattern:
            case NofM(n=n, m=m):
                every = [k / m for k in range(m)] if n is None else [0.0, 1 - n / m]
                return every if asked is None else [S for S in every if any(abs(S - one) < CLOSE for one in asked)]
            case _ if asked is not None:
                return asked
            case _ if self.coarse:
                return _even(*self.space.sparsity.ends)
            case _:
                return (on_grid(k * RESOLUTION) for k in range(round(1 / RESOLUTION)))


def variants(space: SpaceSpec, regimes: Mapping[str, SparseRegime], *, coarse: bool) -> tuple[Variant, ...]:
    """Every combination that has a sparsity and a window, if nothing is said of the weights."""
    patterns = [label(one) for one in space.patterns] if space.patterns else [None]
    allocations = [label(one) for one in space.allocations] if space.allocations else [None]
    every = (
        Variant(name, rule, pattern, allocation, space, len(regimes) > 1, coarse)
        for name, rule in regimes.items()
        for pattern in patterns
        for allocation in allocations
    )
    return tuple(variant for variant in every if variant.fits)


def kind_of(params: Params) -> Kind | None:
    """The curve that a run with these parameters lies on; None for a dense one, which lies on all."""
    return tuple(params.get(name) for name in KINDS) if params[SPARSITY] else None


def on_grid(sparsity: float) -> float:
    """The nearest multiple of the resolution, with one floating-point value for each."""
    return round(round(sparsity / RESOLUTION) * RESOLUTION, 6)


def _even(low: float, high: float) -> Iterator[float]:
    """Sparsities evenly spaced in log density: the loss bends most where few weights are left."""
    start, end = math.log1p(-low), math.log1p(-high)
    for k in range(GRID_INTERVALS + 1):
        yield min(max(on_grid(-math.expm1(start + k / GRID_INTERVALS * (end - start))), low), high)
