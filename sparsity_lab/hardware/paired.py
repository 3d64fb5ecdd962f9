"""Times of one thing beside another: both again and again in turn, so that a machine that slows down slows both.

The ratio is taken within each pair, and its median and quartiles over pairs: a disturbance in one pair moves no
median, and drifts of the clock rate cancel.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from sparsity_lab.hardware.energy import ENERGY_SHARE, joules_in_turn, meter_here
from sparsity_lab.laws.rows.runs import FloatArray

Work = Callable[[], object]
Clock = Callable[[], float]
WARM_UP = 2
"""calls of each that are not timed"""
FEWEST_PAIRS, MOST_PAIRS = 3, 200
SHORTEST = 5e-4
"""seconds of a timing: shorter work is repeated within it, or the clock's own steps would be seen"""


class TooSlowError(Exception):
    """The work does not fit into the time it was given; caught where the time is shared out."""


@dataclass(frozen=True, eq=False)
class Paired:
    """Seconds of the reference and of what is timed beside it.

    Attributes:
        reference: (pairs,) seconds.
        timed: (pairs,) seconds.
        joules: of one call of the reference and of what is timed; None where no counter tells.
    """

    reference: FloatArray
    timed: FloatArray
    joules: tuple[float, ...] | None = None

    def energy(self) -> dict[str, float]:
        """As a point of a profile has it."""
        return dict(zip(("dense_joules", "joules"), self.joules or (), strict=False))

    def ratio(self) -> tuple[float, float, float]:
        """Median, lower and upper quartile of timed / reference, within pairs."""
        middle, low, high = np.quantile(self.timed / self.reference, (0.5, 0.25, 0.75))
        return float(middle), float(low), float(high)

    def speedup(self) -> tuple[float, float, float]:
        """Median, lower and upper quartile of reference / timed, within pairs."""
        middle, low, high = np.quantile(self.reference / self.timed, (0.5, 0.25, 0.75))
        return float(middle), float(low), float(high)


def check_fits(flops: float, seconds: float, device: torch.device) -> None:
    """Refuse work that cannot fit into the time, before its first call is made.

    Args:
        flops: of one round of everything that is timed.
        seconds: that it may take.
        device: only a CPU is slow enough to matter.

    Raises:
        TooSlowError: not even at the speed of a large dense product.
    """
    if device.type != "cpu":
        return
    least = (WARM_UP + FEWEST_PAIRS) * flops / _best_rate()
    if least > seconds:
        raise TooSlowError(f"takes {least:.3g} s at least, not {seconds:.3g} s")


def time_in_turn(
    works: tuple[Work, ...], seconds: float, device: torch.device, clock: Clock = time.perf_counter
) -> tuple[FloatArray, ...]:
    """Time pieces of work in turn, in an order that reverses from round to round, until the time is used.

    Args:
        works: what is timed.
        seconds: for everything, warm-up included; at least three rounds are made.
        device: waited for before and after each timing.
        clock: seconds from anywhere.

    Returns:
        For each piece of work the seconds of one call, (rounds,).

    Raises:
        TooSlowError: three rounds do not fit into the time.
    """
    began = clock()
    single = [[_timed(work, 1, device, clock) for _ in range(WARM_UP)][-1] for work in works]
    round_of_all = sum(max(one, SHORTEST) for one in single)
    if FEWEST_PAIRS * round_of_all > seconds:
        raise TooSlowError(f"{FEWEST_PAIRS} rounds take {FEWEST_PAIRS * round_of_all:.3g} s, not {seconds:.3g} s")
    calls = [max(1, round(SHORTEST / max(one, 1e-9))) for one in single]
    found: list[list[float]] = [[] for _ in works]
    for number in range(MOST_PAIRS):
        if number >= FEWEST_PAIRS and clock() - began >= seconds:
            break
        order = range(len(works)) if number % 2 == 0 else reversed(range(len(works)))
        for which in order:
            found[which].append(_timed(works[which], calls[which], device, clock))
    return tuple(np.array(column) for column in found)


def time_beside(
    reference: Work, timed: Work, seconds: float, device: torch.device, clock: Clock = time.perf_counter
) -> Paired:
    """Time one thing beside its reference, and meter both where a meter is in use; as `time_in_turn`."""
    (base, found), joules = time_and_meter((reference, timed), seconds, device, clock)
    return Paired(base, found, joules)


def time_and_meter(
    works: tuple[Work, ...], seconds: float, device: torch.device, clock: Clock = time.perf_counter
) -> tuple[tuple[FloatArray, ...], tuple[float, ...] | None]:
    """As `time_in_turn`; and joules of one call of each, where a meter is in use and its counters tell."""
    meter = meter_here(seconds, len(works))
    if meter is None:
        return time_in_turn(works, seconds, device, clock), None
    times = time_in_turn(works, (1 - ENERGY_SHARE) * seconds, device, clock)
    return times, joules_in_turn(works, lambda: _wait(device), meter, ENERGY_SHARE * seconds, clock)


def _timed(work: Work, calls: int, device: torch.device, clock: Clock) -> float:
    _wait(device)
    began = clock()
    for _ in range(calls):
        work()
    _wait(device)
    return (clock() - began) / calls


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@lru_cache(maxsize=1)
def _best_rate(side: int = 512) -> float:
    """FLOP/s of this CPU in a large float32 product: no model is faster."""
    square = torch.ones(side, side)
    return 2 * side**3 / min(_timed(lambda: square @ square, 1, square.device, time.perf_counter) for _ in range(10))
