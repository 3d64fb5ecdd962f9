"""Architectures of `transformers` are counted, trained, pruned, broken off, written and read back."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from math import prod
from pathlib import Path

import pytest
import torch
import transformers
from foreign_cases import ARCHITECTURES, FURTHER, NEXT, asked, dims_of, without
from safetensors.torch import load_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sparsity_lab.artifacts.weights import content_sha256
from sparsity_lab.checkpoints import read_weights
from sparsity_lab.checkpoints.folder import write_folder
from sparsity_lab.checkpoints.survey import survey
from sparsity_lab.errors import CheckpointError
from sparsity_lab.models import huggingface
from sparsity_lab.models.build import build_model, parameter_shapes
from sparsity_lab.models.count import other_count, prunable_count, prunable_shapes, step_flops
from sparsity_lab.models.foreign.configuration import HEADS
from sparsity_lab.models.foreign.network import constants
from sparsity_lab.specs.models import HuggingFaceDims
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.checkpoint import copy_into, load_checkpoint, save_checkpoint
from sparsity_lab.training.context import RunContext
from sparsity_lab.training.evaluate import restored_model
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.loop import Loop
from sparsity_lab.training.run import train

pytestmark = pytest.mark.slow

MakeRun = Callable[..., RunSpec]
InputsOf = Callable[[str], Inputs]
CPU = torch.device("cpu")
EXPERTS = ("mixtral", "gpt-oss")
each = pytest.mark.parametrize("name", ARCHITECTURES)


DataOf = Callable[[RunSpec], Inputs]
RunOf = Callable[..., RunSpec]


@each
def test_counts_are_those_of_the_module_and_of_torch(name: str, run_of: RunOf, data_of: DataOf) -> None:
    run = run_of(name)
    model = build_model(run.model, 0)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    shapes = parameter_shapes(run.model)
    assert {name: prod(shape) for name, shape in shapes.items()} == sizes
    assert prunable_count(run.model) + other_count(run.model) == sum(sizes.values())
    assert prunable_count(run.model) == sum(sizes[name] for name in model.prunable())
    batch = data_of(run).stream(run).batch_at(0)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        loss = model.loss(batch)
        forward = counter.get_total_flops()
        loss.backward()  # type: ignore[no-untyped-call]
    step = step_flops(run.model, run.objective, run.batch)
    assert (step.forward.total, step.total) == (forward, counter.get_total_flops())
    if run.objective.kind == "next-token" and name not in EXPERTS:  # which multiply for the tokens that they are given
        assert step.forward.projections == 2 * run.batch * 15 * prunable_count(run.model)


@each
def test_a_run_broken_off_goes_on_to_the_same_bits_and_ends_on_its_pattern(
    name: str, run_of: RunOf, data_of: DataOf, tmp_path: Path
) -> None:
    run = run_of(name)
    batches = data_of(run).stream(run).batch_at
    whole = Loop(run, batches, CPU)
    while whole.step < run.steps:
        whole.advance()
    loop = Loop(run, batches, CPU)
    while loop.step < run.steps // 2:
        loop.advance()
    save_checkpoint(tmp_path / "c", loop.tensors(), {**loop.facts(), "fingerprint": "f"})
    found = load_checkpoint(tmp_path / "c", "f")
    assert found is not None
    again = Loop(run, batches, CPU)
    copy_into(again.tensors(), load_file(tmp_path / "c"), tmp_path / "c")
    again.restore_facts(found[1])
    while again.step < run.steps:
        again.advance()
    assert all(tensor.equal(again.tensors()[part]) for part, tensor in whole.tensors().items())
    assert again.mean_train_loss() == whole.mean_train_loss()
    weights = again.parameters.named(again.parameters.weights)
    for tensor in prunable_shapes(run.model):
        groups = (weights[tensor] != 0).view(-1, 4).sum(1)
        assert groups.max() <= 2, tensor
    assert again.sparsity() == 0.5


@pytest.mark.parametrize("name", [*ARCHITECTURES, *FURTHER])
def test_a_folder_computes_what_the_run_did_and_is_taken_back(
    name: str, run_of: RunOf, data_of: DataOf, tmp_path: Path
) -> None:
    run = run_of(name)
    inputs = data_of(run)
    record = train(run, inputs, RunContext(tmp_path / "c", tmp_path / "weights", device=CPU))
    assert record.finished
    assert record.machine.transformers == transformers.__version__
    weights = read_weights(tmp_path / "weights")
    assert sum(int((weights[tensor.name] == 0).sum()) for tensor in record.tensors) * 2 == record.dense
    write_folder(tmp_path / "folder", weights, run.model, {})
    assert isinstance(run.model, HuggingFaceDims)
    theirs = getattr(transformers, HEADS[run.model.task]).from_pretrained(tmp_path / "folder").eval()
    ours = restored_model(run.model, weights).cpu()
    batch = inputs.evaluation(run, 4)[0]
    with torch.no_grad():
        torch.testing.assert_close(asked(theirs, run, batch), ours.logits(batch), rtol=1e-5, atol=1e-6)
    back = huggingface.read_weights(tmp_path / "folder", run.model)
    assert back.keys() == weights.keys()
    assert all(back[tensor].equal(weights[tensor]) for tensor in weights)
    trained = [tensor for tensor in survey(tmp_path / "folder").tensors if tensor.name not in constants(run.model)]
    assert sum(tensor.zeros for tensor in trained) == sum(int((weight == 0).sum()) for weight in weights.values())
    origin = {"kind": "file", "format": "huggingface", "sha256": content_sha256(tmp_path / "folder", "huggingface")}
    later = run_of(name, origin=origin)
    found = train(later, inputs, RunContext(tmp_path / "d", device=CPU, start=tmp_path / "folder"))
    assert found.finished
    assert found.start_sparsity == 0.5


def test_another_architecture_is_no_start(run_of: RunOf, tmp_path: Path) -> None:
    dims = run_of("llama").model
    weights = {name: torch.zeros(shape) for name, shape in parameter_shapes(dims).items()}
    write_folder(tmp_path / "folder", weights, dims, {})
    config, _ = ARCHITECTURES["llama"]
    other = dims_of({**config, "rms_norm_eps": 1e-5}, NEXT)
    with pytest.raises(CheckpointError, match="rms_norm_eps"):
        huggingface.check_folder(tmp_path / "folder", other)
    (tmp_path / "folder" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no safetensors weights"):
        huggingface.check_folder(tmp_path / "folder", dims)


def test_constants_are_held_as_they_are_computed_and_others_are_no_start(run_of: RunOf, tmp_path: Path) -> None:
    dims = run_of("marian").model
    assert isinstance(dims, HuggingFaceDims)
    positions = {f"model.{part}.embed_positions.weight" for part in ("encoder", "decoder")}
    assert positions | {"final_logits_bias"} == constants(dims).keys()
    assert not positions & parameter_shapes(dims).keys()
    first, second = build_model(dims, 1), build_model(dims, 2)
    write_folder(tmp_path / "folder", {name: p.detach() for name, p in first.named_parameters()}, dims, {})
    theirs = transformers.MarianMTModel.from_pretrained(tmp_path / "folder")
    for name in positions:
        held = second.get_buffer(name)
        assert held[3, 0] == pytest.approx(math.sin(3))  # of position 3 at the highest frequency
        assert held.equal(theirs.get_parameter(name))
    theirs.final_logits_bias[0, 7] = 1.0
    theirs.save_pretrained(tmp_path / "other")
    with pytest.raises(CheckpointError, match="final_logits_bias: holds other constants"):
        huggingface.read_weights(tmp_path / "other", dims)


def test_a_head_for_other_classes_is_no_start(run_of: RunOf, tmp_path: Path) -> None:
    config, _ = ARCHITECTURES["vit"]
    config = without(config, "model_type")
    dims = run_of("vit").model
    assert isinstance(dims, HuggingFaceDims)
    network = transformers.ViTForImageClassification(
        transformers.ViTConfig(**config, image_size=8, num_channels=1, num_labels=7)
    )
    network.save_pretrained(tmp_path / "backbone")
    with pytest.raises(CheckpointError, match=r"num_labels: its head tells other classes apart.*found 7, expected 5"):
        huggingface.check_folder(tmp_path / "backbone", dims)
    network = transformers.ViTForImageClassification(
        transformers.ViTConfig(**config, image_size=8, num_channels=1, num_labels=5)
    )
    network.save_pretrained(tmp_path / "fitting")
    huggingface.check_folder(tmp_path / "fitting", dims)


def test_the_same_seed_draws_the_same_weights_whatever_was_drawn_before() -> None:
    dims = dims_of(*ARCHITECTURES["llama"])
    first = build_model(dims, 3)
    state = torch.get_rng_state()
    torch.rand(7)
    second, third = build_model(dims, 3), build_model(dims, 4)
    torch.set_rng_state(state)
    same = [one.equal(other) for one, other in zip(first.parameters(), second.parameters(), strict=True)]
    assert all(same)
    assert not next(first.parameters()).equal(next(third.parameters()))


def test_own_families_are_trained_without_loading_transformers() -> None:
    code = (
        "import sys; from sparsity_lab.models.build import build_model; from sparsity_lab.specs.models import ViTDims\n"
        "import sparsity_lab.checkpoints.folder, sparsity_lab.training.evaluate, sparsity_lab.training.run\n"
        "from sparsity_lab.training.flat_parameters import flatten_parameters\n"
        "model = build_model(ViTDims(layers=1, width=8, heads=2, ff=8, image=8, channels=1, patch=4, classes=2), 0)\n"
        "flatten_parameters(model, model.prunable())\n"
        "sys.exit('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
