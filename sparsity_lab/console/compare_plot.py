"""The figure of a fair comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sparsity_lab.cost.comparison import Comparison
from sparsity_lab.plots.draw_fair import fair_figure
from sparsity_lab.plots.info_fair import FairComparison, FairPanel
from sparsity_lab.plots.style import save
from sparsity_lab.stages.compare import EqualCostComparison


def draw_fair(fair: EqualCostComparison, folder: Path) -> Path:
    """Write `fair.png` and `.svg`; gives the PNG's path."""
    return save(fair_figure(fair_info(fair)), folder, "fair")[0]


def fair_info(fair: EqualCostComparison) -> FairComparison:
    """What the figure shows; of a study's runs those of the law's regime."""
    contest = fair.contest
    return FairComparison(
        panels=tuple(_panel(one, fair) for one in fair.comparisons),
        nonzero=contest.nonzero,
        data=contest.data,
        data_unit=fair.opened.law.data_unit,
        law=fair.opened.name,
        confidence=contest.confidence,
        discrete=contest.only_levels,
    )


def _panel(one: Comparison, fair: EqualCostComparison) -> FairPanel:
    seen = [
        (run.sparsity, run.advantage)
        for run in fair.observed
        if run.runs and (run.name, run.regime) == (one.equal.name, fair.regime)
    ]
    return FairPanel(
        title=one.equal.label,
        sparsity=one.curve,
        advantage=one.on_curve,
        best=one.best,
        best_advantage=float(one.advantage.value),
        winner=one.winner,
        seen=np.array(seen).reshape(-1, 2),
    )
