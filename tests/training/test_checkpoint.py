from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sparsity_lab.errors import CheckpointError, MachineError
from sparsity_lab.specs.fingerprint import fingerprint
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training import checkpoint as checkpoint_module
from sparsity_lab.training.checkpoint import load_checkpoint, save_checkpoint
from sparsity_lab.training.context import RunContext
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.run import train

MakeRun = Callable[..., RunSpec]
InputsOf = Callable[[str], Inputs]
FACTS = {"fingerprint": "f", "step": 3, "loss": float("nan")}
TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([True, False]), "c": torch.tensor(7)}


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "checkpoint"
    assert load_checkpoint(path, "f") is None
    save_checkpoint(path, TENSORS, FACTS)
    found = load_checkpoint(path, "f")
    assert found is not None
    tensors, facts = found
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())
    assert repr(facts) == repr(FACTS)


def test_views_of_one_storage_are_saved_apart(tmp_path: Path) -> None:
    flat = torch.arange(6.0)
    save_checkpoint(tmp_path / "c", {"left": flat[:3], "right": flat[3:], "all": flat}, FACTS)
    found = load_checkpoint(tmp_path / "c", "f")
    assert found is not None
    assert found[0]["right"].tolist() == [3, 4, 5]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_checkpoint_is_told_and_left_alone(tmp_path: Path, share: float) -> None:
    path = tmp_path / "checkpoint"
    save_checkpoint(path, TENSORS, FACTS)
    content = path.read_bytes()
    half = content[: int(len(content) * share)]
    path.write_bytes(half)
    with pytest.raises(CheckpointError, match=f"{path}: is damaged .*; delete it to train from the start"):
        load_checkpoint(path, "f")
    assert path.read_bytes() == half


@pytest.mark.parametrize("facts", [None, {"other": "x"}, {"facts": "{"}, {"facts": "[1]"}])
def test_a_file_without_facts_is_no_checkpoint(tmp_path: Path, facts: dict[str, str] | None) -> None:
    save_file(TENSORS, tmp_path / "checkpoint", metadata=facts)
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(tmp_path / "checkpoint", "f")


def test_a_checkpoint_of_another_run_is_told_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    save_checkpoint(path, TENSORS, FACTS)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"fingerprint: belongs to another run.*found 'f', expected g"):
        load_checkpoint(path, "g")
    assert path.read_bytes() == before


@pytest.mark.parametrize(("number", "message"), [(28, "no space left"), (13, "no permission")])
def test_a_disk_that_refuses_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    path = tmp_path / "checkpoint"
    save_checkpoint(path, TENSORS, FACTS)

    def refuse(_tensors: object, file: Path, **_: object) -> None:
        file.write_bytes(b"half")
        raise checkpoint_module.SafetensorError(f"Error while serializing: I/O error: refused (os error {number})")

    monkeypatch.setattr(checkpoint_module, "save_file", refuse)
    with pytest.raises(MachineError, match=message):
        save_checkpoint(path, {}, {"fingerprint": "f", "step": 4})
    found = load_checkpoint(path, "f")
    assert found is not None
    assert found[1]["step"] == 3
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_at_the_final_weights_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_run: MakeRun, inputs_of: InputsOf
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise checkpoint_module.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint_module, "save_file", refuse)
    context = RunContext(tmp_path / "checkpoint", tmp_path / "weights", device=torch.device("cpu"))
    with pytest.raises(MachineError, match="no space left"):
        train(make_run("t5", steps=2, peak_learning_rate=1e-3), inputs_of("t5"), context)
    assert not list(tmp_path.iterdir())


def damaged(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, Any]], None]) -> None:
    """A checkpoint of the right run with something wrong in it."""
    tensors = load_file(path)
    found = load_checkpoint(path, json.loads(header(path)["facts"])["fingerprint"])
    assert found is not None
    change(tensors, found[1])
    save_checkpoint(path, tensors, found[1])


def header(path: Path) -> dict[str, str]:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    metadata: dict[str, str] = json.loads(content[8 : 8 + length])["__metadata__"]
    return metadata


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _, facts: facts.update(curve=[3]), "is damaged .*validation error"),
        (lambda tensors, _: tensors.pop("optimizer/count"), "optimizer/count: tensor does not fit"),
        (
            lambda tensors, _: tensors.update(loss_sum=torch.zeros(3)),
            "loss_sum: tensor does not fit .found .3,., expected",
        ),
        (lambda tensors, _: tensors.pop("rng"), "rng: tensor does not fit"),
        (lambda _, facts: facts.pop("step"), "is damaged .*'step'"),
    ],
)
def test_a_checkpoint_with_a_part_missing_is_told(
    tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, change: Callable[..., None], message: str
) -> None:
    run, context = make_run("t5", steps=3), RunContext(tmp_path / "c", None, -1, torch.device("cpu"))
    record = train(run, inputs_of("t5"), context)
    assert record.fingerprint == fingerprint(run, inputs_of("t5").manifest.content_hash)
    damaged(context.checkpoint, change)
    with pytest.raises(CheckpointError, match=message):
        train(run, inputs_of("t5"), context)


def test_training_refuses_the_checkpoint_of_another_spec(
    tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf
) -> None:
    context = RunContext(tmp_path / "c", None, -1, torch.device("cpu"))
    train(make_run("t5", steps=3), inputs_of("t5"), context)
    before = context.checkpoint.read_bytes()
    with pytest.raises(CheckpointError, match="belongs to another run"):
        train(make_run("t5", steps=3, seed=1), inputs_of("t5"), context)
    assert context.checkpoint.read_bytes() == before
