"""Runs against the dense run that would have used as much."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sparsity_lab.artifacts.records import Machine, RunCost, RunRecord
from sparsity_lab.cost.observed import Observed, observe_runs
from sparsity_lab.models.count import prunable_count
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.accounting import run_flops

MakeRun = Callable[..., RunSpec]
SIZES = (2560,)
MACHINE = Machine(torch="2", device="cpu", processor="p", instruction_set="i", threads=1, platform="x")


def dense_loss(data: float) -> float:
    return 1 + 30 * data**-0.5


def record(run: RunSpec, loss: float, seconds: float) -> RunRecord:
    flops = run_flops(run)
    return RunRecord(
        fingerprint=f"{run.sparsity}{run.steps}{run.seed}",
        engine=1,
        data_hash="",
        spec=run,
        status="finished",
        sparsity=run.sparsity,
        nonzero=SIZES[0],
        dense=prunable_count(run.model),
        other_params=1,
        paper_dense=1,
        data=run.data,
        data_unit="tokens",
        epochs=1,
        loss=loss,
        first_loss=9,
        curve=(),
        cost=RunCost(
            flops_dense=flops.dense, flops_sparse=flops.sparse, flops_mask_updates=flops.mask_updates, seconds=seconds
        ),
        machine=MACHINE,
    )


def dense_runs(make_run: MakeRun, steps: tuple[int, ...] = (24, 48, 96, 192)) -> list[RunRecord]:
    runs = [make_run("t5", steps=count) for count in steps]
    return [record(run, dense_loss(run.data), run.steps / 10) for run in runs]


def observed(records: list[RunRecord]) -> dict[str, Observed]:
    found = observe_runs(records, SIZES, lambda run: "dense" if run.sparsity == 0 else "gradual")
    assert {(one.regime, one.sparsity) for one in found} == {("gradual", 0.5)}
    return {one.name: one for one in found}


def test_at_equal_data_losses_are_simply_compared(make_run: MakeRun) -> None:
    run = make_run("t5", 0.5, steps=48)
    found = observed([*dense_runs(make_run), record(run, dense_loss(run.data) - 0.25, 1.0)])
    assert found["nonzero"].advantage == pytest.approx(0.25)
    assert (found["nonzero"].runs, found["nonzero"].better, found["nonzero"].worse) == (1, 1, 0)


def test_seconds_buy_the_dense_run_more_data(make_run: MakeRun) -> None:
    run = make_run("t5", 0.5, steps=48)
    found = observed([*dense_runs(make_run), record(run, 1.5, seconds=9.6)])["seconds"]
    assert found.advantage == pytest.approx(dense_loss(2 * run.data) - 1.5)  # 9.6 s are 96 dense steps, a trained D


def test_between_trained_amounts_of_data_a_curve_tells_the_loss(make_run: MakeRun) -> None:
    run = make_run("t5", 0.5, steps=48)
    found = observed([*dense_runs(make_run), record(run, 1.5, seconds=7.2)])["seconds"]
    assert found.advantage == pytest.approx(dense_loss(1.5 * run.data) - 1.5, abs=5e-3)


def test_flops_are_those_of_the_record(make_run: MakeRun) -> None:
    run, dense = make_run("t5", 0.5, steps=96), dense_runs(make_run)
    found = observed([*dense, record(run, 1.5, 1.0)])
    flops, rate = run_flops(run), run_flops(make_run("t5", steps=96)).dense / run.data
    for name, used in (("sparse_flops", flops.sparse), ("dense_flops", flops.dense)):
        data = (used + flops.mask_updates) / rate
        assert found[name].advantage == pytest.approx(dense_loss(data) - 1.5, abs=5e-3)
    assert found["sparse_flops"].advantage > found["dense_flops"].advantage


def test_what_costs_more_than_any_dense_run_has_no_partner(make_run: MakeRun) -> None:
    run = make_run("t5", 0.5, steps=192)
    found = observed([*dense_runs(make_run), record(run, 1.0, seconds=99)])
    assert (found["seconds"].runs, found["seconds"].alone) == (0, 1)
    assert found["nonzero"].runs == 1


def test_differences_within_the_noise_of_seeds_are_neither(make_run: MakeRun) -> None:
    run = make_run("t5", 0.5, steps=48)
    again = record(run.model_copy(update={"seed": 1}), dense_loss(run.data) + 0.02, 1.0)
    found = observed([*dense_runs(make_run), record(run, dense_loss(run.data) - 0.02, 1.0), again])["nonzero"]
    assert (found.runs, found.better, found.worse) == (2, 0, 0)
    assert found.advantage == pytest.approx(0, abs=1e-12)
