"""Drawing of what `info_fits` computed, each onto the axes it is given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from sparsity_lab.laws import Interval
from sparsity_lab.laws.documents.comparison import ComparisonDocument
from sparsity_lab.laws.fitting.compare import AICC, IN_SAMPLE
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.laws.uncertainty.profile import Profile
from sparsity_lab.messages.numbers import count
from sparsity_lab.plots.info_fits import Gains, OptimumCurves, Residuals
from sparsity_lab.plots.picture import label
from sparsity_lab.plots.style import (
    GREY,
    INK,
    LAW,
    MANY,
    PALETTE,
    legend_entry,
    log_counts,
    sparsity_axis,
    sparsity_colour,
)

STYLES: tuple[Literal["-", "--", "-.", ":"], ...] = ("-", "--", "-.", ":")
FAR_APART = 30
"""values further apart than this factor are drawn on a log axis"""
LONGEST_TITLE = 18
HEIGHT_SHOWN = 2.5
"""a profile is shown up to this many times its limit"""


def draw_residuals(axes: Axes, info: Residuals, against: Literal["sparsity", "nonzero", "data"]) -> None:
    """Errors in percent against one quantity; the line joins the medians of its levels."""
    axes.axhline(0, color=GREY, linewidth=0.8, zorder=1)
    x = info.runs.column(against)
    colours = [sparsity_colour(float(sparsity)) for sparsity in info.runs.sparsity]
    many = len(x) > MANY
    axes.scatter(x, 100 * info.error, s=18, c=colours, linewidths=0, alpha=0.85, zorder=3, rasterized=many)
    medians = info.median[against]
    axes.plot(medians[:, 0], 100 * medians[:, 1], color=INK, linewidth=1.1, zorder=2)
    if against == "sparsity":
        axes.margins(x=0.08)
        sparsity_axis(axes)
        axes.set_xlabel(label("label-sparsity"))
    else:
        log_counts(axes, "x", [float(f"{value:.3g}") for value in medians[:, 0]])
        axes.margins(x=0.08)
        data = label("label-training-data", unit=f"unit-{info.runs.data_unit}")
        axes.set_xlabel(label("label-size") if against == "nonzero" else data)
    axes.yaxis.set_major_locator(MaxNLocator(6))


def draw_gains(axes: Axes, info: Gains) -> None:
    """Gain against sparsity, a colour and a dash for each law."""
    for number, curve in enumerate(info.curves):
        _draw_law(axes, number, curve.sparsity, curve.gain)
    if info.trained is not None:
        axes.axvline(info.trained, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_xlim(0, max(float(curve.sparsity[-1]) for curve in info.curves))
    axes.set_ylim(1, 1.05 * max(curve.top for curve in info.curves))
    sparsity_axis(axes)
    axes.set_xlabel(label("label-sparsity"))
    axes.set_ylabel(label("label-gain"))


def gain_handles(info: Gains) -> list[Line2D]:
    """Legend entries: the laws, the band where there is one, and where the runs end."""
    handles = _law_handles([(curve.name, curve.gain) for curve in info.curves], info.confidence)
    if info.trained is not None:
        said = label("label-sparsest-fitted")
        handles.append(legend_entry(said, GREY, linewidth=0.8, linestyle=(0, (4, 3))))
    return handles


def draw_optima(axes: Axes, info: OptimumCurves) -> None:
    """S_opt against C / C_chin, a colour and a dash for each law; bold where dense runs stand behind it."""
    for number, curve in enumerate(info.curves):
        _draw_law(axes, number, curve.ratio, curve.sparsity, linewidth=1.0)
        if curve.measured is not None:
            inside = (curve.ratio >= curve.measured[0]) & (curve.ratio <= curve.measured[1])
            colour, dash = law_look(number)
            axes.plot(curve.ratio[inside], curve.sparsity.value[inside], color=colour, linestyle=dash, linewidth=2.4)
    log_counts(axes, "x", [1, 3, 10, 30, 100, 300])
    axes.set_xlim(float(info.curves[0].ratio[0]), float(info.curves[0].ratio[-1]))
    axes.set_ylim(0, 1)
    sparsity_axis(axes, "y")
    axes.set_xlabel(label("label-compute-ratio"))
    axes.set_ylabel(label("label-optimum"))


def optima_handles(info: OptimumCurves) -> list[Line2D]:
    """Legend entries: the laws, the band where there is one, and where runs were made."""
    handles = _law_handles([(curve.name, curve.sparsity) for curve in info.curves], info.confidence)
    if any(curve.measured is not None for curve in info.curves):
        handles.append(legend_entry(label("label-where-measured"), GREY, linewidth=2.4))
    return handles


def _draw_law(axes: Axes, number: int, x: FloatArray, y: Interval, linewidth: float | None = None) -> None:
    """One law's curve among several, on its band where it has one."""
    colour, dash = law_look(number)
    if (y.high > y.low).any():
        axes.fill_between(x, y.low, y.high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(x, y.value, color=colour, linestyle=dash, linewidth=linewidth)


def _law_handles(curves: Sequence[tuple[str, Interval]], confidence: float) -> list[Line2D]:
    looks = [(name, *law_look(number)) for number, (name, _) in enumerate(curves)]
    handles = [legend_entry(name, colour, linestyle=dash) for name, colour, dash in looks]
    if any((y.high > y.low).any() for _, y in curves):
        handles.append(legend_entry(label("label-interval", confidence=confidence), GREY, alpha=0.3, linewidth=8))
    return handles


def law_look(number: int) -> tuple[str, Literal["-", "--", "-.", ":"]]:
    """Colour and dash of one law among several."""
    return PALETTE[number % len(PALETTE)], STYLES[number % len(STYLES)]


def draw_profile(axes: Axes, profile: Profile, *, identified: bool) -> None:
    """One parameter's profile, its limit and the interval between."""
    colour = LAW if identified else GREY
    x, y = np.array(profile.values), np.array(profile.ratio)
    inside = np.flatnonzero(y <= HEIGHT_SHOWN * profile.threshold)
    shown = slice(max(int(inside[0]) - 1, 0), int(inside[-1]) + 2)  # up to the first on either side far above the limit
    x, y = x[shown], y[shown]
    low = profile.low if math.isfinite(profile.low) else x[0]
    high = profile.high if math.isfinite(profile.high) else x[-1]
    wide = low > 0 and x[0] > 0 and x[-1] / x[0] > 20
    axes.set_xscale("log" if wide else "linear")
    axes.axvspan(max(low, x[0]), min(high, x[-1]), color=colour, alpha=0.12, linewidth=0, zorder=0)
    axes.axhline(profile.threshold, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    axes.plot(x, y, color=colour, marker=".", markersize=3.5, linewidth=1.2, zorder=3)
    axes.plot([profile.best], [0], "D", color=INK, markersize=4.5, zorder=4, clip_on=False)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(0, HEIGHT_SHOWN * profile.threshold)
    axes.set_title(profile.name if identified else label("label-not-identified", name=profile.name), color=colour)
    axes.xaxis.set_major_locator(LogLocator(numticks=5) if wide else MaxNLocator(4))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def profile_handles(confidence: float) -> list[Line2D | Patch]:
    """Legend entries of a profile."""
    return [
        legend_entry(label("label-profile-identified"), LAW, marker=".", linewidth=1.2),
        legend_entry(label("label-profile-loose"), GREY, marker=".", linewidth=1.2),
        legend_entry(label("label-fitted-value"), INK, marker="D", markersize=4.5, linestyle="none"),
        legend_entry(label("label-limit", confidence=confidence), GREY, linewidth=0.8, linestyle=(0, (4, 3))),
    ]


def short(value: float) -> str:
    """A tick label of any size: 0.25, 12, 45k, 6.9e+08."""
    return count(value) if 1e3 <= value < 1e12 else f"{value:.3g}"


def draw_criterion(axes: Axes, compared: ComparisonDocument, name: str) -> None:
    """One criterion: a dot a form with its value in figures; the best one filled, those that cannot win crossed."""
    forms, criterion, is_error = list(compared.forms), compared.criteria[name], name not in {IN_SAMPLE, AICC}
    values = {form: value * (100 if is_error else 1) for form, value in criterion.values.items() if value is not None}
    for row, form in enumerate(forms):
        if form not in values:
            axes.text(0.5, row, "–", transform=axes.get_yaxis_transform(), ha="center", va="center", color=GREY)
            continue
        won = form == criterion.winner
        marker, face = ("o", LAW if won else "white") if compared.may_win(name, form) else ("x", GREY)
        axes.plot(values[form], row, marker, color=LAW if won else GREY, markerfacecolor=face, markersize=6.5)
        axes.annotate(
            f"{values[form]:.3g}",
            (values[form], row),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            color=LAW if won else INK,
        )
    axes.set_title(_title(name) + (f"\n{label('label-mean-error')}" if is_error else "\n"))
    axes.set_yticks(range(len(forms)), [f"{form} ({one.parameters})" for form, one in compared.forms.items()])
    axes.set_ylim(len(forms) - 0.4, -0.6)
    axes.grid(visible=False, axis="x")
    axes.margins(x=0.22)
    axes.tick_params(axis="y", length=0)
    if 0 < min(values.values()) < max(values.values()) / FAR_APART:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=4))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value) if value >= 1 else f"{value:.3g}"))


def _title(name: str) -> str:
    return name if len(name) <= LONGEST_TITLE else f"{name[: LONGEST_TITLE - 1]}…"


def criterion_handles() -> list[Line2D]:
    """Legend entries for winner, others and those that cannot win."""
    best = legend_entry(label("label-best-in-column"), LAW, marker="o", linestyle="none")
    others = legend_entry(label("label-others"), GREY, marker="o", markerfacecolor="white", linestyle="none")
    unsound = legend_entry(label("label-wins-nothing"), GREY, marker="x", linestyle="none")
    return [best, others, unsound]
