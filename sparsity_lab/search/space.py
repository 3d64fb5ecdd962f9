"""What is searched: sparsity between two bounds at a fixed data budget, and the points a search starts with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from sparsity_lab.errors import SpecError
from sparsity_lab.specs.studies import SearchSpec

RESOLUTION = 0.005
"""sparsities are multiples of this, so that points proposed close together are one run"""

DESIGN = (1.0, 0.5, 0.25, 0.75)
"""fractions of the span of log density, in an order whose every beginning fills the space: a search that is given more
trials later starts with the same points as one that had them from the beginning"""

Multiplier = Callable[[float], float]
"""m(S): cost of the training data relative to a dense model with as many non-zero weights (SCIENCE.md, section 4)"""


@dataclass(frozen=True)
class Ask:
    """One run that the search wants: a sparsity, and the data that the budget then buys."""

    sparsity: float
    data_dense: int
    """the budget as data: what a dense model of N weights sees for the same compute"""
    data: int
    """D_S = D_dense / m(S), what this run is given"""


@dataclass(frozen=True)
class Space:
    """Sparsities from `lowest` to `highest`, both multiples of `RESOLUTION`."""

    lowest: float
    highest: float

    @classmethod
    def of(cls, spec: SearchSpec) -> Space:
        """The multiples of the resolution within the spec's bounds.

        Raises:
            SpecError: there are fewer than two.
        """
        slack = 1e-9
        low = on_grid(math.ceil(spec.lowest / RESOLUTION - slack) * RESOLUTION)
        high = on_grid(math.floor(spec.highest / RESOLUTION + slack) * RESOLUTION)
        if low >= high:
            raise SpecError(
                "leaves nothing to search",
                where="search",
                field="lowest, highest",
                found=(spec.lowest, spec.highest),
                expected=f"at least two multiples of {RESOLUTION} between them",
            )
        return cls(low, high)

    def __contains__(self, sparsity: float) -> bool:
        return self.lowest <= sparsity <= self.highest

    def design(self, trials: int) -> tuple[float, ...]:
        """The space-filling start: at most `trials` sparsities, evenly spaced in log density once all are there.

        Log density, because the loss bends most where few weights are left.
        """
        start, end = math.log1p(-self.lowest), math.log1p(-self.highest)
        return tuple(on_grid(-math.expm1(start + part * (end - start))) for part in DESIGN[:trials])


def on_grid(sparsity: float) -> float:
    """The nearest multiple of the resolution, with one floating-point value for each."""
    return round(round(sparsity / RESOLUTION) * RESOLUTION, 6)


def data_at(sparsity: float, data_dense: int, multiplier: Multiplier) -> int:
    """D_S = D_dense / m(S), at least 1: the training tokens or images that a pruned run gets at the budget's compute.

    Raises:
        ValueError: m(S) is not a positive number.
    """
    cost = multiplier(sparsity)
    if not (math.isfinite(cost) and cost > 0):
        raise ValueError(f"the cost multiplier must be positive at every sparsity, found {cost} at {sparsity}")
    return max(1, round(data_dense / cost))
