"""A folder appears whole, and what `transformers` makes of it computes what we do."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
)

from sparsity_lab.checkpoints.folder import FILES, write_folder
from sparsity_lab.checkpoints.tokenizer import tokenizer_files
from sparsity_lab.data.formats.pictures import decode
from sparsity_lab.data.own_ids import OwnIds
from sparsity_lab.data.tokenizer import EOS, ByteCodec
from sparsity_lab.errors import MachineError
from sparsity_lab.models.build import build_model
from sparsity_lab.models.huggingface import read_weights
from sparsity_lab.specs.models import DecoderDims, Dims, T5Dims, ViTDims

T5 = T5Dims(encoder_layers=1, decoder_layers=1, width=16, heads=2, ff=32, vocabulary=264)
VIT = ViTDims(layers=1, width=16, heads=2, ff=32, image=8, channels=3, patch=4, classes=5, pooling="mean")


def weights(dims: Dims) -> dict[str, torch.Tensor]:
    """Initial weights, the smaller half zero, as masks leave them."""
    found = {name: parameter.detach() for name, parameter in build_model(dims, 0).named_parameters()}
    return {name: weight * (weight.abs() >= weight.abs().median()) for name, weight in found.items()}


def test_text_to_logits(tmp_path: Path) -> None:
    write_folder(tmp_path / "t5", weights(T5), T5, tokenizer_files("", 258, 4))
    model, tokenizer = (
        AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "t5"),
        AutoTokenizer.from_pretrained(tmp_path / "t5"),
    )
    text = "masks <extra_id_1>"
    ids = tokenizer(text, return_tensors="pt").input_ids
    bytes_ = ByteCodec().encode([b"masks "])[0].tolist()
    assert ids.tolist() == [[*bytes_, 258 + 1, EOS]]
    ours = build_model(T5, 1)
    ours.load_state_dict(weights(T5))
    targets = torch.tensor([[5, 6, EOS]])
    with torch.no_grad():
        expected = ours.logits({"inputs": ids, "targets": targets})
        found = model(input_ids=ids, labels=targets).logits
        assert model.generate(ids, max_new_tokens=2).shape[0] == 1
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("own", [None, OwnIds(vocabulary=300, pad=7, end=7), OwnIds(vocabulary=300, pad=3, end=299)])
def test_ids_that_are_not_laid_out_as_ours_are_told_without_a_tokenizer(tmp_path: Path, own: OwnIds | None) -> None:
    dims = DecoderDims(layers=1, width=16, heads=2, ff=32, vocabulary=300, context=16)
    write_folder(tmp_path / "folder", weights(dims), dims, {}, own)
    config = AutoConfig.from_pretrained(tmp_path / "folder")
    assert (config.pad_token_id, config.eos_token_id) == ((0, 1) if own is None else (own.pad, own.end))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("given", ["pillow", "numpy"])
def test_pixels_to_logits(tmp_path: Path, pooling: str, channels: int, given: str) -> None:
    dims = VIT.model_copy(update={"pooling": pooling, "channels": channels})
    write_folder(tmp_path / "vit", weights(dims), dims, {})
    image = np.random.default_rng(0).integers(0, 256, (8, 8, channels), np.uint8)
    picture = Image.fromarray(image.squeeze()) if given == "pillow" else image
    processor = AutoImageProcessor.from_pretrained(tmp_path / "vit")
    options = {"input_data_format": "channels_last"} if given == "numpy" else {}
    pixels = processor(picture, return_tensors="pt", **options).pixel_values
    assert pixels.shape == (1, channels, 8, 8)
    ours = build_model(dims, 1)
    ours.load_state_dict(weights(dims))
    with torch.no_grad():
        model = AutoModelForImageClassification.from_pretrained(tmp_path / "vit").eval()
        found = model(pixels).logits
        expected = ours.logits({"images": torch.from_numpy(image)[None]})
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_images_are_resized_and_turned_to_the_channels_as_in_training(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (31, 19, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "PNG")
    write_folder(tmp_path / "vit", weights(VIT), VIT, {})
    processor = AutoImageProcessor.from_pretrained(tmp_path / "vit", use_fast=False)
    seen = processor(Image.fromarray(noise), return_tensors="pt").pixel_values[0].permute(1, 2, 0)
    assert np.abs(seen.numpy() * 127.5 + 127.5 - decode(stream.getvalue(), 8, 3, 255)).max() < 2
    assert processor(Image.fromarray(noise).convert("L"), return_tensors="pt").pixel_values.shape == (1, 3, 8, 8)


def test_zeros_are_zeros_and_nothing_else_is_there(tmp_path: Path) -> None:
    write_folder(tmp_path / "t5", weights(T5), T5, tokenizer_files("", 258, 4))
    assert {file.name for file in (tmp_path / "t5").iterdir()} < FILES
    assert [path.name for path in tmp_path.iterdir()] == ["t5"]
    found = read_weights(tmp_path / "t5", T5)
    for name, weight in weights(T5).items():
        assert torch.equal(found[name], weight)
        assert not torch.signbit(found[name][found[name] == 0]).any()


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    write_folder(tmp_path / "x", weights(T5), T5, tokenizer_files("", 258, 4))
    write_folder(tmp_path / "x", weights(VIT), VIT, {})
    assert not (tmp_path / "x" / "tokenizer.json").exists()
    assert json.loads((tmp_path / "x" / "config.json").read_text())["model_type"] == "siglip"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "x", weights(VIT), VIT, {})
    before = {file.name: file.read_bytes() for file in (tmp_path / "x").iterdir()}
    write: Callable[[Path, bytes], None] = sys.modules["sparsity_lab.checkpoints.folder"].write_bytes

    def fail(path: Path, content: bytes) -> None:
        if path.name == "model.safetensors":
            raise MachineError("no space left on the disk", where=path)
        write(path, content)

    monkeypatch.setattr("sparsity_lab.checkpoints.folder.write_bytes", fail)
    with pytest.raises(MachineError, match="no space left"):
        write_folder(tmp_path / "x", weights(T5), T5, {})
    assert {file.name: file.read_bytes() for file in (tmp_path / "x").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
