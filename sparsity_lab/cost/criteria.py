"""What is said beside the numbers: the four criteria that a manager asks for first.

Each criterion has a colour, the number behind it and what would change it.
Green: met in at least the scenario's `confidence` of the draws. Red: not met, and met in at most 1 − confidence of
them. Amber: between, or known too little.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from sparsity_lab.cost.advice import Criterion, CriterionColour
from sparsity_lab.cost.assumptions import Setting, runnable
from sparsity_lab.cost.candidates import SparseOption, interval
from sparsity_lab.cost.economics import BreakEven
from sparsity_lab.cost.speeds import serving_of, speed_doubts
from sparsity_lab.hardware.profile import RowsBreakEven, break_even_rows
from sparsity_lab.hardware.runtimes import RuntimeAnswer
from sparsity_lab.messages import Message


def criteria(setting: Setting, one: SparseOption, volume: BreakEven) -> tuple[Criterion, ...]:
    """Data, hardware, runtime (where tables of engines are asked) and money of one candidate.

    Args:
        setting: of the candidate.
        one: the candidate.
        volume: its break-even inference volume.
    """
    return (_data(setting, one), _hardware(setting, one), *_runtime(setting, one), _money(setting, one, volume))


def facts(setting: Setting, one: SparseOption) -> dict[str, float | str]:
    """What sentences about a candidate name."""
    return {
        "S": one.sparsity,
        "unit": f"unit-{setting.law.data_unit}",
        "cost": f"equal-{setting.charged}",
        "currency": setting.scenario.currency,
        "years": float(setting.scenario.horizon_years),
        "nonzero": float(np.asarray(one.at.option.nonzero)),
    }


def obstacle(setting: Setting, one: SparseOption) -> Message | None:
    """Why a candidate cannot be had or should not be; None where it stands."""
    if one.at.stands:
        return None
    if one.at.enough:
        return Message(_unloaded(setting, "red"), facts(setting, one) | _engines(setting, one))
    return _short_of_data(setting, one)


def _short_of_data(setting: Setting, one: SparseOption) -> Message:
    """Which size or data are out of reach, or better spent."""
    data, limit = float(np.asarray(one.at.option.data)), setting.scenario.training.data_available
    known = facts(setting, one) | {"data": data, "available": float(limit or np.inf)}
    if not np.isfinite(known["nonzero"]):
        return Message("unreachable-size", known)
    if np.isnan(data):
        return Message("unknown-worth", known)
    if not np.isfinite(data):
        return Message("unreachable-data", known)
    if limit is not None and data > limit:
        return Message("data-short", known)
    return Message("data-dense-better", known | {"required": float(one.at.required)})


def _data(setting: Setting, one: SparseOption) -> Criterion:
    confidence, own = setting.scenario.confidence, setting.scenario.model.data
    limit = float(setting.scenario.training.data_available or np.inf)
    takes = float(np.asarray(one.at.option.data))
    short = np.isfinite(takes) and takes > limit
    held = limit if short or one.kind == "prune-existing" else own
    required = takes if short else float(one.at.required)
    low, high = interval(one.over.required, confidence)
    plenty, enough = float(one.over.plenty.mean()), float(one.over.enough.mean())
    colour = _colour(bool(one.at.plenty), bool(one.at.enough), plenty, enough, confidence)
    known = facts(setting, one) | {"data": own, "required": required, "available": limit}
    in_the_way = None if one.at.enough else _short_of_data(setting, one)
    finding = in_the_way or Message(f"{one.kind}-data" + ("" if one.at.plenty else "-scarce"), known)
    change = "data-change-fewer" if one.at.plenty else "data-change-more"
    if not np.isfinite(required):
        change = "data-change-known" if np.isnan(required) else "data-change-reach"
    return Criterion("data", colour, held, required, low, high, finding, Message(change, known))


def _runtime(setting: Setting, one: SparseOption) -> Iterator[Criterion]:
    found = setting.engines(one.sparsity)
    if found is None:
        return
    known = facts(setting, one) | _engines(setting, one)
    own = setting.scenario.own_kernel and found.colour != "green"
    colour: CriterionColour = "amber" if own else found.colour
    count = float(len(found.maintained))
    if own:
        finding = Message("runtime-own", known)
    elif colour == "red":
        finding = Message(_unloaded(setting, "removed" if found.removed else "red"), known)
    else:
        finding = Message(f"runtime-{colour}", known)
    change = Message(f"runtime-change-{colour}", known)
    yield Criterion("runtime", colour, count, 1.0, count, count, finding, change)


def _unloaded(setting: Setting, why: Literal["red", "removed"]) -> str:
    """The message that no engine loads the weights; where the scenario names one, that this one does not."""
    return f"runtime-{why}" if setting.scenario.runtime is None else f"runtime-{why}-asked"


def _engines(setting: Setting, one: SparseOption) -> dict[str, float | str]:
    """What sentences about engines name."""
    found = setting.engines(one.sparsity) or RuntimeAnswer()
    return {
        "maintained": ", ".join(found.maintained),
        "experimental": ", ".join(found.experimental),
        "removed": ", ".join(found.removed),
        "asked": ", ".join(f"{table.engine} {table.engine_version}" for table in (setting.runtimes or {}).values()),
        "pattern": f"pattern-{setting.pattern(one.sparsity)}",
        "looked_up": str(found.looked_up or ""),
    }


def rows_that_suffice(setting: Setting, one: SparseOption) -> RowsBreakEven:
    """From or up to how many rows at once the hardware gives the speed-up that a candidate needs."""
    needed = float(one.at.needed_speedup)
    if setting.profile is None or setting.speeds.inference is None or not np.isfinite(needed):
        return RowsBreakEven("never", None)
    serving = serving_of(setting.scenario, setting.profile)
    among = runnable(setting.scenario, setting.profile, setting.runtimes)
    return break_even_rows(setting.profile, setting.scenario.format, one.sparsity, serving, needed, among=among)


def _hardware(setting: Setting, one: SparseOption) -> Criterion:
    speedup, needed = float(one.at.speedup), float(one.at.needed_speedup)
    low, high = interval(one.over.speedup, setting.scenario.confidence)
    known = facts(setting, one) | {"speedup": speedup, "needed": needed}
    if setting.profile is None:
        finding, change = Message("hardware-unknown", known), Message("hardware-change-unknown", known)
        return Criterion("hardware", "amber", speedup, needed, low, high, finding, change)
    if not np.isfinite(needed):
        finding, change = Message("hardware-endless", known), Message("hardware-change-endless", known)
        return Criterion("hardware", "red", speedup, needed, low, high, finding, change)
    holds = one.over.speedup >= one.over.needed_speedup
    share, helps = float(holds.mean()), speedup > 1
    met = bool(speedup >= needed)
    turn, basis = rows_that_suffice(setting, one), setting.speeds.basis
    colour = _colour(met and helps, met, share if helps else 0.0, share, setting.scenario.confidence)
    shaky = any(speed_doubts(basis, turns=turn.rows is not None)) or (basis is not None and "shapes" in basis.missing)
    if colour == "green" and shaky:
        colour = "amber"
    finding = Message("hardware-met" if met and helps else "hardware-even" if met else "hardware-short", known)
    change = Message("hardware-change-met" if met else "hardware-change-short", known)
    if turn.rows is not None and basis is not None:
        change = Message(f"hardware-change-{turn.side}", known | {"rows": turn.rows, "now": float(basis.taken)})
    return Criterion("hardware", colour, speedup, needed, low, high, finding, change)


def _money(setting: Setting, one: SparseOption, volume: BreakEven) -> Criterion:
    confidence = setting.scenario.confidence
    value = float(one.at.npv)
    low, high = one.npv_interval(confidence)
    saves = float((one.over.npv > 0).mean())
    colour = _colour(value > 0, value > 0, saves, saves, confidence)
    items = setting.scenario.inference.items_per_year
    known = facts(setting, one) | {
        "saved": abs(value),
        "low": low,
        "high": high,
        "confidence": confidence,
        "share": saves,
        "items": volume.value,
        "now": items,
    }
    finding = "money-out" if not np.isfinite(value) else "money-saves" if value > 0 else "money-loses"
    change = Message(f"money-change-{volume.side}", known)
    return Criterion("money", colour, value, 0.0, low, high, Message(finding, known), change)


def _colour(met: bool, open_: bool, share_met: float, share_open: float, confidence: float) -> CriterionColour:
    """Green by what is met, red by what is not even open, each at the scenario's own numbers and over the draws."""
    if met and share_met >= confidence:
        return "green"
    if not open_ and share_open <= 1 - confidence + 1e-12:
        return "red"
    return "amber"
