"""What was found, in plain sentences with their uncertainty, also where nothing could be found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from sparsity_lab.cost.comparison import NO_SPARSITY, Winner
from sparsity_lab.laws import Law, gain
from sparsity_lab.messages import Message, Value, linked, message
from sparsity_lab.report.evidence import EqualCost, Evidence
from sparsity_lab.report.findings_basis import fit_finding, matched_finding, noise_finding, runs_finding
from sparsity_lab.report.page import Finding
from sparsity_lab.report.regimes import regimes_finding
from sparsity_lab.report.trend import readings, verdict_of
from sparsity_lab.specs.choices import CostMultiplier, DataUnit

GAINS_AT = (0.5, 0.75, 0.875)
WORTH_SOMETHING = 1.01
"""a gain whose interval begins above this is shown by the data"""
VAGUE = 3.0
"""an interval that ends this many times above its value has no upper end worth printing"""


def findings(evidence: Evidence) -> tuple[Finding, ...]:
    """Every finding, in the order in which a reader wants them."""
    compared = evidence.regimes
    return (
        *((regimes_finding(compared),) if compared.contrasts else ()),
        matched_finding(evidence),
        trend_finding(evidence),
        equal_cost_finding(evidence, "sparse_schedule"),
        equal_cost_finding(evidence, "dense_hardware"),
        gain_finding(evidence),
        noise_finding(evidence),
        fit_finding(evidence),
        runs_finding(evidence),
    )


def trend_finding(evidence: Evidence) -> Finding:
    """Does the optimal sparsity rise with data?"""
    read = readings(evidence)
    answer, settled = verdict_of(read)
    numbers: dict[str, float | str | None] = {}
    for one in read:
        numbers |= one.numbers
    sentences = (answer, *(one.sentence for one in read))
    return Finding("trend", message("trend-title"), sentences, "clear" if settled else "doubtful", numbers)


def equal_cost_finding(evidence: Evidence, cost: CostMultiplier) -> Finding:
    """Does sparse win where it costs as much as dense?"""
    unit = evidence.inputs.study.spec.grid.data_unit
    by_search, by_law = evidence.compared(cost, "search"), evidence.compared(cost, "law")
    sentences = []
    if by_search:
        sentences.append(_cost_sentence("cost-in-search", by_search, unit))
    if by_law:
        sentences.append(_cost_sentence("cost-by-law", by_law, unit))
    every = (*by_search, *by_law)
    if not every:
        sentences.append(message("cost-unknown"))
    settled = bool(every) and len({one.winner for one in every}) == 1 and every[0].winner != "unclear"
    numbers: dict[str, float | str | None] = {
        f"{one.source}_advantage_N{one.nonzero}_D{one.budget}": one.advantage for one in every
    }
    title = message("cost-title", cost=f"equal-{cost}")
    return Finding(f"equal_cost_{cost}", title, tuple(sentences), "clear" if settled else "doubtful", numbers)


def gain_finding(evidence: Evidence) -> Finding:
    """How large a dense model must be to match a sparse one of equal non-zero count and data."""
    title = message("worth-title")
    if evidence.law is None:
        status = tuple(
            message("form-status", form=name, status=law.fit.status) for name, law in evidence.inputs.laws.items()
        )
        unknown = message("worth-no-usable-law", status=status) if status else message("worth-no-law")
        return Finding("gain", title, (unknown,), "doubtful")
    trained = max((place.sparsity for place in evidence.places), default=0.0)
    gains = [_Gain.by(evidence.law, sparsity, evidence.confidence, trained) for sparsity in GAINS_AT]
    sentences = [message("worth", gains=tuple(one.said for one in gains), confidence=evidence.confidence)]
    if not all(one.low > WORTH_SOMETHING for one in gains):
        sentences.append(message("worth-not-shown"))
    if any(one.high > VAGUE * one.value for one in gains):
        sentences.append(message("worth-bounded-below"))
    settled = all(one.low > WORTH_SOMETHING and one.high <= VAGUE * one.value for one in gains)
    ends = ("", "_low", "_high")
    numbers: dict[str, float | str | None] = {
        f"gain_{one.sparsity:g}{end}": value for one in gains for end, value in zip(ends, one[1:4], strict=True)
    }
    return Finding("gain", title, tuple(sentences), "clear" if settled else "doubtful", numbers)


def _cost_sentence(key: str, compared: Sequence[EqualCost], unit: DataUnit) -> Message:
    """Who wins how often, and the best sparsity at the largest size and budget."""
    last = compared[-1]
    sure = last.confidence
    interval = message("two-deviations") if sure is None else message("interval-of", confidence=sure)
    score = message(key, score=_score(Counter(one.winner for one in compared), last.source))
    place: dict[str, Value] = {"nonzero": last.nonzero, "budget": last.budget, "unit": f"unit-{unit}"}
    if last.sparsity <= NO_SPARSITY:
        best = Message("cost-dense-best" if last.winner == "dense" else "cost-guess-dense", place)
    else:
        side, nats = "below" if last.advantage >= 0 else "above", abs(last.advantage)
        lower = (
            message(f"{side}-dense", nats=nats)
            if math.isnan(last.low)
            else message(f"{side}-dense-interval", nats=nats, low=last.low, high=last.high, interval=interval)
        )
        best = Message("cost-best", {**place, "sparsity": last.sparsity, "lower": lower})
    return message("sentences", one=score, other=best)


def _score(wins: Counter[Winner], source: Literal["law", "search"]) -> Message:
    """Sparse wins at all 3 budgets, or how many each wins."""
    noun, every = "budget" if source == "search" else "point", wins.total()
    if len(wins) == 1:
        (winner,) = wins
        return message(f"all-{winner}-{noun}", n=every) if every > 1 else message(f"one-{winner}-{noun}")
    winners: tuple[Winner, ...] = ("sparse", "dense", "unclear")
    first, *others = [winner for winner in winners if wins[winner]]
    rest = linked("score-and", [message(f"also-{winner}", n=wins[winner]) for winner in others])
    return message("score", first=message(f"some-{first}-{noun}", n=wins[first], all=every), rest=rest)


class _Gain(NamedTuple):
    """By how many times a dense model must be larger, with its interval, and the same for people."""

    sparsity: float
    value: float
    low: float
    high: float
    said: Message

    @classmethod
    def by(cls, law: Law, sparsity: float, confidence: float, trained: float) -> _Gain:
        """The gain at one sparsity by a law fitted to runs of up to the sparsity `trained`."""
        value, low, high = float(gain(law, sparsity)), math.nan, math.nan
        if law.draws is not None:
            _, low, high = (float(part) for part in law.interval(lambda each: gain(each, sparsity), confidence))
        known = (
            message("worth-unknown")
            if math.isnan(low)
            else message("worth-between", low=low, high=high)
            if high <= VAGUE * value
            else message("worth-above", low=low)
        )
        if sparsity > trained + 1e-9:
            known = message("worth-beyond", known=known)
        return cls(sparsity, value, low, high, message("worth-of", S=sparsity, value=value, known=known))
