"""How a model is served, what a profile has of that, and what decoding costs by the bytes that it reads.

A profile has points at some numbers of rows, of some types and shapes, or of models of some sizes. A serving chooses
among them: between measured rows (and sizes) ln(time) is linear in ln(rows), beyond them the nearest holds, and a
`SpeedBasis` says what was taken.

Where decoding was not measured and the bandwidth of memory is known, a product of R rows takes, for each weight,

    max(2 R c / F, b / B)        c: relative time of the product where arithmetic decides; b: bytes of a weight

with F FLOP/s and B bytes/s: a bound that no kernel can pass, and that few reach.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from sparsity_lab.hardware.layouts import format_named
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.specs.hardware import (
    HardwareProfile,
    InferenceStep,
    Phase,
    Product,
    ProductFormat,
    ProductType,
    WeightType,
)
from sparsity_lab.specs.regimes.patterns import MatrixShape

GROUP, SCALE_BYTES = 128, 2.0
"""weights that share a scale, and its bytes"""
WEIGHT_BITS: dict[WeightType, float] = {
    "float64": 64.0,
    "float32": 32.0,
    "bfloat16": 16.0,
    "float16": 16.0,
    "float8": 8.0,
    "int8": 8.0,
    "int4": 4.0,
}
WEIGHT_BYTES: dict[WeightType, float] = {
    name: bits / 8 + (SCALE_BYTES / GROUP if name.startswith("int") else 0.0) for name, bits in WEIGHT_BITS.items()
}
NEAR = 2.0
"""rows, and sizes of models, within this factor of measured ones count as measured"""


@dataclass(frozen=True)
class Serving:
    """How a model is served; None and nothing where nobody says.

    Attributes:
        batch: requests or images at once: rows of a whole pass.
        rows: of a product.
        phase: prefill or decode.
        dtype: of weights and inputs.
        shapes: (outputs, inputs) of the weights.
        flops_per_second: of the accelerator, dense.
        bandwidth: of its memory, bytes a second.
        nonzero: weights of the model that are not zero: sizes of whole passes.
    """

    batch: int | None = None
    rows: int | None = None
    phase: Phase | None = None
    dtype: ProductType | None = None
    shapes: tuple[MatrixShape, ...] = ()
    flops_per_second: float | None = None
    bandwidth: float | None = None
    nonzero: float | None = None


@dataclass(frozen=True)
class SpeedBasis:
    """What a speed rests on.

    Attributes:
        of: whole passes, single products, or bytes alone.
        rows: that were measured (examples of a pass), rising.
        taken: rows whose speed is told.
        asked: by the scenario, or None.
        dtypes: of the products that count.
        shapes: likewise, (outputs, inputs).
        dtype: whose bytes count, where bytes tell the speed.
        sizes: of the models whose passes were measured: the fewest weights that are not zero, the most with the zeros.
        model: of the scenario's, or None.
        missing: what the scenario asks for and the profile lacks, so that something else was taken: dtype, shapes,
            phase.
    """

    of: Literal["passes", "products", "bytes"]
    rows: tuple[int, ...]
    taken: int
    asked: int | None
    dtypes: tuple[ProductType, ...] = ()
    shapes: tuple[MatrixShape, ...] = ()
    missing: tuple[str, ...] = ()
    dtype: WeightType | None = None
    sizes: tuple[float, ...] = ()
    model: float | None = None

    @property
    def other_size(self) -> bool:
        """Whether no pass was measured of a model about as large as the scenario's."""
        return self.model is not None and bool(self.sizes) and not near(self.model, self.sizes)

    @property
    def outside(self) -> bool:
        """Whether nothing was measured near the rows that are asked for."""
        return self.asked is not None and not near(self.asked, self.rows)

    @property
    def other_type(self) -> bool:
        """Whether bytes are of a type whose products were not measured, while others were."""
        widths = {WEIGHT_BYTES[one] for one in self.dtypes}
        return (
            self.dtype is not None
            and bool(widths)
            and ("dtype" in self.missing or WEIGHT_BYTES[self.dtype] not in widths)
        )

    @property
    def unasked(self) -> bool:
        """Whether several numbers of rows were measured and nobody said which are served."""
        return self.asked is None and len(self.rows) > 1


@dataclass(frozen=True)
class Served:
    """The points of a profile that a serving rests on, and what they are."""

    points: tuple[Product | InferenceStep, ...]
    basis: SpeedBasis


def served_points(profile: HardwareProfile, serving: Serving, format: ProductFormat | None = None) -> Served:  # noqa: A002
    """Sparse points that count, of one format or all: whole passes where there are any, else products.

    Passes are of whole examples. So where decoding is asked for, products count instead, if there are any.
    """
    steps = [one for one in profile.inference if one.format != "dense" and format in {None, one.format}]
    products = [one for one in profile.sparse_products if format in {None, one.format}]
    whole = [one for one in steps if one.items > one.batch]
    if steps and not (serving.phase == "decode" and whole and products):
        missing = ("phase",) if serving.phase == "decode" and whole else ()
        rows = tuple(sorted({one.batch for one in steps}))
        sizes = (min(map(nonzero_of, steps)), float(max(one.dense for one in steps)))
        taken = _taken(rows, serving.batch)
        told = SpeedBasis("passes", rows, taken, serving.batch, missing=missing, sizes=sizes, model=serving.nonzero)
        return Served(tuple(steps), told)
    typed = [one for one in products if serving.dtype in {None, one.dtype}]
    shaped = [one for one in typed or products if not serving.shapes or (one.outputs, one.inputs) in serving.shapes]
    lacking = {"dtype": typed, "shapes": shaped}
    absent = tuple(name for name, found in lacking.items() if products and not found)
    products = shaped or typed or products
    rows = tuple(sorted({one.rows for one in products}))
    basis = SpeedBasis(
        "products",
        rows,
        _taken(rows, serving.rows),
        serving.rows,
        dtypes=tuple(sorted({one.dtype for one in products})),
        shapes=tuple(sorted({(one.outputs, one.inputs) for one in products})),
        missing=absent,
    )
    return Served(tuple(products), basis)


def nonzero_of(one: InferenceStep) -> float:
    """Weights of a pass that are not zero."""
    return one.dense * (1 - one.sparsity)


def dense_type_speedup(profile: HardwareProfile, serving: Serving, dtype: WeightType) -> float | None:
    """How many times as fast dense products of a type are as those of the serving's own type, as measured.

    At the rows nearest to those that are served, the most where nobody says; the geometric mean over the shapes that
    both were measured in. None where they were not, or not near such rows.
    """
    own = serving.dtype or "bfloat16"
    times: dict[int, dict[MatrixShape, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for one in profile.products:
        if one.format == "dense" and one.seconds is not None and one.verified:
            times[one.rows][one.outputs, one.inputs][one.dtype] = one.seconds
    found = {
        rows: [
            math.log(at[own] / at[dtype])
            for shape, at in shapes.items()
            if {own, dtype} <= at.keys() and (not serving.shapes or shape in serving.shapes)
        ]
        for rows, shapes in times.items()
    }
    known = tuple(sorted(rows for rows, logs in found.items() if logs))
    if not known or (serving.rows is not None and not near(serving.rows, known)):
        return None
    wanted = math.log(serving.rows or known[-1])
    logs = found[min(known, key=lambda rows: abs(math.log(rows) - wanted))]
    return math.exp(sum(logs) / len(logs))


def by_bytes(basis: SpeedBasis, serving: Serving) -> bool:
    """Whether bytes tell the speed: decoding at rows of which nothing was measured, in memory of a known bandwidth."""
    asked = serving.rows if serving.phase == "decode" else None
    if asked is None or serving.bandwidth is None or serving.flops_per_second is None:
        return False
    measured = basis.of == "products" and near(asked, basis.rows)
    return not measured and (not basis.rows or basis.of == "passes" or asked < min(basis.rows))


def format_bytes(format: ProductFormat, width: float, sparsity: ArrayLike) -> FloatArray:  # noqa: A002
    """Bytes that a weight takes, zero or not, in a matrix of a format.

    Args:
        format: of the matrix.
        width: bytes of a value.
        sparsity: S; below the pattern's, 2:4 has it all the same.
    """
    return format_named(format).stored(width, np.asarray(sparsity, dtype=np.float64))


def ratio_by_bytes(serving: Serving, format: ProductFormat, sparsity: ArrayLike, arithmetic: ArrayLike) -> FloatArray:  # noqa: A002
    """r(S) by the bytes and the arithmetic of products of dense shapes; see the module's formula.

    Args:
        serving: with rows, FLOP/s and bandwidth.
        format: of the weights.
        sparsity: S.
        arithmetic: c, relative time of the sparse product where arithmetic decides.
    """
    rows, speed, bandwidth = serving.rows, serving.flops_per_second, serving.bandwidth
    assert rows is not None, "see by_bytes"
    assert speed is not None, "see by_bytes"
    assert bandwidth is not None, "see by_bytes"
    width, busy = WEIGHT_BYTES[serving.dtype or "bfloat16"], 2 * rows / speed
    dense = np.maximum(busy, width / bandwidth)
    multiplied = busy * np.asarray(arithmetic, dtype=np.float64)
    sparse = np.maximum(multiplied, format_bytes(format, width, sparsity) / bandwidth)
    return np.asarray(sparse / dense)


def near(asked: float, known: Sequence[float]) -> bool:
    """Whether a number lies among measured ones, or within a factor of `NEAR` of them."""
    return bool(known) and min(known) / NEAR <= asked <= max(known) * NEAR


def _taken(rows: tuple[int, ...], asked: int | None) -> int:
    if not rows or asked is None:
        return asked or max(rows, default=0)
    return min(max(asked, rows[0]), rows[-1])
