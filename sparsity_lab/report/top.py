"""The top of the page: what to do, why, the four questions, the money, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from sparsity_lab.cost.advice import Advice, CriterionColour, OptionRow
from sparsity_lab.messages import Message, Said, message
from sparsity_lab.messages.numbers import count, percent
from sparsity_lab.report.decision import StudyVerdict

Style = Literal["train-sparse", "prune-existing", "quantise", "stay-dense", "unsettled"]
Assumption = tuple[Said, Said]


@dataclass(frozen=True)
class KeyNumber:
    """One figure that a manager looks for, with its unit, and a remark under it."""

    label: Said
    value: Said
    note: Said = ""


@dataclass(frozen=True)
class Answered:
    """One of the four questions with its answer."""

    colour: CriterionColour
    question: Said
    answer: Said
    change: Said


@dataclass(frozen=True)
class Top:
    """The top, in its order on the page.

    Attributes:
        style: decides the colour.
        headline: what to do, in a sentence.
        reasons: why, one sentence each.
        numbers: money and confidence.
        answers: to the four questions.
        steps: what to do next.
        assumptions: what was assumed, by name.
    """

    style: Style
    headline: Said
    reasons: Sequence[Said]
    numbers: Sequence[KeyNumber] = ()
    answers: Sequence[Answered] = ()
    steps: Sequence[Said] = ()
    assumptions: Sequence[Assumption] = ()

    @classmethod
    def without_prices(cls, verdict: StudyVerdict) -> Top:
        """The top of a study from which nothing can be said of money: its statistical verdict."""
        style: Style = "unsettled" if verdict.choice == "cannot-tell" else verdict.choice
        return cls(style, verdict.headline, verdict.reasons)

    @classmethod
    def advised(cls, advice: Advice) -> Top:
        """The top of a study with an advice."""
        chosen, dense, best = advice.recommendation, advice.options[0], advice.options[advice.focus]
        years = message("number-over-years", years=advice.horizon_years)
        interval = message("number-interval", confidence=advice.confidence, low=best.npv_low, high=best.npv_high)
        saved = _money(advice, best.npv), interval if isfinite(best.npv_low) else ""
        agreed = message("number-draws", draws=advice.draws)
        return cls(
            style=chosen.choice if chosen.firm else "unsettled",
            headline=chosen.headline,
            reasons=chosen.until,
            numbers=(
                KeyNumber(message("number-dense"), _money(advice, dense.total), years),
                KeyNumber(message("number-sparse"), _money(advice, best.total), _option(best)),
                KeyNumber(message("number-saved"), *saved),
                KeyNumber(message("number-confidence"), percent(chosen.confidence), agreed),
            ),
            answers=tuple(
                Answered(one.colour, message(f"question-{one.question}"), one.finding, one.change)
                for one in advice.criteria
            ),
            steps=advice.checklist,
            assumptions=(*_assumptions(advice), *((message("assumed-unknown"), one) for one in _unknown(advice))),
        )


def _unknown(advice: Advice) -> Iterator[Message]:
    yield from advice.caveats
    if not advice.energy.rows:
        yield from advice.energy.notes


def _assumptions(advice: Advice) -> Iterator[Assumption]:
    yield message("assumed-scenario"), advice.scenario
    yield message("page-evidence"), advice.evidence
    if advice.drawn is not None:
        yield message("assumed-draws"), advice.drawn
    yield message("assumed-hardware"), advice.hardware or "–"
    if advice.pruning is not None:
        yield message("assumed-pruning"), advice.pruning
    unit = f"unit-{advice.unit}"
    quality = message("assumed-quality-of", nonzero=advice.target_nonzero, data=advice.target_data, unit=unit)
    yield message("assumed-quality"), quality
    yield message("assumed-loss"), f"{advice.target_loss:.4f} nats"
    for option in advice.options:
        money = _money(advice, option.total)
        yield _option(option), message("assumed-option", money=money, weights=count(option.nonzero))


def _option(option: OptionRow) -> Message:
    return message(f"option-{option.kind}", S=option.sparsity)


def _money(advice: Advice, value: float) -> Said:
    if not isfinite(value):
        return message("out-of-reach")
    return f"{'−' if value < 0 else ''}{advice.currency}\N{NO-BREAK SPACE}{count(abs(value))}"
