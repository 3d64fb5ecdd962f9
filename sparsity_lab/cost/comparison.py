"""Dense against sparse by a law, where both may use equally much: the best sparsity, who wins, and where that changes.

For a dense run of N weights on D items and each quantity of `quantities`, the advantage of sparsity S is

    A(S) = L(0, N, D) − L(S, N_S, D_S)      nats, above 0 where sparse is better

with the N_S and D_S that the same amount buys. Sparse wins where the best sparsity is above `NO_SPARSITY` and the
interval of its A excludes 0; dense wins where hardly a draw of the law has its best sparsity there. Draws move the
law's parameters, not the cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsity_lab.cost.quantities import CostQuantity
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.inverse import bisect, dense_size_needed
from sparsity_lab.laws.questions.optimum import HIGHEST_SPARSITY, lowest_sparsity
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.laws.uncertainty.intervals import Interval

Winner = Literal["sparse", "dense", "unclear"]
NO_SPARSITY = 0.02
"""an optimum below this is no sparsity worth the name"""
CURVE = 97
"""sparsities at which a curve is drawn and a range of winners looked for"""
WIDEST_DATA = 1e4
"""changes of the winner are looked for within this factor of D, to both sides"""
SCAN, TRIED = 65, 40
"""amounts of data and sparsities that the scan for changes looks at"""


@dataclass(frozen=True)
class WinnerChange:
    """Where the winner changes.

    Attributes:
        data: D, items.
        low: of its interval over the law's draws; NaN without draws, 0 or infinity where a draw has no such change.
        high: of the interval.
        to: who is better above it.
    """

    data: float
    low: float
    high: float
    to: Literal["sparse", "dense"]


@dataclass(frozen=True, eq=False)
class QuantityComparison:
    """Dense against sparse for one quantity at one reference.

    Attributes:
        quantity: what both use equally much of.
        best: the best sparsity; 0 where dense is.
        advantage: A there, nats; ends are NaN for a law without draws.
        winner: as `Reference.best` tells it.
        nonzero: N_S there.
        data: D_S there.
        worth: weights of the dense model that reaches that loss on D items, over N.
        wins: least and largest sparsity with A > 0, or None.
        changes: where the winner changes with D, rising.
        levels: (k,) sparsities asked for.
        at_levels: A there.
        curve: (s,) sparsities.
        on_curve: A there.
    """

    quantity: CostQuantity
    best: float
    advantage: Interval
    winner: Winner
    nonzero: float
    data: float
    worth: float
    wins: tuple[float, float] | None
    changes: tuple[WinnerChange, ...]
    levels: FloatArray
    at_levels: Interval
    curve: FloatArray
    on_curve: Interval


@dataclass(frozen=True, eq=False)
class Reference:
    """A law at a reference.

    Attributes:
        law: it must see sparsity.
        nonzero: N of the dense run.
        data: D of the dense run.
        levels: sparsities to show, rising.
        highest: the sparsest that is considered.
        only_levels: whether the levels are all that can be had, as for n:m; else any sparsity up to the highest.
        confidence: of the intervals.
    """

    law: Law
    nonzero: float
    data: float
    levels: tuple[float, ...] = (0.5, 0.75, 0.875)
    highest: float = HIGHEST_SPARSITY
    only_levels: bool = False
    confidence: float = 0.9

    def compare(self, quantities: Sequence[CostQuantity]) -> tuple[QuantityComparison, ...]:
        """One comparison a quantity, in their order."""
        return tuple(self.under(quantity) for quantity in quantities)

    def under(self, quantity: CostQuantity) -> QuantityComparison:
        """The comparison for one quantity."""
        best, advantage, winner = self.best(quantity)
        curve = np.array(self.levels) if self.only_levels else np.linspace(0.0, self.highest, CURVE)
        on_curve = self._interval(quantity, curve)
        bought = quantity.buys(*(np.asarray(value, np.float64) for value in (best, self.nonzero, self.data)))
        N, D = map(float, np.broadcast_arrays(*bought))
        winning = curve[(curve > 0) & (on_curve.value > 0)]
        return QuantityComparison(
            quantity=quantity,
            best=best,
            advantage=advantage,
            winner=winner,
            nonzero=N,
            data=D,
            worth=float(dense_size_needed(self.law, self.law.predict(best, N, D), self.data)) / self.nonzero,
            wins=(float(winning[0]), float(winning[-1])) if winning.size else None,
            changes=self._changes(quantity),
            levels=np.array(self.levels),
            at_levels=self._interval(quantity, self.levels),
            curve=curve,
            on_curve=on_curve,
        )

    def best(self, quantity: CostQuantity) -> tuple[float, Interval, Winner]:
        """The best sparsity, or 0; A there; and who is better beyond doubt, by the law alone where it has no draws."""
        best = float(self._best(self.law, quantity, self.data))
        found = self._interval(quantity, best)
        if self.law.draws is None:
            return best, found, "sparse" if best > NO_SPARSITY else "dense"
        if best > NO_SPARSITY:
            return best, found, "sparse" if found.low > 0 else "unclear"
        drawn = replace(self.law, params=self.law.draws, draws=None)
        sparse = float((self._best(drawn, quantity, self.data) > NO_SPARSITY).mean())
        return best, found, "dense" if sparse <= 1 - self.confidence else "unclear"

    def _interval(self, quantity: CostQuantity, sparsity: ArrayLike) -> Interval:
        """A at sparsities, for the reference."""
        S = np.asarray(sparsity, dtype=np.float64)

        def of(law: Law) -> FloatArray:
            return advantage(law, quantity, S, self.nonzero, self.data)

        if self.law.draws is None:
            unknown = np.full(S.shape, np.nan)
            return Interval(of(self.law), unknown, unknown)
        return Interval.of(of(self.law), self.law.drawn(of), self.confidence)

    def _best(self, law: Law, quantity: CostQuantity, data: ArrayLike) -> FloatArray:
        """The sparsity with the largest A, of the law's and the data's shape; 0 is dense."""
        wide, D = law.with_axis(), np.asarray(data, dtype=np.float64)[..., None]

        def loss(S: FloatArray) -> FloatArray:
            return -advantage(wide, quantity, S, self.nonzero, D)

        if not self.only_levels:
            return lowest_sparsity(loss, law.form, self.highest)
        S = np.array([0.0, *self.levels])
        return np.asarray(S[loss(S).argmin(axis=-1)])

    def _changes(self, quantity: CostQuantity) -> tuple[WinnerChange, ...]:
        """A scan over data, then bisection of every change; a draw's own change is its first one the same way."""
        logs = np.log(self.data) + np.linspace(-1, 1, SCAN) * np.log(WIDEST_DATA)
        pays = self._pays(self.law, quantity, logs)
        turns = np.flatnonzero(pays[1:] != pays[:-1])
        found = [self._turn(self.law, quantity, logs[turn], logs[turn + 1], bool(pays[turn])) for turn in turns]
        return tuple(
            WinnerChange(
                float(np.exp(log)),
                *self._spread(quantity, logs, before=bool(pays[turn])),
                "dense" if pays[turn] else "sparse",
            )
            for turn, log in zip(turns, found, strict=True)
        )

    def _spread(self, quantity: CostQuantity, logs: FloatArray, *, before: bool) -> tuple[float, float]:
        """The interval of the first change away from `before`: 0 or infinity for draws that never or always are so."""
        if self.law.draws is None:
            return np.nan, np.nan
        law = replace(self.law, params=self.law.draws, draws=None)
        pays = self._pays(law.with_axis(), quantity, logs)
        turning = (pays[:, :-1] == before) & (pays[:, 1:] != before)
        first = turning.argmax(axis=-1)
        changed = np.exp(self._turn(law, quantity, logs[first], logs[first + 1], before))
        never = np.where(pays[:, 0] == before, np.inf, 0.0)
        drawn = np.where(turning.any(axis=-1), changed, never)
        _, low, high = Interval.of(0.0, drawn, self.confidence)
        return float(low), float(high)

    def _turn(self, law: Law, quantity: CostQuantity, low: ArrayLike, high: ArrayLike, before: bool) -> FloatArray:
        """Ln D between `low` and `high` up to which `_pays` is `before`."""

        def unchanged(logs: FloatArray) -> NDArray[np.bool_]:
            return np.asarray(self._pays(law, quantity, logs) == before)

        return bisect(unchanged, np.shape(low), low, high)

    def _pays(self, law: Law, quantity: CostQuantity, logs: FloatArray) -> NDArray[np.bool_]:
        """Whether any sparsity worth the name has A > 0 at ln D, of the law's and the data's shape."""
        spread = 1 - np.geomspace(1 - NO_SPARSITY, 1 - self.highest, TRIED)
        S = np.array(self.levels) if self.only_levels else spread
        D = np.exp(logs)[..., None]
        return np.asarray((advantage(law.with_axis(), quantity, S, self.nonzero, D) > 0).any(axis=-1))


def advantage(law: Law, quantity: CostQuantity, sparsity: ArrayLike, nonzero: ArrayLike, data: ArrayLike) -> FloatArray:
    """A(S) = L(0, N, D) − L(S, N_S, D_S), nats; −inf where the amount buys no run. All broadcast."""
    S, N, D = (np.asarray(value, dtype=np.float64) for value in (sparsity, nonzero, data))
    size, items = quantity.buys(S, N, D)
    exists = (size > 0) & (items > 0)
    loss = law.predict(S, np.where(exists, size, N), np.where(exists, items, D))
    return np.asarray(np.where(exists, law.predict(0.0, N, D) - loss, -np.inf))
