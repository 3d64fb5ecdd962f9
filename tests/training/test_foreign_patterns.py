"""Every pattern holds in architectures of `transformers`: pruned, after a break, and in the folder that is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from foreign_cases import ARCHITECTURES, asked
from safetensors.torch import load_file
from torch import Tensor

from sparsity_lab.checkpoints.folder import write_folder
from sparsity_lab.models import huggingface
from sparsity_lab.models.count import prunable_shapes
from sparsity_lab.models.foreign.configuration import HEADS
from sparsity_lab.specs.models import HuggingFaceDims
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.checkpoint import copy_into, load_checkpoint, save_checkpoint
from sparsity_lab.training.evaluate import restored_model
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.loop import Loop
from sparsity_lab.training.memory import run_memory

pytestmark = pytest.mark.slow

DataOf = Callable[[RunSpec], Inputs]
RunOf = Callable[..., RunSpec]
CPU = torch.device("cpu")
BLOCKS = {"kind": "block", "height": 4, "width": 4}
each = pytest.mark.parametrize("name", ARCHITECTURES)


@each
@pytest.mark.parametrize("pattern", [{"kind": "unstructured"}, BLOCKS], ids=["unstructured", "blocks"])
def test_other_patterns_end_on_exact_counts(name: str, pattern: dict[str, Any], run_of: RunOf, data_of: DataOf) -> None:
    regime = {"version": 1, "method": "masked", "pattern": pattern, "schedule": {"kind": "one-shot", "at": 0.5}}
    run = run_of(name, steps=4, regime=regime)
    loop = Loop(run, data_of(run).stream(run).batch_at, CPU)
    while loop.step < run.steps:
        loop.advance()
    assert loop.sparsity() == 0.5
    assert run_memory(run, loop.zeros()).checkpoint > 0
    if pattern == BLOCKS:
        weights = loop.parameters.named(loop.parameters.weights)
        for tensor, (rows, columns) in prunable_shapes(run.model).items():
            kept = (weights[tensor] != 0).view(rows // 4, 4, columns // 4, 4)
            assert torch.equal(kept.any(3).any(1), kept.all(3).all(1)), tensor


def _whole(kept: Tensor) -> bool:
    """Whether units along the last two axes are zero or not as wholes."""
    return torch.equal(kept.flatten(-2).any(-1), kept.flatten(-2).all(-1))


HOLDS: dict[str, tuple[dict[str, Any], Callable[[Tensor], bool]]] = {
    "rows": ({"kind": "channel", "axis": "rows"}, lambda kept: _whole(kept[:, None, :])),
    "columns": ({"kind": "channel", "axis": "columns"}, lambda kept: _whole(kept.t()[:, None, :])),
    "blocks": (
        {"kind": "block", "height": 2, "width": 8},
        lambda kept: _whole(kept.unflatten(1, (-1, 8)).unflatten(0, (-1, 2)).transpose(1, 2)),
    ),
    "4:8": ({"kind": "n:m", "n": 4, "m": 8}, lambda kept: bool((kept.unflatten(1, (-1, 8)).sum(-1) == 4).all())),
    "each row": (
        {"kind": "unstructured", "within": "row"},
        lambda kept: bool((kept.sum(1) * 2 == kept.shape[1]).all()),
    ),
}
"""patterns at half of the weights, and whether they hold for what is kept of a matrix"""


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "t5", "vit"])
@pytest.mark.parametrize("pattern", HOLDS)
def test_every_pattern_holds_after_a_break_and_in_the_folder(
    name: str, pattern: str, run_of: RunOf, data_of: DataOf, tmp_path: Path
) -> None:
    told, holds = HOLDS[pattern]
    regime = {"version": 1, "method": "masked", "pattern": told, "schedule": {"kind": "one-shot", "at": 0.5}}
    run = run_of(name, steps=4, regime=regime)
    batches = data_of(run).stream(run).batch_at
    first, again = Loop(run, batches, CPU), Loop(run, batches, CPU)
    for step in range(run.steps):
        first.advance()
        if step == run.steps // 2:  # the masks are there
            save_checkpoint(tmp_path / "c", first.tensors(), {**first.facts(), "fingerprint": "f"})
    found = load_checkpoint(tmp_path / "c", "f")
    assert found is not None
    copy_into(again.tensors(), load_file(tmp_path / "c"), tmp_path / "c")
    again.restore_facts(found[1])
    while again.step < run.steps:
        again.advance()
    assert again.sparsity() == 0.5
    weights = {tensor: weight.clone() for tensor, weight in again.parameters.named(again.parameters.weights).items()}
    assert all(weight.equal(weights[at]) for at, weight in first.parameters.named(first.parameters.weights).items())
    assert isinstance(run.model, HuggingFaceDims)
    write_folder(tmp_path / "folder", weights, run.model, {})
    back = huggingface.read_weights(tmp_path / "folder", run.model)
    assert all(holds(back[tensor] != 0) for tensor in prunable_shapes(run.model))
    theirs = getattr(transformers, HEADS[run.model.task]).from_pretrained(tmp_path / "folder").eval()
    batch = data_of(run).evaluation(run, 4)[0]
    with torch.no_grad():
        ours = restored_model(run.model, weights).cpu().logits(batch)
        torch.testing.assert_close(asked(theirs, run, batch), ours, rtol=1e-5, atol=1e-6)
