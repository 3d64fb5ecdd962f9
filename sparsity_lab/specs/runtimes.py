"""Runtime specs: which engine loads weights in which format, on which hardware, as somebody looked it up."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

from pydantic import Field, model_validator

from sparsity_lab.specs.base import Distinct, Spec, SpecFile, misfit
from sparsity_lab.specs.hardware import Architecture, ProductFormat, WeightType

RuntimeUse = Literal["training", "inference"]
RuntimeStatus = Literal["maintained", "experimental", "removed"]


LoadedFormat = Annotated[str, Field(pattern=r"^[1-9]\d*:[1-9]\d*$")] | ProductFormat
"""n of every m of any kind, whether or not a package here multiplies it, or a format that is known here"""


class RuntimeSupport(Spec):
    """Formats that an engine treats alike: every combination of what is listed."""

    formats: Annotated[tuple[LoadedFormat, ...], Field(min_length=1), Distinct]
    hardware: Annotated[tuple[Architecture, ...], Field(min_length=1), Distinct]
    dtypes: Annotated[tuple[WeightType, ...], Field(min_length=1), Distinct]
    """of the weights, as they lie in memory"""
    use: Annotated[tuple[RuntimeUse, ...], Field(min_length=1), Distinct] = ("inference",)
    status: RuntimeStatus
    """maintained: a release has it and its makers stand by it; experimental: a prototype or a research kernel; removed:
    a release had it"""
    note: str = ""


class RuntimeSpec(SpecFile):
    """One engine. What is not listed is not supported, as far as anybody looked."""

    kind: Literal["runtime"] = "runtime"
    engine: str
    """its name, for people"""
    package: str | None = None
    """of Python that holds it, by which `doctor` and `measure` see whether it is installed"""
    engine_version: str
    """that this speaks of"""
    date: datetime.date | Annotated[str, Field(pattern=r"^\d{4}(-\d{2})?$")] | None = None
    """of that version, or of the change that decides the status, as precisely as it is known: a day, a month, a year"""
    looked_up: datetime.date
    """when somebody compared this with the sources"""
    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    supports: Annotated[tuple[RuntimeSupport, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> RuntimeSpec:
        if self.date and self.looked_up.isoformat()[: len(str(self.date))] < str(self.date):
            raise misfit(f"lies before the version that it speaks of ({self.date})", "looked_up")
        seen: dict[tuple[str, ...], RuntimeStatus] = {}
        for one in self.supports:
            for case in one_by_one(one):
                if seen.setdefault(case, one.status) != one.status:
                    raise misfit(f"{' '.join(case)} is said to be {seen[case]} and {one.status}", "supports")
        return self


def one_by_one(one: RuntimeSupport) -> tuple[tuple[str, str, str, str], ...]:
    """Format, hardware, type and use of everything that an entry speaks of."""
    return tuple(
        (layout, hardware, dtype, use)
        for layout in one.formats
        for hardware in one.hardware
        for dtype in one.dtypes
        for use in one.use
    )
