"""Weights of an architecture of `transformers` as its own folder, and back; its code knows how files name them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from sparsity_lab.artifacts.reading import parse_json, read_bytes
from sparsity_lab.artifacts.weights import CONFIG, weight_files
from sparsity_lab.errors import CheckpointError, about, refusing
from sparsity_lab.models.foreign.configuration import class_for, config_object, image_side, library, vision
from sparsity_lab.models.foreign.growth import INFORMATIVE
from sparsity_lab.models.foreign.network import bare, constants, input_first
from sparsity_lab.models.foreign.structure import structure
from sparsity_lab.specs.configs import Tree
from sparsity_lab.specs.datasets import DataShape
from sparsity_lab.specs.models import HuggingFaceDims, HuggingFaceTask
from sparsity_lab.specs.regimes.starts import FRESH_HEAD

NO_MATTER = INFORMATIVE | {"num_labels", "problem_type", "text_config", "use_cache", "vision_use_head"}
"""fields that decide no number of a run's"""
NO_MATTER_WITH = ("drop", "_token_id", "output_", "return_dict", "initializer", "chunk_size", "loss", "aux")
"""parts of names of further ones: of training as others do it, and of generating"""
ONE_FILE = "1000GB"
TWO = 2
"""labels of a configuration that names none"""
HALF_PRECISION = 2**-8
"""how far a file in bfloat16 rounds what it holds, relatively"""
POSITIONS = "max_position_embeddings"


def saved(weights: Mapping[str, Tensor], dims: HuggingFaceDims) -> dict[str, bytes]:
    """The files of a folder that `transformers` loads, by name.

    Args:
        weights: every tensor of a run, of one type.
        dims: their architecture.
    """
    with library("initialization").no_init_weights():
        network = bare(dims)
    layouts, flipped = structure(dims).layouts, input_first(network)
    network.to(next(iter(weights.values())).dtype)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            held = weights[name] if name in weights else constants(dims)[name]
            tensor = layouts[name].seen(held) if name in layouts else held
            parameter.copy_(tensor.t() if name in flipped else tensor)
    with TemporaryDirectory() as folder:
        network.save_pretrained(folder, max_shard_size=ONE_FILE)
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def read_weights(path: Path, dims: HuggingFaceDims, without: Collection[str] = ()) -> dict[str, Tensor]:
    """The weights of a folder as tensors of a run, in float32.

    Args:
        path: the folder.
        dims: the architecture they must have.
        without: tensors of a head that is not read, whatever the folder has of it.

    Raises:
        CheckpointError: a file is missing or damaged, or the architecture is another: names field or tensor.
    """
    check_folder(path, dims, without)
    config = config_object(json.loads(dims.config))
    with refusing(path, CheckpointError, "cannot be read"):
        network, told = class_for(config, dims.task).from_pretrained(
            path,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=bool(without),
        )
    held = constants(dims)
    for name in sorted(told["missing_keys"] - set(without) - held.keys()):
        raise CheckpointError("tensor is missing", where=path, field=name)
    for name, found, expected in sorted(told["mismatched_keys"]):
        if name not in without:
            message, fits = "tensor does not fit", str(tuple(expected))
            raise CheckpointError(message, where=path, field=name, found=tuple(found), expected=fits)
    found = network.state_dict()
    for name, value in held.items():
        if not torch.allclose(found[name], value, rtol=HALF_PRECISION, atol=HALF_PRECISION):
            message = "holds other constants than the architecture computes, which a run could not keep"
            raise CheckpointError(message, where=path, field=name, expected="those of a new network")
    layouts, flipped = structure(dims).layouts, input_first(network)
    weights = {}
    for name, parameter in network.named_parameters():
        if name in without or name in held:
            continue
        tensor = parameter.detach().t().contiguous() if name in flipped else parameter.detach()
        weights[name] = layouts[name].laid_out(tensor) if name in layouts else tensor
    return weights


def check_folder(path: Path, dims: HuggingFaceDims, without: Collection[str] = ()) -> None:
    """Hold a folder's configuration against an architecture, and look for its weights; errors as `read_weights`."""
    found = _tree(path)
    with refusing(path / CONFIG, CheckpointError, "is no configuration"):
        config = config_object({name: value for name, value in found.items() if name not in INFORMATIVE})
    theirs, ours = config.to_dict(), config_object(json.loads(dims.config)).to_dict()
    if not hasattr(type(config)(), "image_size"):
        ours.pop("image_size", None)  # it takes images of any size, and ours was the data's
        theirs.pop("image_size", None)
    for field, value, expected in _differences(theirs, ours):
        raise CheckpointError(
            "another architecture", where=path / CONFIG, field=field, found=str(value), expected=str(expected)
        )
    labels = found.get("id2label")
    classes = len(labels) if isinstance(labels, dict) else theirs.get("num_labels", TWO)
    expected = json.loads(dims.config).get("num_labels")
    if dims.task == "image-classification" and classes != expected and not without:
        message, asked = "its head tells other classes apart", f"{expected}, those of the data, or {FRESH_HEAD}"
        raise CheckpointError(message, where=path / CONFIG, field="num_labels", found=classes, expected=asked)
    weight_files(path)


def dims_of(path: Path, task: HuggingFaceTask) -> HuggingFaceDims:
    """The dimensions of a folder's network with the head of a task.

    Raises:
        CheckpointError: the configuration is missing or damaged, or its architecture has no such head.
    """
    tree = _tree(path)
    labels = tree.get("id2label")
    kept = {name: value for name, value in tree.items() if name not in INFORMATIVE}
    if isinstance(labels, dict):
        kept["num_labels"] = len(labels)
    with refusing(path / CONFIG, CheckpointError, "is no configuration"):
        config = config_object(kept)
    with about(path / CONFIG):
        class_for(config, task)
    sizes = [getattr(vision(config) or config, name, 1) for name in ("hidden_size", "num_hidden_layers")]
    width, layers = (size if isinstance(size, int) else 1 for size in sizes)
    return HuggingFaceDims(task=task, config=json.dumps(kept), width=width, layers=layers)


def positions(path: Path) -> int | None:
    """The most tokens that a folder's configuration lets its network read; None where it sets no limit."""
    with refusing(path / CONFIG, CheckpointError, "is no configuration"):
        return _positions(config_object({n: v for n, v in _tree(path).items() if n not in INFORMATIVE}))


def most_positions(dims: HuggingFaceDims) -> int | None:
    """As `positions`, of a network's own configuration."""
    return _positions(config_object(json.loads(dims.config)))


def _positions(config: Any) -> int | None:
    found = getattr(config, POSITIONS, None)
    return found if isinstance(found, int) and found > 1 else None


def image_shape(dims: HuggingFaceDims) -> DataShape:
    """Side, channels and classes of a classifier."""
    config = config_object(json.loads(dims.config))
    part = vision(config)
    side, channels = image_side(part), getattr(part, "num_channels", None)
    if side is None or channels is None:
        message = "does not say how large its pictures are"
        raise CheckpointError(message, where=CONFIG, field="image_size", expected="a number of pixels")
    return DataShape(image=side, channels=channels, classes=config.num_labels)


def _tree(path: Path) -> Tree:
    found = parse_json(read_bytes(path / CONFIG, CheckpointError), path / CONFIG, CheckpointError)
    if not isinstance(found, dict):
        raise CheckpointError("is no configuration", where=path / CONFIG)
    return found


def _differences(theirs: Tree, ours: Tree) -> Iterator[tuple[str, Any, Any]]:
    """Fields that decide numbers and differ: name, what theirs says, what ours does."""
    for name in dict.fromkeys(("model_type", *ours, *theirs)):
        if name in NO_MATTER or any(part in name for part in NO_MATTER_WITH):
            continue
        found, expected = theirs.get(name), ours.get(name)
        if isinstance(found, dict) and isinstance(expected, dict):
            yield from ((f"{name}.{field}", *values) for field, *values in _differences(found, expected))
        elif found != expected:
            yield name, found, expected
