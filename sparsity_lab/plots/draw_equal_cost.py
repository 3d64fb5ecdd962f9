"""Drawing of what `info_equal_cost` holds, and the whole figure."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsity_lab.messages.numbers import count, percent
from sparsity_lab.plots.info_equal_cost import EqualCostFigure, EqualCostPanel
from sparsity_lab.plots.style import GREY, INK, LAW, SEARCH, below_legend, legend_entry, note, sparsity_axis, styled

COLUMNS = 4
WORDS = {"sparse": "sparse wins", "dense": "dense wins", "unclear": "unclear"}


def equal_cost_figure(info: EqualCostFigure) -> Figure:
    """A panel for each quantity, all on one axis of advantage."""
    rows = math.ceil(len(info.panels) / COLUMNS)
    columns = math.ceil(len(info.panels) / rows)
    with styled():
        figure = Figure(figsize=(2.35 * columns + 0.6, 2.3 * rows + 0.8), layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, panel in zip(grid.ravel(), info.panels, strict=False):
            draw_panel(axes, panel, discrete=info.discrete)
        for unused in grid.ravel()[len(info.panels) :]:
            unused.set_axis_off()
        for place, axes in enumerate(grid.ravel()):
            if place + columns >= len(info.panels):
                axes.tick_params(labelbottom=True)
                axes.set_xlabel("sparsity (%)")
        for axes in grid[:, 0]:
            axes.set_ylabel("dense − sparse loss (nats)")
        grid[0, 0].set_ylim(*info.limits)
        figure.suptitle(
            f"{info.law}: dense N = {count(info.nonzero)}, D = {count(info.data)} {info.data_unit}, equal …",
            x=0.01,
            ha="left",
            fontsize=9.5,
        )
        below_legend(figure, handles(info), columns=4)
    return figure


def draw_panel(axes: Axes, panel: EqualCostPanel, *, discrete: bool) -> None:
    """The advantage with its band; above the line sparse is better."""
    value, low, high = (np.where(np.isfinite(part), part, np.nan) for part in panel.advantage)
    axes.axhline(0, color=INK, linewidth=0.8, zorder=1)
    axes.fill_between(panel.sparsity, low, high, color=LAW, alpha=0.18, linewidth=0)
    axes.plot(panel.sparsity, value, color=LAW, marker="o" if discrete else "", zorder=2)
    if panel.seen.size:
        axes.plot(*panel.seen.T, color=GREY, marker="s", markerfacecolor="white", linestyle="none", zorder=3)
    if panel.best > 0:
        axes.plot([panel.best], [panel.best_advantage], color=SEARCH, marker="D", linestyle="none", zorder=4)
    at = f" at {percent(panel.best)}" if panel.best > 0 and panel.winner != "dense" else ""
    axes.set_title(panel.title)
    note(axes, f"{WORDS[panel.winner]}{at}", y=0.03)
    sparsity_axis(axes)


def handles(info: EqualCostFigure) -> list[Artist]:
    """Legend entries: only for what is there."""
    band = f"{percent(info.confidence)} interval"
    shown = (
        (legend_entry("law", LAW, marker="o" if info.discrete else ""), True),
        (legend_entry(band, LAW, alpha=0.25, linewidth=8), info.has_band),
        (legend_entry("best sparsity", SEARCH, marker="D", linestyle="none"), True),
        (
            legend_entry(
                "mean of the runs, every N and D", GREY, marker="s", markerfacecolor="white", linestyle="none"
            ),
            any(panel.seen.size for panel in info.panels),
        ),
    )
    return [handle for handle, there in shown if there]
