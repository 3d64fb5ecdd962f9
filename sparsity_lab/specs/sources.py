"""Where examples come from: a union by `kind` for text, and one for images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from sparsity_lab.specs.base import Count, Fraction, LocalPath, Spec


class PythonStdlib(Spec):
    """The running interpreter's own library source: real text on every machine."""

    kind: Literal["python-stdlib"]
    maximum_bytes: Count | None = None
    """stop after this many bytes of text (whole files, in order of their hash); all of it when absent"""


class _Kept(Spec):
    """What lies in files."""

    path: LocalPath
    """a file or a folder, relative to the working directory or absolute"""


class TextFiles(_Kept):
    """Every file below a folder that matches a pattern; one file is one document."""

    kind: Literal["files"]
    pattern: str = "**/*.txt"
    """glob below the folder"""


class JsonLines(_Kept):
    """C4's own layout: JSON lines, plain, .gz or .zst, one document a line."""

    kind: Literal["jsonl"]
    pattern: str = "**/*.json*"
    """glob below the folder"""
    text_field: str = "text"


class ParquetText(_Kept):
    """Parquet files with a text column; one row is one document."""

    kind: Literal["parquet-text"]
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


class Pictures(Spec):
    """Encoded pictures (PNG, JPEG, ...) with a label each: what becomes of them."""

    image: Count
    """side to which images are resized, pixels"""
    channels: Literal[1, 3] = 3
    background: Annotated[int, Field(ge=0, le=255)] = 255
    """grey level of the page on which transparent images are seen, 0 (black) to 255 (white)"""
    classes: Count | None = None
    """number of classes; counted in the data when absent, but then nothing can be planned before preparing"""


class PictureColumns(Pictures):
    """Pictures in a column, and their labels in another."""

    image_column: str = "image"
    label_column: str = "label"


class ParquetImages(_Kept, PictureColumns):
    """Parquet files with encoded images and an integer label."""

    kind: Literal["parquet-images"]
    pattern: str = "**/*.parquet"


class ImageFolder(Pictures):
    """A folder of pictures for each class; classes are numbered in the order of the folders' names."""

    kind: Literal["image-folder"]
    path: str
    """the folder of the classes' folders"""
    pattern: str = "**/*"
    """glob below a class's folder; of what it matches, files named as pictures are read"""


class _OfHuggingface(Spec):
    """Which data set of the `datasets` library, and where it is."""

    kind: Literal["huggingface"]
    path: str
    """what `save_to_disk` wrote, which needs no library; else what `load_dataset` takes: a name of the hub, which may
    be in the cache already, or a folder of data files"""
    config: str | None = None
    """which of its configurations, where it has several"""
    split: Annotated[str, StringConstraints(pattern=r"^\w+(\.\w+)*$")] = "train"
    """which of its splits, whole"""
    revision: str | None = None
    """commit, tag or branch of the hub; a commit is the same data for ever"""


class HuggingfaceText(_OfHuggingface):
    """A split of a Hugging Face data set with a column of text; one row is one document."""

    text_column: str = "text"
    streaming: bool = False
    """read from where it lies whenever it is read, which is twice, and keep no copy of it"""


class HuggingfaceImages(_OfHuggingface, PictureColumns):
    """A split of a Hugging Face data set with a column of images and one of integer labels."""


Ending = Annotated[str, StringConstraints(to_lower=True)]
"""of members' names, in either case"""


class WebdatasetText(_Kept):
    """WebDataset: tar files in which the members of one sample follow one another and share a name up to its dot."""

    kind: Literal["webdataset"]
    pattern: str = "**/*.tar*"
    text_member: Ending = "txt"
    """ending of the member with the document: text or, where it ends in json, an object"""
    text_field: str = "text"
    """field of that object"""


class WebdatasetImages(_Kept, Pictures):
    """WebDataset: tar files of pictures, each followed or led by a member with its label."""

    kind: Literal["webdataset"]
    pattern: str = "**/*.tar*"
    image_members: tuple[Ending, ...] = ("jpg", "jpeg", "png", "webp")
    """endings of the member with the picture, of which a sample has one"""
    label_member: Ending = "cls"
    """ending of the member with the label: a whole number in digits or, where it ends in json, an object"""
    label_field: str = "label"
    """field of that object"""


class MdsText(_Kept):
    """MosaicML's streaming format: a folder of .mds shards, compressed or not, and their index.json."""

    kind: Literal["mds"]
    text_column: str = "text"


class MdsImages(_Kept, PictureColumns):
    """MosaicML's streaming format with a column of images and one of whole numbers."""

    kind: Literal["mds"]


class TokenFiles(_Kept):
    """Token ids one after the other: nanoGPT's .bin, or Megatron's with its .idx beside it."""

    kind: Literal["token-files"]
    pattern: str = "**/*.bin"
    dtype: Literal["uint16", "uint32"] = "uint16"
    """of an id, little-endian; an .idx says it itself"""
    document_tokens: Count | None = None
    """cut a file without an .idx into documents of so many ids; at the tokenizer's `end` when absent"""


TextSource = Annotated[
    PythonStdlib | TextFiles | JsonLines | ParquetText | HuggingfaceText | WebdatasetText | MdsText | TokenFiles,
    Field(discriminator="kind"),
]
ImageSource = Annotated[
    Glyphs | ParquetImages | ImageFolder | HuggingfaceImages | WebdatasetImages | MdsImages,
    Field(discriminator="kind"),
]

Patterned = TextFiles | JsonLines | ParquetText | ParquetImages | WebdatasetText | WebdatasetImages | TokenFiles
"""sources that are a file, or those files of a folder that match a pattern"""
