"""Identified or not: the verdict on parameters and on what is derived from them, and what data would change it.

A quantity is identified if its interval is no wider than it can be and still answer the question: as wide as the value
itself for parameters, gains and amounts of data or weights, 0.2 for a sparsity, 5 % for a loss (`Quantity`). What is
not identified gets a remedy: the fewest further runs after which its interval would be narrow enough, chosen as in
`suggest` from the grid of the runs and one step beyond it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.inverse import data_needed, size_needed
from sparsity_lab.laws.questions.multipliers import Multiplier
from sparsity_lab.laws.questions.next_runs import Points, candidates_around, choose
from sparsity_lab.laws.questions.optimum import (
    HIGHEST_SPARSITY,
    chinchilla_ratio,
    dense_data,
    dense_equivalent_size,
    joint_optimum,
    optimal_sparsity,
    training_flops,
)
from sparsity_lab.laws.rows.runs import FloatArray, Runs, sizes_of
from sparsity_lab.laws.uncertainty.bootstrap import Bootstrap
from sparsity_lab.laws.uncertainty.intervals import WIDEST, Verdict
from sparsity_lab.messages import Message, listed, message

WIDEST_LOSS, WIDEST_SPARSITY = 0.05, 0.2
MOST_RUNS = 8
"""most further runs that a remedy asks for"""


@dataclass(frozen=True)
class Quantity:
    """One number derived from a law, and how well it must be known.

    Attributes:
        name: what it is.
        of: the number; must broadcast over the law's parameters.
        widest: width of an interval that still identifies it, relative to the value, or absolute.
        measure: which of the two.
    """

    name: str | Message
    of: Callable[[Law], ArrayLike]
    widest: float = WIDEST
    measure: Literal["relative", "absolute"] = "relative"

    def width(self, value: float, low: float, high: float) -> float:
        """The interval's width, in units of the widest allowed."""
        unit = abs(value) if self.measure == "relative" else 1.0
        return (high - low) / (self.widest * unit) if unit else float("inf")


def verdicts(
    bootstrap: Bootstrap, quantities: Iterable[Quantity] | None = None, confidence: float = 0.9
) -> tuple[Verdict, ...]:
    """The verdict on every parameter and on derived quantities, with remedies.

    Args:
        bootstrap: of the fit.
        quantities: derived ones; `usual_quantities` when None.
        confidence: of the intervals.
    """
    law, runs = Law.from_fit(bootstrap.fit, bootstrap), bootstrap.fit.runs
    candidates = candidates_around(runs)
    usual = usual_quantities(runs)[:1] if law.form.experts else usual_quantities(runs)
    chosen = usual if quantities is None else quantities
    return (
        *(_of_parameter(one, law, runs, candidates) for one in bootstrap.verdicts(confidence)),
        *(verdict_on(law, quantity, confidence, candidates) for quantity in chosen),
    )


def verdict_on(law: Law, quantity: Quantity, confidence: float = 0.9, candidates: Points | None = None) -> Verdict:
    """The verdict on one derived quantity; with candidates for further runs, also the remedy.

    Raises:
        RecordError: the law carries no draws.
    """
    value, low, high = (float(part) for part in law.interval(quantity.of, confidence))
    width = quantity.width(value, low, high)
    if not np.isfinite([value, low, high]).all():
        reason = message("interval-endless")
    elif width > 1 and quantity.measure == "absolute":
        reason = message("interval-wide", width=high - low, most=quantity.widest)
    elif width > 1:
        reason = message("interval-times-most", times=(high - low) / abs(value), most=quantity.widest)
    else:
        reason = message("interval-enough")
        return Verdict(name=quantity.name, value=value, low=low, high=high, identified=True, reason=reason)
    remedy = _remedy(law, law.drawn(quantity.of), width, candidates) if candidates else None
    return Verdict(name=quantity.name, value=value, low=low, high=high, identified=False, reason=reason, remedy=remedy)


def usual_quantities(
    runs: Runs, cost: Multiplier | None = None, *, highest: float = HIGHEST_SPARSITY
) -> tuple[Quantity, ...]:
    """What people ask a law for, at the largest size and data of the runs and at the sparsity in their middle.

    Args:
        runs: those the law was fitted to.
        cost: m(S); the paper's when None.
        highest: upper end of optimal sparsities.
    """
    N, D, sparse = float(runs.nonzero.max()), float(runs.data.max()), runs.sparsity[runs.sparsity > 0]
    S = float(np.quantile(sparse, 0.5, method="lower")) if len(sparse) else 0.0
    C = float(training_flops(0.0, N, D))

    def best(law: Law) -> FloatArray:
        return optimal_sparsity(law, N, dense_data(C, N), cost, highest=highest)

    return (
        Quantity(message("loss-at", S=S, N=N, D=D), lambda law: law.predict(S, N, D), widest=WIDEST_LOSS),
        Quantity(message("gain-at", S=S), lambda law: dense_equivalent_size(law, S, N, D) / N),
        Quantity(message("optimum-at", N=N, C=C), best, WIDEST_SPARSITY, "absolute"),
        Quantity(
            message("joint-optimum-at", C=C),
            lambda law: joint_optimum(law, C, cost, highest=highest).sparsity,
            WIDEST_SPARSITY,
            "absolute",
        ),
        Quantity(message("chinchilla-at", N=N, C=C), lambda law: chinchilla_ratio(law, N, dense_data(C, N))),
        Quantity(
            message("equal-data", S=S, N=N, D=D),
            lambda law: data_needed(law, law.predict(S, N, D), 0.0, N),
        ),
        Quantity(
            message("equal-size", S=S, N=N, D=D),
            lambda law: size_needed(law, law.predict(0.0, N, D), S, D),
        ),
    )


def _of_parameter(verdict: Verdict, law: Law, runs: Runs, candidates: Points) -> Verdict:
    """A parameter's verdict with its remedy: what its variables span, and the runs that would do."""
    if verdict.identified or not isinstance(verdict.name, str):
        return verdict
    draws = np.asarray(getattr(law.draws, verdict.name))
    width = (verdict.high - verdict.low) / (WIDEST * abs(verdict.value)) if verdict.value else float("inf")
    # the columns that the parameter acts through; a constant is told from all others by all of them
    spans = (_span(name, runs.column(name)) for name in law.form.acts_through(verdict.name))
    remedy = listed((*spans, _remedy(law, draws, width, candidates)))
    return verdict.model_copy(update={"remedy": remedy})


def _span(name: str, column: FloatArray) -> Message:
    if name == "sparsity":
        values = np.unique(column.round(3))
        return message("span-sparsity", low=float(values[0]), high=float(values[-1]), values=len(values))
    symbol, ratio = {"nonzero": "N", "data": "D"}[name], float(column.max() / column.min())
    return message("span", symbol=symbol, ratio=ratio, values=int(sizes_of(column).max()) + 1)


def _remedy(law: Law, draws: FloatArray, width: float, candidates: Points) -> Message:
    """The fewest runs that would narrow an interval which is `width` times too wide."""
    if law.noise is None or not len(candidates):
        return message("remedy-unknown")
    columns = candidates.sparsity, candidates.nonzero, candidates.data
    losses, noise = law.drawn(lambda one: one.predict(*columns)), law.noise.nats(law.predict(*columns))
    count = min(MOST_RUNS, len(candidates))
    # normal scores have the order of the draws without their outliers and infinities
    normal, ranks = NormalDist(), draws.argsort(kind="stable").argsort()
    scores = np.array([[normal.inv_cdf((rank + 0.5) / len(draws))] for rank in ranks])
    chosen, left = choose(scores, losses, noise, np.ones(len(candidates)), count)
    enough = np.flatnonzero(left * width <= 1)
    runs = chosen[: int(enough[0]) + 1] if len(enough) else chosen[:1]
    points = np.stack(columns, axis=1)[runs].tolist()
    places = tuple(message("place", S=S, N=N, D=D) for S, N, D in points)
    if len(enough):
        return message("remedy-enough", runs=len(runs), places=places)
    return message("remedy-part", runs=count, left=float(left[-1]), places=places)
