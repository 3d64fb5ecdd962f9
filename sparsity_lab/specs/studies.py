"""Study specs: a model family, a dataset, training settings, a grid of runs, a search and a law."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from sparsity_lab.specs.base import (
    Count,
    Distinct,
    FrozenMapping,
    FrozenNumbers,
    FrozenSpans,
    Seed,
    Sparsity,
    Spec,
    SpecFile,
    SpecName,
    misfit,
)
from sparsity_lab.specs.choices import CostMultiplier, DataUnit, Holdout, HuberDelta, LawForm, Residual, threshold
from sparsity_lab.specs.datasets import Objective
from sparsity_lab.specs.runs import unit_of
from sparsity_lab.specs.searches import SearchSpec
from sparsity_lab.specs.training import TrainingSpec

Axis = Annotated[tuple[Count, ...], Field(min_length=1), Distinct]
SizeAxis = Annotated[tuple[Annotated[int, Field(gt=0, le=10**13)], ...], Field(min_length=1), Distinct]
SparsityAxis = Annotated[tuple[Sparsity, ...], Field(min_length=1), Distinct]
SeedAxis = Annotated[tuple[Seed, ...], Field(min_length=1), Distinct]


MOST_RUNS = 100_000
"""of a grid"""


class GridPoints(Spec):
    """A block of a grid: the product of its axes."""

    nonzero: SizeAxis
    """target of non-zero prunable weights at the end of training"""
    sparsity: SparsityAxis
    data: Axis
    """training tokens or images, in the study's `data_unit`"""
    seeds: SeedAxis = (0,)


class GridBlock(Spec):
    """A further part of a grid with regimes of its own."""

    regimes: Annotated[tuple[SpecName, ...], Field(min_length=1), Distinct]
    nonzero: SizeAxis | None = None
    """target of non-zero prunable weights at the end of training; or `dense`"""
    dense: SizeAxis | None = None
    """target of prunable weights before pruning: every sparsity prunes the same architecture"""
    sparsity: SparsityAxis
    data: Axis
    """training tokens or images, in the study's `data_unit`"""
    seeds: SeedAxis = (0,)

    @model_validator(mode="after")
    def _one_size(self) -> GridBlock:
        if (self.nonzero is None) == (self.dense is None):
            raise ValueError("give either nonzero or dense")
        return self


class Grid(GridPoints):
    """Every combination of the axes, under every regime, and repeated points that measure the noise of seeds."""

    data_unit: DataUnit
    """what `data` counts: tokens for text, images for classification"""
    regimes: Annotated[tuple[SpecName, ...], Field(min_length=1), Distinct]
    """names of files in specs/regimes; sparsity 0 is one dense run shared by all"""
    replicates: tuple[GridPoints, ...] = ()
    """the same regimes at further points, normally the same ones with other seeds"""
    blocks: tuple[GridBlock, ...] = ()
    """further points under other regimes"""

    @model_validator(mode="after")
    def _countable(self) -> Grid:
        own = (self, *self.replicates)
        points = sum(_points(one) * len(self.regimes) for one in own)
        points += sum(_points(block) * len(block.regimes) for block in self.blocks)
        if points > MOST_RUNS:
            raise ValueError(f"asks for {points:,} runs, at most {MOST_RUNS:,} are planned")
        return self


def _points(one: GridPoints | GridBlock) -> int:
    sizes = one.nonzero or (one.dense if isinstance(one, GridBlock) else None) or ()
    return len(sizes) * len(one.sparsity) * len(one.data) * len(one.seeds)


class LawSpec(Spec):
    """Which laws are fitted to the finished runs, and how."""

    forms: Annotated[tuple[LawForm, ...], Distinct] | None = None
    """when left out, every form of sparsity, size and data that the runs can carry, the others being reported as
    skipped; a form named here that they cannot carry is an error; an empty list where a study only compares regimes"""
    regime: SpecName | None = None
    """the regime whose runs the laws are fitted to, beside the dense ones; the first of the grid when left out"""
    residual: Residual = "log"
    """residual = log of predicted - log of measured loss (text), or their difference (vision)"""
    delta: HuberDelta = 1e-3
    """Huber threshold, in units of the residual, or `least-squares`"""
    holdouts: Annotated[tuple[Holdout, ...], Distinct] = ("largest-data", "largest-nonzero", "largest-sparsity")
    """runs that forms are refitted without and then compared on, each in turn"""
    starts: Annotated[int, Field(gt=0, le=10_000)] = 64
    """random starts of the fit"""
    bootstrap: Annotated[int, Field(gt=0, le=100_000)] = 200
    """refits on resampled runs, for the intervals"""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.9
    cost: CostMultiplier = "sparse_schedule"
    """m(S) under which the report's optimal sparsities are computed"""
    seed: Seed = 0
    pin: FrozenNumbers = Field(default_factory=lambda: FrozenMapping[float]({}))
    """parameters held at a value, raw units: `{c: 1.6}`; a form heeds those that it has"""
    bounds: FrozenSpans = Field(default_factory=lambda: FrozenMapping[tuple[float, float]]({}))
    """least and largest value of parameters, raw units: `{b_D: [0.1, 0.6]}`"""
    overestimates: Annotated[float, Field(ge=1e-3, le=1e3)] = 1.0
    """what a prediction that is too high costs, relative to one that is too low: 10 lets undertuned runs lie above"""
    noise_scale: Literal["fixed", "free"] = "fixed"
    """`free` fits the scale of the noise too; delta is then in its units"""
    best_of_each: bool = False
    """only the row of lowest loss of each sparsity, size, data and whatever else laws read"""
    weights: str | None = None
    """a column of the study's table of runs, or an expression of columns: what each run counts"""

    @field_validator("bounds")
    @classmethod
    def _of_free_parameters(
        cls, bounds: Mapping[str, tuple[float, float]], info: ValidationInfo
    ) -> Mapping[str, tuple[float, float]]:
        if both := [name for name in bounds if name in info.data.get("pin", {})]:
            raise ValueError(f"{both[0]} is pinned: bounds would have no effect")
        return bounds

    @property
    def threshold(self) -> float:
        """Huber's delta as a number: infinite for least squares."""
        return threshold(self.delta)


class StudySpec(SpecFile):
    """One question asked of one family on one dataset: which runs are made and what is concluded from them."""

    kind: Literal["study"] = "study"
    description: str = ""
    """one or two sentences that head the report"""
    model: SpecName
    """name of a file in specs/models"""
    dataset: SpecName
    """name of a file in specs/datasets"""
    objective: Objective
    training: TrainingSpec
    grid: Grid
    search: SearchSpec | None = None
    law: LawSpec = LawSpec()
    hardware: SpecName | None = None
    """name of a file in specs/hardware; what `sparsity-lab measure` found on this machine when left out"""
    scenario: SpecName | None = None
    """name of a file in specs/scenarios that the report decides; one with neutral prices when left out"""
    keep_weights: bool = False
    """store each run's final weights (safetensors) beside its record"""

    @model_validator(mode="after")
    def _unit_fits(self) -> StudySpec:
        expected = unit_of(self.objective)
        if self.grid.data_unit != expected:
            message = f"a {self.objective.kind} objective counts {expected}, found {self.grid.data_unit!r}"
            raise misfit(message, "grid", "data_unit")
        return self
