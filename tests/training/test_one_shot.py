"""Weights that are there are pruned at once, block by block, and trained on under their masks or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_cases import ARCHITECTURES, dims_of
from safetensors.torch import load_file, save_file
from torch import Tensor

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.weights import content_sha256
from sparsity_lab.errors import CheckpointError, SpecError
from sparsity_lab.models.count import prunable_shapes
from sparsity_lab.pruning.allocation import blocks_of
from sparsity_lab.pruning.feasibility import check_feasible
from sparsity_lab.specs.regimes.regime import OneShotPruning
from sparsity_lab.specs.runs import FileOrigin, RunOrigin, RunSpec
from sparsity_lab.sweep.resolve import settled
from sparsity_lab.training.accounting import run_flops
from sparsity_lab.training.context import RunContext
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.one_shot import InputProducts, OneShotPruner
from sparsity_lab.training.run import train

MakeRun = Callable[..., RunSpec]
InputsOf = Callable[[str], Inputs]
CPU = torch.device("cpu")
N_M = {"kind": "n:m", "n": 2, "m": 4}
SPARSEGPT = {"kind": "sparsegpt", "batches": 4}
WAYS: dict[str, dict[str, Any]] = {
    "magnitude": {"score": {"kind": "magnitude"}},
    "wanda": {"score": {"kind": "wanda"}, "pattern": {"kind": "unstructured", "within": "row"}},
    "sparsegpt": {"score": SPARSEGPT},
    "sparsegpt 2:4": {"score": SPARSEGPT, "pattern": N_M},
    "obc": {"score": {"kind": "obc", "batches": 4}},
    "head": {"score": SPARSEGPT, "allocation": {"kind": "uniform", "embeddings_and_head": "balanced"}},
}
Starting = Callable[..., tuple[RunSpec, Path]]


def at_once(way: str = "sparsegpt", **changes: Any) -> dict[str, Any]:
    return {"version": 1, "method": "one-shot", "start": {"kind": "scratch"}, **WAYS[way], **changes}


@pytest.fixture
def started(tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf) -> Starting:
    """`started(family, way, steps)`: a one-shot run of a dense one that was trained, and where its weights lie."""

    def make(family: str, way: str = "sparsegpt", steps: int = 0, **changes: Any) -> tuple[RunSpec, Path]:
        kept = {name: changes[name] for name in ("model", "objective") if name in changes}
        dense, weights = make_run(family, steps=16, **kept), tmp_path / "dense"
        train(dense, inputs_of(family), RunContext(tmp_path / "c", weights, device=CPU))
        origin = RunOrigin(run=dense).model_dump()
        return make_run(family, 0.5, regime=at_once(way), origin=origin, steps=steps, **changes), weights

    return make


def context(folder: Path, start: Path, **changes: Any) -> RunContext:
    return RunContext(folder / "checkpoint", folder / "weights", **{"device": CPU, "start": start, **changes})


def told(record: RunRecord) -> str:
    """Everything a record says but how long it took."""
    assert record.pruned_at_once is not None
    cost = record.cost.model_copy(update={"seconds": 0.0})
    pruned = record.pruned_at_once.model_copy(update={"seconds": 0.0})
    return record.model_copy(update={"cost": cost, "pruned_at_once": pruned}).model_dump_json()


@pytest.mark.parametrize("family", ["t5", "vit", "decoder"])
@pytest.mark.parametrize("way", WAYS)
def test_every_family_is_pruned_to_the_weight(
    tmp_path: Path, started: Starting, inputs_of: InputsOf, family: str, way: str
) -> None:
    run, weights = started(family, way)
    record = train(run, inputs_of(family), context(tmp_path / "r", weights))
    assert (record.status, record.sparsity, record.data) == ("finished", 0.5, 0)
    assert all(2 * tensor.zeros == tensor.size for tensor in record.tensors)
    assert (record.other_zeros > 0) == (way == "head")
    assert record.pruned_at_once is not None
    assert record.pruned_at_once.loss_after == record.loss != record.pruned_at_once.loss_before
    assert [point.step for point in record.curve] == [0]
    assert (record.cost.flops_dense, record.cost.flops_sparse) == (0, 0)
    assert record.cost.flops_mask_updates == run_flops(run).mask_updates > 0
    assert RunRecord.model_validate_json(record.model_dump_json()).losses() == record.losses()
    old, new = load_file(weights), load_file(tmp_path / "r" / "weights")
    moved = any(bool(((new[t.name] != 0) & (new[t.name] != old[t.name])).any()) for t in record.tensors)
    assert moved == (way not in {"magnitude", "wanda"}), "only what is reconstructed moves"
    if "2:4" in way:
        groups = [new[tensor.name].view(-1, 4) for tensor in record.tensors]
        assert all(bool((group != 0).sum(1).eq(2).all()) for group in groups)


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5", "bert", "vit"])
def test_architectures_of_transformers_are_pruned(
    tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, name: str
) -> None:
    config, objective = ARCHITECTURES[name]
    family = "vit" if objective["kind"] == "classification" else "decoder"
    fields: dict[str, Any] = {"model": dims_of(config, objective), "objective": objective}
    dense = make_run("decoder", steps=4, **fields)
    train(dense, inputs_of(family), RunContext(tmp_path / "c", tmp_path / "dense", device=CPU))
    origin = RunOrigin(run=dense).model_dump()
    run = make_run("decoder", 0.5, regime=at_once("sparsegpt 2:4"), origin=origin, steps=2, **fields)
    record = train(run, inputs_of(family), context(tmp_path / "r", tmp_path / "dense"))
    assert (record.status, record.sparsity) == ("finished", 0.5)
    assert record.pruned_at_once is not None


def test_experts_are_refused_before_anything_is_trained(make_run: MakeRun) -> None:
    config, objective = ARCHITECTURES["mixtral"]
    regime = make_run("t5", 0.5, regime=at_once()).regime
    assert isinstance(regime, OneShotPruning)
    with pytest.raises(SpecError, match=r"experts.* is read without a call"):
        settled(regime, 0.5, dims_of(config, objective))


def test_weights_moved_on_these_data_lose_less_than_weights_left_where_they_are(
    tmp_path: Path, started: Starting, inputs_of: InputsOf
) -> None:
    run, weights = started("decoder", "magnitude", batch=16)
    better = run.model_copy(update={"regime": run.regime.model_validate(at_once("sparsegpt"))})
    losses = [
        train(r, inputs_of("decoder"), context(tmp_path / f"{n}", weights)).loss for n, r in enumerate((run, better))
    ]
    assert losses[1] < losses[0]


def test_masks_are_held_while_training_goes_on(tmp_path: Path, started: Starting, inputs_of: InputsOf) -> None:
    run, weights = started("t5", steps=6)
    record = train(run, inputs_of("t5"), context(tmp_path / "r", weights))
    alone = run.model_copy(update={"steps": 0})
    train(alone, inputs_of("t5"), context(tmp_path / "a", weights))
    new, masked = load_file(tmp_path / "r" / "weights"), load_file(tmp_path / "a" / "weights")
    assert record.sparsity == 0.5
    assert all(torch.equal(new[t.name] == 0, masked[t.name] == 0) for t in record.tensors)
    assert any(not torch.equal(new[t.name], masked[t.name]) for t in record.tensors)
    assert record.cost.flops_dense > 0


@pytest.mark.parametrize("broken", [0, 1, "training"])
def test_broken_off_and_taken_up_it_ends_on_the_same_bits(
    tmp_path: Path, started: Starting, inputs_of: InputsOf, monkeypatch: pytest.MonkeyPatch, broken: int | str
) -> None:
    run, weights = started("t5", "head", steps=6)
    whole = train(run, inputs_of("t5"), context(tmp_path / "w", weights))
    place = context(tmp_path / "b", weights, checkpoint_seconds=0.0)
    prune = OneShotPruner.prune_next

    def breaking(one_shot: OneShotPruner) -> None:
        if one_shot.done == broken:
            raise InterruptedError
        prune(one_shot)

    with monkeypatch.context() as patched:
        patched.setattr(OneShotPruner, "prune_next", breaking)
        if broken == "training":
            patched.setattr("sparsity_lab.training.loop.Loop.mean_train_loss", _broken)
        with pytest.raises(InterruptedError):
            train(run, inputs_of("t5"), place)
    seen = watched(monkeypatch)
    again = train(run, inputs_of("t5"), place)
    assert told(again) == told(whole)
    assert len(seen) == {0: 2, 1: 1, "training": 0}[broken], "blocks that were saved are not pruned again"
    assert (tmp_path / "b" / "weights").read_bytes() == (tmp_path / "w" / "weights").read_bytes()


def watched(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """What is seen of each block's inputs from now on, as it is pruned."""
    seen: list[dict[str, Tensor]] = []
    means = InputProducts.means

    def noting(products: InputProducts) -> dict[str, Tensor]:
        seen.append(means(products))
        return seen[-1]

    monkeypatch.setattr(InputProducts, "means", noting)
    return seen


def _broken(_loop: object) -> float:
    raise InterruptedError


def test_later_blocks_see_what_the_earlier_ones_have_become(
    tmp_path: Path, started: Starting, inputs_of: InputsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, weights = started(
        "decoder",
        model={"family": "decoder", "layers": 2, "width": 16, "heads": 2, "ff": 32, "vocabulary": 264, "context": 16},
    )
    seen = watched(monkeypatch)
    train(run, inputs_of("decoder"), context(tmp_path / "r", weights))
    first = dict(seen[1])
    seen.clear()
    monkeypatch.setattr(
        OneShotPruner, "_pruned", lambda _self, _name, weight, *_: (weight, torch.ones_like(weight, dtype=torch.bool))
    )
    train(run, inputs_of("decoder"), context(tmp_path / "n", weights))
    assert first.keys() == seen[1].keys()
    assert all(not torch.equal(first[name], seen[1][name]) for name in first)


def test_sparse_starts_are_refused(tmp_path: Path, started: Starting, inputs_of: InputsOf) -> None:
    run, weights = started("t5")
    tensors = load_file(weights)
    tensors["encoder.0.mlp.wo.weight"][:, :16] = 0
    save_file(tensors, tmp_path / "sparse")
    origin = FileOrigin(format="safetensors", sha256=content_sha256(tmp_path / "sparse", "safetensors"))
    again = run.model_copy(update={"origin": origin})
    with pytest.raises(CheckpointError, match="sparse already"):
        train(again, inputs_of("t5"), context(tmp_path / "r", tmp_path / "sparse"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"allocation": {"kind": "global"}}, "one after the other"),
        ({"pattern": {"kind": "unstructured", "within": "row"}}, "single weights of a whole tensor"),
        ({"pattern": {"kind": "block", "height": 4, "width": 4}}, "single weights of a whole tensor"),
        ({"pattern": N_M, "score": {"kind": "sparsegpt", "block_size": 6}}, "cut groups"),
        ({"score": {"kind": "obc"}}, "too many inputs"),
    ],
)
def test_what_cannot_be_pruned_so_is_refused_in_words(changes: dict[str, Any], words: str) -> None:
    regime = OneShotPruning.model_validate({"version": 1, "method": "one-shot", **changes})
    with pytest.raises(SpecError, match=words):
        check_feasible(regime, 0.5, {"a.weight": (8, 4096)})


@pytest.mark.parametrize("family", ["t5", "vit", "decoder"])
def test_blocks_go_in_order(make_run: MakeRun, family: str) -> None:
    names = list(prunable_shapes(make_run(family).model))
    blocks = blocks_of(names)
    assert [name for block in blocks for name in block] == names
    assert len(blocks) == len({tuple(name.split(".")[:2]) for name in names})
