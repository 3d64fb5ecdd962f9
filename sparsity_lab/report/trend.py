"""Does the optimal sparsity rise with data? What the search says, what the law says, and whether they agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from sparsity_lab.artifacts.searches import SearchResult, Trend
from sparsity_lab.cost.comparison import NO_SPARSITY
from sparsity_lab.laws import Law, optimal_sparsity
from sparsity_lab.laws.questions.multipliers import Multiplier
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.messages import words_in
from sparsity_lab.messages.numbers import count, percent
from sparsity_lab.report.evidence import Evidence
from sparsity_lab.results.places import asked_sizes

Direction = Literal["rises", "falls", "flat", "unclear"]
FLAT = 0.02
"""a change of sparsity for each doubling of data whose whole interval is within this is no change worth acting on"""


@dataclass(frozen=True)
class Reading:
    """What one source says of the trend.

    Attributes:
        source: "search" or "law".
        direction: what it says.
        slope: change of the optimal sparsity for each doubling of the data budget; None where it has none.
        low: of its interval.
        high: of its interval.
        probability: share of resamples in which the optimum rises.
        sentence: the same in words.
    """

    source: Literal["search", "law"]
    direction: Direction
    slope: float | None
    low: float | None
    high: float | None
    probability: float | None
    sentence: str


class TrendPlace(NamedTuple):
    """Where the law is asked for its trend: N, the least and the most data budget, m(S), and the confidence."""

    nonzero: int
    least: int
    most: int
    cost: Multiplier
    confidence: float


def read_search(result: SearchResult, trend: Trend) -> Reading:
    """The search's trend at one N; it has a direction where its test says so."""
    budgets = len(result.of(trend.nonzero))
    if trend.slope is None or trend.slope_low is None or trend.slope_high is None:
        said = f"The search cannot tell whether the optimum moves with data (N = {count(trend.nonzero)})"
        sentence = f"{said}: {words_in('en')(trend.verdict)}."
        return Reading("search", "unclear", None, None, None, None, sentence)
    direction = direction_of(trend.slope_low, trend.slope_high)
    share = (
        "" if trend.probability_rising is None else f"; it rises in {_share(trend.probability_rising)} of the resamples"
    )
    sentence = (
        f"In the search (N = {count(trend.nonzero)}, {budgets} budgets) the optimum changes by "
        f"{_slope(trend.slope, trend.slope_low, trend.slope_high, result.confidence)}{share}"
        f"{_tested(trend)}."
    )
    return Reading(
        "search", direction, trend.slope, trend.slope_low, trend.slope_high, trend.probability_rising, sentence
    )


def read_law(law: Law, question: TrendPlace, unit: str) -> Reading:
    """The law's trend between the least and the most data budget that was measured."""
    ends = np.array([question.least, question.most], dtype=np.float64)
    low, high = (float(S) for S in optimal_sparsity(law, question.nonzero, ends, question.cost))
    slopes = _law_slopes(law, question, ends)
    slope = (high - low) / float(np.log2(ends[1] / ends[0]))
    said = (
        f"The {law.form.name} law puts the optimum at {percent(low)} for {count(ends[0])} {unit} and at "
        f"{percent(high)} for {count(ends[1])} (N = {count(question.nonzero)})"
    )
    if slopes is None:
        return Reading("law", "unclear", slope, None, None, None, said + ", without a bootstrap to say how surely.")
    tails = [(1 - question.confidence) / 2, (1 + question.confidence) / 2]
    bottom, top = (float(edge) for edge in np.quantile(slopes, tails))
    rising = float((slopes > 1e-4).mean())
    direction = direction_of(bottom, top)
    if max(low, high) <= NO_SPARSITY:
        return Reading("law", direction, slope, bottom, top, rising, said + ": dense is best throughout.")
    change = _slope(slope, bottom, top, question.confidence)
    sentence = f"{said}: {change}; it rises in {_share(rising)} of the bootstrap draws."
    return Reading("law", direction, slope, bottom, top, rising, sentence)


def readings(evidence: Evidence) -> tuple[Reading, ...]:
    """What each source there is says: the search first."""
    result, law = evidence.inputs.search, evidence.law
    found = [read_search(result, trend) for trend in result.trends] if result else []
    question = _question(evidence)
    if law is not None and question is not None:
        found.append(read_law(law, question, evidence.inputs.study.spec.grid.data_unit))
    return tuple(found)


def verdict_of(read: tuple[Reading, ...]) -> tuple[str, bool]:
    """The answer that all sources together give, in a sentence, and whether it is settled."""
    known = [one for one in read if one.direction != "unclear"]
    directions = {one.direction for one in known}
    if not read:
        return (
            "Whether the optimal sparsity rises with data is unknown: there is neither a search nor a usable law.",
            False,
        )
    if not known:
        return "Not settled: the data do not tell whether the optimal sparsity rises with data.", False
    if len(directions) > 1:
        said = ", ".join(f"the {one.source} says that it {_verb(one.direction)}" for one in known)
        return f"Not settled, the evidence contradicts itself: {said}.", False
    answer = _ANSWERS[known[0].direction]
    if len({one.source for one in known}) > 1:
        return f"{answer} Search and law agree.", True
    if all(one.source == "search" for one in known):
        return f"{answer} This is the search's answer; the law does not settle it.", True
    heard = "the search cannot tell" if len(read) > 1 else "there is no search"
    return f"By the law alone ({heard}): {answer[0].lower()}{answer[1:]} {_LAWS_FORM}", False


def direction_of(low: float, high: float) -> Direction:
    """What an interval of the slope says: clearly up, clearly down, hardly moving, or nothing."""
    if max(abs(low), abs(high)) <= FLAT:
        return "flat"
    if low > 0:
        return "rises"
    return "falls" if high < 0 else "unclear"


_ANSWERS = {
    "rises": "Yes: the optimal sparsity rises with data.",
    "falls": "No: the optimal sparsity falls with data.",
    "flat": f"No: the optimal sparsity moves by less than {100 * FLAT:g} points for each doubling of data.",
}
_LAWS_FORM = (
    "That is weaker than a search's answer: the law's form lets the optimum rise with data or stay at zero, never fall."
)


def _question(evidence: Evidence) -> TrendPlace | None:
    study, result = evidence.inputs.study, evidence.inputs.search
    sizes = asked_sizes(study)
    budgets = [budget.data_dense for budget in result.budgets] if result else [place.data for place in evidence.places]
    if len(set(budgets)) < 2:
        return None
    nonzero = result.nonzero[-1] if result else sizes[len(sizes) // 2]
    regime = study.spec.search.regimes[0] if study.spec.search else None
    cost = evidence.cost(result.cost if result else study.spec.law.cost, regime)
    return TrendPlace(nonzero, min(budgets), max(budgets), cost, evidence.confidence)


def _law_slopes(law: Law, question: TrendPlace, ends: FloatArray) -> FloatArray | None:
    if law.draws is None:
        return None
    optima = law.drawn(lambda each: optimal_sparsity(each, question.nonzero, ends, question.cost))
    return np.asarray((optima[:, 1] - optima[:, 0]) / np.log2(ends[1] / ends[0]))


def _slope(slope: float, low: float, high: float, confidence: float) -> str:
    return (
        f"{100 * slope:+.1f} points of sparsity for each doubling of data "
        f"({percent(confidence)} interval {100 * low:+.1f} to {100 * high:+.1f})"
    )


def _tested(trend: Trend) -> str:
    return "" if trend.p_value is None else f"; p = {trend.p_value:.2g} by a {words_in('en')(trend.test)}"


def _share(share: float) -> str:
    return f"{100 * share:.0f} %"


def _verb(direction: Direction) -> str:
    return {"rises": "rises", "falls": "falls", "flat": "hardly moves", "unclear": "cannot be told"}[direction]
