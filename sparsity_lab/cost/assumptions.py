"""From a scenario and a hardware profile to the numbers of the economics: the scenario's own, and draws of them.

A draw takes one set of the law's bootstrap parameters, one error of the measured speeds, and one value of each range.
Ranges are drawn evenly in the logarithm, or evenly where they begin at 0. An error of measurement is a factor
exp(z · σ) with one standard normal z for inference and one for training, whatever the sparsity: a machine that was
slow was slow throughout. σ comes from the quartiles of the repetitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from sparsity_lab.cost.economics import INFERENCE_FLOPS_PER_WEIGHT, PAPER_WORTH, Assumptions, Existing, Option, hourly
from sparsity_lab.errors import SpecError
from sparsity_lab.hardware.curves import Ratio
from sparsity_lab.hardware.profile import (
    QUARTILE,
    inference_ratio,
    regime_cost,
    seconds_per_item,
    training_cost,
    training_spread,
)
from sparsity_lab.laws.documents.law import LawDocument
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.multipliers import MeanDensity, Multiplier, dense_hardware, multiplier
from sparsity_lab.laws.questions.optimum import FLOPS_PER_WEIGHT
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.specs.bundle import Study
from sparsity_lab.specs.choices import CostMultiplier
from sparsity_lab.specs.hardware import HardwareProfile
from sparsity_lab.specs.regimes.schedules import Schedule
from sparsity_lab.specs.scenarios import Accelerator, Checkpoint, ScenarioSpec

UNCHANGED: Mapping[str, ArrayLike] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Speeds:
    """What hardware makes of zeros.

    Attributes:
        training: m(S).
        training_spread: σ of ln m.
        inference: r(S), or None where nothing is known of the hardware and r = 1.
        capped: whether a sparse model may run as dense, so that r never exceeds 1.
    """

    training: Multiplier
    training_spread: float = 0.0
    inference: Ratio | None = None
    capped: bool = True

    def training_ratio(self, sparsity: FloatArray, error: ArrayLike = 0.0) -> FloatArray:
        """The multiplier m(S), with an error in standard deviations."""
        return np.asarray(self.training(sparsity) * np.exp(np.asarray(error) * self.training_spread))

    def inference_ratio(self, sparsity: FloatArray, error: ArrayLike = 0.0) -> FloatArray:
        """The ratio r(S), with an error in standard deviations."""
        if self.inference is None:
            return np.ones_like(sparsity + np.asarray(error))
        low, high = (replace(self.inference, ratio=end)(sparsity) for end in (self.inference.low, self.inference.high))
        spread = np.log(high / low) / (2 * QUARTILE)
        found = self.inference(sparsity) * np.exp(np.asarray(error) * spread)
        return np.asarray(np.minimum(found, 1.0) if self.capped else found)


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
    """

    law: Law
    given: Assumptions
    sparsity: FloatArray
    m: FloatArray
    r: FloatArray
    available: ArrayLike
    existing: Existing | None

    @property
    def dense_option(self) -> Option:
        """The dense model; where it is the paid checkpoint itself, its training is past."""
        existing = self.existing
        return self.given.dense(paid=existing is not None and existing.paid and existing.weights == self.given.nonzero)


def speeds_of(
    scenario: ScenarioSpec, profile: HardwareProfile | None, schedule: Schedule | MeanDensity | None = None
) -> Speeds:
    """What the scenario's hardware makes of zeros.

    Args:
        scenario: names the format and how training is charged.
        profile: of the hardware; None where nothing is known: training multiplies every zero, and so does inference.
        schedule: of pruning, where training is charged by the density of each moment; the paper's when None.

    Raises:
        RecordError: the profile has nothing of the format.
    """
    measured = scenario.training.cost == "measured"
    spread = 0.0
    if not measured:
        training = multiplier(scenario.training.cost, schedule)
    elif profile is None:
        training = dense_hardware
    else:
        training = training_cost(profile, scenario.model.nonzero)
        spread = training_spread(profile) if profile.training else 0.0
    if profile is None:
        return Speeds(training)
    ratio = inference_ratio(profile, scenario.format)
    return Speeds(training, spread, ratio, capped=scenario.format is None)


def study_multiplier(
    study: Study, name: CostMultiplier, regime: str | None = None, profile: HardwareProfile | None = None
) -> Multiplier:
    """m(S) under the schedule of a regime of the study (the named one, or the first that prunes), or as measured.

    Raises:
        RecordError: it is to be the measured one, and there is no profile.
    """
    names = (regime,) if regime else study.spec.grid.regimes
    schedule = next((study.sparse_regimes[each].schedule for each in names if each in study.sparse_regimes), None)
    table = regime_cost(profile, regime) if profile and name == "measured" else None
    return multiplier(name, schedule, table)


@dataclass(frozen=True, eq=False)
class Setting:
    """A scenario with the law and the hardware that it is decided by.

    Attributes:
        scenario: the scenario.
        law: with its draws, if it has any.
        profile: of the hardware; gives the speed where the scenario does not.
        speeds: what the hardware makes of zeros.
        name: of the scenario.
        evidence: where the law comes from, in words.
        document: of a law fitted here: tells how far it may be trusted.
    """

    scenario: ScenarioSpec
    law: Law
    profile: HardwareProfile | None
    speeds: Speeds
    name: str = ""
    evidence: str = ""
    document: LawDocument | None = None

    @property
    def charged(self) -> CostMultiplier:
        """Under which m(S) training is compared: without a profile nothing is measured, and every zero is charged."""
        asked = self.scenario.training.cost
        return "dense_hardware" if asked == "measured" and self.profile is None else asked

    def case(
        self,
        changed: Mapping[str, ArrayLike] = UNCHANGED,
        law: Law | None = None,
        errors: tuple[ArrayLike, ArrayLike] = (0.0, 0.0),
    ) -> Case:
        """The scenario as a case.

        Args:
            changed: values of fields of `Ranges` that replace the scenario's own.
            law: with other parameters than the setting's.
            errors: of training and inference speeds, in standard deviations.

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
            existing=_existing(self.scenario.checkpoint),
        )

    def draws(self, only: Literal["law", "measurement"] | None = None) -> Case:
        """The scenario's draws as one case, arrays of (draws, 1); `only` one source of doubt, the rest as given.

        The same scenario gives the same draws.
        """
        laws, speeds, ranges = np.random.default_rng(self.scenario.seed).spawn(3)
        shape = (self.scenario.draws, 1)
        errors = speeds.standard_normal((2, *shape)) if only != "law" else np.zeros((2, 1, 1))
        law = self.law
        if law.draws is not None and only != "measurement":  # (draws, 1) parameters, rows of the bootstrap
            rows = laws.integers(len(law.draws[0]), size=self.scenario.draws)
            fields = {name: np.asarray(values)[rows, None] for name, values in law.draws._asdict().items()}
            law = replace(law, params=law.params._replace(**fields))
        spans = {} if only else self.scenario.ranges.given
        changed = {name: _drawn(span, ranges, shape) for name, span in spans.items()}
        return self.case(changed, law, (errors[0], errors[1]))


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
    N = scenario.model.nonzero
    return Assumptions(
        nonzero=N,
        **{name: changed.get(name, value) for name, value in own.items()},
        hour=_hour(trains, changed),
        flops_per_second=_speed(trains, changed, _training_speed(profile, N), "accelerator"),
        inference_hour=_hour(infers, other),
        inference_flops_per_second=_speed(infers, other, _inference_speed(profile, N), "inference.accelerator"),
        horizon_years=scenario.horizon_years,
    )


def _existing(checkpoint: Checkpoint | None) -> Existing | None:
    if checkpoint is None:
        return None
    return Existing(checkpoint.dense, checkpoint.data, paid=checkpoint.paid, worth=checkpoint.worth or PAPER_WORTH)


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


def _training_speed(profile: HardwareProfile | None, nonzero: float) -> float | None:
    """Dense FLOP/s of whole training steps at N weights."""
    if profile is None or not any(step.sparsity == 0 for step in profile.training):
        return None
    return FLOPS_PER_WEIGHT * nonzero / seconds_per_item(profile, nonzero)


def _inference_speed(profile: HardwareProfile | None, nonzero: float) -> float | None:
    """Dense FLOP/s of whole inference steps of the measured size nearest to N, at its best batch; of training if none.

    A larger model is taken to be no slower a FLOP.
    """
    steps = [step for step in profile.inference if step.format == "dense"] if profile else []
    if not steps:
        return _training_speed(profile, nonzero)
    nearest = min((step.dense for step in steps), key=lambda dense: abs(np.log(dense / nonzero)))
    return max(INFERENCE_FLOPS_PER_WEIGHT * s.dense * s.items / s.seconds for s in steps if s.dense == nearest)


def _drawn(span: tuple[float, float], stream: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
    low, high = span
    share = stream.random(shape)
    return np.asarray(low * (high / low) ** share if low > 0 else high * share)
