"""The pruner: a regime at work on a set of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sparsity_lab.pruning import allocation, patterns, scores
from sparsity_lab.pruning.schedules import Ramp, lay_out
from sparsity_lab.specs.regimes import Dense, RegimeSpec


@dataclass
class Pruner:
    """Keeps the masks of a run and changes them on schedule.

    Masks are written in place, so that whoever holds them (the optimiser's flat view) sees every change.
    """

    regime: RegimeSpec
    ramp: Ramp
    weights: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    _due: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        self._due = frozenset(self.ramp.updates)

    @property
    def prunes(self) -> bool:
        """Whether any weight is pruned at any time."""
        return bool(self.ramp.updates)

    def due(self, step: int) -> bool:
        """Whether masks change once `step` optimiser steps are done."""
        return step in self._due

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Choose the masks for the sparsity after `step`, and set the weights that they drop to zero."""
        assert not isinstance(self.regime, Dense)
        sizes = {name: weight.numel() for name, weight in self.weights.items()}
        zeros = allocation.uniform(sizes, self.ramp.sparsity_after(step))
        for name, weight in self.weights.items():
            mask = self.masks[name]
            score = scores.magnitude(weight, mask)
            mask.copy_(patterns.choose(self.regime.pattern, score, zeros[name]))
            weight.mul_(mask)


def make_pruner(
    regime: RegimeSpec, sparsity: float, weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], steps: int
) -> Pruner:
    """A pruner for a run of `steps` steps; `masks` are bool, of the weights' shapes, all ones at the start."""
    return Pruner(regime, lay_out(regime, sparsity, steps), weights, masks)
