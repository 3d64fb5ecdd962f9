"""From a target of dense prunable weights to dimensions: the rule that keeps a family's sizes comparable."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial

from sparsity_lab.errors import SpecError
from sparsity_lab.models.count import paper_count, prunable_count
from sparsity_lab.specs.datasets import Classification, DataShape, NextToken, Objective, SpanCorruption
from sparsity_lab.specs.models import (
    DecoderDims,
    DecoderSpec,
    Dims,
    HuggingFaceSpec,
    ModelSpec,
    OwnSpec,
    ScalingRule,
    T5Dims,
    T5Spec,
    ViTDims,
    ViTSpec,
)

TOLERANCE = 0.03
"""largest relative difference between a target and the weights of its dimensions"""
GOOD_ERROR, GOOD_BEND, GOOD_HEADS = 0.01, 0.25, 0.5
"""a shape this close to the target (relative), to ff_ratio and to the heads' wished width (in log) is as good as any
other depth's: the shallowest is taken"""
NEAREST = 6
"""widths on either side of the ideal one that are tried: further ones bend the feed-forward width too much, or are so
close together that nearer ones meet the target as well"""
LARGEST_BEND = 3.0
"""the feed-forward width is never bent further from ff_ratio than by this factor"""
OBJECTIVES = {"t5": "span-corruption", "vit": "classification", "decoder": "next-token"}
"""the objective that suits each family"""


@dataclass(frozen=True)
class _Candidate:
    """One candidate: its dimensions, the weights that the rule counts, and how far it bends the family's proportions.

    `bend` is the larger of |ln(ff / (ff_ratio width))| / 25 % and |ln(head width / the wished one)| / 50 %.
    """

    dims: Dims
    layers: int
    count: int
    bend: float

    def error(self, target: float) -> float:
        """Relative difference to a target of weights."""
        return abs(self.count / target - 1)

    def rank(self, target: float, *, exact: bool) -> tuple[float, int, float]:
        """What the least of is taken."""
        error = self.error(target)
        if exact:
            return error, self.layers, 0.0
        strain = max(error / GOOD_ERROR, self.bend)
        return max(strain, 1.0), self.layers, strain


@dataclass(frozen=True)
class _Wish:
    """What `resolve_dims` is asked."""

    model: OwnSpec
    target: float
    shape: DataShape
    objective: Objective

    def at_depth(self, layers: int) -> Iterator[_Candidate]:
        """Shapes of one depth around the target: the widths next to the ideal one."""
        rule = self.model.scaling
        fixed, per_ff = _coefficients(self.model)
        stacks = 2 if isinstance(self.model, T5Spec) else 1
        per_square = fixed + per_ff * rule.ff_ratio if rule.size == "tensors" else 12 * stacks
        ideal = int(math.sqrt(self.target / (layers * per_square)) / rule.width_multiple)
        for multiple in range(max(ideal - NEAREST, 1), ideal + NEAREST + 1):
            yield from self._at_width(layers, multiple * rule.width_multiple)

    def _at_width(self, layers: int, width: int) -> Iterator[_Candidate]:
        """The shape of this depth and width whose feed-forward width fits best; none where no head count fits."""
        rule = self.model.scaling
        wished = wanted = rule.ff_ratio * width
        if rule.size == "tensors":
            fixed, per_ff = _coefficients(self.model)
            wanted = (self.target / layers - fixed * width**2) / (per_ff * width)
            wanted = min(max(wanted, wished / LARGEST_BEND), wished * LARGEST_BEND)
        ff = max(round(wanted / rule.ff_multiple), 1) * rule.ff_multiple
        heads = _heads(width, rule, even=isinstance(self.model, DecoderSpec))
        if heads is None:
            return
        dims = self._dims(layers, width, heads, ff)
        count = prunable_count(dims) if rule.size == "tensors" else paper_count(dims)
        yield _Candidate(dims, layers, count, _bend(width, heads, ff, rule))

    def _dims(self, layers: int, width: int, heads: int, ff: int) -> Dims:
        shape = self.shape
        match self.model, self.objective:
            case T5Spec() as model, SpanCorruption():
                return T5Dims(
                    encoder_layers=layers,
                    decoder_layers=layers,
                    width=width,
                    heads=heads,
                    ff=ff,
                    vocabulary=shape.vocabulary,
                    relative_buckets=model.relative_buckets,
                    relative_distance=model.relative_distance,
                )
            case ViTSpec() as model, Classification():
                return ViTDims(
                    layers=layers,
                    width=width,
                    heads=heads,
                    ff=ff,
                    image=shape.image,
                    channels=shape.channels,
                    patch=model.patch,
                    classes=shape.classes,
                    pooling=model.pooling,
                )
            case DecoderSpec() as model, NextToken() as objective:
                return DecoderDims(
                    layers=layers,
                    width=width,
                    heads=heads,
                    ff=ff,
                    vocabulary=shape.vocabulary,
                    context=objective.length,
                    tied_head=model.tied_head,
                )
            case _:
                raise ValueError(f"{self.objective.kind} does not suit {self.model.family}")


@lru_cache(maxsize=1024)
def resolve_dims(model: ModelSpec, dense_target: float, shape: DataShape, objective: Objective) -> Dims:
    """Turn a target of dense prunable weights into dimensions.

    With `size: tensors`, width and depth are chosen and the feed-forward width is then bent to meet the target. Of
    all shapes the one with the least strain is taken, strain being the largest of size error / 1 %, |ln(ff /
    (ff_ratio width))| / 25 % and |ln(head width / the wished one)| / 50 %; of depths with a shape of strain below 1 the
    shallowest wins. Finer multiples of the widths therefore keep sizes nearer to one shape.
    With `size: twelve_d_squared` the feed-forward width is ff_ratio width, and the shape whose 12 width^2 per layer
    comes nearest to the target is taken (the paper's ladder, arXiv 2309.08520, appendix A).

    Args:
        model: the family and its scaling rule.
        dense_target: prunable weights before pruning.
        shape: what the model must know of the data (vocabulary, or image side, channels and classes).
        objective: what is predicted; must suit the family.

    Raises:
        SpecError: the objective or the data do not suit the family, or no shape comes within 3 % of the target.
    """
    if isinstance(model, HuggingFaceSpec):
        return _resolve_foreign(model, dense_target, shape, objective)
    _check_fit(model, shape, objective)
    wish = _Wish(model, dense_target, shape, objective)
    candidates = [found for layers in model.scaling.layers for found in wish.at_depth(layers)]
    return _best(candidates, dense_target, model.family, exact=model.scaling.size == "twelve_d_squared")


def _resolve_foreign(model: HuggingFaceSpec, target: float, data: DataShape, objective: Objective) -> Dims:
    """The same for an architecture of `transformers`, whose weights are counted on its module."""
    from sparsity_lab.models.foreign import growth  # noqa: PLC0415 - a plan of own families needs no torch

    wish = growth.wish_for(model, data, objective)
    heads = partial(_heads, rule=model.scaling, even=True)
    shapes = list(growth.shapes_near(wish, target, heads, LARGEST_BEND))
    bends = [_bend(*one.proportions, model.scaling) for one in shapes]
    candidates = [_Candidate(one.dims, one.layers, one.count, bend) for one, bend in zip(shapes, bends, strict=True)]
    return _best(candidates, target, f"huggingface ({wish.tree['model_type']})", exact=False)


def _best(candidates: list[_Candidate], target: float, family: str, *, exact: bool) -> Dims:
    reached = [found for found in candidates if found.error(target) <= TOLERANCE]
    if not reached:
        raise _unreachable(family, target, {candidate.count for candidate in candidates})
    return min(reached, key=lambda found: found.rank(target, exact=exact)).dims


def _coefficients(model: OwnSpec) -> tuple[int, int]:
    """Prunable weights of one layer (T5: one of each stack) = first * width^2 + second * width * ff."""
    match model:
        case T5Spec():
            return 12, 6
        case ViTSpec():
            return 4, 2
        case DecoderSpec():
            return 4, 3


def _bend(width: int, heads: int, ff: int, rule: ScalingRule) -> float:
    """How far a shape bends the family's proportions, in units of what is good."""
    head_width = width / max(width / rule.head_width, rule.minimum_heads)
    of_heads = abs(math.log(width / heads / head_width)) / GOOD_HEADS
    return max(abs(math.log(ff / (rule.ff_ratio * width))) / GOOD_BEND, of_heads)


def _heads(width: int, rule: ScalingRule, *, even: bool) -> int | None:
    """The head count nearest to width / head_width that divides the width (rotary positions need an even head)."""
    counts = range(rule.minimum_heads, width + 1)
    allowed = [h for h in counts if width % h == 0 and not (even and (width // h) % 2)]
    return min(allowed, key=lambda h: abs(h - width / rule.head_width), default=None)


def _check_fit(model: OwnSpec, shape: DataShape, objective: Objective) -> None:
    if objective.kind != OBJECTIVES[model.family]:
        message = f"does not suit a {model.family} model"
        raise SpecError(message, field="objective", found=objective.kind, expected=OBJECTIVES[model.family])
    content, wanted = ("images" if shape.image else "text"), ("images" if model.family == "vit" else "text")
    if content != wanted:
        raise SpecError(f"does not suit a {model.family} model", field="dataset", found=content, expected=wanted)
    if isinstance(model, ViTSpec) and shape.image % model.patch:
        raise SpecError(f"does not divide the image side {shape.image}", field="patch", found=model.patch)


def _unreachable(family: str, target: float, counts: set[int]) -> SpecError:
    below = max((count for count in counts if count < target), default=None)
    above = min((count for count in counts if count > target), default=None)
    nearest = " and ".join(f"{count:,}" for count in (below, above) if count is not None) or "none"
    return SpecError(
        f"no {family} shape comes within {TOLERANCE:.0%} of {target:,.0f} dense prunable weights; "
        f"the nearest reachable sizes are {nearest}",
        field="nonzero",
    )
