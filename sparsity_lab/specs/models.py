"""Model specs: a family and its rules (what a user writes), and dimensions (what a run trains).

A `ModelSpec` says *how* a family scales; the study's grid says how large. `models.dims.resolve_dims`
joins the two into `Dims`, which are complete: they alone decide every tensor's shape.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sparsity_lab.specs.base import Count, Distinct, PathOrUrl, Spec, SpecFile
from sparsity_lab.specs.configs import ConfigTree, SizeRules

Depth = Annotated[int, Field(gt=0, le=10_000)]
Side = Annotated[int, Field(gt=0, le=65_536)]
"""a width, or what a width is a multiple of: shapes are sought one by one, so larger ones would be sought for hours"""


class ScalingRule(Spec):
    """How a target of dense prunable weights becomes a shape that hardware likes."""

    layers: tuple[Depth, ...] = Field(default=(2,), min_length=1)
    """allowed depths (blocks per stack); of several that meet the target well, the shallowest is taken"""
    head_width: Side = 16
    """wished width of one attention head; the number of heads that comes nearest and divides the width is taken"""
    minimum_heads: Side = 1
    """heads even where the width asks for fewer: a narrow model with one head learns much more slowly"""
    ff_ratio: Annotated[float, Field(ge=1e-3, le=1e3)] = 2.0
    """wished feed-forward width over model width; bent a little to meet the target"""
    width_multiple: Side = 8
    """model width is a multiple of this"""
    ff_multiple: Side = 4
    """feed-forward width is a multiple of this"""
    size: Literal["tensors", "twelve_d_squared"] = "tensors"
    """what a target counts: the real prunable tensors, or the paper's 12 d^2 per layer"""


class T5Spec(SpecFile):
    """T5 v1.1 encoder-decoder: RMS norm, relative position buckets, gated GELU, untied head."""

    kind: Literal["model"] = "model"
    family: Literal["t5"]
    scaling: ScalingRule = ScalingRule()
    relative_buckets: Annotated[int, Field(ge=4)] = 32
    """number of relative position buckets"""
    relative_distance: Count = 128
    """distance in tokens beyond which all positions share a bucket; more than half of `relative_buckets`"""

    @model_validator(mode="after")
    def _reaches(self) -> T5Spec:
        if 2 * self.relative_distance <= self.relative_buckets:
            raise ValueError(
                f"relative_distance must exceed half of relative_buckets, found {self.relative_distance} "
                f"and {self.relative_buckets}"
            )
        return self


class ViTSpec(SpecFile):
    """Vision transformer: pre-norm, learned positions, CLS or mean pooling."""

    kind: Literal["model"] = "model"
    family: Literal["vit"]
    scaling: ScalingRule = ScalingRule(ff_ratio=4.0)
    patch: Side = 4
    """side of a square patch, pixels"""
    pooling: Literal["cls", "mean"] = "cls"
    """what the head reads: the class token or the mean of the patch tokens"""


class DecoderSpec(SpecFile):
    """Decoder-only language model: RMS norm, rotary positions, gated SiLU."""

    kind: Literal["model"] = "model"
    family: Literal["decoder"]
    scaling: ScalingRule = ScalingRule()
    tied_head: bool = False
    """share the output head's weights with the token embedding"""


NamePatterns = Annotated[tuple[str, ...], Distinct]


class PrunableNames(Spec):
    """Corrections to which weights can be pruned, by name patterns (as in a shell: *, ?, [..]) of parameters."""

    include: NamePatterns = ()
    """linear layers outside the blocks that are to count in N as well"""
    exclude: NamePatterns = ()
    """weights in blocks that count as dense, such as routers"""


class HuggingFaceSpec(SpecFile):
    """Any architecture of `transformers`: its configuration, and rules by which it grows."""

    kind: Literal["model"] = "model"
    family: Literal["huggingface"]
    path: PathOrUrl | None = None
    """a folder with a config.json, or such a file; relative to the project folder"""
    config: ConfigTree = "{}"
    """fields of the configuration, `model_type` first; they go before those of `path`"""
    sizes: SizeRules = ()
    """fields that make the size, of width, heads, ff and layers: `{hidden_size: width, intermediate_size: ff}`"""
    scaling: ScalingRule = ScalingRule()
    prunable: PrunableNames = PrunableNames()

    @model_validator(mode="after")
    def _counts_tensors(self) -> HuggingFaceSpec:
        if self.scaling.size != "tensors":
            raise ValueError("scaling.size must be tensors: only they are known of any architecture")
        if self.path is None and self.config == "{}":
            raise ValueError("one of path and config must say which architecture it is")
        return self


OwnSpec = T5Spec | ViTSpec | DecoderSpec
ModelSpec = Annotated[OwnSpec | HuggingFaceSpec, Field(discriminator="family")]


class T5Dims(Spec):
    """Every shape of a T5: `width` = heads * head_width."""

    family: Literal["t5"] = "t5"
    encoder_layers: Count
    decoder_layers: Count
    width: Count
    heads: Count
    ff: Count
    vocabulary: Count
    relative_buckets: Count = 32
    relative_distance: Count = 128


class ViTDims(Spec):
    """Every shape of a ViT: `width` = heads * head_width; images are square."""

    family: Literal["vit"] = "vit"
    layers: Count
    width: Count
    heads: Count
    ff: Count
    image: Count
    """side of the image, pixels"""
    channels: Count
    patch: Count
    classes: Count
    pooling: Literal["cls", "mean"] = "cls"


class DecoderDims(Spec):
    """Every shape of a decoder-only model: `width` = heads * head_width."""

    family: Literal["decoder"] = "decoder"
    layers: Count
    width: Count
    heads: Count
    ff: Count
    vocabulary: Count
    context: Count
    """tokens in one training example"""
    tied_head: bool = False


HuggingFaceTask = Literal["causal-lm", "encoder-decoder", "masked-lm", "image-classification"]


class HuggingFaceDims(Spec):
    """An architecture of `transformers` of one size."""

    family: Literal["huggingface"] = "huggingface"
    task: HuggingFaceTask
    """which of the architecture's heads it has"""
    config: ConfigTree
    """the fields that were written, and those of its size and data; the rest is as `transformers` has it"""
    prunable: PrunableNames = PrunableNames()
    width: Count
    layers: Count


OwnDims = T5Dims | ViTDims | DecoderDims
Dims = Annotated[OwnDims | HuggingFaceDims, Field(discriminator="family")]
