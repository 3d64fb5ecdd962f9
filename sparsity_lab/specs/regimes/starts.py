"""Starts: the weights that training begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

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


class WeightsFile(Spec):
    """A file of weights under our parameter names, as `sparsity-lab export` writes."""

    kind: Literal["safetensors"]
    path: Path
    """the file; relative to the project folder"""


class HuggingFace(Spec):
    """A local Hugging Face folder (config.json, model.safetensors) of the same architecture."""

    kind: Literal["huggingface"]
    path: Path
    """the folder; relative to the project folder"""


Start = Annotated[Scratch | DenseRun | WeightsFile | HuggingFace, Field(discriminator="kind")]
