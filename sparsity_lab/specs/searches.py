"""Search specs: for each number of weights and each budget, what is tried to find the sparsity with the lowest loss."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from sparsity_lab.specs.base import (
    Count,
    Distinct,
    Fraction,
    PathOrUrl,
    Positive,
    Seed,
    Sparsity,
    Spec,
    SpecName,
    misfit,
)
from sparsity_lab.specs.choices import BudgetUnit, CostMultiplier, SearchObjective
from sparsity_lab.specs.regimes.allocations import Allocation
from sparsity_lab.specs.regimes.patterns import Pattern

SamplerName = Literal["law", "tpe", "gp", "cma-es", "random", "grid", "nsga-ii"]
SINGLE_OBJECTIVE = frozenset[SamplerName](("law", "cma-es"))
"""samplers that can make one number small only"""
PARETO = "nsga-ii, tpe, gp, random or grid"


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


Sizes = Annotated[
    tuple[Count, ...],
    BeforeValidator(_listed),
    Field(min_length=1),
    Distinct,
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "integer", "exclusiveMinimum": 0}, "minItems": 1},
                {"type": "integer", "exclusiveMinimum": 0},
            ]
        }
    ),
]


def label(choice: Pattern | Allocation) -> str:
    """A pattern or an allocation in few words, as trials name it: its kind, and whatever is not as by default."""
    fields = choice.model_dump(mode="json", exclude={"kind"}, exclude_defaults=True)
    return choice.kind + (f"({', '.join(f'{name}={value}' for name, value in fields.items())})" if fields else "")


class SparsityRange(Spec):
    """Which sparsities are tried; under an n:m pattern those of its levels that lie in between."""

    low: Sparsity = 0.0
    high: Sparsity = 0.9
    levels: Annotated[tuple[Sparsity, ...], Field(min_length=1), Distinct] | None = None
    """these and no others, instead of low and high"""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.levels is not None and self.model_fields_set & {"low", "high"}:
            raise ValueError("give either low and high, or levels")
        if self.levels is None and self.low >= self.high:
            raise ValueError(f"low must be below high, found {self.low} and {self.high}")
        return self

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest sparsity."""
        return (self.low, self.high) if self.levels is None else (min(self.levels), max(self.levels))


class FractionRange(Spec):
    """Fractions of training that are tried."""

    low: Fraction
    high: Fraction

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, found {self.low} and {self.high}")
        return self


class FactorRange(Spec):
    """Factors that are tried, evenly on a logarithmic scale."""

    low: Positive
    high: Positive

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, found {self.low} and {self.high}")
        return self


class SpaceSpec(Spec):
    """What a search may choose; whatever is left out stays as the regime has it.

    Dense trials have a sparsity and nothing else. Start and end are asked for where the schedule has a window, and
    combinations that cannot be trained are never proposed.
    """

    sparsity: SparsityRange = SparsityRange()
    start: FractionRange | None = None
    """fraction of training at which pruning starts"""
    end: FractionRange | None = None
    """fraction of training at which the final sparsity is reached"""
    learning_rate_factor: FactorRange | None = None
    """the peak learning rate relative to the study's"""
    patterns: Annotated[tuple[Pattern, ...], Field(min_length=1), Distinct] | None = None
    allocations: Annotated[tuple[Allocation, ...], Field(min_length=1), Distinct] | None = None

    @model_validator(mode="after")
    def _window(self) -> Self:
        if self.start and self.end and self.start.low >= self.end.high:
            raise misfit("no start lies before any end", "end")
        return self

    def beside_sparsity(self, several_regimes: bool) -> bool:
        """Whether there is more to choose than a sparsity."""
        given = (self.start, self.end, self.learning_rate_factor, self.patterns, self.allocations)
        return several_regimes or any(part is not None for part in given)


class RepeatSpec(Spec):
    """Other seeds for the points that cannot be told from the best."""

    most: Annotated[int, Field(ge=2)] = 3
    """seeds of one point, the first included"""


class StoppingSpec(Spec):
    """When a run that cannot become the best any more is given up: after its mask has settled, against earlier rounds.

    A run ends when, at the same fraction of the schedule, its loss is so high that even the largest fall seen from
    there on in a finished run would leave it above the best.
    """

    margin: Annotated[float, Field(ge=0)] = 3.0
    """standard deviations of the noise by which it must miss the best"""
    least: Count = 3
    """finished runs of the same N and budget without which none is given up"""


class SearchSpec(Spec):
    """For each N and budget: the sparsity with the lowest loss when every run costs the same, D_S = D_dense / m(S)."""

    nonzero: Sizes
    """N, the non-zero prunable weights of all runs that are compared: one or several"""
    budgets: Annotated[tuple[Positive, ...], Field(min_length=1), Distinct]
    """what each run of a comparison may cost, in `budget_unit`"""
    budget_unit: BudgetUnit = "data"
    """data: the D_dense that a dense model of N weights sees; compute: C = 6 N D_dense FLOPs; seconds: of training
    that dense model on the machine of the study's hardware profile"""
    cost: CostMultiplier = "sparse_schedule"
    """m(S): the cost of a training step relative to a dense model of N weights"""
    regimes: Annotated[tuple[SpecName, ...], Field(min_length=1), Distinct]
    """names of files in specs/regimes; of several, each trial chooses one"""
    space: SpaceSpec = SpaceSpec()
    objectives: Annotated[tuple[SearchObjective, ...], Field(min_length=1), Distinct] = ("loss",)
    """made small together; of several, the answer is also the front of trials that none beats in all"""
    sampler: SamplerName = "law"
    trials: Count = 8
    """of each N and budget, dense anchors and the grid's own runs not counted; the first ones fill the sparsities
    evenly (five in the usual space), and fewer than three conclude nothing"""
    batch: Count = 2
    """trials proposed together; fixed, so that the number of workers changes nothing"""
    seed: Seed = 0
    repeats: RepeatSpec | None = None
    stopping: StoppingSpec | None = None
    storage: PathOrUrl | None = None
    """a file below the project (.journal or .log: a journal; else SQLite) or a database's URL"""

    @model_validator(mode="after")
    def _objectives_fit(self) -> Self:
        if "loss" not in self.objectives:
            raise misfit("the loss is always an objective", "objectives")
        if len(self.objectives) > 1 and self.sampler in SINGLE_OBJECTIVE:
            message = f"{self.sampler} makes one objective small only, found {len(self.objectives)}; take {PARETO}"
            raise misfit(message, "sampler")
        return self

    @property
    def joint(self) -> bool:
        """Whether all N and budgets are one search, which chooses among them too."""
        return self.sampler == "law" or len(self.objectives) > 1

    @property
    def trials_in_all(self) -> int:
        """Of every N and budget together."""
        return self.trials * len(self.nonzero) * len(self.budgets)

    def data_dense(self, nonzero: int, budget: float, seconds_per_item: float | None = None) -> int:
        """A budget as data: what a dense model of `nonzero` weights sees for it, at least 1.

        Args:
            nonzero: N.
            budget: in the budget unit.
            seconds_per_item: that the dense model trains for each token or image; for budgets in seconds.
        """
        match self.budget_unit:
            case "data":
                amount = budget
            case "compute":
                amount = budget / (6 * nonzero)
            case "seconds":
                assert seconds_per_item is not None, "a budget in seconds needs a machine's"
                amount = budget / seconds_per_item
        return max(1, round(amount))
