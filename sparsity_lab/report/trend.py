"""Does the optimal sparsity rise with data? What the search says, what the law says, and whether they agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from sparsity_lab.artifacts.searches import SearchResult, Trend
from sparsity_lab.cost.comparison import NO_SPARSITY
from sparsity_lab.laws import Law, optimal_sparsity
from sparsity_lab.laws.questions.multipliers import Multiplier
from sparsity_lab.laws.questions.together import Mixture
from sparsity_lab.messages import Message, Value, linked, message
from sparsity_lab.report.evidence import Evidence
from sparsity_lab.results.places import asked_sizes
from sparsity_lab.specs.choices import CostMultiplier

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
        sentence: the same for people.
    """

    source: Literal["search", "law"]
    direction: Direction
    slope: float | None
    low: float | None
    high: float | None
    probability: float | None
    sentence: Message

    @property
    def numbers(self) -> dict[str, float | str | None]:
        """What the sentence rests on, by names that tell the source."""
        said = {"direction": self.direction, "slope_per_doubling": self.slope, "slope_low": self.low}
        said |= {"slope_high": self.high, "probability_rising": self.probability}
        return {f"{self.source}_{name}": value for name, value in said.items()}


class TrendPlace(NamedTuple):
    """Where the law is asked for its trend: N, the least and most data budget, m(S) and its name, the confidence."""

    nonzero: int
    least: int
    most: int
    cost: Multiplier
    confidence: float
    charged: CostMultiplier

    @classmethod
    def of(cls, evidence: Evidence) -> TrendPlace | None:
        """That of a search, or of the grid where there is none; None where only one data budget was measured."""
        study, result = evidence.inputs.study, evidence.inputs.search
        sizes = asked_sizes(study)
        budgets = [one.data_dense for one in result.budgets] if result else [place.data for place in evidence.places]
        if len(set(budgets)) < 2:
            return None
        nonzero = result.nonzero[-1] if result else sizes[len(sizes) // 2]
        regime = study.spec.search.regimes[0] if study.spec.search else None
        charged = result.cost if result else study.spec.law.cost
        cost = evidence.cost(charged, regime)
        return cls(nonzero, min(budgets), max(budgets), cost, evidence.confidence, charged)

    def read(self, law: Law, laws: Mixture, unit: str) -> Reading:
        """The law's trend between the least and the most data budget that was measured.

        Args:
            law: says where the optimum lies.
            laws: all that may be right, which give the interval and the direction.
            unit: of data.
        """
        ends = np.array([self.least, self.most], dtype=np.float64)
        doublings = float(np.log2(ends[1] / ends[0]))
        low, high = (float(S) for S in optimal_sparsity(law, self.nonzero, ends, self.cost))
        slope = (high - low) / doublings
        said: dict[str, Value] = {"form": law.form.name, "low": low, "high": high, "nonzero": self.nonzero}
        said |= {"least": float(ends[0]), "most": float(ends[1]), "unit": f"unit-{unit}"}
        said["cost"] = f"equal-{self.charged}"
        if law.draws is None:
            return Reading("law", "unclear", slope, None, None, None, Message("trend-law-unsure", said))
        optima = laws.drawn(lambda each: optimal_sparsity(each, self.nonzero, ends, self.cost))
        slopes = optima._replace(all=(optima.all[:, 1] - optima.all[:, 0]) / doublings)
        bottom, top = (
            float(slopes.quantile(share)) for share in ((1 - self.confidence) / 2, (1 + self.confidence) / 2)
        )
        rising = float(slopes.weights[slopes.all > 1e-4].sum())
        direction = direction_of(bottom, top)
        if max(low, high) <= NO_SPARSITY:
            return Reading("law", direction, slope, bottom, top, rising, Message("trend-law-dense", said))
        said |= {"slope": _slope(slope, bottom, top, self.confidence), "rising": 100 * rising}
        if len(laws.laws) == 1:
            return Reading("law", direction, slope, bottom, top, rising, Message("trend-law", said))
        said["names"] = laws.names
        return Reading("law", direction, slope, bottom, top, rising, Message("trend-laws", said))


def read_search(result: SearchResult, trend: Trend) -> Reading:
    """The search's trend at one N; it has a direction where its test says so."""
    budgets = len(result.of(trend.nonzero))
    if trend.slope is None or trend.slope_low is None or trend.slope_high is None:
        sentence = message("trend-search-unclear", nonzero=trend.nonzero, verdict=trend.verdict)
        return Reading("search", "unclear", None, None, None, None, sentence)
    direction = direction_of(trend.slope_low, trend.slope_high)
    said: dict[str, Value] = {"nonzero": trend.nonzero, "budgets": budgets, "cost": f"equal-{result.cost}"}
    said["slope"] = _slope(trend.slope, trend.slope_low, trend.slope_high, result.confidence)
    key = "trend-search"
    if trend.probability_rising is not None:
        key, said["rising"] = f"{key}-rising", 100 * trend.probability_rising
    if trend.p_value is not None:
        key, said["p"], said["test"] = f"{key}-tested", trend.p_value, trend.test
    sentence = Message(key, said)
    return Reading(
        "search", direction, trend.slope, trend.slope_low, trend.slope_high, trend.probability_rising, sentence
    )


def readings(evidence: Evidence) -> tuple[Reading, ...]:
    """What each source there is says: the search first."""
    result, law = evidence.inputs.search, evidence.law
    found = [read_search(result, trend) for trend in result.trends] if result else []
    question = TrendPlace.of(evidence)
    if law is not None and evidence.laws is not None and question is not None:
        found.append(question.read(law, evidence.laws, evidence.inputs.study.spec.grid.data_unit))
    return tuple(found)


def verdict_of(read: tuple[Reading, ...]) -> tuple[Message, bool]:
    """The answer that all sources together give, and whether it is settled."""
    known = [one for one in read if one.direction != "unclear"]
    if not known:
        return message("trend-unsettled" if read else "trend-unknown"), False
    if len({one.direction for one in known}) > 1:
        parts = [message("trend-says", source=f"source-{one.source}", verb=f"verb-{one.direction}") for one in known]
        return message("trend-contradiction", said=linked("pair-comma", parts)), False
    direction, sources = known[0].direction, {one.source for one in known}
    if sources == {"law"}:
        heard = "heard-unclear" if len(read) > 1 else "heard-nothing"
        return message("trend-by-law", heard=heard, answer=message(f"trend-law-{direction}", points=100 * FLAT)), False
    basis = message("trend-by-search" if sources == {"search"} else "trend-agreed")
    return message("sentences", one=message(f"trend-{direction}", points=100 * FLAT), other=basis), True


def direction_of(low: float, high: float) -> Direction:
    """What an interval of the slope says: clearly up, clearly down, hardly moving, or nothing."""
    if max(abs(low), abs(high)) <= FLAT:
        return "flat"
    if low > 0:
        return "rises"
    return "falls" if high < 0 else "unclear"


def _slope(slope: float, low: float, high: float, confidence: float) -> Message:
    return message("trend-slope", slope=100 * slope, low=100 * low, high=100 * high, confidence=confidence)
