"""A run is a value: one complete description of one training run, independent of where it is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sparsity_lab.specs.base import Count, Positive, Seed, Sparsity, Spec
from sparsity_lab.specs.choices import DataUnit
from sparsity_lab.specs.datasets import Classification, MaskedTokens, NextToken, Objective, SpanCorruption
from sparsity_lab.specs.models import Dims
from sparsity_lab.specs.regimes.regime import RegimeSpec, SparseRegime, sparse
from sparsity_lab.specs.regimes.starts import WithHead
from sparsity_lab.specs.training import Evaluation, Optimizer, Precision, RateSchedule


class RunOrigin(Spec):
    """A run begins with the final weights of another."""

    kind: Literal["run"] = "run"
    run: RunSpec


class FileOrigin(WithHead):
    """A run begins with weights from outside; known by what is in them, not by where they lie."""

    kind: Literal["file"] = "file"
    format: Literal["safetensors", "huggingface"]
    sha256: str
    """of the file, or of the folder's config and weights"""


Origin = Annotated[RunOrigin | FileOrigin, Field(discriminator="kind")]


class RunSpec(Spec):
    """Everything that decides a run's numbers, but the data (known by its hash) and the engine (by its version)."""

    model: Dims
    objective: Objective
    regime: RegimeSpec
    """with everything resolved: n of an n:m, versions of plug-ins, and its start moved to `origin`"""
    origin: Origin | None = None
    """where the first weights come from; fresh from the seed when None"""
    sparsity: Sparsity
    """asked final sparsity of the prunable weights"""
    batch: Count
    steps: Annotated[int, Field(ge=0)]
    """0 only of weights that are pruned at once and not trained on"""
    optimizer: Optimizer
    peak_learning_rate: Positive
    schedule: RateSchedule
    precision: Precision
    evaluation: Evaluation
    seed: Seed
    """decides initial weights and the order of examples"""

    def share(self, step: int) -> float:
        """Of its steps that are done after `step`; 1 where it has none."""
        return step / self.steps if self.steps else 1.0

    @property
    def words(self) -> str:
        """The run in a few words: dense size, sparsity, steps, seed."""
        return f"width {self.model.width:<4} S {self.sparsity:<6.3g} {self.steps:>6} steps  seed {self.seed}"

    @property
    def pruning(self) -> SparseRegime | None:
        """How the run's weights become zero; None where none do."""
        return sparse(self.regime) if self.sparsity > 0 else None

    @property
    def bfloat16(self) -> bool:
        """Whether products are taken in bfloat16."""
        return self.precision.startswith("bfloat16")

    @property
    def compiled(self) -> bool:
        """Whether the model's blocks are compiled."""
        return self.precision.endswith("-compiled")

    @property
    def data_unit(self) -> DataUnit:
        """What `data` counts."""
        return unit_of(self.objective)

    @property
    def data(self) -> int:
        """Training tokens (encoder input tokens for T5) or images that the run sees."""
        return self.steps * self.batch * data_per_example(self.objective)


RunOrigin.model_rebuild()


def unit_of(objective: Objective) -> DataUnit:
    """What D counts under an objective: images for classification, tokens for text."""
    return "images" if isinstance(objective, Classification) else "tokens"


def data_per_example(objective: Objective) -> int:
    """Units of D in one training example."""
    match objective:
        case SpanCorruption():
            return objective.input_length
        case NextToken() | MaskedTokens():
            return objective.length
        case Classification():
            return 1
