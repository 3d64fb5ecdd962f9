from __future__ import annotations

import numpy as np
import pytest
import torch

from sparsity_lab.hardware.paired import (
    FEWEST_PAIRS,
    SHORTEST,
    Paired,
    TooSlowError,
    check_fits,
    time_beside,
    time_in_turn,
)

CPU = torch.device("cpu")


class Simulated:
    """A clock that only work moves on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, seconds: float, drift: float = 0.0) -> None:
        """Take `seconds`, and `drift` times as many more for every second that has passed."""
        self.calls.append(name)
        self.now += seconds * (1 + drift * self.now)


def test_each_is_timed_and_the_order_turns_round() -> None:
    clock = Simulated()
    paired = time_beside(lambda: clock.work("a", 1.0), lambda: clock.work("b", 2.0), 20.0, CPU, clock)
    np.testing.assert_allclose(paired.reference, 1.0)
    np.testing.assert_allclose(paired.timed, 2.0)
    assert paired.speedup() == pytest.approx((0.5, 0.5, 0.5))
    assert paired.ratio() == pytest.approx((2.0, 2.0, 2.0))
    assert "".join(clock.calls[4:10]) == "abbaab"
    assert clock.now <= 20.0 + 3.0


def test_a_machine_that_slows_down_moves_the_times_and_hardly_the_ratio() -> None:
    clock = Simulated()
    paired = time_beside(lambda: clock.work("a", 1.0, 0.05), lambda: clock.work("b", 1.5, 0.05), 60.0, CPU, clock)
    assert paired.reference[-1] > 2 * paired.reference[0]
    assert paired.ratio()[0] == pytest.approx(1.5, rel=0.1)


def test_one_disturbed_pair_moves_no_median() -> None:
    timed = np.full(9, 2.0)
    timed[3] = 50.0
    assert Paired(np.ones(9), timed).ratio() == (2.0, 2.0, 2.0)


def test_short_work_is_repeated_until_the_clock_can_see_it() -> None:
    clock = Simulated()
    (times,) = time_in_turn((lambda: clock.work("a", SHORTEST / 100),), 10 * SHORTEST, CPU, clock)
    np.testing.assert_allclose(times, SHORTEST / 100)
    assert len(clock.calls) >= 100 * FEWEST_PAIRS


def test_work_that_does_not_fit_is_refused_after_its_warm_up() -> None:
    clock = Simulated()
    with pytest.raises(TooSlowError, match="3 rounds take 30 s, not 20 s"):
        time_in_turn((lambda: clock.work("a", 10.0),), 20.0, CPU, clock)
    assert clock.calls == ["a", "a"]


def test_work_beyond_any_speed_here_is_refused_unless_an_accelerator_does_it() -> None:
    check_fits(1e3, 1.0, CPU)
    check_fits(1e30, 1.0, torch.device("cuda"))
    with pytest.raises(TooSlowError, match="at least"):
        check_fits(1e30, 1.0, CPU)
