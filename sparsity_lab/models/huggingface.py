"""Our weights as Hugging Face's `transformers` stores them, and back: same architecture, same logits.

| family | class of transformers |
|---|---|
| T5 | T5ForConditionalGeneration (v1.1: gated GELU, untied head) |
| ViT, class token | ViTForImageClassification |
| ViT, mean pooling | SiglipForImageClassification without its attention pooling: the mean of the normed patches |
| decoder | LlamaForCausalLM |

`transformers` itself is not imported.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path

from torch import Tensor

from sparsity_lab.artifacts.reading import parse_json, read_bytes
from sparsity_lab.artifacts.weights import CONFIG, OpenWeights, opened, weight_files
from sparsity_lab.errors import CheckpointError
from sparsity_lab.models.build import fitting, parameter_shapes
from sparsity_lab.models.huggingface_config import Config, config_of, misfits
from sparsity_lab.models.huggingface_names import IGNORED, their_names
from sparsity_lab.specs.models import Dims, HuggingFaceDims, OwnDims, ViTDims


def to_huggingface(weights: Mapping[str, Tensor], dims: OwnDims) -> tuple[Config, dict[str, Tensor]]:
    """The content of `config.json` and of `model.safetensors`.

    Args:
        weights: every parameter by our name; a tied head may be left out.
        dims: shapes of the network.

    Raises:
        KeyError: a parameter is missing.
    """
    names = their_names(dims, parameter_shapes(dims))
    tensors = {theirs: _to_theirs(ours, weights[ours], dims) for ours, theirs in names.items()}
    return config_of(dims), tensors


def read_weights(path: Path, dims: Dims, without: Collection[str] = ()) -> dict[str, Tensor]:
    """The weights of a Hugging Face folder under our names, in the type they are stored in.

    Args:
        path: a folder with `config.json` and `model.safetensors` (or its shards).
        dims: the architecture they must have.
        without: our names of a head's tensors, which are not read, whatever the folder has of them.

    Raises:
        CheckpointError: a file is missing or damaged, or the architecture is another: names the field or tensor, what
            was found and what was expected.
    """
    if isinstance(dims, HuggingFaceDims):
        from sparsity_lab.models.foreign import folder  # noqa: PLC0415 - it needs an extra

        return folder.read_weights(path, dims, without)
    shapes = parameter_shapes(dims)
    with ExitStack() as stack:
        weights = {}
        for ours, (theirs, file) in _held(path, dims, without, stack).items():
            weight: Tensor = file.tensor(theirs)
            if ours == "patch_embedding.weight" and isinstance(dims, ViTDims):
                weight = weight.permute(0, 2, 3, 1)
            weights[ours] = weight.reshape(shapes[ours])
    return weights


def check_folder(path: Path, dims: Dims, without: Collection[str] = ()) -> None:
    """Hold the configuration and the headers of the weights against an architecture; errors as `read_weights`."""
    if isinstance(dims, HuggingFaceDims):
        from sparsity_lab.models.foreign import folder  # noqa: PLC0415 - it needs an extra

        folder.check_folder(path, dims, without)
        return
    with ExitStack() as stack:
        _held(path, dims, without, stack)


def _held(path: Path, dims: OwnDims, without: Collection[str], stack: ExitStack) -> dict[str, tuple[str, OpenWeights]]:
    """Their name of each of our parameters, all of which fit, and the file that has it, opened."""
    _check_config(path / CONFIG, dims)
    shapes = parameter_shapes(dims)
    every = their_names(dims, shapes)
    names = {ours: theirs for ours, theirs in every.items() if ours not in without}
    files = [stack.enter_context(opened(file)) for file in weight_files(path)]
    place = {name: file for file in files for name in file.names}
    if missing := sorted(set(names.values()) - set(place)):
        raise CheckpointError("tensor is missing", where=path, field=missing[0])
    if surplus := sorted(set(place) - set(every.values()) - IGNORED):
        raise CheckpointError("tensor has no place in the architecture", where=path, field=surplus[0])
    for ours, theirs in names.items():
        file = place[theirs]
        found, expected = file.shape(theirs), _their_shape(ours, shapes[ours], dims)
        if found != expected:
            message = "tensor does not fit"
            raise CheckpointError(
                message, where=file.path, field=theirs, found=found, expected=fitting(ours, expected, dims)
            )
    return {ours: (theirs, place[theirs]) for ours, theirs in names.items()}


def _their_shape(ours: str, shape: tuple[int, ...], dims: OwnDims) -> tuple[int, ...]:
    match ours, dims:
        case "patch_embedding.weight", ViTDims():
            return (dims.width, dims.channels, dims.patch, dims.patch)
        case "cls_token", _:
            return (1, 1, *shape)
        case "positions", ViTDims(pooling="cls"):
            return (1, *shape)
        case _:
            return shape


def _to_theirs(ours: str, weight: Tensor, dims: OwnDims) -> Tensor:
    """Ours, in their shape: they order the inputs of a patch by channel, row, column, we by row, column, channel."""
    shape = _their_shape(ours, tuple(weight.shape), dims)
    if ours == "patch_embedding.weight" and isinstance(dims, ViTDims):
        weight = weight.view(dims.width, dims.patch, dims.patch, dims.channels).permute(0, 3, 1, 2)
    return weight.reshape(shape).contiguous()


def _check_config(path: Path, dims: OwnDims) -> None:
    found = parse_json(read_bytes(path, CheckpointError), path, CheckpointError)
    if not isinstance(found, dict):
        raise CheckpointError("is no configuration", where=path)
    for field, value, expected in misfits(found, dims):
        raise CheckpointError("another architecture", where=path, field=field, found=str(value), expected=str(expected))
