"""The first weights of a run that does not begin afresh."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

from torch import Tensor

from sparsity_lab import checkpoints
from sparsity_lab.artifacts.weights import content_sha256, opened
from sparsity_lab.checkpoints.files import not_finite, read_header
from sparsity_lab.checkpoints.plain import fingerprint_of
from sparsity_lab.errors import CheckpointError, refusing
from sparsity_lab.models import huggingface
from sparsity_lab.models.base import Model
from sparsity_lab.models.build import fitting, made_for_classes, parameter_shapes
from sparsity_lab.specs.fingerprint import fingerprint
from sparsity_lab.specs.models import Dims
from sparsity_lab.specs.runs import FileOrigin, Origin, RunOrigin
from sparsity_lab.training.checkpoint import copy_into

FAR_ABOVE = 1.1
"""times the loss of fresh weights"""
SPARSE_START = 0.01
"""share of zeros from which on first weights count as sparse: fewer are what rounding leaves of small weights"""


def origin_fingerprint(origin: Origin | None, data_hash: str) -> str | None:
    """Name of the run whose final weights a run begins with; None where they come from elsewhere."""
    return fingerprint(origin.run, data_hash) if isinstance(origin, RunOrigin) else None


def begin_with(model: Model, weights: Mapping[str, Tensor], origin: Origin, path: Path, data_hash: str) -> None:
    """Copy the weights of an origin, which lie at `path` on this machine, into whole ones of a model, in place.

    A head that is to be fresh stays as the model drew it.

    Raises:
        CheckpointError: the file is missing, damaged or other than the origin says, or a tensor does not fit: another
            shape, no floating-point numbers, NaN or infinity among them, or zeros alone.
    """
    fresh = _fresh(origin, model.dims)
    read = _read(origin, path, model.dims, data_hash, fresh)
    tensors = {name: _as_float32(weight, name, path) for name, weight in read.items() if name not in fresh}
    ours = {name for name, _ in model.named_parameters(remove_duplicate=False)}  # tied weights may be there twice
    for name in sorted(set(tensors) - ours):
        shape = tuple(tensors[name].shape)
        raise CheckpointError("tensor has no place in the architecture", where=path, field=name, found=shape)
    copy_into({name: weight for name, weight in weights.items() if name not in fresh}, tensors, path)
    if not any(bool(weights[name].any()) for name in model.prunable()):
        raise CheckpointError("holds no prunable weight that is not zero", where=path)


def check_file(origin: FileOrigin, path: Path, dims: Dims) -> None:
    """Hold the names and shapes of weights to begin with against an architecture, by headers alone.

    Raises:
        CheckpointError: a file is missing or damaged, the architecture is another, or a tensor does not fit.
    """
    fresh = _fresh(origin, dims)
    if origin.format == "huggingface":
        huggingface.check_folder(path, dims, fresh)
        return
    if header := read_header(path):
        found = {name: tuple(entry.shape) for name, entry in header.tensors.items()}
    else:
        with opened(path) as file:
            found = {name: file.shape(name) for name in file.names}
    expected = parameter_shapes(dims)
    tied = {"head.weight"} - expected.keys()  # which a file may hold all the same
    for name in sorted((found.keys() | expected.keys()) - tied - fresh):
        if name not in expected:
            message = "tensor has no place in the architecture"
            raise CheckpointError(message, where=path, field=name, found=found[name])
        if found.get(name) != expected[name]:
            message, known = "tensor does not fit", found.get(name)
            raise CheckpointError(
                message, where=path, field=name, found=known, expected=fitting(name, expected[name], dims)
            )


def check_start(loss: float, fresh: float, path: Path) -> None:
    """Refuse weights from elsewhere that do worse on these data than none: they were trained on other ids or pixels.

    Args:
        loss: held-out, of the first weights, nats.
        fresh: of fresh weights on the same examples, nats.
        path: where it lies.

    Raises:
        CheckpointError: the loss is no number, or far above that of fresh weights.
    """
    _check_loss(loss, path)
    if loss > FAR_ABOVE * fresh:
        message = (
            "begins far above fresh weights: it was trained with other token ids, or other images, than these data"
        )
        raise CheckpointError(
            message, where=path, field="held-out loss", found=f"{loss:.4g}", expected=f"below {fresh:.4g}"
        )


def check_dense(loss: float, sparsity: float, path: Path) -> None:
    """Refuse what cannot be pruned at once: a model of no use, or one that was pruned before.

    Args:
        loss: held-out, of the first weights, nats.
        sparsity: zeros among its prunable weights.
        path: where it lies.

    Raises:
        CheckpointError: the loss is no number, or 1 % or more of the weights are zero.
    """
    _check_loss(loss, path)
    if sparsity >= SPARSE_START:
        message, expected = "is sparse already, and is to be pruned at once", "dense weights, or method: masked"
        raise CheckpointError(message, where=path, field="sparsity", found=f"{sparsity:.3g}", expected=expected)


def _check_loss(loss: float, path: Path) -> None:
    if not math.isfinite(loss):
        raise CheckpointError("gives no loss", where=path, field="held-out loss", found=loss, expected="a number")


def _fresh(origin: Origin, dims: Dims) -> frozenset[str]:
    """Tensors of the architecture that are drawn, not read."""
    return made_for_classes(dims) if isinstance(origin, FileOrigin) and origin.head == "fresh" else frozenset()


def _read(origin: Origin, path: Path, dims: Dims, data_hash: str, fresh: frozenset[str]) -> dict[str, Tensor]:
    match origin:
        case RunOrigin():
            _check_same("fingerprint", fingerprint_of(path), origin_fingerprint(origin, data_hash), path)
            return checkpoints.read_weights(path)
        case FileOrigin():
            _check_same("sha256", content_sha256(path, origin.format), origin.sha256, path)
            from_elsewhere = origin.format == "huggingface"
            return huggingface.read_weights(path, dims, fresh) if from_elsewhere else checkpoints.read_weights(path)
        case _:
            assert_never(origin)


def _as_float32(weight: Tensor, name: str, path: Path) -> Tensor:
    """Weights of any floating-point type; integers and their like mean something else than their values."""
    if not weight.is_floating_point():
        found = str(weight.dtype).removeprefix("torch.")
        raise CheckpointError("holds no weights", where=path, field=name, found=found, expected="a floating-point type")
    with refusing(path, CheckpointError, "cannot be read as float32", field=name):
        weight = weight.float()
    nan, infinite = not_finite(weight)
    if nan or infinite:
        message = "holds weights that are no finite numbers as float32"
        raise CheckpointError(message, where=path, field=name, found=f"{nan} NaN, {infinite} infinite")
    return weight


def _check_same(field: str, found: str | None, expected: str | None, path: Path) -> None:
    if found != expected:
        message = "holds other weights than the run begins with"
        raise CheckpointError(message, where=path, field=field, found=found, expected=expected)
