"""What hardware makes of a scenario: how fast it trains and infers, dense, and what zeros change about that."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from sparsity_lab.cost.economics import INFERENCE_FLOPS_PER_WEIGHT
from sparsity_lab.hardware.curves import Ratio
from sparsity_lab.hardware.profile import (
    QUARTILE,
    inference_ratio,
    regime_cost,
    seconds_per_item,
    speed_basis,
    training_cost,
    training_spread,
)
from sparsity_lab.hardware.serving import WEIGHT_BYTES, Serving, SpeedBasis, near
from sparsity_lab.laws.questions.multipliers import MeanDensity, Multiplier, dense_hardware, multiplier
from sparsity_lab.laws.questions.optimum import FLOPS_PER_WEIGHT
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.messages import Message
from sparsity_lab.specs.bundle import Study
from sparsity_lab.specs.choices import CostMultiplier
from sparsity_lab.specs.hardware import HardwareProfile, ProductFormat
from sparsity_lab.specs.regimes.schedules import Schedule
from sparsity_lab.specs.scenarios import ScenarioSpec


@dataclass(frozen=True, eq=False)
class Speeds:
    """What hardware makes of zeros.

    Attributes:
        training: m(S).
        training_spread: σ of ln m.
        inference: r(S), or None where nothing is known of the hardware and r = 1.
        capped: whether a sparse model may run as dense, so that r never exceeds 1.
        basis: what r rests on; None where nothing is known.
    """

    training: Multiplier
    training_spread: float = 0.0
    inference: Ratio | None = None
    capped: bool = True
    basis: SpeedBasis | None = None

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
        if self.basis is not None and self.basis.of == "bytes":  # a bound
            found = np.maximum(found, self.inference(sparsity))
        return np.asarray(np.minimum(found, 1.0) if self.capped else found)


def speed_notes(basis: SpeedBasis | None) -> Iterator[Message]:
    """What a speed of inference rests on, and what of the serving was folded away or lacks a measurement."""
    if basis is None:
        return
    known = _named(basis)
    yield Message(f"speed-{basis.of}", known)
    if basis.of == "bytes":
        if basis.other_type:
            yield Message("speed-bytes-dtype", known)
        return
    if basis.unasked:
        yield Message("speed-unasked", known)
    if basis.outside:
        yield Message("speed-outside", known)
    if basis.other_size:
        yield Message("speed-size", known)
    for name in basis.missing:
        yield Message(f"speed-missing-{name}", known)


def speed_doubts(basis: SpeedBasis | None, *, turns: bool) -> Iterator[Message]:
    """Reasons not to build on a speed: it is a bound, of another type or phase, or of more rows than are served.

    Args:
        basis: of the speed.
        turns: whether some of the measured rows would give another answer.
    """
    if basis is None:
        return
    known = _named(basis)
    if basis.of == "bytes":
        yield Message("speed-bytes", known)
        return
    if basis.unasked and turns:
        yield Message("speed-unasked", known)
    if basis.outside and basis.asked is not None and basis.asked < basis.taken:
        yield Message("speed-outside", known)
    for name in ("dtype", "phase"):
        if name in basis.missing:
            yield Message(f"speed-missing-{name}", known)


def _named(basis: SpeedBasis) -> dict[str, float | str]:
    return {
        "rows": float(basis.taken),
        "asked": float(basis.asked or 0),
        "low": float(min(basis.rows, default=0)),
        "high": float(max(basis.rows, default=0)),
        "model": basis.model or 0.0,
        "smallest": min(basis.sizes, default=0.0),
        "largest": max(basis.sizes, default=0.0),
        "shapes": ", ".join(f"{outputs} x {inputs}" for outputs, inputs in basis.shapes),
        "dtypes": ", ".join(basis.dtypes),
        "dtype": basis.dtype or "",
    }


def speeds_of(
    scenario: ScenarioSpec,
    profile: HardwareProfile | None,
    schedule: Schedule | MeanDensity | None = None,
    among: Collection[ProductFormat] | None = None,
) -> Speeds:
    """What the scenario's hardware makes of zeros.

    Args:
        scenario: names the format and how training is charged.
        profile: of the hardware; None where nothing is known: training multiplies every zero, and so does inference.
        schedule: of pruning, where training is charged by the density of each moment; the paper's when None.
        among: formats that anything runs, where the scenario names none; all when None.

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
    serving = serving_of(scenario, profile)
    ratio = inference_ratio(profile, scenario.format, serving, among)
    basis = speed_basis(profile, serving, scenario.format, among)
    return Speeds(training, spread, ratio, capped=scenario.format is None, basis=basis)


def serving_of(scenario: ScenarioSpec, profile: HardwareProfile | None) -> Serving:
    """How the scenario serves, on its accelerator or that of the profile."""
    plan, published = scenario.inference, profile.accelerator if profile else None
    one = plan.accelerator or scenario.accelerator
    peak = one.peak_flops_per_second or one.flops_per_second
    return Serving(
        batch=plan.batch,
        rows=plan.rows,
        phase=plan.phase,
        dtype=plan.dtype,
        shapes=plan.shapes,
        nonzero=scenario.model.nonzero,
        flops_per_second=peak or (published.peak_flops_per_second if published else None),
        bandwidth=one.bandwidth_bytes_per_second or (published.bandwidth_bytes_per_second if published else None),
    )


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


def dense_training_speed(profile: HardwareProfile | None, nonzero: float) -> float | None:
    """Dense FLOP/s of whole training steps at N weights."""
    if profile is None or not any(step.sparsity == 0 for step in profile.training):
        return None
    return FLOPS_PER_WEIGHT * nonzero / seconds_per_item(profile, nonzero)


def dense_inference_speed(profile: HardwareProfile | None, nonzero: float, batch: int | None) -> float | None:
    """Dense FLOP/s of whole inference steps of the measured size nearest to N; of training if there are none.

    At the batch that is served, ln(FLOP/s) linear in ln(batch) between measured ones, or else at the best batch. A
    larger model is taken to be no slower a FLOP.
    """
    speeds = _dense_passes(profile, nonzero)
    if not speeds:
        return dense_training_speed(profile, nonzero)
    if batch is None:
        return max(speeds.values())
    known = sorted(speeds)
    return float(np.exp(np.interp(np.log(batch), np.log(known), np.log([speeds[one] for one in known]))))


def dense_speed_notes(scenario: ScenarioSpec, profile: HardwareProfile | None) -> Iterator[Message]:
    """That the dense speed of inference is of training steps or another batch, unless the scenario says one."""
    one, batch = scenario.inference.accelerator or scenario.accelerator, scenario.inference.batch
    said = one.flops_per_second or (one.peak_flops_per_second and one.utilisation)
    known = _dense_passes(profile, scenario.model.nonzero)
    if not known and not said and dense_training_speed(profile, scenario.model.nonzero) is not None:
        yield Message("speed-dense-training")
    if known and batch is not None and not said and not near(batch, tuple(known)):
        nearest = min(known, key=lambda measured: abs(np.log(measured / batch)))
        yield Message("speed-dense-outside", {"asked": float(batch), "rows": float(nearest)})


def _dense_passes(profile: HardwareProfile | None, nonzero: float) -> dict[int, float]:
    """FLOP/s by batch of the dense passes of the measured size nearest to N; none where no pass was measured."""
    steps = [step for step in profile.inference if step.format == "dense"] if profile else []
    if not steps:
        return {}
    nearest = min((step.dense for step in steps), key=lambda dense: abs(np.log(dense / nonzero)))
    return {s.batch: INFERENCE_FLOPS_PER_WEIGHT * s.dense * s.items / s.seconds for s in steps if s.dense == nearest}


def bounded_by_memory(serving: Serving, flops_per_second: ArrayLike) -> ArrayLike:
    """Decoding reads every weight once for a batch: it can sustain no more than 2 · batch · bandwidth / bytes."""
    if serving.phase != "decode" or serving.batch is None or serving.bandwidth is None:
        return flops_per_second
    width = WEIGHT_BYTES[serving.dtype or "bfloat16"]
    most = INFERENCE_FLOPS_PER_WEIGHT * serving.batch * serving.bandwidth / width
    return np.minimum(flops_per_second, most)
