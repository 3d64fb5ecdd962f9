"""Dataset specs: where examples come from, how text becomes tokens, and what a model is asked to predict."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sparsity_lab.specs.base import Count, Spec, SpecFile, misfit
from sparsity_lab.specs.sources import ImageSource, TextSource, TokenFiles


class Bytes(Spec):
    """One token a byte (vocabulary 256 plus the special tokens)."""

    kind: Literal["bytes"]


class Bpe(Spec):
    """Byte-level BPE, trained on the training split."""

    kind: Literal["bpe"]
    vocabulary: Annotated[int, Field(ge=260, le=1_000_000)] = 1024
    training_bytes: Count | None = None
    """learn from about this many bytes of text, from the beginning of every large file, or group of small ones, its
    share; from all when absent"""


class TokenizerFile(Spec):
    """Any `tokenizer.json` of the `tokenizers` library."""

    kind: Literal["file"]
    path: str
    ids: Literal["own", "shifted"] | None = None
    """own: as the file has them, for a model that was trained with them, whose config.json lies beside it; shifted: by
    two, since 0 pads and 1 ends; own where such a config.json is there, when left out"""


class GivenIds(Spec):
    """No tokenizer: the source holds the ids of one that is known by its numbers alone."""

    kind: Literal["given"]
    vocabulary: Annotated[int, Field(ge=2, le=1 << 24)]
    """rows of the embedding: every id lies below"""
    end: Annotated[int, Field(ge=0)]
    """the id that ends a document"""

    @model_validator(mode="after")
    def _end_is_an_id(self) -> GivenIds:
        if self.end >= self.vocabulary:
            raise misfit(f"must lie below the vocabulary, {self.vocabulary}", "end")
        return self


NearDuplicatesAre = Literal["count", "drop"]
Tokenizer = Annotated[Bytes | Bpe | TokenizerFile | GivenIds, Field(discriminator="kind")]


class TextDataset(SpecFile):
    """Documents of text, tokenized."""

    kind: Literal["dataset"] = "dataset"
    content: Literal["text"]
    source: TextSource
    tokenizer: Tokenizer = Bytes(kind="bytes")
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """share of documents (by hash) that are never trained on"""
    near_duplicates: NearDuplicatesAre = "count"
    """what becomes of training documents that nearly equal a held-out one: they are counted, or left out"""
    shard_tokens: Count = 4_000_000
    """tokens in one shard, at most (a longer document is split over shards)"""

    @model_validator(mode="after")
    def _ids_are_given(self) -> TextDataset:
        if isinstance(self.source, TokenFiles) != isinstance(self.tokenizer, GivenIds):
            raise misfit("must be `given` where the source is `token-files`, and only there", "tokenizer", "kind")
        return self


class ImageDataset(SpecFile):
    """Labelled square images."""

    kind: Literal["dataset"] = "dataset"
    content: Literal["images"]
    source: ImageSource
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """share of images (by hash) that are never trained on"""
    near_duplicates: NearDuplicatesAre = "count"
    """what becomes of training images that nearly equal a held-out one: they are counted, or left out"""
    shard_examples: Count = 50_000
    """images in one shard, at most"""


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


class MaskedTokens(Spec):
    """BERT's objective (Devlin et al. 2019, section 3.1): name tokens, most of them hidden."""

    kind: Literal["masked"]
    length: Annotated[int, Field(ge=2, le=2**24)] = 128
    """tokens of one example; this is what D counts"""
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """share of tokens that are to be named, at least one: of ten, eight are hidden, one is a random one, one stays"""


class Classification(Spec):
    """Name the class of an image; D counts images."""

    kind: Literal["classification"]


Objective = Annotated[SpanCorruption | NextToken | MaskedTokens | Classification, Field(discriminator="kind")]


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
