"""Characters drawn from the fonts that ship with matplotlib: endless unique labelled images on every machine.

Each class is a character that most of the fonts have and that looks like no other class in any of them. It is
rasterised once per font and stroke width; an example is then a random affine view of one raster, with background
strokes and noise. Whole blocks of examples are drawn at once. Only additions, multiplications and raw random bits
decide a pixel, so the same release of FreeType gives the same images on every machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.data.fonts import STROKES, rasterise
from sparsity_lab.data.keyed import random_words, uniforms
from sparsity_lab.specs.sources import Glyphs

BLOCK = 128
"""examples drawn at once; fixed, for every example's randomness is that of its block"""
SEGMENTS = 3
"""background strokes an image may have"""
LARGEST_RASTER = 64
"""side of the rasters of large images, which are then enlarged, pixels"""


class GlyphPainter:
    """Draws the examples of one glyph dataset, block by block; example i depends on the spec and on i only."""

    def __init__(self, spec: Glyphs) -> None:
        self.spec = spec
        self.blocks = -(-spec.examples // BLOCK)
        self._raster = min(LARGEST_RASTER, max(16, spec.image * 5 // 4))
        self._rasters = rasterise(spec.classes, self._raster)
        self._ink = self._rasters.pixels.ravel()
        weights = np.arange(1, spec.classes + 1, dtype=np.float64) ** -spec.imbalance
        self._chances = np.round(np.cumsum(weights) / weights.sum() * 2**32) / 2**32
        self._chances[-1] = 1.0
        """upper ends of the classes' shares of [0, 1), (classes,); rounded, for processors round powers apart"""

    def block(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Examples BLOCK * index onwards: pixels (examples, side, side, 1) and labels (examples,)."""
        spec = self.spec
        draw = uniforms(BLOCK * (13 + 6 * SEGMENTS), "glyphs", spec.seed, index).reshape(-1, BLOCK)
        labels = np.searchsorted(self._chances, draw[0], side="right").astype(np.int32)
        strength = 1 - spec.variety * draw[-1]
        ink = 0.65 + 0.35 * draw[10]
        canvas = self._view(labels, draw, spec.distortion * strength) * ink[:, None, None].astype(np.float32)
        _add_segments(canvas, draw[12:-1].reshape(SEGMENTS, 6, BLOCK), spec.clutter)
        paper = (0.25 * draw[11])[:, None, None].astype(np.float32)
        canvas = (paper + canvas * (1 - paper)) * np.float32(255)
        canvas += self._noise(index, canvas.shape) * strength[:, None, None].astype(np.float32)
        pixels = np.clip(canvas, 0, 255, out=canvas).astype(np.uint8)[..., None]
        count = min(BLOCK, spec.examples - index * BLOCK)
        return pixels[:count], labels[:count]

    def _view(
        self, labels: NDArray[np.int32], draw: NDArray[np.float64], strength: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Each example's raster seen through its affine map, bilinear: (examples, side, side), 0..1."""
        side, raster = self.spec.image, self._raster
        font = (draw[1] * self._rasters.fonts[labels]).astype(np.int64)
        stroke = np.where(draw[2] < strength, draw[3] * len(STROKES), 0).astype(np.int64)
        start = ((self._rasters.first[labels] + font) * len(STROKES) + stroke) * raster * raster
        x, y = _coordinates(draw[4:10], side, raster, strength)
        column, row = x.astype(np.int32), y.astype(np.int32)
        x -= column
        y -= row
        corner = row * raster + column + start[:, None, None]
        top = self._mix(corner, x)
        top += (self._mix(corner + raster, x) - top) * y
        return top * np.float32(1 / 255)

    def _mix(self, corner: NDArray[np.int64], x: NDArray[np.float32]) -> NDArray[np.float32]:
        left: NDArray[np.float32] = self._ink.take(corner).astype(np.float32)
        right: NDArray[np.float32] = self._ink.take(corner + 1).astype(np.float32)
        right -= left
        right *= x
        left += right
        return left

    def _noise(self, index: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Bell-shaped noise of standard deviation 255 * noise: the sum of four random bytes, centred."""
        count = int(np.prod(shape))
        planes = random_words(-(-count // 2), "noise", self.spec.seed, index).view(np.uint8)[: 4 * count]
        total: NDArray[np.float32] = planes.reshape(4, count).sum(0, dtype=np.uint16).astype(np.float32)
        total -= np.float32(510)
        total *= np.float32(self.spec.noise * 255 / np.sqrt(4 * (256**2 - 1) / 12))
        return total.reshape(shape)


def _coordinates(
    draw: NDArray[np.float64], side: int, raster: int, strength: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where in its raster each pixel of each example lies: x and y, (examples, side, side).

    `draw` (6, examples) decides angle (up to 35 degrees), shear, width, height and shift, all times the strength.
    Maps are rounded to 2^-12, so that a last bit of sine or cosine, which processors round apart, decides nothing.
    """
    angle, shear, wide, high, right, down = (2 * draw - 1) * strength
    cosine, sine = np.cos(0.6 * angle), np.sin(0.6 * angle)
    width, height = raster / side * (1 + 0.35 * wide), raster / side * (1 + 0.35 * high)
    matrix = np.stack([width * cosine, width * (0.4 * shear * cosine - sine), height * sine, height * cosine])
    a, b, c, d = (np.round(matrix * 4096) / 4096).astype(np.float32)[:, :, None]
    grid = np.arange(side, dtype=np.float32) - np.float32((side - 1) / 2)
    centre = np.float32((raster - 1) / 2)
    shift_x, shift_y = (np.round(np.stack([right, down]) * 0.15 * raster * 4096) / 4096).astype(np.float32)
    x = (a * grid)[:, None, :] + (b * grid + (shift_x[:, None] + centre))[:, :, None]
    y = (c * grid)[:, None, :] + (d * grid + (shift_y[:, None] + centre))[:, :, None]
    largest = np.float32(raster - 1.001)
    return np.clip(x, 0, largest, out=x), np.clip(y, 0, largest, out=y)


def _add_segments(canvas: NDArray[np.float32], draw: NDArray[np.float64], chance: float) -> None:
    """Draw background strokes, in place, each in those examples where it is present."""
    side = canvas.shape[1]
    grid = np.arange(side, dtype=np.float32)
    for present, brightness, *ends in draw:
        chosen = np.flatnonzero(present < chance)
        x1, y1, x2, y2 = (np.round(np.stack(ends)[:, chosen] * side * 16) / 16).astype(np.float32)[:, :, None]
        dx, dy = x2 - x1, y2 - y1
        along = (grid - x1)[:, None, :] * (dx / (dx * dx + dy * dy + 1))[:, None]
        along = along + ((grid - y1) * (dy / (dx * dx + dy * dy + 1)))[:, :, None]
        np.clip(along, 0, 1, out=along)
        gap_x = (grid - x1)[:, None, :] - along * dx[:, None]
        gap_y = (grid - y1)[:, :, None] - along * dy[:, None]
        near = np.float32(1.5) - (gap_x * gap_x + gap_y * gap_y)
        np.clip(near, 0, 1, out=near)
        near *= (0.3 + 0.3 * brightness[chosen]).astype(np.float32)[:, None, None]
        canvas[chosen] = np.maximum(canvas[chosen], near)
