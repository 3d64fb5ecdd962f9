"""One question under several laws: each, their spread, and a stacked interval whose coverage is that of its draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_lab.errors import RecordError
from sparsity_lab.laws import Law, bootstrap, document, fit, form_named, gain, heldout_error, together
from sparsity_lab.laws.questions.together import heldout_weights
from sparsity_lab.specs.laws import load_law
from tests.laws.conftest import ROOT


@pytest.fixture
def laws(make_runs):
    runs = make_runs(noise=0.004)
    fits = {form: fit(runs, form, starts=8) for form in ("frantar", "density")}
    return {form: Law.from_fit(found, bootstrap(found, 30)) for form, found in fits.items()}


def half(law: Law):
    return gain(law, [0.5, 0.75])


def test_equal_laws_change_nothing(laws):
    one = laws["frantar"]
    found = together({"a": one, "b": one}, half, weights={"a": 3.0, "b": 1.0})
    np.testing.assert_allclose(found.stacked.value, one.interval(half).value)
    draws = one.drawn(half)
    assert (found.stacked.low >= draws.min(axis=0)).all()
    assert (found.stacked.high <= draws.max(axis=0)).all()
    np.testing.assert_allclose(found.between, 0, atol=1e-12)
    assert found.weights == {"a": 0.75, "b": 0.25}


@given(share=st.floats(0.01, 0.99), apart=st.floats(0.5, 50))
def test_the_stacked_interval_is_that_of_the_mixture(share: float, apart: float) -> None:
    law = Law.load(ROOT / "specs/laws/frantar2024-t5-c4.yaml")
    rng = np.random.default_rng(0)
    fixed = {name: np.full(400, value) for name, value in law.params._asdict().items()}
    shifted = {"low": 10 + rng.normal(size=400), "high": 10 + apart + rng.normal(size=400)}
    two = {name: replace(law, draws=law.params._replace(**fixed | {"c": draws})) for name, draws in shifted.items()}
    found = together(two, lambda one: one.params.c, weights={"low": share, "high": 1 - share})
    sample = np.concatenate([np.repeat(shifted["low"], 100), np.repeat(shifted["high"], 100)])
    weights = np.repeat([share, 1 - share], 40_000) / 40_000
    order = np.argsort(sample)
    inside = weights[order][(sample[order] >= found.stacked.low) & (sample[order] <= found.stacked.high)].sum()
    assert inside == pytest.approx(0.9, abs=0.02)
    assert found.spread[0] == found.spread[1] == law.params.c


def test_a_law_without_a_bootstrap_is_a_point_of_the_mixture(laws):
    published = Law.from_spec(load_law(ROOT / "specs/laws/frantar2024-t5-c4.yaml"))
    found = together({"ours": laws["frantar"], "paper": published}, half)
    assert (found.each["paper"].low == found.each["paper"].high).all()
    assert (found.stacked.low <= np.minimum(found.each["paper"].value, found.each["ours"].high)).all()
    assert (found.between > 0).all()


def test_weights_are_inverse_squared_heldout_errors_of_sound_fits(make_runs):
    runs = make_runs(noise=0.004)
    documents = {}
    for form in ("frantar", "chinchilla"):
        held = heldout_error(runs, form, starts=6)
        documents[form] = document(fit(runs, form, starts=6), source="rows", heldout=held)
    weights, notes = heldout_weights(documents)
    errors = {name: one.heldout.mean_relative_error for name, one in documents.items()}
    assert weights["frantar"] / weights["chinchilla"] == pytest.approx((errors["chinchilla"] / errors["frantar"]) ** 2)
    assert notes == ()
    equal, notes = heldout_weights({**documents, "paper": None})
    assert set(equal.values()) == {1.0}
    assert [note.key for note in notes] == ["together-equal"]
    broken = documents["chinchilla"].model_copy(
        update={"fit": documents["chinchilla"].fit.model_copy(update={"converged": False})}
    )
    left, notes = heldout_weights({**documents, "chinchilla": broken})
    assert left["chinchilla"] == 0
    assert [note.key for note in notes] == ["together-unsound"]


def test_laws_that_count_different_data_are_not_stacked():
    text, images = (Law.load(ROOT / f"specs/laws/frantar2024-{name}.yaml") for name in ("t5-c4", "vit-jft"))
    with pytest.raises(RecordError, match="count different data"):
        together({"text": text, "images": images}, half)
    with pytest.raises(RecordError, match="no law"):
        together({}, half)
    assert form_named("frantar").sees_sparsity
