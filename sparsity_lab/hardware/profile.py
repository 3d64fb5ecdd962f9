"""What a hardware profile says of sparse models: time of inference and of training, relative to dense ones.

Of training between measured sparsities: as `laws.questions.multipliers.Measured`; of inference: as `hardware.curves`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from sparsity_lab.artifacts.atomic import write_text
from sparsity_lab.artifacts.paths import Layout
from sparsity_lab.artifacts.reading import read_json
from sparsity_lab.errors import RecordError
from sparsity_lab.hardware.curves import (
    STEP,
    Ratio,
    bound_curve,
    curve_of,
    fastest_of,
    from_dense,
    sparsity_at,
    time_curves,
)
from sparsity_lab.hardware.serving import Serving, SpeedBasis, by_bytes, served_points
from sparsity_lab.laws.questions.multipliers import Measured
from sparsity_lab.specs.files import find_named, known_names, looked_in
from sparsity_lab.specs.hardware import HardwareProfile, ProductFormat, load_hardware

PATTERN_SPARSITY = 0.5
"""of 2:4: the format helps no model that is less sparse"""
FORWARD_SHARE = 1 / 3
"""of a training step's products: those that a 2:4 weight takes part in without a transposable mask"""
DENSEST_EXTRAPOLATED = 0.999
"""sparsity up to which training costs are extrapolated"""
ANY_SERVING = Serving()
FINE_ROWS = 60
"""between the measured ones, where bytes may decide"""
MOST_ROWS = 8192
LEAST_GAIN = 1e-12
QUARTILE = 0.6745
"""of the standard normal distribution: quartiles lie so many standard deviations from the median"""


def speed_basis(
    profile: HardwareProfile,
    serving: Serving = ANY_SERVING,
    format: ProductFormat | None = None,  # noqa: A002
    among: Collection[ProductFormat] | None = None,
) -> SpeedBasis:
    """What `inference_ratio` of the same arguments rests on."""
    basis = served_points(profile, serving, format).basis
    known = {one.format for one in served_points(profile, serving).points} if format is None else {format}
    known = known if among is None or format is not None else known.intersection(among)
    if any(by_bytes(served_points(profile, serving, name).basis, serving) for name in known):
        return replace(basis, of="bytes", taken=serving.rows or 0, dtype=serving.dtype or "bfloat16")
    return basis


class RowsBreakEven(NamedTuple):
    """Rows from which (above) or up to which (below) a format is fast enough; None for always and never."""

    side: Literal["above", "below", "always", "never"]
    rows: float | None


def inference_ratio(
    profile: HardwareProfile,
    format: ProductFormat | None = None,  # noqa: A002
    serving: Serving = ANY_SERVING,
    among: Collection[ProductFormat] | None = None,
) -> Ratio:
    """Time of a sparse model's inference relative to the dense model of the same shapes.

    Whole inference steps count where the profile has any, else single products: of each shape the fastest kernel,
    then the geometric mean over shapes.

    Args:
        profile: the machine.
        format: of the weights. None: the fastest at each S, where a sparse model may run as dense: never above 1.
        serving: batch, type, shapes and phase; of what it leaves out, everything measured, at the most rows.
        among: formats of which the fastest may be, where none is named; all when None.

    Raises:
        RecordError: the profile has nothing of that format.
    """
    found = time_curves(profile, serving)
    wanted = None if format in {"dense", *found} else format
    if wanted is not None and by_bytes(served_points(profile, serving, format).basis, serving):
        found[wanted] = bound_curve(wanted, serving)
    curves = {name: from_dense(name, curve) for name, curve in found.items()}
    if format is None:
        return fastest_of([curve for name, curve in curves.items() if among is None or name in among])
    if format == "dense":
        return fastest_of([])
    return curve_of(profile, curves, format).as_ratio()


def break_even(
    profile: HardwareProfile,
    format: ProductFormat,  # noqa: A002
    serving: Serving = ANY_SERVING,
) -> float | None:
    """The lowest sparsity at which the format is as fast as dense, interpolated; None where it never was.

    Raises:
        RecordError: the profile has nothing of that format.
    """
    depth, time, *_ = curve_of(profile, time_curves(profile, serving), format)
    reached = np.flatnonzero(time <= 0)
    if not reached.size:
        return None
    after = int(reached[0])
    if after == 0:  # of less sparse models nothing was measured
        return sparsity_at(depth[0])
    share = time[after - 1] / (time[after - 1] - time[after])
    return sparsity_at(depth[after - 1] + share * (depth[after] - depth[after - 1]))


def break_even_rows(
    profile: HardwareProfile,
    format: ProductFormat | None,  # noqa: A002
    sparsity: float,
    serving: Serving = ANY_SERVING,
    speedup: float = 1.0,
    *,
    among: Collection[ProductFormat] | None = None,
) -> RowsBreakEven:
    """From or up to how many rows (examples of a pass) a format is so many times as fast as dense.

    The turn nearest to the rows that are served, by ln(rows), within the measured ones; those of one request where
    decoding is told by bytes. `among` as for `inference_ratio`.

    Raises:
        RecordError: the profile has nothing of that format.
    """
    basis = served_points(profile, serving, format).basis
    modelled = by_bytes(basis, serving)
    rows = basis.rows or (1, MOST_ROWS)
    grid = sorted({*rows, *map(round, np.geomspace(1 if modelled else rows[0], rows[-1], FINE_ROWS))})

    def excess(rows: int) -> float:
        there = replace(serving, rows=rows, batch=rows)
        return float(np.log(inference_ratio(profile, format, there, among)(np.float64(sparsity)) * speedup))

    found = np.array([excess(rows) for rows in grid])
    reached = found <= LEAST_GAIN
    turns = np.flatnonzero(reached[1:] != reached[:-1])
    if not turns.size:
        return RowsBreakEven("always" if reached[0] else "never", None)
    served = math.log(basis.asked or basis.taken)
    turn = min(turns, key=lambda place: abs(math.log(grid[place]) - served))
    share = found[turn] / (found[turn] - found[turn + 1])
    at = math.exp((1 - share) * math.log(grid[turn]) + share * math.log(grid[turn + 1]))
    return RowsBreakEven("below" if reached[turn] else "above", at)


def training_cost(profile: HardwareProfile, nonzero: float | None = None, regime: str | None = None) -> Measured:
    """m(S): seconds of a training step of a sparse model of N non-zeros relative to a dense model of N weights.

    Beyond the last sparsity measured it grows as the weights that are multiplied do, as 1 / (1 − S).

    A profile without training steps costs as hardware that multiplies every zero: m = 1 / (1 − S). Where it has 2:4
    products, from S = .5 on the forward pass, a third of a step's products, runs at their speed. That is the most
    that 2:4 can give: as if the mask were fixed from the first step on (the backward pass would need a mask that is
    2:4 along both axes). Unstructured formats do not help training.

    Args:
        profile: the machine.
        nonzero: N; between measured sizes ln m is linear in ln N, outside them the nearest size holds. None: the
            geometric mean over sizes.
        regime: name of a measured regime; the profile's first that prunes when None.

    Raises:
        RecordError: the profile has training steps, but not of that regime.
    """
    if not profile.training:
        return _dense_training(profile)
    by_size = _training_tables(profile, regime)
    levels = sorted(set.intersection(*(set(table) for table in by_size.values()))) if by_size else []
    if len(levels) < 2:
        raise RecordError("no sparsity was measured at every size", field="training", expected="0 and another")
    logs = np.log([[by_size[size][S] / by_size[size][0.0] for S in levels] for size in sorted(by_size)])
    if nonzero is None:
        cost = logs.mean(axis=0)
    else:
        sizes = np.log(sorted(by_size))
        cost = np.array([np.interp(math.log(nonzero), sizes, column) for column in logs.T])
    beyond = (1 - levels[-1]) / (1 - DENSEST_EXTRAPOLATED)
    return Measured(np.array([*levels, DENSEST_EXTRAPOLATED]), np.exp([*cost, cost[-1] + math.log(beyond)]))


def regime_cost(profile: HardwareProfile, regime: str | None, nonzero: float | None = None) -> Measured:
    """As `training_cost`, of the regime where its steps were measured, else of the first that prunes."""
    known = {step.regime for step in profile.training}
    return training_cost(profile, nonzero, regime if regime in known else None)


def training_spread(profile: HardwareProfile) -> float:
    """Relative standard deviation of what the profile measured, from the quartiles of its repetitions.

    Of sparse training steps, else of sparse inference steps and products; 0 where a profile gives no range.
    """
    steps = [(step.low, step.high) for step in profile.training if step.sparsity > 0]
    passes = [(step.low, step.high) for step in profile.inference if step.sparsity > 0]
    ranges = steps or passes + [(one.low, one.high) for one in profile.sparse_products]
    if not ranges:
        return 0.0
    return float(np.mean([math.log(high / low) for low, high in ranges]) / (2 * QUARTILE))


def seconds_per_item(
    profile: HardwareProfile, nonzero: float, sparsity: float = 0.0, regime: str | None = None
) -> float:
    """Seconds of training a token or image, of a model of N non-zeros at sparsity S.

    Between measured sizes ln(seconds) is linear in ln N; above the largest seconds grow as N, below the smallest they
    stay, for there overheads decide.

    Raises:
        RecordError: the profile has no training steps, or none of that regime.
    """
    dense = sorted((step.nonzero, step.seconds / step.items) for step in profile.training if step.sparsity == 0)
    if not dense:
        raise RecordError(
            "the hardware profile has no whole training steps", field="training", expected="sparsity-lab measure STUDY"
        )
    sizes, seconds = np.log(np.array(dense)).T
    at = math.log(nonzero)
    of_dense = math.exp(float(np.interp(at, sizes, seconds)) + max(0.0, at - sizes[-1]))
    if sparsity == 0:
        return of_dense
    return of_dense * float(training_cost(profile, nonzero, regime)(np.float64(sparsity)))


def _training_tables(profile: HardwareProfile, regime: str | None) -> dict[int, dict[float, float]]:
    """Seconds of an item by N and S: of the dense models, and of one regime's."""
    pruning = profile.trained_regimes
    wanted = regime or next(iter(pruning), "dense")
    if wanted not in {*pruning, "dense"}:
        raise RecordError(
            "no training step of this regime was measured", field="training", found=wanted, expected=", ".join(pruning)
        )
    tables: dict[int, dict[float, float]] = defaultdict(dict)
    for step in profile.training:
        if step.sparsity == 0 or step.regime == wanted:
            tables[step.nonzero][step.sparsity] = step.seconds / step.items
    return {size: table for size, table in tables.items() if 0.0 in table and len(table) > 1}


def _dense_training(profile: HardwareProfile) -> Measured:
    """m(S) of hardware that multiplies every zero, but for a forward pass of 2:4 products."""
    S = np.array([0.0, PATTERN_SPARSITY - STEP, PATTERN_SPARSITY, DENSEST_EXTRAPOLATED])
    cost = 1 / (1 - S)
    if any(product.format == "2:4" for product in profile.sparse_products):
        forward = inference_ratio(profile.model_copy(update={"inference": ()}), "2:4").ratio[-1]
        cost[2:] *= 1 - FORWARD_SHARE * (1 - min(1.0, forward))
    return Measured(S, cost)


def load_profile(project: Path, name_or_path: str) -> HardwareProfile:
    """A profile by its file (.json, .yaml), by the name of a spec, or by a study that was measured.

    Raises:
        RecordError: nothing has that name (with the names there are), or a measured profile is damaged.
        SpecError: a profile that someone wrote is damaged.
    """
    path = Path(name_or_path)
    if path.suffix in {".json", ".yaml", ".yml"}:
        return read_profile(path)
    if name_or_path in known_names("hardware", project):
        return read_profile(find_named("hardware", name_or_path, project))
    if (measured := Layout(project).hardware(name_or_path)).exists():
        return read_profile(measured)
    expected = f"a file, or one of: {', '.join(known_profiles(project)) or 'none here'}"
    where = f"{looked_in('hardware', project / 'specs')} and {Layout(project).hardware('x').parent.absolute()}"
    raise RecordError("no such hardware profile", where=where, found=name_or_path, expected=expected)


def known_profiles(project: Path) -> tuple[str, ...]:
    """Names that `load_profile` takes: specs, then measured studies."""
    specs = known_names("hardware", project)
    measured = {path.stem for path in Layout(project).hardware("x").parent.glob("*.json")}
    return (*specs, *sorted(measured.difference(specs)))


def read_profile(path: Path) -> HardwareProfile:
    """A profile from its file; errors as `load_profile`."""
    if path.suffix != ".json":
        return load_hardware(path)
    return read_json(path, HardwareProfile, "a hardware profile")


def write_profile(profile: HardwareProfile, path: Path) -> None:
    """Write a profile as readable JSON, atomically."""
    write_text(path, profile.model_dump_json(indent=1) + "\n")
