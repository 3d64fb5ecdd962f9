"""Drawing of what `info_regimes` computed, each onto the axes it is given."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sparsity_lab.plots.picture import label
from sparsity_lab.plots.style import GREY, INK, LAW, PALE, SEARCH, legend_entry, log_counts, sparsity_colour
from sparsity_lab.results.contrasts import Entry
from sparsity_lab.results.regimes import Match


def draw_ranking(axes: Axes, ranking: Sequence[Entry], reference: str, dense: Entry | None) -> None:
    """One row a regime, the lowest loss on top: mean over seeds, one standard deviation, and each seed."""
    level = ranking[0].place.sparsity
    for row, entry in enumerate(ranking):
        spread = 0.0 if math.isnan(entry.spread) else entry.spread
        axes.plot(entry.losses, np.full(entry.losses.size, row), "|", color=GREY, markersize=7, markeredgewidth=0.7)
        axes.errorbar(entry.mean, row, xerr=spread, fmt="o", markersize=4.5, color=sparsity_colour(level), elinewidth=1)
        if entry.regime == reference:
            axes.axvline(entry.mean, color=INK, linewidth=0.8, zorder=0)
    if dense is not None and dense.losses.size:
        axes.axvline(dense.mean, color=LAW, linewidth=0.8, linestyle="--", zorder=0)
    axes.set_yticks(range(len(ranking)), [entry.regime for entry in ranking])
    axes.set_ylim(len(ranking) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_title(label("label-zeros-of", S=level))
    axes.set_xlabel(label("label-loss"))


def ranking_handles(reference: str, *, dense: bool) -> list[Line2D]:
    """Legend entries for points and lines."""
    handles = [
        legend_entry(label("label-mean-over-seeds"), GREY, marker="o", linestyle="none"),
        legend_entry(reference, INK, linewidth=0.8),
    ]
    if dense:
        handles.append(legend_entry(label("label-dense-equal"), LAW, linewidth=0.8, linestyle="--"))
    return handles


def draw_match(axes: Axes, match: Match, unit: str) -> None:
    """Loss from scratch over data, and the level of a regime that starts from trained weights."""
    entry = match.entry
    axes.plot(match.data, match.losses, "o-", color=sparsity_colour(entry.place.sparsity))
    axes.axhline(entry.mean, color=SEARCH, linewidth=1.0)
    spread = 0.0 if math.isnan(entry.spread) else entry.spread
    axes.axhspan(entry.mean - spread, entry.mean + spread, color=PALE, linewidth=0, zorder=0)
    if 0 < match.multiple < math.inf:
        axes.plot(match.multiple * entry.place.data, entry.mean, "D", color=SEARCH, markersize=6)
    axes.plot(entry.place.data, entry.mean, "o", mfc="white", color=SEARCH)
    log_counts(axes, "x", match.data.tolist())
    axes.margins(0.1)
    axes.set_title(label("label-zeros-regime", S=entry.place.sparsity, regime=entry.regime))
    axes.set_xlabel(label("label-training-data", unit=f"unit-{unit}"))


def match_handles(reference: str) -> list[Line2D]:
    """Legend entries of the matches."""
    return [
        legend_entry(label("label-from-scratch", reference=reference), GREY, marker="o"),
        legend_entry(label("label-trained-start"), SEARCH, marker="o", mfc="white"),
        legend_entry(label("label-data-match"), SEARCH, marker="D", linestyle="none"),
    ]
