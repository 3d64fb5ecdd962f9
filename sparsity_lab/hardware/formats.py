"""Weight matrices in sparse formats, with zeros that suit each, and the product that each is fast in: with torch.

On a CPU `F.linear` with a compressed weight first transposes it, several times slower than the product itself; so
compressed products are W xᵀ.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional
from torch.sparse import (
    SparseSemiStructuredTensor,
    SparseSemiStructuredTensorCUSPARSELT,
    SparseSemiStructuredTensorCUTLASS,
)

from sparsity_lab.hardware.layouts import Format, format_named
from sparsity_lab.specs.hardware import ProductFormat, ProductType
from sparsity_lab.specs.regimes.patterns import MatrixShape

Multiply = Callable[[Tensor], Tensor]
"""inputs (rows, inputs) to outputs (rows, outputs)"""
BLOCKS = (16, 8, 4)
"""rows and columns of a block: the largest that fits"""
SIDE = 64
"""of the square matrix that is multiplied to see whether a format works"""
FEWEST_BLOCKS = 50
"""in a matrix: fewer could not have the sparsity asked for, to a hundredth"""
TYPES: dict[ProductType, torch.dtype] = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float8": torch.float8_e4m3fn,
    "int8": torch.int8,
}
BESIDE: dict[ProductType, ProductType] = {"float8": "bfloat16", "int8": "float32"}
"""types whose products are compared with those of another, which their outputs have"""
LARGEST_INT8 = 127
TOLERANCE: dict[ProductType, float] = {
    "float32": 1e-4,
    "float64": 1e-10,
    "bfloat16": 3e-2,
    "float16": 1e-2,
    "float8": 1e-1,
    "int8": 1e-4,
}
"""largest error allowed, relative to the largest output"""


class UnsupportedError(Exception):
    """The machine, or this torch, has no such product; caught where products are listed."""


@dataclass(frozen=True, eq=False)
class LaidOut:
    """A weight in a format.

    Attributes:
        multiply: inputs (rows, inputs) to outputs (rows, outputs).
        held: the tensors that it is made of.
    """

    multiply: Multiply
    held: tuple[Tensor, ...]

    def __call__(self, x_RI: Tensor) -> Tensor:
        """The product."""
        return self.multiply(x_RI)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return sum(_bytes_of(one) for one in self.held)


def _bytes_of(held: Tensor) -> int:
    if held.layout == torch.strided:
        return held.nbytes
    parts = (held.values(), held.crow_indices(), held.col_indices())
    return sum(one.nbytes for one in parts)


def draw_mask(shape: MatrixShape, sparsity: float, fmt: ProductFormat) -> Tensor:
    """A mask with the zeros asked for, as the format wants them.

    Args:
        shape: (outputs, inputs).
        sparsity: S.
        fmt: of the weights.

    Returns:
        (outputs, inputs) bool, on the CPU.

    Raises:
        UnsupportedError: the shape is no multiple of the pattern, or the format has no such sparsity there.
    """
    with of_torch():
        return format_named(fmt).mask(shape, sparsity)


def zeros_anywhere(shape: MatrixShape, sparsity: float) -> Tensor:
    """A random mask with exactly the zeros asked for, (outputs, inputs)."""
    return _kept(shape[0] * shape[1], sparsity).view(shape)


def zeros_in_blocks(shape: MatrixShape, sparsity: float, side: int) -> Tensor:
    """A random mask of whole blocks of side x side, the nearest number of them, (outputs, inputs)."""
    outputs, inputs = shape
    blocks = _kept(outputs * inputs // side**2, sparsity).view(outputs // side, inputs // side)
    return blocks.repeat_interleave(side, 0).repeat_interleave(side, 1)


def n_of_m(shape: MatrixShape, n: int, m: int, sparsity: float) -> Tensor:
    """A random mask that keeps n of each m inputs, (outputs, inputs).

    Raises:
        UnsupportedError: the sparsity is another than 1 - n / m, or inputs are no multiple of m.
    """
    outputs, inputs = shape
    if not math.isclose(sparsity, 1 - n / m) or inputs % m:
        share = "half of its weights" if 2 * n == m else f"{n} of {m} weights"
        raise UnsupportedError(f"{n}:{m} has {share}, in groups of {m}; not {sparsity:g} zeros of {inputs}")
    order = torch.rand(outputs, inputs // m, m, generator=_fresh()).argsort(-1)
    return (order < n).view(shape)


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


def laid_out(weight_OI: Tensor, fmt: ProductFormat, kernel: str = "torch") -> LaidOut:
    """A masked weight matrix in a format, and its product with inputs.

    Raises:
        UnsupportedError: not on this device, not of this type, or not here, with what torch says.
    """
    known, device = format_named(fmt), weight_OI.device.type
    if device not in known.devices:
        raise UnsupportedError(f"{fmt} {device_wanted(known)}")
    if weight_OI.dtype not in {TYPES[name] for name in known.dtypes}:
        raise UnsupportedError(f"{fmt} {types_wanted(known)}")
    with of_torch():
        return known.lay_out(weight_OI, kernel)


def device_wanted(known: Format) -> str:
    """Which devices a format multiplies on, in words."""
    return f"needs a {' or '.join(name.upper() for name in known.devices)} device"


def types_wanted(known: Format) -> str:
    """Which types a format multiplies, in words."""
    return f"needs {' or '.join(known.dtypes)}"


def by_compressed(weight_OI: Tensor) -> LaidOut:
    """The product of a weight in one of torch's compressed layouts, as W xT."""
    return LaidOut(lambda x_RI: torch.mm(weight_OI, x_RI.t()).t(), (weight_OI,))


def in_full(weight_OI: Tensor) -> LaidOut:
    """The dense product; in float8 to bfloat16 and in int8 to float32, with scales of 1."""
    if weight_OI.dtype == TYPES["int8"]:
        return LaidOut(lambda x_RI: torch._int_mm(x_RI, weight_OI.t()).float(), (weight_OI,))  # noqa: SLF001 - as below
    if weight_OI.dtype != TYPES["float8"]:
        return LaidOut(lambda x_RI: functional.linear(x_RI, weight_OI), (weight_OI,))
    one = torch.ones((), device=weight_OI.device)
    return LaidOut(
        lambda x_RI: torch._scaled_mm(  # noqa: SLF001 - torch has no public name for it
            x_RI, weight_OI.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16
        ),
        (weight_OI,),
    )


def semi_structured(weight_OI: Tensor, kernel: str) -> LaidOut:
    """Torch's 2:4: by CUTLASS, or by cuSPARSELt with the fastest of its algorithms."""
    if kernel == "cusparselt":
        halved = SparseSemiStructuredTensorCUSPARSELT.from_dense(weight_OI)
        return LaidOut(_Searched(halved), _parts(halved))
    cut = SparseSemiStructuredTensorCUTLASS.from_dense(weight_OI)
    return LaidOut(lambda x_RI: functional.linear(x_RI, cut), _parts(cut))


def _parts(halved: SparseSemiStructuredTensor) -> tuple[Tensor, ...]:
    """The packed values; with cuSPARSELt their places lie among them."""
    return tuple(one for one in (halved.packed, halved.meta) if one is not None)


class _Searched:
    """2:4 by cuSPARSELt with the fastest of its algorithms, looked for once for each number of rows.

    Its default algorithm loses on many shapes on which another one wins (pytorch#179926).
    """

    def __init__(self, halved: SparseSemiStructuredTensorCUSPARSELT) -> None:
        self._halved = halved
        self._best: dict[int, int] = {}

    def __call__(self, x_RI: Tensor) -> Tensor:
        """(rows, inputs) -> (rows, outputs)."""
        rows, halved = x_RI.shape[0], self._halved
        if rows not in self._best:
            least = halved._DTYPE_SHAPE_CONSTRAINTS[x_RI.dtype].dense_min_rows  # noqa: SLF001 - what torch pads to
            padded = functional.pad(x_RI, (0, 0, 0, -rows % least))
            packed = halved.packed
            assert packed is not None, "compressed from a dense weight"
            self._best[rows] = int(torch._cslt_sparse_mm_search(packed, padded.t()))  # noqa: SLF001
        halved.alg_id_cusparselt = self._best[rows]
        product: Tensor = functional.linear(x_RI, halved)
        return product


def works_here(fmt: ProductFormat, device: torch.device) -> str:
    """Whether a format multiplies on a device, tried on a small matrix: `multiplied`, or what is said against it."""
    refused = []
    known = format_named(fmt)
    dtype = TYPES[pass_type(known)]
    for kernel in known.kernels:
        try:
            with warnings.catch_warnings(action="ignore"), of_torch():  # layouts "in beta"
                mask = draw_mask((SIDE, SIDE), 0.5 if known.sparsity is None else known.sparsity, fmt)
                weight = (torch.ones(SIDE, SIDE) * mask).to(device, dtype)
                laid_out(weight, fmt, kernel)(torch.ones(SIDE, SIDE, device=device, dtype=dtype))
        except UnsupportedError as error:
            refused.append(str(error))
        else:
            return "multiplied"
    return refused[0].removeprefix(f"{fmt} ")


def pass_type(known: Format) -> ProductType:
    """In which type whole models with such weights are timed."""
    return known.dtypes[0]


def off_by(found: Tensor, expected: Tensor) -> tuple[float, float]:
    """The largest error of outputs, and the largest output that it is held against."""
    gap = float((found.double() - expected.double()).abs().max())
    return gap, max(float(expected.abs().max()), 1e-30)


def as_type(values: Tensor, dtype: ProductType) -> Tensor:
    """The values in a type; for float8 and int8 scaled so that the largest fits."""
    if dtype == "int8":
        return (values / values.abs().max() * LARGEST_INT8).round().to(TYPES[dtype])
    if dtype == "float8":
        return (values / values.abs().max()).to(TYPES[dtype])
    return values.to(TYPES[dtype])


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


@contextlib.contextmanager
def of_torch() -> Iterator[None]:
    """The border to torch's kernels: whatever is thrown for a product that they lack is that it is not here.

    Raises:
        UnsupportedError: with the first line of what was thrown.
    """
    try:
        yield
    except UnsupportedError:
        raise
    except Exception as error:
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UnsupportedError(first[:120]) from None
