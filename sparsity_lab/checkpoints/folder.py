"""A run's weights as a folder that `transformers` loads: configuration, weights, and how its inputs are made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from tokenizers import Tokenizer

from sparsity_lab.artifacts.atomic import folder_beside, write_bytes
from sparsity_lab.artifacts.weights import CONFIG, MODEL
from sparsity_lab.checkpoints.files import Weights, with_plain_zeros
from sparsity_lab.data.own_ids import OwnIds
from sparsity_lab.models.huggingface import to_huggingface
from sparsity_lab.specs.models import Dims, HuggingFaceDims, ViTDims

GENERATION = "generation_config.json"
PROCESSOR = "preprocessor_config.json"
RGB = 3
"""channels"""
BILINEAR = 2
"""as images are resized before training, in Pillow's numbers"""
FILES = frozenset({CONFIG, GENERATION, MODEL, PROCESSOR, "tokenizer.json", "tokenizer_config.json"})
"""every name that is ever written"""


def write_folder(
    path: Path, weights: Weights, dims: Dims, tokenizer: Mapping[str, str], own: OwnIds | None = None
) -> None:
    """Write a Hugging Face folder; it appears whole, in place of one that is there.

    Args:
        path: the folder.
        weights: every parameter by our name, on the CPU.
        dims: shapes of the network.
        tokenizer: content of the tokenizer's files by name; empty without one.
        own: the ids of padding and end, where they are not laid out as ours.

    Raises:
        MachineError: the disk is full or the folder cannot be written.
    """
    files: dict[str, bytes] = {}
    if isinstance(dims, HuggingFaceDims):
        from sparsity_lab.models.foreign.folder import saved  # noqa: PLC0415 - it needs an extra

        files = saved(with_plain_zeros(weights), dims)
        config = json.loads(files.pop(CONFIG))
    else:
        config, tensors = to_huggingface(weights, dims)
        files[MODEL] = save(with_plain_zeros(tensors), {"format": "pt"})
    dtype = str(next(iter(weights.values())).dtype).removeprefix("torch.")
    config |= {**_special_ids(tokenizer, own), "dtype": dtype}
    texts = {CONFIG: json.dumps(config, indent=2) + "\n", **tokenizer, **_processor(dims, config)}
    _replace(path, files | {name: text.encode() for name, text in texts.items()})


def _special_ids(tokenizer: Mapping[str, str], own: OwnIds | None) -> dict[str, int | None]:
    """Ids of padding and end as the data has them."""
    if own is not None:
        return {"pad_token_id": own.pad, "eos_token_id": own.end}
    if not tokenizer:
        return {}
    backend, said = Tokenizer.from_str(tokenizer["tokenizer.json"]), json.loads(tokenizer["tokenizer_config.json"])
    named = {f"{name}_id": said[name] for name in ("pad_token", "eos_token") if said[name] is not None}
    return {field: backend.token_to_id(name) for field, name in named.items()}


def _processor(dims: Dims, config: Mapping[str, Any]) -> dict[str, str]:
    """How `transformers` makes inputs of images, so that pixels 0..255 become -1..1 as in training."""
    said = config if "image_size" in config else config.get("vision_config", {})
    sees = dims.task == "image-classification" if isinstance(dims, HuggingFaceDims) else isinstance(dims, ViTDims)
    if not sees:
        return {}
    side = {"height": said["image_size"], "width": said["image_size"]}
    half = [0.5] * said["num_channels"]
    kind = "SiglipImageProcessor" if config["model_type"] == "siglip" else "ViTImageProcessor"
    content = {
        "image_processor_type": kind,
        "do_convert_rgb": said["num_channels"] == RGB,
        "do_resize": True,
        "resample": BILINEAR,
        "size": side,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": half,
        "image_std": half,
    }
    return {PROCESSOR: json.dumps(content, indent=2) + "\n"}


def _replace(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files to a new folder beside, then give it the name."""
    with folder_beside(folder) as beside:
        for name, content in files.items():
            write_bytes(beside / "new" / name, content)
        if folder.exists():
            folder.rename(beside / "old")
        (beside / "new").rename(folder)
