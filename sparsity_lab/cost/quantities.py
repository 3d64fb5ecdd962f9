"""What dense and sparse may use equally much of: for each quantity, what a sparse run gets for what a dense one uses.

A dense run of N weights on D items (tokens or images) uses X of a quantity. At sparsity S the same X buys N_S non-zero
weights and D_S items. Where X is spent on training N is held and D pays; where X holds the model D is held and N pays:

    nonzero            N, D
    sparse_flops       N, D / m(S)            m: density of each moment / (1 − S)
    dense_flops        N, D (1 − S)           zeros are multiplied like any number
    seconds            N, D / m(S)            m: measured on a machine
    training_memory    N (1 − S) b / b_S, D   b, b_S bytes a weight, zero or not; activations of equal shapes are equal
    inference_memory   N v / v(S), D          v(S) bytes a non-zero weight in the smallest format, v = v(0)
    money              N, D_S                 lifetime cost (`economics.cost_of`) = that of the dense run
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from sparsity_lab.cost.economics import Assumptions, Option
from sparsity_lab.cost.speeds import Speeds
from sparsity_lab.laws.questions.multipliers import Multiplier, SparseSchedule, dense_hardware, free
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.specs.regimes.patterns import NofM
from sparsity_lab.specs.regimes.regime import RegimeSpec, StraightThrough, sparse
from sparsity_lab.specs.training import Optimizer
from sparsity_lab.training.memory import MASK_BYTES, VALUE_BYTES, index_bytes, optimizer_vectors, place_bits

QuantityName = Literal[
    "nonzero", "sparse_flops", "dense_flops", "seconds", "training_memory", "inference_memory", "money"
]
Buys = Callable[[FloatArray, FloatArray, FloatArray], tuple[FloatArray, FloatArray]]
"""(S, N, D) of arrays that broadcast -> N_S and D_S; D_S of 0 or below where the quantity buys no run at all"""

LABELS: Mapping[QuantityName, str] = {
    "nonzero": "non-zero weights",
    "sparse_flops": "FLOPs, zeros skipped",
    "dense_flops": "FLOPs, dense hardware",
    "seconds": "seconds of training",
    "training_memory": "memory to train",
    "inference_memory": "memory to run",
    "money": "money",
}
"""in words, for tables and figures"""
COLUMNS = 2**15
"""of a matrix: the most for which an index of CSR takes two bytes"""
ADAM_BYTES = 4 * VALUE_BYTES
"""of a weight, its gradient and two moments"""


@dataclass(frozen=True, eq=False)
class CostQuantity:
    """One quantity.

    Attributes:
        name: of it.
        buys: what a sparse run gets for it.
    """

    name: QuantityName
    buys: Buys

    @classmethod
    def of_training(cls, name: QuantityName, cost: Multiplier) -> CostQuantity:
        """What training spends in proportion to D and m(S)."""
        return cls(name, lambda S, N, D: (N, D / cost(S)))

    @property
    def label(self) -> str:
        """In words."""
        return LABELS[self.name]


@dataclass(frozen=True)
class WeightBytes:
    """Memory of a weight.

    Attributes:
        dense: bytes that dense training holds of a weight.
        sparse: bytes that sparse training holds of a weight, zero or not.
        group: m, where the non-zero weights are n of every m.
    """

    dense: float = ADAM_BYTES
    sparse: float = ADAM_BYTES + MASK_BYTES
    group: int | None = None

    @classmethod
    def of(cls, optimizer: Optimizer, regime: RegimeSpec) -> WeightBytes:
        """Under an optimiser and a regime's method: sparse runs hold masks, straight-through ones more."""
        state, _ = optimizer_vectors(optimizer)
        dense = VALUE_BYTES * (2 + state)  # the weight and its gradient
        masked = dense + MASK_BYTES + VALUE_BYTES * isinstance(regime, StraightThrough)
        rule = sparse(regime)
        return cls(dense, masked, rule.pattern.m if rule and isinstance(rule.pattern, NofM) else None)

    def stored(self, sparsity: ArrayLike) -> FloatArray:
        """(…) bytes a non-zero weight in the smallest format: dense, bitmask, CSR, and n:m where there are groups."""
        density = 1 - np.asarray(sparsity, dtype=np.float64)
        formats = [
            VALUE_BYTES / density,
            VALUE_BYTES + 1 / 8 / density,
            np.full_like(density, VALUE_BYTES + index_bytes(COLUMNS - 1)),
        ]
        if self.group is not None:
            n_m = np.full_like(density, VALUE_BYTES + place_bits(self.group) / 8)
            formats.append(np.where(density < 1, n_m, np.inf))
        return np.asarray(np.min(formats, axis=0))


def quantities(
    schedule: Multiplier | None = None,
    measured: Multiplier | None = None,
    memory: WeightBytes | None = None,
    money: tuple[Assumptions, Speeds] | None = None,
) -> tuple[CostQuantity, ...]:
    """Every quantity that can be told.

    Args:
        schedule: m(S) when zeros are skipped; the paper's when None.
        measured: m(S) in seconds on a machine; no row of seconds when None.
        memory: of a weight; Adam's in float32 when None.
        money: a scenario's numbers, whose model and data give way to N and D, and what its hardware makes of zeros.
    """
    held = memory or WeightBytes()
    found = [
        CostQuantity.of_training("nonzero", free),
        CostQuantity.of_training("sparse_flops", schedule or SparseSchedule()),
        CostQuantity.of_training("dense_flops", dense_hardware),
    ]
    if measured is not None:
        found.append(CostQuantity.of_training("seconds", measured))
    found.append(CostQuantity("training_memory", _size(lambda S: held.sparse / held.dense / (1 - S))))
    found.append(CostQuantity("inference_memory", _size(lambda S: held.stored(S) / held.stored(0.0))))
    if money is not None:
        found.append(CostQuantity("money", _money(*money)))
    return tuple(found)


def _size(bytes_relative: Callable[[FloatArray], FloatArray]) -> Buys:
    """`bytes_relative`: of a non-zero weight, in units of those of a dense model's."""

    def buys(S: FloatArray, N: FloatArray, D: FloatArray) -> tuple[FloatArray, FloatArray]:
        return np.where(S > 0, N / bytes_relative(S), N), D

    return buys


def _money(given: Assumptions, speeds: Speeds) -> Buys:
    """Lifetime cost is linear in the items of a run: cost(D) = fixed + slope · D."""

    def buys(S: FloatArray, N: FloatArray, D: FloatArray) -> tuple[FloatArray, FloatArray]:
        here = replace(given, nonzero=N, data=D)
        budget = here.dense().cost(here).total
        m, r = speeds.training_ratio(S), speeds.inference_ratio(S)

        def total(data: ArrayLike) -> FloatArray:
            return Option("train-sparse", S, N, data, m, r).cost(here).total

        fixed, whole = total(0.0), total(D)
        with np.errstate(divide="ignore", invalid="ignore"):  # nothing is spent on training
            bought = D * (budget - fixed) / (whole - fixed)
        return N, np.where(S > 0, bought, D)

    return buys
