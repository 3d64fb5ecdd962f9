"""Single products of inputs with a weight matrix: timed beside the dense one, their result and kernel checked."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sparsity_lab.hardware.formats import (
    HALVES,
    TOLERANCE,
    TYPES,
    UnsupportedError,
    as_type,
    block_of,
    draw_mask,
    kernels_of,
    laid_out,
    said,
)
from sparsity_lab.hardware.kernel_probe import kernel_run
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
                for kernel in kernels_of(name)
            ]
    return tuple(found)


def _levels(name: ProductFormat, dtype: ProductType, levels: tuple[float, ...]) -> tuple[float, ...]:
    """Sparsities of a format; none where it has no product of that type at all."""
    if name == "dense" or dtype == "float8":
        return ()
    if name == "2:4":
        return (0.5,) if dtype in HALVES else ()
    return levels


@torch.no_grad()
def time_product(case: ProductCase, device: torch.device, seconds: float, clock: Clock = time.perf_counter) -> Product:
    """Time a product beside the dense product of the same matrices; a float8 one beside the bfloat16 one.

    A dense product is timed beside itself: its speed-up is 1 but for the noise of the machine.

    Raises:
        UnsupportedError: the machine or this torch has no such product.
        TooSlowError: it does not fit into the time.
    """
    shape = (case.outputs, case.inputs)
    check_fits(2 * case.rows * case.inputs * case.outputs, seconds, device)  # of the dense product alone
    x_RI = _normal((case.rows, case.inputs)).to(device)
    weight_OI = (_normal(shape) * draw_mask(shape, case.sparsity, case.format)).to(device)
    wide: ProductType = "bfloat16" if case.dtype == "float8" else case.dtype
    try:
        x_RI, weight_OI = as_type(x_RI, case.dtype), as_type(weight_OI, case.dtype)
        x_wide_RI, weight_wide_OI = x_RI.to(TYPES[wide]), weight_OI.to(TYPES[wide])
        multiply = laid_out(weight_OI, case.format, case.kernel)
        found_RO, expected_RO = multiply(x_RI), functional.linear(x_wide_RI, weight_wide_OI)
        kernel, sparse_one = kernel_run(lambda: multiply(x_RI), lambda: functional.linear(x_wide_RI, weight_wide_OI))
    except (RuntimeError, NotImplementedError) as error:  # torch names what it lacks with either
        raise UnsupportedError(said(error)) from None
    if case.format == "bsr":
        kernel += " in blocks of " + str(block_of(shape))
    gap, largest = float((found_RO.double() - expected_RO.double()).abs().max()), float(expected_RO.abs().max())
    right = gap <= TOLERANCE[case.dtype] * max(largest, 1e-30)
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
    )


@lru_cache(maxsize=2)
def _normal(shape: tuple[int, int]) -> Tensor:
    """Standard normal values; drawing millions takes longer than a product, so the last ones are kept."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))
