"""What every sparse option of a case comes to against dense: over sparsities, and over draws where there are any."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.cost.assumptions import Case
from sparsity_lab.cost.economics import Cost, Option, cost_of, dense, from_scratch, pruned, sufficient_data
from sparsity_lab.laws.rows.runs import FloatArray

Truths = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Outcome:
    """Sparse models from scratch, or pruned ones; arrays of (…, S).

    Attributes:
        option: what they are.
        cost: money.
        npv: saved against dense; −inf where the quality cannot be reached.
        required: items of a run from which a sparse model makes better use of its training cost than a dense one of
            as many weights (`economics.sufficient_data`); of a pruned model the items that its phase takes.
        plenty: whether a run has so many.
        enough: whether the option stands: the items are there, and no dense model of as many weights, trained longer
            for the same cost on items that are there, does as well.
        needed_speedup: of inference, to be no slower than dense at equal quality: N / (1 − S) / N_ref.
        speedup: that the hardware gives, 1 / r.
    """

    option: Option
    cost: Cost
    npv: FloatArray
    required: FloatArray
    plenty: Truths
    enough: Truths
    needed_speedup: FloatArray
    speedup: FloatArray

    @property
    def pays(self) -> Truths:
        """Whether an option stands and is cheaper than dense."""
        return self.enough & (self.npv > 0)


def dense_option(case: Case) -> Option:
    """The dense model; where it is the paid checkpoint itself, its training is past."""
    existing = case.existing
    paid = existing is not None and existing.paid and existing.weights == case.given.nonzero
    return dense(case.given, paid=paid)


def outcomes(case: Case) -> tuple[Outcome, ...]:
    """Every sparsity from scratch, then every sparsity pruned where there is a checkpoint."""
    options = [from_scratch(case.law, case.given, case.sparsity, m=case.m, r=case.r)]
    if case.existing is not None:
        options.append(pruned(case.law, case.given, case.existing, case.sparsity, m=case.m, r=case.r))
    reference = cost_of(dense_option(case), case.given).total
    return tuple(_outcome(case, option, reference) for option in options)


def _outcome(case: Case, option: Option, reference: FloatArray) -> Outcome:
    cost = cost_of(option, case.given)
    data, available, nonzero = (np.asarray(value) for value in (option.data, case.available, option.nonzero))
    if option.kind == "train-sparse":
        reachable = np.isfinite(nonzero)
        some = np.where(reachable, nonzero, case.given.nonzero)
        required = np.where(reachable, sufficient_data(case.law, case.sparsity, some, case.m), np.inf)
        plenty = (data >= required) & (data <= available)
        enough = reachable & (data <= available) & ((data >= required) | (data * case.m > available))
    else:
        required = data
        plenty = enough = np.isfinite(data) & (data <= available)
    arrays = np.broadcast_arrays(
        reference - cost.total,
        required,
        plenty,
        enough,
        nonzero / (1 - case.sparsity) / np.asarray(case.given.nonzero),
        1 / case.r,
    )
    return Outcome(option, cost, *arrays)
