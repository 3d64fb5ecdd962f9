"""Patterns: which sets of weights, its units, may be zero together.

A weight matrix (out, in) is a grid of units of height x width weights: single weights, blocks, rows or columns.
"""

from __future__ import annotations

from typing import Annotated, Literal, assert_never

from pydantic import Field, model_validator

from sparsity_lab.specs.base import Count, Spec
from sparsity_lab.specs.regimes.plugins import Plugin


class Unstructured(Spec):
    """Any weight may be zero."""

    kind: Literal["unstructured"] = "unstructured"
    within: Literal["tensor", "row"] = "tensor"
    """which weights are compared with one another: a whole tensor, or one output's inputs (Wanda)"""


class NofM(Spec):
    """At most n of every m consecutive weights along the input dimension are not zero."""

    kind: Literal["n:m"]
    n: Count | None = None
    """weights that stay in each group; when left out, the n that the asked sparsity needs"""
    m: Annotated[int, Field(ge=2)]

    @model_validator(mode="after")
    def _fewer(self) -> NofM:
        if self.n is not None and self.n >= self.m:
            raise ValueError(f"n must be smaller than m, found {self.n}:{self.m}")
        return self


class Block(Spec):
    """Whole blocks of height x width weights are zero; a block's score pools those of its weights."""

    kind: Literal["block"]
    height: Count
    """rows (outputs) of a block"""
    width: Count
    """columns (inputs) of a block"""
    pooling: Literal["average", "max"] = "average"


class Channel(Spec):
    """Whole rows (one output's weights) or columns (one input's weights) are zero."""

    kind: Literal["channel"]
    axis: Literal["rows", "columns"] = "rows"
    pooling: Literal["average", "max"] = "average"


Pattern = Annotated[Unstructured | NofM | Block | Channel | Plugin, Field(discriminator="kind")]


MatrixShape = tuple[int, int]
"""(out, in) of a weight matrix"""


def unit_shape(pattern: Pattern, shape: MatrixShape) -> MatrixShape:
    """Height and width of one unit in a matrix of this shape; patterns that are no grid choose single weights."""
    match pattern:
        case Unstructured() | NofM() | Plugin():
            return (1, 1)
        case Block():
            return (pattern.height, pattern.width)
        case Channel(axis="rows"):
            return (1, shape[1])
        case Channel():
            return (shape[0], 1)
        case _:
            assert_never(pattern)


def unit_size(pattern: Pattern, shape: MatrixShape) -> int:
    """Weights of one unit."""
    height, width = unit_shape(pattern, shape)
    return height * width
