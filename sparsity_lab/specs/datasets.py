"""Dataset specs: where examples come from, how text becomes tokens, and what a model is asked to predict."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sparsity_lab.specs.base import Count, Fraction, Spec, SpecFile


class PythonStdlib(Spec):
    """The running interpreter's own library source: real text on every machine."""

    kind: Literal["python-stdlib"]
    maximum_bytes: Count | None = None
    """stop after this many bytes of text (whole files, in order of their hash); all of it when absent"""


class TextFiles(Spec):
    """Every file below a folder that matches a pattern; one file is one document."""

    kind: Literal["files"]
    path: str
    """folder, relative to the working directory or absolute"""
    pattern: str = "**/*.txt"
    """glob below the folder"""


class JsonLines(Spec):
    """C4's own layout: JSON lines, plain or .gz, one document a line."""

    kind: Literal["jsonl"]
    path: str
    """a file or a folder, relative to the working directory or absolute"""
    pattern: str = "**/*.json*"
    """glob below the folder"""
    text_field: str = "text"


class ParquetText(Spec):
    """Parquet files with a text column; one row is one document."""

    kind: Literal["parquet-text"]
    path: str
    pattern: str = "**/*.parquet"
    text_column: str = "text"


class Glyphs(Spec):
    """Characters drawn from the fonts that ship with matplotlib, each example a new drawing."""

    kind: Literal["glyphs"]
    classes: Annotated[int, Field(ge=2, le=800)] = 200
    """number of characters to tell apart"""
    examples: Count = 200_000
    """how many drawings to prepare, training and held-out together"""
    image: Annotated[int, Field(ge=8, le=256)] = 24
    """side of the image, pixels"""
    distortion: Fraction = 0.5
    """strength of the random affine map and stroke change, 0..1"""
    noise: Fraction = 0.1
    """standard deviation of the pixel noise, relative to full contrast"""
    clutter: Fraction = 0.3
    """chance that each of the background strokes is present"""
    imbalance: Annotated[float, Field(ge=0, le=3)] = 0.0
    """Zipf exponent of the class frequencies: the k-th class is drawn with a chance proportional to k^-imbalance"""
    variety: Fraction = 0.0
    """how much examples differ in difficulty: each one's distortion and noise are a share of the full strength, drawn
    uniformly from [1 - variety, 1]"""
    seed: int = 0


class ParquetImages(Spec):
    """Parquet files with encoded images (PNG, JPEG, ...) and an integer label."""

    kind: Literal["parquet-images"]
    path: str
    pattern: str = "**/*.parquet"
    image_column: str = "image"
    label_column: str = "label"
    image: Count
    """side to which images are resized, pixels"""
    channels: Literal[1, 3] = 3
    classes: Count | None = None
    """number of classes; counted in the data when absent, but then nothing can be planned before preparing"""


class Bytes(Spec):
    """One token a byte (vocabulary 256 plus the special tokens)."""

    kind: Literal["bytes"]


class Bpe(Spec):
    """Byte-level BPE, trained on the training split."""

    kind: Literal["bpe"]
    vocabulary: Annotated[int, Field(ge=260, le=1_000_000)] = 1024
    training_bytes: Count | None = None
    """learn from about this many bytes of text, from the beginning of every file its share; from all when absent"""


class TokenizerFile(Spec):
    """Any `tokenizer.json` of the `tokenizers` library."""

    kind: Literal["file"]
    path: str


TextSource = Annotated[PythonStdlib | TextFiles | JsonLines | ParquetText, Field(discriminator="kind")]
ImageSource = Annotated[Glyphs | ParquetImages, Field(discriminator="kind")]
Tokenizer = Annotated[Bytes | Bpe | TokenizerFile, Field(discriminator="kind")]


class TextDataset(SpecFile):
    """Documents of text, tokenized."""

    kind: Literal["dataset"] = "dataset"
    content: Literal["text"]
    source: TextSource
    tokenizer: Tokenizer = Bytes(kind="bytes")
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """share of documents (by hash) that are never trained on"""
    shard_tokens: Count = 4_000_000
    """tokens in one Parquet shard, at most (a longer document is split over shards)"""


class ImageDataset(SpecFile):
    """Labelled square images."""

    kind: Literal["dataset"] = "dataset"
    content: Literal["images"]
    source: ImageSource
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """share of images (by hash) that are never trained on"""
    shard_examples: Count = 50_000
    """images in one Parquet shard, at most"""


DatasetSpec = Annotated[TextDataset | ImageDataset, Field(discriminator="content")]


class SpanCorruption(Spec):
    """T5's objective (Raffel 2020, section 3.1.4): spans are replaced by sentinels, the decoder writes them."""

    kind: Literal["span-corruption"]
    input_length: Annotated[int, Field(ge=3, le=2**20)] = 128
    """encoder input tokens of one example (at least a token, a sentinel and the end); this is what D counts"""
    noise_density: Annotated[float, Field(gt=0, lt=1)] = 0.15
    mean_span: Annotated[float, Field(ge=1)] = 3.0


def noise_counts(objective: SpanCorruption, raw_length: int) -> tuple[int, int]:
    """Noise tokens and noise spans in `raw_length` raw tokens, by T5's rounding (Raffel 2020, section 3.1.4).

    At least one token and one span are noise, at least one token is not, and no two spans touch.

    Args:
        objective: noise density and mean span.
        raw_length: tokens before corruption, at least 2.

    Returns:
        (noise tokens, spans).
    """
    noise = min(max(round(raw_length * objective.noise_density), 1), raw_length - 1)
    spans = max(round(noise / objective.mean_span), 1)
    return noise, min(spans, raw_length - noise)


def span_corruption_lengths(objective: SpanCorruption) -> tuple[int, int]:
    """How many raw tokens one example takes, and how many target tokens it gives.

    The raw length is the largest whose corrupted inputs (what is not noise, one sentinel a span, the end token)
    fit `input_length`; the targets hold the noise tokens, one sentinel a span and the end token. T5's own setting,
    input 512 at density .15 and mean span 3, gives 568 raw and 114 target tokens.

    Returns:
        (raw length, target length), tokens.
    """

    def corrupted(raw: int) -> int:
        noise, spans = noise_counts(objective, raw)
        return raw - noise + spans + 1

    raw = objective.input_length - 1
    while corrupted(raw + 1) <= objective.input_length:
        raw += 1
    noise, spans = noise_counts(objective, raw)
    return raw, noise + spans + 1


class NextToken(Spec):
    """Predict each token from those before it."""

    kind: Literal["next-token"]
    length: Annotated[int, Field(ge=2, le=2**24)] = 128
    """tokens of one example; this is what D counts"""


class Classification(Spec):
    """Name the class of an image; D counts images."""

    kind: Literal["classification"]


Objective = Annotated[SpanCorruption | NextToken | Classification, Field(discriminator="kind")]


class DataShape(Spec):
    """What a model must know of prepared data: known from the manifest, or from the spec before preparing."""

    vocabulary: int = 0
    """tokens, special ones included; 0 for images"""
    image: int = 0
    """side, pixels; 0 for text"""
    channels: int = 0
    classes: int = 0

    @model_validator(mode="after")
    def _one_of_both(self) -> DataShape:
        if bool(self.vocabulary) == bool(self.image):
            raise ValueError("either text (vocabulary) or images (image, channels, classes)")
        return self
