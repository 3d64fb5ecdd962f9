"""Single products of inputs with a weight matrix: timed beside the dense one, their result and kernel checked."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sparsity_lab.hardware.formats import (
    BESIDE,
    TOLERANCE,
    TYPES,
    as_type,
    device_wanted,
    draw_mask,
    laid_out,
    of_torch,
    off_by,
    types_wanted,
)
from sparsity_lab.hardware.kernel_probe import kernel_run
from sparsity_lab.hardware.layouts import format_named
from sparsity_lab.hardware.paired import Clock, check_fits, time_beside
from sparsity_lab.specs.hardware import Product, ProductFormat, ProductType
from sparsity_lab.specs.regimes.patterns import MatrixShape


@dataclass(frozen=True)
class ProductCase:
    """One product to time: (rows, inputs) by the transpose of a weight matrix of (outputs, inputs).

    Attributes:
        rows: tokens or images multiplied at once.
        inputs: columns of the weight matrix.
        outputs: rows of the weight matrix.
        dtype: of both.
        format: of the weight matrix.
        sparsity: S.
        kernel: the implementation, where there are several.
    """

    rows: int
    inputs: int
    outputs: int
    dtype: ProductType
    format: ProductFormat
    sparsity: float
    kernel: str

    def __str__(self) -> str:
        zeros = f" at {100 * self.sparsity:g} %" if self.sparsity else ""
        return f"{self.format}{zeros}, {self.rows} x {self.inputs} x {self.outputs} {self.dtype}"


def product_cases(
    shapes: Iterable[MatrixShape],
    rows: Iterable[int],
    dtypes: Iterable[ProductType],
    formats: Iterable[ProductFormat],
    sparsities: Iterable[float],
) -> tuple[ProductCase, ...]:
    """Every product of a list: shape by shape, and of each the dense one first."""
    levels = tuple(sparsities)
    found = []
    for (outputs, inputs), count, dtype in product(shapes, rows, dtypes):
        found.append(ProductCase(count, inputs, outputs, dtype, "dense", 0.0, "torch"))
        for name in formats:
            found += [
                ProductCase(count, inputs, outputs, dtype, name, S, kernel)
                for S in _levels(name, dtype, levels)
                for kernel in format_named(name).kernels
            ]
    return tuple(found)


def not_to_be_had(
    dtypes: Iterable[ProductType],
    formats: Iterable[ProductFormat],
    sparsities: Iterable[float] | None,
    device: str,
) -> Iterator[str]:
    """What of a request has no products at all, and why; sparsities are None where nobody asked for any.

    Args:
        dtypes: asked for.
        formats: asked for.
        sparsities: asked for.
        device: cpu or cuda.
    """
    types = tuple(dtypes)
    for name in formats:
        known = format_named(name)
        if device not in known.devices:
            yield f"{name}: {device_wanted(known)}, and there is none here"
            continue
        for dtype in types:
            if dtype not in known.dtypes:
                yield f"{name} in {dtype}: there is no such product; it {types_wanted(known)}"
        if known.sparsity is not None and (other := sorted({*(sparsities or ())} - {known.sparsity})):
            told = ", ".join(f"{100 * S:g} %" for S in other)
            yield f"{name} at {told}: the format has {100 * known.sparsity:g} % zeros"


def _levels(name: ProductFormat, dtype: ProductType, levels: tuple[float, ...]) -> tuple[float, ...]:
    """Sparsities of a format; none where it has no product of that type at all."""
    known = format_named(name)
    if name == "dense" or dtype not in known.dtypes:
        return ()
    return levels if known.sparsity is None else (known.sparsity,)


@torch.no_grad()
def time_product(case: ProductCase, device: torch.device, seconds: float, clock: Clock = time.perf_counter) -> Product:
    """Time a product beside the dense product of the same matrices; float8 beside bfloat16, int8 beside float32.

    A dense product is timed beside itself: its speed-up is 1 but for the noise of the machine.

    Raises:
        UnsupportedError: the machine or this torch has no such product.
        TooSlowError: it does not fit into the time.
    """
    shape = (case.outputs, case.inputs)
    check_fits(2 * case.rows * case.inputs * case.outputs, seconds, device)  # of the dense product alone
    x_RI = _normal((case.rows, case.inputs)).to(device)
    weight_OI = (_normal(shape) * draw_mask(shape, case.sparsity, case.format)).to(device)
    wide = BESIDE.get(case.dtype, case.dtype)
    with of_torch():
        x_RI, weight_OI = as_type(x_RI, case.dtype), as_type(weight_OI, case.dtype)
        x_wide_RI, weight_wide_OI = x_RI.to(TYPES[wide]), weight_OI.to(TYPES[wide])
        multiply = laid_out(weight_OI, case.format, case.kernel)
        found_RO, expected_RO = multiply(x_RI), functional.linear(x_wide_RI, weight_wide_OI)
        kernel, sparse_one = kernel_run(
            lambda: multiply(x_RI),
            lambda: functional.linear(x_wide_RI, weight_wide_OI),
            format_named(case.format).operations,
        )
        kernel += format_named(case.format).note(shape)
    gap, largest = off_by(found_RO, expected_RO)
    right = gap <= TOLERANCE[case.dtype] * largest
    paired = time_beside(
        lambda: functional.linear(x_wide_RI, weight_wide_OI), lambda: multiply(x_RI), seconds, device, clock
    )
    speedup, low, high = paired.speedup()
    return Product(
        rows=case.rows,
        inputs=case.inputs,
        outputs=case.outputs,
        dtype=case.dtype,
        format=case.format,
        kernel=kernel,
        sparsity=case.sparsity,
        seconds=float(np.median(paired.timed)),
        speedup=speedup,
        low=low,
        high=high,
        verified=right and (case.format == "dense" or sparse_one),
        **paired.energy(),
    )


@lru_cache(maxsize=2)
def _normal(shape: tuple[int, int]) -> Tensor:
    """Standard normal values; drawing millions takes longer than a product, so the last ones are kept."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))
