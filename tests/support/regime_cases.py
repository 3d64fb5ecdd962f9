"""Random regimes, and a small training by chance that shows a pruner everything it asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import torch
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch import Tensor

from sparsity_lab.errors import SpecError
from sparsity_lab.pruning.feasibility import check_feasible, resolve_regime
from sparsity_lab.pruning.pruner import Pruner, make_pruner
from sparsity_lab.pruning.scores import WeightStatistics
from sparsity_lab.specs.regimes.regime import RegimeSpec

Shapes = dict[str, tuple[int, int]]
Fields = dict[str, Any]
REGIMES: TypeAdapter[Any] = TypeAdapter(RegimeSpec)

GRIDS: list[Fields] = [
    {"kind": "unstructured"},
    {"kind": "unstructured", "within": "row"},
    {"kind": "block", "height": 2, "width": 2},
    {"kind": "block", "height": 1, "width": 4, "pooling": "max"},
    {"kind": "channel", "axis": "rows"},
    {"kind": "channel", "axis": "columns", "pooling": "max"},
]
SCORES: list[Fields] = [{"kind": kind} for kind in ("magnitude", "random", "saliency", "fisher", "wanda")]
ALLOCATIONS: list[Fields] = [
    {"kind": "uniform"},
    {"kind": "uniform", "exclude": ["c*"]},
    {"kind": "erdos-renyi-kernel"},
    {"kind": "erdos-renyi-kernel", "exclude": ["a"]},
    {"kind": "global"},
    {"kind": "global", "normalize": "l2"},
    {"kind": "global", "exclude": ["b"]},
    {"kind": "layers", "sparsity": {"b": 0.3}},
]
MONOTONE: list[Fields] = [
    {"kind": "cubic", "every": 7, "minimum_updates": 5},
    {"kind": "linear", "start": 0.0, "end": 0.9, "every": 5, "minimum_updates": 2},
    {"kind": "geometric", "every": 9, "minimum_updates": 3},
    {"kind": "one-shot", "at": 0.3},
    {"kind": "static"},
]
CYCLIC: Fields = {"kind": "cyclic", "start": 0.1, "end": 0.8, "cycles": 2}


def regime(method: str = "masked", **fields: Any) -> Any:
    """A regime from plain fields."""
    return REGIMES.validate_python({"version": 1, "method": method, **fields})


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


@st.composite
def shapes(draw: st.DrawFn) -> Shapes:
    """Three matrices whose sides are multiples of 4, small enough to be looked at and large enough to be shared out."""
    side = st.integers(1, 5).map(lambda times: 4 * times)
    return {name: (draw(side), draw(side)) for name in ("a", "b", "c.w")}


@dataclass
class Training:
    """A run without a model: weights move by chance, statistics are drawn."""

    regime: Any
    sparsity: float
    shapes: Shapes
    steps: int
    seed: int = 0
    outside: frozenset[str] = frozenset()
    start: Mapping[str, Tensor] | None = None
    """which of the first weights are not zero"""
    weights: dict[str, Tensor] = field(init=False)
    masks: dict[str, Tensor] = field(init=False)
    pruner: Pruner = field(init=False)

    def __post_init__(self) -> None:
        self.weights = {name: self.chance(0, name) for name in self.shapes}
        self.masks = {name: torch.ones(shape, dtype=torch.bool) for name, shape in self.shapes.items()}
        for name, kept in (self.start or {}).items():
            self.masks[name] &= kept
            self.weights[name].mul_(kept)
        found = self.found() if self.start else 0.0
        resolved = resolve_regime(self.regime, self.sparsity)
        self.pruner = make_pruner(resolved, self.sparsity, self.masks, self.steps, self.seed, self.outside, found)

    def found(self) -> float:
        """Share of zeros in the masks now, outside apart."""
        inside = [mask for name, mask in self.masks.items() if name not in self.outside]
        return sum(int((~mask).sum()) for mask in inside) / sum(mask.numel() for mask in inside)

    @property
    def keeps_all(self) -> bool:
        """Whether weights under the mask live on."""
        return bool(self.regime.method == "straight-through")

    def chance(self, step: int, name: str, kind: str = "") -> Tensor:
        """Normal numbers that depend on their names alone."""
        generator = torch.Generator().manual_seed(crc32(f"{self.seed}/{step}/{name}/{kind}".encode()))
        return torch.randn(self.shapes[name], generator=generator)

    def statistics(self, step: int) -> WeightStatistics:
        """What the pruner asks for at a step, and no more."""
        needs, names = self.pruner.request(step).needs, self.shapes
        return WeightStatistics(
            gradient={name: self.chance(step, name, "gradient") for name in names if "gradient" in needs},
            fisher={name: self.chance(step, name, "fisher").square() for name in names if "fisher" in needs},
            inputs={name: self.chance(step, name, "inputs").abs().amax(0) for name in names if "inputs" in needs},
        )

    def update(self, step: int) -> None:
        """What the loop does at a step that is due."""
        self.pruner.update(step, self.weights, self.statistics(step))
        if not self.keeps_all:
            for name, weight in self.weights.items():
                weight.mul_(self.masks[name])

    def move(self, step: int) -> None:
        """One training step: the weights that may move do, and some become exactly zero by themselves."""
        for name, weight in self.weights.items():
            live = torch.ones_like(self.masks[name]) if self.keeps_all else self.masks[name]
            weight.add_(self.chance(step, name, "step") * live)
            weight.mul_(self.chance(step, name, "zero") < 1.8)

    def changes(self) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Train to the end; after every change of masks, its step and the masks before."""
        for step in range(self.steps + 1):
            if step:
                self.move(step)
            if self.pruner.due(step):
                before = self.copy()
                self.update(step)
                yield step, before

    def copy(self) -> dict[str, Tensor]:
        """The masks as they are."""
        return {name: mask.clone() for name, mask in self.masks.items()}


def zeros(masks: Mapping[str, Tensor]) -> dict[str, int]:
    """Zeros of every mask."""
    return {name: int((~mask).sum()) for name, mask in masks.items()}


def can_be(regime: Any, sparsity: float, shapes: Shapes) -> bool:
    """Whether a regime is meaningful; generated ones that are not are left out."""
    try:
        check_feasible(regime, sparsity, shapes)
    except SpecError:
        return False
    return True
