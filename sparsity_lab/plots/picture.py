"""A figure and its words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsity_lab.messages import Said

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure for a page.

    Attributes:
        name: of its files.
        title: above it.
        caption: how to read it.
        alt: for those who cannot see it.
        figure: drawn.
    """

    name: str
    title: Said
    caption: Said
    alt: Said
    figure: Figure
