"""The law forms there are.

To add one: a `PowerForm` of parameters and terms and a line in `_BUILDERS`; or one of another shape, a
`FormDeclaration` and a line in `_DECLARED`.

A form that is nobody else's need not be registered; it is passed where a name is taken:

    OWN = PowerForm(
        name="own", formula="A / N^alpha + E", source="me",
        parameters=(Parameter("A", "nats", "size"), exponent("alpha", "of the size"), Parameter("E", "nats", "rest")),
        terms=(Term("A", (Power(NONZERO, "alpha", -1),)), Term("E")),
    )
    fit(runs, OWN)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from sparsity_lab.errors import RecordError, refusing
from sparsity_lab.laws.forms.declaration import FormDeclaration
from sparsity_lab.laws.forms.declared import (
    CompressedLoss,
    PrecisionAfter,
    PrecisionInTraining,
    PrunedAfter,
    RepeatedDense,
    RepeatedSparse,
    SparseQuantised,
)
from sparsity_lab.laws.forms.declared_dense import Farseer, FineExperts
from sparsity_lab.laws.forms.form import Form
from sparsity_lab.laws.forms.general import GeneralForm
from sparsity_lab.laws.forms.power import PowerForm
from sparsity_lab.laws.forms.power_forms import (
    PAPER_LEVELS,
    PAPER_PROGRESS,
    average_params,
    chinchilla,
    density,
    effective_params,
    frantar,
    generalized,
    moe_abnar,
)
from sparsity_lab.laws.rows.runs import UNIQUE, Runs
from sparsity_lab.specs.choices import FORM_PLUGINS

_BUILDERS: Mapping[str, Callable[..., PowerForm]] = MappingProxyType(
    {
        "frantar": frantar,
        "chinchilla": chinchilla,
        "average_params": average_params,
        "density": density,
        "effective_params": effective_params,
        "generalized": generalized,
        "moe_abnar": moe_abnar,
    }
)
_DEFAULTS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {"average_params": (PAPER_PROGRESS,), "effective_params": PAPER_LEVELS}
)


_DECLARED: Mapping[str, Callable[..., FormDeclaration]] = MappingProxyType(
    {
        "repeated_dense": RepeatedDense,
        "repeated_sparse": RepeatedSparse,
        "sparse_quantised": SparseQuantised,
        "precision": PrecisionInTraining,
        "precision_after": PrecisionAfter,
        "pruned_after": PrunedAfter,
        "compressed": CompressedLoss,
        "moe_krajewski": FineExperts,
        "farseer": Farseer,
    }
)


def form_names() -> tuple[str, ...]:
    """Names of all forms: ours, then those of other packages."""
    return tuple(dict.fromkeys((*_BUILDERS, *_DECLARED, *sorted(_outside()))))


def further_columns() -> tuple[str, ...]:
    """Columns that some form reads beside sparsity, nonzero and data."""
    return tuple(dict.fromkeys(column for name in form_names() for column in form_named(name).further))


def plain_forms(_: Runs) -> tuple[Form, ...]:
    """The forms that read sparsity, size and data alone; each is fitted in a second or two."""
    return tuple(FORMS.values())


def forms_for(runs: Runs) -> tuple[Form, ...]:
    """Forms that say something of such runs: those of sparse training, and others whose columns they have.

    Where no run saw any of its data twice, forms of repeated data have parameters that nothing determines.
    """
    known = set(runs.further)
    if UNIQUE in known and not (runs.data > runs.further[UNIQUE] * (1 + 1e-9)).any():
        known.remove(UNIQUE)
    others = (form_named(name) for name in form_names() if name not in _BUILDERS)
    return (*FORMS.values(), *(form for form in others if set(form.further) <= known and form.further))


def _outside() -> Mapping[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=FORM_PLUGINS)}


@cache
def _declared(name: str, settings: tuple[float, ...]) -> GeneralForm:
    build = _DECLARED[name] if name in _DECLARED else _outside()[name].load()
    return GeneralForm.of(name, build(settings) if settings else build())


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
        if name not in _DECLARED and name not in _outside():
            known = ", ".join(form_names())
            raise RecordError("no such law form", field="form", found=name, expected=f"one of {known}")
        with refusing(None, RecordError, f"the form {name} cannot be made", field="settings", found=settings or None):
            return _declared(name, settings)
    if settings and name not in _DEFAULTS:
        raise RecordError(f"the form {name} takes no settings", field="settings", found=settings)
    with refusing(None, RecordError, f"are none of the form {name}", field="settings", found=settings):
        return _BUILDERS[name](*(settings or _DEFAULTS.get(name, ())))


FORMS: Mapping[str, PowerForm] = MappingProxyType(
    {
        form.name: form
        for form in (build(*_DEFAULTS.get(name, ())) for name, build in _BUILDERS.items())
        if not form.experts
    }
)
FRANTAR, CHINCHILLA = FORMS["frantar"], FORMS["chinchilla"]
