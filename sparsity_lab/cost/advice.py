"""What an advice says, as values: criteria, options, bars, and messages."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Literal

from sparsity_lab.cost.economics import BreakEven, OptionKind
from sparsity_lab.cost.energy import EnergyUse
from sparsity_lab.messages import Message
from sparsity_lab.specs.hardware import ProductFormat, WeightType

CriterionColour = Literal["green", "amber", "red"]
CriterionName = Literal["data", "hardware", "runtime", "money"]
AdviceChoice = Literal["train-sparse", "prune-existing", "quantise", "stay-dense"]
SparseQuality = Literal["law", "panferov2025", "type-law"]
NEVER = BreakEven("never", math.nan)


@dataclass(frozen=True)
class Criterion:
    """The answer to one of the four questions.

    Attributes:
        question: is there enough data? can the hardware use it? does anything run it? can we afford it?
        colour: green where it is met beyond doubt, red where it is not, amber between.
        value: the number behind it: items of a run, or available for pruning; speed-up of inference; maintained
            engines; NPV.
        threshold: what it is held against: items needed; speed-up needed; 1; 0.
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
class PrecisionRow:
    """Dense or sparse weights in one type.

    Attributes:
        dtype: of the weights.
        sparsity: S; 0 is dense.
        pattern: how they are laid out.
        quality: what tells the worth of zeros: the scenario's law, the published rho, or the law that the type names.
        nonzero: N; infinite where no size reaches the quality.
        stored: bytes of the weights.
        inference_ratio: time of the same shapes relative to dense weights in the scenario's own type.
        modelled: whether that speed was measured by nobody.
        total: TCO.
        npv: saved against dense weights in the own type.
        npv_low: of its interval over the draws.
        npv_high: likewise.
        share: of the draws in which it saves.
        runs: colour of the question whether anything runs it; None where nobody asks.
        source: of the type's worth.
    """

    dtype: WeightType
    sparsity: float
    pattern: ProductFormat
    quality: SparseQuality
    nonzero: float
    stored: float
    inference_ratio: float
    modelled: bool
    total: float
    npv: float
    npv_low: float
    npv_high: float
    share: float
    runs: CriterionColour | None
    source: str


@dataclass(frozen=True)
class Rivalry:
    """Sparse weights of any type against dense ones of any type.

    Attributes:
        rows: the own type first; empty where the scenario has no types.
        dense: the place of the cheapest dense row that runs.
        sparse: of the cheapest sparse row by the law that runs; None where none does.
        beaten: share of the draws in which a dense row that runs costs no more than every sparse one.
        notes: what types are worth by laws that they name.
    """

    rows: tuple[PrecisionRow, ...] = ()
    dense: int = 0
    sparse: int | None = None
    beaten: float = 0.0
    notes: tuple[Message, ...] = ()

    @property
    def best_dense(self) -> PrecisionRow | None:
        """The cheapest dense row that runs, where it is not the own type and saves."""
        best = self.rows[self.dense] if self.rows else None
        return best if best is not None and self.dense > 0 and best.npv > 0 else None


@dataclass(frozen=True)
class Bar:
    """One bar of the tornado: NPV of the best option with one number at the ends of its range.

    Attributes:
        field: of the scenario's ranges; `law`, `measurement` and `pruning` for the central interval over their draws
            alone; `form` for the least and the most under the laws that were asked, each at its best parameters.
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
        choice: one of four.
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
        rivalry: every type of the scenario, dense and sparse; empty where it has none.
        energy: electricity of dense and of the option in focus, its money and its emissions.
        drawn: where the draws of the law come from; None where it has none.
        pruning: what tells the items that a pruned checkpoint takes; None where the scenario has no checkpoint.
    """

    scenario: str
    description: str
    evidence: str
    hardware: str
    unit: str
    currency: str
    horizon_years: float
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
    rivalry: Rivalry = Rivalry()
    energy: EnergyUse = field(default_factory=EnergyUse)
    drawn: Message | None = None
    pruning: Message | None = None

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
        case _ if is_dataclass(value):
            return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
        case _:
            return value
