"""Figures of laws alone, without runs: gains overlaid, contours of optimal sparsity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sparsity_lab.laws.questions.multipliers import Multiplier
from sparsity_lab.plots import figures, info_fits, info_laws
from sparsity_lab.plots.style import save
from sparsity_lab.stages.law import OpenLaw


def draw_gains(laws: Sequence[OpenLaw], folder: Path, confidence: float) -> Path:
    """Write `gains.png` and `.svg`: gain against sparsity, a curve a law; gives the PNG's path."""
    trained = [one.document.provenance.ranges["sparsity"][1] for one in laws if one.document]
    info = info_fits.gains(
        {one.name: one.law for one in laws}, trained=max(trained, default=None), confidence=confidence
    )
    return save(figures.gains_figure(info), folder, "gains")[0]


def draw_contours(opened: OpenLaw, nonzero: Sequence[float], cost: Multiplier, folder: Path) -> Path:
    """Write `contours.png` and `.svg`: optimal sparsity over size and compute; gives the PNG's path."""
    least, largest = min(nonzero), max(nonzero)
    if least == largest:
        least, largest = least / 10, largest * 10
    info = info_laws.optimum_contours(opened.law, cost, nonzero=(least, largest))
    return save(figures.optimum_contours_figure(info), folder, "contours")[0]
