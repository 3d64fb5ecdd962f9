import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sparsity_lab.errors import RecordError
from sparsity_lab.laws import (
    CHINCHILLA,
    FORMS,
    FRANTAR,
    Law,
    SparseSchedule,
    chinchilla_compute,
    chinchilla_data,
    chinchilla_ratio,
    dense_data,
    dense_equivalent_size,
    dense_hardware,
    free,
    gain,
    joint_optimum,
    optimal_sparsity,
    optimal_sparsity_on_dense_hardware,
    optimum_grid,
    training_flops,
)
from sparsity_lab.laws.forms.power_forms import ChinchillaParams, FrantarParams

RATIOS = np.array([1.0, 2.0, 5.0, 10.0, 100.0])
LAWS = st.builds(
    FrantarParams,
    a_S=st.floats(5, 300),
    b_S=st.floats(0.4, 1.6),
    c_S=st.floats(10, 500),
    b_N=st.floats(0.2, 0.4),
    a_D=st.floats(1e7, 1e9),
    b_D=st.floats(0.15, 0.9),
    c=st.floats(0.3, 4.0),
)

FLAT = FrantarParams(5.0, 0.40625, 10.0, 0.375, 1e7, 0.15625, 2.0)
"""around its minimum the loss changes by less than rounding"""


def law_of(params: FrantarParams) -> Law:
    return Law(FRANTAR, params, "tokens", "a test")


@pytest.mark.parametrize(
    ("name", "cost", "expected"),
    [
        ("frantar2024-t5-c4", SparseSchedule(), (0.425, 0.484, 0.553, 0.601, 0.729)),
        ("frantar2024-t5-c4", dense_hardware, (0, 0, 0.105, 0.231, 0.536)),
        ("frantar2024-t5-c4-minimum", SparseSchedule(), (0.427, 0.498, 0.579, 0.632, 0.767)),
        ("frantar2024-t5-c4-minimum", dense_hardware, (0.095, 0.224, 0.367, 0.458, 0.675)),
        ("frantar2024-vit-jft", SparseSchedule(), (0.351, 0.543, 0.713, 0.798, 0.938)),
        ("frantar2024-vit-jft", dense_hardware, (0, 0.210, 0.510, 0.658, 0.897)),
    ],
)
@pytest.mark.parametrize("nonzero", [1e6, 1e8, 1e10])
def test_optimal_sparsities_of_the_published_laws(published, name, cost, expected, nonzero):
    """Whatever N: they depend on C / C_chin(N) only, so the contours run parallel to the dense-optimal line."""
    law = published(name)
    budgets = dense_data(RATIOS * chinchilla_compute(law, nonzero), nonzero)
    np.testing.assert_allclose(optimal_sparsity(law, nonzero, budgets, cost), expected, atol=6e-4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("frantar2024-t5-c4", (1.586, 2.157, 2.630)),
        ("frantar2024-vit-jft", (1.596, 2.172, 2.634)),
        ("frantar2024-t5-c4-minimum", (1.772, 2.270, 2.512)),
    ],
)
def test_gains_of_the_published_laws(published, name, expected):
    np.testing.assert_allclose(gain(published(name), [0.5, 0.75, 0.875]), expected, atol=5e-4)


@settings(max_examples=50, deadline=None)
@given(law=LAWS, sparsity=st.floats(0, 0.99), nonzero=st.floats(1e5, 1e9))
def test_a_gain_is_a_dense_model_with_the_same_loss(law, sparsity, nonzero):
    one = law_of(law)
    larger = nonzero * gain(one, sparsity)
    np.testing.assert_allclose(one.predict(0.0, larger, 1e9), one.predict(sparsity, nonzero, 1e9), rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(law=LAWS, nonzero=st.floats(1e5, 1e10), ratio=st.floats(0.5, 1000))
@example(law=FLAT, nonzero=650189283.0, ratio=777.0)
def test_the_closed_form_is_the_numerical_optimum(law, nonzero, ratio):
    one = law_of(law)
    data = dense_data(ratio * chinchilla_compute(one, nonzero), nonzero)
    closed = optimal_sparsity_on_dense_hardware(law, nonzero, data)
    numerical = optimal_sparsity(one, nonzero, data, dense_hardware, highest=0.9999)
    np.testing.assert_allclose(numerical, np.minimum(closed, 0.9999), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(law=LAWS, nonzero=st.floats(1e5, 1e10), ratio=st.floats(0.5, 300))
def test_nothing_on_a_fine_grid_is_lower(law, nonzero, ratio):
    one, cost = law_of(law), SparseSchedule()
    data = dense_data(ratio * chinchilla_compute(one, nonzero), nonzero)
    best = optimal_sparsity(one, nonzero, data, cost)
    fine = np.linspace(0, 0.97, 5001)
    lowest = one.predict(fine, nonzero, data / cost(fine)).min()
    assert one.predict(best, nonzero, data / cost(best)) <= lowest * (1 + 1e-14)


@settings(max_examples=40, deadline=None)
@given(law=LAWS, nonzero=st.floats(1e5, 1e9))
def test_chinchilla_data_is_optimal_among_dense_models(law, nonzero):
    one = law_of(law)
    expected = law.a_D * (law.b_D * nonzero**law.b_N / (law.b_N * (law.a_S + law.c_S))) ** (1 / law.b_D)
    data = chinchilla_data(one, nonzero)
    np.testing.assert_allclose(data, expected, rtol=1e-9)
    factors = np.geomspace(0.5, 2, 51)
    assert one.predict(0.0, nonzero * factors, data / factors).argmin() == 25


def test_everything_broadcasts_over_arguments_and_laws(published):
    law = published("frantar2024-t5-c4")
    params = law.params._replace(b_D=np.array([0.2, 0.3, 0.4])[:, None, None])
    many = Law(FRANTAR, params, "tokens", "three")
    nonzero, data = np.array([1e6, 1e8])[:, None], np.array([1e9, 1e10, 1e11, 1e12])
    together = optimal_sparsity(many, nonzero, data)
    assert together.shape == (3, 2, 4)
    assert chinchilla_compute(many, nonzero).shape == (3, 2, 1)
    steeper = Law(FRANTAR, law.params._replace(b_N=np.array([0.2, 0.3, 0.4])[:, None]), "tokens", "three")
    assert gain(steeper, [0.5, 0.75]).shape == (3, 2)
    alone = Law(FRANTAR, law.params._replace(b_D=0.3), "tokens", "one")
    assert together[1, 1, 2] == pytest.approx(float(optimal_sparsity(alone, 1e8, 1e11)), abs=1e-7)


def test_free_training_wants_all_the_sparsity_allowed(published):
    assert optimal_sparsity(published("frantar2024-t5-c4"), 1e8, 1e9, free, highest=0.9) == 0.9


def test_a_law_without_sparsity_never_wants_any():
    law = Law(CHINCHILLA, ChinchillaParams(A=406.4, alpha=0.34, B=410.7, beta=0.28, E=1.69), "tokens", "a test")
    assert optimal_sparsity(law, 1e8, 1e11) == 0.0
    assert gain(law, 0.9) == 1.0


@settings(max_examples=30, deadline=None)
@given(law=LAWS, ratio=st.floats(1, 200), nonzero=st.floats(1e5, 1e9), factor=st.floats(1e-3, 1e3))
def test_contours_depend_on_the_ratio_to_dense_optimal_compute_only(law, ratio, nonzero, factor):
    one, sizes = law_of(law), np.array([nonzero, nonzero * factor])
    data = ratio * chinchilla_data(one, sizes)
    np.testing.assert_allclose(chinchilla_ratio(one, sizes, data), ratio, rtol=1e-12)
    here, there = optimal_sparsity(one, sizes, data)
    assert here == pytest.approx(there, abs=1e-6)


def test_a_grid_of_optima_and_its_dense_optimal_line(published):
    law = published("frantar2024-t5-c4")
    sizes, data = np.geomspace(1e6, 1e9, 4), np.geomspace(1e9, 1e12, 3)
    grid = optimum_grid(law, sizes, data)
    assert grid.sparsity.shape == (3, 4)
    assert grid.sparsity[2, 1] == pytest.approx(float(optimal_sparsity(law, sizes[1], data[2])), abs=1e-7)
    np.testing.assert_allclose(grid.dense_optimal, chinchilla_data(law, sizes))
    many = Law(FRANTAR, law.params._replace(b_D=np.array([0.2, 0.3])), "tokens", "two")
    assert optimum_grid(many, sizes, data).sparsity.shape == (2, 3, 4)


@settings(max_examples=15, deadline=None)
@given(law=LAWS, compute=st.floats(1e16, 1e22))
def test_no_size_and_sparsity_beat_the_joint_optimum(law, compute):
    one, cost = law_of(law), SparseSchedule()
    best = joint_optimum(one, compute)
    assert training_flops(best.sparsity, best.nonzero, best.data) == pytest.approx(compute, rel=1e-9)
    sparsity, sizes = np.linspace(0, 0.97, 98)[:, None], best.nonzero * np.geomspace(0.01, 100, 201)
    losses = one.predict(sparsity, sizes, compute / (6 * sizes * cost(sparsity)))
    assert best.loss <= losses.min() * (1 + 1e-12)
    assert best.loss == one.predict(best.sparsity, best.nonzero, best.data)


def generalized() -> Law:
    """Sparsity lowers the floor as well as the size term: no common factor of N."""
    form = FORMS["generalized"]
    values = {"e": 0.9, "gamma": 0.05, "a": 30.0, "alpha": 0.25, "c": 20.0, "b": 800.0, "beta": 0.3}
    return Law(form, form.make_params(values), "tokens", "a test")


def test_the_joint_optimum_of_a_law_whose_gain_is_no_number():
    law, cost, compute = generalized(), SparseSchedule(), np.array([1e18, 1e20])
    best = joint_optimum(law, compute)
    sparsity = np.linspace(0, 0.97, 98)[:, None, None]
    sizes = best.nonzero * np.geomspace(0.05, 20, 201)[:, None]
    losses = law.predict(sparsity, sizes, compute / (6 * sizes * cost(sparsity)))
    assert (best.loss <= losses.min(axis=(0, 1)) * (1 + 1e-12)).all()
    np.testing.assert_allclose(losses.min(axis=(0, 1)), best.loss, rtol=1e-3)


def test_a_dense_equivalent_where_the_gain_is_no_number():
    law = generalized()
    with pytest.raises(RecordError, match="depends on N and D"):
        gain(law, 0.5)
    sizes = dense_equivalent_size(law, [0.3, 0.5], 1e7, 1e11)
    np.testing.assert_allclose(law.predict(0.0, sizes, 1e11), law.predict([0.3, 0.5], 1e7, 1e11), rtol=1e-10)
    assert dense_equivalent_size(law, 0.9, 1e12, 1e11) == np.inf


@settings(max_examples=20, deadline=None)
@given(law=LAWS, sparsity=st.floats(0, 0.95), nonzero=st.floats(1e5, 1e9), data=st.floats(1e8, 1e12))
def test_the_dense_equivalent_is_the_gain_times_the_size(law, sparsity, nonzero, data):
    one = law_of(law)
    expected = nonzero * gain(one, sparsity)
    assert dense_equivalent_size(one, sparsity, nonzero, data) == pytest.approx(expected, rel=1e-12)


def test_a_form_of_levels_is_optimised_over_its_levels():
    form = FORMS["effective_params"]
    values = dict.fromkeys(form.names, 0.3) | {"A": 50.0, "B": 500.0, "E": 1.0}
    efficiencies = [name for name in form.names if name.startswith("eff")]
    values |= dict(zip(efficiencies, (0.7, 0.5, 0.3), strict=True))
    law = Law(form, form.make_params(values), "tokens", "a test")
    levels = np.array(form.settings)
    best = optimal_sparsity(law, 1e8, [1e9, 1e12, 1e15])
    assert set(best) <= set(levels)
    losses = law.predict(levels, 1e8, 1e12 / SparseSchedule()(levels))
    assert best[1] == levels[losses.argmin()]
