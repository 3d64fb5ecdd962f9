"""Encoded pictures to pixels as a person sees them. What has no one way to be seen is refused with the reason.

Viewers agree on this: a palette and a transparent colour are looked up, more than 8 bits a channel are scaled, what is
transparent lies on a page, a camera's orientation is followed, and profiles and gamma lead to the screen's sRGB. A
profile or EXIF block that is broken is passed over, as they do.
"""

from __future__ import annotations

import io
import warnings
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

PROGRAMS: Final = frozenset({"EPS", "WMF"})
"""formats that other programs would draw"""
FIRST_OF_MANY: Final = frozenset({"MPO", "PSD"})
"""formats whose first frame is the picture: cameras add previews, painters layers"""
SCALED: Final = frozenset({"PNG", "PPM"})
"""formats of whose 16 bits Pillow makes 32"""
ORIENTATION: Final = 0x0112
BITS, PHOTOMETRIC = 258, 262
"""tags of TIFF"""
TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SCREEN_GAMMA: Final = 2.2
SRGB_PRIMARIES: Final = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
"""white, red, green, blue: x and y of each"""


def decode(content: bytes, side: int, channels: int, background: int) -> NDArray[np.uint8]:
    """A picture as it is seen, squeezed to a square, not cropped.

    Args:
        content: an encoded file.
        side: of the square, pixels.
        channels: 3 for red, green and blue, 1 for grey.
        background: grey level of the page under what is transparent, 0..255.

    Returns:
        (side, side, channels).

    Raises:
        ValueError: it has no one way to be seen: several frames, pixels that do not say which is white, other
            primaries, or a shape that is not to be told from its background.
        Exception: whatever Pillow raises where the file is damaged or no picture.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = _opened(content)
        turn = TURNS.get(_orientation(image))
    colour, alpha = _colour_and_alpha(image)
    colour = _on_screen(colour, image, content)
    if alpha is not None:
        colour = _on_page(colour, alpha, background)
    upright = colour if turn is None else colour.transpose(turn)
    resized = upright.convert("RGB" if channels == 3 else "L").resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.uint8).reshape(side, side, channels)


def _opened(content: bytes) -> Image.Image:
    Image.init()
    image = Image.open(io.BytesIO(content), formats=sorted(Image.OPEN.keys() - PROGRAMS))
    if getattr(image, "is_animated", False) and image.format not in FIRST_OF_MANY:
        raise ValueError(f"it holds {getattr(image, 'n_frames', 'several')} frames, and which is meant is not said")
    image.load()
    depth, kind = content[24:26] if image.format == "PNG" else (8, 0)
    if "transparency" in image.info and kind == 0 and 1 < depth < 8:
        image.info["transparency"] *= 255 // (2**depth - 1)  # which Pillow leaves in the file's own levels
    return image


def _colour_and_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colour of 8 bits a channel (modes L, RGB, CMYK), and opacity (mode L) where there is any."""
    mode, transparent = image.mode, image.info.get("transparency")
    if mode.startswith("I;16") or mode in {"I", "F"}:
        return _eight_bits(image), _all_but(image, transparent)
    if mode in {"La", "RGBa"}:
        image = image.convert(mode.upper())
    elif mode in {"P", "PA"} or (transparent is not None and mode in {"1", "L", "RGB"}):
        image = image.convert("RGB" if mode == "P" and transparent is None and not _clear_palette(image) else "RGBA")
    elif mode in {"1", "RGBX", "YCbCr", "HSV"}:
        image = image.convert("L" if mode == "1" else "RGB")
    if image.mode in {"LA", "RGBA"}:
        *colours, alpha = image.split()
        return Image.merge(image.mode[:-1], colours), alpha
    if image.mode not in {"L", "RGB", "CMYK"}:
        raise ValueError(f"pixels of mode {mode} have no one look on a screen; store it in 8 or 16 bits a channel")
    return image, None


def _clear_palette(image: Image.Image) -> bool:
    return image.palette is not None and image.palette.mode == "RGBA"


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 12 or 16 bits, scaled so that the highest level stays white."""
    tags: Any = getattr(image, "tag_v2", {})
    wide = image.mode.startswith("I;16")
    if not wide and not (image.mode == "I" and image.format in SCALED):
        kind = "floating-point" if image.mode == "F" else "32-bit or signed"
        raise ValueError(f"{kind} pixels do not say which value is white; store it in 8 or 16 bits a channel")
    white = 2 ** int(tags.get(BITS, (16,))[0]) - 1
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > white:
        raise ValueError(f"levels beyond {white}")
    if wide and tags.get(PHOTOMETRIC) == 0:
        values = white - values
    return Image.fromarray(((values * 255 + white // 2) // white).astype(np.uint8))


def _all_but(image: Image.Image, transparent: object) -> Image.Image | None:
    """Opaque where a level is not the transparent one."""
    if not isinstance(transparent, int):
        return None
    return Image.fromarray(np.where(np.asarray(image) == transparent, 0, 255).astype(np.uint8))


def _on_screen(colour: Image.Image, image: Image.Image, content: bytes) -> Image.Image:
    """Colours as sRGB shows them, by the profile of the file, its gamma and its primaries."""
    if profile := image.info.get("icc_profile"):
        transform = _transform(bytes(profile), colour.mode)
        return ImageCms.applyTransform(colour, transform) or colour if transform is not None else colour.convert("RGB")
    if image.format == "PNG":
        _check_coding(content)
        if "srgb" not in image.info and (gamma := image.info.get("gamma")):
            primaries = image.info.get("chromaticity", SRGB_PRIMARIES)
            if colour.mode == "RGB" and np.abs(np.subtract(primaries, SRGB_PRIMARIES)).max() > 0.01:
                raise ValueError("its colours are of other primaries (cHRM); store it as sRGB or with a profile")
            exponent = 1 / (gamma * SCREEN_GAMMA)
            levels = np.round(255 * (np.arange(256) / 255) ** exponent).astype(int).tolist()
            return colour.point(levels * len(colour.getbands()))
    return colour.convert("RGB") if colour.mode == "CMYK" else colour


def _check_coding(content: bytes) -> None:
    """Code points for primaries and transfer (cICP) of PNG, which Pillow passes over."""
    place = content.find(b"cICP", 0, content.find(b"IDAT"))
    if place >= 0 and (content[place + 4] != 1 or content[place + 5] not in {1, 13}):
        raise ValueError("its colours are of another system than sRGB (cICP); store it as sRGB or with a profile")


@lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB; None where it is sRGB, is damaged, or is for other pixels."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(source):
            return None
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def _on_page(colour: Image.Image, alpha: Image.Image, background: int) -> Image.Image:
    page = Image.new("L", colour.size, background).convert(colour.mode)
    seen = Image.composite(colour, page, alpha)
    least, most = alpha.getextrema()
    if least != most and all(low == high for low, high in (band.getextrema() for band in seen.split())):
        raise ValueError(f"what it shows vanishes on a background of {background}; choose another")
    return seen


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # a damaged EXIF block is passed over, whatever Pillow makes of it
        return 1
    return found if isinstance(found, int) else 1
