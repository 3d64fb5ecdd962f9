"""What a format of weight matrices is: the zeros it takes, where it multiplies, its bytes, and its kernel.

A package of one's own adds formats by entry points of `sparsity_lab.formats`, each a class like those below; the
built-in ones keep the same promises (`hardware.conformance`). Facts need no torch, which is loaded by the products.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from sparsity_lab.errors import SpecError, refusing
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.specs.hardware import ProductFormat, ProductType, formats_outside, known_formats
from sparsity_lab.specs.regimes.patterns import MatrixShape

if TYPE_CHECKING:
    from torch import Tensor

    from sparsity_lab.hardware.formats import LaidOut

INDEX_BYTES = 2.0
"""of a column in CSR, up to 32,767 of them"""
PLACE_BYTES = 0.25
"""of a non-zero weight's place among four"""
WIDE: tuple[ProductType, ...] = ("float32", "float64", "bfloat16", "float16")
HALVES: tuple[ProductType, ...] = ("bfloat16", "float16")
"""types in which torch's 2:4 is two of four: its float32 kernels want one of two"""


class Format:
    """How a sparse weight matrix lies in memory, and what multiplies it. Made without arguments.

    Attributes:
        sparsity: the only S that the format has; any where None.
        anywhere: whether zeros may lie where they like, so that a law of unstructured sparsity speaks of it.
        dtypes: types of weights and inputs that it multiplies; whole models are timed in the first.
        devices: on which it does.
        kernels: names of its implementations.
        operations: names of torch's operations, `namespace::name`, that are kernels of its own; none where its product
            is one of torch's with a compressed weight, or multiplies fewer numbers.
    """

    sparsity: float | None = None
    anywhere: bool = False
    dtypes: tuple[ProductType, ...] = WIDE
    devices: tuple[Literal["cpu", "cuda"], ...] = ("cpu", "cuda")
    kernels: tuple[str, ...] = ("torch",)
    operations: frozenset[str] = frozenset()

    def stored(self, width: float, sparsity: FloatArray) -> FloatArray:
        """Bytes of a weight, zero or not, of values of `width` bytes, in a matrix of S: what a product must read."""
        raise NotImplementedError

    def mask(self, shape: MatrixShape, sparsity: float) -> Tensor:
        """A mask with the zeros asked for, (outputs, inputs) bool, on the CPU; the same at every call.

        Raises:
            UnsupportedError: the shape does not fit, or the format has no such sparsity.
        """
        raise NotImplementedError

    def lay_out(self, weight_OI: Tensor, kernel: str) -> LaidOut:
        """A masked weight in the format, and its product with inputs; whatever is thrown is that it is not here."""
        raise NotImplementedError

    def kernel_here(self) -> str:
        """The implementation for a whole model."""
        return self.kernels[0]

    def note(self, shape: MatrixShape) -> str:
        """What there is to say of the kernel on a shape."""
        del shape
        return ""


class InFull(Format):
    """In full: what every other format is timed beside."""

    anywhere = True
    dtypes = (*WIDE, "float8", "int8")

    def stored(self, width: float, sparsity: FloatArray) -> FloatArray:
        """The width, whatever is zero."""
        return np.full_like(sparsity, width)

    def mask(self, shape: MatrixShape, sparsity: float) -> Tensor:
        """Zeros anywhere."""
        from sparsity_lab.hardware.formats import zeros_anywhere  # noqa: PLC0415 - facts need no torch

        return zeros_anywhere(shape, sparsity)

    def lay_out(self, weight_OI: Tensor, kernel: str) -> LaidOut:
        """The weight as it is."""
        from sparsity_lab.hardware.formats import in_full  # noqa: PLC0415

        del kernel
        return in_full(weight_OI)


class ByElement(Format):
    """By non-zero elements."""

    anywhere = True

    def stored(self, width: float, sparsity: FloatArray) -> FloatArray:
        """A value and its column for each weight that is not zero."""
        return np.asarray((1 - sparsity) * (width + INDEX_BYTES))

    def mask(self, shape: MatrixShape, sparsity: float) -> Tensor:
        """Zeros anywhere."""
        from sparsity_lab.hardware.formats import zeros_anywhere  # noqa: PLC0415

        return zeros_anywhere(shape, sparsity)

    def lay_out(self, weight_OI: Tensor, kernel: str) -> LaidOut:
        """Torch's CSR."""
        from sparsity_lab.hardware.formats import by_compressed  # noqa: PLC0415

        del kernel
        return by_compressed(weight_OI.to_sparse_csr())


class ByBlock(Format):
    """By non-zero square blocks, the largest that fit."""

    def stored(self, width: float, sparsity: FloatArray) -> FloatArray:
        """The values of the blocks that are left; their places are few."""
        return np.asarray((1 - sparsity) * width)

    def mask(self, shape: MatrixShape, sparsity: float) -> Tensor:
        """The nearest whole number of blocks."""
        from sparsity_lab.hardware.formats import block_of, zeros_in_blocks  # noqa: PLC0415

        return zeros_in_blocks(shape, sparsity, block_of(shape))

    def lay_out(self, weight_OI: Tensor, kernel: str) -> LaidOut:
        """Torch's BSR."""
        from sparsity_lab.hardware.formats import block_of, by_compressed  # noqa: PLC0415

        del kernel
        outputs, inputs = weight_OI.shape
        return by_compressed(weight_OI.to_sparse_bsr((block_of((outputs, inputs)),) * 2))

    def note(self, shape: MatrixShape) -> str:
        """The side of its blocks."""
        from sparsity_lab.hardware.formats import block_of  # noqa: PLC0415

        return f" in blocks of {block_of(shape)}"


class TwoOfFour(Format):
    """Two of every four inputs, by CUTLASS or cuSPARSELt."""

    sparsity = 0.5
    dtypes = HALVES
    devices = ("cuda",)
    kernels = ("cutlass", "cusparselt")

    def stored(self, width: float, sparsity: FloatArray) -> FloatArray:
        """Two values of four with their places, whatever else is zero."""
        return np.full_like(sparsity, (width + PLACE_BYTES) / 2)

    def mask(self, shape: MatrixShape, sparsity: float) -> Tensor:
        """Two of each four."""
        from sparsity_lab.hardware.formats import n_of_m  # noqa: PLC0415

        return n_of_m(shape, 2, 4, sparsity)

    def lay_out(self, weight_OI: Tensor, kernel: str) -> LaidOut:
        """Torch's semi-structured tensor."""
        from sparsity_lab.hardware.formats import semi_structured  # noqa: PLC0415

        return semi_structured(weight_OI, kernel)

    def kernel_here(self) -> str:
        """The vendor's, where this torch was built with it."""
        import torch  # noqa: PLC0415

        return self.kernels[torch.backends.cusparselt.is_available()]


BUILT_IN: dict[ProductFormat, type[Format]] = {"dense": InFull, "csr": ByElement, "bsr": ByBlock, "2:4": TwoOfFour}


@cache
def format_named(name: ProductFormat) -> Format:
    """The format of that name, built in or of an entry point.

    Raises:
        SpecError: there is none, or what is installed is no format.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]()
    outside = formats_outside()
    if name not in outside:
        raise SpecError("no such format of weights", field="format", found=name, expected=", ".join(known_formats()))
    with refusing(None, SpecError, f"format {name} cannot be used", field="format"):
        made = outside[name].load()()
    if not isinstance(made, Format):
        expected = "an entry point to a subclass of sparsity_lab.hardware.layouts.Format"
        raise SpecError(f"format {name} is none", field="format", found=outside[name].value, expected=expected)
    return made


def sparse_formats() -> tuple[ProductFormat, ...]:
    """Names of every format but dense, built-in ones first."""
    return tuple(name for name in known_formats() if name != "dense")
