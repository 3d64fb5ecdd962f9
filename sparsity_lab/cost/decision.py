"""One decision from a setting: what each option costs, four criteria, a tornado, and what to do.

The best sparse option is the one with the highest NPV at the scenario's own numbers among those that stand. It is
recommended where it saves money there and in at least `confidence` of the draws, and where the law knows that region.
Else the advice is to stay dense: firm where in at least `confidence` of the draws no option pays, and until something
is known better where not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from sparsity_lab.cost.advice import Advice, AdviceChoice, Bar, OptionRow, Recommendation, Rivalry
from sparsity_lab.cost.assumptions import Doubt, Setting
from sparsity_lab.cost.candidates import SparseOption, candidates, focus_of, interval, npv_with
from sparsity_lab.cost.caveats import caveats, doubts, draws_basis, next_steps, pruning_basis
from sparsity_lab.cost.criteria import criteria, facts, obstacle
from sparsity_lab.cost.economics import (
    BreakEven,
    LifetimeCost,
    Option,
    annuity,
    break_even_data,
)
from sparsity_lab.cost.energy import energy_use
from sparsity_lab.cost.precision import rivalry
from sparsity_lab.messages import Message


def advise(setting: Setting) -> Advice:
    """Decide whether it pays to be sparse.

    Raises:
        SpecError: nothing says how fast the accelerator is.
    """
    scenario, case = setting.scenario, setting.case()
    dense, held = case.dense_option, candidates(setting)
    best = focus_of(held)
    volume = _volume(setting, best)
    doubted = tuple(doubts(setting, best))
    against = rivalry(setting, held)
    what_to_do = _against(setting, _recommendation(setting, held, best, volume, doubted), against)
    bars = tornado(setting, best)
    profile = setting.profile
    return Advice(
        scenario=setting.name,
        description=scenario.description,
        evidence=setting.evidence,
        hardware=(scenario.hardware or profile.description) if profile else "",
        unit=setting.law.data_unit,
        currency=scenario.currency,
        horizon_years=scenario.horizon_years,
        target_loss=float(case.given.target_loss(setting.law)),
        target_nonzero=scenario.model.nonzero,
        target_data=scenario.model.data,
        recommendation=what_to_do,
        criteria=criteria(setting, best, volume),
        options=(_told(setting, dense, dense.cost(case.given)), *(_row(setting, one) for one in held)),
        focus=1 + held.index(best),
        tornado=bars,
        checklist=tuple(next_steps(setting, best, what_to_do, bars)),
        caveats=tuple(caveats(setting, best)),
        draws=scenario.draws,
        confidence=scenario.confidence,
        rivalry=against,
        energy=energy_use(setting, (dense, best.at.option)),
        drawn=draws_basis(setting),
        pruning=pruning_basis(setting),
    )


def _against(setting: Setting, chosen: Recommendation, against: Rivalry) -> Recommendation:
    """Hold a recommendation against dense weights in other types: sparsity has to beat the cheapest that run."""
    if not against.rows:
        return chosen
    confidence, best = setting.scenario.confidence, against.best_dense
    rival = against.rows[against.dense]
    known = {
        "dtype": rival.dtype,
        "saved": abs(rival.npv),
        "low": rival.npv_low,
        "high": rival.npv_high,
        "confidence": confidence,
        "share": against.beaten,
        "currency": setting.scenario.currency,
        "years": float(setting.scenario.horizon_years),
    }
    sure = best is not None and best.share >= confidence
    if chosen.choice != "stay-dense":
        if 1 - against.beaten >= confidence:
            return chosen
        reason = Message("rival-cheaper", known)
        firm = sure and against.beaten >= confidence
    else:
        if best is None:
            return chosen
        reason, firm = Message("rival-saves", known), sure and against.beaten >= confidence
    if firm:
        return Recommendation("quantise", True, 0, against.beaten, Message("quantise", known), (reason,))
    kept = chosen.until if chosen.choice == "stay-dense" else ()
    return Recommendation("stay-dense", False, 0, against.beaten, Message("stay-dense-until"), (*kept, reason))


def tornado(setting: Setting, one: SparseOption) -> tuple[Bar, ...]:
    """NPV of a candidate with each uncertain number at its ends, widest first; those that move nothing are left out."""
    bars = [
        Bar(name, low, high, *map(float, npv_with(setting, one, {name: np.array([low, high])})))
        for name, (low, high) in setting.scenario.ranges.given.items()
        if name != "data_available"
    ]
    sources: tuple[Doubt, ...] = ("law", "measurement")
    if setting.pruning is not None and one.kind == "prune-existing":
        sources = (*sources, "pruning")
    for source in sources:
        ends = interval(npv_with(setting, one, {}, source), setting.scenario.confidence)
        bars.append(Bar(source, np.nan, np.nan, *ends))
    if setting.laws is not None:
        under = [float(npv_with(replace(setting, law=law), one, {})) for law in setting.laws.laws.values()]
        bars.append(Bar("form", np.nan, np.nan, min(under), max(under)))
    return tuple(sorted((bar for bar in bars if bar.width > 0), key=lambda bar: -bar.width))


def _recommendation(
    setting: Setting, held: Sequence[SparseOption], best: SparseOption, volume: BreakEven, doubted: Sequence[Message]
) -> Recommendation:
    confidence, known = setting.scenario.confidence, facts(setting, best)
    low, high = best.npv_interval(confidence)
    known |= {"saved": abs(float(best.at.npv)), "low": low, "high": high, "confidence": confidence}
    known |= {"share": best.share, "pattern": f"pattern-{setting.pattern(best.sparsity)}"}
    pays = bool(best.at.pays)
    if pays and best.share >= confidence and not doubted:
        choice = cast("AdviceChoice", best.kind)
        because = Message(f"{choice}-because", known)
        return Recommendation(choice, True, 1 + held.index(best), best.share, Message(choice, known), (because,))
    none_pays = 1 - float(np.any([one.over.pays for one in held], axis=0).mean())
    firm = not pays and none_pays >= confidence and not doubted
    headline = Message("stay-dense" if firm else "stay-dense-until", known)
    until = (*doubted, *_until(setting, best, volume))
    return Recommendation("stay-dense", firm, 0, none_pays, headline, until)


def _until(setting: Setting, best: SparseOption, volume: BreakEven) -> Iterator[Message]:
    """What would make the best candidate pay, each alone."""
    known = facts(setting, best) | {"confidence": setting.scenario.confidence, "share": best.share}
    if best.at.pays:
        yield Message("until-sure", known)
        return
    in_the_way = obstacle(setting, best)
    if in_the_way is not None:
        yield in_the_way
    if volume.side in {"above", "below"}:
        now = setting.scenario.inference.items_per_year
        yield Message(f"until-{volume.side}", known | {"items": volume.value, "now": now})
    speedup = _needed_speedup(setting, best)
    if speedup is not None:
        yield Message("until-speedup", known | {"needed": speedup, "speedup": float(best.at.speedup)})
    days = _affordable_days(setting, best)
    if days is not None:
        yield Message("until-days", known | {"days": days, "now": setting.scenario.engineering.days})
    if volume.side == "never" and speedup is None and days is None and in_the_way is None:
        yield Message("until-never", known)


def _needed_speedup(setting: Setting, best: SparseOption) -> float | None:
    """The speed-up of inference at which NPV is 0; None where none is enough, or it pays already."""
    if not np.isfinite(best.at.npv):
        return None
    spent = float(best.at.cost.inference * annuity(setting.scenario.discount_rate, setting.scenario.horizon_years))
    left = spent + float(best.at.npv)
    if not 0 < left < spent:
        return None
    return float(best.at.speedup) * spent / left


def _affordable_days(setting: Setting, best: SparseOption) -> float | None:
    """Days of engineering at which NPV is 0; None where even none at all is too many."""
    people = setting.scenario.engineering
    if not np.isfinite(best.at.npv) or people.day_cost == 0:
        return None
    left = float(best.at.cost.engineering + best.at.npv)
    if not 0 < left < float(best.at.cost.engineering):
        return None
    return left / people.day_cost


def _row(setting: Setting, one: SparseOption) -> OptionRow:
    low, high = one.npv_interval(setting.scenario.confidence)
    return _told(
        setting,
        one.at.option,
        one.at.cost,
        npv=float(one.at.npv),
        npv_low=low,
        npv_high=high,
        share=one.share,
        possible=bool(one.at.stands),
        obstacle=obstacle(setting, one),
        break_even_items=_volume(setting, one),
        break_even_data=break_even_data(
            lambda data: npv_with(setting, one, {"data": data}), setting.scenario.model.data
        ),
    )


def _told(setting: Setting, option: Option, cost: LifetimeCost, **against_dense: Any) -> OptionRow:
    years = float(annuity(setting.scenario.discount_rate, setting.scenario.horizon_years))
    return OptionRow(
        kind=option.kind,
        sparsity=float(np.asarray(option.sparsity)),
        nonzero=float(np.asarray(option.nonzero)),
        data=float(np.asarray(option.data)),
        training_ratio=float(np.asarray(option.training_ratio)),
        inference_ratio=float(np.asarray(option.inference_ratio)),
        engineering=float(cost.engineering),
        training=float(cost.training) * years,
        inference=float(cost.inference) * years,
        upkeep=float(cost.upkeep) * years,
        total=float(cost.total),
        **against_dense,
    )


def _volume(setting: Setting, one: SparseOption) -> BreakEven:
    case = setting.case()
    return one.at.option.break_even_items(case.dense_option, case.given)
