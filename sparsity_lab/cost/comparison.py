"""Dense against sparse by a law, where both may use equally much: the best sparsity, who wins, and where that changes.

For a dense run of N weights on D items and each quantity of `equal`, the advantage of sparsity S is

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

from sparsity_lab.cost.equal import Equal
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.inverse import bisect, dense_size_needed
from sparsity_lab.laws.questions.optimum import HIGHEST_SPARSITY, lowest_sparsity
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.laws.uncertainty.bootstrap import Interval, percentiles

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
class Change:
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
class Comparison:
    """Dense against sparse for one quantity at one reference.

    Attributes:
        equal: the quantity.
        best: the best sparsity; 0 where dense is.
        advantage: A there, nats; ends are NaN for a law without draws.
        nonzero: N_S there.
        data: D_S there.
        worth: weights of the dense model that reaches that loss on D items, over N.
        winner: who is better beyond doubt; by the law alone where it has no draws.
        wins: least and largest sparsity with A > 0, or None.
        changes: where the winner changes with D, rising.
        levels: (k,) sparsities asked for.
        at_levels: A there.
        curve: (s,) sparsities.
        on_curve: A there.
    """

    equal: Equal
    best: float
    advantage: Interval
    nonzero: float
    data: float
    worth: float
    winner: Winner
    wins: tuple[float, float] | None
    changes: tuple[Change, ...]
    levels: FloatArray
    at_levels: Interval
    curve: FloatArray
    on_curve: Interval


@dataclass(frozen=True, eq=False)
class Contest:
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

    def compare(self, quantities: Sequence[Equal]) -> tuple[Comparison, ...]:
        """One comparison a quantity, in their order."""
        return tuple(self.under(equal) for equal in quantities)

    def under(self, equal: Equal) -> Comparison:
        """The comparison for one quantity."""
        best = float(self._best(self.law, equal, self.data))
        curve = np.array(self.levels) if self.only_levels else np.linspace(0.0, self.highest, CURVE)
        on_curve = self._interval(equal, curve)
        N, D = (float(value) for value in np.broadcast_arrays(*self._bought(equal, best)))
        winning = curve[(curve > 0) & (on_curve.value > 0)]
        advantage = self._interval(equal, best)
        return Comparison(
            equal=equal,
            best=best,
            advantage=advantage,
            nonzero=N,
            data=D,
            worth=float(dense_size_needed(self.law, self.law.predict(best, N, D), self.data)) / self.nonzero,
            winner=self._winner(equal, best, advantage),
            wins=(float(winning[0]), float(winning[-1])) if winning.size else None,
            changes=self._changes(equal),
            levels=np.array(self.levels),
            at_levels=self._interval(equal, self.levels),
            curve=curve,
            on_curve=on_curve,
        )

    def _bought(self, equal: Equal, sparsity: ArrayLike) -> tuple[FloatArray, FloatArray]:
        return equal.buys(*(np.asarray(value, np.float64) for value in (sparsity, self.nonzero, self.data)))

    def _interval(self, equal: Equal, sparsity: ArrayLike) -> Interval:
        """A at sparsities, for the reference."""
        S = np.asarray(sparsity, dtype=np.float64)

        def of(law: Law) -> FloatArray:
            return advantage(law, equal, S, self.nonzero, self.data)

        if self.law.draws is None:
            unknown = np.full(S.shape, np.nan)
            return Interval(of(self.law), unknown, unknown)
        return percentiles(of(self.law), self.law.drawn(of), self.confidence)

    def _best(self, law: Law, equal: Equal, data: ArrayLike) -> FloatArray:
        """The sparsity with the largest A, of the law's and the data's shape; 0 is dense."""
        wide, D = law.with_axis(), np.asarray(data, dtype=np.float64)[..., None]

        def loss(S: FloatArray) -> FloatArray:
            return -advantage(wide, equal, S, self.nonzero, D)

        if not self.only_levels:
            return lowest_sparsity(loss, law.form, self.highest)
        S = np.array([0.0, *self.levels])
        return np.asarray(S[loss(S).argmin(axis=-1)])

    def _winner(self, equal: Equal, best: float, found: Interval) -> Winner:
        if self.law.draws is None:
            return "sparse" if best > NO_SPARSITY else "dense"
        if best > NO_SPARSITY:
            return "sparse" if found.low > 0 else "unclear"
        drawn = replace(self.law, params=self.law.draws, draws=None)
        sparse = float((self._best(drawn, equal, self.data) > NO_SPARSITY).mean())
        return "dense" if sparse <= 1 - self.confidence else "unclear"

    def _changes(self, equal: Equal) -> tuple[Change, ...]:
        """A scan over data, then bisection of every change; a draw's own change is its first one the same way."""
        logs = np.log(self.data) + np.linspace(-1, 1, SCAN) * np.log(WIDEST_DATA)
        pays = self._pays(self.law, equal, logs)
        turns = np.flatnonzero(pays[1:] != pays[:-1])
        found = [self._turn(self.law, equal, logs[turn], logs[turn + 1], bool(pays[turn])) for turn in turns]
        return tuple(
            Change(
                float(np.exp(log)),
                *self._spread(equal, logs, before=bool(pays[turn])),
                "dense" if pays[turn] else "sparse",
            )
            for turn, log in zip(turns, found, strict=True)
        )

    def _spread(self, equal: Equal, logs: FloatArray, *, before: bool) -> tuple[float, float]:
        """The interval of the first change away from `before`: 0 or infinity for draws that never or always are so."""
        if self.law.draws is None:
            return np.nan, np.nan
        law = replace(self.law, params=self.law.draws, draws=None)
        pays = self._pays(law.with_axis(), equal, logs)
        turning = (pays[:, :-1] == before) & (pays[:, 1:] != before)
        first = turning.argmax(axis=-1)
        changed = np.exp(self._turn(law, equal, logs[first], logs[first + 1], before))
        never = np.where(pays[:, 0] == before, np.inf, 0.0)
        drawn = np.where(turning.any(axis=-1), changed, never)
        _, low, high = percentiles(0.0, drawn, self.confidence)
        return float(low), float(high)

    def _turn(self, law: Law, equal: Equal, low: ArrayLike, high: ArrayLike, before: bool) -> FloatArray:
        """Ln D between `low` and `high` up to which `_pays` is `before`."""

        def unchanged(logs: FloatArray) -> NDArray[np.bool_]:
            return np.asarray(self._pays(law, equal, logs) == before)

        return bisect(unchanged, np.shape(low), low, high)

    def _pays(self, law: Law, equal: Equal, logs: FloatArray) -> NDArray[np.bool_]:
        """Whether any sparsity worth the name has A > 0 at ln D, of the law's and the data's shape."""
        spread = 1 - np.geomspace(1 - NO_SPARSITY, 1 - self.highest, TRIED)
        S = np.array(self.levels) if self.only_levels else spread
        D = np.exp(logs)[..., None]
        return np.asarray((advantage(law.with_axis(), equal, S, self.nonzero, D) > 0).any(axis=-1))


def advantage(law: Law, equal: Equal, sparsity: ArrayLike, nonzero: ArrayLike, data: ArrayLike) -> FloatArray:
    """A(S) = L(0, N, D) − L(S, N_S, D_S), nats; −inf where the amount buys no run. All broadcast."""
    S, N, D = (np.asarray(value, dtype=np.float64) for value in (sparsity, nonzero, data))
    size, items = equal.buys(S, N, D)
    exists = (size > 0) & (items > 0)
    loss = law.predict(S, np.where(exists, size, N), np.where(exists, items, D))
    return np.asarray(np.where(exists, law.predict(0.0, N, D) - loss, -np.inf))
