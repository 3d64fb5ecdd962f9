"""Starts: the weights that training begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from sparsity_lab.specs.base import Count, Positive, Seed, Spec


class Scratch(Spec):
    """Fresh weights, drawn from the run's seed."""

    kind: Literal["scratch"] = "scratch"


class DenseRun(Spec):
    """The final weights of a dense run of the same architecture and data, trained first where no store has it.

    It has the run's own training settings and its own full schedule of the learning rate; runs that prune the same
    architecture share it, and its cost is booked apart.
    """

    kind: Literal["dense-run"]
    data: Count | None = None
    """training tokens or images of the dense run; `times` when left out"""
    times: Positive = 1.0
    """data of the dense run as a multiple of the pruned run's own"""
    seed: Seed = 0
    """seed of the dense run: one for all, so that it is shared"""


Head = Literal["kept", "fresh"]
FRESH_HEAD = "a start with head: fresh"
"""what errors offer where a head does not fit"""


class WithHead(Spec):
    """Weights from outside, whose head may tell other classes apart."""

    head: Head = "kept"
    """of a classifier: that of the weights, or drawn anew from the run's seed for the classes of the data"""

    @model_serializer(mode="wrap")
    def _named_as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Runs from before there was a choice keep their names."""
        return {name: value for name, value in dump(self).items() if (name, value) != ("head", "kept")}


class WeightsFile(WithHead):
    """A file of weights under our parameter names, as `sparsity-lab export` writes."""

    kind: Literal["safetensors"]
    path: Path
    """the file; relative to the project folder"""


class HuggingFace(WithHead):
    """A local Hugging Face folder (config.json, model.safetensors) of the same architecture."""

    kind: Literal["huggingface"]
    path: Path
    """the folder; relative to the project folder"""


Start = Annotated[Scratch | DenseRun | WeightsFile | HuggingFace, Field(discriminator="kind")]
