import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity_lab.laws import (
    CHINCHILLA,
    FRANTAR,
    Law,
    SparseSchedule,
    chinchilla_compute,
    chinchilla_data,
    dense_data,
    dense_hardware,
    free,
    gain,
    multiplier,
    optimal_sparsity,
    optimal_sparsity_on_dense_hardware,
)
from sparsity_lab.laws.forms import ChinchillaParams, FrantarParams
from sparsity_lab.specs.schedules import Cubic

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


def test_multipliers_of_the_papers_schedule():
    np.testing.assert_allclose(SparseSchedule()([0.0, 0.5, 0.75, 0.875]), [1.0, 1.375, 2.125, 3.625], rtol=1e-15)


@given(start=st.floats(0, 0.45), end=st.floats(0.5, 1), power=st.floats(0.5, 6), sparsity=st.floats(0, 0.95))
def test_the_multiplier_is_the_integral_of_the_density(start, end, power, sparsity):
    progress = np.clip(((np.arange(20000) + 0.5) / 20000 - start) / (end - start), 0, 1)
    density = 1 - sparsity * (1 - (1 - progress) ** power)
    expected = density.mean() / (1 - sparsity)
    assert SparseSchedule(start, end, power)(sparsity) == pytest.approx(expected, rel=1e-3)


def test_multipliers_by_name():
    steep = Cubic(start=0.1, end=0.5, power=1)
    assert multiplier("sparse_schedule", steep)(np.float64(0.5)) == pytest.approx((1 - 0.5 * 0.7) / 0.5)
    assert multiplier("sparse_schedule") == SparseSchedule()
    assert multiplier("dense_hardware")(np.float64(0.75)) == 4.0
    assert multiplier("free")(np.float64(0.75)) == 1.0
