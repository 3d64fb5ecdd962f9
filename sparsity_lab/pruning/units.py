"""Units: the sets of weights that a pattern makes zero together. No torch: planning counts them too.

A weight matrix (out, in) is a grid of units of height x width weights: single weights, blocks, rows or columns.
"""

from __future__ import annotations

from typing import assert_never

from sparsity_lab.specs.regimes.patterns import Block, Channel, NofM, Pattern, Unstructured
from sparsity_lab.specs.regimes.plugins import Plugin

Shape = tuple[int, int]
"""(out, in) of a weight matrix"""


def unit_shape(pattern: Pattern, shape: Shape) -> Shape:
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


def unit_size(pattern: Pattern, shape: Shape) -> int:
    """Weights of one unit."""
    height, width = unit_shape(pattern, shape)
    return height * width
