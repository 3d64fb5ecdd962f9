"""A batch in parts on one device: the bits of parts, less memory, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from projects import edit, records, results, silent, space_of

from sparsity_lab.specs.compute import Compute, LocalEngine, RunResources
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.stages.train import train_study
from sparsity_lab.training.memory import memory_in_parts, run_memory


def in_parts(parts: int) -> Compute:
    return Compute(version=1, engine=LocalEngine(workers=1), run=RunResources(accumulation=parts), tracking=())


@pytest.mark.usefixtures("quick")
def test_parts_of_a_compute_file_are_those_of_the_run_and_identity_is_not(prepared: Path) -> None:
    edit(prepared, "studies/tiny", grid__nonzero=[1536], grid__data=[1024], grid__replicates=[])
    made = {}
    for parts in (1, 4, 64):
        for record in prepared.glob("runs/tiny/*/record.json"):
            record.unlink()
        train_study(space_of(prepared), compute=in_parts(parts), console=silent())
        made[parts] = results(prepared)
        assert {one["machine"]["parts"] for one in records(prepared).values()} == {min(parts, 8)}
    assert made[1].keys() == made[4].keys() == made[64].keys()
    for name, whole in made[1].items():
        assert made[4][name]["loss"] == pytest.approx(whole["loss"], rel=1e-4)
        assert made[4][name]["nonzero"] == whole["nonzero"]


@pytest.mark.parametrize("family", ["t5", "vit", "decoder"])
def test_parts_hold_less_of_activations_and_some_sums(family: str, make_run: Callable[..., RunSpec]) -> None:
    run = make_run(family)
    whole = run_memory(run)
    assert memory_in_parts(run, 1) == whole
    halves = memory_in_parts(run, 2)
    assert halves.activations < whole.activations
    assert halves.gradients == 3 * whole.gradients
    assert memory_in_parts(run, 10**6).activations <= halves.activations
