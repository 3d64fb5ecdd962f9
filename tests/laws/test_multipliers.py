import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_lab.errors import RecordError
from sparsity_lab.laws import Measured, ScheduledDensity, SparseSchedule, dense_hardware, multiplier, optimal_sparsity
from sparsity_lab.specs.regimes.regime import Cubic

SPARSITIES = st.floats(0, 0.95)


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
    sparse_from_the_start = multiplier("sparse_schedule", lambda S: 1 - S)
    assert sparse_from_the_start(np.float64(0.75)) == 1.0


@given(sparsity=SPARSITIES)
def test_any_mean_density_makes_a_multiplier(sparsity):
    assert ScheduledDensity(lambda S: 1 - 0.625 * S)(sparsity) == pytest.approx(SparseSchedule()(sparsity), rel=1e-14)


@given(sparsity=SPARSITIES)
def test_a_measured_table_follows_a_power_of_the_density(sparsity):
    table = Measured([0.0, 0.5, 0.95], dense_hardware([0.0, 0.5, 0.95]))
    assert table(sparsity) == pytest.approx(dense_hardware(sparsity), rel=1e-12)


def test_seconds_count_relative_to_the_dense_step(published):
    table = Measured([0.0, 0.5, 0.9], [0.2, 0.3, 0.5])
    np.testing.assert_allclose(table([0.0, 0.5, 0.9]), [1, 1.5, 2.5])
    law = published("frantar2024-t5-c4")
    same = Measured(np.linspace(0, 0.9, 181), SparseSchedule()(np.linspace(0, 0.9, 181)))
    exact = optimal_sparsity(law, 1e8, [1e11, 1e12], highest=0.9)
    np.testing.assert_allclose(optimal_sparsity(law, 1e8, [1e11, 1e12], same, highest=0.9), exact, atol=5e-3)


@pytest.mark.parametrize(
    ("sparsity", "cost", "words"),
    [
        ([0.0], [1.0], "two sparsities"),
        ([0.0, 0.5], [1.0], "two sparsities"),
        ([0.1, 0.5], [1.0, 2.0], "rise from 0"),
        ([0.0, 0.5, 0.5], [1.0, 2.0, 2.0], "rise from 0"),
        ([0.0, 1.0], [1.0, 2.0], "stay below 1"),
        ([0.0, 0.5], [1.0, 0.0], "finite and positive"),
        ([0.0, 0.5], [1.0, np.nan], "finite and positive"),
    ],
)
def test_bad_tables(sparsity, cost, words):
    with pytest.raises(RecordError, match=words):
        Measured(sparsity, cost)


def test_nothing_is_said_beyond_the_measurement(published):
    with pytest.raises(RecordError, match="not measured at so high a sparsity"):
        optimal_sparsity(published("frantar2024-t5-c4"), 1e8, 1e11, Measured([0.0, 0.5], [1.0, 1.2]))
