"""Laws as the page's script sums them: as terms.

Each is A · N^n · D^d · S^s · Π (1 − k S)^p · (1 + u / (D + u))^g.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sparsity_lab.cost.existing import Existing
from sparsity_lab.cost.type_laws import TypeLaw
from sparsity_lab.laws.forms.declared import share_of_bits
from sparsity_lab.laws.forms.features import DATA, DENSE, DENSITY, NONZERO, SPARSITY
from sparsity_lab.laws.forms.power import PowerForm
from sparsity_lab.laws.forms.terms import Power, Term, amplitude, number
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.optimum import acts_on_size_alone

Terms = list[dict[str, Any]]


def told_law(law: Law, existing: Existing | None) -> dict[str, Any] | None:
    """A law as the script reads it, and beside it the law of pruned models, if one tells of a checkpoint.

    None where the script could not sum one of them.
    """
    terms, after = law_terms(law), None
    if existing is not None and existing.after is not None:
        after = _after_pruning(existing.after, float(existing.loss_before(law)))
        if after is None:
            return None
    return None if terms is None else {"terms": terms, "size_alone": acts_on_size_alone(law), "after": after}


def told_type(told: TypeLaw) -> dict[str, Terms] | None:
    """A law of precision at the bits of the own type and of another; None for a form of a user's own."""
    own, here = (_at_bits(told.law, told.column, bits) for bits in (told.own, told.bits))
    return None if own is None or here is None else {"own": own, "here": here}


def _at_bits(law: Law, column: str, bits: float) -> Terms | None:
    """A law of precision of dense weights."""
    one = {name: float(value) for name, value in law.params._asdict().items()}
    trained = bits if column == "bits" else np.inf
    match law.form.name:
        case "precision" | "precision_after":
            share = float(-np.expm1(-trained / one["gamma"]))
            after = [_added(one, bits)] if law.form.name == "precision_after" else []
        case "sparse_quantised":
            share, after = one.get(share_of_bits(bits), 1.0), []
        case _:
            return None
    size = _made(one["A"] * share ** -one["alpha"], -one["alpha"])
    return [size, _made(one["B"], data=-one["beta"]), _made(one["E"]), *after]


def _added(one: Mapping[str, float], bits: float) -> dict[str, Any]:
    """What quantising to so many bits after training adds."""
    amplitude = one["C"] * float(np.exp(-bits / one["gamma_post"]))
    return _made(amplitude, -one["gamma_N"], data=one["gamma_D"])


def law_terms(law: Law) -> Terms | None:
    """The law as terms A · N^n · D^d · S^s · Π (1 − k S)^p; None where it is no such sum or a feature is not ours."""
    values = law.params._asdict()
    if not isinstance(law.form, PowerForm):
        return None
    terms = [_term(term, values, law) for term in law.form.terms]
    return None if None in terms else [term for term in terms if term is not None]


def _term(term: Term, values: Mapping[str, Any], law: Law) -> dict[str, Any] | None:
    found: dict[str, Any] = {"nonzero": 0.0, "data": 0.0, "sparsity": 0.0, "shares": []}
    for power in term.powers:
        exponent = float(power.sign * number(power.exponent, values))
        shares = _shares(power, law)
        if shares is None:
            return None
        found["nonzero"] += exponent * power.feature.size
        found["data"] += exponent * power.feature.data
        found["sparsity"] += exponent * (power.feature == SPARSITY)
        found["shares"] += [[k, exponent * p] for k, p in shares]
    return {"amplitude": float(amplitude(term, values)), **found}


def _shares(power: Power, law: Law) -> tuple[tuple[float, float], ...] | None:
    """g(S) of a feature as pairs (k, p) of (1 − k S)^p; S itself is kept apart."""
    if power.feature in (NONZERO, DATA, SPARSITY):
        return ()
    if power.feature == DENSITY:
        return ((1.0, 1.0),)
    if power.feature == DENSE:
        return ((1.0, -1.0),)
    if law.form.name == "average_params":
        return ((law.form.settings[0], 1.0), (1.0, -1.0))
    return None


def _after_pruning(law: Law, before: float) -> Terms | None:
    """A law of pruned models at a loss before; None for a form of a user's own."""
    one = {name: float(value) for name, value in law.params._asdict().items()}
    match law.form.name:
        case "pruned_after":  # (1 − S)^−gamma · dense^−delta of three terms, dense = N / (1 − S)
            size, left = one["delta"], one["delta"] - one["gamma"]
            return [
                _made(one["A"], -size - one["alpha"], left=left + one["alpha"]),
                _made(one["B"], -size, data=-one["beta"], left=left),
                _made(one["E"], -size, left=left),
                _made(before),
            ]
        case "compressed":
            whole = _made(one["c"] * before ** one["alpha"])
            return [whole | {"shares": [[-1.0, one["beta"]]], "recovery": [one["unit"], one["gamma"]]}]
        case _:
            return None


def _made(amplitude: float, nonzero: float = 0.0, *, data: float = 0.0, left: float = 0.0) -> dict[str, Any]:
    """A term; `left` is the power of 1 − S."""
    return {"amplitude": amplitude, "nonzero": nonzero, "data": data, "sparsity": 0.0, "shares": [[1.0, left]]}
