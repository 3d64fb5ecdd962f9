from importlib import import_module

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparsity_lab.errors import RecordError
from sparsity_lab.laws import CHINCHILLA, FORMS, FRANTAR, Runs, evaluate, fit, form_named
from sparsity_lab.laws.forms.power_forms import ChinchillaParams, FrantarParams
from sparsity_lab.messages import words_in

LAWS = st.builds(
    FrantarParams,
    a_S=st.floats(5, 25),
    b_S=st.floats(0.5, 1.5),
    c_S=st.floats(15, 50),
    b_N=st.floats(0.2, 0.35),
    a_D=st.floats(5e7, 8e8),
    b_D=st.floats(0.25, 0.6),
    c=st.floats(0.5, 2.0),
)

LEVELS = (0.0, 0.5, 0.7, 0.8, 0.9)
RECOVERED = {
    "frantar": {"a_S": 12.0, "b_S": 0.9, "c_S": 30.0, "b_N": 0.25, "a_D": 6e7, "b_D": 0.35, "c": 0.9},
    "chinchilla": {"A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28, "E": 1.69},
    "average_params": {"A": 120.0, "alpha": 0.3, "B": 1500.0, "beta": 0.35, "E": 1.2},
    "density": {
        "A": 188.8, "epsilon": -0.0097, "P": -0.2729, "mu": 0.8466, "alpha": 0.3268, "B": 447.2, "beta": 0.33, "E": 2.3
    },
    "effective_params": {
        "A": 100.0, "alpha": 0.3, "eff_50": 0.8, "eff_70": 0.65, "eff_80": 0.5, "eff_90": 0.3, "B": 900.0, "beta": 0.35,
        "E": 1.1,
    },
    "generalized": {"e": 1.7, "gamma": -0.03, "a": 120.0, "alpha": 0.3, "c": 60.0, "b": 900.0, "beta": 0.33},
}  # fmt: skip


def law_of(name):
    form = form_named(name, LEVELS if name == "effective_params" else ())
    return form, form.make_params(RECOVERED[name])


@pytest.mark.parametrize("seed", range(20))
def test_the_published_runs_reach_their_minimum_from_every_seed(paper_runs, seed):
    found = fit(paper_runs, "frantar", seed=seed)
    assert found.objective <= 4.88012e-6
    assert found.converged
    assert not found.degenerate
    assert found.gradient_norm < 1e-12
    assert found.agreeing >= 48, found.status


def test_the_published_minimum_in_the_notebooks_units(paper_runs):
    p = fit(paper_runs, "frantar").params
    million, steps = 1e6, 1e5 * 65536
    normalised = (
        p.a_S * million**-p.b_N,
        p.b_S,
        p.c_S * million**-p.b_N,
        p.b_N,
        (p.a_D / steps) ** p.b_D,
        p.b_D,
        p.c,
    )
    np.testing.assert_allclose(normalised, (0.43624, 1.34497, 1.69517, 0.23168, 0.41761, 0.38464, 0.83037), atol=6e-6)


def test_the_published_row_is_not_the_minimum(paper_runs, paper_heldout, published):
    row, minimum = published("frantar2024-t5-c4"), published("frantar2024-t5-c4-minimum")
    assert evaluate(paper_runs, FRANTAR, row.params) == pytest.approx(7.6036e-6, abs=5e-11)
    assert evaluate(paper_runs, FRANTAR, minimum.params) == pytest.approx(4.8801166e-6, abs=1e-12)
    at = paper_heldout.sparsity[0], paper_heldout.nonzero[0], paper_heldout.data[0]
    assert row.predict(*at) == pytest.approx(1.46830, abs=5e-6)
    assert minimum.predict(*at) == pytest.approx(1.45507, abs=5e-6)
    assert abs(minimum.predict(*at) - paper_heldout.loss[0]) > abs(row.predict(*at) - paper_heldout.loss[0])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(law=LAWS, residual=st.sampled_from(["log", "linear"]))
def test_exact_runs_give_the_law_back(make_runs, law, residual):
    found = fit(make_runs(law), "frantar", residual=residual, starts=24)
    assert found.converged, found.status
    np.testing.assert_allclose(found.params, law, rtol=1e-5)
    assert found.r2 == pytest.approx(1.0, abs=1e-10)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(law=LAWS, seed=st.integers(0, 1000))
def test_noisy_runs_give_predictions_nearer_than_the_noise(make_runs, law, seed):
    found = fit(make_runs(law, noise=0.002, seed=seed), "frantar", starts=24)
    S, N, D = np.array([(0.0, 1e7, 8e9), (0.6, 1e7, 8e9), (0.8, 5e7, 4e9)]).T
    assert found.converged, found.status
    np.testing.assert_allclose(FRANTAR.predict(found.params, S, N, D), FRANTAR.predict(law, S, N, D), rtol=0.003)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(nonzero=st.floats(1e-6, 1e6), data=st.floats(1e-9, 1e6))
def test_rescaling_sizes_and_data_changes_no_prediction(make_runs, nonzero, data):
    runs = make_runs(noise=0.003)
    scaled = Runs(runs.sparsity, runs.nonzero * nonzero, runs.data * data, runs.loss)
    here, there = fit(runs, "frantar", starts=16), fit(scaled, "frantar", starts=16)
    np.testing.assert_allclose(there.predicted, here.predicted, rtol=1e-9)
    assert there.objective == pytest.approx(here.objective, rel=1e-9)


def test_chinchilla_is_recovered(make_runs):
    law = ChinchillaParams(A=406.4, alpha=0.34, B=410.7, beta=0.28, E=1.69)
    found = fit(make_runs(law, form=CHINCHILLA), "chinchilla")
    np.testing.assert_allclose(found.params, law, rtol=1e-5)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("residual", ["log", "linear"])
def test_every_form_finds_the_law_that_made_the_runs(make_runs, name, residual):
    form, law = law_of(name)
    found = fit(make_runs(law, form=form, sparsity=LEVELS), name, residual=residual, starts=32)
    assert not found.failed, found.status
    between = np.array([(S, 1e7, D) for S in LEVELS for D in (2e9, 1e12)]).T
    np.testing.assert_allclose(found.form.predict(found.params, *between), form.predict(law, *between), rtol=1e-6)


@pytest.mark.parametrize("name", FORMS)
def test_no_form_depends_on_the_units(make_runs, name):
    form, law = law_of(name)
    runs = make_runs(law, form=form, sparsity=LEVELS, noise=0.003)
    scaled = Runs(runs.sparsity, runs.nonzero * 3e-7, runs.data * 2e3, runs.loss)
    here, there = fit(runs, name, starts=16), fit(scaled, name, starts=16)
    assert there.objective == pytest.approx(here.objective, rel=1e-9)
    np.testing.assert_allclose(there.predicted, here.predicted, rtol=1e-7)


@pytest.mark.parametrize("name", FORMS)
def test_every_form_reaches_one_minimum_of_the_published_runs_from_every_seed(paper_runs, name):
    fits = [fit(paper_runs, name, seed=seed) for seed in range(3)]
    assert all(found.converged for found in fits), [found.status for found in fits]
    np.testing.assert_allclose([found.objective for found in fits], fits[0].objective, rtol=1e-9)


def test_points_apart_that_are_as_low_are_told_and_chosen_from_the_same_way(paper_runs):
    """Three sparse levels, three parameters for them: density follows any three values, in more than one way."""
    fits = [fit(paper_runs, "density", seed=seed) for seed in range(3)]
    for found in fits:
        assert found.rivals > 0
        assert found.failed
        assert set(found.undetermined) == {"epsilon", "P", "mu"}
        assert "other minima are as low" in words_in()(found.status)
        np.testing.assert_allclose(found.params, fits[0].params, rtol=1e-6)
    saturated = fit(paper_runs, "effective_params").objective
    assert fits[0].objective == pytest.approx(saturated, rel=1e-9)


def test_a_saturated_form_fits_no_worse_than_any_other_in_dense_size(paper_runs):
    saturated = fit(paper_runs, "effective_params").objective
    assert all(saturated <= fit(paper_runs, name).objective * (1 + 1e-9) for name in ("frantar", "chinchilla"))


def test_many_rows_are_fitted_by_way_of_few(make_runs, monkeypatch):
    runs = make_runs(noise=0.004, sparsity=tuple(np.linspace(0.0, 0.9, 12)), nonzero=tuple(np.geomspace(1e6, 1e8, 8)))
    whole = fit(runs, "frantar", starts=24)
    monkeypatch.setattr(import_module("sparsity_lab.laws.fitting.walks"), "SAMPLE", 100)
    sampled = fit(runs, "frantar", starts=24)
    assert sampled.converged, sampled.status
    assert sampled.objective == pytest.approx(whole.objective, rel=1e-9)
    np.testing.assert_allclose(sampled.predicted, whole.predicted, rtol=1e-6)


def test_least_squares_is_an_infinite_threshold(make_runs):
    runs = make_runs(noise=0.003)
    found = fit(runs, "frantar", delta=np.inf)
    assert found.converged, found.status
    assert found.objective == pytest.approx(0.5 * (found.residuals**2).mean())
    assert found.objective == pytest.approx(fit(runs, "frantar", delta=10.0).objective, rel=1e-9)
    assert found.objective < 0.5 * (fit(runs, "frantar").residuals ** 2).mean()


def test_no_neighbour_is_lower(make_runs):
    runs = make_runs(noise=0.01)
    found = fit(runs, "frantar")
    rng = np.random.default_rng(0)
    for scale in (1e-5, 1e-3, 1e-1):
        for factors in np.exp(rng.normal(scale=scale, size=(50, 7))):
            neighbour = FrantarParams(*(np.array(found.params) * factors))
            assert evaluate(runs, FRANTAR, neighbour) > found.objective


@pytest.mark.parametrize(
    ("axes", "undetermined"),
    [
        ({"data": (1e9, 6.4e10)}, {"a_D", "b_D", "c"}),
        ({"sparsity": (0.0, 0.75)}, {"a_S", "b_S", "c_S"}),
    ],
)
def test_two_values_of_a_column_are_called_degenerate(make_runs, axes, undetermined):
    found = fit(make_runs(noise=0.002, **axes), "frantar")
    assert found.degenerate
    assert set(found.undetermined) == undetermined
    assert "degenerate: the objective does not determine" in words_in()(found.status)


def test_a_flat_bottom_is_named_and_chosen_from_the_same_way_by_every_seed(make_runs):
    """Chinchilla ignores S, so runs that differ in S alone pull with equal force both ways, far beyond delta."""
    runs = make_runs()
    fits = [fit(runs, "chinchilla", seed=seed) for seed in range(3)]
    assert all(found.degenerate for found in fits)
    assert fits[0].params == fits[1].params == fits[2].params
    assert not fit(runs, "chinchilla", delta=1.0).degenerate


def test_a_term_that_is_not_there_is_at_its_bound(make_runs, known):
    found = fit(make_runs(known._replace(c=1e-12), noise=0.001, seed=5), "frantar")
    assert found.at_bounds == ("c",)
    assert "at a bound: c" in words_in()(found.status)
    assert found.converged


def test_one_start_cannot_agree_with_another_but_may_converge(make_runs):
    found = fit(make_runs(noise=0.002), "frantar", starts=1, seed=2)
    assert (found.starts, found.agreeing) == (1, 1)


def test_an_unfinished_walk_says_so(make_runs, monkeypatch):
    for name in ("WARM_UP", "WALK"):
        monkeypatch.setattr(import_module("sparsity_lab.laws.fitting.walks"), name, 1)
    found = fit(make_runs(noise=0.01), "frantar", starts=4)
    assert not found.converged
    assert found.failed
    assert words_in()(found.status).startswith("not converged")


@pytest.mark.parametrize(
    ("axes", "column"),
    [({"sparsity": (0.5,)}, "sparsity"), ({"nonzero": (1e7,)}, "nonzero"), ({"data": (1e9,)}, "data")],
)
def test_a_column_that_never_changes_is_refused_by_name(make_runs, axes, column):
    with pytest.raises(RecordError, match=f"{column}: never changes, so the form frantar cannot be fitted"):
        fit(make_runs(**axes), "frantar")


def test_chinchilla_needs_no_sparsity(make_runs):
    assert fit(make_runs(sparsity=(0.0,)), "chinchilla").converged


def test_too_few_runs(make_runs):
    runs = make_runs()
    with pytest.raises(RecordError, match=r"too few different runs for the 7 parameters of frantar \(found 2"):
        fit(runs.select(np.isin(np.arange(len(runs)), [0, 63])), "frantar")


def test_repeated_runs_are_not_more_runs(make_runs):
    few = make_runs(sparsity=(0.0, 0.5), nonzero=(1e6, 1e7), data=(1e9, 4e9))
    repeated = Runs(*(np.tile(few.column(name), 5) for name in ("sparsity", "nonzero", "data", "loss")))
    with pytest.raises(RecordError, match=r"too few different runs .*found 4, expected more than 5"):
        fit(repeated, "chinchilla")


def test_settings_that_mean_nothing(make_runs):
    with pytest.raises(ValueError, match="must be positive"):
        fit(make_runs(), "frantar", delta=0.0)
