"""Everything that findings, verdict, figures and tables are drawn from, computed once from a study's results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from sparsity_lab.artifacts.evaluations import EvaluationEntry
from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.searches import BudgetResult, SearchResult
from sparsity_lab.cost.comparison import NO_SPARSITY, Reference, Winner
from sparsity_lab.cost.quantities import CostQuantity, QuantityName
from sparsity_lab.cost.speeds import study_multiplier
from sparsity_lab.errors import RecordError
from sparsity_lab.laws import Law, LawDocument, Runs
from sparsity_lab.laws.documents.comparison import ComparisonDocument
from sparsity_lab.laws.documents.diagnostics import FormDiagnostics
from sparsity_lab.laws.questions.multipliers import Multiplier
from sparsity_lab.laws.questions.together import Mixture
from sparsity_lab.messages import Message, Said, Value
from sparsity_lab.plots.info_laws import sees_sparsity
from sparsity_lab.plots.picture import Picture
from sparsity_lab.results.noise import SeedNoise, seed_noise
from sparsity_lab.results.places import (
    CLEAR,
    Difference,
    Place,
    Totals,
    asked_sizes,
    by_place,
    differences_and_noise,
    of_difference,
    totals_of,
)
from sparsity_lab.results.regimes import NameOf, RegimeComparison, compare_grid, regime_names
from sparsity_lab.specs.bundle import Study
from sparsity_lab.specs.choices import CostMultiplier, DataUnit
from sparsity_lab.specs.hardware import HardwareProfile

SPENT: Mapping[CostMultiplier, QuantityName] = {
    "sparse_schedule": "sparse_flops",
    "dense_hardware": "dense_flops",
    "free": "nonzero",
    "measured": "seconds",
}
"""what is used equally under each cost"""


@dataclass(frozen=True)
class ReportInputs:
    """What a report is made from.

    Attributes:
        study: the study with every spec it names.
        grid: records of the grid, finished and diverged.
        trials: records of the search's trials; some may be the grid's own.
        search: what the search found, or None.
        laws: fitted laws by form.
        manifest: facts of the prepared data, shown as they are.
        provenance: versions and whatever else tells where the results come from, shown as they are.
        runs: that the laws were fitted to, with all that their forms read.
        fitted: fingerprints of the runs that the laws are about: dense ones and those of one regime; all when None.
        comparison: of the laws' forms, or None.
        diagnostics: what the runs determine of each law, by form.
        drawn: further figures of the search, made where its storage is read.
        profile: of the hardware, measured or published; None where nothing was measured.
        evaluated: what final weights of the grid turned out to be worth in use.
    """

    study: Study
    grid: Sequence[RunRecord]
    trials: Sequence[RunRecord]
    search: SearchResult | None
    laws: Mapping[str, LawDocument]
    manifest: Mapping[Said, object]
    provenance: Mapping[Said, object]
    runs: Runs
    comparison: ComparisonDocument | None = None
    diagnostics: Mapping[str, FormDiagnostics] = field(default_factory=dict)
    fitted: frozenset[str] | None = None
    profile: HardwareProfile | None = None
    drawn: Sequence[Picture] = ()
    evaluated: Sequence[tuple[RunRecord, EvaluationEntry]] = ()

    @cached_property
    def name_of(self) -> NameOf:
        """The name under which the study knows a run's regime."""
        return regime_names(self.study)

    def about(self, record: RunRecord) -> bool:
        """Whether the laws, and what follows from them, are about a run."""
        return self.fitted is None or record.fingerprint in self.fitted


@dataclass(frozen=True)
class EqualCost:
    """Dense against sparse for N non-zero weights and one budget, where both cost the same.

    Attributes:
        cost: m(S) under which they do.
        nonzero: N.
        budget: D_dense, tokens or images.
        source: "law" or "search".
        sparsity: the best sparsity among those trained; 0 where none is better than dense.
        advantage: loss of dense less loss at that sparsity, nats, with its interval.
        low: of the interval; NaN where nothing is known of it.
        high: of the interval.
        winner: who is better beyond doubt, if anyone.
        confidence: of the interval; None where it is two standard deviations of the noise.
    """

    cost: CostMultiplier
    nonzero: int
    budget: int
    source: Literal["law", "search"]
    sparsity: float
    advantage: float
    low: float
    high: float
    winner: Winner
    confidence: float | None

    @classmethod
    def searched(cls, result: SearchResult, budget: BudgetResult) -> EqualCost | None:
        """The smooth optimum, or the best trial where there is none, against the dense trial of one budget.

        What an identified optimum gains has an interval of its own: noise is often larger at small budgets.
        """
        if budget.dense_loss is None:
            return None
        sparsity, loss, confidence = budget.best_sparsity, budget.best_loss, None
        identified = budget.optimum is not None and budget.optimum_loss is not None
        if budget.optimum is not None and budget.optimum_loss is not None:
            sparsity, loss = budget.optimum, budget.optimum_loss
        advantage, half = budget.dense_loss - loss, CLEAR * math.sqrt(2) * result.noise
        low, high = advantage - half, advantage + half
        if budget.gained is not None and budget.gained_low is not None and budget.gained_high is not None:
            advantage, low, high = budget.gained, budget.gained_low, budget.gained_high
            confidence = result.confidence
        winner: Winner = "sparse" if low > 0 else "unclear"
        if sparsity <= NO_SPARSITY:
            highest = max((trial.sparsity for trial in budget.trials), default=0.0)
            winner = "dense" if identified and budget.flat_high <= 0.5 * highest else "unclear"
        N, D = budget.nonzero, budget.data_dense
        return cls(result.cost, N, D, "search", sparsity, advantage, low, high, winner, confidence)

    def reason(self, unit: DataUnit) -> Message:
        """What it says for or against sparsity."""
        said: dict[str, Value] = {"source": f"source-{self.source}", "nonzero": self.nonzero, "budget": self.budget}
        said |= {"unit": f"unit-{unit}", "cost": f"equal-{self.cost}"}
        if self.winner == "sparse":
            said |= {"sparsity": self.sparsity, "advantage": self.advantage, "low": self.low, "high": self.high}
        return Message(f"reason-{self.winner}", said)


@dataclass(frozen=True)
class Evidence:
    """A study's results, brought together.

    Attributes:
        inputs: what it was made from.
        records: every run once, the grid's first.
        places: finished grid runs by place.
        noise: of seeds, or None where nothing was repeated.
        differences: each sparse place of the laws' regime against the dense one of equal N and D.
        laws: every sound law that sees each sparsity, weighted by held-out error; None where there is not even one.
        law: the first of them.
        document: of that law.
        comparisons: dense against sparse at equal cost, by the law and by the search.
        totals: all non-zero weights of the grid's runs, by size, sparsity and regime.
    """

    inputs: ReportInputs
    records: tuple[RunRecord, ...]
    places: Mapping[Place, tuple[RunRecord, ...]]
    noise: SeedNoise | None
    differences: tuple[Difference, ...]
    laws: Mixture | None
    law: Law | None
    document: LawDocument | None
    comparisons: tuple[EqualCost, ...]
    totals: tuple[Totals, ...]

    @property
    def unmatched(self) -> Totals | None:
        """The runs whose total differs most from that of the dense run of their N, where any differs too much."""
        off = [(abs((one.ratio or 1) - 1), k) for k, one in enumerate(self.totals) if not one.matched]
        return self.totals[max(off)[1]] if off else None

    @property
    def shape_scatter(self) -> float | None:
        """Standard deviation, nats, of what the law leaves of runs beyond the noise of seeds: shapes, and its form."""
        if self.law is None or self.noise is None or not self.finished:
            return None
        runs = self.inputs.runs
        left = runs.loss - self.law.at_runs(runs)
        return math.sqrt(max(0.0, float(np.mean(left**2)) - self.noise.deviation**2))

    @cached_property
    def regimes(self) -> RegimeComparison:
        """The grid's regimes against the first of them."""
        return compare_grid(self.inputs.grid, self.inputs.study, self.inputs.name_of)

    @cached_property
    def finished(self) -> tuple[RunRecord, ...]:
        """Every run that may enter a fit."""
        return tuple(record for record in self.records if record.finished and self.inputs.about(record))

    @property
    def signal_to_noise(self) -> float | None:
        """Median |difference| to dense over the standard deviation of such a difference; None without either."""
        if self.noise is None or not self.differences:
            return None
        signal = float(np.median([abs(difference.mean) for difference in self.differences]))
        return signal / of_difference(self.noise) if self.noise.deviation > 0 else float("inf")

    def cost(self, name: CostMultiplier, regime: str | None = None) -> Multiplier:
        """m(S) of the study, as `cost.assumptions.study_multiplier`."""
        return study_multiplier(self.inputs.study, name, regime, self.inputs.profile)

    @property
    def confidence(self) -> float:
        """Of every interval in the report."""
        return self.inputs.study.spec.law.confidence

    def compared(self, cost: CostMultiplier, source: Literal["law", "search"]) -> tuple[EqualCost, ...]:
        """Comparisons under one cost from one source, in order of N and budget."""
        return tuple(one for one in self.comparisons if (one.cost, one.source) == (cost, source))


def gather(inputs: ReportInputs) -> Evidence:
    """Bring a study's results together.

    Raises:
        RecordError: no run of the grid finished, so there is nothing to report.
    """
    if not any(record.finished for record in inputs.grid):
        raise RecordError("no run of the grid finished", where=inputs.study.name, found=f"{len(inputs.grid)} records")
    records = tuple({record.fingerprint: record for record in (*inputs.trials, *inputs.grid)}.values())
    order = {record.fingerprint: place for place, record in enumerate((*inputs.grid, *inputs.trials))}
    sizes = asked_sizes(inputs.study)
    places = by_place(inputs.grid, sizes)
    of_one_regime = by_place(filter(inputs.about, inputs.grid), sizes)
    sound = {name: Law.from_document(one) for name, one in inputs.laws.items() if one.fit.sound}
    seeing = {
        name: law
        for name, law in sound.items()
        if law.form.sees_sparsity and not (law.form.levels or law.form.required)
    }
    first, law = next(iter(seeing.items()), (None, None))
    budgets = inputs.search.budgets if inputs.search else ()
    searched = (EqualCost.searched(inputs.search, budget) for budget in budgets if inputs.search)
    return Evidence(
        inputs=inputs,
        records=tuple(sorted(records, key=lambda record: order[record.fingerprint])),
        places=places,
        noise=seed_noise(records),
        differences=differences_and_noise(of_one_regime, inputs.study.spec.grid.data_unit).differences,
        laws=Mixture.weighed(seeing, inputs.laws) if seeing else None,
        law=law,
        document=inputs.laws[first] if first else None,
        comparisons=(*_by_law(inputs, law, of_one_regime), *(one for one in searched if one)),
        totals=totals_of(inputs.grid, sizes, inputs.name_of),
    )


def _by_law(inputs: ReportInputs, law: Law | None, places: Mapping[Place, Any]) -> list[EqualCost]:
    """The law on every size and amount of data that the grid trained, under the study's costs."""
    if law is None or not sees_sparsity(law):
        return []
    spec = inputs.study.spec.law
    points = sorted({(place.nonzero, place.data) for place in places})
    highest = max((place.sparsity for place in places), default=0.0)
    if highest == 0:
        return []
    costs: dict[CostMultiplier, CostQuantity] = {
        cost: CostQuantity.of_training(SPENT[cost], study_multiplier(inputs.study, cost, profile=inputs.profile))
        for cost in (spec.cost, "sparse_schedule", "dense_hardware")
    }
    found = []
    for cost, quantity in costs.items():
        for N, D in points:
            reference = Reference(law, N, D, highest=highest, confidence=spec.confidence)
            best, advantage, winner = reference.best(quantity)
            if law.draws is None and winner == "sparse":
                winner = "unclear"  # the page claims nothing that has no interval
            value, low, high = map(float, advantage)
            found.append(EqualCost(cost, N, D, "law", best, value, low, high, winner, spec.confidence))
    return found
