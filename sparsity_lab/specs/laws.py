"""Law specs: a law that someone published, written down with where it comes from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from sparsity_lab.specs.base import FrozenNumbers, SpecFile, misfit
from sparsity_lab.specs.choices import DataUnit, LawForm
from sparsity_lab.specs.files import read_spec


class PublishedLaw(SpecFile):
    """Coefficients of a form in raw units: N in weights, D in tokens or images, losses in nats."""

    kind: Literal["law"] = "law"
    form: LawForm
    settings: tuple[float, ...] = ()
    """numbers that the form is built from; those of its paper when left out. average_params: q, the time average of
    S(t) / S; effective_params: its levels of sparsity, 0 first"""
    data_unit: DataUnit
    """what D counts"""
    params: FrozenNumbers
    """every parameter of the form, by name"""
    spread: FrozenNumbers | None = None
    """standard errors of parameters, where the paper reports them; of nothing else has the law intervals"""
    description: str = ""
    citation: Annotated[str, Field(min_length=1)]
    """the paper"""
    provenance: Annotated[str, Field(min_length=1)]
    """how these very numbers came about: from which table, code or fit"""

    @model_validator(mode="after")
    def _spread_fits(self) -> Self:
        for name, error in (self.spread or {}).items():
            if name not in self.params:
                raise misfit(f"{name} is none of the parameters: {', '.join(self.params)}", "spread")
            if not 0 < error < math.inf:
                raise misfit(f"the standard error of {name} must be above 0, found {error:g}", "spread")
        return self


def load_law(path: Path) -> PublishedLaw:
    """Read a published law, and load no other kind of spec for it.

    Raises:
        SpecError: the file is missing, is not YAML, or is no law.
    """
    spec: PublishedLaw = read_spec(path, {"law": TypeAdapter(PublishedLaw)})
    return spec
