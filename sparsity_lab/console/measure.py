"""A hardware profile in a terminal of 80 columns, and its figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, product
from pathlib import Path
from typing import TYPE_CHECKING

from sparsity_lab.console.tables import text_table
from sparsity_lab.hardware.layouts import format_named
from sparsity_lab.hardware.profile import break_even, break_even_rows
from sparsity_lab.hardware.serving import Serving, dense_type_speedup, served_points
from sparsity_lab.messages.numbers import duration
from sparsity_lab.plots.info_hardware import speed_ups
from sparsity_lab.specs.hardware import HardwareProfile, Product, ProductFormat, TrainingStep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_SKIPPED = 8
"""lines"""


def profile_text(profile: HardwareProfile) -> str:
    """Training steps, forward passes and products, each with its break-even; then what was not measured."""
    parts = [profile.description, *profile.sources]
    if profile.training:
        parts += ["", "Training steps, whole", _training(profile.training)]
    if profile.inference:
        parts += ["", "Forward passes, whole: speed-up against dense weights in the same shapes", _passes(profile)]
    if profile.sparse_products:
        parts += ["", "Products (rows x inputs x outputs): speed-up against dense", _products(profile)]
    if others := tuple(_dense_types(profile)):
        parts += ["", "Dense products in other types", *others]
    if unverified := sum(not one.verified for one in profile.products):
        parts += ["", f"{unverified} of {len(profile.products)} products were not verified here{_outcome(profile)}."]
    if profile.skipped:
        more = len(profile.skipped) - MOST_SKIPPED
        parts += ["", "Not measured:", *profile.skipped[:MOST_SKIPPED], *([f"and {more} more"] if more > 0 else [])]
    return "\n".join(parts)


def _training(steps: Sequence[TrainingStep]) -> str:
    dense = {step.nonzero: step.seconds for step in steps if step.sparsity == 0}
    rows: list[tuple[str, ...]] = [
        (
            step.regime,
            f"{step.nonzero:,}",
            _percent(step.sparsity),
            clock_of(step.seconds),
            f"{clock_of(step.low)} - {clock_of(step.high)}",
            f"{step.seconds / dense[step.nonzero]:.2f}" if step.nonzero in dense else "",
        )
        for step in steps
    ]
    head = ["regime", "N", "zeros", "a step", "quartiles", "m(S)"]
    if any(step.joules for step in steps):
        head.append("joules")
        rows = [(*row, f"{step.joules:.3g}" if step.joules else "") for row, step in zip(rows, steps, strict=True)]
    return text_table(tuple(head), rows)


def _passes(profile: HardwareProfile) -> str:
    rows = [
        (
            one.format,
            f"{one.batch:,}",
            _percent(one.sparsity),
            f"{one.dense:,}",
            clock_of(one.seconds),
            f"{one.speedup:.2f}",
            f"{one.low:.2f} - {one.high:.2f}",
        )
        for one in sorted(profile.inference, key=lambda one: (one.format, one.batch))
    ]
    table = text_table(("format", "batch", "zeros", "weights", "a pass", "speed-up", "quartiles"), rows)
    told = [f"{name}: {even_text(profile, name)}" for name in dict.fromkeys(one.format for one in profile.inference)]
    return "\n".join((table, *told))


def _products(profile: HardwareProfile) -> str:
    sparse = profile.sparse_products
    levels = sorted({one.sparsity for one in sparse})

    def key(one: Product) -> tuple[str, int, int, int, str, str]:
        kernel = one.kernel if len(format_named(one.format).kernels) > 1 else ""
        return one.format, one.rows, one.inputs, one.outputs, one.dtype, kernel

    rows = []
    for (name, count, inputs, outputs, dtype, _), found in groupby(sorted(sparse, key=key), key):
        group = {one.sparsity: one for one in found}
        alone = profile.model_copy(update={"products": tuple(group.values()), "inference": ()})
        even = break_even(alone, group[min(group)].format)
        speeds = [f"{group[level].speedup:.2f}" if level in group else "" for level in levels]
        shape = f"{count} x {inputs} x {outputs}"
        rows.append((name, shape, dtype, *speeds, "never" if even is None else _percent(even)))
    table = text_table(("format", "shape", "type", *map(_percent, levels), "even at"), rows)
    return "\n".join((table, *_by_rows(profile)))


def _dense_types(profile: HardwareProfile) -> Iterator[str]:
    """How fast dense products of other types are as those in the first, at each number of rows."""
    dense = [one for one in profile.products if one.format == "dense"]
    types = list(dict.fromkeys(one.dtype for one in dense))
    for first, other in product(types[:1], types[1:]):
        told = []
        for rows in sorted({one.rows for one in dense}):
            speedup = dense_type_speedup(profile, Serving(rows=rows, dtype=first), other)
            if speedup is not None:
                told.append(f"{speedup:.2f} at {rows:,} rows")
        if told:
            yield f"{other}: times as fast as {first}: {', '.join(told)}"


def _by_rows(profile: HardwareProfile) -> Iterator[str]:
    """From how many rows on a product is as fast as dense, where several numbers of rows were measured."""
    sparse = profile.sparse_products
    for name, outputs, inputs, dtype in sorted({(one.format, one.outputs, one.inputs, one.dtype) for one in sparse}):
        serving = Serving(dtype=dtype, shapes=((outputs, inputs),))
        alone = profile.model_copy(update={"inference": ()})
        counts = served_points(alone, serving, name).basis.rows
        told = []
        for S in sorted({one.sparsity for one in sparse if (one.format, one.dtype) == (name, dtype)}):
            even = break_even_rows(alone, name, S, serving)
            if even.rows is not None:
                told.append(f"{'from' if even.side == 'above' else 'up to'} {even.rows:,.0f} rows at {_percent(S)}")
        if len(counts) > 1:
            measured = f"of {counts[0]:,} to {counts[-1]:,} rows measured"
            yield f"{name}, {inputs} x {outputs} {dtype}: {'; '.join(told) or 'the same at all'}, {measured}"


def even_text(profile: HardwareProfile, name: ProductFormat) -> str:
    """From which sparsity on a format is as fast as dense, in words."""
    even = break_even(profile, name)
    if even is not None:
        return f"as fast as dense from {_percent(even)} zeros on"
    passes = [one.sparsity for one in profile.inference if one.format == name]
    highest = max(passes or [one.sparsity for one in profile.sparse_products if one.format == name])
    return f"slower than dense up to {_percent(highest)} zeros, the most that was measured"


def clock_of(seconds: float) -> str:
    """Seconds, milliseconds or microseconds, with three digits."""
    if seconds >= 1:
        return duration(seconds)
    return f"{1e3 * seconds:.3g} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.3g} us"


def _outcome(profile: HardwareProfile) -> str:
    return "" if profile.origin == "published" else " and count for nothing"


def _percent(sparsity: float) -> str:
    return f"{100 * sparsity:.3g} %"


def profile_figure(profile: HardwareProfile) -> Figure | None:
    """Speed-up against sparsity; None where nothing sparse was measured."""
    from sparsity_lab.plots.figures import speed_ups_figure  # noqa: PLC0415 - tables need no Matplotlib

    products = [one.format for one in profile.sparse_products]
    drawn = [one.format for one in profile.inference] or products  # whole passes decide where there are any
    even: dict[ProductFormat, float | None] = {name: break_even(profile, name) for name in dict.fromkeys(drawn)}
    return speed_ups_figure(speed_ups(profile, even)) if drawn else None


def draw_profile(profile: HardwareProfile, path: Path) -> tuple[Path, ...]:
    """Draw speed-up against sparsity beside a profile, as PNG and SVG.

    Returns:
        The files; none where there is nothing to draw.

    Raises:
        MachineError: the folder cannot be written.
    """
    from sparsity_lab.plots.style import save  # noqa: PLC0415 - tables need no Matplotlib

    figure = profile_figure(profile)
    return save(figure, path.parent, path.stem) if figure else ()
