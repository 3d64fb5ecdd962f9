"""What a search asks for: a run, at the cost of a budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sparsity_lab.artifacts.records import FrozenModel
from sparsity_lab.artifacts.searches import ParameterValue, Params

SPARSITY = "sparsity"
"""name of the parameter that every trial has"""

RunMultiplier = Callable[[int, Params], float]
"""m: cost of a training step of N non-zero weights relative to a dense model with as many (SCIENCE.md, section 4)"""


@dataclass(frozen=True)
class RunRequest:
    """One run that the search wants."""

    nonzero: int
    """N"""
    data_dense: int
    """the budget as data: what a dense model of N weights sees for the same cost"""
    data: int
    """D_S = D_dense / m(S), what this run is given"""
    settings: tuple[tuple[str, ParameterValue], ...]
    seed: int = 0

    @classmethod
    def of(cls, nonzero: int, data_dense: int, params: Params, multiplier: RunMultiplier, seed: int = 0) -> RunRequest:
        """The run of these parameters that costs as much as the budget.

        Raises:
            ValueError: m is not a positive number.
        """
        return cls(nonzero, data_dense, data_at(nonzero, data_dense, params, multiplier), tuple(params.items()), seed)

    @property
    def params(self) -> dict[str, ParameterValue]:
        """What is asked for, by name."""
        return dict(self.settings)

    @property
    def sparsity(self) -> float:
        """S asked for."""
        return float(self.params[SPARSITY])

    def json(self) -> dict[str, Any]:
        """As it is stored."""
        return {**vars(self), "settings": self.params}

    @classmethod
    def parse(cls, stored: Mapping[str, Any]) -> RunRequest:
        """What was stored; raises where it is no such thing."""
        known = _StoredRequest.model_validate(stored)
        return cls(**{**vars(known), "settings": tuple(known.settings.items())})


class _StoredRequest(FrozenModel):
    """A request as `RunRequest.json` gives it."""

    nonzero: int
    data_dense: int
    data: int
    settings: dict[str, int | ParameterValue]
    seed: int


def data_at(nonzero: int, data_dense: int, params: Params, multiplier: RunMultiplier) -> int:
    """D_S = D_dense / m(S), at least 1: the training tokens or images that a pruned run gets at the budget's cost.

    Raises:
        ValueError: m is not a positive number.
    """
    cost = multiplier(nonzero, params)
    if not (math.isfinite(cost) and cost > 0):
        raise ValueError(f"the cost multiplier must be positive at every sparsity, found {cost} at {dict(params)}")
    return max(1, round(data_dense / cost))
