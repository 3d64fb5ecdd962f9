"""Any table of finite numbers ends in a fit, whose status says what it is worth, or in a refusal in words.

`pytest tests/laws/test_degenerate.py --hypothesis-profile=thousands` draws 2,000 tables instead of 30.
"""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparsity_lab.console.fit import fit_json, fit_text
from sparsity_lab.errors import RecordError
from sparsity_lab.laws import Law, Runs, compare, fit
from sparsity_lab.laws.documents.law import LawDocument
from sparsity_lab.laws.fitting.objective import Derivatives, HuberObjective
from sparsity_lab.laws.forms.named import form_names
from sparsity_lab.laws.rows.inputs import Input
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.messages import words_in
from sparsity_lab.specs.studies import LawSpec
from sparsity_lab.stages.fit_runs import fit_runs
from sparsity_lab.stages.law import open_law

USUAL = 100
"""examples of a property where nobody asks for more: Hypothesis's own number"""
SCALES = st.sampled_from([1e-29, 1e-12, 1e-3, 1.0, 1e6, 1e12, 1e29])
LOSSES = ("constant", "rising", "falling then constant", "random", "two values", "one differs", "nearly constant")
PLACES = ("grid", "collinear", "two values", "one row a size", "one size", "few", "repeats", "nearly one size")


def places(kind: str, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(rows,) of S, N and D, near 1."""
    S, N, D = (axis.ravel() for axis in np.meshgrid([0.0, 0.5, 0.75], [1.0, 4.0, 16.0], [1.0, 4.0, 16.0]))
    rows = len(S)
    match kind:
        case "collinear":  # every run at the compute-optimal data of its size
            N = 4.0 ** rng.integers(0, 9, rows)
            D = 20 * N
        case "two values":
            N, D = np.where(N > 1, 4.0, 1.0), np.where(D > 1, 4.0, 1.0)
        case "one row a size":
            N = np.geomspace(1, 1e4, rows)
        case "one size":
            N = np.ones(rows)
        case "few":
            keep = rng.permutation(rows)[: rng.integers(1, 9)]
            S, N, D = S[keep], N[keep], D[keep]
        case "repeats":
            S, N, D = np.repeat([S[:3], N[:3], D[:3]], 9, axis=1)
        case "nearly one size":
            N = 1 + 0.01 * rng.random(rows)
    return S, N, D


def losses(kind: str, N: FloatArray, D: FloatArray, rng: np.random.Generator) -> FloatArray:
    """(rows,) of losses, near 1."""
    rows = len(N)
    loss = {
        "constant": np.ones(rows),
        "rising": N**0.3 + D**0.2,
        "falling then constant": np.maximum(N**-0.5, 0.5),
        "random": rng.lognormal(0, 2, rows),
        "two values": np.where(rng.random(rows) < 0.5, 1.0, 2.0),
        "one differs": np.ones(rows),
        "nearly constant": 1 + 1e-13 * rng.random(rows),
    }[kind]
    if kind == "one differs":
        loss[rng.integers(rows)] = 1e6
    return loss


@st.composite
def tables(draw: st.DrawFn) -> Runs:
    """Tables that no law was made for."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    S, N, D = places(draw(st.sampled_from(PLACES)), rng)
    loss = losses(draw(st.sampled_from(LOSSES)), N, D, rng)
    if draw(st.booleans()):
        loss = loss * np.exp(rng.normal(scale=draw(st.sampled_from([1e-12, 1e-3, 0.1])), size=len(loss)))
    if draw(st.booleans()):
        S = np.full_like(S, draw(st.sampled_from([0.0, 0.5, 0.999999])))
    N, D, loss = (column * draw(SCALES) for column in (N, D, loss))
    columns = {"bits": [4.0, 16.0], "bits_after": [3.0, 8.0], "loss_before": draw(st.sampled_from([[2.0], [2.0, 3.0]]))}
    others = {name: rng.choice(values, len(S)) for name, values in columns.items()}
    return Runs(S, N, D, loss, epochs=rng.choice([0.5, 1.0, 4.0], len(S)), others=others)


@settings(
    max_examples=30 if settings().max_examples <= USUAL else settings().max_examples,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    runs=tables(),
    form=st.sampled_from(form_names()),
    residual=st.sampled_from(["log", "linear"]),
    delta=st.sampled_from([1e-3, 1e-9, "least-squares"]),
    profiled=st.sampled_from([False, False, False, True]),
)
def test_every_table_ends_in_a_fit_or_in_words(
    runs: Runs, form: str, residual: str, delta: float | str, *, profiled: bool
) -> None:
    """Of one form each, from two starts; one in four with the profiles, which take most of the time.

    No number on the way makes NumPy warn: what a law cannot say its status and intervals tell.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ends_in_words(runs, form, residual, delta, profiled=profiled)


def ends_in_words(runs: Runs, form: str, residual: str, delta: float | str, *, profiled: bool) -> None:
    """A fit, all that is printed of it and its document; or a refusal."""
    asked = LawSpec(forms=(form,), residual=residual, delta=delta, starts=2, bootstrap=2, holdouts=("largest-data",))
    try:
        fitted = fit_runs(Input(runs), asked, "rows")
    except RecordError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert "\n" not in refusal
        return
    one = fitted.forms[form]
    assert words_in("en")(one.fit.status)
    assert np.isfinite(one.fit.objective)
    assert len(fit_text(fitted)) > 0
    if profiled:
        json.dumps(fit_json(fitted), allow_nan=False)
    again = LawDocument.model_validate_json(one.document.model_dump_json())
    assert Law.from_document(again).params == one.law.params


@pytest.mark.parametrize("form", ["density", "repeated_dense", "repeated_sparse"])
def test_a_flat_bottom_is_no_matter_for_numpys_warnings(form: str) -> None:
    """Two sparsities, and data seen once, tell nothing of what these forms say of either."""
    S, N, D = (axis.ravel() for axis in np.meshgrid([0.0, 0.5], [1.0, 4.0, 16.0], [1.0, 4.0, 16.0]))
    loss = (1 + 0.5 * (1 - S)) * N**-0.3 + D**-0.4 + 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit(Runs(S, N, D, loss, others={"unique": D}), form, starts=4).degenerate


def test_a_curvature_beyond_floats_is_no_matter_for_numpys_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is that of nothing known: every parameter is undetermined."""
    S, N, D = (axis.ravel() for axis in np.meshgrid([0.0, 0.5], [1.0, 4.0, 16.0], [1.0, 4.0, 16.0]))
    derivatives = HuberObjective.derivatives

    def steep(self: HuberObjective, theta: FloatArray) -> Derivatives:
        found = derivatives(self, theta)
        return found._replace(hessian=np.full_like(found.hessian, np.inf), majoriser=found.majoriser + np.inf)

    runs = Runs(S, N, D, 1 + N**-0.3 + D**-0.4)
    monkeypatch.setattr(HuberObjective, "derivatives", steep)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit(runs, "chinchilla", starts=2).degenerate


def test_walks_that_run_away_are_no_matter_for_numpys_warnings() -> None:
    """In a refit without some of these rows steps are longer than floats are."""
    law, rng = open_law("wu2026-c4-repeated").law, np.random.default_rng(48)
    S, N, D = (
        rng.choice([0.0, 0.5, 0.75, 0.875, 0.9375], 48),
        10 * 10 ** rng.uniform(6, 8, 48),
        10 ** rng.uniform(9, 11, 48),
    )
    unique = D / np.random.default_rng(48).choice([1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 40.0], 48)
    noise = np.random.default_rng(48).normal(scale=0.003, size=48)
    loss = law.form.predict(law.params, S, N, D, further={"unique": unique}) * np.exp(noise)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compared = compare(Runs(S, N, D, loss, others={"unique": unique}), ["repeated_sparse"])
    assert np.isfinite(compared.of("repeated_sparse").fit.objective)


def test_what_is_held_out_may_be_predicted_below_zero() -> None:
    """A pruned model's law adds to a loss before: where rows contradict it, it may subtract more than that."""
    rng, N = np.random.default_rng(1), 1e6 * 4.0 ** (np.arange(20) % 5)
    S, before = rng.random(20) * 0.99, 3 * rng.random(20)
    runs = Runs(S, N, 20 * N, 1 + S, others={"loss_before": before})
    asked = LawSpec(forms=("pruned_after",), starts=3, bootstrap=2, holdouts=("largest-data",))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = fit_runs(Input(runs), asked, "rows")
        assert len(fit_text(fitted)) > 0
        json.dumps(fit_json(fitted), allow_nan=False)
    below = fitted.forms["pruned_after"].compared.heldout["largest-data"].predicted
    assert (below < 0).any()


@pytest.mark.parametrize("form", ["frantar", "farseer", "repeated_sparse"])
def test_coordinates_beyond_floats_are_no_matter_for_numpys_warnings(form: str) -> None:
    """A walk may stand anywhere: its objective and derivatives are numbers there, or none, without a word."""
    S, N, D = (axis.ravel() for axis in np.meshgrid([0.0, 0.5, 0.75], 4.0 ** np.arange(4), 4.0 ** np.arange(4)))
    found = fit(Runs(S, N, D, 1 + N**-0.3 + D**-0.4, others={"unique": D}), form, starts=2)
    objective = found.objective_of(np.full((1, len(S)), 1 / len(S)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for far in (-1e3, -300.0, 300.0, 1e3):
            assert objective.value(found.minima[:1] + far).shape == (1,)
            assert objective.derivatives(found.minima[:1] + far).gradient.shape == found.minima[:1].shape
