"""The law forms there are. To add one: a `Form` of parameters and terms, and a line in `_BUILDERS`.

A form that is nobody else's need not be registered; it is passed where a name is taken:

    OWN = Form(
        name="own", formula="A / N^alpha + E", source="me",
        parameters=(Parameter("A", "nats", "size"), exponent("alpha", "of the size"), Parameter("E", "nats", "rest")),
        terms=(Term("A", (Power(NONZERO, "alpha", -1),)), Term("E")),
    )
    fit(runs, OWN)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

from sparsity_lab.errors import RecordError, refusing
from sparsity_lab.laws.forms.features import (
    DATA,
    DENSE,
    DENSITY,
    NONZERO,
    SPARSITY,
    average_size,
    level,
    levels_of,
)
from sparsity_lab.laws.forms.form import Form
from sparsity_lab.laws.forms.terms import OneOrMany, Parameter, Power, Term, exponent
from sparsity_lab.laws.rows.runs import Runs

PAPER_PROGRESS = 0.625
"""q of the paper's schedule, cubic from 25 % to 75 % of training"""
PAPER_LEVELS = (0.0, 0.5, 0.75, 0.875)


class FrantarParams(NamedTuple):
    """Parameters of `frantar`; arrays stand for many laws at once."""

    a_S: OneOrMany  # noqa: N815
    b_S: OneOrMany  # noqa: N815
    c_S: OneOrMany  # noqa: N815
    b_N: OneOrMany  # noqa: N815
    a_D: OneOrMany  # noqa: N815
    b_D: OneOrMany  # noqa: N815
    c: OneOrMany


class ChinchillaParams(NamedTuple):
    """Parameters of `chinchilla` and `average_params`; arrays stand for many laws at once."""

    A: OneOrMany
    alpha: OneOrMany
    B: OneOrMany
    beta: OneOrMany
    E: OneOrMany


_SIZE = Parameter("A", "nats · weights^alpha", "size term of a dense model with one weight")
_ALPHA = exponent("alpha", "how fast the loss falls with size")
_FLOOR = Parameter("E", "nats", "loss that no size and no data removes")
_DATA = Parameter("B", "nats · data^beta", "data term of a model that saw one unit of data")
_BETA = exponent("beta", "how fast the loss falls with data D")
_DATA_TERM = Term("B", (Power(DATA, "beta", -1),))


def _frantar() -> Form:
    size = Power(NONZERO, "b_N", -1)
    return Form(
        name="frantar",
        formula="(a_S (1-S)^b_S + c_S) N^-b_N + (a_D / D)^b_D + c",
        source="Frantar et al., Scaling Laws for Sparsely-Connected Foundation Models, ICLR 2024, arXiv 2309.08520",
        params=FrantarParams,
        parameters=(
            Parameter("a_S", "nats · weights^b_N", "part of the size term that sparsity removes"),
            exponent("b_S", "how fast it falls with density 1 - S"),
            Parameter("c_S", "nats · weights^b_N", "part of the size term that no sparsity removes"),
            exponent("b_N", "how fast the loss falls with non-zero weights N"),
            Parameter("a_D", "data", "data at which the data term is one nat"),
            exponent("b_D", "how fast the loss falls with data D"),
            Parameter("c", "nats", "loss that no size and no data removes"),
        ),
        terms=(
            Term("a_S", (Power(DENSITY, "b_S"), size)),
            Term("c_S", (size,)),
            Term("a_D", (Power(DATA, "b_D", -1),), to_power=("b_D", 1)),
            Term("c"),
        ),
    )


def _chinchilla() -> Form:
    return Form(
        name="chinchilla",
        formula="A / N^alpha + B / D^beta + E",
        source="Hoffmann et al., Training Compute-Optimal Large Language Models, 2022, arXiv 2203.15556; S is ignored",
        params=ChinchillaParams,
        parameters=(_SIZE, _ALPHA, _DATA, _BETA, _FLOOR),
        terms=(Term("A", (Power(NONZERO, "alpha", -1),)), _DATA_TERM, Term("E")),
    )


def _average_params(*settings: float) -> Form:
    if len(settings) != 1 or not 0 <= settings[0] < 1:
        raise RecordError("wrong settings", field="average_params", found=settings, expected="one q, 0 <= q < 1")
    (mean_progress,) = settings
    average = average_size(mean_progress)
    return Form(
        name="average_params",
        formula=f"A / (N (1 - {mean_progress:.6g} S) / (1 - S))^alpha + B / D^beta + E",
        source="Jin et al., 2025, arXiv 2501.12486: Chinchilla in the time average of the non-zero weights",
        params=ChinchillaParams,
        parameters=(_SIZE, _ALPHA, _DATA, _BETA, _FLOOR),
        terms=(Term("A", (Power(average, "alpha", -1),)), _DATA_TERM, Term("E")),
        settings=(mean_progress,),
    )


def _density() -> Form:
    size = Power(NONZERO, "alpha", -1)
    return Form(
        name="density",
        formula="A ((1-S)^epsilon + P S^mu) / N^alpha + B / D^beta + E",
        source="Wu et al., 2026, arXiv 2606.01155; its data term shares alpha",
        parameters=(
            _SIZE,
            exponent("epsilon", "how the size term changes with density 1 - S", signed=True),
            Parameter(
                "P", "1", "what sparsity adds to the size term, relative to a dense model's", lower=-float("inf")
            ),
            exponent("mu", "how fast that comes with sparsity S"),
            _ALPHA,
            _DATA,
            _BETA,
            _FLOOR,
        ),
        terms=(
            Term("A", (Power(DENSITY, "epsilon"), size)),
            Term("P", (Power(SPARSITY, "mu"), size), times="A"),
            _DATA_TERM,
            Term("E"),
        ),
    )


def _effective_params(*levels: float) -> Form:
    """One free efficiency for each sparse level: no smooth function of S in its place can fit better."""
    if len(levels) < 2 or levels[0] != 0 or list(levels) != sorted(set(levels)):
        raise RecordError("wrong levels", field="effective_params", found=levels, expected="0 and higher sparsities")
    size = Power(DENSE, "alpha", -1)
    names = tuple(f"eff_{100 * one:.4g}".replace(".", "_") for one in levels)

    def at(index: int) -> Power:
        return Power(level(index, levels), 1.0)

    sparse = range(1, len(levels))
    return Form(
        name="effective_params",
        formula="A / (N eff(S) / (1-S))^alpha + B / D^beta + E, one eff for each level of sparsity, eff(0) = 1",
        source="effective parameter counts, arXiv 2502.16440",
        parameters=(
            _SIZE,
            _ALPHA,
            *(Parameter(names[i], "1", f"effective share of the dense weights at S = {levels[i]:.4g}") for i in sparse),
            _DATA,
            _BETA,
            _FLOOR,
        ),
        terms=(
            Term("A", (at(0), size)),
            *(Term(names[i], (at(i), size), to_power=("alpha", -1), times="A") for i in sparse),
            _DATA_TERM,
            Term("E"),
        ),
        settings=levels,
        adapt=_with_levels_of,
    )


def _with_levels_of(runs: Runs) -> Form:
    found = levels_of(runs.sparsity)
    if found[0] != 0:
        raise RecordError(
            "effective_params measures every sparsity against dense runs, and there is none",
            field="sparsity",
            found=found[0],
            expected="runs at sparsity 0",
        )
    if len(found) == 1:
        raise RecordError("never changes, so the form effective_params cannot be fitted", field="sparsity", found=0.0)
    return form_named("effective_params", found)


def _generalized() -> Form:
    size = Power(NONZERO, "alpha", -1)
    return Form(
        name="generalized",
        formula="e (1-S)^gamma + (a (1-S)^alpha + c S) / N^alpha + b / D^beta",
        source="Hossain et al., Generalizing Scaling Laws for Dense and Sparse Large Language Models, 2025, "
        "arXiv 2508.06617",
        parameters=(
            Parameter("e", "nats", "loss of a dense model that no size and no data removes"),
            exponent("gamma", "how that changes with density 1 - S", signed=True),
            Parameter("a", "nats · weights^alpha", "size term of a dense model with one weight"),
            exponent("alpha", "how fast the loss falls with non-zero weights N"),
            Parameter("c", "nats · weights^alpha", "what sparsity adds to it"),
            Parameter("b", "nats · data^beta", "data term of a model that saw one unit of data"),
            _BETA,
        ),
        terms=(
            Term("e", (Power(DENSITY, "gamma"),)),
            Term("a", (Power(DENSITY, "alpha"), size)),
            Term("c", (Power(SPARSITY, 1.0), size)),
            Term("b", (Power(DATA, "beta", -1),)),
        ),
    )


_BUILDERS: Mapping[str, Callable[..., Form]] = MappingProxyType(
    {
        "frantar": cache(_frantar),
        "chinchilla": cache(_chinchilla),
        "average_params": cache(_average_params),
        "density": cache(_density),
        "effective_params": cache(_effective_params),
        "generalized": cache(_generalized),
    }
)
_DEFAULTS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {"average_params": (PAPER_PROGRESS,), "effective_params": PAPER_LEVELS}
)


def form_named(name: str | Form, settings: tuple[float, ...] = ()) -> Form:
    """The form of that name; a form passes through, so that a user's own is as good as ours.

    Args:
        name: of a form, or the form.
        settings: numbers that the form is built from, as `Form.settings` says; the paper's when empty.

    Raises:
        RecordError: no form has that name, or it takes no such settings.
    """
    if isinstance(name, Form):
        return name
    if name not in _BUILDERS:
        raise RecordError("no such law form", field="form", found=name, expected="one of " + ", ".join(_BUILDERS))
    if settings and name not in _DEFAULTS:
        raise RecordError(f"the form {name} takes no settings", field="settings", found=settings)
    with refusing(None, RecordError, f"are none of the form {name}", field="settings", found=settings):
        return _BUILDERS[name](*(settings or _DEFAULTS.get(name, ())))


FORMS: Mapping[str, Form] = MappingProxyType({name: form_named(name) for name in _BUILDERS})
FRANTAR, CHINCHILLA = FORMS["frantar"], FORMS["chinchilla"]
