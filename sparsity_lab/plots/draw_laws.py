"""Drawing of what `info_laws` computed, each onto the axes it is given."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.plots.info_laws import OptimumContours, Parity
from sparsity_lab.plots.picture import label
from sparsity_lab.plots.style import (
    GREY,
    INK,
    MANY,
    legend_entry,
    log_counts,
    note,
    sparsity_colour,
)

LEVELS = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975])


def draw_parity(axes: Axes, info: Parity) -> None:
    """Predicted against measured, with the diagonal."""
    both = np.concatenate([info.measured, info.predicted])
    margin = 0.05 * max(float(np.ptp(both)), 1e-3 * float(both.max()))
    limits = (float(both.min()) - margin, float(both.max()) + margin)
    axes.plot(limits, limits, color=GREY, linewidth=0.8, zorder=1)
    _scatter(axes, info, info.measured, info.predicted)
    axes.set_xlim(limits)
    axes.set_ylim(limits)
    axes.set_ylabel(label("label-predicted-loss"))
    lines = [label("label-law-runs", law=info.law, runs=len(info.measured))]
    if info.r2 is not None and np.isfinite(info.r2):
        lines.append(f"R² = {info.r2:.4f}")
    if info.held_out_error is not None:
        lines.append(label("label-held-out-error", error=100 * info.held_out_error))
    note(axes, "\n".join(lines))


def draw_relative_errors(axes: Axes, info: Parity) -> None:
    """Relative errors in percent, under the parity plot's own axis."""
    axes.axhline(0, color=GREY, linewidth=0.8, zorder=1)
    _scatter(axes, info, info.measured, 100 * info.relative_error)
    largest = max(100 * float(np.abs(info.relative_error).max()), 0.05)
    axes.set_ylim(-1.25 * largest, 1.25 * largest)
    axes.yaxis.set_major_locator(MaxNLocator(4, symmetric=True))
    axes.set_ylabel(label("label-error"))
    axes.set_xlabel(label("label-measured-loss"))


def parity_handles(info: Parity) -> list[Line2D]:
    """Legend entries for fitted and held-out runs."""
    if not info.held_out.any():
        return []
    fitted = legend_entry(label("label-fitted"), GREY, marker="o", linestyle="none")
    lines = f"{label('label-held-out')}\n{label('label-largest-data')}"
    held_out = legend_entry(lines, GREY, marker="o", markerfacecolor="white", linestyle="none")
    return [fitted, held_out]


def draw_contours(axes: Axes, info: OptimumContours) -> ContourSet:
    """Filled contours of optimal sparsity over N and C, the dense-optimal line, and where runs were made."""
    colours = [sparsity_colour(level) for level in LEVELS[:-1]]
    filled = axes.contourf(info.nonzero, info.compute, info.optimum, levels=LEVELS, colors=colours, alpha=0.75)
    lines = axes.contour(info.nonzero, info.compute, info.optimum, levels=LEVELS[1:], colors="white", linewidths=0.6)
    axes.plot(info.nonzero, info.dense_optimal, color=INK, linewidth=1.6, linestyle=(0, (5, 2)))
    axes.plot(
        info.runs[:, 0], info.runs[:, 1], ".", color="white", markeredgecolor=INK, markeredgewidth=0.6, markersize=6
    )
    sizes = info.runs[:, 0] if len(info.runs) else 10 ** np.arange(0, 24)
    shown = sizes[(sizes >= info.nonzero[0]) & (sizes <= info.nonzero[-1])]
    log_counts(axes, "x", [float(f"{value:.2g}") for value in shown])
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(numticks=8))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(info.nonzero[0], info.nonzero[-1])
    axes.set_ylim(info.compute[0], info.compute[-1])
    marks = axes.clabel(lines, fmt=lambda level: f"{100 * level:.3g} %", fontsize=7, colors=INK)
    for mark in marks:
        mark.set_path_effects([withStroke(linewidth=1.6, foreground="white", alpha=0.8)])
    axes.grid(visible=False)
    axes.set_xlabel(label("label-size"))
    axes.set_ylabel(label("label-compute"))
    return filled


def contour_handles(info: OptimumContours) -> list[Line2D]:
    """Legend entries for the line, and for the runs where there are any."""
    dense = legend_entry(label("label-dense-optimal-model"), INK, linewidth=1.6, linestyle=(0, (5, 2)))
    runs = legend_entry(label("label-fitted-runs"), INK, marker=".", markerfacecolor="white", linestyle="none")
    return [dense, runs] if len(info.runs) else [dense]


def _scatter(axes: Axes, info: Parity, x: FloatArray, y: FloatArray) -> None:
    colours = [sparsity_colour(float(sparsity)) for sparsity in info.sparsity]
    faces = ["white" if held_out else colour for held_out, colour in zip(info.held_out, colours, strict=True)]
    axes.scatter(x, y, s=22, c=faces, edgecolors=colours, linewidths=1.2, zorder=3, rasterized=len(x) > MANY)
