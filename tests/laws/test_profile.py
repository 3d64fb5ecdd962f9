import warnings

import numpy as np
import pytest

from sparsity_lab.laws import FORMS, Runs, bootstrap, covariance, fit, noise, profile
from sparsity_lab.laws.fitting.objective import HuberObjective
from sparsity_lab.laws.fitting.solver import Box, minimise
from sparsity_lab.laws.fitting.starts import box_for
from sparsity_lab.laws.uncertainty.covariance import student_quantile


def lowest_with(fitted, name, value):
    """The objective's minimum over the other coordinates, from 24 random starts; `name` must be a coordinate."""
    runs, form = fitted.runs, fitted.form
    objective = HuberObjective(
        form.design(runs, fitted.units),
        runs.loss,
        fitted.residual,
        fitted.delta,
        np.full((1, len(runs)), 1 / len(runs)),
    )
    place, box = form.coordinates.index(name), box_for(form, runs)
    lower, upper = box.lower.copy(), box.upper.copy()
    held = form.to_coordinates(fitted.params._replace(**{name: value}), fitted.units)[place]
    lower[place] = upper[place] = held
    starts = fitted.coordinates + np.random.default_rng(0).normal(size=(24, len(form.names)))
    return minimise(objective, starts, Box(lower, upper)).value.min()


def test_each_value_is_a_constrained_minimum(paper_runs):
    fitted = fit(paper_runs, "frantar")
    for one in profile(fitted, ("b_N", "b_D", "c")):
        for value, ratio in zip(one.values[1::3], one.ratio[1::3], strict=True):
            lowest = lowest_with(fitted, one.name, value)
            expected = 2 * len(paper_runs) * (lowest - fitted.objective) / one.scale**2
            assert ratio >= expected - 1e-3
            assert ratio <= expected * 1.05 + 0.05


def test_what_three_values_of_data_leave_open(paper_runs):
    """The constant may be zero, b_D a quarter of its value; a_D follows on a second branch, a hundred times larger."""
    fitted = fit(paper_runs, "frantar")
    one = {each.name: each for each in profile(fitted, confidence=0.9)}
    assert one["c"].open_ends == ("low",)
    assert one["c"].low == 0.0
    assert one["b_D"].low < 0.11
    assert one["b_D"].high == pytest.approx(0.68, abs=0.05)
    assert one["a_D"].high > 50 * fitted.params.a_D
    assert one["b_N"].open_ends == ()
    draws = bootstrap(fitted, 200).draws
    for name in ("b_N", "b_S"):
        low, high = np.quantile(getattr(draws, name), [0.05, 0.95])
        assert (one[name].high - one[name].low) == pytest.approx(high - low, rel=0.35)


def test_values_rise_and_the_minimum_is_in_them(make_runs):
    fitted = fit(make_runs(noise=0.002), "frantar", starts=4)
    for one in profile(fitted):
        assert (np.diff(one.values) > 0).all()
        assert min(one.ratio) == 0
        assert one.values[one.ratio.index(0)] == pytest.approx(one.best, rel=1e-9)
        assert one.low < one.best < one.high
        assert one.ratio[0] > one.threshold
        assert one.ratio[-1] > one.threshold


def test_a_tight_profile_is_the_parabola_of_its_standard_error(make_runs):
    fitted = fit(make_runs(noise=1e-5), "frantar", delta=1e3, starts=4)
    root = student_quantile(0.95, len(fitted.runs) - 7)
    errors = np.sqrt(np.diagonal(covariance(fitted)))
    for one, error in zip(profile(fitted), errors, strict=True):
        assert (one.high - one.low) / 2 == pytest.approx(root * error, rel=0.02)
        assert one.scale == pytest.approx(noise(fitted).deviation, rel=1e-9)


def test_signed_parameters_may_cross_zero():
    form = FORMS["generalized"]
    known = form.make_params({"e": 0.9, "gamma": 0.01, "a": 30.0, "alpha": 0.25, "c": 9.0, "b": 8e2, "beta": 0.3})
    S, N, D = (axis.ravel() for axis in np.meshgrid([0, 0.5, 0.75, 0.9], [1e6, 1e7, 1e8], [1e9, 1e10, 1e11]))
    noisy = np.exp(np.random.default_rng(1).normal(scale=0.004, size=len(S)))
    fitted = fit(Runs(S, N, D, form.predict(known, S, N, D) * noisy), form, starts=16)
    (one,) = profile(fitted, ("gamma",))
    assert one.low < 0 < one.high
    assert one.low < 0.01 < one.high


def test_unknown_parameters_are_refused(make_runs):
    with pytest.raises(ValueError, match="no such parameters"):
        profile(fit(make_runs(), "frantar", starts=2), ("nope",))


def test_a_path_that_leaves_floats_ends_without_numpys_warnings():
    """Two sizes, the second twice the first, tell nothing of A and alpha: their paths run on until powers overflow."""
    N, D = (axis.ravel() for axis in np.meshgrid([1.0, 2.0], np.geomspace(1, 20, 5)))
    noise = np.random.default_rng(1).normal(scale=0.02, size=len(N))
    loss = (0.1 * N**-0.3 + D**-0.4 + 2) * np.exp(noise)
    fitted = fit(Runs(np.zeros_like(N), N, D, loss), "chinchilla", starts=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = profile(fitted, ("A", "alpha"))
    assert all(np.isfinite(one.ratio).all() for one in found)
