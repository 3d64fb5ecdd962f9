"""Weight matrices in sparse formats, with zeros that suit each, and the product that each is fast in.

On a CPU `F.linear` with a compressed weight first transposes it, several times slower than the product itself; so
compressed products are W xᵀ.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import assert_never

import torch
from torch import Tensor
from torch.nn import functional
from torch.sparse import SparseSemiStructuredTensorCUSPARSELT, SparseSemiStructuredTensorCUTLASS

from sparsity_lab.specs.hardware import ProductFormat, ProductType

Multiply = Callable[[Tensor], Tensor]
"""inputs (rows, inputs) to outputs (rows, outputs)"""
BLOCKS = (16, 8, 4)
"""rows and columns of a block: the largest that fits"""
FEWEST_BLOCKS = 50
"""in a matrix: fewer could not have the sparsity asked for, to a hundredth"""
TYPES: dict[ProductType, torch.dtype] = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float8": torch.float8_e4m3fn,
}
TOLERANCE: dict[ProductType, float] = {
    "float32": 1e-4,
    "float64": 1e-10,
    "bfloat16": 3e-2,
    "float16": 1e-2,
    "float8": 1e-1,
}
"""largest error allowed, relative to the largest output"""


HALVES: tuple[ProductType, ...] = ("bfloat16", "float16")
"""types in which torch's 2:4 is two of four: its float32 kernels want one of two"""


class UnsupportedError(Exception):
    """The machine, or this torch, has no such product; caught where products are listed."""


def draw_mask(shape: tuple[int, int], sparsity: float, fmt: ProductFormat) -> Tensor:
    """A random mask with exactly the zeros asked for, as the format wants them: alone, in blocks, or two of four.

    Args:
        shape: (outputs, inputs).
        sparsity: S; of blocks, the nearest whole number of them.
        fmt: dense and CSR take zeros anywhere.

    Returns:
        (outputs, inputs) bool, on the CPU.

    Raises:
        UnsupportedError: the shape is no multiple of the pattern, or has too few blocks or groups for
            the sparsity; 2:4 has no other than .5.
    """
    outputs, inputs = shape
    match fmt:
        case "dense" | "csr":
            return _kept(outputs * inputs, sparsity).view(shape)
        case "bsr":
            side = block_of(shape)
            blocks = _kept(outputs * inputs // side**2, sparsity).view(outputs // side, inputs // side)
            return blocks.repeat_interleave(side, 0).repeat_interleave(side, 1)
        case "2:4":
            if sparsity != 0.5 or inputs % 4:
                raise UnsupportedError(f"2:4 has half of its weights, in groups of four; not {sparsity:g} of {inputs}")
            order = torch.rand(outputs, inputs // 4, 4, generator=_fresh()).argsort(-1)
            return (order < 2).view(shape)
        case _:
            assert_never(fmt)


def block_of(shape: tuple[int, int]) -> int:
    """The side of the square blocks that a matrix of (outputs, inputs) is cut into.

    Raises:
        UnsupportedError: none fits.
    """
    for side in BLOCKS:
        if shape[0] % side == shape[1] % side == 0 and shape[0] * shape[1] >= FEWEST_BLOCKS * side**2:
            return side
    raise UnsupportedError(
        f"{FEWEST_BLOCKS} blocks of {BLOCKS[-1]} x {BLOCKS[-1]} do not fit into {shape[0]} x {shape[1]}"
    )


def kernels_of(fmt: ProductFormat) -> tuple[str, ...]:
    """Names of the implementations that torch may have."""
    return ("cutlass", "cusparselt") if fmt == "2:4" else ("torch",)


def kernel_here(fmt: ProductFormat) -> str:
    """The implementation for a whole model: of 2:4 the vendor's, where this torch was built with it."""
    first, *others = kernels_of(fmt)
    return others[0] if others and torch.backends.cusparselt.is_available() else first


def laid_out(weight_OI: Tensor, fmt: ProductFormat, kernel: str = "torch") -> Multiply:
    """A masked weight matrix in a format, and its product with inputs.

    Raises:
        UnsupportedError: not here, with what torch says.
    """
    if fmt == "2:4" and not weight_OI.is_cuda:
        raise UnsupportedError("2:4 needs a CUDA device")
    if fmt == "2:4" and weight_OI.dtype not in {TYPES[name] for name in HALVES}:
        raise UnsupportedError(f"2:4 needs {' or '.join(HALVES)}")
    try:
        match fmt:
            case "dense":
                return _dense(weight_OI)
            case "csr":
                compressed = weight_OI.to_sparse_csr()
            case "bsr":
                compressed = weight_OI.to_sparse_bsr((block_of(_shape(weight_OI)),) * 2)
            case "2:4":
                cutlass = kernel == "cutlass"
                kind = SparseSemiStructuredTensorCUTLASS if cutlass else SparseSemiStructuredTensorCUSPARSELT
                halved: Tensor = kind.from_dense(weight_OI)
                return lambda x_RI: functional.linear(x_RI, halved)
            case _:
                assert_never(fmt)
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        raise UnsupportedError(said(error)) from None
    return lambda x_RI: torch.mm(compressed, x_RI.t()).t()


def as_type(values: Tensor, dtype: ProductType) -> Tensor:
    """The values in a type; for float8 scaled so that the largest fits."""
    if dtype == "float8":
        return (values / values.abs().max()).to(TYPES[dtype])
    return values.to(TYPES[dtype])


def _dense(weight_OI: Tensor) -> Multiply:
    if weight_OI.dtype != TYPES["float8"]:
        return lambda x_RI: functional.linear(x_RI, weight_OI)
    one = torch.ones((), device=weight_OI.device)
    return lambda x_RI: torch._scaled_mm(  # noqa: SLF001 - torch has no public name for it
        x_RI, weight_OI.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16
    )


def _shape(weight_OI: Tensor) -> tuple[int, int]:
    outputs, inputs = weight_OI.shape
    return outputs, inputs


def _kept(count: int, sparsity: float) -> Tensor:
    kept = torch.ones(count, dtype=torch.bool)
    kept[_order(count)[: round(sparsity * count)]] = False
    return kept


@lru_cache(maxsize=1)
def _order(count: int) -> Tensor:
    """In which weights become zero: one order for all sparsities, for drawing it takes longer than a product."""
    return torch.randperm(count, generator=_fresh())


def _fresh() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def said(error: Exception) -> str:
    """What torch says, in one line."""
    return str(error).strip().partition("\n")[0][:120]
