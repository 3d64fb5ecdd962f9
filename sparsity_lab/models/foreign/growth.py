"""From a target of dense prunable weights to the configuration of an architecture of `transformers`.

As for our own families a shape is chosen of allowed depths and widths, and the feed-forward width bent to meet the
target, where a rule of the spec has it. How many weights a shape has is counted on its module.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import Any

from sparsity_lab.artifacts.reading import parse_json, read_bytes
from sparsity_lab.artifacts.weights import CONFIG
from sparsity_lab.errors import SpecError
from sparsity_lab.models.foreign.configuration import class_for, config_object, vision
from sparsity_lab.models.foreign.structure import weights_in_blocks
from sparsity_lab.models.huggingface_config import END, PAD
from sparsity_lab.specs.configs import Tree, at, evaluated, merged
from sparsity_lab.specs.datasets import Classification, DataShape, MaskedTokens, NextToken, Objective, SpanCorruption
from sparsity_lab.specs.models import HuggingFaceDims, HuggingFaceSpec, HuggingFaceTask

HeadsOf = Callable[[int], int | None]
"""the number of heads of a width; None where there is none"""
NEAREST = 3
"""widths on either side of the one that meets the target best without bending"""
WIDEST = 2**17
INFORMATIVE = frozenset(
    {
        "_name_or_path",
        "architectures",
        "auto_map",
        "dtype",
        "finetuning_task",
        "id2label",
        "label2id",
        "torch_dtype",
        "transformers_version",
    }
)
"""fields that decide neither shapes nor numbers here: weights are float32, classes those of the data"""


@dataclass(frozen=True)
class GrownShape:
    """A size that a spec's rules can make."""

    dims: HuggingFaceDims
    count: int
    layers: int
    proportions: tuple[int, int, int]
    """width, heads and feed-forward width"""


@dataclass(frozen=True)
class GrowthWish:
    """An architecture that is to grow for these data."""

    model: HuggingFaceSpec
    data: DataShape
    objective: Objective
    tree: Tree
    """the spec's configuration, fitted to the data"""

    def single(self) -> bool:
        """Whether the spec has one size only."""
        return not self.model.sizes

    def dims(self, width: int, heads: int, ff: int, layers: int) -> HuggingFaceDims | None:
        """The dimensions of one size; None where a rule gives no whole number.

        Raises:
            SpecError: a field that the architecture does not have, or that does not fit the data.
        """
        values = {"width": width, "heads": heads, "ff": ff, "layers": layers}
        tree = self.tree
        for name, rule in self.model.sizes:
            try:
                value = evaluated(rule, values)
            except ArithmeticError:
                return None
            if not math.isclose(value, round(value), abs_tol=1e-6) or round(value) < 1:
                return None
            tree = merged(tree, at(name, round(value)))
        config = config_object(tree)
        part = vision(config) or config
        return HuggingFaceDims(
            task=task_of(self.objective),
            config=json.dumps(tree),
            prunable=self.model.prunable,
            width=_number(part, "hidden_size", width),
            layers=_number(part, "num_hidden_layers", layers),
        )


def task_of(objective: Objective) -> HuggingFaceTask:
    """The task whose head predicts what an objective asks."""
    match objective:
        case NextToken():
            return "causal-lm"
        case SpanCorruption():
            return "encoder-decoder"
        case MaskedTokens():
            return "masked-lm"
        case Classification():
            return "image-classification"


def wish_for(model: HuggingFaceSpec, data: DataShape, objective: Objective) -> GrowthWish:
    """Read a spec's configuration and fit it to the data.

    Raises:
        SpecError: no such architecture or field; the configuration cannot be read, or does not fit the data.
    """
    written = json.loads(model.config)
    found = {} if model.path is None else _read(Path(model.path))
    tree = {name: value for name, value in merged(found, written).items() if name not in INFORMATIVE}
    if "quantization_config" in tree:
        message = "is of quantised weights, which cannot be trained"
        raise SpecError(message, field="config.quantization_config", expected="a configuration without it")
    plain = config_object({"model_type": tree.get("model_type")})
    asked = reduce(merged, (at(name, 1) for name, _ in model.sizes), written)
    for name in _unknown(plain, asked):
        raise SpecError(
            f"has no such field in transformers' configuration of {plain.model_type}",
            field=f"config.{name}" if _has(written, name) else f"sizes.{name}",
            expected=_like(plain, name),
        )
    fit = _fit_images if isinstance(objective, Classification) else _fit_text
    return GrowthWish(model, data, objective, fit(plain, tree, written, data, objective))


def _read(path: Path) -> Tree:
    file = path / CONFIG if path.is_dir() else path
    found = parse_json(read_bytes(file, SpecError), file, SpecError)
    if not isinstance(found, dict):
        raise SpecError("is no configuration", where=file)
    return found


def _unknown(plain: Any, written: Mapping[str, Any]) -> Iterator[str]:
    """Fields, dotted in sections, that the configuration does not have."""
    for name, value in written.items():
        if name == "model_type":
            continue
        inner = getattr(plain, name, None)
        if not hasattr(plain, name) and name not in {"rope_theta", "rope_scaling"}:  # as before transformers 5
            yield name
        elif isinstance(value, dict) and hasattr(inner, "to_dict"):
            yield from (f"{name}.{field}" for field in _unknown(inner, value))


def _has(tree: Mapping[str, Any], name: str) -> bool:
    head, _, rest = name.partition(".")
    return head in tree and (not rest or (isinstance(tree[head], dict) and _has(tree[head], rest)))


def _like(plain: Any, name: str) -> str:
    """The fields of a configuration whose names are most like one."""
    from difflib import get_close_matches  # noqa: PLC0415 - for an error alone

    known = [*plain.to_dict(), *plain.attribute_map]
    near = get_close_matches(name.rpartition(".")[2], known, n=3) or sorted(known)[:8]
    return f"one such as {', '.join(near)}"


def _fit_text(plain: Any, tree: Tree, written: Tree, data: DataShape, objective: Objective) -> Tree:
    """The tree with the data's vocabulary, and the ids of padding and end where it does not have its own."""
    if not data.vocabulary:
        raise SpecError("does not suit an objective of text", field="dataset", found="images", expected="text")
    if not hasattr(plain, "vocab_size"):
        parts = " and ".join(sorted(plain.sub_configs))
        message = f"has no vocab_size: {f'it is made of {parts}' if parts else 'no model of text'}"
        raise SpecError(message, field="config.model_type", found=plain.model_type, expected="a model of text alone")
    own = tree.get("vocab_size") == data.vocabulary and "vocab_size" not in written
    size = written.get("vocab_size", data.vocabulary)
    if not isinstance(size, int) or size < data.vocabulary:
        expected = f"at least the tokenizer's {data.vocabulary:,}, or no vocab_size: then it is taken from the data"
        raise SpecError("has no embedding for every token", field="config.vocab_size", found=size, expected=expected)
    ids: Tree = {"pad_token_id": PAD, "bos_token_id": None if _may_lack_begin(plain) else END, "eos_token_id": END}
    if isinstance(objective, SpanCorruption):
        ids["decoder_start_token_id"] = PAD
    if isinstance(objective, NextToken) and hasattr(plain, "is_decoder"):
        ids["is_decoder"] = True  # of architectures that are encoders unless told
    ids = {name: value for name, value in ids.items() if name not in written and not (own and name in tree)}
    if own:
        ids.pop("pad_token_id", None)  # a row that pads does not learn: nothing says that this one does
    fitted = merged(tree, {**ids, "vocab_size": size})
    _check_positions(config_object(fitted), objective)
    return fitted


def _may_lack_begin(plain: Any) -> bool:
    """Whether a configuration need not name a token of the beginning, which no data here have."""
    try:
        type(plain)(bos_token_id=None)
    except Exception:
        return False
    return True


def _check_positions(config: Any, objective: Objective) -> None:
    """Refuse sequences that are longer than a model's positions."""
    length = objective.input_length if isinstance(objective, SpanCorruption) else getattr(objective, "length", 0)
    most = getattr(config, "max_position_embeddings", None)
    if isinstance(most, int) and 0 < most < length:
        message = "has fewer positions than an example has tokens"
        raise SpecError(message, field="config.max_position_embeddings", found=most, expected=f"at least {length}")


def _fit_images(plain: Any, tree: Tree, written: Tree, data: DataShape, objective: Objective) -> Tree:  # noqa: ARG001
    """The tree with the data's classes, and their side and channels where it does not have its own."""
    if not data.image:
        raise SpecError("does not suit classification", field="dataset", found="text", expected="images")
    class_for(plain, "image-classification")
    part = vision(plain)
    if not hasattr(part, "num_channels") or hasattr(part, "num_patches"):
        message = "does not read pictures as they are: it has no num_channels, or takes them cut into patches"
        raise SpecError(message, field="config.model_type", found=plain.model_type)
    inside = part is not plain
    section: Tree = tree.get("vision_config", {}) if inside else tree
    prefix = "vision_config." if inside else ""
    sides: Tree = {"image_size": data.image, "num_channels": data.channels}
    for name, value in sides.items():
        found = section.get(name, value)
        if found not in (value, [value, value]) and hasattr(part, name):
            raise SpecError("does not fit the data", field=f"config.{prefix}{name}", found=found, expected=str(value))
    if isinstance(getattr(part, "image_size", None), list | tuple):
        sides["image_size"] = [data.image, data.image]
    if hasattr(part, "vision_use_head") and "vision_use_head" not in section:
        sides["vision_use_head"] = False  # classification takes the mean of patches
    fitted = merged(tree, {**({"vision_config": sides} if inside else sides), "num_labels": data.classes})
    patch = getattr(vision(config_object(fitted)), "patch_size", 1)
    if isinstance(patch, int) and data.image % patch:
        message = f"does not divide the image side {data.image}"
        raise SpecError(message, field=f"config.{prefix}patch_size", found=patch)
    return fitted


def _number(config: Any, name: str, otherwise: int) -> int:
    value = getattr(config, name, otherwise)
    return value if isinstance(value, int) and value > 0 else otherwise


def shapes_near(wish: GrowthWish, target: float, heads_of: HeadsOf, largest_bend: float) -> Iterator[GrownShape]:
    """Shapes of every allowed depth around a target of dense prunable weights.

    Args:
        wish: the architecture and the data.
        target: prunable weights.
        heads_of: as `HeadsOf`.
        largest_bend: factor by which the feed-forward width may be bent.

    Raises:
        SpecError: transformers cannot build a shape.
    """
    if wish.single():
        dims = wish.dims(1, 1, 1, 1)
        assert dims is not None, "nothing is computed"
        rule = wish.model.scaling
        usual = (rule.head_width * rule.minimum_heads, rule.minimum_heads)
        yield GrownShape(dims, weights_in_blocks(dims), dims.layers, (*usual, round(rule.ff_ratio * usual[0])))
        return
    for layers in wish.model.scaling.layers:
        at_width = partial(_at_width, wish, target, layers, heads_of, largest_bend)
        step = wish.model.scaling.width_multiple
        nearest, tried = max(round(math.sqrt(target / (12 * layers)) / step), 1), set[int]()
        while nearest not in tried:  # weights grow about with the square of the width
            tried.add(nearest)
            if counted := at_width(nearest * step, bent=False):
                nearest = min(max(round(nearest * math.sqrt(target / counted.count)), 1), WIDEST // step)
        for multiple in range(max(nearest - NEAREST, 1), nearest + NEAREST + 1):
            if shape := at_width(multiple * step, bent=True):
                yield shape


def _at_width(  # noqa: PLR0917
    wish: GrowthWish, target: float, layers: int, heads_of: HeadsOf, largest_bend: float, width: int, *, bent: bool
) -> GrownShape | None:
    """The shape of this depth and width whose feed-forward width fits best; None where the rules have none."""
    rule = wish.model.scaling
    heads, wished = heads_of(width), rule.ff_ratio * width
    if heads is None:
        return None

    def of(ff: float) -> GrownShape | None:
        units = max(round(ff / rule.ff_multiple), 1) * rule.ff_multiple
        dims = wish.dims(width, heads, units, layers)
        return None if dims is None else GrownShape(dims, weights_in_blocks(dims), layers, (width, heads, units))

    plain, more = of(wished), of(wished + 8 * rule.ff_multiple) if bent else None
    if plain is None or more is None or more.count == plain.count:
        return plain
    slope = (more.count - plain.count) / (8 * rule.ff_multiple)
    wanted = wished + (target - plain.count) / slope
    return of(min(max(wanted, wished / largest_bend), wished * largest_bend)) or plain
