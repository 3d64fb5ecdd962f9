"""What only a GPU can show: the same masks as on the CPU, bits that repeat, resume, batches copied ahead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from method_cases import REGIMES, regime

from sparsity_lab.pruning.scores import WeightStatistics
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.checkpoint import copy_into
from sparsity_lab.training.context import RunContext
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.loop import Loop
from sparsity_lab.training.run import train

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]

MakeRun = Callable[..., RunSpec]
InputsOf = Callable[[str], Inputs]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("name", sorted(REGIMES))
def test_masks_are_those_that_the_cpu_chooses_from_the_same_weights(
    make_run: MakeRun, inputs_of: InputsOf, name: str
) -> None:
    run = make_run("decoder", 0.5, regime=regime(name), steps=16)
    batch_at = inputs_of("decoder").stream(run).batch_at
    here, there = Loop(run, batch_at, CPU), Loop(run, batch_at, CUDA)
    assert here.pruner is not None
    assert there.pruner is not None
    for step in filter(here.pruner.due, range(run.steps + 1)):
        statistics = [
            WeightStatistics(
                gradient=loop.parameters.whole(loop.parameters.weights),
                fisher=loop.parameters.whole(loop.parameters.weights.square()),
                inputs={
                    slot.name: torch.ones(slot.shape[1], device=loop.passes.device)
                    for slot in loop.parameters.slots
                    if len(slot.shape) == 2
                },
            )
            for loop in (here, there)
        ]
        for loop, seen in zip((here, there), statistics, strict=True):
            assert loop.pruner is not None
            loop.pruner.update(step, loop.parameters.whole(loop.parameters.weights), seen)
        assert torch.equal(here.parameters.mask, there.parameters.mask.cpu())


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "bfloat16-compiled"])
@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_bits_repeat_with_and_without_a_thread(
    tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, optimizer: str, precision: str
) -> None:
    run, made = make_run("t5", 0.5, optimizer, precision=precision), []
    for ahead in (0, 2, 2):
        folder = tmp_path / str(len(made))
        context = RunContext(folder / "checkpoint", folder / "weights", 1e9, CUDA, ahead=ahead)
        made.append((train(run, inputs_of("t5"), context), (folder / "weights").read_bytes()))
    assert len({(record.losses(), weights) for record, weights in made}) == 1
    assert all((record.cost.peak_memory or 0) > 0 for record, _ in made)


def test_a_loop_goes_on_to_the_same_bits(make_run: MakeRun, inputs_of: InputsOf) -> None:
    run = make_run("vit", 0.5, regime=regime("rigl"))
    batch_at = inputs_of("vit").stream(run).batch_at
    whole, first, second = (Loop(run, batch_at, CUDA) for _ in range(3))
    while whole.step < run.steps:
        whole.advance()
    while first.step < run.steps // 2:
        first.advance()
    copy_into(second.tensors(), {name: tensor.cpu() for name, tensor in first.tensors().items()}, Path("here"))
    second.restore_facts(first.facts())
    while second.step < run.steps:
        second.advance()
    assert all(torch.equal(tensor, second.tensors()[name]) for name, tensor in whole.tensors().items())
