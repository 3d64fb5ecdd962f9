"""Drawing of what `info_search` computed, each onto the axes it is given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullFormatter

from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.messages import message
from sparsity_lab.messages.numbers import percent
from sparsity_lab.plots.info_search import BudgetPanel, Front, LossUnderBudgets, OptimumAgainstData, TriedAt
from sparsity_lab.plots.picture import label, label_of
from sparsity_lab.plots.style import (
    GREY,
    INK,
    LAW,
    PALE,
    SEARCH,
    legend_entry,
    log_counts,
    sparsity_axis,
    sparsity_colour,
)
from sparsity_lab.specs.choices import SearchObjective

OBJECTIVES: dict[SearchObjective, str] = {
    "loss": "label-loss",
    "training_cost": "label-training-cost",
    "inference_cost": "label-inference-cost",
}


def draw_budget(axes: Axes, panel: BudgetPanel, info: LossUnderBudgets) -> None:
    """Trials, the search's curve with its band, the flat region, the optimum and the law's curve at one budget."""
    axes.axvspan(*panel.flat, color=PALE, alpha=0.6, linewidth=0, zorder=0)
    if panel.curve is not None:
        S = panel.curve.sparsity
        axes.fill_between(S, panel.curve.low, panel.curve.high, color=SEARCH, alpha=0.2, linewidth=0, zorder=1)
        axes.plot(S, panel.curve.mean, color=SEARCH, linewidth=1.2, zorder=2)
    _draw_trials(axes, panel.opening, panel.drawn_noise, "o", "white")
    _draw_trials(axes, panel.repeats, panel.drawn_noise, "s", "white")
    _draw_trials(axes, panel.proposed, panel.drawn_noise, "o", GREY)
    if panel.losses[1].size:
        axes.set_ylim(*panel.frame)
    axes.plot(panel.beyond, np.full(len(panel.beyond), 0.91), "^", color=GREY, transform=axes.get_xaxis_transform())
    axes.plot(panel.law_sparsity, panel.law_loss, color=LAW, linestyle=(0, (4, 1.5)), linewidth=1.3, zorder=2)
    axes.plot(panel.lost, np.full(len(panel.lost), 0.97), "x", color=INK, transform=axes.get_xaxis_transform())
    if panel.optimum and panel.optimum_loss is not None:
        _draw_optimum(axes, panel.optimum[0], panel.optimum_loss, horizontal=panel.optimum[1:])
    axes.set_title(_title(panel, info))
    axes.set_xlim(-0.04, 0.94)
    sparsity_axis(axes)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(label("label-sparsity"))


def budget_handles(info: LossUnderBudgets) -> list[Artist]:
    """Legend entries: only for what is there."""
    panels = info.panels
    by_law = any(panel.estimate == "law" for panel in panels)
    source = label("label-law-of-search") if by_law else label("label-smooth-curve")
    interval = label("label-its-interval", confidence=info.confidence)
    shown: list[tuple[Artist, bool]] = [
        (_marker("o", GREY, label("label-trial-proposed")), any(len(p.proposed.loss) for p in panels)),
        (_marker("o", "white", label("label-trial-opening")), any(len(p.opening.loss) for p in panels)),
        (_marker("s", "white", label("label-trial-repeat")), any(len(p.repeats.loss) for p in panels)),
        (
            legend_entry(label("label-trial-above"), GREY, marker="^", linestyle="none"),
            any(p.beyond.size for p in panels),
        ),
        (
            legend_entry(label("label-trial-lost"), INK, marker="x", linestyle="none"),
            any(len(p.lost) for p in panels),
        ),
        (legend_entry(source, SEARCH, linewidth=1.2), any(p.curve for p in panels)),
        (Patch(facecolor=SEARCH, alpha=0.2, label=interval), any(p.curve for p in panels)),
        (
            legend_entry(label("label-optimum-interval"), SEARCH, marker="D", linewidth=1.4),
            any(p.optimum for p in panels),
        ),
        (Patch(facecolor=PALE, alpha=0.6, label=label("label-not-told")), True),
        (
            legend_entry(label("label-law-of-all", law=info.law), LAW, linestyle=(0, (4, 1.5))),
            bool(info.law),
        ),
    ]
    return [handle for handle, there in shown if there]


def draw_optimum_against_data(axes: Axes, info: OptimumAgainstData) -> None:
    """The law's optimum with its band, and the search's optima with their intervals, joined to a band of their own."""
    if info.law is not None:
        axes.fill_between(info.data, info.law.low, info.law.high, color=LAW, alpha=0.18, linewidth=0)
        axes.plot(info.data, info.law.value, color=LAW)
    for data, low, high in info.flat:
        axes.plot([data, data], [low, high], color=GREY, linewidth=4, alpha=0.5, solid_capstyle="butt")
    if len(info.found) > 1:
        data_, optimum_, low_, high_ = zip(*info.found, strict=True)
        axes.fill_between(data_, low_, high_, color=SEARCH, alpha=0.15, linewidth=0)
        axes.plot(data_, optimum_, color=SEARCH, linewidth=0.9, alpha=0.7)
    for data, optimum, low, high in info.found:
        _draw_optimum(axes, data, optimum, vertical=(low, high))
    axes.axhline(info.highest, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    log_counts(axes, "x", [budget for budget, *_ in (*info.found, *info.flat)] or list(info.measured))
    axes.set_xlim(info.data[0], info.data[-1])
    for start, end in ((info.data[0], info.measured[0]), (info.measured[1], info.data[-1])):
        if end > start:
            axes.axvspan(start, end, facecolor="none", edgecolor=PALE, hatch="////", linewidth=0, zorder=0)
    if info.chinchilla is not None and info.chinchilla_in_view:
        axes.axvline(info.chinchilla, color=INK, linewidth=0.9, linestyle=":")
    axes.set_ylim(-0.02, 1)
    sparsity_axis(axes, "y")
    axes.set_title(label("label-size-of", nonzero=info.nonzero))
    axes.set_xlabel(label("label-data-budget", unit=f"unit-{info.data_unit}"))


def optimum_handles(infos: Sequence[OptimumAgainstData]) -> list[Artist]:
    """Legend entries: only for what is there."""
    handles: list[Artist] = []
    laws = [info for info in infos if info.law is not None]
    if laws:
        handles.append(legend_entry(label("label-law"), LAW))
        if any((info.law.high > info.law.low).any() for info in laws if info.law):
            said = label("label-law-interval", confidence=infos[0].confidence)
            handles.append(legend_entry(said, LAW, alpha=0.25, linewidth=8))
    if any(info.found for info in infos):
        handles.append(legend_entry(label("label-search-interval"), SEARCH, marker="D", linewidth=1.4))
    if any(info.flat for info in infos):
        flat = f"{label('label-search-flat')}\n{label('label-within-noise')}"
        handles.append(legend_entry(flat, GREY, alpha=0.5, linewidth=4))
    highest = label("label-highest-trained")
    handles.append(legend_entry(highest, GREY, linewidth=0.8, linestyle=(0, (4, 3))))
    if any(info.chinchilla_in_view for info in infos):
        handles.append(legend_entry(label("label-dense-optimal"), INK, linewidth=0.9, linestyle=":"))
    unmeasured = label("label-unmeasured")
    return [*handles, Patch(facecolor="none", edgecolor=PALE, hatch="////", linewidth=0, label=unmeasured)]


def draw_front(axes: Axes, info: Front) -> None:
    """All finished trials, coloured by sparsity; those on the front ringed, and joined where they bound the plane."""
    colours = [sparsity_colour(float(sparsity)) for sparsity in info.sparsity]
    axes.scatter(info.cost, info.loss, s=24, c=colours, linewidths=0, zorder=2)
    cost, loss = info.cost[info.best], info.loss[info.best]
    axes.scatter(cost, loss, s=70, facecolors="none", edgecolors=SEARCH, linewidths=1.3, zorder=3)
    corner_cost, corner_loss = lower_left(cost, loss)
    axes.step(corner_cost, corner_loss, where="post", color=SEARCH, linewidth=1.0, zorder=1)
    if info.cost.min() > 0 and info.cost.max() > 8 * info.cost.min():
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(label(OBJECTIVES[info.objective]))


def lower_left(cost: FloatArray, loss: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The points that no other equals or beats in both of two numbers, in order of the first."""
    order = np.lexsort((loss, cost))
    cost, loss = cost[order], loss[order]
    kept = loss < np.append(np.inf, np.minimum.accumulate(loss)[:-1])
    return cost[kept], loss[kept]


def front_handles(sparsity: FloatArray) -> list[Artist]:
    """The ring of the front, and dots that say what the colours mean."""
    levels = np.unique(np.round(np.linspace(sparsity.min(), sparsity.max(), 4), 2))
    dots: list[Artist] = [
        legend_entry(percent(float(s)), sparsity_colour(float(s)), marker="o", linestyle="none") for s in levels
    ]
    ring = legend_entry(
        label("label-beaten-by-none"), SEARCH, marker="o", markersize=8, markerfacecolor="none", linewidth=1.0
    )
    return [*dots, ring]


def _title(panel: BudgetPanel, info: LossUnderBudgets) -> str:
    unit = {"data": info.data_unit, "compute": "FLOPs", "seconds": "seconds"}[info.budget_unit]
    key = "label-budget" if panel.budget < 1e15 else "label-budget-huge"
    budget = message(key, budget=panel.budget, unit=f"unit-{unit}")
    return label_of(message("label-size-budget", nonzero=panel.nonzero, budget=budget) if info.sizes > 1 else budget)


def _draw_trials(axes: Axes, tried: TriedAt, noise: float, marker: str, face: str) -> None:
    axes.errorbar(
        tried.sparsity,
        tried.loss,
        yerr=noise,
        fmt=marker,
        color=GREY,
        markerfacecolor=face,
        markersize=4.5,
        elinewidth=0.9,
        zorder=3,
    )


def _marker(shape: str, face: str, text: str) -> Line2D:
    return legend_entry(text, GREY, marker=shape, markerfacecolor=face, linestyle="none")


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
