"""Runs that begin with given weights: a run's, a file's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from method_cases import regime
from safetensors.torch import load_file, save_file

from sparsity_lab.artifacts.records import RunCost, RunRecord
from sparsity_lab.artifacts.weights import content_sha256
from sparsity_lab.errors import CheckpointError
from sparsity_lab.models.huggingface import to_huggingface
from sparsity_lab.specs.runs import FileOrigin, RunOrigin, RunSpec
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.run import RunContext, train

MakeRun = Callable[..., RunSpec]
InputsOf = Callable[[str], Inputs]
CPU = torch.device("cpu")
TINY = 1e-30
"""a learning rate that moves nothing"""


@pytest.fixture
def dense(tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf) -> tuple[RunSpec, RunRecord, Path]:
    """A dense run, its record, and its weights."""
    run = make_run("t5", steps=12)
    return (
        run,
        train(run, inputs_of("t5"), RunContext(tmp_path / "c", tmp_path / "dense", device=CPU)),
        tmp_path / "dense",
    )


Trained = tuple[RunSpec, RunRecord, Path]


def context(folder: Path, start: Path, **changes: Any) -> RunContext:
    return RunContext(folder / "checkpoint", folder / "weights", **{"device": CPU, "start": start, **changes})


def pruned_from(make_run: MakeRun, origin: RunOrigin | FileOrigin, sparsity: float = 0.5, **changes: Any) -> RunSpec:
    chosen = regime("static random") if sparsity else {"version": 1, "method": "dense"}
    return make_run("t5", sparsity, regime=chosen, origin=origin.model_dump(), **changes)


def test_a_run_begins_with_the_final_weights_of_another(
    tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, dense: Trained
) -> None:
    first, record, weights = dense
    run = pruned_from(make_run, RunOrigin(run=first), sparsity=0, seed=7, steps=5, peak_learning_rate=TINY)
    cost = RunCost(flops_dense=1.0, flops_sparse=2.0, flops_mask_updates=3.0, seconds=4.0)
    again = train(run, inputs_of("t5"), context(tmp_path, weights, pretraining=cost))
    assert again.loss == record.loss, "the same weights on the same examples"
    assert (again.origin, again.pretraining) == (record.fingerprint, cost)
    assert again.cost.flops_dense < record.cost.flops_dense, "pretraining is charged apart"
    assert (record.origin, record.pretraining) == (None, None)
    old, new = load_file(weights), load_file(tmp_path / "weights")
    assert all(torch.equal(old[name], new[name]) for name in new)


def test_the_first_loss_is_that_of_fresh_weights(
    tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, dense: Trained
) -> None:
    first, record, weights = dense
    run = pruned_from(make_run, RunOrigin(run=first), seed=first.seed)
    found = train(run, inputs_of("t5"), context(tmp_path, weights))
    assert found.first_loss == record.first_loss
    assert found.finished


def test_a_resumed_run_needs_its_first_weights_no_more(
    tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, dense: Trained
) -> None:
    first, _, weights = dense
    run = pruned_from(make_run, RunOrigin(run=first))
    whole = train(run, inputs_of("t5"), context(tmp_path, weights, checkpoint_seconds=-1))
    again = train(run, inputs_of("t5"), context(tmp_path, tmp_path / "gone"))
    assert again.losses() == whole.losses()


def test_a_run_begins_with_a_file(tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, dense: Trained) -> None:
    _, record, weights = dense
    half = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(weights).items()}
    save_file(half, tmp_path / "half.safetensors")
    origin = FileOrigin(format="safetensors", sha256=content_sha256(tmp_path / "half.safetensors", "safetensors"))
    run = pruned_from(make_run, origin, sparsity=0, steps=1, peak_learning_rate=TINY)
    found = train(run, inputs_of("t5"), context(tmp_path, tmp_path / "half.safetensors"))
    assert found.loss == pytest.approx(record.loss, rel=1e-3)
    assert found.origin is None
    now = load_file(tmp_path / "weights")
    assert all(torch.equal(now[name], tensor.float()) for name, tensor in half.items())


def changed(tensors: dict[str, torch.Tensor], change: Callable[[dict[str, torch.Tensor]], object]) -> dict[str, Any]:
    change(tensors)
    return tensors


NAME = "encoder.0.mlp.wo.weight"


MISFITS: list[tuple[Callable[..., object], str]] = [
    (lambda t: t.pop(NAME), rf"{NAME}: tensor does not fit \(expected \(16, 32\)\)"),
    (lambda t: t.update({NAME: torch.zeros(4, 8)}), rf"{NAME}: tensor does not fit .*\(4, 8\), expected \(16, 32\)"),
    (lambda t: t.update(more=torch.zeros(3)), r"more: tensor has no place in the architecture \(found \(3,\)\)"),
]


@pytest.mark.parametrize("misfit", MISFITS)
def test_weights_that_do_not_fit_are_told(
    tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, dense: Trained, misfit: tuple[Callable[..., object], str]
) -> None:
    change, message = misfit
    path = tmp_path / "other.safetensors"
    save_file(changed(load_file(dense[2]), change), path)
    run = pruned_from(make_run, FileOrigin(format="safetensors", sha256=content_sha256(path, "safetensors")))
    with pytest.raises(CheckpointError, match=f"{path}: {message}"):
        train(run, inputs_of("t5"), context(tmp_path, path))


def test_weights_other_than_the_origins_are_told(
    tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, dense: Trained
) -> None:
    first, _, weights = dense
    by_hash = pruned_from(make_run, FileOrigin(format="safetensors", sha256="0" * 64))
    with pytest.raises(CheckpointError, match=r"sha256: holds other weights than the run begins with .*expected 0000"):
        train(by_hash, inputs_of("t5"), context(tmp_path, weights))
    by_run = pruned_from(make_run, RunOrigin(run=first.model_copy(update={"seed": 5})))
    with pytest.raises(CheckpointError, match="fingerprint: holds other weights than the run begins with"):
        train(by_run, inputs_of("t5"), context(tmp_path, weights))


@pytest.mark.parametrize("kind", ["safetensors", "huggingface"])
def test_weights_that_are_not_there_are_told(tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, kind: Any) -> None:
    run = pruned_from(make_run, FileOrigin(format=kind, sha256="0" * 64))
    with pytest.raises(CheckpointError, match="none"):
        train(run, inputs_of("t5"), context(tmp_path, tmp_path / "none"))


def test_a_damaged_file_is_told(tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, dense: Trained) -> None:
    first, _, weights = dense
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=f"{weights}: is damaged"):
        train(pruned_from(make_run, RunOrigin(run=first)), inputs_of("t5"), context(tmp_path, weights))


def test_a_run_begins_with_a_hugging_face_folder(
    tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, dense: Trained
) -> None:
    first, record, weights = dense
    folder = tmp_path / "folder"
    folder.mkdir()
    config, tensors = to_huggingface(load_file(weights), first.model)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    origin = FileOrigin(format="huggingface", sha256=content_sha256(folder, "huggingface"))
    run = pruned_from(make_run, origin, sparsity=0, steps=1, peak_learning_rate=TINY)
    assert train(run, inputs_of("t5"), context(tmp_path, folder)).loss == record.loss
