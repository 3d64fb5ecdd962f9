"""Evidence: what training observed about weights, for scores that look at more than the weights themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

Need = Literal["gradient", "fisher", "inputs"]


@dataclass(frozen=True)
class Request:
    """What a choice of masks has to know."""

    needs: frozenset[Need] = frozenset()
    batches: int = 1
    """training batches over which it is averaged"""


@dataclass(frozen=True)
class WeightStatistics:
    """Observations by name of the weight tensor; a kind that nobody asked for is empty."""

    gradient: Mapping[str, Tensor] = field(default_factory=dict)
    """(out, in): mean gradient of the loss, not masked"""
    fisher: Mapping[str, Tensor] = field(default_factory=dict)
    """(out, in): mean of the squared gradients of single batches, not masked"""
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    """(in,): root mean square of each input feature"""
