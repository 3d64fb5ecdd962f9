"""Drawing of what `info_runs` computed, each onto the axes it is given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.messages.numbers import count
from sparsity_lab.plots.info_runs import SizePanel, TrainingCurves
from sparsity_lab.plots.picture import label
from sparsity_lab.plots.style import GREY, INK, PALE, legend_entry, log_counts, sparsity_colour, sparsity_marker
from sparsity_lab.results.places import DifferencesAndNoise, of_difference

NOISE_BAND = 2.0
"""half width of the band of noise, in standard deviations of a difference between two runs"""


def draw_size_panel(axes: Axes, panel: SizePanel, levels: Sequence[float], unit: str) -> None:
    """Loss against data for one size: points measured, lines the law's."""
    for line in panel.lines:
        colour = sparsity_colour(line.sparsity)
        axes.plot(line.law_data, line.law_loss, color=colour, linewidth=1.2)
        axes.plot(line.data, line.loss, linestyle="none", color=colour, marker=sparsity_marker(line.sparsity, levels))
    log_counts(axes, "x", [float(value) for line in panel.lines for value in line.data])
    axes.margins(x=0.08)
    axes.set_title(label("label-size-of", nonzero=panel.nonzero))
    axes.set_xlabel(label("label-training-data", unit=f"unit-{unit}"))


def draw_losses(axes: Axes, info: TrainingCurves, levels: Sequence[float]) -> None:
    """Held-out loss over training, from the moment the first steep fall is over."""
    _shade_window(axes, info)
    for curve in info.curves:
        _draw_curve(axes, curve.progress, curve.loss, curve.sparsity, levels)
    late = np.concatenate([curve.loss[curve.progress >= min(0.1, curve.progress[-1])] for curve in info.curves])
    spread = max(float(np.ptp(late)), 1e-6 * float(np.abs(late).max()) + 1e-9)
    axes.set_ylim(late.min() - 0.06 * spread, late.max() + 0.06 * spread)
    axes.set_ylabel(label("label-loss"))


def draw_reached(axes: Axes, info: TrainingCurves, levels: Sequence[float]) -> None:
    """Sparsity over training."""
    _shade_window(axes, info)
    for curve in info.curves:
        _draw_curve(axes, curve.progress, 100 * curve.reached, curve.sparsity, levels)
    if info.window:
        axes.text(sum(info.window) / 2, 97, label("label-pruning"), ha="center", va="top", fontsize=8, color=GREY)
    axes.set_ylim(-4, 100)
    axes.set_xlim(0, 1)
    axes.set_ylabel(label("label-zeros-reached"))
    axes.set_xlabel(label("label-progress"))


def draw_seed_noise(axes: Axes, info: DifferencesAndNoise, levels: Sequence[float]) -> None:
    """One row for each size and amount of data: loss of the sparse runs less that of the dense ones."""
    rows = sorted({(d.place.nonzero, d.place.data) for d in info.differences}, reverse=True)
    if info.noise:
        half = NOISE_BAND * of_difference(info.noise)
        axes.axvspan(-half, half, color=PALE, alpha=0.7, linewidth=0, zorder=0)
    axes.axvline(0, color=INK, linewidth=0.8, zorder=1)
    sparse = [level for level in sorted(levels) if level > 0]
    for difference in info.differences:
        place, each = difference.place, difference.each
        colour, marker = sparsity_colour(place.sparsity), sparsity_marker(place.sparsity, levels)
        row = rows.index((place.nonzero, place.data))
        height = row + 0.14 * ((len(sparse) - 1) / 2 - sparse.index(place.sparsity))
        if len(each) > 1:
            axes.plot(each, np.full(len(each), height), "|", color=GREY, markersize=8, markeredgewidth=0.8)
        axes.plot(difference.mean, height, marker, color=colour, markersize=5.5)
    axes.set_yticks(range(len(rows)), [f"N {count(nonzero)},  D {count(data)}" for nonzero, data in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(label("label-difference"))


def noise_handles(info: DifferencesAndNoise) -> list[Line2D]:
    """Legend entries that explain the band and the small dots."""
    if not info.noise:
        return []
    said = f"{label('label-noise-band', deviations=NOISE_BAND)}\n{label('label-between-seeds')}"
    seeds = legend_entry(label("label-single-seeds"), GREY, marker="|", markeredgewidth=0.8, linestyle="none")
    return [legend_entry(said, PALE, linewidth=8), seeds]


def _draw_curve(axes: Axes, x: FloatArray, y: FloatArray, sparsity: float, levels: Sequence[float]) -> None:
    every = max(1, len(x) // 8)
    start = sorted(levels).index(sparsity) * every // max(1, len(levels))
    marker = sparsity_marker(sparsity, levels)
    axes.plot(
        x, y, color=sparsity_colour(sparsity), marker=marker, markevery=(start, every), markersize=4, linewidth=1.3
    )


def _shade_window(axes: Axes, info: TrainingCurves) -> None:
    if info.window:
        axes.axvspan(*info.window, color=PALE, alpha=0.5, linewidth=0, zorder=0)
