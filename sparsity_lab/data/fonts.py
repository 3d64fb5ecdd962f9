"""Which characters can be told apart in the fonts that ship with matplotlib, and what they look like."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sparsity_lab.errors import DataError

FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-BoldOblique", "DejaVuSans-Oblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-BoldOblique", "DejaVuSansMono-Oblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-BoldItalic", "DejaVuSerif-Italic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralBolIta", "STIXGeneralItalic"),
)
FEWEST_FONTS = 8
"""a class must be in this many of them"""
EM = 64
"""font size at which characters are drawn before they are fitted into their box, pixels"""
STROKES = (0, 1, 2)
"""pixels (of an em of 64) by which strokes are widened on each side: one raster each"""
BOX = 0.8
"""longer side of a character relative to the side of its raster"""
SIGNATURE = 12
ALIKE = 0.92
"""cosine similarity of two 12 x 12 signatures above which a reader may take one for the other"""
PREFERRED = (
    *((0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A), (0x23, 0x26), (0x3F, 0x40), (0x391, 0x3C9), (0x410, 0x44F)),
    *((0x531, 0x587), (0x10D0, 0x10F6), (0x25A0, 0x25FF), (0x2600, 0x27BF), (0x2190, 0x21FF), (0x2200, 0x22FF)),
    *((0x21, 0x24F), (0x250, 0x2AF), (0x370, 0x52F), (0x1E00, 0x1FFF), (0x2010, 0x218F), (0x2300, 0x2BFF)),
)
"""ranges of code points, the best known first"""


@dataclass(frozen=True)
class Rasters:
    """Every class in every font that has it."""

    characters: tuple[str, ...]
    fonts: NDArray[np.int64]
    """(classes,): fonts that have the class"""
    first: NDArray[np.int64]
    """(classes,): index of the class's first font in `pixels`"""
    pixels: NDArray[np.uint8]
    """(sum of fonts, strokes, side, side): ink, 0..255; the outermost pixels are empty"""


@dataclass(frozen=True)
class _Font:
    face: ImageFont.FreeTypeFont
    points: frozenset[int]

    def strokes(self, point: int, side: int) -> NDArray[np.uint8]:
        """(strokes, side, side)."""
        inner = round(BOX * side)
        start = (side - inner) // 2
        raster = np.zeros((len(STROKES), side, side), np.uint8)
        raster[:, start : start + inner, start : start + inner] = self.fitted(point, STROKES, inner)
        return raster

    def fitted(self, point: int, strokes: Sequence[int], side: int) -> NDArray[np.uint8]:
        """The character's ink (strokes, side, side), its longer side filling the square, the shorter centred.

        `strokes` are the first of `STROKES`.
        """
        canvas, fitted = Image.new("L", (4 * EM, 4 * EM)), np.zeros((len(strokes), side, side), np.uint8)
        ImageDraw.Draw(canvas).text((EM, EM), chr(point), fill=255, font=self.face)
        box = canvas.getbbox()
        if box is None:
            return fitted
        left, top, right, bottom = box
        ink, width, height = canvas.crop(box), right - left, bottom - top
        for place, stroke in enumerate(strokes):
            if stroke:
                ink = _widen(ink)
            longer = max(width, height) + 2 * stroke
            x, y = (ink.width - longer) // 2, (ink.height - longer) // 2
            square = ink.crop((x, y, x + longer, y + longer))
            fitted[place] = np.asarray(square.resize((side, side), Image.Resampling.BILINEAR))
        return fitted


def _widen(image: Image.Image) -> Image.Image:
    """Ink a pixel wider on each side: every pixel as dark as the darkest of the nine about it."""
    ink = np.pad(np.asarray(image), 2)
    rows = np.maximum(np.maximum(ink[:-2], ink[1:-1]), ink[2:])
    return Image.fromarray(np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:]))


def font_files() -> list[Path]:
    """The fonts that glyphs are drawn from.

    Raises:
        DataError: matplotlib does not carry them.
    """
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    paths = [folder / f"{name}.ttf" for name in FONTS]
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise DataError("matplotlib's font is missing; install matplotlib again", where=missing)
    return paths


@functools.lru_cache(maxsize=4)
def rasterise(classes: int, side: int) -> Rasters:
    """The first `classes` characters that can be told apart, drawn on `side` x `side` pixels.

    Raises:
        DataError: the fonts hold fewer such characters, or are missing.
    """
    basic = ImageFont.Layout.BASIC
    fonts = [_Font(ImageFont.truetype(str(p), EM, layout_engine=basic), _points(p)) for p in font_files()]
    points = _distinct(fonts, classes)
    drawn = [[font.strokes(point, side) for font in fonts if point in font.points] for point in points]
    counts = np.array([len(one) for one in drawn])
    pixels = np.stack([strokes for one in drawn for strokes in one])
    return Rasters(tuple(map(chr, points)), counts, np.cumsum(counts) - counts, pixels)


def _points(path: Path) -> frozenset[int]:
    return frozenset(FT2Font(str(path)).get_charmap())


def _candidates(fonts: list[_Font]) -> Iterator[int]:
    seen: set[int] = set()
    for first, last in PREFERRED:
        for point in range(first, last + 1):
            if point not in seen and sum(point in font.points for font in fonts) >= FEWEST_FONTS:
                seen.add(point)
                yield point


def _distinct(fonts: list[_Font], classes: int) -> list[int]:
    """Greedy: a character joins when in no font it is like any that joined before, in whichever font."""
    points: list[int] = []
    signatures = np.zeros((classes * len(fonts), SIGNATURE * SIGNATURE), np.float32)
    count = 0
    for point in _candidates(fonts):
        drawn = [font.fitted(point, STROKES[:1], SIGNATURE) for font in fonts if point in font.points]
        new = np.stack(drawn).reshape(len(drawn), -1).astype(np.float32)
        new /= np.linalg.norm(new, axis=1, keepdims=True) + np.float32(1e-6)
        if new.any(axis=1).all() and float((new @ signatures[:count].T).max(initial=0)) <= ALIKE:
            signatures[count : count + len(new)] = new
            count += len(new)
            points.append(point)
        if len(points) == classes:
            return points
    raise DataError("too many classes", field="source.classes", found=classes, expected=f"at most {len(points)}")
