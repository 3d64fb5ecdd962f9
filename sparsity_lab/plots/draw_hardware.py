"""Drawing of what `info_hardware` computed, onto the axes it is given."""

from __future__ import annotations

import math
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from sparsity_lab.messages.numbers import percent
from sparsity_lab.plots.info_hardware import SpeedLine, SpeedUps
from sparsity_lab.plots.style import GREY, INK, MARKERS, PALETTE, legend_entry, note
from sparsity_lab.specs.hardware import ProductFormat

DENSITIES = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01)
"""ticks: what is left"""
TITLE_WIDTH = 70
"""characters"""
SPEEDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)


def draw_speed_ups(axes: Axes, info: SpeedUps) -> None:
    """Speed-up over density on two log axes, dense as the level 1; whole passes bold, single products thin."""
    axes.axhline(1.0, color=INK, linewidth=0.9, zorder=1)
    for line in info.lines:
        _draw_line(axes, info, line)
    for name, even in info.break_even.items():
        if even is not None:
            axes.plot([even_place(even)] * 2, [1.0, _floor(info)], color=_colour(info, name), linestyle=":", zorder=1)
    _axes(axes, info)
    note(axes, "\n".join(_told(info)), x=0.03, y=0.97)


def speed_handles(info: SpeedUps) -> list[Line2D]:
    """Legend entries: formats by colour, whole passes and products by weight, and dense."""
    formats = [legend_entry(name, _colour(info, name), marker=_marker(info, name)) for name in info.formats]
    kinds = {line.whole for line in info.lines}
    whole = [legend_entry("whole forward pass", GREY, linewidth=2.2)] if True in kinds else []
    single = [legend_entry("single product", GREY, linewidth=0.8)] if False in kinds else []
    return [*formats, *whole, *single]


def even_place(sparsity: float) -> float:
    """Where a sparsity lies on the axis: −ln(1 − S)."""
    return -math.log1p(-sparsity)


def _draw_line(axes: Axes, info: SpeedUps, line: SpeedLine) -> None:
    place = [even_place(float(S)) for S in line.sparsity]
    colour, marker = _colour(info, line.format), _marker(info, line.format)
    if _has_range(info, line):
        errors = [line.speedup - line.low, line.high - line.speedup]
        axes.errorbar(place, line.speedup, yerr=errors, fmt="none", ecolor=colour, elinewidth=0.9, zorder=2)
    axes.plot(
        place,
        line.speedup,
        color=colour,
        marker=marker,
        linewidth=2.2 if line.whole else 0.8,
        markersize=5 if line.whole else 3,
        alpha=1.0 if line.whole else 0.7,
        zorder=3 if line.whole else 2,
    )


def _axes(axes: Axes, info: SpeedUps) -> None:
    deepest = max(float(line.sparsity[-1]) for line in info.lines)
    axes.set_yscale("log")
    axes.set_ylim(_floor(info), 1.8 * max(1.0, *(_ends(info, line)[1] for line in info.lines)))
    axes.set_xlim(0, even_place(deepest) + 0.15)
    axes.xaxis.set_major_locator(FixedLocator([-math.log(density) for density in DENSITIES]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _: f"{abs(100 * math.expm1(-place)):.3g}"))
    axes.yaxis.set_major_locator(FixedLocator(list(SPEEDS)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda speed, _: f"{speed:g}×"))
    axes.set_xlabel("zeros (%)")
    axes.set_ylabel("speed-up against dense")
    axes.set_title(fill(info.title, TITLE_WIDTH))


def _told(info: SpeedUps) -> list[str]:
    told = [] if info.measured else ["published, not measured"]
    return told + [_verdict(info, name, even) for name, even in info.break_even.items()]


def _verdict(info: SpeedUps, name: ProductFormat, even: float | None) -> str:
    """What the break-even is of must be said: products may pay where the whole model does not."""
    of_models = any(line.whole and line.format == name for line in info.lines)
    what = f"{name}, whole model" if of_models else name
    return f"{what}: never as fast as dense" if even is None else f"{what}: as fast as dense from {percent(even)} on"


def _colour(info: SpeedUps, name: ProductFormat) -> str:
    return PALETTE[info.formats.index(name) % len(PALETTE)]


def _marker(info: SpeedUps, name: ProductFormat) -> str:
    return MARKERS[info.formats.index(name) % len(MARKERS)]


def _floor(info: SpeedUps) -> float:
    return 0.8 * min(1.0, *(_ends(info, line)[0] for line in info.lines))


def _has_range(info: SpeedUps, line: SpeedLine) -> bool:
    """Whether its range is drawn: those of many measured products would hide one another."""
    return line.whole or not info.measured


def _ends(info: SpeedUps, line: SpeedLine) -> tuple[float, float]:
    """The least and the most that is drawn of a line."""
    low, high = (line.low, line.high) if _has_range(info, line) else (line.speedup, line.speedup)
    return float(low.min()), float(high.max())
