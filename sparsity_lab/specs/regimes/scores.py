"""Scores: how much a weight matters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sparsity_lab.specs.base import Count, Spec
from sparsity_lab.specs.regimes.plugins import Plugin


class Magnitude(Spec):
    """|w|: the smallest weights go first (Han et al. 2015)."""

    kind: Literal["magnitude"] = "magnitude"


class Random(Spec):
    """Drawn anew at every mask update, from the run's seed: the baseline that any other score must beat."""

    kind: Literal["random"]


class Saliency(Spec):
    """|w g|, first-order change of the loss when w becomes zero (Mozer & Smolensky 1989; SNIP, Lee et al. 2019)."""

    kind: Literal["saliency"]
    batches: Count = 1
    """training batches whose mean gradient g is taken; with 1 it is that of the step just done, at no cost"""


class Fisher(Spec):
    """w^2 F / 2, second-order change of the loss with a diagonal Fisher F = mean g^2 (Theis et al. 2018, eq. 8)."""

    kind: Literal["fisher"]
    batches: Count = 4
    """training batches over which g^2 is averaged at each mask update"""


class Wanda(Spec):
    """|w| times the L2 norm of its input feature over some batches (Sun et al. 2024, eq. 1)."""

    kind: Literal["wanda"]
    batches: Count = 4
    """training batches on which inputs are observed at each mask update"""


Score = Annotated[Magnitude | Random | Saliency | Fisher | Wanda | Plugin, Field(discriminator="kind")]
