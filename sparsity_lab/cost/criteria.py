"""The three questions that a manager asks first, each with a colour, the number behind it and what would change it.

Green: met in at least the scenario's `confidence` of the draws. Red: not met, and met in at most 1 − confidence of
them. Amber: between, or known too little.
"""

from __future__ import annotations

import numpy as np

from sparsity_lab.cost.advice import Colour, Light
from sparsity_lab.cost.assumptions import Setting
from sparsity_lab.cost.candidates import Candidate, interval
from sparsity_lab.cost.economics import BreakEven
from sparsity_lab.messages import Message


def criteria(setting: Setting, one: Candidate, volume: BreakEven) -> tuple[Light, Light, Light]:
    """Data, hardware and money of one candidate.

    Args:
        setting: of the candidate.
        one: the candidate.
        volume: its break-even inference volume.
    """
    return _data(setting, one), _hardware(setting, one), _money(setting, one, volume)


def facts(setting: Setting, one: Candidate) -> dict[str, float | str]:
    """What sentences about a candidate name."""
    return {
        "S": one.sparsity,
        "unit": f"unit-{setting.law.data_unit}",
        "currency": setting.scenario.currency,
        "years": float(setting.scenario.horizon_years),
        "nonzero": float(np.asarray(one.at.option.nonzero)),
    }


def obstacle(setting: Setting, one: Candidate) -> Message | None:
    """Why a candidate cannot be had or should not be; None where it stands."""
    if one.at.enough:
        return None
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


def _data(setting: Setting, one: Candidate) -> Light:
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
    finding = obstacle(setting, one) or Message(f"{one.kind}-data" + ("" if one.at.plenty else "-scarce"), known)
    return Light("data", colour, held, required, low, high, finding, Message(_more_or_less(required, one), known))


def _more_or_less(required: float, one: Candidate) -> str:
    if np.isnan(required):
        return "data-change-known"
    if np.isinf(required):
        return "data-change-reach"
    return "data-change-fewer" if one.at.plenty else "data-change-more"


def _hardware(setting: Setting, one: Candidate) -> Light:
    speedup, needed = float(one.at.speedup), float(one.at.needed_speedup)
    low, high = interval(one.over.speedup, setting.scenario.confidence)
    known = facts(setting, one) | {"speedup": speedup, "needed": needed}
    if setting.profile is None:
        finding, change = Message("hardware-unknown", known), Message("hardware-change-unknown", known)
        return Light("hardware", "amber", speedup, needed, low, high, finding, change)
    if not np.isfinite(needed):
        finding = Message("hardware-endless", known)
        return Light("hardware", "red", speedup, needed, low, high, finding, Message("hardware-change-endless", known))
    holds = one.over.speedup >= one.over.needed_speedup
    share, helps = float(holds.mean()), speedup > 1
    met = bool(speedup >= needed)
    colour = _colour(met and helps, met, share if helps else 0.0, share, setting.scenario.confidence)
    finding = Message("hardware-met" if met and helps else "hardware-even" if met else "hardware-short", known)
    change = Message("hardware-change-met" if met else "hardware-change-short", known)
    return Light("hardware", colour, speedup, needed, low, high, finding, change)


def _money(setting: Setting, one: Candidate, volume: BreakEven) -> Light:
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
    return Light("money", colour, value, 0.0, low, high, Message(finding, known), change)


def _colour(met: bool, open_: bool, share_met: float, share_open: float, confidence: float) -> Colour:
    """Green by what is met, red by what is not even open, each at the scenario's own numbers and over the draws."""
    if met and share_met >= confidence:
        return "green"
    if not open_ and share_open <= 1 - confidence + 1e-12:
        return "red"
    return "amber"
