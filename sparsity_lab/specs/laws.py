"""Law specs: a law that someone published, written down with where it comes from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sparsity_lab.specs.base import SpecFile
from sparsity_lab.specs.runs import DataUnit
from sparsity_lab.specs.studies import LawForm


class PublishedLaw(SpecFile):
    """Coefficients of a form in raw units: N in weights, D in tokens or images, losses in nats."""

    kind: Literal["law"] = "law"
    form: LawForm
    data_unit: DataUnit
    """what D counts"""
    params: dict[str, Annotated[float, Field(ge=0)]]
    """every parameter of the form, by name"""
    description: str = ""
    citation: Annotated[str, Field(min_length=1)]
    """the paper"""
    provenance: Annotated[str, Field(min_length=1)]
    """how these very numbers came about: from which table, code or fit"""
