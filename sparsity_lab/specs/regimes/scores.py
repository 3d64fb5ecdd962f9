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
    """training batches whose mean gradient g is taken; with 1 it is that of the step just done, without another pass"""


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


class _ReconstructionSpec(Spec):
    batches: Count = 16
    """training batches on which the second moments of a layer's inputs are taken"""
    damping: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.01
    """added to the diagonal of the second moments, relative to its mean; more where they are singular still"""


class SparseGPT(_ReconstructionSpec):
    """SparseGPT (Frantar & Alistarh 2023, algorithm 1): w^2 / [U]_jj^2, and kept weights make good what is lost.

    U is the upper Cholesky factor of the inverse of the inputs' second moments. Columns are gone through from the left;
    what pruning one changes in a layer's output, those to its right take over.
    """

    kind: Literal["sparsegpt"]
    block_size: Count = 128
    """columns whose mask is chosen together; of n:m that is m, and this is only how many are updated at once"""


class OBC(_ReconstructionSpec):
    """Exact optimal brain compression (Frantar et al. 2022; OBS, Hassibi & Stork 1993), for small matrices.

    The weight that costs least goes, all others of its row are moved to make it good, and again. Its time grows with
    outputs x inputs^3: what SparseGPT comes near is measured by it.
    """

    kind: Literal["obc"]


Score = Annotated[Magnitude | Random | Saliency | Fisher | Wanda | Plugin, Field(discriminator="kind")]
OneShotScore = Annotated[Magnitude | Random | Wanda | SparseGPT | OBC, Field(discriminator="kind")]
"""scores of weights that are pruned once, layer by layer; the last two move those that stay"""
Reconstruction = SparseGPT | OBC
