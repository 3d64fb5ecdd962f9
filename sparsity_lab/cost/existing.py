"""A trained model that could be pruned: how many items it takes until it has the quality, and what says so.

    by a table    D_eq / rho(S), with L(S, N, D_eq) = L* by the scenario's law
                  rho = 4.90, 4.27, 2.45 at S = .5, .75, .875         (Frantar et al. 2024, section 4, ViT)
    by a law      D with L_after(S, N, D; L_0) = L*: a law of pruned models, fitted or published, which reads the loss
                  before, L_0: as the scenario gives it, or L(0, M, D_M) by the scenario's law

N = M (1 − S) for a checkpoint of M weights that was trained on D_M items.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from sparsity_lab.cost.economics import Assumptions, Option
from sparsity_lab.laws.documents.law import LawDocument
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.inverse import data_needed
from sparsity_lab.laws.questions.optimum import FLOPS_PER_WEIGHT
from sparsity_lab.laws.rows.runs import FloatArray

BEFORE = "loss_before"
"""what laws of pruned models read of the model before, nats"""
PAPER_WORTH = ((0.5, 4.90), (0.75, 4.27), (0.875, 2.45))
"""S, and rho: data from scratch / data of the pruning phase (Frantar et al. 2024, section 4, ViT)"""


@dataclass(frozen=True, eq=False)
class PruningLaw:
    """A law of pruned models.

    Attributes:
        name: as it was asked for.
        law: with its draws, if it has any; its form reads `loss_before`.
        document: of a law fitted here: tells how far it may be trusted.
    """

    name: str
    law: Law
    document: LawDocument | None = None


@dataclass(frozen=True, eq=False)
class Existing:
    """A trained dense model.

    Attributes:
        weights: M.
        data: D_M, items that it was trained on.
        paid: whether its training costs nothing any more.
        worth: S and rho, see `pruning_worth`.
        after: a law of pruned models, in place of `worth`.
        loss: L_0, nats, for `after`; by the scenario's law when None.
    """

    weights: float
    data: float
    paid: bool = True
    worth: tuple[tuple[float, float], ...] = PAPER_WORTH
    after: Law | None = None
    loss: float | None = None

    @property
    def pretraining(self) -> float:
        """FLOPs that a run spends on such a checkpoint before it is pruned: 6 M D_M unless paid."""
        return 0.0 if self.paid else FLOPS_PER_WEIGHT * self.weights * self.data

    def loss_before(self, law: Law) -> FloatArray:
        """L_0, nats."""
        return law.predict(0.0, self.weights, self.data) if self.loss is None else np.asarray(self.loss)

    def phase(self, law: Law, target: ArrayLike, sparsity: ArrayLike) -> FloatArray:
        """Items until it has the target's loss at S; `inf` where none suffice, NaN where nobody measured."""
        nonzero = self.weights * (1 - np.asarray(sparsity, dtype=np.float64))
        if self.after is None:
            return np.asarray(data_needed(law, target, sparsity, nonzero) / pruning_worth(sparsity, self.worth))
        told = replace(self.after, at={**self.after.at, BEFORE: self.loss_before(law)})
        return data_needed(told, target, sparsity, nonzero)


def pruned(
    law: Law, given: Assumptions, existing: Existing, sparsity: ArrayLike, *, m: ArrayLike, r: ArrayLike
) -> Option:
    """A checkpoint pruned to S and trained on until it has the quality; m and r as in training from scratch."""
    nonzero = existing.weights * (1 - np.asarray(sparsity, dtype=np.float64))
    phase = existing.phase(law, given.target_loss(law), sparsity)
    return Option("prune-existing", sparsity, nonzero, phase, m, r, existing.pretraining)


def pruning_worth(sparsity: ArrayLike, table: tuple[tuple[float, float], ...] = PAPER_WORTH) -> FloatArray:
    """rho(S): ln rho is linear in −ln(1 − S) between the table's points; NaN beyond them, where nobody measured."""
    S = np.asarray(sparsity, dtype=np.float64)
    levels, ratios = np.array(table, dtype=np.float64).T
    inside = np.exp(np.interp(-np.log1p(-S), -np.log1p(-levels), np.log(ratios)))
    return np.where((levels[0] <= S) & (levels[-1] >= S), inside, np.nan)
