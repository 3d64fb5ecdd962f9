"""What a trained model is worth on data of its own kind: perplexity of a text, accuracy on images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sparsity_lab.checkpoints.files import Weights
from sparsity_lab.data.own_ids import Tokens
from sparsity_lab.data.sources import class_folders, image_blocks
from sparsity_lab.errors import DataError
from sparsity_lab.models.base import Batch, Model
from sparsity_lab.models.build import build_model
from sparsity_lab.specs.datasets import DataShape
from sparsity_lab.specs.models import DecoderDims, Dims, HuggingFaceDims, HuggingFaceTask, ViTDims
from sparsity_lab.specs.sources import ImageFolder
from sparsity_lab.training.determinism import best_device
from sparsity_lab.training.inputs import to_device

TOP = 5
LONGEST = 2048
"""tokens of a window, where a folder's configuration allows more"""


@dataclass(frozen=True)
class TextScore:
    """How well a model of next tokens knows a text."""

    tokens: int
    """of the text, its end included"""
    predicted: int
    """all but the first"""
    bytes: int
    nats: float
    """of all tokens predicted"""

    @property
    def nats_per_token(self) -> float:
        """Mean cross-entropy."""
        return self.nats / self.predicted

    @property
    def perplexity(self) -> float:
        """Of a token."""
        return math.exp(min(self.nats_per_token, 700))

    @property
    def bits_per_byte(self) -> float:
        """Comparable between tokenizers: bits for all tokens over bytes of the text."""
        return self.nats / math.log(2) / self.bytes


@dataclass(frozen=True)
class ImageScore:
    """How many images a classifier knows."""

    images: int
    top_1: float
    """fraction whose label is the likeliest class"""
    top_5: float
    """fraction whose label is among the five likeliest, or among all of fewer classes"""


def restored_model(dims: Dims, weights: Weights) -> Model:
    """A network with its final weights, ready to be asked, on the best device there is.

    Args:
        dims: of the network.
        weights: of every tensor, in a run's shapes.
    """
    model = build_model(dims, 0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(model.seen(name, weights[name]))
    return model.eval().to(best_device())


def read_foreign(path: Path, task: HuggingFaceTask) -> tuple[Dims, Model]:
    """The dimensions and the network of a Hugging Face folder, with the head of a task.

    Raises:
        CheckpointError: the folder is damaged, or has no such head.
        MachineError: `transformers` is not installed.
    """
    from sparsity_lab.models.foreign import folder  # noqa: PLC0415 - it needs an extra

    dims = folder.dims_of(path, task)
    return dims, restored_model(dims, folder.read_weights(path, dims))


def window(path: Path) -> int:
    """Tokens that a Hugging Face folder's model reads at once, at most `LONGEST`; errors as `read_foreign`."""
    from sparsity_lab.models.foreign import folder  # noqa: PLC0415 - it needs an extra

    return min(folder.positions(path) or LONGEST, LONGEST)


def most_tokens(dims: Dims) -> int | None:
    """Tokens that a model of next tokens can read at once; None where it sets no limit."""
    if isinstance(dims, HuggingFaceDims):
        from sparsity_lab.models.foreign import folder  # noqa: PLC0415 - it needs an extra

        return folder.most_positions(dims)
    assert isinstance(dims, DecoderDims)
    return dims.context


def image_shape(dims: Dims) -> DataShape:
    """Side, channels and classes of a classifier."""
    if isinstance(dims, HuggingFaceDims):
        from sparsity_lab.models.foreign import folder  # noqa: PLC0415 - it needs an extra

        return folder.image_shape(dims)
    assert isinstance(dims, ViTDims)
    return DataShape(image=dims.image, channels=dims.channels, classes=dims.classes)


def folder_batches(source: ImageFolder, classes: int) -> Iterator[Batch]:
    """All pictures of a folder, in batches.

    Args:
        source: a folder for each class, numbered in the order of their names.
        classes: as many folders as there have to be.

    Raises:
        DataError: a picture cannot be read, or the folder has another number of classes.
    """
    folders = len(class_folders(source))
    if folders != classes:
        message, expected = "has another number of classes than the model", f"{classes} folders"
        raise DataError(message, where=source.path, found=f"{folders} folders", expected=expected)
    for block in image_blocks(source):
        yield {"images": torch.from_numpy(block.pixels), "labels": torch.from_numpy(block.labels.astype(np.int64))}


@torch.no_grad()
def text_score(model: Model, ids: Tokens, length: int, size: int, *, batch: int = 8) -> TextScore:
    """Predict every token of a text but the first, each from up to `length` - 1 before it.

    Windows overlap by one token, so that each is predicted once; the first of a window sees none before it, as in
    training.

    Args:
        model: of next tokens.
        ids: of the text, (tokens,), at least two.
        length: tokens of a window, of which the last is only predicted.
        size: bytes of the text.
        batch: windows at a time.
    """
    device, nats = next(model.parameters()).device, 0.0
    for windows_BL in _windows(ids, length, batch):
        made = to_device({"tokens": torch.from_numpy(windows_BL)}, device)
        logits, labels = model.logits(made).flatten(0, -2).double(), model.labels(made).flatten()
        nats += float(functional.cross_entropy(logits, labels, reduction="sum"))
    return TextScore(len(ids), len(ids) - 1, size, nats)


def _windows(ids: Tokens, length: int, batch: int) -> Iterator[np.ndarray[tuple[int, int], np.dtype[np.int64]]]:
    """(B, L) windows that share one token with the next; the rest of the text alone, in a shorter one."""
    whole = (len(ids) - 1) // (length - 1)
    begins = np.arange(whole) * (length - 1)
    for first in range(0, whole, batch):
        places_BL = begins[first : first + batch, None] + np.arange(length)
        yield ids[places_BL].astype(np.int64)
    if len(ids) - 1 > whole * (length - 1):
        yield ids[whole * (length - 1) :].astype(np.int64)[None]


@torch.no_grad()
def image_score(model: Model, batches: Iterable[Batch]) -> ImageScore:
    """Accuracy of a classifier on batches of images; of equally likely classes the first counts as likelier."""
    device, first, among, images = next(model.parameters()).device, 0, 0, 0
    for batch in batches:
        made = to_device(batch, device)
        logits_BC, labels_B = model.logits(made), model.labels(made)
        likelier_B = classes_before(logits_BC, labels_B)
        first += int((likelier_B == 0).sum())
        among += int((likelier_B < TOP).sum())
        images += len(labels_B)
    return ImageScore(images, first / images, among / images)


def classes_before(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """How many classes come before the label: (B,)."""
    own_B1 = logits_BC.gather(1, labels_B[:, None])
    earlier_BC = torch.arange(logits_BC.shape[1], device=logits_BC.device) < labels_B[:, None]
    return ((logits_BC > own_B1) | ((logits_BC == own_B1) & earlier_BC)).sum(1)
