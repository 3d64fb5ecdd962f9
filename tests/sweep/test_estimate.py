"""Time and disk before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_lab.artifacts.records import RunMemory, RunRecord
from sparsity_lab.artifacts.store import Store
from sparsity_lab.hardware.profile import load_profile
from sparsity_lab.models.count import other_count, prunable_count
from sparsity_lab.specs.compute import GIB, Compute, DevicesBySize, LocalEngine
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.sweep.estimate import (
    TrainingSpeed,
    allot,
    checkpoint_bytes,
    disk_bytes,
    makespan,
    measured_speed,
    profile_speed,
)

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


def held(training: float, activations: float) -> RunMemory:
    """Memory of a run of so many GiB while it trains."""
    others = dict.fromkeys(("optimizer", "scratch", "masks", "remainder", "checkpoint"), 0)
    files = dict.fromkeys(("file_dense", "file_bitmask", "file_csr"), 0)
    weights, kept = round((training - activations) * GIB), round(activations * GIB)
    return RunMemory(weights=weights, gradients=0, activations=kept, file_n_m=None, **others, **files)


def test_second_moments_are_held_by_every_device() -> None:
    compute = Compute(version=1, engine=LocalEngine(), devices=4)
    for calibration, split in ((0, "sharded"), (10, "sharded"), (14, "too large")):
        run = held(30, 4).model_copy(update={"calibration": calibration * GIB})
        ((one,),) = allot([[(run, 100.0)]], compute, 20 * GIB, None)
        assert one.split == split


@pytest.mark.parametrize(
    ("devices", "training", "activations", "split"),
    [
        (1, 10, 4, "whole"),
        (1, 10, 9, "whole"),
        (1, 30, 4, "too large"),
        (4, 30, 28, "data-parallel"),
        (4, 30, 4, "sharded"),
        (4, 90, 4, "too large"),
    ],
)
def test_how_a_run_lies_on_devices(devices: int, training: float, activations: float, split: str) -> None:
    compute = Compute(version=1, engine=LocalEngine(), devices=devices)
    ((one,),) = allot([[(held(training, activations), 100.0)]], compute, 20 * GIB, None)
    assert (one.devices, one.split, one.seconds, one.ends) == (devices, split, 100.0 / devices, None)


def test_devices_by_the_size_of_a_run() -> None:
    rule = DevicesBySize(memory_gib=20, most=4)
    compute = Compute(version=1, engine=LocalEngine(), devices=rule)
    ((small, large, giant),) = allot([[(held(size, 1), 60.0) for size in (10, 50, 200)]], compute, None, 8)
    assert (small.devices, large.devices) == (1, 3)
    assert (small.split, large.split, giant.split) == ("whole", "sharded", "too large")
    assert giant.ends is None


@given(st.lists(st.lists(st.tuples(st.integers(1, 4), st.floats(1, 1e3)), max_size=5), max_size=3), st.integers(4, 8))
def test_waves_follow_one_another_and_devices_are_never_shared(
    waves: list[list[tuple[int, float]]], total: int
) -> None:
    compute = Compute(version=1, engine=LocalEngine(), devices=DevicesBySize(memory_gib=1, most=4))
    asked = [[(held(size, 0), seconds) for size, seconds in wave] for wave in waves]
    made = allot(asked, compute, None, total)
    before = 0.0
    for wave, planned in zip(waves, made, strict=True):
        spans = [(one.ends - one.seconds, one.ends, one.devices) for one in planned if one.ends is not None]
        assert len(spans) == len(wave)
        assert all(begin >= before * (1 - 1e-9) for begin, *_ in spans)
        for moment, *_ in spans:
            busy = sum(devices for begin, end, devices in spans if begin <= moment * (1 + 1e-12) < end)
            assert busy <= total
        before = max((end for _, end, _ in spans), default=before)


@pytest.mark.parametrize("facts", [True, False])
def test_the_speed_of_a_published_device(facts: bool) -> None:
    published = load_profile(Path(), "h100-2-4")
    profile = published if facts else published.model_copy(update={"accelerator": None})
    speed = profile_speed(profile)
    assert (speed is not None) == facts
    if speed is not None and published.accelerator is not None:
        peak = published.accelerator.peak_flops_per_second
        assert speed.flops_per_second == peak * published.accelerator.utilisation < peak
