"""Scores: how much a weight matters, and what they have to know of weights beside their values.

The built-in ones and those of plug-ins keep one interface, `ScoreRule`. What is random in them is drawn from generators
that depend on their key alone: no state to save, and the same on every rank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal, Protocol, assert_never, cast

import torch
from torch import Tensor

from sparsity_lab.specs.regimes.plugins import SCORES, Plugin
from sparsity_lab.specs.regimes.scores import Fisher, Magnitude, Random, Saliency, Score, Wanda

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

    def observation(self, weight: Tensor, key: tuple[int, int, str]) -> Observation:
        """What there is to see of the tensor that the key names."""
        name = key[-1]
        return Observation(weight, self.gradient.get(name), self.fisher.get(name), self.inputs.get(name), key)


def keyed_uniform(*key: object, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Uniform on [0, 1), float32, drawn on the CPU so that every device sees the same."""
    digest = blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
    return torch.rand(shape, generator=generator).to(device)


PRUNED = -1.0
"""Rank of a unit that is pruned already: below every score, so that a growing mask never resurrects it."""


@dataclass(frozen=True)
class Observation:
    """What a score sees of one weight matrix."""

    weight: Tensor
    """(out, in); zero where it is pruned, but for straight-through training, which keeps all weights"""
    gradient: Tensor | None = None
    """(out, in): mean gradient, not masked; where the score needs it"""
    fisher: Tensor | None = None
    """(out, in): mean squared gradient, not masked; where the score needs it"""
    inputs: Tensor | None = None
    """(in,): root mean square of each input feature; where the score needs it"""
    key: tuple[int, int, str] = (0, 0, "")
    """seed of the run, step and name of the tensor"""

    def draw(self) -> Tensor:
        """Uniform on [0, 1), (out, in): the same for the same run, step and tensor."""
        return keyed_uniform("score", *self.key, shape=tuple(self.weight.shape), device=self.weight.device)


class ScoreRule(Protocol):
    """What a score is; `pruning.conformance.check_score` checks it."""

    @property
    def version(self) -> int:
        """Enters the identity of every run that uses it."""

    @property
    def needs(self) -> frozenset[Need]:
        """What it has to be given beside the weights."""

    @property
    def batches(self) -> int:
        """Training batches over which that is averaged."""

    def score(self, seen: Observation) -> Tensor:
        """Fresh tensor (out, in), float32, none negative; the lowest go first. Must not change what it is given."""


@dataclass(frozen=True)
class BuiltIn:
    """A score that comes with the package."""

    rule: Callable[[Observation], Tensor]
    needs: frozenset[Need] = frozenset()
    batches: int = 1
    version: int = 1

    def score(self, seen: Observation) -> Tensor:
        """As `ScoreRule`."""
        return self.rule(seen)


def rule_of(score: Score) -> ScoreRule:
    """The rule that a spec names.

    Raises:
        SpecError: a plug-in that is not installed, or not in the version asked for.
    """
    match score:
        case Magnitude():
            return BuiltIn(magnitude)
        case Random():
            return BuiltIn(Observation.draw)
        case Saliency():
            return BuiltIn(saliency, frozenset({"gradient"}), score.batches)
        case Fisher():
            return BuiltIn(fisher, frozenset({"fisher"}), score.batches)
        case Wanda():
            return BuiltIn(wanda, frozenset({"inputs"}), score.batches)
        case Plugin():
            return cast("ScoreRule", score.load(SCORES))
        case _:
            assert_never(score)


def magnitude(seen: Observation) -> Tensor:
    """|w| (Han et al. 2015)."""
    return seen.weight.abs()


def saliency(seen: Observation) -> Tensor:
    """|w g| (Mozer & Smolensky 1989)."""
    assert seen.gradient is not None
    return (seen.weight * seen.gradient).abs_()


def fisher(seen: Observation) -> Tensor:
    """w^2 F / 2 (Theis et al. 2018, eq. 8)."""
    assert seen.fisher is not None
    return seen.weight.square().mul_(seen.fisher).mul_(0.5)


def wanda(seen: Observation) -> Tensor:
    """|w| times the root mean square of its input.

    Sun et al. (2024, eq. 1) take the L2 norm; within a tensor the order is the same, and across tensors the root mean
    square does not depend on how many tokens each sees.
    """
    assert seen.inputs is not None
    return seen.weight.abs().mul_(seen.inputs)


def mark_pruned_(score: Tensor, kept: Tensor) -> Tensor:
    """Put units that are pruned already at `PRUNED`, in place; `kept` is bool, of the same shape.

    s * 0 + (0 - 1) = PRUNED and s * 1 + (1 - 1) = s exactly: many times faster than a select, which branches.
    """
    ones = kept.view(torch.int8)
    return score.mul_(ones).add_(ones - 1)
