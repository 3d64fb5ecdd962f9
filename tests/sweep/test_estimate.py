"""Time and disk before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.store import Store
from sparsity_lab.models.count import other_count, prunable_count
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.sweep.estimate import TrainingSpeed, checkpoint_bytes, disk_bytes, makespan, measured_speed

Seconds = st.lists(st.floats(0, 1e3), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def records(finished: Path) -> list[RunRecord]:
    return Store(finished / "runs" / "tiny").records()


def timed(record: RunRecord, speed: TrainingSpeed) -> RunRecord:
    seconds = record.spec.steps * speed.seconds_per_step + record.cost.flops_dense / speed.flops_per_second
    return record.model_copy(update={"cost": record.cost.model_copy(update={"seconds": seconds})})


@given(st.floats(1e-5, 1), st.floats(1e7, 1e12))
def test_a_synthetic_speed_is_recovered(records: list[RunRecord], per_step: float, flops: float) -> None:
    true = TrainingSpeed(per_step, flops)
    found = measured_speed(timed(record, true) for record in records)
    assert found.source == f"measured on {len(records)} finished runs"
    for record in records:
        assert found.seconds(record.spec) == pytest.approx(true.seconds(record.spec), rel=1e-3)


def test_diverged_runs_tell_nothing_of_speed(records: list[RunRecord]) -> None:
    true = TrainingSpeed(0.01, 1e9)
    odd = records[0].model_copy(update={"status": "diverged"})
    found = measured_speed([*(timed(record, true) for record in records[1:]), timed(odd, TrainingSpeed(100, 1))])
    assert found.seconds_per_step == pytest.approx(0.01)
    assert found.source == f"measured on {len(records) - 1} finished runs"


def test_one_run_is_no_measurement(records: list[RunRecord]) -> None:
    assert measured_speed([]) == measured_speed(records[:1]) == TrainingSpeed()


def test_a_speed_that_cannot_be_told_is_assumed(records: list[RunRecord]) -> None:
    constant = [timed(record, TrainingSpeed(0.01, 1e30)) for record in records]
    assert measured_speed(constant) == TrainingSpeed() or measured_speed(constant).flops_per_second > 1e15


@given(Seconds, st.integers(1, 5))
def test_makespan_lies_between_its_bounds(seconds: list[float], workers: int) -> None:
    span = makespan(seconds, workers)
    lower = max(*seconds, sum(seconds) / workers)
    assert lower * (1 - 1e-9) <= span <= lower * (2 - 1 / workers) * (1 + 1e-9)


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=4), st.integers(1, 3))
def test_makespan_does_not_depend_on_the_order(seconds: list[float], workers: int) -> None:
    spans = [makespan(order, workers) for order in permutations(seconds)]
    assert max(spans) == min(spans)


def test_makespan_by_hand() -> None:
    assert makespan([3, 5, 2, 4], 2) == 7
    assert makespan([3, 5, 2, 4], 1) == 14
    assert makespan([3, 5, 2, 4], 9) == 5


def test_disk(make_run: Callable[..., RunSpec], finished: Path) -> None:
    run = make_run("t5")
    count = prunable_count(run.model) + other_count(run.model)
    assert disk_bytes(run, keep_weights=True) - disk_bytes(run, keep_weights=False) == 4 * count
    assert 13 * count - other_count(run.model) < checkpoint_bytes(run) < 14 * count + 5_100
    assert sizes(finished) <= disk_bytes(run, keep_weights=False)


def sizes(root: Path) -> int:
    return max(path.stat().st_size for path in (root / "runs" / "tiny").glob("*/record.json"))
