"""Every family agrees with its namesake in `transformers`, the weights being equal, and takes weights from there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from model_cases import DECODER, DECODER_TIED, NAMES, T5, VIT, VIT_MEAN, batch_of
from safetensors.torch import load_file, save_file
from transformers import (
    LlamaForCausalLM,
    PreTrainedModel,
    SiglipForImageClassification,
    T5ForConditionalGeneration,
    ViTForImageClassification,
)

from sparsity_lab.artifacts.weights import content_sha256
from sparsity_lab.errors import CheckpointError
from sparsity_lab.models.base import Batch, Model
from sparsity_lab.models.build import build_model, parameter_shapes
from sparsity_lab.models.count import other_count, prunable_count
from sparsity_lab.models.huggingface import read_weights, to_huggingface
from sparsity_lab.specs.models import Dims

CASES: list[tuple[Dims, type[PreTrainedModel]]] = [
    (T5, T5ForConditionalGeneration),
    (VIT, ViTForImageClassification),
    (VIT_MEAN, SiglipForImageClassification),
    (DECODER, LlamaForCausalLM),
    (DECODER_TIED, LlamaForCausalLM),
]
each_family = pytest.mark.parametrize(("dims", "kind"), CASES, ids=NAMES)


def randomised(dims: Dims) -> Model:
    """A model with noise on every weight, so that none is zero or one."""
    model = build_model(dims, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.empty_like(parameter).normal_(0.0, 0.1, generator=generator))
    return model


def weights_of(model: Model) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def write(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def folder_of(dims: Dims, folder: Path, **config: Any) -> Path:
    """A folder of a randomised model, some fields of its configuration changed; None takes a field out."""
    found, tensors = to_huggingface(weights_of(randomised(dims)), dims)
    changed = {**found, **config}
    return write(folder, {field: value for field, value in changed.items() if value is not None}, tensors)


def load(kind: type[PreTrainedModel], folder: Path) -> PreTrainedModel:
    model, told = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(told.values()), told
    return model.eval()


def arguments(batch: Batch) -> dict[str, torch.Tensor]:
    """A batch as their models take it."""
    if "images" in batch:
        return {"pixel_values": batch["images"].permute(0, 3, 1, 2) / 127.5 - 1, "labels": batch["labels"]}
    if "tokens" in batch:
        return {"input_ids": batch["tokens"], "labels": batch["tokens"]}
    return {"input_ids": batch["inputs"], "labels": batch["targets"]}


@each_family
def test_logits_and_loss_are_theirs(dims: Dims, kind: type[PreTrainedModel], tmp_path: Path) -> None:
    ours = randomised(dims)
    theirs = load(kind, folder_of(dims, tmp_path / "folder"))
    batch = batch_of(dims)
    if "targets" in batch:
        batch["targets"][1, 4:] = -100
    with torch.no_grad():
        expected = theirs(**arguments(batch))
        logits = expected.logits[:, :-1] if "tokens" in batch else expected.logits
        torch.testing.assert_close(ours.logits(batch), logits, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.loss(batch), expected.loss, rtol=1e-5, atol=1e-5)
    assert sum(p.numel() for p in theirs.parameters()) == prunable_count(dims) + other_count(dims)


@each_family
def test_what_transformers_saves_is_read_back(dims: Dims, kind: type[PreTrainedModel], tmp_path: Path) -> None:
    load(kind, folder_of(dims, tmp_path / "ours")).save_pretrained(tmp_path / "theirs")
    expected = weights_of(randomised(dims))
    for folder in ("ours", "theirs"):
        found = read_weights(tmp_path / folder, dims)
        assert set(found) == set(expected)
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_shards_are_read_and_hashed(tmp_path: Path) -> None:
    whole = folder_of(DECODER, tmp_path / "whole")
    LlamaForCausalLM.from_pretrained(whole).save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    expected = weights_of(randomised(DECODER))
    found = read_weights(tmp_path / "shards", DECODER)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    hashed = content_sha256(tmp_path / "shards", "huggingface")
    shard = min((tmp_path / "shards").glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x01")
    assert content_sha256(tmp_path / "shards", "huggingface") != hashed
    shard.unlink()
    with pytest.raises(CheckpointError, match=f"{shard.name}: shard is missing"):
        read_weights(tmp_path / "shards", DECODER)


def test_the_hash_is_of_configuration_and_weights_alone(tmp_path: Path) -> None:
    one, two = folder_of(DECODER, tmp_path / "one"), folder_of(DECODER, tmp_path / "two")
    (two / "README.md").write_text("not weights")
    assert content_sha256(one, "huggingface") == content_sha256(two, "huggingface")
    folder_of(DECODER, tmp_path / "two", rms_norm_eps=1e-5)
    assert content_sha256(one, "huggingface") != content_sha256(two, "huggingface")


def test_shapes_are_those_of_the_parameters() -> None:
    for dims, _ in CASES:
        expected = {name: tuple(p.shape) for name, p in build_model(dims, 0).named_parameters()}
        assert parameter_shapes(dims) == expected


@pytest.mark.parametrize(
    ("dims", "field", "value"),
    [
        (T5, "model_type", "mt5"),
        (T5, "num_heads", 4),
        (T5, "feed_forward_proj", "relu"),
        (T5, "feed_forward_proj", None),
        (T5, "tie_word_embeddings", True),
        (T5, "relative_attention_max_distance", 32),
        (T5, "num_decoder_layers", None),
        (VIT, "layer_norm_eps", 1e-6),
        (VIT, "patch_size", 2),
        (VIT, "qkv_bias", False),
        (DECODER, "rms_norm_eps", 1e-5),
        (DECODER, "num_key_value_heads", 1),
        (DECODER, "hidden_act", "gelu"),
        (DECODER, "vocab_size", 51),
        (DECODER_TIED, "tie_word_embeddings", None),
    ],
)
def test_another_architecture_is_refused_by_its_field(dims: Dims, field: str, value: Any, tmp_path: Path) -> None:
    folder = folder_of(dims, tmp_path / "folder", **{field: value})
    with pytest.raises(CheckpointError, match=rf"config.json: {field}: another architecture") as caught:
        read_weights(folder, dims)
    assert caught.value.expected == str(to_huggingface(weights_of(randomised(dims)), dims)[0][field])


@pytest.mark.parametrize(
    "rope",
    [{"rope_theta": 5e5}, {"rope_scaling": {"type": "linear", "factor": 2.0}}, {"rope_scaling": {"rope_type": "yarn"}}],
)
def test_other_rotary_positions_are_refused_as_old_files_say_them(rope: dict[str, Any], tmp_path: Path) -> None:
    folder = folder_of(DECODER, tmp_path / "folder", rope_parameters=None, **rope)
    with pytest.raises(CheckpointError, match=r"rope_parameters.rope_t.*another architecture"):
        read_weights(folder, DECODER)


def test_old_files_leave_out_what_goes_without_saying(tmp_path: Path) -> None:
    silent = dict.fromkeys(("rope_parameters", "num_key_value_heads", "head_dim", "hidden_act", "tie_word_embeddings"))
    folder = folder_of(DECODER, tmp_path / "folder", **silent)
    assert set(read_weights(folder, DECODER)) == set(parameter_shapes(DECODER))


def test_tensors_that_do_not_fit_are_named(tmp_path: Path) -> None:
    folder = folder_of(VIT, tmp_path / "folder")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    head = tensors.pop("classifier.weight")
    for changed, message in (
        ({}, "classifier.weight: tensor is missing"),
        (
            {"classifier.weight": head[:5].clone()},
            r"classifier.weight: tensor does not fit \(found \(5, 24\), expected \(7, 24\)",
        ),
        (
            {"classifier.weight": head, "vit.pooler.dense.bias": head[0].clone()},
            "vit.pooler.dense.bias: tensor has no place",
        ),
    ):
        save_file(tensors | changed, file)
        with pytest.raises(CheckpointError, match=message):
            read_weights(folder, VIT)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "config.json: no such file"),
        ("config.json", b"{", "config.json:1: cannot be read as JSON"),
        ("config.json", b"[]", "config.json: is no configuration"),
        ("model.safetensors", None, "no safetensors weights here"),
        ("model.safetensors", b"\x00" * 100, "model.safetensors: is damaged or no safetensors file"),
    ],
)
def test_a_folder_that_is_damaged(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    folder = folder_of(DECODER, tmp_path / "folder")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_weights(folder, DECODER)
