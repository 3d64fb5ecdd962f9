"""What was found, in plain sentences with their uncertainty, also where nothing could be found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sparsity_lab.cost.comparison import NO_SPARSITY, Winner
from sparsity_lab.laws import Law, gain
from sparsity_lab.messages import words_in
from sparsity_lab.messages.numbers import count, percent, plural
from sparsity_lab.report.evidence import EqualCost, Evidence
from sparsity_lab.report.finding import Finding
from sparsity_lab.report.findings_basis import fit_finding, noise_finding, runs_finding
from sparsity_lab.report.regimes import compare, regimes_finding
from sparsity_lab.report.trend import readings, verdict_of
from sparsity_lab.specs.choices import CostMultiplier

GAINS_AT = (0.5, 0.75, 0.875)
WORTH_SOMETHING = 1.01
"""a gain whose interval begins above this is shown by the data"""
VAGUE = 3.0
"""an interval that ends this many times above its value has no upper end worth printing"""
COST_WORDS: Mapping[CostMultiplier, str] = {
    "sparse_schedule": "equal theoretical training FLOPs (zeros cost nothing)",
    "dense_hardware": "equal training FLOPs on hardware that multiplies zeros like any number",
    "free": "equal data (training cost ignored)",
    "measured": "equal training seconds by the hardware profile",
}


def findings(evidence: Evidence) -> tuple[Finding, ...]:
    """Every finding, in the order in which a reader wants them."""
    compared = compare(evidence.inputs.grid, evidence.inputs.study)
    return (
        *((regimes_finding(compared),) if compared.contrasts else ()),
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
        numbers |= {f"{one.source}_direction": one.direction, f"{one.source}_slope_per_doubling": one.slope}
        numbers |= {f"{one.source}_slope_low": one.low, f"{one.source}_slope_high": one.high}
        numbers[f"{one.source}_probability_rising"] = one.probability
    sentences = (answer, *(one.sentence for one in read))
    return Finding("trend", "Optimal sparsity and data", sentences, "clear" if settled else "doubtful", numbers)


def equal_cost_finding(evidence: Evidence, cost: CostMultiplier) -> Finding:
    """Does sparse win where it costs as much as dense?"""
    unit = evidence.inputs.study.spec.grid.data_unit
    by_search, by_law = evidence.compared(cost, "search"), evidence.compared(cost, "law")
    sentences = []
    if by_search:
        sentences.append(_cost_sentence("In the search", by_search, unit, "two standard deviations of the noise"))
    if by_law:
        said = f"{percent(evidence.confidence)} interval"
        sentences.append(_cost_sentence("By the law, over the grid's sizes and budgets", by_law, unit, said))
    every = (*by_search, *by_law)
    if not every:
        sentences.append("Nothing was measured or fitted from which this could be told.")
    settled = bool(every) and len({one.winner for one in every}) == 1 and every[0].winner != "unclear"
    numbers: dict[str, float | str | None] = {
        f"{one.source}_advantage_N{one.nonzero}_D{one.budget}": one.advantage for one in every
    }
    title = f"Dense against sparse at {COST_WORDS[cost]}"
    return Finding(f"equal_cost_{cost}", title, tuple(sentences), "clear" if settled else "doubtful", numbers)


def gain_finding(evidence: Evidence) -> Finding:
    """How large a dense model must be to match a sparse one of equal non-zero count and data."""
    title = "What zeros are worth at equal non-zero weights and data"
    if evidence.law is None:
        return Finding("gain", title, (_no_law(evidence),), "doubtful")
    trained = max((place.sparsity for place in evidence.places), default=0.0)
    gains = [_gain(evidence.law, sparsity, evidence.confidence, trained) for sparsity in GAINS_AT]
    first = (
        "A sparse model is as good as a dense one with more non-zero weights, trained on the same data: "
        f"{'; '.join(one.text for one in gains)}. In brackets the {percent(evidence.confidence)} intervals."
    )
    sentences = [first]
    if not all(one.low > WORTH_SOMETHING for one in gains):
        sentences.append("Where an interval reaches 1 the data do not show that zeros are worth anything.")
    if any(one.high > VAGUE * one.value for one in gains):
        sentences.append("Where no upper end is given the data only bound the worth of zeros from below.")
    settled = all(one.low > WORTH_SOMETHING and one.high <= VAGUE * one.value for one in gains)
    numbers: dict[str, float | str | None] = {}
    for one in gains:
        numbers |= {
            f"gain_{one.sparsity:g}{end}": value for end, value in zip(("", "_low", "_high"), one[1:4], strict=True)
        }
    return Finding("gain", title, tuple(sentences), "clear" if settled else "doubtful", numbers)


def _cost_sentence(start: str, compared: Sequence[EqualCost], unit: str, interval: str) -> str:
    wins = Counter(one.winner for one in compared)
    last = compared[-1]
    score = f"{start}, {_score(wins, 'budget' if last.source == 'search' else 'point')}."
    place = f"At N = {count(last.nonzero)} and a budget of {count(last.budget)} {unit}"
    if last.sparsity <= NO_SPARSITY:
        guess = (
            "no sparsity beats dense" if last.winner == "dense" else "the best guess is no sparsity, far from surely"
        )
        return f"{score} {place} {guess}."
    known = "" if math.isnan(last.low) else f" ({last.low:.3g} to {last.high:.3g}, {interval})"
    return (
        f"{score} {place} the best sparsity is {percent(last.sparsity)}, with a loss {_lower(last.advantage)}{known}."
    )


def _score(wins: Counter[Winner], noun: str) -> str:
    """In words: sparse wins at all 3 budgets, or how many each wins."""
    total = plural(wins.total(), noun)
    if len(wins) == 1:
        (winner,) = wins
        if winner == "unclear":
            return f"who wins cannot be told at any of {total}" if wins.total() > 1 else "who wins cannot be told"
        return f"{winner} wins at all {total}" if wins.total() > 1 else f"{winner} wins at the one {noun}"
    words: dict[Winner, str] = {"sparse": "sparse wins at", "dense": "dense wins at", "unclear": "it cannot be told at"}
    parts = [f"{text} {wins[winner]}" for winner, text in words.items() if wins[winner]]
    return f"{parts[0]} of {total}, {' and '.join(parts[1:])}"


def _lower(advantage: float) -> str:
    return f"{abs(advantage):.3g} nats {'below' if advantage >= 0 else 'above'} dense"


class _Gain(NamedTuple):
    sparsity: float
    value: float
    low: float
    high: float
    text: str


def _gain(law: Law, sparsity: float, confidence: float, trained: float) -> _Gain:
    value, low, high = float(gain(law, sparsity)), math.nan, math.nan
    if law.draws is not None:
        _, low, high = (float(part) for part in law.interval(lambda each: gain(each, sparsity), confidence))
    known = (
        "no interval"
        if math.isnan(low)
        else f"{low:.2f} to {high:.2f}"
        if high <= VAGUE * value
        else f"at least {low:.2f}"
    )
    beyond = ", beyond what was trained" if sparsity > trained + 1e-9 else ""
    return _Gain(sparsity, value, low, high, f"{percent(sparsity)} zeros {value:.2f} times ({known}{beyond})")


def _no_law(evidence: Evidence) -> str:
    if not evidence.inputs.laws:
        return "No law was fitted, so this is unknown."
    status = "; ".join(f"{name}: {words_in()(law.fit.status)}" for name, law in evidence.inputs.laws.items())
    return f"No law that knows of sparsity could be trusted ({status}), so this is unknown."
