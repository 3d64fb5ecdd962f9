from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from regime_cases import regime
from scipy.integrate import quad

from sparsity_lab.pruning.schedules import Ramp, lay_out, ramp_of
from sparsity_lab.specs.regimes.regime import Dense
from sparsity_lab.specs.runs import RunSpec

DENSE = Dense(version=1, method="dense")
sparsities = st.floats(0.001, 0.999)
RAMPED = ("cubic", "linear", "geometric")


def masked(kind: str = "cubic", **schedule: Any) -> Any:
    return regime(schedule={"kind": kind, **schedule})


@st.composite
def windows(draw: st.DrawFn) -> tuple[float, float]:
    return draw(st.tuples(st.floats(0, 1), st.floats(0, 1)).filter(lambda ends: ends[0] < ends[1]))


@st.composite
def ramped(draw: st.DrawFn) -> Any:
    start, end = draw(windows())
    kind = draw(st.sampled_from(RAMPED))
    power = {"power": draw(st.floats(0.5, 5))} if kind == "cubic" else {}
    every, updates = draw(st.integers(1, 200)), draw(st.integers(1, 40))
    return masked(kind, start=start, end=end, every=every, minimum_updates=updates, **power)


@st.composite
def any_schedule(draw: st.DrawFn) -> Any:
    start, end = draw(windows())
    others = [
        {"kind": "one-shot", "at": start},
        {"kind": "static"},
        {"kind": "cyclic", "start": start, "end": end, "cycles": draw(st.integers(1, 4))},
    ]
    return draw(ramped() | st.sampled_from(others).map(lambda fields: regime(schedule=fields)))


@given(ramped(), sparsities, st.integers(1, 1000))
@settings(max_examples=200)
def test_a_ramp_climbs_through_its_window_and_ends_exactly(regime: Any, sparsity: float, steps: int) -> None:
    schedule, ramp = regime.schedule, lay_out(regime, sparsity, steps)
    start, end = round(schedule.start * steps), round(schedule.end * steps)
    assert ramp.levels[-1] == sparsity == ramp.sparsity_after(steps)
    assert ramp.updates[-1] == max(end, 1)
    assert all(1 <= update <= steps for update in ramp.updates), "a ramp changes masks after steps 1..steps only"
    assert all(update > start for update in ramp.updates) or end == start, "the first update comes after the start"
    gaps = np.diff(ramp.updates)
    assert (gaps > 0).all()
    assert (gaps <= schedule.every).all()
    assert (np.diff(ramp.levels) >= 0).all()
    if end - start >= schedule.minimum_updates:
        assert len(ramp.updates) >= schedule.minimum_updates


@given(any_schedule(), sparsities, st.integers(1, 300))
def test_the_mean_density_is_that_of_the_steps(regime: Any, sparsity: float, steps: int) -> None:
    ramp = lay_out(regime, sparsity, steps)
    density = [1 - ramp.sparsity_after(step) for step in range(steps)]
    assert ramp.mean_density == pytest.approx(np.mean(density))
    assert ramp.sparsity_after(steps) == sparsity
    assert ramp.last_change == ramp.updates[-1]


@given(any_schedule(), sparsities)
@settings(max_examples=60)
def test_the_mean_density_of_long_runs_is_the_closed_form(regime: Any, sparsity: float) -> None:
    steps, schedule = 40_000, regime.schedule
    # masks lag behind the curve by up to one update, and phases end on whole steps
    lag = getattr(schedule, "every", 1) + 2 * getattr(schedule, "cycles", 1) + 2
    expected = 1 - float(schedule.mean_sparsity(sparsity))
    assert lay_out(regime, sparsity, steps).mean_density == pytest.approx(expected, abs=lag / steps)


@given(ramped(), st.floats(0, 0.999))
def test_the_closed_form_is_the_integral(regime: Any, sparsity: float) -> None:
    schedule = regime.schedule
    window, _ = quad(lambda p: schedule.level(sparsity, p), 0, 1)
    expected = (schedule.end - schedule.start) * window + (1 - schedule.end) * sparsity
    assert float(schedule.mean_sparsity(sparsity)) == pytest.approx(expected, abs=1e-7)


@given(any_schedule())
def test_means_broadcast(regime: Any) -> None:
    S = np.array([[0.0, 0.5], [0.75, 0.875]])
    means = regime.schedule.mean_sparsity(S)
    assert means.shape == S.shape
    assert means[0, 0] == 0
    assert means.tolist() == [[float(regime.schedule.mean_sparsity(one)) for one in row] for row in S.tolist()]


@given(st.integers(1, 10), sparsities, st.integers(1, 100))
def test_very_short_runs_end_on_their_sparsity(steps: int, sparsity: float, every: int) -> None:
    ramp = lay_out(masked(every=every), sparsity, steps)
    assert ramp.sparsity_after(steps) == sparsity
    assert 1 <= ramp.updates[0] <= ramp.updates[-1] <= steps


def test_a_window_that_closes_before_the_first_step_prunes_after_it() -> None:
    assert lay_out(masked(start=0.0, end=0.02), 0.5, 10) == Ramp(10, (1,), (0.5,))


def test_the_papers_ramp_is_what_the_paper_says() -> None:
    ramp = lay_out(masked(), 0.8, 10_000)
    assert ramp.updates == tuple(range(2600, 7501, 100))
    assert ramp.sparsity_after(2599) == 0.0
    assert ramp.sparsity_after(5000) == pytest.approx(0.8 * (1 - 0.5**3))
    assert ramp.sparsity_after(7499) < ramp.sparsity_after(7500) == 0.8
    assert [float(masked().schedule.mean_sparsity(S)) / S for S in (0.5, 0.75, 0.875)] == pytest.approx([0.625] * 3)


def test_geometric_density_falls_by_equal_factors() -> None:
    levels = lay_out(masked("geometric", start=0.0, end=1.0, every=10), 0.9, 100).levels
    densities = 1 - np.array([0.0, *levels])
    assert densities[1:] / densities[:-1] == pytest.approx(0.1**0.05)


def test_one_shot_and_static_prune_once() -> None:
    assert lay_out(masked("one-shot", at=0.5), 0.75, 100) == Ramp(100, (50,), (0.75,))
    assert lay_out(masked("one-shot", at=0.0), 0.75, 100) == Ramp(100, (0,), (0.75,))
    assert lay_out(masked("one-shot", at=1.0), 0.75, 100) == Ramp(100, (100,), (0.75,))
    static = lay_out(masked("static"), 0.75, 100)
    assert static == Ramp(100, (0,), (0.75,))
    assert static.mean_density == 0.25


def test_cycles_alternate_and_end_sparse() -> None:
    ramp = lay_out(masked("cyclic", start=0.1, end=0.9, cycles=2), 0.75, 100)
    assert ramp.updates == (10, 30, 50, 70, 90)
    assert ramp.levels == (0.75, 0.0, 0.75, 0.0, 0.75)
    assert ramp.mean_density == 1 - 0.75 * 0.5


@given(st.integers(1, 6), st.integers(1, 30), windows())
def test_cycles_of_short_runs_never_repeat_a_level(cycles: int, steps: int, window: tuple[float, float]) -> None:
    ramp = lay_out(masked("cyclic", start=window[0], end=window[1], cycles=cycles), 0.5, steps)
    assert all(early != late for early, late in zip((0.0, *ramp.levels), ramp.levels, strict=False))
    assert sorted(set(ramp.updates)) == list(ramp.updates)
    assert ramp.levels[-1] == 0.5


refreshing = st.fixed_dictionaries(
    {"every": st.integers(1, 60), "minimum_updates": st.integers(1, 30), "until": st.floats(0.1, 1)}
)


@given(refreshing, st.integers(1, 400), st.sampled_from(["cubic", "static", "one-shot", "cyclic"]))
def test_masks_are_refreshed_while_they_are_sparse(refresh: dict[str, Any], steps: int, kind: str) -> None:
    ramp = lay_out(regime("straight-through", schedule={"kind": kind}, refresh=refresh), 0.5, steps)
    until = round(refresh["until"] * steps)
    cadence = max(1, min(refresh["every"], until // refresh["minimum_updates"]))
    expected = {step for step in range(1, until) if step % cadence == 0}
    expected -= {step for step in expected if step <= ramp.updates[0] or not ramp.sparsity_after(step)}
    assert set(ramp.refreshes) == expected - set(ramp.updates), "an update chooses masks already"
    assert ramp.changes == tuple(sorted({*ramp.updates, *ramp.refreshes}))
    assert ramp.last_change == max(ramp.changes)
    if kind != "cyclic":
        dynamic = lay_out(regime("dynamic", schedule={"kind": kind}, refresh=refresh), 0.5, steps)
        assert set(dynamic.refreshes) == expected, "weights move at updates as well"


def test_rigl_moves_weights_every_hundred_steps_for_three_quarters_of_training() -> None:
    ramp = lay_out(regime("dynamic"), 0.9, 10_000)
    assert ramp.updates == (0,)
    assert ramp.refreshes == tuple(range(100, 7500, 100))


@pytest.mark.parametrize("asked", [DENSE, masked(), regime("dynamic")])
def test_without_sparsity_nothing_is_pruned(make_run: Callable[..., RunSpec], asked: Any) -> None:
    run = make_run("t5", 0.0, regime=asked, steps=50)
    assert run.pruning is None
    ramp = ramp_of(run)
    assert ramp == Ramp(50)
    assert ramp.sparsity_after(50) == 0
    assert ramp.mean_density == 1
    assert ramp.last_change == 0
