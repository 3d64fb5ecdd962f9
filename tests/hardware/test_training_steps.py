from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sparsity_lab.hardware.energy import metering
from sparsity_lab.hardware.paired import TooSlowError
from sparsity_lab.hardware.training_steps import TimedRun, _Steps, time_training
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.inputs import Inputs

CPU = torch.device("cpu")
MakeRun = Callable[..., RunSpec]


@pytest.fixture
def inputs(text_data: Path, tmp_path: Path) -> Inputs:
    return Inputs(text_data, tmp_path)


class Ticks:
    """A clock that moves by a millisecond whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1e-3
        return self.now


def test_steps_are_those_of_the_final_masks_wherever_the_schedule_jumps(make_run: MakeRun, inputs: Inputs) -> None:
    run = make_run("t5", 0.5)
    steps = _Steps(TimedRun(run, "gradual", 1), inputs, CPU)
    for work in (steps.plain, steps.choosing, steps.plain):
        work()
        assert steps.loop.sparsity() == pytest.approx(0.5, abs=0.01)


def test_the_mean_step_weighs_choices_of_masks_by_their_share(make_run: MakeRun, inputs: Inputs) -> None:
    steps = _Steps(TimedRun(make_run("t5", 0.5), "gradual", 1), inputs, CPU)
    due = sum(steps.loop.pruner.due(step) for step in range(1, 25))
    assert 3 <= due < 24, "a window of 12 steps with 3 updates or more"
    mean = steps.mean(np.array([1.0]), np.array([25.0]))
    np.testing.assert_allclose(mean, [1 + due])


def test_plain_and_choosing_steps_are_what_they_say(make_run: MakeRun, inputs: Inputs) -> None:
    steps = _Steps(TimedRun(make_run("t5", 0.5), "gradual", 1), inputs, CPU)
    steps.plain()
    assert not steps.loop.pruner.due(steps.loop.step)
    steps.choosing()
    assert steps.loop.pruner.due(steps.loop.step)


def test_dense_comes_first_and_units_are_those_of_the_study(make_run: MakeRun, inputs: Inputs) -> None:
    dense, sparse = TimedRun(make_run("t5"), "dense", 7), TimedRun(make_run("t5", 0.75), "gradual", 7)
    found = time_training(dense, [sparse], inputs, device=CPU, seconds=1.0, clock=Ticks())
    assert [(step.regime, step.nonzero, step.sparsity) for step in found] == [("dense", 7, 0.0), ("gradual", 7, 0.75)]
    assert {(step.batch, step.items) for step in found} == {(4, 64)}, "4 examples of 16 tokens"
    assert all(step.seconds == pytest.approx(1e-3) for step in found), "every timing is one tick"


class Counter:
    """50 W by the clock that goes with it."""

    name, shortest = "made up", 0.0

    def __init__(self, clock: Ticks) -> None:
        self.clock = clock

    def joules(self) -> float:
        return 50 * self.clock.now


def test_steps_are_metered_where_there_is_a_meter(make_run: MakeRun, inputs: Inputs) -> None:
    dense, sparse = TimedRun(make_run("t5"), "dense", 7), TimedRun(make_run("t5", 0.75), "gradual", 7)
    clock = Ticks()
    with metering(Counter(clock)):
        found = time_training(dense, [sparse], inputs, device=CPU, seconds=1.0, clock=clock)
    bare = time_training(dense, [sparse], inputs, device=CPU, seconds=1.0, clock=Ticks())
    assert [step.joules for step in bare] == [None, None]
    for step in found:
        assert step.joules == pytest.approx(50e-3, rel=0.2), "50 W, a tick a step, and those of reading the clock"


def test_models_far_too_large_are_refused_before_they_are_built(make_run: MakeRun) -> None:
    large: dict[str, Any] = {
        "family": "decoder", "layers": 100, "width": 2**14, "heads": 128, "ff": 2**16, "vocabulary": 264,
        "context": 16,
    }  # fmt: skip
    run = make_run("decoder", model=large)
    with pytest.raises(TooSlowError, match="at least"):
        time_training(TimedRun(run, "dense", 1), [], Inputs(Path(), Path()), device=CPU, seconds=1.0)
