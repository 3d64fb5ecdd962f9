"""Pins, bounds, costs of overestimates, free noise scale, weights, best rows, rollouts, rows that stand out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sparsity_lab.errors import RecordError
from sparsity_lab.laws import FORMS, FRANTAR, Law, Runs, bootstrap, compare, fit, form_named, gain, profile
from sparsity_lab.laws.documents.law import LawDocument, document
from sparsity_lab.laws.fitting.rollout import rollout
from sparsity_lab.laws.fitting.steering import Steering
from sparsity_lab.laws.forms.power_forms import FrantarParams
from sparsity_lab.laws.questions.standing_out import standing_out
from sparsity_lab.messages import words_in
from sparsity_lab.messages.catalogue import LANGUAGES

KNOWN = FrantarParams(a_S=12.0, b_S=0.9, c_S=30.0, b_N=0.25, a_D=6e7, b_D=0.35, c=0.9)


def grid(noise: float = 0.0, seed: int = 0, data: Sequence[float] = (1e9, 4e9, 6e10)) -> Runs:
    """16 runs of the known law at each amount of data."""
    S, N, D = (axis.ravel() for axis in np.meshgrid([0, 0.5, 0.75, 0.875], [1.3e6, 5.3e6, 2.1e7, 8.5e7], data))
    errors = np.random.default_rng(seed).normal(scale=noise, size=len(S))
    return Runs(S, N, D, FRANTAR.predict(KNOWN, S, N, D) * np.exp(errors))


def test_a_pinned_floor_gives_the_published_fit_in_compute() -> None:
    """marin#8096: L = 1.6 + A C^-alpha on six compute budgets; 1e21 was measured at 2.599."""
    C = np.array([1e18, 3e18, 1e19, 3e19, 1e20, 3e20])
    runs = Runs(np.zeros(6), C, C, np.array([3.522, 3.339, 3.154, 3.000, 2.848, 2.725]))
    steering = Steering(bounds={"E": (1.6, 1.6), "B": (0, 0), "beta": (1, 1)})
    found = fit(runs, "chinchilla", steering=steering)
    assert found.converged
    assert not found.degenerate
    assert found.params.E == 1.6
    assert found.params.B == 0
    assert pytest.approx(95.182, rel=2e-3) == found.params.A
    assert found.params.alpha == pytest.approx(0.0941, abs=5e-5)
    assert float(Law.from_fit(found).predict(0, 1e21, 1e21)) == pytest.approx(2.606, abs=5e-4)
    assert "pinned: B = 0, beta = 1, E = 1.6" in words_in("en")(found.status)


@settings(max_examples=12, deadline=None)
@given(names=st.sets(st.sampled_from(FrantarParams._fields), min_size=1, max_size=4))
@example(names={"a_S", "b_S", "c_S", "b_N"})  # what is left reads D alone, of which there must be more than it has
def test_pinned_at_the_minimum_nothing_changes(names: set[str]) -> None:
    runs = grid(noise=0.003, data=(1e9, 4e9, 1.5e10, 6e10))
    free = fit(runs, "frantar", starts=8)
    pins = {name: (float(getattr(free.params, name)),) * 2 for name in names}
    held = fit(runs, "frantar", starts=8, steering=Steering(bounds=pins))
    assert held.objective == pytest.approx(free.objective, rel=1e-9)
    np.testing.assert_allclose(held.params, free.params, rtol=1e-4)
    assert held.at_bounds == ()
    assert all(getattr(held.params, name) == value for name, (value, _) in pins.items())


@pytest.mark.parametrize("form", sorted(FORMS))
def test_pins_of_every_form_are_kept_by_fit_bootstrap_and_profile(form: str) -> None:
    runs = grid(noise=0.003)
    adapted = form_named(form).for_runs(runs)
    free = fit(runs, adapted, starts=8)
    for name in adapted.names:
        value = float(getattr(free.params, name)) * 1.02
        if name in free.at_bounds or value == 0 or not adapted.parameter(name).lower <= value:
            continue
        held = fit(runs, adapted, starts=6, steering=Steering(bounds={name: (value, value)}))
        assert held.gradient_is_zero, name
        assert getattr(held.params, name) == value
        assert held.objective >= free.objective * (1 - 1e-9)
        draws = bootstrap(held, 4)
        assert (np.asarray(getattr(draws.draws, name)) == value).all()
        (verdict,) = (one for one in draws.verdicts() if one.name == name)
        assert verdict.identified
        assert verdict.reason.key == "parameter-pinned"
    assert {one.name for one in profile(held)} == set(held.form.free)


@pytest.mark.parametrize(("name", "low", "high"), [("a_S", 0, 8.0), ("b_D", 0.4, 0.6), ("c", -np.inf, 0.7)])
def test_bounds_hold_and_are_told_where_they_bind(name: str, low: float, high: float) -> None:
    runs = grid()
    found = fit(runs, "frantar", starts=16, steering=Steering(bounds={name: (low, high)}))
    value, end = getattr(found.params, name), high if getattr(KNOWN, name) > high else low
    assert value == pytest.approx(end)
    assert found.at_bounds == (name,)
    wide = fit(runs, "frantar", starts=16, steering=Steering(bounds={name: (low, 10 * getattr(KNOWN, name))}))
    if low <= getattr(KNOWN, name):
        assert wide.at_bounds == ()
        assert getattr(wide.params, name) == pytest.approx(getattr(KNOWN, name), rel=1e-4)


def test_bounds_that_no_parameter_has_are_refused() -> None:
    for bounds in ({"nope": (1.0, 1.0)}, {"c": (-2.0, -1.0)}, {"b_N": (20.0, 30.0)}, {"c": (2.0, 1.0)}):
        with pytest.raises(RecordError):
            fit(grid(), "frantar", starts=2, steering=Steering(bounds=bounds))
        with pytest.raises(RecordError):
            compare(grid(), ["frantar", "chinchilla"], starts=2, steering=Steering(bounds=bounds))


def test_each_form_heeds_the_pins_that_it_has() -> None:
    steering = Steering(bounds={"c": (0.9, 0.9), "E": (0.9, 0.9)})
    compared = compare(grid(), ["frantar", "chinchilla"], holdouts=(), starts=4, steering=steering)
    assert compared.of("frantar").fit.params.c == 0.9
    assert compared.of("chinchilla").fit.params.E == 0.9


def test_overestimates_that_cost_more_let_undertuned_rows_lie_above() -> None:
    runs = grid(noise=0.001)
    rng = np.random.default_rng(1)
    untuned = rng.random(len(runs)) < 0.4
    loss = runs.loss * np.where(untuned, 1 + rng.uniform(0.01, 0.05, len(runs)), 1)
    worse = Runs(runs.sparsity, runs.nonzero, runs.data, loss)
    plain, steered = (
        fit(worse, "frantar", starts=16, delta=np.inf, steering=Steering(overestimates=cost)) for cost in (1.0, 100.0)
    )
    truth = FRANTAR.predict(KNOWN, runs.sparsity, runs.nonzero, runs.data)
    assert np.abs(steered.predicted / truth - 1).mean() < np.abs(plain.predicted / truth - 1).mean() / 2
    assert (steered.residuals > 0).sum() < (plain.residuals > 0).sum()
    assert steered.gradient_is_zero


@settings(max_examples=10, deadline=None)
@given(sigma=st.floats(1e-4, 0.05), delta=st.sampled_from([1e-3, 1.345, "least-squares"]))
@example(sigma=0.023241782381430126, delta=1e-3)
def test_a_free_scale_finds_the_noise(sigma: float, delta: float | str) -> None:
    threshold = np.inf if delta == "least-squares" else float(delta)
    found = fit(grid(noise=sigma), "frantar", starts=6, delta=threshold, steering=Steering(free_scale=True))
    assert found.scale is not None
    z = found.residuals / found.scale
    assert float((np.minimum(np.abs(z), threshold) * np.abs(z)).mean()) == pytest.approx(1, rel=1e-5)
    if threshold > 1:
        assert 0.6 < found.scale / sigma < 1.3
    assert found.asked_delta == pytest.approx(threshold, rel=1e-6) or found.delta == 1e-9


def test_weights_are_repetitions_and_their_scale_means_nothing() -> None:
    runs = grid(noise=0.004)
    counts = np.random.default_rng(0).integers(1, 4, len(runs))
    repeated = Runs(*(np.repeat(runs.column(name), counts) for name in ("sparsity", "nonzero", "data", "loss")))
    weighed = [
        fit(Runs(runs.sparsity, runs.nonzero, runs.data, runs.loss, weights=counts * k), "frantar", starts=6)
        for k in (1.0, 1e6)
    ]
    expected = fit(repeated, "frantar", starts=6)
    for found in weighed:
        np.testing.assert_allclose(found.params, expected.params, rtol=1e-5)
        assert found.objective == pytest.approx(expected.objective)
    assert len(bootstrap(weighed[0], 3)) == 3
    with pytest.raises(RecordError, match="weights"):
        Runs(runs.sparsity, runs.nonzero, runs.data, runs.loss, weights=np.zeros(len(runs)))


def test_the_best_row_of_each_place_is_kept() -> None:
    runs = grid()
    sweep = Runs(
        *(np.concatenate([runs.column(name)] * 3) for name in ("sparsity", "nonzero", "data")),
        np.concatenate([runs.loss * k for k in (1.5, 1.0, 1.2)]),
    )
    best = sweep.best_of_each()
    assert sorted(best.loss) == pytest.approx(sorted(runs.loss))
    assert len(best) == len(runs)


def test_what_else_is_known_of_rows_tells_places_apart_and_what_is_unknown_does_not() -> None:
    runs = grid()
    S, N, D = (np.concatenate([runs.column(name)] * 2) for name in ("sparsity", "nonzero", "data"))
    loss = np.concatenate([runs.loss, runs.loss * 1.2])
    told = {"bits": np.repeat([4.0, 16.0], len(runs))}
    assert len(Runs(S, N, D, loss, others=told).best_of_each()) == 2 * len(runs)
    assert Runs(S, N, D, loss, others=told).repeats.rows == 0
    unknown = Runs(S, N, D, loss, others={"loss_before": np.full(2 * len(runs), np.nan)})
    assert len(unknown.best_of_each()) == len(runs)
    assert unknown.repeats.rows == len(runs)


def test_a_document_keeps_the_steering() -> None:
    steering = Steering(overestimates=3.0, free_scale=True, bounds={"c": (0.9, 0.9), "b_D": (-np.inf, 0.5)})
    found = fit(grid(noise=0.002), "frantar", starts=4, steering=steering)
    written = document(found, source="rows", bootstrap=bootstrap(found, 4))
    read = LawDocument.model_validate_json(written.model_dump_json())
    assert read == written
    assert read.fit.steering.pinned == ("c",)
    assert read.fit.steering.bounds["b_D"] == (-np.inf, 0.5)
    law = Law.from_document(read)
    assert law.noise is not None
    assert law.noise.deviation == pytest.approx(Law.from_fit(found).noise.deviation)  # type: ignore[union-attr]
    assert float(gain(law, 0.5)) == pytest.approx(float(gain(Law.from_fit(found), 0.5)))


def test_rollouts_predict_each_next_size_and_say_what_they_cannot() -> None:
    steps = rollout(fit(grid(), "frantar", starts=6))
    assert [step.next for step in steps] == [5.3e6, 2.1e7, 8.5e7]
    assert steps[0].heldout is None
    assert "nonzero" in steps[0].reason
    last = steps[-1].heldout
    assert last is not None
    assert last.fit.runs.nonzero.max() == 2.1e7
    assert last.worst_relative_error < 1e-4


def test_rows_that_stand_out_are_named_with_their_influence() -> None:
    runs = grid(noise=0.001)
    loss = runs.loss.copy()
    loss[[5, 17]] *= 1.04
    found = fit(Runs(runs.sparsity, runs.nonzero, runs.data, loss, labels=tuple(map(str, range(48)))), "frantar")
    apart = standing_out(found, lambda law: gain(law, 0.75))
    assert {one.where for one in apart if not one.rung} == {"5", "17"}
    assert all(one.excess == pytest.approx(0.04, abs=0.01) for one in apart)
    exact = fit(found.runs.select(np.arange(48) != apart[0].rows[0]), "frantar")
    assert apart[0].without == pytest.approx(float(gain(Law.from_fit(exact), 0.75)), rel=1e-3)
    assert all(words_in(language)(one.words) for one in apart for language in LANGUAGES)
    assert standing_out(fit(runs, "frantar", starts=8)) == ()


def test_a_rung_that_is_undertuned_is_named() -> None:
    runs = grid(noise=0.0005)
    rung = runs.nonzero == 2.1e7
    found = fit(Runs(runs.sparsity, runs.nonzero, runs.data, runs.loss * np.where(rung, 1.03, 1)), "frantar", starts=16)
    (apart,) = (one for one in standing_out(found) if one.rung)
    assert apart.excess > 0.01
    assert set(apart.rows) == set(np.flatnonzero(rung))


def test_a_rung_of_a_form_that_reads_more_is_told_at_the_median_of_the_runs() -> None:
    S, N, D = (axis.ravel() for axis in np.meshgrid([0.0, 0.5], [1e7, 1e8, 1e9], [1e9, 1e10, 1e11]))
    loss = 2.0 + 0.1 * (1 + S) + 0.3 * (D / 1e9) ** -0.3
    runs = Runs(S, N, D, loss * np.where(N > 5e8, 1.1, 1.0), others={"loss_before": np.where(N > 5e7, 2.0, 2.5)})
    apart = standing_out(fit(runs, "compressed", starts=4), lambda law: law.predict(0.5, 1e8, 1e10))
    assert apart
    assert all(np.isfinite(one.without) for one in apart)
