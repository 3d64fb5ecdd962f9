from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_lab.specs.training import CosineSchedule, InverseSqrtSchedule, LearningRate, RateSchedule
from sparsity_lab.training.rates import relative_rate

fractions = st.floats(0, 1)
schedules = st.one_of(
    st.builds(CosineSchedule, kind=st.just("cosine"), warmup=fractions, final=fractions),
    st.builds(InverseSqrtSchedule, kind=st.just("inverse-sqrt"), warmup=fractions, cooldown=fractions),
)


def curve(schedule: RateSchedule, steps: int) -> list[float]:
    return [relative_rate(schedule, step, steps) for step in range(steps)]


@given(schedules, st.integers(1, 200))
def test_rates_climb_to_the_peak_and_fall_but_never_to_nothing(schedule: RateSchedule, steps: int) -> None:
    rates = curve(schedule, steps)
    assert all(0 < rate <= 1 for rate in rates)
    warmup = max(1, round(schedule.warmup * steps))
    assert rates[:warmup] == [(step + 1) / warmup for step in range(warmup)]
    after = rates[warmup - 1 :]
    assert after == sorted(after, reverse=True)


@given(fractions, fractions, st.integers(2, 200))
def test_a_cosine_is_halfway_down_in_the_middle_and_ends_on_final(warmup: float, final: float, steps: int) -> None:
    schedule = CosineSchedule(kind="cosine", warmup=warmup, final=final)
    first = max(1, round(warmup * steps))
    if first < steps and (steps - first) % 2 == 0:
        assert relative_rate(schedule, (first + steps) // 2, steps) == pytest.approx((1 + final) / 2)
    if first < steps:
        assert relative_rate(schedule, steps, steps) == pytest.approx(final), "the rate after the last step"


def test_a_cosine_by_hand() -> None:
    schedule = CosineSchedule(kind="cosine", warmup=0.2, final=0.1)
    expected = [0.5, 1.0, *(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * k / 8)) for k in range(8))]
    assert curve(schedule, 10) == pytest.approx(expected)


def test_an_inverse_root_by_hand() -> None:
    schedule = InverseSqrtSchedule(kind="inverse-sqrt", warmup=0.4, cooldown=0.2)
    expected = [0.25, 0.5, 0.75, 1, *(math.sqrt(4 / n) for n in (5, 6, 7, 8)), math.sqrt(4 / 9), math.sqrt(4 / 10) / 2]
    assert curve(schedule, 10) == pytest.approx(expected)


def test_without_warmup_the_first_step_has_the_peak() -> None:
    assert relative_rate(CosineSchedule(kind="cosine", warmup=0), 0, 100) == 1
    assert relative_rate(InverseSqrtSchedule(kind="inverse-sqrt", warmup=0), 0, 100) == 1


def test_the_peak_follows_the_width() -> None:
    rule = LearningRate(base=0.01, base_width=64, exponent=-0.5)
    assert (rule.at(64), rule.at(256)) == (0.01, 0.005)
    assert LearningRate(base=0.01).at(8) == 0.01
    assert rule.at(100) == 0.008, "rounded to six digits, so that no machine sees another run"
