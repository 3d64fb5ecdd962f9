from __future__ import annotations

import numpy as np
import pytest

from sparsity_lab.data.fonts import FEWEST_FONTS, Rasters, rasterise
from sparsity_lab.data.glyphs import BLOCK, GlyphPainter
from sparsity_lab.errors import DataError
from sparsity_lab.specs.sources import Glyphs


def spec(**changes: object) -> Glyphs:
    return Glyphs.model_validate({"kind": "glyphs", "classes": 20, "examples": 300, "image": 20} | changes)


@pytest.fixture(scope="module")
def rasters() -> Rasters:
    return rasterise(60, 30)


def test_no_two_classes_look_alike_in_any_font(rasters: Rasters) -> None:
    plain = rasters.pixels[:, 0].reshape(len(rasters.pixels), -1).astype(np.float64)
    owner = np.repeat(np.arange(60), rasters.fonts)
    unit = plain / np.linalg.norm(plain, axis=1, keepdims=True)
    likeness = np.where(owner[:, None] == owner[None, :], 0, unit @ unit.T)
    assert likeness.max() < 0.95
    assert len(set(rasters.characters)) == 60
    assert (rasters.fonts >= FEWEST_FONTS).all()


def test_rasters_fill_their_box_and_widen(rasters: Rasters) -> None:
    ink = rasters.pixels.astype(np.int64).sum((2, 3))
    assert (ink[:, 0] > 0).all()
    assert (np.diff(ink, axis=1) > 0).mean() > 0.95
    border = rasters.pixels.copy()
    border[..., 1:-1, 1:-1] = 0
    assert not border.any(), "what lies outside a raster is empty"


def test_an_example_depends_on_the_spec_and_its_number_only() -> None:
    few, many = GlyphPainter(spec(examples=BLOCK + 7)), GlyphPainter(spec(examples=5 * BLOCK))
    late = many.block(1)
    assert [len(few.block(k)[1]) for k in range(few.blocks)] == [BLOCK, 7]
    assert np.array_equal(few.block(1)[0], late[0][:7])
    assert np.array_equal(few.block(1)[1], late[1][:7])


def test_every_setting_changes_the_drawings() -> None:
    settings = [{}, {"seed": 1}, {"noise": 0.2}, {"clutter": 0.9}, {"distortion": 0.9}, {"classes": 19}]
    drawings = [GlyphPainter(spec(**changes)).block(0)[0].tobytes() for changes in settings]
    assert len(set(drawings)) == len(settings)


def test_a_label_names_what_is_drawn() -> None:
    """Undistorted and clean, what an example resembles most among many others bears the same label."""
    clean = GlyphPainter(spec(distortion=0, noise=0, clutter=0, image=24))
    pixels, labels = clean.block(0)
    others = GlyphPainter(spec(distortion=0, noise=0, clutter=0, image=24, seed=9, examples=16 * BLOCK))
    blocks = [others.block(number) for number in range(others.blocks)]
    reference, reference_labels = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    nearest = (_unit(pixels) @ _unit(reference).T).argmax(1)
    assert (reference_labels[nearest] == labels).mean() > 0.97


def test_labels_are_balanced() -> None:
    painter = GlyphPainter(spec(examples=40 * BLOCK))
    labels = np.concatenate([painter.block(k)[1] for k in range(painter.blocks)])
    expected = len(labels) / 20
    assert np.abs(np.bincount(labels, minlength=20) - expected).max() < 5 * expected**0.5


def test_noise_has_the_asked_strength() -> None:
    clean, noisy = (GlyphPainter(spec(noise=noise)).block(0)[0].astype(np.float64) for noise in (0.0, 0.1))
    middle = (clean > 100) & (clean < 155)
    assert (noisy - clean)[middle].std() == pytest.approx(25.5, rel=0.05)


@pytest.mark.parametrize("image", [8, 24, 96])
def test_any_size_is_drawn(image: int) -> None:
    pixels, labels = GlyphPainter(spec(classes=3, image=image, examples=130)).block(1)
    assert pixels.shape == (2, image, image, 1)
    assert pixels.dtype == np.uint8
    assert labels.dtype == np.int32


def test_there_is_an_end_to_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparsity_lab.data.fonts.PREFERRED", ((0x30, 0x39),))
    with pytest.raises(DataError, match=r"classes: too many classes \(found 20, expected at most \d\)"):
        rasterise(20, 20)


def test_upper_and_lower_case_of_one_shape_are_one_class(rasters: Rasters) -> None:
    for letter in "coswxz":
        assert not {letter.upper(), letter} <= set(rasters.characters)


def _unit(images: np.ndarray) -> np.ndarray:
    flat = images.reshape(len(images), -1).astype(np.float64)
    flat -= flat.mean(1, keepdims=True)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)
