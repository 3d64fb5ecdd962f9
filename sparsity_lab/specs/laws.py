"""Law specs: a law that someone published, written down with where it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from sparsity_lab.specs.base import FrozenNumbers, SpecFile
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
    description: str = ""
    citation: Annotated[str, Field(min_length=1)]
    """the paper"""
    provenance: Annotated[str, Field(min_length=1)]
    """how these very numbers came about: from which table, code or fit"""


def load_law(path: Path) -> PublishedLaw:
    """Read a published law, and load no other kind of spec for it.

    Raises:
        SpecError: the file is missing, is not YAML, or is no law.
    """
    spec: PublishedLaw = read_spec(path, {"law": TypeAdapter(PublishedLaw)})
    return spec
