"""Electricity of options over the horizon, what of it is paid apart, and its emissions. What is unknown stays so.

    training   = runs · H · seconds of a run · (joules / seconds of a metered training step, or power_watts) · pue
    inference  = items · H · 2 N / (1 − S) / F · r · power_watts · pue,   or
                 items · H · N / (1 − S) · e(S) · pue

with e(S) joules of a weight, zero or not, an item, where the profile has metered the layout; the second counts then.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sparsity_lab.cost.assumptions import Setting
from sparsity_lab.cost.economics import Option, OptionKind, inference_seconds, training_seconds
from sparsity_lab.cost.speeds import serving_of
from sparsity_lab.hardware.serving import Serving, served_points
from sparsity_lab.messages import Message
from sparsity_lab.specs.choices import DataUnit
from sparsity_lab.specs.hardware import HardwareProfile, InferenceStep, Product, ProductFormat
from sparsity_lab.specs.scenarios import Accelerator

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class EnergyRow:
    """One option over the horizon, not discounted; None where nobody knows.

    Attributes:
        kind: dense, train-sparse or prune-existing.
        sparsity: S.
        training: kWh, drawn by the building.
        inference: likewise.
        joules: of an item of inference, drawn by the building.
        training_metered: whether training rests on joules that were measured, not on the accelerator's power.
        metered: likewise inference.
        money: of the electricity that is paid apart from the hour.
        emitted: kg CO2 equivalents.
    """

    kind: OptionKind
    sparsity: float
    training: float | None
    inference: float | None
    joules: float | None
    training_metered: bool
    metered: bool
    money: float | None
    emitted: float | None


@dataclass(frozen=True)
class EnergyUse:
    """Electricity of a decision.

    Attributes:
        rows: dense, and the option in focus; none where nothing of it is known.
        notes: what it rests on, and what nobody said.
        unit: what an item is.
    """

    rows: tuple[EnergyRow, ...] = ()
    notes: tuple[Message, ...] = ()
    unit: DataUnit = "tokens"


def energy_use(setting: Setting, options: tuple[Option, ...]) -> EnergyUse:
    """Electricity of options.

    Args:
        setting: of the decision.
        options: single ones.
    """
    rows = tuple(_row(setting, option) for option in options)
    if all(row.training is None and row.inference is None for row in rows):
        return EnergyUse((), (Message("energy-unknown"),))
    return EnergyUse(rows, tuple(_notes(setting, rows)), setting.law.data_unit)


def joules_per_weight(profile: HardwareProfile, name: ProductFormat, sparsity: float, serving: Serving) -> float | None:
    """Joules of a weight, zero or not, an item (a row of a product), as metered; None where it was not.

    At the metered rows nearest to those served. Between sparsities ln is linear in −ln(1 − S); outside them nothing is
    told. Over shapes the geometric mean.

    Args:
        profile: with joules.
        name: of the weights; dense ones were metered beside every other.
        sparsity: S; not looked at for dense.
        serving: its rows, type and shapes.
    """
    basis = served_points(profile, serving, None if name == "dense" else name)
    points = [one for one in basis.points if one.joules is not None]
    if not points:
        return None
    rows = min({_rows(one) for one in points}, key=lambda count: abs(math.log(count / basis.basis.taken)))
    found: dict[float, list[float]] = defaultdict(list)
    for one in points:
        if _rows(one) == rows:
            spent = one.dense_joules if name == "dense" else one.joules
            assert spent is not None, "they go together"
            found[0.0 if name == "dense" else one.sparsity].append(math.log(spent / _work(one)))
    levels = sorted(found)
    if name == "dense":
        return math.exp(float(np.mean(found[0.0])))
    if not levels[0] - 1e-9 <= sparsity <= levels[-1] + 1e-9:
        return None
    logs = [float(np.mean(found[level])) for level in levels]
    return math.exp(float(np.interp(-math.log1p(-sparsity), -np.log1p(-np.array(levels)), logs)))


def training_watts(profile: HardwareProfile, nonzero: float, sparsity: float) -> float | None:
    """Watts while a model of N non-zero weights trains, as metered; None where they were not.

    Those of steps that prune are of the profile's first regime. Between measured sizes ln is linear in ln N, outside
    them the nearest holds: how much a machine draws depends little on it. Between sparsities ln is linear in
    −ln(1 − S); beyond the last nothing is told.
    """
    regime = next((step.regime for step in profile.training if step.sparsity > 0), None)
    sizes: dict[int, dict[float, float]] = defaultdict(dict)
    for step in profile.training:
        if step.joules is not None and (step.sparsity == 0 or step.regime == regime):
            sizes[step.nonzero][step.sparsity] = math.log(step.joules / step.seconds)
    told = {}
    for size, table in sizes.items():
        levels = sorted(table)
        if levels[0] - 1e-9 <= sparsity <= levels[-1] + 1e-9:
            logs = [table[level] for level in levels]
            told[size] = float(np.interp(-math.log1p(-sparsity), -np.log1p(-np.array(levels)), logs))
    if not told:
        return None
    return math.exp(float(np.interp(math.log(nonzero), np.log(sorted(told)), [told[size] for size in sorted(told)])))


def _rows(one: Product | InferenceStep) -> int:
    return one.batch if isinstance(one, InferenceStep) else one.rows


def _work(one: Product | InferenceStep) -> float:
    """Weights times items."""
    return float(one.items * one.dense if isinstance(one, InferenceStep) else one.rows * one.inputs * one.outputs)


def _row(setting: Setting, option: Option) -> EnergyRow:
    scenario, given = setting.scenario, setting.case().given
    trains, serves = scenario.accelerator, scenario.inference.accelerator or scenario.accelerator
    S, N = float(np.asarray(option.sparsity)), float(np.asarray(option.nonzero))
    run = training_seconds(N, option.data, given.flops_per_second, option.training_ratio, option.pretraining)
    watts = training_watts(setting.profile, N, S) if setting.profile else None
    runs = scenario.training.runs_per_year * scenario.horizon_years
    training = _drawn(trains, float(np.asarray(run)) * runs, watts or trains.power_watts)
    items = scenario.inference.items_per_year * scenario.horizon_years
    spent = None
    if setting.profile is not None:
        layout = setting.pattern(S) if S else "dense"
        spent = joules_per_weight(setting.profile, layout, S, serving_of(scenario, setting.profile))
    if spent is not None:
        inference: float | None = items * N / (1 - S) * spent * serves.pue / JOULES_PER_KWH
    else:
        seconds = inference_seconds(N, S, given.inference_flops_per_second, option.inference_ratio)
        inference = _drawn(serves, float(np.asarray(seconds)) * items, serves.power_watts)
    drawn = (training, inference)
    return EnergyRow(
        kind=option.kind,
        sparsity=S,
        training=_known(training),
        inference=_known(inference),
        joules=_known(inference * JOULES_PER_KWH / items) if inference is not None and items else None,
        training_metered=watts is not None,
        metered=spent is not None,
        money=_times(drawn, (trains.electricity_per_kwh or None, serves.electricity_per_kwh or None)),
        emitted=_times(drawn, (trains.co2e_per_kwh, serves.co2e_per_kwh)),
    )


def _drawn(one: Accelerator, seconds: float, watts: float) -> float | None:
    """KWh in so many seconds; None where nobody says what it draws."""
    return watts * one.pue * seconds / JOULES_PER_KWH if watts else None


def _times(drawn: Sequence[float | None], factors: Sequence[float | None]) -> float | None:
    """The sum of products; None where a part is unknown."""
    parts = [kwh * factor for kwh, factor in zip(drawn, factors, strict=True) if kwh is not None and factor is not None]
    return _known(sum(parts)) if len(parts) == len(drawn) else None


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _notes(setting: Setting, rows: tuple[EnergyRow, ...]) -> Iterator[Message]:
    scenario = setting.scenario
    every = (scenario.accelerator, scenario.inference.accelerator or scenario.accelerator)
    profile = setting.profile
    if profile is not None and any(row.metered for row in rows):
        yield Message("energy-metered", {"counters": profile.energy})
    if profile is not None and any(row.training_metered for row in rows):
        yield Message("energy-metered-training", {"counters": profile.energy})
    known = [(row.training, row.training_metered) for row in rows] + [(row.inference, row.metered) for row in rows]
    if any(value is not None and not metered for value, metered in known):
        yield Message("energy-by-power")
    if any(row.inference is None for row in rows):
        yield Message("energy-not-metered")
    if any(row.training is None for row in rows):
        yield Message("energy-no-power")
    if not all(one.electricity_per_kwh for one in every):
        yield Message("energy-no-price")
    if any(one.co2e_per_kwh is None for one in every):
        yield Message("energy-no-grid")
