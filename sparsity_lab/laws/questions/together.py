"""One question under several laws at once: each answer, how far they lie apart, and a stacked interval.

A bootstrap says how far the runs determine the parameters of one form, and nothing of whether the form is right:
published laws of sparsity differ by more than the interval of any one fit. The stacked answer is the mixture of the
laws' draws, each law with the weight of its predictions of runs that it did not see,

    w_k  proportional to  1 / e_k²,     e_k the mean relative error on held-out runs

(Bates & Granger 1969: inverse squared errors of forecasts). Its variance has two parts: sum w_k var_k, what the runs
leave open within the forms, and sum w_k (q_k − q)², what they leave open between them. docs/laws.md tells how often
the stacked interval holds the truth on surfaces that follow none of the forms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.documents.law import LawDocument
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.answers import Answer
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.laws.uncertainty.intervals import Interval
from sparsity_lab.messages import Message, message

LEAST_ERROR = 1e-4
"""held-out errors below this are alike: no law is right to a ten-thousandth of the loss"""


class Draws(NamedTuple):
    """A quantity under several laws.

    Attributes:
        each: by law, (its draws, …shape of the quantity).
        all: those of all laws, one after the other.
        weights: of them; sum to one.
    """

    each: Mapping[str, FloatArray]
    all: FloatArray
    weights: FloatArray

    def quantile(self, share: float) -> FloatArray:
        """The least draw up to which the weights sum to the share."""
        order = np.argsort(self.all, axis=0, kind="stable")
        reached = np.cumsum(self.weights[order], axis=0) >= share - 1e-12
        place = np.take_along_axis(order, reached.argmax(axis=0)[None], axis=0)
        return np.asarray(np.take_along_axis(self.all, place, axis=0)[0])


@dataclass(frozen=True, eq=False)
class Mixture:
    """Laws that a question is asked under, and how far each is believed.

    Attributes:
        laws: by name, those of some weight.
        weights: by name; sum to one.
        notes: what must be said of them, and of those left out.
    """

    laws: Mapping[str, Law]
    weights: Mapping[str, float]
    notes: tuple[Message, ...] = ()

    @classmethod
    def of(cls, laws: Mapping[str, Law], weights: Mapping[str, float], notes: tuple[Message, ...] = ()) -> Mixture:
        """Laws with weights relative to one another.

        Raises:
            RecordError: there is no law, or they count different data.
        """
        if not laws:
            raise RecordError("no law to ask", field="laws")
        if len(units := {law.data_unit for law in laws.values()}) > 1:
            raise RecordError("laws count different data", field="laws", found=" and ".join(sorted(units)))
        total = sum(weights[name] for name in laws)
        return cls(laws, {name: weights[name] / total for name in laws}, notes)

    @classmethod
    def weighed(cls, laws: Mapping[str, Law], documents: Mapping[str, LawDocument | None]) -> Mixture:
        """Laws weighted by held-out error, without those that have no weight; errors as `of`."""
        weights, notes = heldout_weights({name: documents[name] for name in laws})
        return cls.of({name: law for name, law in laws.items() if weights[name] > 0}, weights, notes)

    @property
    def names(self) -> str:
        """The laws with their weights, as sentences name them."""
        return ", ".join(f"{name} {weight:.0%}" for name, weight in self.weights.items())

    def drawn(self, quantity: Callable[[Law], ArrayLike]) -> Draws:
        """A quantity for every draw of every law; a law without a bootstrap is one draw of all its weight."""
        each = {
            name: np.asarray(quantity(law), dtype=np.float64)[None] if law.draws is None else law.drawn(quantity)
            for name, law in self.laws.items()
        }
        weights = [np.full(len(draws), self.weights[name] / len(draws)) for name, draws in each.items()]
        return Draws(each, np.concatenate(list(each.values())), np.concatenate(weights))


@dataclass(frozen=True, eq=False)
class Stacked:
    """A quantity under several laws.

    Attributes:
        each: by law, its value and interval; a law without a bootstrap has an interval of no width.
        weights: by law; sum to one.
        stacked: weighted mean, and the central interval of the mixture.
        between: share of the mixture's variance that lies between the laws, of the quantity's shape; NaN where a draw
            is infinite or all agree.
    """

    each: Mapping[str, Interval]
    weights: Mapping[str, float]
    stacked: Interval
    between: FloatArray

    @property
    def spread(self) -> tuple[FloatArray, FloatArray]:
        """Least and largest of the laws' values."""
        values = np.stack([one.value for one in self.each.values()])
        return values.min(axis=0), values.max(axis=0)


def together(
    laws: Mapping[str, Law],
    quantity: Callable[[Law], ArrayLike],
    *,
    weights: Mapping[str, float] | None = None,
    confidence: float = 0.9,
) -> Stacked:
    """Ask several laws for one quantity.

    Args:
        laws: by name; they must count the same data.
        quantity: of a law, as for `Law.interval`.
        weights: by name, relative to one another; equal when None.
        confidence: of the intervals.

    Raises:
        RecordError: there is no law, they count different data, or a law cannot answer.
    """
    return stacked(Mixture.of(laws, dict.fromkeys(laws, 1.0) if weights is None else weights), quantity, confidence)


def stacked(held: Mixture, quantity: Callable[[Law], ArrayLike], confidence: float = 0.9) -> Stacked:
    """A quantity under the laws of a mixture; arguments and errors as `together`."""
    shares, drawn = held.weights, held.drawn(quantity)
    values = {name: np.asarray(quantity(law), dtype=np.float64) for name, law in held.laws.items()}
    each = {name: Interval.of(values[name], drawn.each[name], confidence) for name in shares}
    low, middle, high = (drawn.quantile(share) for share in ((1 - confidence) / 2, 0.5, (1 + confidence) / 2))
    with np.errstate(invalid="ignore"):  # infinite draws have no mean
        mean = sum(shares[name] * values[name] for name in shares)
        apart = sum(shares[name] * (values[name] - mean) ** 2 for name in shares)
        within = sum(shares[name] * drawn.each[name].var(axis=0) for name in shares)
        between = np.where(apart + within > 0, apart / (apart + within), np.nan)
    return Stacked(each, shares, Interval(np.where(np.isfinite(mean), mean, middle), low, high), between)


def heldout_weights(documents: Mapping[str, LawDocument | None]) -> tuple[Mapping[str, float], tuple[Message, ...]]:
    """Weights by held-out error, and what must be said: equal ones where a law was tested on nothing.

    A law whose fit is not sound has no weight, unless none is.
    """
    errors = {
        name: max(one.heldout.mean_relative_error, LEAST_ERROR) if one and one.heldout else None
        for name, one in documents.items()
    }
    sound = {name: one is None or one.fit.sound for name, one in documents.items()}
    if not any(sound.values()):
        sound = dict.fromkeys(documents, True)
    untested = [name for name, error in errors.items() if error is None]
    notes = tuple(message("together-unsound", name=name) for name, good in sound.items() if not good)
    if untested:
        notes = (*notes, message("together-equal", names=", ".join(untested)))
    raw = {name: 1.0 if untested or error is None else error**-2 for name, error in errors.items()}
    return {name: weight * sound[name] for name, weight in raw.items()}, notes


def answer_together(at: Mapping[str, FloatArray], name: str, asked: Stacked, notes: tuple[Message, ...] = ()) -> Answer:
    """A quantity at the places asked for: a column a law, and the stacked answer with where its width is from."""
    columns: dict[str, Any] = {**at, **asked.each, name: asked.stacked}
    said = [message("together-weights", name=law, weight=weight) for law, weight in asked.weights.items()]
    known = asked.between[np.isfinite(asked.between)]
    width = (message("together-width", least=float(known.min()), most=float(known.max())),) if known.size else ()
    return Answer(columns, (*said, *width, *notes))
