from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from sparsity_lab.laws.multipliers import SparseSchedule
from sparsity_lab.pruning.allocation import uniform, zeros_for
from sparsity_lab.pruning.schedules import Ramp, lay_out
from sparsity_lab.specs.regimes import Cubic, Dense, Gradual

DENSE = Dense(version=1, method="dense")
sparsities = st.floats(0.001, 0.999)


def gradual(**schedule: float) -> Gradual:
    return Gradual.model_validate({"version": 1, "method": "gradual", "schedule": schedule})


@st.composite
def regimes(draw: st.DrawFn) -> Gradual:
    start, end = draw(st.tuples(st.floats(0, 1), st.floats(0, 1)).filter(lambda ends: ends[0] < ends[1]))
    return gradual(
        start=start,
        end=end,
        every=draw(st.integers(1, 200)),
        minimum_updates=draw(st.integers(1, 40)),
        power=draw(st.floats(0.5, 5)),
    )


@given(regimes(), sparsities, st.integers(1, 1000))
@settings(max_examples=300)
def test_a_ramp_climbs_through_its_window_and_ends_exactly(regime: Gradual, sparsity: float, steps: int) -> None:
    schedule, ramp = regime.schedule, lay_out(regime, sparsity, steps)
    start, end = round(schedule.start * steps), round(schedule.end * steps)
    assert ramp.levels[-1] == sparsity == ramp.sparsity_after(steps)
    assert ramp.updates[-1] == max(end, 1)
    assert all(1 <= update <= steps for update in ramp.updates), "the loop can change masks after steps 1..steps only"
    assert all(update > start for update in ramp.updates) or end == start, "the first update comes after the start"
    gaps = np.diff(ramp.updates)
    assert (gaps > 0).all()
    assert (gaps <= schedule.every).all()
    assert (np.diff(ramp.levels) >= 0).all()
    if end - start >= schedule.minimum_updates:
        assert len(ramp.updates) >= schedule.minimum_updates


@given(regimes(), sparsities, st.integers(1, 300))
def test_the_mean_density_is_that_of_the_steps(regime: Gradual, sparsity: float, steps: int) -> None:
    ramp = lay_out(regime, sparsity, steps)
    density = [1 - ramp.sparsity_after(step) for step in range(steps)]
    assert ramp.mean_density == pytest.approx(np.mean(density))


@given(st.integers(1, 10), sparsities, st.integers(1, 100))
def test_very_short_runs_end_on_their_sparsity(steps: int, sparsity: float, every: int) -> None:
    ramp = lay_out(gradual(every=every), sparsity, steps)
    assert ramp.sparsity_after(steps) == sparsity
    assert 1 <= ramp.updates[0] <= ramp.updates[-1] <= steps


def test_a_window_that_closes_before_the_first_step_prunes_after_it() -> None:
    assert lay_out(gradual(start=0.0, end=0.02), 0.5, 10) == Ramp(10, (1,), (0.5,))


def test_the_papers_ramp_is_what_the_paper_says() -> None:
    ramp = lay_out(gradual(), 0.8, 10_000)
    assert ramp.updates == tuple(range(2600, 7501, 100))
    assert ramp.sparsity_after(2599) == 0.0
    assert ramp.sparsity_after(5000) == pytest.approx(0.8 * (1 - 0.5**3))
    assert ramp.sparsity_after(7499) < ramp.sparsity_after(7500) == 0.8


@given(regimes(), sparsities, st.data())
@settings(max_examples=30)
def test_the_mean_density_of_long_runs_is_the_closed_form(
    regime: Gradual, sparsity: float, data: st.DataObject
) -> None:
    steps = data.draw(st.sampled_from([20_000, 80_000]))
    closed = 1 - SparseSchedule.of(regime.schedule).mean_progress * sparsity
    # masks lag behind the curve by up to one update, and the ends of the window are whole steps
    assert lay_out(regime, sparsity, steps).mean_density == pytest.approx(
        closed, abs=(regime.schedule.every + 2) / steps
    )


@given(st.floats(0, 0.5), st.floats(0.55, 1), st.floats(0.5, 5), sparsities)
def test_the_laws_charge_for_what_training_does(start: float, end: float, power: float, sparsity: float) -> None:
    schedule = Cubic(start=start, end=end, power=power)
    window, _ = quad(lambda t: 1 - (1 - (t - start) / (end - start)) ** power, start, end)
    density = 1 - sparsity * (window + 1 - end)
    m = SparseSchedule.of(schedule)(sparsity)
    assert density / (1 - sparsity) == pytest.approx(float(m))


@pytest.mark.parametrize("ramp", [lay_out(DENSE, 0.0, 50), lay_out(gradual(), 0.0, 50)])
def test_without_sparsity_nothing_is_pruned(ramp: Ramp) -> None:
    assert ramp == Ramp(50)
    assert ramp.sparsity_after(50) == 0
    assert ramp.mean_density == 1


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 10**9))
def test_zeros_are_the_nearest_whole_number(sparsity: float, size: int) -> None:
    zeros = zeros_for(sparsity, size)
    assert 0 <= zeros <= size
    assert abs(zeros - sparsity * size) <= 0.5 + 1e-6


@given(st.dictionaries(st.text(), st.integers(1, 10**6)), sparsities, sparsities)
def test_uniform_gives_every_tensor_the_same_sparsity(sizes: dict[str, int], one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert uniform(sizes, low) == {name: int(low * size + 0.5) for name, size in sizes.items()}
    assert all(uniform(sizes, low)[name] <= uniform(sizes, high)[name] for name in sizes)


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (4, 8), (1, 3), (2, 3), (3, 7), (1, 5)])
def test_the_sparsity_of_a_pattern_means_whole_groups(n: int, m: int) -> None:
    for groups in (1, 2, 3, 1000, 999_999):
        assert zeros_for(1 - n / m, groups * m) == groups * (m - n)
