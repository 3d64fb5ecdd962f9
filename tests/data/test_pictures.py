from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms, TiffImagePlugin

from sparsity_lab.data.formats.pictures import decode

Image.init()
SIDE = 16
QUADRANTS = ((0, 0, 0), (255, 255, 255), (200, 40, 40), (40, 60, 180))
"""colours of the scene: upper left, upper right, lower left, lower right"""
MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"]
MODES += ["I", "F", "I;16", "I;16L", "I;16B"]
LOSSY = {"JPEG", "MPO", "WEBP", "AVIF", "ICNS"}
"""formats that are off by some levels"""
EIGHT_BITS = {"AVIF", "GIF", "WEBP"}
NO_WHITE = {"F", "I", "LAB"}
"""modes of which nobody can say how they look"""


def scene() -> NDArray[np.uint8]:
    corners = np.array(QUADRANTS, np.uint8).reshape(2, 2, 3)
    return np.repeat(np.repeat(corners, SIDE // 2, 0), SIDE // 2, 1)


def luma(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels).convert("L"))


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def grey(content: bytes, background: int = 255) -> NDArray[np.uint8]:
    return decode(content, SIDE, 1, background)[..., 0]


def in_mode(mode: str) -> tuple[Image.Image, NDArray[np.uint8]]:
    """The scene in a mode of Pillow, and how it looks: (side, side, 3)."""
    colours, levels = scene(), luma(scene())
    as_grey = np.repeat(levels[..., None], 3, 2)
    if mode.startswith("I;16"):
        order = ">u2" if mode.endswith("B") else "<u2"
        return Image.frombytes(mode, (SIDE, SIDE), (levels.astype(np.uint16) * 257).astype(order).tobytes()), as_grey
    if mode in {"I", "F"}:
        return Image.fromarray((levels * 257.0).astype(np.int32 if mode == "I" else np.float32)), as_grey
    return _in_colour(mode, colours) if mode not in {"1", "L", "LA", "La"} else _in_grey(mode, levels)


def _in_grey(mode: str, levels: NDArray[np.uint8]) -> tuple[Image.Image, NDArray[np.uint8]]:
    if mode == "1":
        plain = (levels > 127).astype(np.uint8) * 255
        return Image.fromarray(plain).convert("1"), np.repeat(plain[..., None], 3, 2)
    image = Image.fromarray(levels)
    return image if mode == "L" else image.convert("LA").convert(mode), np.repeat(levels[..., None], 3, 2)


def _in_colour(mode: str, colours: NDArray[np.uint8]) -> tuple[Image.Image, NDArray[np.uint8]]:
    image = Image.fromarray(colours)
    if mode == "LAB":
        to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        lab = ImageCms.applyTransform(image, to_lab)
        assert lab is not None
        return lab, colours
    if mode in {"P", "PA"}:
        return image.quantize(len(QUADRANTS)).convert(mode), colours
    return (image.convert("RGBA") if mode == "RGBa" else image).convert(mode), colours


def pairs() -> list[tuple[str, str]]:
    """Every (mode, format) that Pillow writes and reads, but where the writer itself cuts levels off."""
    found = []
    for mode in MODES:
        wide = mode.startswith("I") or mode == "F"
        for form in sorted(Image.SAVE.keys() & Image.OPEN.keys() - (EIGHT_BITS if wide else set())):
            try:
                saved(in_mode(mode)[0], form)
            except (OSError, ValueError, KeyError, TypeError, SystemError):
                continue
            found.append((mode, form))
    return found


PAIRS = pairs()


def test_every_mode_is_written_by_some_format() -> None:
    assert {mode for mode, _ in PAIRS} >= set(MODES) - {"La", "RGBa", "HSV", "I;16L"}


@pytest.mark.filterwarnings("ignore:IM image format:DeprecationWarning")
@pytest.mark.parametrize(("mode", "form"), PAIRS)
def test_each_mode_and_format_looks_as_drawn_or_is_refused(mode: str, form: str) -> None:
    image, looks = in_mode(mode)
    content = saved(image, form)
    if form in {"SPIDER", "EPS"} or (mode in NO_WHITE and Image.open(io.BytesIO(content)).mode in NO_WHITE - {"I"}):
        with pytest.raises((ValueError, OSError)):
            decode(content, SIDE, 3, 255)
        return
    if mode == "I" and form != "PPM":
        with pytest.raises(ValueError, match="do not say which value is white"):
            decode(content, SIDE, 3, 255)
        return
    off = np.abs(decode(content, SIDE, 3, 255).astype(int) - looks).reshape(2, SIDE // 2, 2, SIDE // 2, 3)
    assert off[:, 2:-2, :, 2:-2].max() <= (24 if form in LOSSY else 3)


def png(depth: int, kind: int, rows: bytes, *chunks: tuple[bytes, bytes], side: int = SIDE) -> bytes:
    """A PNG as the standard has it: `rows` of a square, each with its filter byte."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", side, side, depth, kind, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def ramp(depth: int) -> bytes:
    """Rows of grey that rise from 0 to the highest level."""
    levels = np.linspace(0, 2**depth - 1, SIDE).round().astype(np.int64)
    bits = np.unpackbits(levels.astype(">u2").view(np.uint8).reshape(SIDE, 2), axis=1)[:, 16 - depth :]
    return (b"\0" + np.packbits(bits.reshape(-1)).tobytes()) * SIDE


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("background", [0, 128, 255])
def test_grey_png_of_every_depth_has_its_levels_and_its_transparent_one(depth: int, background: int) -> None:
    highest = 2**depth - 1
    expected = np.linspace(0, highest, SIDE).round() / highest * 255
    assert np.abs(grey(png(depth, 0, ramp(depth))) - expected[None]).max() <= 1
    for transparent in {0, highest, highest // 2}:
        content = png(depth, 0, ramp(depth), (b"tRNS", struct.pack(">H", transparent)))
        on_page = np.where(np.linspace(0, highest, SIDE).round() == transparent, background, expected)
        if len(np.unique(on_page)) > 1:
            assert np.abs(grey(content, background) - on_page[None]).max() <= 1
        else:
            with pytest.raises(ValueError, match=f"vanishes on a background of {background}"):
                grey(content, background)


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.data())
@settings(max_examples=40, deadline=None)
def test_colours_under_full_transparency_are_never_seen(
    hidden: int, other: int, page: int, data: st.DataObject
) -> None:
    opaque = np.array(data.draw(st.lists(st.booleans(), min_size=16, max_size=16))).reshape(4, 4)
    colours = np.full((4, 4, 3), 255 - page, np.uint8)

    def drawn(level: int) -> bytes:
        under = np.where(opaque[..., None], colours, level).astype(np.uint8)
        return saved(Image.fromarray(np.dstack([under, opaque.astype(np.uint8) * 255])), "PNG")

    if page in {127, 128}:
        return
    seen = decode(drawn(hidden), 4, 3, page)
    assert (seen == decode(drawn(other), 4, 3, page)).all()
    assert (seen == np.where(opaque[..., None], 255 - page, page)).all()


@pytest.mark.parametrize("level", [0, 255])
def test_a_shape_of_the_colour_of_its_page_is_refused_on_that_page(level: int) -> None:
    alpha = np.asarray(Image.fromarray(luma(scene())))
    content = saved(Image.fromarray(np.dstack([np.full((SIDE, SIDE, 3), level, np.uint8), alpha])), "PNG")
    with pytest.raises(ValueError, match=f"vanishes on a background of {level}; choose another"):
        decode(content, SIDE, 3, level)
    assert len(np.unique(grey(content, 255 - level))) == 4


def test_a_palette_is_looked_up_with_its_transparency() -> None:
    image = Image.fromarray(scene()).quantize(4)
    palette = image.getpalette("RGB")
    assert palette is not None
    black = [palette[3 * k : 3 * k + 3] for k in range(4)].index([0, 0, 0])
    for content in (saved(image, form, transparency=black) for form in ("PNG", "GIF")):
        expected = scene()
        expected[:8, :8] = 90
        assert (decode(content, SIDE, 3, 90) == expected).all()
    half = bytes(128 if k == black else 255 for k in range(4))
    seen = decode(saved(image, "PNG", transparency=half), SIDE, 3, 255)
    assert abs(int(seen[0, 0, 0]) - 127) <= 1


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_s_orientation_is_followed(form: str, orientation: int) -> None:
    upright = np.asarray(Image.fromarray(luma(scene())).resize((64, 64), Image.Resampling.NEAREST))
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"tiffinfo": {274: orientation}} if form == "TIFF" else {"exif": exif.tobytes()}
    seen = decode(saved(Image.fromarray(np.ascontiguousarray(stored)), form, **options), 64, 1, 255)[..., 0]
    off = np.abs(seen.astype(int) - upright).reshape(2, 32, 2, 32)
    assert off[:, 4:-4, :, 4:-4].max() <= 12


def test_a_broken_orientation_is_passed_over() -> None:
    content = saved(Image.fromarray(scene()), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert (decode(content, SIDE, 3, 255) == scene()).all()


def test_profiles_lead_to_srgb() -> None:
    swapped = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (plain, swapped, b"no profile at all"):  # sRGB, one of other pixels, a broken one
        assert (decode(saved(Image.fromarray(scene()), "PNG", icc_profile=profile), SIDE, 3, 255) == scene()).all()
    linear = bytearray(plain)
    for tag in (b"rTRC", b"gTRC", b"bTRC"):  # the curve of each colour becomes the identity
        entry = linear.index(tag)
        place = struct.unpack(">I", linear[entry + 4 : entry + 8])[0]
        linear[place : place + 12] = b"curv" + bytes(8)
        linear[entry + 8 : entry + 12] = struct.pack(">I", 12)
    renamed = bytes(linear).replace("sRGB".encode("utf-16-be"), "line".encode("utf-16-be")).replace(b"sRGB", b"line")
    seen = decode(saved(Image.fromarray(scene()), "PNG", icc_profile=renamed), SIDE, 3, 255)[-1, 0].astype(int)
    light = np.array(QUADRANTS[2]) / 255
    expected = 255 * np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)
    assert np.abs(seen - expected).max() <= 3


@given(st.floats(0.2, 1.5))
@settings(max_examples=20, deadline=None)
def test_the_gamma_of_a_png_is_followed_and_srgb_goes_before_it(gamma: float) -> None:
    chunk = (b"gAMA", struct.pack(">I", round(gamma * 100_000)))
    expected = (np.linspace(0, 255, SIDE).round() / 255) ** (1 / (2.2 * gamma)) * 255
    assert np.abs(grey(png(8, 0, ramp(8), chunk)) - expected[None]).max() <= 1
    marked = png(8, 0, ramp(8), chunk, (b"sRGB", b"\0"))
    assert (grey(marked) == grey(png(8, 0, ramp(8)))).all()


def test_png_of_other_colours_is_refused() -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in scene())
    gamma = (b"gAMA", struct.pack(">I", 45455))
    wide = (b"cHRM", struct.pack(">8I", 31270, 32900, 73500, 26500, 11500, 82600, 15700, 1800))
    screen = (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))
    assert (decode(png(8, 2, rows, gamma, screen), SIDE, 3, 255) == scene()).all()
    assert (decode(png(8, 2, rows, (b"cICP", b"\1\x0d\0\1")), SIDE, 3, 255) == scene()).all()
    for chunks in ((gamma, wide), ((b"cICP", b"\x09\x10\0\1"),)):
        with pytest.raises(ValueError, match="its colours are of"):
            decode(png(8, 2, rows, *chunks), SIDE, 3, 255)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_several_frames_are_refused_and_one_is_not(form: str) -> None:
    first, second = Image.fromarray(scene()), Image.fromarray(255 - scene())
    with pytest.raises(ValueError, match="it holds 2 frames"):
        decode(saved(first, form, save_all=True, append_images=[second]), SIDE, 3, 255)
    assert decode(saved(first, form, save_all=True), SIDE, 3, 255).shape == (SIDE, SIDE, 3)


def test_the_previews_of_a_camera_are_no_frames() -> None:
    first, second = Image.fromarray(scene()), Image.fromarray(255 - scene())
    assert decode(saved(first, "MPO", save_all=True, append_images=[second]), SIDE, 3, 255)[0, 0].max() < 30


def tiff(levels: NDArray[np.uint16], photometric: int) -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = photometric
    return saved(Image.fromarray(levels), "TIFF", tiffinfo=tags)


def test_16_bits_are_scaled_and_white_may_be_zero() -> None:
    levels = np.repeat(np.linspace(0, 65535, SIDE).round().astype(np.uint16)[None], SIDE, 0)
    expected = (levels / 257).round()
    assert np.abs(grey(tiff(levels, 1)) - expected).max() <= 1
    inverted = tiff(levels, 1)
    place = inverted.index(struct.pack("<HHI", 262, 3, 1)) + 8
    assert np.abs(grey(inverted[:place] + b"\0\0" + inverted[place + 2 :]) - (255 - expected)).max() <= 1


def test_a_billion_pixels_are_refused_before_they_are_unpacked() -> None:
    bomb = png(8, 0, b"", side=31_623)
    with pytest.raises(Exception, match="decompression bomb"):
        decode(bomb, SIDE, 3, 255)
    with pytest.raises(Exception, match="decompression bomb"):
        decode(png(8, 0, b"", side=9_500), SIDE, 3, 255)


def test_no_other_program_is_started() -> None:
    with pytest.raises(OSError, match="cannot identify"):
        decode(saved(Image.fromarray(scene()), "EPS"), SIDE, 3, 255)
