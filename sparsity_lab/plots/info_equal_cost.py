"""What the figure of dense against sparse at equal cost shows: advantage against sparsity, a panel a quantity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.laws.uncertainty.intervals import Interval
from sparsity_lab.specs.choices import DataUnit

LOWEST = 1.3
"""panels are cut at this multiple of the largest advantage below 0: what loses by more loses"""


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

    @property
    def has_band(self) -> bool:
        """Whether an end of a band is known anywhere."""
        return any(np.isfinite(panel.advantage.low).any() for panel in self.panels)

    @property
    def limits(self) -> tuple[float, float]:
        """Of the axis: from what matters of the losses to the largest advantage."""
        parts = [np.ravel(part) for panel in self.panels for part in (*panel.advantage, panel.seen[:, 1])]
        every = np.concatenate(parts)
        every = every[np.isfinite(every)]
        highest = max(float(every.max(initial=0.0)), 1e-3)
        return max(float(every.min(initial=0.0)), -LOWEST * highest) - 0.12 * highest, 1.08 * highest
