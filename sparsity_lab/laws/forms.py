"""The law forms there are. To add one: a NamedTuple of its parameters, its terms, and a line in `FORMS`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.form import Form, Parameter, Power, Term, Value


class FrantarParams(NamedTuple):
    """Parameters of `frantar`; arrays stand for many laws at once."""

    a_S: Value  # noqa: N815
    b_S: Value  # noqa: N815
    c_S: Value  # noqa: N815
    b_N: Value  # noqa: N815
    a_D: Value  # noqa: N815
    b_D: Value  # noqa: N815
    c: Value


class ChinchillaParams(NamedTuple):
    """Parameters of `chinchilla`; arrays stand for many laws at once."""

    A: Value
    alpha: Value
    B: Value
    beta: Value
    E: Value


_DENSITY = Power("density", "b_S", 1)
_SIZE = Power("nonzero", "b_N", -1)

FRANTAR = Form(
    name="frantar",
    formula="(a_S (1-S)^b_S + c_S) N^-b_N + (a_D / D)^b_D + c",
    source="Frantar et al., Scaling Laws for Sparsely-Connected Foundation Models, ICLR 2024, arXiv 2309.08520, eq. 1",
    params=FrantarParams,
    parameters=(
        Parameter("a_S", "nats · weights^b_N", "part of the size term that sparsity removes"),
        Parameter("b_S", "1", "how fast it falls with density 1 - S"),
        Parameter("c_S", "nats · weights^b_N", "part of the size term that no sparsity removes"),
        Parameter("b_N", "1", "how fast the loss falls with non-zero weights N"),
        Parameter("a_D", "data", "data at which the data term is one nat"),
        Parameter("b_D", "1", "how fast the loss falls with data D"),
        Parameter("c", "nats", "loss that no size and no data removes"),
    ),
    terms=(
        Term("a_S", (_DENSITY, _SIZE)),
        Term("c_S", (_SIZE,)),
        Term("a_D", (Power("data", "b_D", -1),), as_scale=True),
        Term("c"),
    ),
    size_exponent="b_N",
)

CHINCHILLA = Form(
    name="chinchilla",
    formula="A / N^alpha + B / D^beta + E",
    source="Hoffmann et al., Training Compute-Optimal Large Language Models, 2022, arXiv 2203.15556; S is ignored",
    params=ChinchillaParams,
    parameters=(
        Parameter("A", "nats · weights^alpha", "size term of a model with one weight"),
        Parameter("alpha", "1", "how fast the loss falls with non-zero weights N"),
        Parameter("B", "nats · data^beta", "data term of a model that saw one unit of data"),
        Parameter("beta", "1", "how fast the loss falls with data D"),
        Parameter("E", "nats", "loss that no size and no data removes"),
    ),
    terms=(
        Term("A", (Power("nonzero", "alpha", -1),)),
        Term("B", (Power("data", "beta", -1),)),
        Term("E"),
    ),
    size_exponent="alpha",
)

FORMS: Mapping[str, Form] = MappingProxyType({form.name: form for form in (FRANTAR, CHINCHILLA)})


def form_named(name: str | Form) -> Form:
    """The form of that name; a form passes through, so that a user's own is as good as ours.

    Raises:
        RecordError: no form has that name.
    """
    if isinstance(name, Form):
        return name
    if name not in FORMS:
        raise RecordError("no such law form", field="form", found=name, expected="one of " + ", ".join(FORMS))
    return FORMS[name]
