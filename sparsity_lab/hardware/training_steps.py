"""Seconds and joules of whole training steps, dense and sparse, through the very loop that trains.

A step of a sparse run costs more where masks are chosen. So two of its steps are timed beside the dense one: a plain
one, and one after which masks are chosen; their mean, weighted as the run's schedule weights them, is the step's time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sparsity_lab.hardware.paired import Clock, Paired, check_fits, time_and_meter
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.models.count import prunable_count, step_flops
from sparsity_lab.pruning.schedules import ramp_of
from sparsity_lab.specs.hardware import TrainingStep
from sparsity_lab.specs.runs import RunSpec, data_per_example
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.loop import Loop

BATCHES = 4
"""made before the timing and used in turn: how fast data is read is no property of arithmetic"""


@dataclass(frozen=True)
class TimedRun:
    """A run whose steps are timed, as the study names it."""

    run: RunSpec
    regime: str
    nonzero: int

    def step(self, seconds: float, low: float, high: float, joules: float | None) -> TrainingStep:
        """What is recorded of a step that took so long, and so much."""
        run = self.run
        return TrainingStep(
            regime=self.regime,
            nonzero=self.nonzero,
            sparsity=run.sparsity,
            dense=prunable_count(run.model),
            batch=run.batch,
            items=run.batch * data_per_example(run.objective),
            seconds=seconds,
            low=low,
            high=high,
            joules=joules,
        )


def time_training(
    dense: TimedRun,
    sparse: Sequence[TimedRun],
    inputs: Inputs,
    *,
    device: torch.device,
    seconds: float,
    clock: Clock = time.perf_counter,
) -> tuple[TrainingStep, ...]:
    """Time the steps of sparse runs and of the dense run beside them, all in turn; and meter them, where that goes.

    Args:
        dense: the reference: of as many weights as the sparse runs keep in the end.
        sparse: the runs.
        inputs: the prepared data of all.
        device: where.
        seconds: that it may take.
        clock: seconds from anywhere.

    Returns:
        The step of the dense run, then those of the sparse ones.

    Raises:
        TooSlowError: the steps do not fit into the time.
        DataError: the data is damaged.
    """
    began = clock()
    check_fits(sum(_flops(timed.run) for timed in (dense, *sparse, *sparse)), seconds, device)
    reference, *others = (_Steps(timed, inputs, device) for timed in (dense, *sparse))
    works = [reference.plain, *(work for steps in others for work in (steps.plain, steps.choosing))]
    (base, *times), joules = time_and_meter(tuple(works), seconds - (clock() - began), device, clock)
    middle, low, high = np.quantile(base, (0.5, 0.25, 0.75)).tolist()
    found = [dense.step(middle, low, high, joules[0] if joules else None)]
    for number, (timed, steps) in enumerate(zip(sparse, others, strict=True)):
        plain, choosing = 2 * number, 2 * number + 1
        mean = steps.mean(times[plain], times[choosing])
        spent = float(steps.mean(*np.array(joules[1:])[[plain, choosing]])) if joules else None
        half, low, high = (middle * ratio for ratio in Paired(base, mean).ratio())
        found.append(timed.step(half, low, high, spent))
    return tuple(found)


def _flops(run: RunSpec) -> int:
    return step_flops(run.model, run.objective, run.batch).total


class _Steps:
    """A run in motion, at places of its schedule that are chosen freely."""

    def __init__(self, timed: TimedRun, inputs: Inputs, device: torch.device) -> None:
        run = timed.run if timed.run.steps else timed.run.model_copy(update={"steps": 1})
        stream = inputs.stream(run)
        batches = [stream.batch_at(number) for number in range(BATCHES)]
        self.loop = Loop(run, lambda number: batches[number % len(batches)], device)
        chosen = [step for step in ramp_of(run).changes if step > 0]
        due = frozenset(chosen)
        self.share = len(chosen) / run.steps
        """of steps, after which masks are chosen"""
        plain = (step for step in range(run.steps - 1, -1, -1) if step + 1 not in due)
        self._plain = next(plain, run.steps - 1)
        self._last_choice = chosen[-1] - 1 if chosen else self._plain
        while self.loop.one_shot is not None and not self.loop.one_shot.finished:
            self.loop.one_shot.prune_next()
        self.loop.advance()  # masks that are there from the first step on are chosen before it
        self.choosing()

    def plain(self) -> None:
        """A step with the masks of the run's end and no choice of masks after it, where there is such a step."""
        self.loop.step = self._plain
        self.loop.advance()

    def choosing(self) -> None:
        """A step after which the last masks are chosen; a plain one where masks are never chosen anew."""
        self.loop.step = self._last_choice
        self.loop.advance()

    def mean(self, plain: FloatArray, choosing: FloatArray) -> FloatArray:
        """Of a step over the whole run."""
        return (1 - self.share) * plain + self.share * choosing
