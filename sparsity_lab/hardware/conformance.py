"""Conformance: what a format promises, checked from outside. For tests of formats of one's own.

    from sparsity_lab.hardware.conformance import check_format

    def test_my_format() -> None:
        check_format("6:8")

A broken promise raises an `AssertionError` that names it. The formats of this package pass the same checks.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sparsity_lab.hardware.formats import (
    BESIDE,
    TOLERANCE,
    TYPES,
    LaidOut,
    UnsupportedError,
    as_type,
    draw_mask,
    laid_out,
    of_torch,
    off_by,
)
from sparsity_lab.hardware.kernel_probe import kernel_run
from sparsity_lab.hardware.layouts import Format, format_named
from sparsity_lab.specs.hardware import ProductFormat, ProductType
from sparsity_lab.specs.regimes.patterns import MatrixShape

SHAPES: tuple[MatrixShape, ...] = ((64, 64), (128, 64), (64, 192))
"""(outputs, inputs)"""
LEVELS = (0.5, 0.75, 0.9)
ROWS = (1, 8, 33)
SLACK = 0.02
"""in S: of a format of whole blocks"""
MOST_HELD = 4.0
"""bytes held / bytes said: torch writes places as 64-bit numbers, where a leaner engine takes 16"""


def check_format(name: ProductFormat, shapes: Iterable[MatrixShape] = SHAPES) -> None:
    """Check an installed format on the devices that are here, on random weights.

    Args:
        name: of the format.
        shapes: (outputs, inputs); those that it refuses are left out.

    Raises:
        AssertionError: facts that say nothing; masks of another shape or type, of other zeros than asked for, or that
            differ between two calls; a sparsity, type or device that it says it lacks and takes all the same; products
            of another shape or type than dense, or that differ from it; inputs or weights that were changed; a kernel
            that has no name or is the dense one; bytes below those of the values that are kept, above those held, or
            that grow with zeros; nothing that works on a device that it names and that is here.
    """
    known = format_named(name)
    _check_facts(known)
    fitting = [shape for shape in shapes if _fits(name, shape)]
    assert fitting, "the mask refuses every shape"
    for shape, sparsity in itertools.product(fitting, _levels(known)):
        _check_mask(name, shape, sparsity)
        _check_bytes(known, sparsity)
    _check_refusals(name, fitting[0])
    for device in _devices(known):
        worked = [
            _check_products(name, shape, sparsity, dtype, device)
            for dtype in known.dtypes
            for shape, sparsity in itertools.product(fitting, _levels(known))
        ]
        assert any(worked), f"nothing of it works on {device}"


def _levels(known: Format) -> tuple[float, ...]:
    return LEVELS if known.sparsity is None else (known.sparsity,)


def _devices(known: Format) -> Iterator[torch.device]:
    """That it names, and that are here."""
    here = {"cpu", *(["cuda"] if torch.cuda.is_available() else [])}
    return (torch.device(name) for name in known.devices if name in here)


def _fits(name: ProductFormat, shape: MatrixShape) -> bool:
    try:
        draw_mask(shape, _levels(format_named(name))[0], name)
    except UnsupportedError:
        return False
    return True


def _check_facts(known: Format) -> None:
    assert known.sparsity is None or 0 < known.sparsity < 1, f"sparsity must lie within (0, 1), found {known.sparsity}"
    assert known.dtypes, "it must multiply some type"
    assert set(known.dtypes) <= set(get_args(ProductType)), f"types must be of {get_args(ProductType)}"
    assert known.devices, "it must have a device"
    assert set(known.devices) <= {"cpu", "cuda"}, f"devices must be of cpu and cuda, found {known.devices}"
    assert known.kernels, "it must have a kernel"
    assert len(set(known.kernels)) == len(known.kernels), f"kernels must differ, found {known.kernels}"
    assert known.kernel_here() in known.kernels, f"{known.kernel_here()} is none of its kernels"


def _check_mask(name: ProductFormat, shape: MatrixShape, sparsity: float) -> None:
    mask = draw_mask(shape, sparsity, name)
    assert mask.dtype == torch.bool, f"masks must be bool, found {mask.dtype}"
    assert tuple(mask.shape) == shape, f"masks must have shape {shape}, found {tuple(mask.shape)}"
    assert torch.equal(mask, draw_mask(shape, sparsity, name)), "two calls must draw the same mask"
    found = 1 - float(mask.float().mean())
    assert abs(found - sparsity) <= SLACK, f"a mask of {sparsity:g} zeros has {found:g}"


def _check_bytes(known: Format, sparsity: float) -> None:
    for width in (4.0, 2.0, 0.5):
        at = np.array([sparsity, min(0.99, sparsity + 0.05)])
        found = known.stored(width, at)
        assert found.shape == at.shape, f"bytes must have the shape of the sparsities, found {found.shape}"
        least = (1 - sparsity) * width
        assert found[0] >= least * (1 - 1e-9), f"{found[0]:g} bytes hold no {least:g} bytes of values"
        assert found[1] <= found[0], "more zeros must not take more bytes"


def _check_refusals(name: ProductFormat, shape: MatrixShape) -> None:
    known = format_named(name)
    if known.sparsity is not None:
        _refused(partial(draw_mask, shape, known.sparsity / 2, name), "another sparsity than its own")
    if "cpu" not in known.devices:
        _refused(partial(laid_out, torch.ones(shape), name, known.kernels[0]), "a device that it does not name")
        return
    for dtype in sorted(set(get_args(ProductType)) - set(known.dtypes)):
        weight = torch.ones(shape).to(TYPES[dtype])
        _refused(partial(laid_out, weight, name, known.kernels[0]), f"{dtype}, which it does not name")


def _refused(work: Callable[[], object], what: str) -> None:
    try:
        work()
    except UnsupportedError:
        return
    raise AssertionError(f"it takes {what}")


def _check_products(
    name: ProductFormat, shape: MatrixShape, sparsity: float, dtype: ProductType, device: torch.device
) -> bool:
    """Whether torch has such a product here; checked where it has."""
    generator = torch.Generator().manual_seed(0)
    kept = torch.randn(shape, generator=generator) * draw_mask(shape, sparsity, name)
    weight_OI = as_type(kept.to(device), dtype)
    for kernel, rows in itertools.product(format_named(name).kernels, ROWS):
        x_RI = as_type(torch.randn(rows, shape[1], generator=generator).to(device), dtype)
        try:
            with warnings.catch_warnings(action="ignore"), of_torch():  # layouts "in beta"
                held = laid_out(weight_OI, name, kernel)
                held(x_RI)
        except UnsupportedError:
            return False
        _check_held(name, held, weight_OI)
        _check_product(name, held, weight_OI, x_RI, dtype)
    return True


def _check_held(name: ProductFormat, held: LaidOut, weight_OI: Tensor) -> None:
    sparsity = 1 - float((weight_OI.float() != 0).double().mean())
    said = float(format_named(name).stored(weight_OI.itemsize, np.array([sparsity]))[0])
    found = held.nbytes / weight_OI.numel()
    assert said <= found * 1.05, f"it says {said:g} bytes a weight and holds {found:g}"
    assert found <= MOST_HELD * said, f"it holds {found:g} bytes a weight and says {said:g}"


def _check_product(name: ProductFormat, held: LaidOut, weight_OI: Tensor, x_RI: Tensor, dtype: ProductType) -> None:
    wide = TYPES[BESIDE.get(dtype, dtype)]
    before, weight_before = x_RI.clone(), weight_OI.clone()

    def dense() -> Tensor:
        return functional.linear(x_RI.to(wide), weight_OI.to(wide))

    expected_RO, found_RO = dense(), held(x_RI)
    assert found_RO.shape == expected_RO.shape, f"outputs must have shape {tuple(expected_RO.shape)}"
    assert found_RO.dtype == expected_RO.dtype, f"outputs must be {expected_RO.dtype}, found {found_RO.dtype}"
    gap, largest = off_by(found_RO, expected_RO)
    assert gap <= TOLERANCE[dtype] * largest, f"{dtype} products are off by {gap:.2g} of {largest:.2g}"
    unchanged = torch.equal(x_RI, before) and torch.equal(weight_OI, weight_before)
    assert unchanged, "a product must not change what it is given"
    kernel, sparse_one = kernel_run(lambda: held(x_RI), dense, format_named(name).operations)
    assert kernel, "no kernel was seen: name operations of your own in `operations`"
    assert sparse_one or name == "dense", f"{kernel} is the dense kernel"
