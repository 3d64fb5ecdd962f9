"""From a scenario and a hardware profile to the numbers of the economics: the scenario's own, and draws of them.

A draw takes one law where several are asked, as often as its weight says, one set of that law's bootstrap parameters,
one error of the measured speeds, and one value of each range.
Ranges are drawn evenly in the logarithm, or evenly where they begin at 0. An error of measurement is a factor
exp(z · σ) with one standard normal z for inference and one for training, whatever the sparsity: a machine that was
slow was slow throughout. σ comes from the quartiles of the repetitions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from sparsity_lab.cost.draws import drawn_between, drawn_law
from sparsity_lab.cost.economics import Assumptions, Option, hourly
from sparsity_lab.cost.existing import PAPER_WORTH, Existing, PruningLaw
from sparsity_lab.cost.speeds import (
    Speeds,
    bounded_by_memory,
    dense_inference_speed,
    dense_training_speed,
    serving_of,
)
from sparsity_lab.cost.type_laws import TypeLaw
from sparsity_lab.errors import RecordError, SpecError
from sparsity_lab.hardware.layouts import sparse_formats
from sparsity_lab.hardware.profile import inference_ratio
from sparsity_lab.hardware.runtimes import RuntimeAnswer, RuntimeQuestion, architectures, who_runs
from sparsity_lab.laws.documents.law import LawDocument
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.together import Mixture
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.specs.choices import CostMultiplier
from sparsity_lab.specs.hardware import HardwareProfile, ProductFormat, WeightType
from sparsity_lab.specs.runtimes import RuntimeSpec
from sparsity_lab.specs.scenarios import Accelerator, ScenarioSpec

Doubt = Literal["law", "measurement", "pruning"]
"""what draws may be of alone"""
UNCHANGED: Mapping[str, ArrayLike] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Case:
    """Everything that an evaluation needs, at one set of numbers or at (draws, 1) of them.

    Attributes:
        law: with parameters of that shape.
        given: the economics' numbers.
        sparsity: (S,).
        m: training cost at each sparsity, (…, S).
        r: inference time at each sparsity, (…, S).
        available: items that a run may use; infinite where nobody limits them.
        existing: a checkpoint that could be pruned, or None.
        runs: (S,) whether anything runs the weights as they would be laid out.
    """

    law: Law
    given: Assumptions
    sparsity: FloatArray
    m: FloatArray
    r: FloatArray
    available: ArrayLike
    existing: Existing | None
    runs: ArrayLike = True

    @property
    def dense_option(self) -> Option:
        """The dense model; where it is the paid checkpoint itself, its training is past."""
        existing = self.existing
        return self.given.dense(paid=existing is not None and existing.paid and existing.weights == self.given.nonzero)


@dataclass(frozen=True, eq=False)
class Setting:
    """A scenario with the law and the hardware that it is decided by.

    Attributes:
        scenario: the scenario.
        law: with its draws, if it has any; the scenario's own numbers are by it.
        profile: of the hardware; gives the speed where the scenario does not.
        speeds: what the hardware makes of zeros.
        name: of the scenario.
        evidence: where the law comes from, in words.
        document: of a law fitted here: tells how far it may be trusted.
        runtimes: tables of engines, by name; None where nobody asks whether anything runs it.
        laws: those that draws are from; `law` alone when None.
        pruning: the law of pruned models that the scenario's checkpoint names, or None.
        types: laws of precision that the scenario's types name.
    """

    scenario: ScenarioSpec
    law: Law
    profile: HardwareProfile | None
    speeds: Speeds
    name: str = ""
    evidence: str = ""
    document: LawDocument | None = None
    runtimes: Mapping[str, RuntimeSpec] | None = None
    laws: Mixture | None = None
    pruning: PruningLaw | None = None
    types: Mapping[WeightType, TypeLaw] = field(default_factory=dict)

    def pattern(self, sparsity: float) -> ProductFormat:
        """The layout, of those that run, in which the hardware is fastest at this sparsity; dense where none helps."""
        if self.scenario.format is not None:
            return self.scenario.format
        times: dict[ProductFormat, float] = {"dense": 1.0}
        serving = serving_of(self.scenario, self.profile)
        runs = runnable(self.scenario, self.profile, self.runtimes)
        for layout in sparse_formats() if runs is None else runs:
            if self.profile is not None:
                with suppress(RecordError):  # the profile says nothing of this layout
                    times[layout] = float(inference_ratio(self.profile, layout, serving)(sparsity))
        return min(times, key=lambda layout: times[layout])

    def engines(self, sparsity: float) -> RuntimeAnswer | None:
        """Which engines run weights of this sparsity; None where nobody asks."""
        return who_runs_format(self.scenario, self.profile, self.runtimes, self.pattern(sparsity))

    @property
    def charged(self) -> CostMultiplier:
        """Under which m(S) training is compared: without a profile nothing is measured, and every zero is charged."""
        asked = self.scenario.training.cost
        return "dense_hardware" if asked == "measured" and self.profile is None else asked

    @property
    def _runs(self) -> bool:
        """Whether anything runs the scenario's format; where it names none, dense weights always do."""
        layout = self.scenario.format
        found = None if layout is None else who_runs_format(self.scenario, self.profile, self.runtimes, layout)
        return found is None or found.colour != "red" or self.scenario.own_kernel

    def case(
        self,
        changed: Mapping[str, ArrayLike] = UNCHANGED,
        law: Law | None = None,
        errors: tuple[ArrayLike, ArrayLike] = (0.0, 0.0),
        after: Law | None = None,
    ) -> Case:
        """The scenario as a case.

        Args:
            changed: values of fields of `Ranges` that replace the scenario's own.
            law: with other parameters than the setting's.
            errors: of training and inference speeds, in standard deviations.
            after: the law of pruned models with other parameters than the setting's.

        Raises:
            SpecError: neither the scenario nor the profile says how fast the accelerator is.
        """
        S = np.array(self.scenario.sparsities, dtype=np.float64)
        limit = self.scenario.training.data_available
        return Case(
            law=law or self.law,
            given=assumptions(self.scenario, self.profile, changed),
            sparsity=S,
            m=self.speeds.training_ratio(S, errors[0]),
            r=self.speeds.inference_ratio(S, errors[1]),
            available=changed.get("data_available", np.inf if limit is None else limit),
            existing=self._existing(after),
            runs=self._runs,
        )

    def _existing(self, after: Law | None) -> Existing | None:
        held = self.scenario.checkpoint
        if held is None:
            return None
        known = self.pruning.law if self.pruning else None
        worth = held.worth or PAPER_WORTH
        return Existing(held.dense, held.data, held.paid, worth, after or known, held.loss)

    def draws(self, only: Doubt | None = None) -> tuple[Case, ...]:
        """The scenario's draws, arrays of (…, 1) that make (draws, 1) in all: a case for each law.

        The same scenario gives the same draws. With `only` one source of doubt they are by the scenario's own law, the
        rest as given.
        """
        laws, speeds, ranges, phases = np.random.default_rng(self.scenario.seed).spawn(4)
        shape = (self.scenario.draws, 1)
        errors = speeds.standard_normal((2, *shape)) * (only in {None, "measurement"})
        spans = {} if only else self.scenario.ranges.given
        changed = {name: drawn_between(span, ranges, shape) for name, span in spans.items()}
        cases = []
        for law, rows in self.shared_out() if only is None else [(self.law, slice(0, self.scenario.draws))]:
            count = rows.stop - rows.start
            held = drawn_law(law, laws, count) if only in {None, "law"} else law
            after = self.pruning.law if self.pruning else None
            if after is not None and only in {None, "pruning"}:
                after = drawn_law(after, phases, count)
            mine = {name: values[rows] for name, values in changed.items()}
            cases.append(self.case(mine, held, (errors[0][rows], errors[1][rows]), after))
        return tuple(cases)

    def shared_out(self) -> Iterator[tuple[Law, slice]]:
        """Each law with the draws that are by it, as many as its weight says."""
        if self.laws is None:
            yield self.law, slice(0, self.scenario.draws)
            return
        shares = np.cumsum([self.laws.weights[name] for name in self.laws.laws])
        ends = np.rint(shares / shares[-1] * self.scenario.draws).astype(int).tolist()
        for law, start, stop in zip(self.laws.laws.values(), [0, *ends], ends, strict=False):
            if stop > start:
                yield law, slice(start, stop)


def who_runs_format(
    scenario: ScenarioSpec,
    profile: HardwareProfile | None,
    runtimes: Mapping[str, RuntimeSpec] | None,
    layout: ProductFormat,
    dtype: WeightType | None = None,
) -> RuntimeAnswer | None:
    """Which engines load weights in a layout on the scenario's hardware, in its type or another; None: nobody asks."""
    if runtimes is None:
        return None
    asked = RuntimeQuestion(layout, architectures(profile), dtype or scenario.inference.dtype)
    return who_runs(asked, runtimes.values())


def runnable(
    scenario: ScenarioSpec, profile: HardwareProfile | None, runtimes: Mapping[str, RuntimeSpec] | None
) -> tuple[ProductFormat, ...] | None:
    """Sparse layouts that anything runs; None where all may be taken."""
    if runtimes is None or scenario.own_kernel:
        return None
    answers = {layout: who_runs_format(scenario, profile, runtimes, layout) for layout in sparse_formats()}
    return tuple(layout for layout, one in answers.items() if one is not None and one.colour != "red")


def assumptions(
    scenario: ScenarioSpec, profile: HardwareProfile | None = None, changed: Mapping[str, ArrayLike] = UNCHANGED
) -> Assumptions:
    """The economics' numbers, with some of them changed as in `Setting.case`."""
    own = {
        "data": scenario.model.data,
        "runs_per_year": scenario.training.runs_per_year,
        "items_per_year": scenario.inference.items_per_year,
        "days": scenario.engineering.days,
        "days_per_year": scenario.engineering.days_per_year,
        "day_cost": scenario.engineering.day_cost,
        "discount_rate": scenario.discount_rate,
    }
    separate, trains = scenario.inference.accelerator, scenario.accelerator
    infers = separate or trains
    same_price = infers.price_per_hour == trains.price_per_hour
    no_speeds = {name: value for name, value in changed.items() if name == "price_per_hour" and same_price}
    other = changed if separate is None else no_speeds
    N, serving = scenario.model.nonzero, serving_of(scenario, profile)
    return Assumptions(
        nonzero=N,
        **{name: changed.get(name, value) for name, value in own.items()},
        hour=_hour(trains, changed),
        flops_per_second=_speed(trains, changed, dense_training_speed(profile, N), "accelerator"),
        inference_hour=_hour(infers, other),
        inference_flops_per_second=bounded_by_memory(
            serving, _speed(infers, other, dense_inference_speed(profile, N, serving.batch), "inference.accelerator")
        ),
        horizon_years=scenario.horizon_years,
    )


def _hour(one: Accelerator, changed: Mapping[str, ArrayLike]) -> FloatArray:
    price = changed.get("price_per_hour", one.price_per_hour)
    electricity = changed.get("electricity_per_kwh", one.electricity_per_kwh)
    return hourly(price, one.power_watts, electricity, one.pue)


def _speed(one: Accelerator, changed: Mapping[str, ArrayLike], measured: float | None, field: str) -> ArrayLike:
    """Sustained dense FLOP/s: changed, given, peak times utilisation, or measured."""
    if one.peak_flops_per_second is not None and one.utilisation is not None:
        return one.peak_flops_per_second * np.asarray(changed.get("utilisation", one.utilisation))
    given = changed.get("flops_per_second", one.flops_per_second)
    if given is not None:
        return given
    if measured is None:
        raise SpecError(
            "says no speed, and no hardware profile with whole training steps does",
            field=f"{field}.flops_per_second",
            expected="FLOP/s sustained, or peak_flops_per_second and utilisation",
        )
    return measured
