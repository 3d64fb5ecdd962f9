"""A run's weights as a folder that `transformers` loads: configuration, weights, and how its inputs are made."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save

from sparsity_lab.artifacts.atomic import explained, write_bytes
from sparsity_lab.artifacts.weights import CONFIG, MODEL
from sparsity_lab.checkpoints.files import Weights, with_plain_zeros
from sparsity_lab.models.huggingface import to_huggingface
from sparsity_lab.specs.models import Dims, ViTDims

PROCESSOR = "preprocessor_config.json"
FILES = frozenset({CONFIG, MODEL, PROCESSOR, "tokenizer.json", "tokenizer_config.json"})
"""every name that is ever written"""


def write_folder(path: Path, weights: Weights, dims: Dims, tokenizer: Mapping[str, str]) -> None:
    """Write a Hugging Face folder; it appears whole, in place of one that is there.

    Args:
        path: the folder.
        weights: every parameter by our name, on the CPU.
        dims: shapes of the network.
        tokenizer: content of the tokenizer's files by name; empty without one.

    Raises:
        MachineError: the disk is full or the folder cannot be written.
    """
    config, tensors = to_huggingface(weights, dims)
    texts = {CONFIG: json.dumps(config, indent=2) + "\n", **tokenizer, **_processor(dims)}
    weights_file = save(with_plain_zeros(tensors), {"format": "pt"})
    _replace(path, {name: text.encode() for name, text in texts.items()} | {MODEL: weights_file})


def _processor(dims: Dims) -> dict[str, str]:
    """How `transformers` makes inputs of images, so that pixels 0..255 become -1..1 as in training."""
    if not isinstance(dims, ViTDims):
        return {}
    half = [0.5] * dims.channels
    side = {"height": dims.image, "width": dims.image}
    kind = "ViTImageProcessor" if dims.pooling == "cls" else "SiglipImageProcessor"
    content = {
        "image_processor_type": kind,
        "do_resize": True,
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
    new, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{what}") for what in ("new", "old"))
    try:
        for name, content in files.items():
            write_bytes(new / name, content)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        told = explained(error, folder)
        if told is None:
            raise
        raise told from error
    finally:
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)
