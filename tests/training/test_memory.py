"""Bytes equal those of the live tensors and of the files that are really written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from math import prod
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from method_cases import REGIMES, regime
from pydantic import TypeAdapter
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from sparsity_lab.checkpoints.encodings import encoding
from sparsity_lab.checkpoints.files import stored_bytes, write_weights
from sparsity_lab.errors import CheckpointError
from sparsity_lab.models.count import other_count, prunable_count, prunable_shapes
from sparsity_lab.pruning.reconstruction import reconstruct
from sparsity_lab.specs.regimes.patterns import Unstructured
from sparsity_lab.specs.regimes.scores import Reconstruction
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.specs.training import Optimizer
from sparsity_lab.training.checkpoint import save_checkpoint
from sparsity_lab.training.loop import Loop
from sparsity_lab.training.memory import (
    bitmask_bytes,
    csr_bytes,
    memory_in_parts,
    n_m_bytes,
    planned_other_zeros,
    planned_zeros,
    run_memory,
)

MakeRun = Callable[..., RunSpec]
MakeLoop = Callable[[RunSpec], Loop]
OPTIMIZERS: TypeAdapter[Optimizer] = TypeAdapter(Optimizer)
FAMILIES = pytest.mark.parametrize("family", ["t5", "vit", "decoder"])


def payload(path: Path) -> int:
    """Bytes of the tensors of a safetensors file: all but the header and its length."""
    content = path.read_bytes()
    return len(content) - 8 - int.from_bytes(content[:8], "little")


def vectors(owner: object, like: Tensor) -> Iterator[Tensor]:
    """The tensors that an object holds which are as long as the flat vector."""
    return (value for value in vars(owner).values() if isinstance(value, Tensor) and value.shape == like.shape)


def finished(loop: Loop) -> Loop:
    while loop.step < loop.run.steps:
        loop.advance()
    return loop


@FAMILIES
@pytest.mark.parametrize(
    "spec", [{"kind": "adamw"}, {"kind": "adamw", "weight_decay": 0.1}, {"kind": "adafactor"}], ids=str
)
@pytest.mark.parametrize("name", ["magnitude", "blocks alone", "sr-ste"])
def test_what_is_held_while_training(  # noqa: PLR0917
    make_run: MakeRun, make_loop: MakeLoop, tmp_path: Path, family: str, spec: dict[str, object], name: str
) -> None:
    run = make_run(family, 0.5, regime=regime(name)).model_copy(update={"optimizer": OPTIMIZERS.validate_python(spec)})
    loop, memory = make_loop(run), run_memory(run)
    parameters, state = loop.parameters, loop.optimizer.state().values()
    assert memory.weights == parameters.weights.nbytes
    assert memory.gradients == parameters.gradients.nbytes
    assert memory.masks == parameters.mask.nbytes
    moments = [tensor for tensor in state if tensor.ndim]
    assert memory.optimizer == sum(tensor.nbytes for tensor in moments)
    held = {id(tensor): tensor.nbytes for tensor in vectors(loop.optimizer, parameters.weights)}
    assert memory.optimizer + memory.scratch == sum(held.values())
    assert memory.remainder == sum(tensor.nbytes for tensor in loop.method.state().values())
    save_checkpoint(tmp_path / "now", {**loop.tensors(), "rng": torch.get_rng_state()}, {"step": 0})
    assert memory.checkpoint == payload(tmp_path / "now")


@FAMILIES
@pytest.mark.parametrize("name", ["magnitude", "blocks alone", "2:4", "ac/dc", "rigl"])
def test_files_of_final_weights(make_run: MakeRun, make_loop: MakeLoop, tmp_path: Path, family: str, name: str) -> None:
    loop = finished(make_loop(make_run(family, 0.5, regime=regime(name), steps=12)))
    run, prunable = loop.run, set(prunable_shapes(loop.run.model))
    weights = {name: view.clone() for name, view in loop.parameters.named(loop.parameters.weights).items()}
    memory = run_memory(run, loop.zeros())
    claimed = {
        "dense": memory.file_dense,
        "bitmask": memory.file_bitmask,
        "csr": memory.file_csr,
        "2:4": memory.file_n_m,
    }
    for how, expected in claimed.items():
        if expected is None:
            with pytest.raises(CheckpointError):
                stored_bytes(weights, encoding(how), prunable=prunable)
            continue
        write_weights(tmp_path / "weights", weights, encoding(how), prunable=prunable)
        assert expected == payload(tmp_path / "weights")
    if loop.zeros() == planned_zeros(run):
        assert memory == run_memory(run)
    else:  # a global ranking shares zeros out as it likes, and rows of tokens that no batch holds grow nothing
        assert name in {"ac/dc", "rigl"}


@FAMILIES
@pytest.mark.parametrize("name", REGIMES)
def test_planned_zeros_are_those_of_the_masks(make_run: MakeRun, make_loop: MakeLoop, family: str, name: str) -> None:
    run = make_run(family, 0.5, regime=regime(name), steps=12)
    loop, planned = finished(make_loop(run)), planned_zeros(run)
    masks = {tensor: int((~mask).sum()) for tensor, mask in loop.parameters.named_masks().items()}
    assert sum(masks.values()) == sum(planned.values())
    assert set(masks) == set(planned)
    outside = planned_other_zeros(run)
    assert bool(outside) == (name != "blocks alone")
    assert {tensor: masks[tensor] for tensor in outside} == outside
    if run.regime.allocation.kind != "global":
        assert masks == planned
    if run.regime.method == "dynamic":  # what grew where no gradient ever came is zero still
        assert all(zeros >= masks[tensor] for tensor, zeros in loop.zeros().items())
        assert {tensor: loop.zeros()[tensor] for tensor in prunable_shapes(run.model)}.items() <= masks.items()
    else:
        assert loop.zeros() == masks


def test_a_dense_run_plans_no_zeros_and_holds_its_file_as_it_is(make_run: MakeRun) -> None:
    run = make_run("t5")
    memory, weights = run_memory(run), prunable_count(run.model) + other_count(run.model)
    assert planned_zeros(run) == {}
    assert memory.file_dense == 4 * weights
    assert memory.file_bitmask == 4 * weights + prunable_count(run.model) // 8
    assert memory.file_n_m is None
    assert memory.remainder == 0


def test_the_sum_of_training(make_run: MakeRun) -> None:
    memory = run_memory(make_run("vit", 0.5))
    parts = json.loads(memory.model_dump_json())
    held = ("weights", "gradients", "optimizer", "scratch", "masks", "remainder", "activations")
    assert memory.training == sum(parts[name] for name in held)
    pruning = memory.model_copy(update={"calibration": memory.activations + 5})
    assert pruning.training == memory.training + 5, "one after the other"


def at_once(score: dict[str, object]) -> dict[str, object]:
    return {"version": 1, "method": "one-shot", "start": {"kind": "scratch"}, "score": score}


@pytest.mark.parametrize(("rows", "columns"), [(128, 32), (32, 128)])
@pytest.mark.parametrize("kind", ["sparsegpt", "obc"])
def test_pruning_at_once_holds_moments_and_what_is_solved_from_them(
    make_run: MakeRun, kind: str, rows: int, columns: int
) -> None:
    shape = {"width": min(rows, columns), "ff": max(rows, columns)}
    dims = make_run("decoder", 0.5).model.model_copy(update=shape)
    run = make_run("decoder", 0.5, regime=at_once({"kind": kind}), model=dims)
    assert run.pruning is not None
    score, generator = run.pruning.score, torch.Generator().manual_seed(0)
    assert isinstance(score, Reconstruction)
    weight, inputs = (torch.randn(size, columns, generator=generator) for size in (rows, 2 * columns))
    reconstruct(weight, inputs.T @ inputs, Unstructured(), weight.numel() // 2, score)  # libraries take theirs once
    taken, peak = 0, 0
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        reconstruct(weight, inputs.T @ inputs, Unstructured(), weight.numel() // 2, score)
    for event in seen.events():
        taken += event.cpu_memory_usage if event.name == "[memory]" else 0
        peak = max(peak, taken)
    assert 0 < peak <= run_memory(run).calibration


def test_second_moments_are_those_of_one_block_and_only_where_inputs_are_asked(make_run: MakeRun) -> None:
    """Each of six layers has 16 inputs, one 32: 6 (16^2 + 1) + 32^2 + 1 = 2,567 numbers of eight bytes."""
    wanda = make_run("decoder", 0.5, regime=at_once({"kind": "wanda"}))
    assert run_memory(wanda).calibration == 8 * 2 * 2567
    assert memory_in_parts(wanda, 2).calibration == 8 * 3 * 2567
    assert run_memory(make_run("decoder", 0.5, regime=at_once({"kind": "sparsegpt"}))).calibration == 8 * (2567 + 7168)
    assert run_memory(make_run("decoder", 0.5, regime=at_once({"kind": "magnitude"}))).calibration == 0
    assert run_memory(make_run("decoder", 0.5)).calibration == 0


@given(st.integers(1, 40), st.integers(1, 80), st.floats(0, 1), st.sampled_from([torch.float32, torch.bfloat16]))
def test_encodings_take_what_is_claimed(rows: int, columns: int, sparsity: float, dtype: torch.dtype) -> None:
    weight = torch.ones(rows, columns, dtype=dtype)
    zeros = int(sparsity * weight.numel())
    weight.view(-1)[:zeros] = 0
    shape, value = tuple(weight.shape), weight.itemsize
    assert bitmask_bytes(shape, zeros, value) == taken(encoding("bitmask").encode(weight).values())
    assert csr_bytes(shape, zeros, value) == taken(encoding("csr").encode(weight).values())


@pytest.mark.parametrize(("rows", "columns", "kept"), [(1, 40_000, 3), (200, 200, 32_767), (200, 200, 32_768)])
def test_csr_widens_its_integers_where_it_must(rows: int, columns: int, kept: int) -> None:
    weight = torch.zeros(rows * columns)
    weight[:kept] = 1
    parts = encoding("csr").encode(weight.view(rows, columns))
    assert csr_bytes((rows, columns), rows * columns - kept) == taken(parts.values())


@given(st.sampled_from([(1, 4), (2, 4), (4, 8), (1, 3), (7, 16)]), st.integers(1, 9), st.integers(1, 9))
def test_groups_take_what_is_claimed(pattern: tuple[int, int], rows: int, groups: int) -> None:
    n, m = pattern
    weight = torch.zeros(rows, groups * m)
    assert n_m_bytes((rows, groups * m), n, m) == taken(encoding(f"{n}:{m}").encode(weight).values())
    assert prod(weight.shape) == rows * groups * m


def taken(parts: Iterable[Tensor]) -> int:
    return sum(part.nbytes for part in parts)
