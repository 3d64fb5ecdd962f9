"""The base of every spec: frozen, closed to unknown fields, finite, and printable as a JSON Schema."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

Values = TypeVar("Values", bound=tuple[Hashable, ...])


def misfit(message: str, *at: str) -> PydanticCustomError:
    """An error of a field that only a validator of the whole model can see; `at` names the field from the model on."""
    return PydanticCustomError("misfit", "{message}", {"message": message, "at": at})


def _distinct(values: Values) -> Values:
    if len(set(values)) != len(values):
        raise ValueError(f"values must differ from one another, found {list(values)}")
    return values


Fraction = Annotated[float, Field(ge=0, le=1)]
Sparsity = Annotated[
    float, Field(ge=0, lt=1, description="fraction of prunable weights that are exactly zero, 0 <= S < 1")
]
Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Distinct = AfterValidator(_distinct)
"""for tuples whose values must differ from one another"""


class Spec(BaseModel):
    """A value a user writes: two specs with equal fields are equal, hash equally and never change."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


class SpecFile(Spec):
    """A spec that is a file of its own: carries the format version and the kind."""

    version: int = Field(ge=1, le=1, description="format version of this kind of file")
