"""What an advice says, as values: criteria, options, bars, and messages."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sparsity_lab.cost.economics import BreakEven, OptionKind
from sparsity_lab.messages import Message

CriterionColour = Literal["green", "amber", "red"]
CriterionName = Literal["data", "hardware", "money"]
AdviceChoice = Literal["train-sparse", "prune-existing", "stay-dense"]
NEVER = BreakEven("never", math.nan)


@dataclass(frozen=True)
class Criterion:
    """The answer to one of the three questions.

    Attributes:
        question: is there enough data? can the hardware use it? can we afford it?
        colour: green where it is met beyond doubt, red where it is not, amber between.
        value: the number behind it: items of a run, or available for pruning; speed-up of inference; NPV.
        threshold: what it is held against: items needed; speed-up needed; 0.
        low: of what is uncertain in the comparison: the threshold (data), the value (hardware, money).
        high: likewise.
        finding: value and threshold in words.
        change: what would change the answer.
    """

    question: CriterionName
    colour: CriterionColour
    value: float
    threshold: float
    low: float
    high: float
    finding: Message
    change: Message


@dataclass(frozen=True)
class OptionRow:
    """One option with its money, at the scenario's own numbers and over the draws; what is left out is as for dense.

    Attributes:
        kind: dense, train-sparse or prune-existing.
        sparsity: S.
        nonzero: N, non-zero weights; infinite where no size reaches the quality.
        data: items of a run; infinite where none suffice, NaN where nobody knows.
        training_ratio: m(S).
        inference_ratio: r(S).
        engineering: once.
        training: over the horizon, discounted; so are the next three.
        inference: likewise.
        upkeep: likewise.
        total: TCO.
        npv: saved against dense; 0 for dense.
        npv_low: of its interval.
        npv_high: of its interval.
        share: of the draws in which it is possible and cheaper than dense.
        possible: whether the data suffice and the quality can be reached.
        obstacle: why not, or None.
        break_even_items: yearly inference volume at which it starts or stops to pay.
        break_even_data: data of a run, likewise.
    """

    kind: OptionKind
    sparsity: float
    nonzero: float
    data: float
    training_ratio: float
    inference_ratio: float
    engineering: float
    training: float
    inference: float
    upkeep: float
    total: float
    npv: float = 0.0
    npv_low: float = 0.0
    npv_high: float = 0.0
    share: float = 0.0
    possible: bool = True
    obstacle: Message | None = None
    break_even_items: BreakEven = NEVER
    break_even_data: BreakEven = NEVER


@dataclass(frozen=True)
class Bar:
    """One bar of the tornado: NPV of the best option with one number at the ends of its range.

    Attributes:
        field: of the scenario's ranges, or `law` and `measurement` for the central interval over their draws alone.
        low: lowest value thought possible; NaN for draws.
        high: highest.
        npv_low: NPV at `low`, or the lower end of the interval.
        npv_high: NPV at `high`, or the upper end.
    """

    field: str
    low: float
    high: float
    npv_low: float
    npv_high: float

    @property
    def width(self) -> float:
        """How much of the answer hangs on it."""
        return abs(self.npv_high - self.npv_low)


@dataclass(frozen=True)
class Recommendation:
    """What to do.

    Attributes:
        choice: one of three.
        firm: False where the evidence does not settle it: then dense until one of `until` holds.
        option: the place in the advice's options of what is recommended.
        confidence: share of draws that agree.
        headline: the choice in a sentence.
        until: what would have to hold for sparsity to pay.
    """

    choice: AdviceChoice
    firm: bool
    option: int
    confidence: float
    headline: Message
    until: tuple[Message, ...]


@dataclass(frozen=True)
class Advice:
    """A decision with everything it rests on.

    Attributes:
        scenario: its name.
        description: of the scenario.
        evidence: where the law comes from.
        hardware: where speeds come from; empty where nothing was measured.
        unit: what data and inference count.
        currency: label.
        horizon_years: H.
        target_loss: L*, nats.
        target_nonzero: N_ref.
        target_data: D.
        recommendation: what to do.
        criteria: data, hardware, money; `lights` in JSON.
        options: dense first, then from scratch, then pruned, by sparsity.
        focus: the place in `options` of the best option that is not dense; criteria and bars are about it.
        tornado: widest bar first.
        checklist: next steps.
        caveats: what the numbers do not know.
        draws: of the Monte Carlo.
        confidence: of the intervals, and what anything but dense needs.
    """

    scenario: str
    description: str
    evidence: str
    hardware: str
    unit: str
    currency: str
    horizon_years: int
    target_loss: float
    target_nonzero: float
    target_data: float
    recommendation: Recommendation
    criteria: tuple[Criterion, ...]
    options: tuple[OptionRow, ...]
    focus: int
    tornado: tuple[Bar, ...]
    checklist: tuple[Message, ...]
    caveats: tuple[Message, ...]
    draws: int
    confidence: float

    def json(self) -> dict[str, Any]:
        """Plain values; numbers that are infinite or unknown are null."""
        told: dict[str, Any] = plain(self)
        return {"lights" if name == "criteria" else name: value for name, value in told.items()}


def plain(value: Any) -> Any:  # noqa: PLR0911  # one for each kind of value
    """As JSON has it: messages as keys with values, infinite and unknown numbers as null."""
    match value:
        case Message():
            return {"key": value.key, "values": plain(value.values)}
        case BreakEven():
            return {"side": value.side, "value": plain(value.value)}
        case Mapping():
            return {key: plain(one) for key, one in value.items()}
        case tuple():
            return [plain(one) for one in value]
        case float():
            return value if math.isfinite(value) else None
        case Advice() | Recommendation() | Criterion() | OptionRow() | Bar():
            return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
        case _:
            return value
