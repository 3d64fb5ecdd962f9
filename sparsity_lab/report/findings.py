"""What was found, in plain sentences with their uncertainty, also where nothing could be found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from sparsity_lab.laws import Law, gain
from sparsity_lab.plots.labels import count, percent, plural
from sparsity_lab.report.evidence import NO_SPARSITY, EqualCost, Evidence, Winner
from sparsity_lab.report.finding import Finding
from sparsity_lab.report.findings_basis import fit_finding, noise_finding, runs_finding
from sparsity_lab.report.trend import readings, verdict_of
from sparsity_lab.specs.studies import CostMultiplier

GAINS_AT = (0.5, 0.75, 0.875)
WORTH_SOMETHING = 1.01
"""a gain whose interval begins above this is shown by the data"""
COST_WORDS: Mapping[CostMultiplier, str] = {
    "sparse_schedule": "equal theoretical training FLOPs (zeros cost nothing)",
    "dense_hardware": "equal training FLOPs on hardware that multiplies zeros like any number",
    "free": "equal data (training cost ignored)",
}


def findings(evidence: Evidence) -> tuple[Finding, ...]:
    """Every finding, in the order in which a reader wants them."""
    return (
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
    parts, identified = [], True
    numbers: dict[str, float | str | None] = {}
    for sparsity in GAINS_AT:
        value, low, high = _gain(evidence.law, sparsity, evidence.confidence)
        beyond = ", beyond what was trained" if sparsity > trained + 1e-9 else ""
        parts.append(f"{percent(sparsity)} zeros {value:.2f} times ({low:.2f} to {high:.2f}{beyond})")
        numbers |= {f"gain_{sparsity:g}": value, f"gain_{sparsity:g}_low": low, f"gain_{sparsity:g}_high": high}
        identified = identified and low > WORTH_SOMETHING
    sentence = (
        f"A sparse model is as good as a dense one with more non-zero weights, trained on the same data: "
        f"{'; '.join(parts)}. In brackets the {percent(evidence.confidence)} intervals."
    )
    doubt = () if identified else ("Where an interval reaches 1 the data do not show that zeros are worth anything.",)
    return Finding("gain", title, (sentence, *doubt), "clear" if identified else "doubtful", numbers)


def _cost_sentence(start: str, compared: Sequence[EqualCost], unit: str, interval: str) -> str:
    wins = Counter(one.winner for one in compared)
    last = compared[-1]
    score = f"{start}, {_score(wins)}."
    place = f"At N = {count(last.nonzero)} and a budget of {count(last.budget)} {unit}"
    if last.sparsity <= NO_SPARSITY:
        guess = (
            "no sparsity beats dense" if last.winner == "dense" else "the best guess is no sparsity, far from surely"
        )
        return f"{score} {place} {guess}."
    known = "" if np.isnan(last.low) else f" ({last.low:.3g} to {last.high:.3g}, {interval})"
    return (
        f"{score} {place} the best sparsity is {percent(last.sparsity)}, with a loss {_lower(last.advantage)}{known}."
    )


def _score(wins: Counter[Winner]) -> str:
    """In words: sparse wins at all 3 budgets, or how many each wins."""
    total = plural(wins.total(), "budget")
    if len(wins) == 1:
        (winner,) = wins
        where = f"all {total}" if wins.total() > 1 else "the one budget"
        return f"who wins cannot be told at {where}" if winner == "unclear" else f"{winner} wins at {where}"
    words: dict[Winner, str] = {"sparse": "sparse wins at", "dense": "dense wins at", "unclear": "it cannot be told at"}
    parts = [f"{text} {wins[winner]}" for winner, text in words.items() if wins[winner]]
    return f"of {total} {', '.join(parts)}"


def _lower(advantage: float) -> str:
    return f"{abs(advantage):.3g} nats {'below' if advantage >= 0 else 'above'} dense"


def _gain(law: Law, sparsity: float, confidence: float) -> tuple[float, float, float]:
    if law.draws is None:
        value = float(gain(law, sparsity))
        return value, float("nan"), float("nan")
    value, low, high = (float(part) for part in law.interval(lambda each: gain(each, sparsity), confidence))
    return value, low, high


def _no_law(evidence: Evidence) -> str:
    if not evidence.inputs.laws:
        return "No law was fitted, so this is unknown."
    status = "; ".join(f"{name}: {law.fit.status}" for name, law in evidence.inputs.laws.items())
    return f"No law that knows of sparsity could be trusted ({status}), so this is unknown."
