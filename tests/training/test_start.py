"""Runs that begin with given weights: a run's, a file's."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from method_cases import regime
from safetensors.torch import load_file, save_file

from sparsity_lab.artifacts.records import RunCost, RunRecord
from sparsity_lab.artifacts.weights import content_sha256
from sparsity_lab.console.runs import runs_text
from sparsity_lab.errors import CheckpointError
from sparsity_lab.models.build import parameter_shapes
from sparsity_lab.models.huggingface import to_huggingface
from sparsity_lab.specs.models import DecoderDims
from sparsity_lab.specs.runs import FileOrigin, RunOrigin, RunSpec
from sparsity_lab.training.accounting import run_flops
from sparsity_lab.training.context import RunContext
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.loop import Loop
from sparsity_lab.training.run import train
from sparsity_lab.training.start import check_file, check_start

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


def sparse_file(path: Path, weights: Path, sparsity: float) -> Path:
    """The weights of a dense run with the smallest of each prunable matrix set to zero."""
    tensors = load_file(weights)
    for name, tensor in tensors.items():
        if tensor.ndim == 2 and name.startswith(("encoder", "decoder")):
            limit = tensor.abs().flatten().kthvalue(int(sparsity * tensor.numel())).values
            tensor[tensor.abs() <= limit] = 0
    save_file(tensors, path)
    return path


def from_file(make_run: MakeRun, path: Path, sparsity: float, **regime: Any) -> RunSpec:
    origin = FileOrigin(format="safetensors", sha256=content_sha256(path, "safetensors"))
    chosen = {"version": 1, "method": "masked", **regime}
    return make_run("t5", sparsity, regime=chosen, origin=origin.model_dump(), steps=24, peak_learning_rate=1e-3)


@pytest.mark.parametrize(("asked", "ends"), [(0.8, 0.8), (0.5, 0.7)])
def test_a_sparse_start_never_falls_and_its_zeros_stay(  # noqa: PLR0917
    tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, dense: Trained, asked: float, ends: float
) -> None:
    path = sparse_file(tmp_path / "sparse", dense[2], 0.7)
    run = from_file(make_run, path, asked, schedule={"kind": "cubic", "minimum_updates": 4})
    record = train(run, inputs_of("t5"), context(tmp_path, path))
    seen = [point.sparsity for point in record.curve]
    assert seen == sorted(seen)
    assert seen[0] >= record.start_sparsity == pytest.approx(0.7, abs=2e-3)
    assert record.sparsity == pytest.approx(ends, abs=2e-3)
    before, after = load_file(path), load_file(tmp_path / "weights")
    assert not any((after[count.name][before[count.name] == 0] != 0).any() for count in record.tensors)
    fresh = run_flops(run.model_copy(update={"origin": None}))
    assert record.cost.flops_sparse < fresh.sparse, "it trains sparser than a dense start would"
    assert record.cost.flops_dense == fresh.dense


@pytest.mark.parametrize("method", ["masked", "straight-through", "dynamic"])
def test_a_sparse_start_goes_on_to_the_same_bits(  # noqa: PLR0917
    tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, dense: Trained, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sparse_file(tmp_path / "sparse", dense[2], 0.6)
    run = from_file(make_run, path, 0.75, method=method, schedule={"kind": "cubic", "minimum_updates": 4})
    whole = train(run, inputs_of("t5"), context(tmp_path, path))
    final = load_file(tmp_path / "weights")
    advance = Loop.advance

    def breaking(loop: Loop) -> None:
        if loop.step == 9:
            raise KeyboardInterrupt
        advance(loop)

    other = context(tmp_path, path, checkpoint_seconds=-1)
    other.checkpoint.unlink(missing_ok=True)
    with monkeypatch.context() as patched:
        patched.setattr(Loop, "advance", breaking)
        with pytest.raises(KeyboardInterrupt):
            train(run, inputs_of("t5"), other)
    again = train(run, inputs_of("t5"), other)
    assert again.losses() == whole.losses()
    assert (again.start_sparsity, again.tensors) == (whole.start_sparsity, whole.tensors)
    now = load_file(tmp_path / "weights")
    assert all(torch.equal(now[name], tensor) for name, tensor in final.items())


def test_zeros_off_the_pattern_are_said(tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, dense: Trained) -> None:
    path = sparse_file(tmp_path / "sparse", dense[2], 0.6)
    pattern = {"kind": "n:m", "n": 2, "m": 4}
    record = train(from_file(make_run, path, 0.5, pattern=pattern), inputs_of("t5"), context(tmp_path, path))
    assert record.start_off_pattern == len(record.tensors)
    assert record.sparsity > record.start_sparsity
    said = runs_text([record])
    assert f"S = {record.start_sparsity:.4g}, off its pattern in {len(record.tensors)} tensors" in said
    for name in (count.name for count in record.tensors):
        groups = load_file(tmp_path / "weights")[name].view(-1, 4)
        assert int((groups != 0).sum(1).max()) <= 2


def test_dense_starts_say_nothing_of_sparsity(
    tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, dense: Trained
) -> None:
    run = from_file(make_run, dense[2], 0.5)
    record = train(run, inputs_of("t5"), context(tmp_path, dense[2]))
    assert record.start_sparsity == 0
    assert "start_sparsity" not in record.model_dump_json()
    assert RunRecord.model_validate_json(record.model_dump_json()).start_sparsity == 0


BAD_NUMBERS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str]] = {
    "nan": (lambda t: t.index_fill(0, torch.tensor([0]), float("nan")), "no finite numbers as float32 .*NaN, 0 inf"),
    "infinity": (lambda t: t.index_fill(0, torch.tensor([0]), float("-inf")), "found '0 NaN, 32 infinite'"),
    "beyond float32": (lambda t: t.double() * 1e300, "no finite numbers as float32"),
    "whole numbers": (lambda t: t.to(torch.int8), "holds no weights .found 'int8', expected a floating-point type"),
    "truth": (lambda t: t.bool(), "holds no weights .found 'bool'"),
    "complex": (lambda t: t.to(torch.complex64), "holds no weights .found 'complex64'"),
}


@pytest.mark.parametrize("bad", BAD_NUMBERS)
def test_what_is_no_weight_is_told_before_training(
    tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, dense: Trained, bad: str
) -> None:
    change, message = BAD_NUMBERS[bad]
    tensors = load_file(dense[2])
    save_file({**tensors, NAME: change(tensors[NAME])}, tmp_path / "bad")
    with pytest.raises(CheckpointError, match=f"{tmp_path / 'bad'}: {NAME}: .*{message}"):
        train(from_file(make_run, tmp_path / "bad", 0.5), inputs_of("t5"), context(tmp_path, tmp_path / "bad"))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2])
def test_every_floating_point_type_begins_a_run(
    tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, dense: Trained, kind: torch.dtype
) -> None:
    save_file({name: tensor.to(kind) for name, tensor in load_file(dense[2]).items()}, tmp_path / "other")
    record = train(from_file(make_run, tmp_path / "other", 0.5), inputs_of("t5"), context(tmp_path, tmp_path / "other"))
    assert record.finished


def test_zeros_alone_are_told(tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, dense: Trained) -> None:
    save_file({name: tensor * 0 for name, tensor in load_file(dense[2]).items()}, tmp_path / "zeros")
    with pytest.raises(CheckpointError, match="holds no prunable weight that is not zero"):
        train(from_file(make_run, tmp_path / "zeros", 0.5), inputs_of("t5"), context(tmp_path, tmp_path / "zeros"))


@pytest.mark.parametrize(("loss", "refused"), [(3.8, False), (6.5, False), (7.81, True), (30.0, True)])
def test_a_start_far_worse_than_fresh_weights_is_told(tmp_path: Path, *, loss: float, refused: bool) -> None:
    """A model on ids that it was never trained with is surer of what is wrong than one that knows nothing."""
    with pytest.raises(CheckpointError, match="other token ids") if refused else nullcontext():
        check_start(loss, 6.4, tmp_path)


def test_a_file_is_held_against_an_architecture_head_and_all(tmp_path: Path) -> None:
    origin = FileOrigin.model_validate({"format": "safetensors", "sha256": "0" * 64})
    apart = DecoderDims(layers=1, width=16, heads=2, ff=32, vocabulary=300, context=16)
    tied = apart.model_copy(update={"tied_head": True})
    whole = {name: torch.zeros(shape) for name, shape in parameter_shapes(apart).items()}
    save_file(whole, tmp_path / "whole")
    save_file({name: tensor for name, tensor in whole.items() if name != "head.weight"}, tmp_path / "headless")
    for dims, file in ((apart, "whole"), (tied, "headless"), (tied, "whole")):
        check_file(origin, tmp_path / file, dims)
    with pytest.raises(CheckpointError, match=r"head\.weight"):
        check_file(origin, tmp_path / "headless", apart)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_weights_that_give_no_loss_are_refused(tmp_path: Path, loss: float) -> None:
    with pytest.raises(CheckpointError, match="held-out loss: gives no loss"):
        check_start(loss, 6.4, tmp_path)


def test_a_pipe_of_weights_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="pipe: cannot be read: is no file"):
        content_sha256(tmp_path / "pipe", "safetensors")
