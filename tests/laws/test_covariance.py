import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sparsity_lab.laws import Noise, covariance, fit, noise
from sparsity_lab.laws.uncertainty.covariance import student_quantile
from sparsity_lab.laws.uncertainty.noise import moments, noise_of


@settings(max_examples=30, deadline=None)
@given(deviation=st.floats(1e-4, 1e-1), delta=st.floats(1e-4, 1e-1))
def test_moments_are_expectations_over_normal_residuals(deviation, delta):
    points = (np.arange(50_000) + 0.5) / 50_000
    residuals = deviation * stats.norm.ppf(points)
    inside = np.minimum(np.abs(residuals), delta)
    found = moments(deviation, delta)
    assert found.loss == pytest.approx((inside * (np.abs(residuals) - inside / 2)).mean(), rel=2e-3)
    assert found.slope_squared == pytest.approx((inside**2).mean(), rel=2e-3)
    assert found.curvature == pytest.approx((np.abs(residuals) <= delta).mean(), abs=3e-5)


@settings(max_examples=30, deadline=None)
@given(deviation=st.floats(1e-4, 1e-1), delta=st.floats(1e-4, 1e-1))
def test_noise_inverts_the_expected_objective(deviation, delta):
    found = noise_of(moments(deviation, delta).loss, delta, "log", rows=400, parameters=0)
    assert found.deviation == pytest.approx(deviation, rel=1e-9)


def test_least_squares_divides_by_the_degrees_of_freedom(make_runs):
    runs = make_runs(noise=0.002)
    fitted = fit(runs, "frantar", delta=1e3, starts=4)
    expected = np.sqrt((fitted.residuals**2).sum() / (len(runs) - 7))
    assert noise(fitted).deviation == pytest.approx(expected, rel=1e-4)


def test_noise_in_nats():
    losses = np.array([2.0, 3.0])
    np.testing.assert_allclose(Noise("log", 0.01).nats(losses), [0.02, 0.03])
    np.testing.assert_allclose(Noise("linear", 0.01).nats(losses), [0.01, 0.01])


@pytest.mark.parametrize("freedom", [3, 10, 41, 1000])
@pytest.mark.parametrize("probability", [0.05, 0.5, 0.95, 0.995])
def test_students_quantiles(freedom, probability):
    assert student_quantile(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom), abs=1e-4)


def test_standard_errors_are_the_scatter_of_refits(make_runs):
    """Of 60 repetitions, to their own scatter: 9 % each."""
    fits = [fit(make_runs(noise=0.002, seed=seed), "frantar", starts=2) for seed in range(60)]
    scatter = np.std([one.params for one in fits], axis=0)
    for estimate in ("scaled", "sandwich"):
        expected = np.sqrt(np.mean([np.diagonal(covariance(one, estimate)) for one in fits], axis=0))
        np.testing.assert_allclose(expected / scatter, 1, atol=0.35)


def test_parameters_at_a_bound_do_not_move(make_runs, known):
    fitted = fit(make_runs(known._replace(c=1e-9)), "frantar", starts=4)
    assert fitted.at_bounds == ("c",)
    matrix = covariance(fitted)
    assert (matrix[-1] == 0).all()
    assert (matrix[:, -1] == 0).all()
    assert (np.diagonal(matrix)[:-1] > 0).all()
