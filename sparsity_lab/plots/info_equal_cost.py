"""What the figure of dense against sparse at equal cost shows: advantage against sparsity, a panel a quantity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.laws.uncertainty.bootstrap import Interval
from sparsity_lab.specs.choices import DataUnit


@dataclass(frozen=True, eq=False)
class EqualCostPanel:
    """One quantity.

    Attributes:
        title: the quantity in words.
        sparsity: (s,) sparsities.
        advantage: (s,) dense loss less sparse loss, nats; ends are NaN without draws, and −inf where no run can be had.
        best: the best sparsity; 0 where dense is.
        best_advantage: there, nats.
        winner: who wins.
        seen: (k, 2) sparsities and mean advantages of a study's runs.
    """

    title: str
    sparsity: FloatArray
    advantage: Interval
    best: float
    best_advantage: float
    winner: Literal["sparse", "dense", "unclear"]
    seen: FloatArray


@dataclass(frozen=True, eq=False)
class EqualCostFigure:
    """Figure: advantage against sparsity, a panel for each quantity, at one reference.

    Attributes:
        panels: one a quantity.
        nonzero: N of the dense run.
        data: D of the dense run.
        data_unit: what D counts.
        law: its name.
        confidence: of the bands.
        discrete: whether the sparsities are all that can be had.
    """

    panels: tuple[EqualCostPanel, ...]
    nonzero: float
    data: float
    data_unit: DataUnit
    law: str
    confidence: float
    discrete: bool
