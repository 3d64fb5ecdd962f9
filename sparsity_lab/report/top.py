"""The top of the page: what to do, why, the three questions, the money, and what to do next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from sparsity_lab.cost.advice import Advice, CriterionColour, CriterionName, OptionRow
from sparsity_lab.messages import Message
from sparsity_lab.messages.numbers import count, percent, plural
from sparsity_lab.report.decision import Verdict
from sparsity_lab.report.language import Words
from sparsity_lab.report.table import NOTHING

Style = Literal["train-sparse", "prune-existing", "stay-dense", "unsettled"]
Row = tuple[str, str]
Say = Callable[[Message], str]
QUESTIONS: Mapping[CriterionName, str] = {
    "data": "Is there enough data?",
    "hardware": "Can our hardware use it?",
    "money": "Can we afford pruning and retraining?",
}


@dataclass(frozen=True)
class Number:
    """One figure that a manager looks for, with its unit, and a remark under it."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Answer:
    """One of the three questions with its answer."""

    colour: CriterionColour
    question: str
    answer: str
    change: str


@dataclass(frozen=True)
class Top:
    """Texts of the top in the page's language, in their order on the page.

    Attributes:
        style: decides the colour.
        headline: what to do, in a sentence.
        reasons: why, one sentence each.
        numbers: money and confidence.
        answers: to the three questions.
        steps: what to do next.
        assumptions: what was assumed, by name.
    """

    style: Style
    headline: str
    reasons: Sequence[str]
    numbers: Sequence[Number] = ()
    answers: Sequence[Answer] = ()
    steps: Sequence[str] = ()
    assumptions: Sequence[Row] = ()


def without_prices(verdict: Verdict, words: Words) -> Top:
    """The top of a study from which nothing can be said of money: its statistical verdict."""
    style: Style = "unsettled" if verdict.choice == "cannot-tell" else verdict.choice
    return Top(style, words(verdict.headline), tuple(map(words, verdict.reasons)))


def advised(advice: Advice, say: Say, words: Words) -> Top:
    """The top of a study with an advice.

    Args:
        advice: what to do, and what it rests on.
        say: puts a message of the advice into the page's language.
        words: for everything that is no message.
    """
    chosen = advice.recommendation
    return Top(
        style=chosen.choice if chosen.firm else "unsettled",
        headline=say(chosen.headline),
        reasons=tuple(map(say, chosen.until)),
        numbers=tuple(Number(words(one.label), words(one.value), words(one.note)) for one in _numbers(advice)),
        answers=tuple(
            Answer(one.colour, words(QUESTIONS[one.question]), say(one.finding), say(one.change))
            for one in advice.criteria
        ),
        steps=tuple(map(say, advice.checklist)),
        assumptions=(
            *((words.name(name), words.name(value)) for name, value in _assumptions(advice)),
            *((words("Not known"), say(caveat)) for caveat in advice.caveats),
        ),
    )


def _numbers(advice: Advice) -> Iterator[Number]:
    dense, best = advice.options[0], advice.options[advice.focus]
    yield Number("Dense costs", _money(advice, dense.total), f"over {plural(advice.horizon_years, 'year')}, discounted")
    yield Number("Best sparse option costs", _money(advice, best.total), _option(best))
    interval = f"{percent(advice.confidence)} interval {_signed(best.npv_low)} to {_signed(best.npv_high)}"
    yield Number("Sparse saves", _money(advice, best.npv), interval if isfinite(best.npv_low) else "")
    share = advice.recommendation.confidence
    yield Number("Confidence", percent(share), f"share of {advice.draws:,} draws that agree")


def _assumptions(advice: Advice) -> Iterator[Row]:
    yield "Scenario", advice.scenario
    yield "Evidence", advice.evidence
    yield "Hardware", advice.hardware or NOTHING
    size, data = count(advice.target_nonzero), count(advice.target_data)
    yield "Quality to reach", f"that of {size} dense weights on {data} {advice.unit}"
    yield "Loss to reach", f"{advice.target_loss:.4f} nats"
    for option in advice.options:
        yield _option(option), f"{_money(advice, option.total)}, {count(option.nonzero)} weights"


def _option(option: OptionRow) -> str:
    match option.kind:
        case "dense":
            return "dense"
        case "train-sparse":
            return f"train sparse at {percent(option.sparsity)} zeros"
        case "prune-existing":
            return f"prune the trained model to {percent(option.sparsity)} zeros"


def _money(advice: Advice, value: float) -> str:
    if not isfinite(value):
        return "out of reach"
    return f"{'−' if value < 0 else ''}{advice.currency}\N{NO-BREAK SPACE}{count(abs(value))}"


def _signed(value: float) -> str:
    return f"{'−' if value < 0 else ''}{count(abs(value))}"
