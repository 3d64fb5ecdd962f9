"""Drawing of what `info_laws` computed, each onto the axes it is given."""

from __future__ import annotations

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from sparsity_lab.plots.info_laws import BudgetPanel, LossUnderBudgets, OptimumAgainstData, OptimumContours, Parity
from sparsity_lab.plots.info_runs import FloatArray
from sparsity_lab.plots.labels import count, percent
from sparsity_lab.plots.style import (
    GREY,
    INK,
    LAW,
    PALE,
    SEARCH,
    log_counts,
    note,
    sparsity_axis,
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
    axes.set_ylabel("predicted loss (nats)")
    note(axes, _fit_note(info))


def draw_relative_errors(axes: Axes, info: Parity) -> None:
    """Relative errors in percent, under the parity plot's own axis."""
    axes.axhline(0, color=GREY, linewidth=0.8, zorder=1)
    _scatter(axes, info, info.measured, 100 * info.relative_error)
    largest = max(100 * float(np.abs(info.relative_error).max()), 0.05)
    axes.set_ylim(-1.25 * largest, 1.25 * largest)
    axes.yaxis.set_major_locator(MaxNLocator(4, symmetric=True))
    axes.set_ylabel("error (%)")
    axes.set_xlabel("measured held-out loss (nats)")


def parity_handles(info: Parity) -> list[Line2D]:
    """Legend entries for fitted and held-out runs."""
    if not info.held_out.any():
        return []
    fitted = Line2D([], [], color=GREY, marker="o", linestyle="none", label="fitted")
    held_out = Line2D(
        [], [], color=GREY, marker="o", markerfacecolor="white", linestyle="none", label="held out\n(largest D)"
    )
    return [fitted, held_out]


def draw_budget(axes: Axes, panel: BudgetPanel, unit: str) -> None:
    """Trials, the flat region, the smooth optimum and the law's curve at one data budget."""
    axes.axvspan(*panel.flat, color=PALE, alpha=0.6, linewidth=0, zorder=0)
    axes.plot(panel.law_sparsity, panel.law_loss, color=LAW, zorder=2)
    noise = panel.noise if np.isfinite(panel.noise) else 0.0
    for proposed, face in ((False, "white"), (True, GREY)):
        chosen = panel.proposed == proposed
        axes.errorbar(
            panel.sparsity[chosen],
            panel.loss[chosen],
            yerr=noise,
            fmt="o",
            color=GREY,
            markerfacecolor=face,
            markersize=4.5,
            elinewidth=0.9,
            zorder=3,
        )
    if panel.optimum and panel.optimum_loss is not None:
        _draw_optimum(axes, panel.optimum[0], panel.optimum_loss, horizontal=panel.optimum[1:])
    axes.set_title(f"budget {count(panel.budget)} {unit}")
    axes.set_xlim(-0.04, max(0.94, axes.get_xlim()[1]))
    sparsity_axis(axes)
    axes.set_xlabel("sparsity (%)")


def budget_handles(info: LossUnderBudgets) -> list[Line2D]:
    """Legend entries: only for what is there."""
    proposed = any(panel.proposed.any() for panel in info.panels)
    found = any(panel.optimum for panel in info.panels)
    trial = Line2D([], [], color=GREY, marker="o", linestyle="none", label="trial, proposed (± 1 s.d.)")
    design = Line2D(
        [],
        [],
        color=GREY,
        marker="o",
        markerfacecolor="white",
        linestyle="none",
        label="trial, design and dense (± 1 s.d.)",
    )
    optimum = Line2D([], [], color=SEARCH, marker="D", linewidth=1.4, label="smooth optimum and its interval")
    flat = Line2D([], [], color=PALE, linewidth=8, label="within noise of the best")
    law = Line2D([], [], color=LAW, label=f"law ({info.law})")
    shown = ((trial, proposed), (design, True), (optimum, found), (flat, True), (law, bool(info.law)))
    return [handle for handle, there in shown if there]


def draw_optimum_against_data(axes: Axes, info: OptimumAgainstData) -> None:
    """The law's optimum with its band, and the search's optima with their intervals."""
    if info.law is not None:
        axes.fill_between(info.data, info.law.low, info.law.high, color=LAW, alpha=0.18, linewidth=0)
        axes.plot(info.data, info.law.value, color=LAW)
    for data, low, high in info.flat:
        axes.plot([data, data], [low, high], color=GREY, linewidth=4, alpha=0.5, solid_capstyle="butt")
    for data, optimum, low, high in info.found:
        _draw_optimum(axes, data, optimum, vertical=(low, high))
    axes.axhline(info.highest, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    log_counts(axes, "x", [budget for budget, *_ in (*info.found, *info.flat)] or list(info.measured))
    axes.set_xlim(info.data[0], info.data[-1])
    _mark_unmeasured(axes, info)
    if info.chinchilla is not None and _chinchilla_in_view(info):
        axes.axvline(info.chinchilla, color=INK, linewidth=0.9, linestyle=":")
    axes.set_ylim(-0.02, 1)
    sparsity_axis(axes, "y")
    axes.set_ylabel("optimal sparsity (%)")
    axes.set_xlabel(f"data budget: {info.data_unit} a dense model sees for the same compute")


def optimum_handles(info: OptimumAgainstData) -> list[Artist]:
    """Legend entries: only for what is there."""
    handles: list[Artist] = []
    if info.law is not None:
        handles.append(Line2D([], [], color=LAW, label="law"))
        if (info.law.high > info.law.low).any():
            band = f"law, {percent(info.confidence)} interval"
            handles.append(Line2D([], [], color=LAW, alpha=0.25, linewidth=8, label=band))
    if info.found:
        handles.append(Line2D([], [], color=SEARCH, marker="D", linewidth=1.4, label="search, with interval"))
    if info.flat:
        handles.append(
            Line2D([], [], color=GREY, alpha=0.5, linewidth=4, label="search: not identified,\nwithin noise")
        )
    handles.append(Line2D([], [], color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), label="highest sparsity trained"))
    if _chinchilla_in_view(info):
        handles.append(Line2D([], [], color=INK, linewidth=0.9, linestyle=":", label="dense is compute-optimal"))
    return [*handles, Patch(facecolor="none", edgecolor=PALE, hatch="////", linewidth=0, label="budgets not measured")]


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
    labels = axes.clabel(lines, fmt=lambda level: f"{100 * level:.3g} %", fontsize=7, colors=INK)
    for label in labels:
        label.set_path_effects([withStroke(linewidth=1.6, foreground="white", alpha=0.8)])
    axes.grid(visible=False)
    axes.set_xlabel("non-zero weights N")
    axes.set_ylabel("training compute C (FLOPs)")
    return filled


def contour_handles(info: OptimumContours) -> list[Line2D]:
    """Legend entries for the line, and for the runs where there are any."""
    dense = Line2D([], [], color=INK, linewidth=1.6, linestyle=(0, (5, 2)), label="dense model is compute-optimal")
    runs = Line2D([], [], color=INK, marker=".", markerfacecolor="white", linestyle="none", label="fitted runs")
    return [dense, runs] if len(info.runs) else [dense]


def _scatter(axes: Axes, info: Parity, x: FloatArray, y: FloatArray) -> None:
    colours = [sparsity_colour(float(sparsity)) for sparsity in info.sparsity]
    faces = ["white" if held_out else colour for held_out, colour in zip(info.held_out, colours, strict=True)]
    axes.scatter(x, y, s=22, c=faces, edgecolors=colours, linewidths=1.2, zorder=3)


def _fit_note(info: Parity) -> str:
    lines = [f"{info.law}, {len(info.measured)} runs"]
    if info.r2 is not None and np.isfinite(info.r2):
        lines.append(f"R² = {info.r2:.4f}")
    if info.held_out_error is not None:
        lines.append(f"held-out error {100 * info.held_out_error:.2g} %")
    return "\n".join(lines)


def _draw_optimum(
    axes: Axes,
    x: float,
    y: float,
    *,
    horizontal: tuple[float, float] | None = None,
    vertical: tuple[float, float] | None = None,
) -> None:
    if horizontal:
        axes.plot(horizontal, (y, y), color=SEARCH, linewidth=1.4, zorder=4)
    if vertical:
        axes.plot((x, x), vertical, color=SEARCH, linewidth=1.4, zorder=4)
    axes.plot(x, y, "D", color=SEARCH, markersize=6, zorder=5)


def _mark_unmeasured(axes: Axes, info: OptimumAgainstData) -> None:
    """Hatch what lies outside the range of budgets that were measured."""
    for start, end in ((info.data[0], info.measured[0]), (info.measured[1], info.data[-1])):
        if end > start:
            axes.axvspan(start, end, facecolor="none", edgecolor=PALE, hatch="////", linewidth=0, zorder=0)


def _chinchilla_in_view(info: OptimumAgainstData) -> bool:
    return info.chinchilla is not None and bool(info.data[0] < info.chinchilla < info.data[-1])
