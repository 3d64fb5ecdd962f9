"""What prepared data says of itself, and the shape a model must have to read it. Never imports torch.

Token ids are laid out alike for every tokenizer: 0 pads, 1 ends a document, then the tokenizer's own ids, then the
sentinels that the objective needs, then unused ids up to a multiple of 8 (matrix kernels like it). The tokenizer of a
pretrained model keeps that model's ids and vocabulary (`OwnIds`).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated, Final, Literal, assert_never

from pydantic import Field, ValidationError

from sparsity_lab.artifacts.paths import MANIFEST
from sparsity_lab.artifacts.reading import read_bytes
from sparsity_lab.data.own_ids import OwnIds
from sparsity_lab.data.tokenizer import asked_ids, asked_vocabulary
from sparsity_lab.errors import DataError, NotReadyError, first_problem, refusing
from sparsity_lab.specs.base import Spec
from sparsity_lab.specs.datasets import (
    Classification,
    DatasetSpec,
    DataShape,
    ImageDataset,
    MaskedTokens,
    NextToken,
    Objective,
    SpanCorruption,
    TextDataset,
    noise_counts,
    span_corruption_lengths,
)
from sparsity_lab.specs.fingerprint import canonical_json
from sparsity_lab.specs.sources import Glyphs

FORMAT: Final = 1
VOCABULARY_MULTIPLE = 8

Split = Literal["train", "heldout"]
SPLITS: tuple[Split, ...] = ("train", "heldout")
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Shard(Spec):
    """One file: Arrow IPC without compression, or, from earlier versions, compressed Parquet."""

    name: str
    split: Split
    sha256: Sha256
    """of the file's bytes"""
    size: int
    """bytes of the file"""
    rows: int
    """documents or pieces of documents (text), or images"""
    items: int
    """tokens (text) or images"""


class SplitCounts(Spec):
    """One side of the split."""

    documents: int
    """distinct documents or images"""
    duplicates: int
    """documents left out because one of the same normal form, or the same image, came before"""
    bytes: int
    """of text (UTF-8; ids that were given are 4 each) or pixels"""
    items: int
    """tokens, the one that ends each document included, or images"""
    sha256: Sha256
    """of the token ids in order (little-endian uint32), or of all pixels and then all labels (little-endian int32)"""


class NearDuplicates(Spec):
    """Held-out examples that are nearly in the training data, where they are not equal."""

    looked_at: int
    """held-out examples that were compared with all training ones: all, or as many of them, chosen by hash"""
    found: int
    """of these, which have a near-duplicate in training"""
    dropped: int = 0
    """training examples left out because they nearly equal a held-out one, where the spec asks for that"""


class Manifest(Spec):
    """Prepared data, complete: it is written last, so where it is, everything is."""

    version: Literal[1] = FORMAT
    spec: DatasetSpec
    source_sha256: Sha256
    """of the source's files (names below its folder, and content)"""
    tokenizer_sha256: str = ""
    """of `tokenizer.json`; empty for bytes and for images"""
    vocabulary: int = 0
    """token ids in use or reserved, padding and end included, sentinels apart; 0 for images"""
    own: OwnIds | None = None
    """ids of a pretrained model, sentinels and filling included; None where they are laid out as ours"""
    image: int = 0
    """side, pixels; 0 for text"""
    channels: int = 0
    classes: int = 0
    train: SplitCounts
    heldout: SplitCounts
    near_duplicates: NearDuplicates | None = None
    """None where an earlier version prepared the data"""
    label_conflicts: int | None = None
    """images left out as duplicates of one with another label; None for text"""
    location: str = ""
    """folder or `pyarrow.fs` URI (s3://, gs://, file://) of the shards; empty where they lie beside the manifest"""
    shards: tuple[Shard, ...]
    content_hash: Sha256
    """what the examples are made of, whenever, wherever and in however many shards they were prepared"""

    @property
    def shape(self) -> DataShape:
        """What a model must know, sentinels apart: see `model_shape`."""
        return DataShape(vocabulary=self.vocabulary, image=self.image, channels=self.channels, classes=self.classes)

    def counts(self, split: Split) -> SplitCounts:
        """Counts of one split."""
        return self.train if split == "train" else self.heldout


def content_hash(
    train: SplitCounts, heldout: SplitCounts, shape: DataShape, tokenizer_sha256: str, own: OwnIds | None = None
) -> str:
    """The data's part of a run's identity: SHA-256 over what decides examples, independent of place and sharding."""
    identity = {
        "format": FORMAT,
        "train": train.sha256,
        "heldout": heldout.sha256,
        "shape": shape.model_dump(mode="json"),
        "tokenizer": tokenizer_sha256,
        **({"own": own.model_dump(mode="json", exclude={"mask"})} if own else {}),
    }
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of prepared data.

    Raises:
        NotReadyError: nothing is prepared there.
        DataError: the manifest is damaged or of another format.
    """
    path = folder / MANIFEST
    if not os.path.lexists(path):
        raise NotReadyError(path, make_it="sparsity-lab prepare")
    content = read_bytes(path, DataError)
    with refusing(path, DataError, "damaged manifest"):
        try:
            known = Manifest.model_validate_json(content)
        except ValidationError as error:
            field, wrong, _ = first_problem(error)
            raise DataError(f"damaged manifest: {wrong}; prepare the data again", where=path, field=field) from None
        made = content_hash(known.train, known.heldout, known.shape, known.tokenizer_sha256, known.own)
    if known.content_hash != made:
        message = "damaged manifest: it does not say what it was hashed from; prepare the data again"
        raise DataError(message, where=path, field="content_hash", found=known.content_hash, expected=made)
    return known


def sentinels(objective: Objective) -> int:
    """How many sentinel tokens an objective needs; a mask is one."""
    match objective:
        case SpanCorruption():
            raw, _ = span_corruption_lengths(objective)
            return noise_counts(objective, raw)[1]
        case MaskedTokens():
            return 1
        case NextToken() | Classification():
            return 0
        case _:
            assert_never(objective)


def model_shape(manifest: Manifest, objective: Objective) -> DataShape:
    """What a model must know of prepared data under an objective: sentinels and rounding included.

    Raises:
        DataError: the objective cannot be asked of this data.
    """
    return _under(manifest.shape, objective, manifest.own)


def expected_shape(spec: DatasetSpec, objective: Objective) -> DataShape:
    """`model_shape`, before anything is prepared.

    Raises:
        NotReadyError: only the data can tell (the number of classes of pictures).
        DataError: the objective cannot be asked of this data, or the tokenizer's file cannot be read.
    """
    match spec:
        case TextDataset():
            own = asked_ids(spec.tokenizer)
            vocabulary = own.vocabulary if own else asked_vocabulary(spec.tokenizer)
            return _under(DataShape(vocabulary=vocabulary), objective, own)
        case ImageDataset(source=Glyphs() as source):
            return _under(DataShape(image=source.image, channels=1, classes=source.classes), objective)
        case ImageDataset():
            pictures = spec.source
            assert not isinstance(pictures, Glyphs), "which stands above"
            if pictures.classes is None:
                raise NotReadyError(f"the number of classes in {pictures.path}", make_it="sparsity-lab prepare")
            shape = DataShape(image=pictures.image, channels=pictures.channels, classes=pictures.classes)
            return _under(shape, objective)
        case _:
            assert_never(spec)


def _under(shape: DataShape, objective: Objective, own: OwnIds | None = None) -> DataShape:
    if isinstance(objective, Classification) != bool(shape.image):
        content = "images" if shape.image else "text"
        needed = "classification" if shape.image else "span-corruption, next-token or masked"
        raise DataError(f"cannot be asked of {content}", field="objective", found=objective.kind, expected=needed)
    if own is not None:
        if isinstance(objective, MaskedTokens):
            if own.mask is None:
                message = "the model's tokenizer has no mask ([MASK] or <mask>)"
                raise DataError(message, field="objective", found=objective.kind)
            return shape
        if (spans := sentinels(objective)) > len(own.sentinels):
            message = "the model's tokenizer has too few sentinels (<extra_id_0> and so on)"
            raise DataError(message, field="objective", found=len(own.sentinels), expected=str(spans))
        return shape
    total = shape.vocabulary + sentinels(objective) if shape.vocabulary else 0
    return shape.model_copy(update={"vocabulary": -(-total // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE})
