"""What a model costs over its life, dense and sparse at equal quality; all of it broadcasts over sparsities and draws.

Every option reaches the loss of the dense model of N_ref weights trained on D items (tokens or images):

    L* = L(0, N_ref, D)                           the quality that is asked for
    dense            N = N_ref, D items a run
    train sparse     N_S with L(S, N_S, D) = L*, D items a run         (N_ref / gain(S) where the gain is one number)
    prune existing   N = M (1 − S) for a checkpoint of M weights; training from scratch would need D_eq with
                     L(S, N, D_eq) = L*, and the pruning phase needs D_eq / rho(S); or the phase is told by a law
                     of pruned models                                                       (`cost.existing`)

    hour             = price_per_hour + power_watts / 1000 · pue · electricity_per_kwh
    training seconds = (6 N m(S) · data of the run + pretraining) / F       m: multiplier of training cost, m(0) = 1
                       pretraining = 6 M D_M FLOPs where the checkpoint has yet to be paid, else 0
    inference seconds an item = 2 N / (1 − S) · r(S) / F_inf                r: sparse / dense time for equal shapes
    annuity a        = sum over whole years y = 1..H of (1 + rate)^−y; of a part f of a year left, f (1 + rate)^−H
    TCO              = days · day_cost
                       + a · (runs_per_year · training seconds / 3600 · hour
                              + items_per_year · inference seconds / 3600 · hour_inf + days_per_year · day_cost)
    NPV(S)           = TCO(dense) − TCO(S)

People's days are charged to sparse options only. Where the dense model is the paid checkpoint itself (M = N_ref), its
runs cost nothing. An option that cannot reach L* has N or data of infinity, and costs infinity. F and F_inf are
sustained dense FLOP/s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.inverse import bisect, size_needed
from sparsity_lab.laws.questions.optimum import FLOPS_PER_WEIGHT, acts_on_size_alone, gain
from sparsity_lab.laws.rows.runs import FloatArray

INFERENCE_FLOPS_PER_WEIGHT = 2.0
"""one multiplication and one addition for each weight and item"""
SECONDS_PER_HOUR = 3600.0
WIDEST_DATA = 1e6
"""break-even data are looked for within this factor of the scenario's"""

OptionKind = Literal["dense", "train-sparse", "prune-existing"]


@dataclass(frozen=True, eq=False)
class Assumptions:
    """Numbers of a scenario, each one value or an array of draws that broadcasts against sparsities.

    Attributes:
        nonzero: N_ref, weights of the dense model whose quality is wanted.
        data: D, items of one run.
        runs_per_year: training runs.
        items_per_year: items of inference.
        hour: money for an hour of the training accelerator, electricity included.
        flops_per_second: F, dense and sustained.
        inference_hour: money for an hour of the inference accelerator.
        inference_flops_per_second: F_inf.
        days: of engineering, once, for a sparse option.
        days_per_year: of engineering, every year.
        day_cost: money for a day.
        horizon_years: H.
        discount_rate: a year.
    """

    nonzero: ArrayLike
    data: ArrayLike
    runs_per_year: ArrayLike
    items_per_year: ArrayLike
    hour: ArrayLike
    flops_per_second: ArrayLike
    inference_hour: ArrayLike
    inference_flops_per_second: ArrayLike
    days: ArrayLike
    days_per_year: ArrayLike
    day_cost: ArrayLike
    horizon_years: float
    discount_rate: ArrayLike

    def target_loss(self, law: Law) -> FloatArray:
        """L* = L(0, N_ref, D), nats."""
        return law.predict(0.0, self.nonzero, self.data)

    def dense(self, *, paid: bool = False) -> Option:
        """The dense model; `paid` where it is a checkpoint that exists already."""
        return Option("dense", 0.0, self.nonzero, 0.0 if paid else self.data)


@dataclass(frozen=True, eq=False)
class Option:
    """One way to reach the wanted quality; arrays broadcast.

    Attributes:
        kind: dense, sparse from scratch, or pruned from a checkpoint.
        sparsity: S.
        nonzero: N, non-zero weights; infinity where no size reaches the quality.
        data: items of one run's training, or pruning; infinity where none suffice, NaN where nobody knows.
        training_ratio: m(S).
        inference_ratio: r(S).
        pretraining: FLOPs that each run spends before that.
    """

    kind: OptionKind
    sparsity: ArrayLike
    nonzero: ArrayLike
    data: ArrayLike
    training_ratio: ArrayLike = 1.0
    inference_ratio: ArrayLike = 1.0
    pretraining: ArrayLike = 0.0

    def cost(self, given: Assumptions) -> LifetimeCost:
        """What it costs; infinite where its size or data are not finite."""
        size, F_inf = self.nonzero, given.inference_flops_per_second
        training = training_seconds(size, self.data, given.flops_per_second, self.training_ratio, self.pretraining)
        inference = inference_seconds(size, self.sparsity, F_inf, self.inference_ratio)
        people = 0.0 if self.kind == "dense" else 1.0
        once = people * np.asarray(given.days) * np.asarray(given.day_cost)
        with np.errstate(invalid="ignore"):  # no runs of a model that does not exist
            per_year = (
                np.asarray(given.runs_per_year) * training / SECONDS_PER_HOUR * np.asarray(given.hour),
                np.asarray(given.items_per_year) * inference / SECONDS_PER_HOUR * np.asarray(given.inference_hour),
                people * np.asarray(given.days_per_year) * np.asarray(given.day_cost),
            )
            total = once + annuity(given.discount_rate, given.horizon_years) * sum(per_year)
        exists = np.isfinite(training) & np.isfinite(inference)
        parts = (np.where(exists, part, np.inf) for part in (once, *per_year, total))
        return LifetimeCost(*np.broadcast_arrays(*parts))

    def npv(self, other: Option, given: Assumptions) -> FloatArray:
        """What it saves over the horizon against `other`, normally the dense one; −inf where it does not exist."""
        return np.asarray(other.cost(given).total - self.cost(given).total)

    def break_even_items(self, other: Option, given: Assumptions) -> BreakEven:
        """The yearly inference volume at which it costs as much as the other: NPV is linear in it. Single values.

        NPV(items) = NPV(0) + items · a · hour_inf / 3600 · (seconds an item of the other − of the option).
        """
        saved = float(self.npv(other, given))
        if not np.isfinite(saved):
            return BreakEven("never", np.nan)
        F = given.inference_flops_per_second
        seconds = (inference_seconds(o.nonzero, o.sparsity, F, o.inference_ratio) for o in (other, self))
        gained = float(np.subtract(*seconds)) / SECONDS_PER_HOUR * float(np.asarray(given.inference_hour))
        slope = gained * float(annuity(given.discount_rate, given.horizon_years))
        without = saved - slope * float(np.asarray(given.items_per_year))
        if without > 0:
            return BreakEven("below", -without / slope) if slope < 0 else BreakEven("always", np.nan)
        return BreakEven("above", -without / slope) if slope > 0 else BreakEven("never", np.nan)


class LifetimeCost(NamedTuple):
    """Money; arrays of one shape, infinite where the option does not exist.

    Attributes:
        engineering: once.
        training: a year.
        inference: a year.
        upkeep: people, a year.
        total: over the horizon, discounted to today.
    """

    engineering: FloatArray
    training: FloatArray
    inference: FloatArray
    upkeep: FloatArray
    total: FloatArray


class BreakEven(NamedTuple):
    """Where an option starts or stops to cost less than dense.

    Attributes:
        side: it costs less above the value, below it, always, or never.
        value: NaN for always and never.
    """

    side: Literal["above", "below", "always", "never"]
    value: float


def hourly(price: ArrayLike, watts: ArrayLike, electricity: ArrayLike, pue: ArrayLike) -> FloatArray:
    """Money for an hour: price plus watts / 1000 · pue · electricity (money per kWh)."""
    return np.asarray(np.asarray(price) + np.asarray(watts) / 1000 * np.asarray(pue) * np.asarray(electricity))


def annuity(rate: ArrayLike, years: float) -> FloatArray:
    """What one unit of money a year is worth today, paid at the end of each year and of the part of one that is left.

    Args:
        rate: of discount, a year, above −1; 0 gives `years`.
        years: H, above 0.
    """
    base, whole = 1 + np.asarray(rate, dtype=np.float64), int(years)
    paid = sum((base ** -float(year) for year in range(1, whole + 1)), np.zeros_like(base))
    return np.asarray(paid + (years - whole) * base ** -float(years))


def training_seconds(
    nonzero: ArrayLike, data: ArrayLike, flops_per_second: ArrayLike, ratio: ArrayLike = 1.0, pretraining: ArrayLike = 0
) -> FloatArray:
    """Seconds of one run: (6 N m D + pretraining FLOPs) / F."""
    flops = FLOPS_PER_WEIGHT * np.asarray(nonzero) * np.asarray(ratio) * np.asarray(data) + np.asarray(pretraining)
    return np.asarray(flops / np.asarray(flops_per_second))


def inference_seconds(
    nonzero: ArrayLike, sparsity: ArrayLike, flops_per_second: ArrayLike, ratio: ArrayLike = 1.0
) -> FloatArray:
    """Seconds an item: 2 N / (1 − S) · r / F_inf."""
    dense = np.asarray(nonzero) / (1 - np.asarray(sparsity, dtype=np.float64))
    return np.asarray(INFERENCE_FLOPS_PER_WEIGHT * dense * np.asarray(ratio) / np.asarray(flops_per_second))


def equal_quality_size(law: Law, sparsity: ArrayLike, nonzero: ArrayLike, data: ArrayLike) -> FloatArray:
    """N_S, non-zero weights with which sparsity S matches N_ref dense weights on the same data; `inf` if none do."""
    if acts_on_size_alone(law):
        return np.asarray(np.asarray(nonzero) / gain(law, sparsity) + 0 * np.asarray(data))
    return size_needed(law, law.predict(0.0, nonzero, data), sparsity, data)


def from_scratch(law: Law, given: Assumptions, sparsity: ArrayLike, *, m: ArrayLike, r: ArrayLike) -> Option:
    """Sparse models of equal quality, trained from scratch on the same data."""
    size = equal_quality_size(law, sparsity, given.nonzero, given.data)
    return Option("train-sparse", sparsity, size, given.data, m, r)


def break_even_data(saved: Callable[[FloatArray], FloatArray], data: float) -> BreakEven:
    """The data of a run at which NPV is 0, the one nearest to the scenario's `data` within a factor of 10^6 either way.

    `saved` is the NPV of an option at (n,) amounts of data, the wanted quality moving with them.
    """
    grid = data * np.geomspace(1 / WIDEST_DATA, WIDEST_DATA, 601)
    pays = saved(grid) > 0
    turns = np.flatnonzero(pays[:-1] != pays[1:])
    if not len(turns):
        return BreakEven("always" if pays[0] else "never", np.nan)
    turn = turns[np.abs(turns + 0.5 - 300).argmin()]
    ends = np.log(grid[turn]), np.log(grid[turn + 1])
    found = bisect(lambda log: (saved(np.exp(log)) > 0) == pays[turn], (), *ends)
    return BreakEven("below" if pays[turn] else "above", float(np.exp(found)))


def sufficient_data(law: Law, sparsity: ArrayLike, nonzero: ArrayLike, m: ArrayLike) -> FloatArray:
    """Data from which N weights are better trained sparse at equal training cost: `inf` if never, about 1 if always.

    In a sparse run's items; a dense model of the same N sees m(S) times the data for the same cost.
    """

    def better_dense(log: FloatArray) -> NDArray[np.bool_]:
        D = np.exp(log)
        return np.asarray(law.predict(sparsity, nonzero, D) > law.predict(0.0, nonzero, np.asarray(m) * D))

    most = np.full(np.shape(law.predict(sparsity, nonzero, m)), np.log(1e30))
    found = np.exp(bisect(better_dense, most.shape, 0.0, most))
    return np.where(better_dense(most), np.inf, found)
