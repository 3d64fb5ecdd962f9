"""Runs that begin with a classifier of other classes, its head drawn anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_cases import ARCHITECTURES, dims_of
from safetensors.torch import load_file, save_file
from torch import Tensor

from sparsity_lab.artifacts.weights import content_sha256
from sparsity_lab.checkpoints.folder import write_folder
from sparsity_lab.console.runs import runs_text
from sparsity_lab.errors import CheckpointError, SpecError
from sparsity_lab.models.base import Model
from sparsity_lab.models.build import build_model, made_for_classes
from sparsity_lab.pruning.feasibility import check_trained
from sparsity_lab.specs.fingerprint import fingerprint
from sparsity_lab.specs.models import Dims, HuggingFaceDims, ViTDims
from sparsity_lab.specs.regimes.regime import OneShotPruning
from sparsity_lab.specs.runs import FileOrigin, RunSpec
from sparsity_lab.training.context import RunContext
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.run import train
from sparsity_lab.training.start import begin_with, check_file

MakeRun = Callable[..., RunSpec]
InputsOf = Callable[[str], Inputs]
OTHERS = 7
"""classes of what is begun with; the runs have five, or ten"""
OURS = {"head.weight", "head.bias"}
THEIRS = {"classifier.weight", "classifier.bias"}
FOREIGN = [pytest.param(name, "huggingface", marks=pytest.mark.slow) for name in ("vit", "dino-v2", "siglip")]
OWN = [pytest.param("own", "huggingface"), pytest.param("own", "safetensors")]


def dims_for(name: str, classes: int, make_run: MakeRun) -> Dims:
    """An architecture with a head of that many classes."""
    if name != "own":
        dims = dims_of(*ARCHITECTURES[name])
        return dims.model_copy(update={"config": json.dumps(json.loads(dims.config) | {"num_labels": classes})})
    return make_run("vit").model.model_copy(update={"classes": classes})


def drawn(dims: Dims, seed: int) -> tuple[Model, dict[str, Tensor]]:
    """A network, and its tensors as a run lays them out."""
    model = build_model(dims, seed)
    layouts: Any = model.layouts
    named = {name: tensor.detach() for name, tensor in model.named_parameters()}
    return model, {name: layouts[name].laid_out(one) if name in layouts else one for name, one in named.items()}


def stored(dims: Dims, path: Path, kind: str) -> dict[str, Tensor]:
    """Weights of an architecture as a folder or file, and by name."""
    _, weights = drawn(dims, 9)
    if isinstance(dims, ViTDims):
        weights["head.weight"] = torch.ones_like(weights["head.weight"])
    if kind == "huggingface":
        write_folder(path, weights, dims, {})
    else:
        save_file(weights, path)
    return weights


def origin_of(path: Path, kind: Any, **more: Any) -> FileOrigin:
    return FileOrigin(format=kind, sha256=content_sha256(path, kind), **more)


@pytest.mark.parametrize(("name", "kind"), [*OWN, *FOREIGN])
def test_a_head_made_anew_is_drawn_from_the_seed_and_the_rest_is_what_was_stored(
    name: str, kind: str, make_run: MakeRun, tmp_path: Path
) -> None:
    before = stored(dims_for(name, OTHERS, make_run), tmp_path / "stored", kind)
    dims, origin = dims_for(name, 5, make_run), origin_of(tmp_path / "stored", kind, head="fresh")
    with pytest.raises(CheckpointError, match=r"found \(?7,.*expected \(?5.*, or a start with head: fresh"):
        check_file(origin_of(tmp_path / "stored", kind), tmp_path / "stored", dims)
    check_file(origin, tmp_path / "stored", dims)
    (model, weights), (_, fresh) = drawn(dims, 3), drawn(dims, 3)
    begin_with(model, weights, origin, tmp_path / "stored", "data")
    head = made_for_classes(dims)
    assert head == (OURS if name == "own" else THEIRS)
    for tensor, value in weights.items():
        assert value.equal(fresh[tensor] if tensor in head else before[tensor]), tensor


@pytest.mark.slow
def test_a_folder_without_any_head_will_do_and_one_without_more_will_not(make_run: MakeRun, tmp_path: Path) -> None:
    folder, dims = tmp_path / "backbone", dims_for("vit", 5, make_run)
    stored(dims, folder, "huggingface")
    tensors = load_file(folder / "model.safetensors")
    bare = {name: tensor for name, tensor in tensors.items() if name not in THEIRS}
    save_file(bare, folder / "model.safetensors")
    model, weights = drawn(dims, 3)
    begin_with(model, weights, origin_of(folder, "huggingface", head="fresh"), folder, "data")
    gone = bare.pop("vit.layernorm.weight")
    save_file(bare, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"vit\.layernorm\.weight: tensor is missing"):
        begin_with(model, {}, origin_of(folder, "huggingface", head="fresh"), folder, "data")
    save_file(bare | {"vit.layernorm.weight": gone[:8].clone()}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"vit\.layernorm\.weight: tensor does not fit \(found \(8,\), expected"):
        begin_with(model, {}, origin_of(folder, "huggingface", head="fresh"), folder, "data")


def test_a_run_that_begins_so_is_told_by_its_record_and_is_another_run(
    make_run: MakeRun, inputs_of: InputsOf, tmp_path: Path
) -> None:
    stored(dims_for("own", OTHERS, make_run), tmp_path / "stored", "safetensors")
    kept, fresh = (origin_of(tmp_path / "stored", "safetensors", head=head) for head in ("kept", "fresh"))
    assert "head" not in kept.model_dump()  # so that runs keep the names that they had before there was a choice
    run = make_run("vit", 0.5, origin=fresh.model_dump(), steps=4)
    assert fingerprint(run, "data") != fingerprint(run.model_copy(update={"origin": kept}), "data")
    context = RunContext(tmp_path / "c", device=torch.device("cpu"), start=tmp_path / "stored")
    record = train(run, inputs_of("vit"), context)
    assert record.finished
    assert record.model_dump(mode="json")["spec"]["origin"]["head"] == "fresh"
    assert f"file {fresh.sha256[:12]}, fresh head" in runs_text([record])


def test_a_head_that_nothing_trains_and_one_of_no_classifier_are_refused(make_run: MakeRun) -> None:
    regime = {"version": 1, "method": "one-shot", "start": {"kind": "huggingface", "path": "a", "head": "fresh"}}
    check_trained(OneShotPruning.model_validate(regime | {"recovery": 0.1}))
    with pytest.raises(SpecError, match=r"recovery: a head that is drawn anew has to be trained \(found 0"):
        check_trained(OneShotPruning.model_validate(regime))
    assert made_for_classes(make_run("t5").model) == frozenset()
    assert isinstance(dims := dims_of(*ARCHITECTURES["llama"]), HuggingFaceDims)
    assert made_for_classes(dims) == frozenset()
