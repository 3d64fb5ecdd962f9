"""Configurations of `transformers`: which architecture, which head, and how large its pictures are."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from sparsity_lab.errors import MachineError, SpecError, refusing
from sparsity_lab.specs.configs import Tree
from sparsity_lab.specs.models import HuggingFaceTask

HEADS: Mapping[HuggingFaceTask, str] = {
    "causal-lm": "AutoModelForCausalLM",
    "encoder-decoder": "AutoModelForSeq2SeqLM",
    "masked-lm": "AutoModelForMaskedLM",
    "image-classification": "AutoModelForImageClassification",
}
"""the class of transformers for each task"""


def library(part: str = "") -> Any:
    """The package `transformers`, or a part of it; loaded when first asked for, which takes seconds.

    Raises:
        MachineError: it is not installed.
    """
    if find_spec("transformers") is None:
        message = "models of family huggingface need the package transformers"
        raise MachineError(message, expected="pip install 'sparsity-lab[huggingface]'")
    found = import_module(f"transformers.{part}" if part else "transformers")
    logging = import_module("transformers.utils.logging")
    logging.disable_progress_bar()  # bars of files that take no time
    logging.set_verbosity_error()  # what matters is checked here
    return found


def config_object(tree: Tree) -> Any:
    """The configuration of a tree of fields.

    Raises:
        SpecError: there is no such `model_type`, or its configuration refuses a field.
    """
    kind = tree.get("model_type")
    known = library("models.auto.configuration_auto").CONFIG_MAPPING
    if kind not in known:
        expected = "one that transformers knows, such as llama, qwen3, gpt2, bert, t5, vit"
        raise SpecError("no such architecture", field="config.model_type", found=kind, expected=expected)
    with refusing(None, SpecError, f"is no configuration of {kind}", field="config"):
        config = known[kind].from_dict(tree)
        config.architectures = config.architectures or []  # transformers looks through them where it has two heads
        return config


def class_for(config: Any, task: HuggingFaceTask) -> Any:
    """The class of transformers that has the task's head on this architecture."""
    head = getattr(library(), HEADS[task])
    if type(config) not in head._model_mapping:  # noqa: SLF001 - it has no other name
        others = [name for name, of in HEADS.items() if type(config) in getattr(library(), of)._model_mapping]  # noqa: SLF001
        expected = f"the objective of {' or '.join(others)}" if others else "another model_type"
        raise SpecError(
            f"has no head for {task}", field="config.model_type", found=config.model_type, expected=expected
        )
    return head


def vision(config: Any) -> Any:
    """The part of a configuration that describes images; None where nothing does.

    That is what has an `image_size`, or else `num_channels`: convolutions take images of any size.
    """
    parts = (config, getattr(config, "vision_config", None))
    told = (part for name in ("image_size", "num_channels") for part in parts if hasattr(part, name))
    return next(told, None)


def image_side(part: Any) -> int | None:
    """Pixels along a side of the images that a part of a configuration describes; None where it does not say."""
    found = getattr(part, "image_size", None)
    sides = found if isinstance(found, list | tuple) else [found]
    return sides[0] if isinstance(sides[0], int) and len(set(sides)) == 1 else None
