"""One quiet style, safe for colour-blind readers, and figures whose bytes repeat.

Figures are made without pyplot: no window, no global state, the Agg and SVG writers only. Colour says sparsity, on
one perceptually even scale: dark is dense, light is sparse; a marker repeats it for those who see no colour.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator
from matplotlib.typing import ColorType

from sparsity_lab.artifacts.atomic import replacing
from sparsity_lab.messages.numbers import count, percent
from sparsity_lab.plots.picture import label

Colour = tuple[float, float, float, float]
Which = Literal["x", "y"]

DPI = 150
LARGEST_DRAWING = 250_000
"""bytes of an SVG that holds every point by itself"""
MOST_MARKS = 10_000
"""points of which an SVG is larger for certain: each takes some 80 bytes"""
INK, GREY, PALE = "#1a1c20", "#6b7280", "#d9dce1"
LAW, SEARCH = "#0072b2", "#d55e00"
"""blue and vermilion of Okabe & Ito's palette"""
PALETTE = (LAW, SEARCH, "#009e73", "#cc79a7", INK, "#56b4e9")
"""for laws side by side: more of the same palette"""
MANY = 5_000
"""points; more become an image within the SVG, which a browser could not show otherwise"""
SPARSEST = 0.94
"""sparsity at which the colour scale ends"""
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "p", "h", "*")

RC: Mapping[Any, Any] = {
    "figure.dpi": DPI,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.5,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
    "text.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "sparsity-lab",
    "path.simplify": True,
}


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Everything drawn inside looks alike, whatever the user's own matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


def save(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Write `<name>.png` and `<name>.svg`; the same figure gives the same bytes.

    Of a figure of thousands of points the SVG holds these as one picture, and its axes and labels as ever.

    Raises:
        MachineError: the folder cannot be written.
    """
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    with styled():
        # axes are laid out once for both files: it takes half of the time
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        with replacing(png) as temporary:
            figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
        with replacing(svg) as temporary:
            if not (many := _marks(figure) > MOST_MARKS):
                figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})
            if many or temporary.stat().st_size > LARGEST_DRAWING:
                for axes in figure.axes:
                    for artist in (*axes.lines, *axes.collections, *axes.patches):
                        artist.set_rasterized(True)
                figure.savefig(temporary, format="svg", dpi=DPI, metadata={"Date": None, "Creator": None})
    return png, svg


def _marks(figure: Figure) -> int:
    """Points that an SVG would hold one by one."""
    lines = (line for axes in figure.axes for line in axes.lines if line.get_marker() not in {"None", "", None})
    clouds = (cloud for axes in figure.axes for cloud in axes.collections)
    held = [*(line.get_xdata() for line in lines), *(cloud.get_offsets() for cloud in clouds)]
    return sum(len(np.asarray(points)) for points in held)


@lru_cache(maxsize=1024)
def sparsity_colour(sparsity: float) -> Colour:
    """Colour of a sparsity: even steps in log density, so that 0, 50, 75 and 87.5 % are equally far apart."""
    place = math.log(1 - min(max(sparsity, 0.0), SPARSEST)) / math.log(1 - SPARSEST)
    red, green, blue, alpha = mpl.colormaps["viridis"](0.02 + 0.86 * place)
    return float(red), float(green), float(blue), float(alpha)


def legend_entry(text: str, colour: ColorType, **look: Any) -> Line2D:
    """A legend entry of a line or marker, with Matplotlib's further settings of its look."""
    return Line2D([], [], color=colour, label=text, **look)


def sparsity_handles(levels: Sequence[float], *, line: bool = False) -> list[Line2D]:
    """Legend entries for the sparsities that a figure shows, densest first."""
    return [
        legend_entry(
            label("label-dense") if level == 0 else percent(level),
            sparsity_colour(level),
            marker=sparsity_marker(level, levels),
            linestyle="-" if line else "none",
        )
        for level in sorted(levels)
    ]


def sparsity_marker(level: float, levels: Sequence[float]) -> str:
    """The marker of one sparsity among those that a figure shows."""
    return MARKERS[sorted(levels).index(level) % len(MARKERS)]


def outside_legend(figure: Figure, handles: Sequence[Artist], title: str = "") -> None:
    """A legend in its own column, right of all axes."""
    figure.legend(handles=list(handles), loc="outside right upper", title=title or None, alignment="left")


def below_legend(figure: Figure, handles: Sequence[Artist], title: str = "", columns: int = 6) -> None:
    """A legend in its own row, under all axes."""
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns, title=title or None)


def log_counts(axis_of: Axes, which: Which, values: Sequence[float]) -> None:
    """A log axis with ticks at the measured values, or at round ones when those would crowd."""
    axis = axis_of.xaxis if which == "x" else axis_of.yaxis
    (axis_of.set_xscale if which == "x" else axis_of.set_yscale)("log")
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_locator(FixedLocator(list(readable_ticks(values))))
    axis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))


def readable_ticks(values: Sequence[float], most: int = 6) -> tuple[float, ...]:
    """At most `most` values for ticks of a log axis: the distinct values, thinned evenly to those that stay apart."""
    distinct = sorted(set(values))
    if not distinct:
        return ()
    apart = (distinct[-1] / distinct[0]) ** (1 / (2 * most)) if len(distinct) > 1 else 1.0
    kept = [distinct[0]]
    for value in distinct[1:]:
        if value >= kept[-1] * max(apart, 1.12):
            kept.append(value)
    return tuple(kept[:: math.ceil(len(kept) / most)])


def sparsity_axis(axes: Axes, which: Which = "x") -> None:
    """A sparsity axis in percent."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}"))


def note(axes: Axes, text: str, *, x: float = 0.03, y: float = 0.97) -> None:
    """A small remark in a corner of the axes, on a white ground."""
    axes.text(
        x,
        y,
        text,
        transform=axes.transAxes,
        va="top" if y > 0.5 else "bottom",
        ha="left" if x < 0.5 else "right",
        fontsize=8,
        linespacing=1.4,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2},
    )
