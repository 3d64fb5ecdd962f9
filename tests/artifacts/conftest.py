from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sparsity_lab.artifacts.records import CurvePoint, Machine, RunCost, RunRecord
from sparsity_lab.specs.runs import RunSpec

FINGERPRINT = "ab" * 32


@pytest.fixture
def make_record(make_run: Callable[..., RunSpec]) -> Callable[..., RunRecord]:
    """`make_record(**changes)`: a finished run that nobody has trained."""

    def make(**changes: Any) -> RunRecord:
        run = make_run("t5", 0.5)
        fields = {
            "fingerprint": FINGERPRINT,
            "engine": 1,
            "data_hash": "0" * 64,
            "spec": run,
            "status": "finished",
            "sparsity": 0.5,
            "nonzero": 500,
            "dense": 1000,
            "other_params": 300,
            "paper_dense": 900,
            "data": run.data,
            "data_unit": "tokens",
            "epochs": 0.5,
            "loss": 1.0 / 3,
            "first_loss": 5.5,
            "curve": (CurvePoint(step=24, loss=0.1, train_loss=0.2, sparsity=0.5),),
            "cost": RunCost(flops_dense=3e9, flops_sparse=2e9, flops_mask_updates=1e3, seconds=0.25),
            "machine": Machine(
                torch="2", device="cpu", processor="p", instruction_set="AVX2", threads=1, platform="Linux"
            ),
        }
        return RunRecord.model_validate(fields | changes)

    return make
