"""What must not change unnoticed: the names of runs, exactly, and the losses of one tiny run of each kind, closely.

A failure says that specs, defaults, canonical form, data or numerics have changed. If that was meant, raise
`ENGINE_VERSION` (when the numbers of runs differ) and write both files anew with

    GOLDEN=write pytest tests/golden

Losses repeat to the bit only on one instruction set, so they are compared to 1e-5.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.specs.fingerprint import ENGINE_VERSION, canonical_json, fingerprint
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.context import RunContext
from sparsity_lab.training.determinism import make_deterministic
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.run import train

HERE = Path(__file__).parent
WRITE = os.environ.get("GOLDEN") == "write"
MakeRun = Callable[..., RunSpec]

DATA = "0123456789abcdef" * 4
TRAINING: dict[str, Any] = {
    "batch": 32,
    "steps": 1000,
    "peak_learning_rate": 1e-3,
    "precision": "float32",
    "seed": 0,
    "evaluation": {},
}
NAMED: dict[str, dict[str, Any]] = {
    "t5": {
        **TRAINING,
        "model": {
            "family": "t5",
            "encoder_layers": 2,
            "decoder_layers": 2,
            "width": 64,
            "heads": 4,
            "ff": 128,
            "vocabulary": 528,
        },
        "objective": {"kind": "span-corruption"},
        "regime": {"version": 1, "method": "masked"},
        "sparsity": 0.75,
        "optimizer": {"kind": "adafactor"},
        "schedule": {"kind": "inverse-sqrt"},
    },
    "vit": {
        **TRAINING,
        "model": {
            "family": "vit",
            "layers": 2,
            "width": 64,
            "heads": 4,
            "ff": 256,
            "image": 24,
            "channels": 1,
            "patch": 4,
            "classes": 200,
        },
        "objective": {"kind": "classification"},
        "regime": {"version": 1, "method": "masked", "pattern": {"kind": "n:m", "n": 2, "m": 4}},
        "sparsity": 0.5,
        "optimizer": {"kind": "adamw"},
        "schedule": {"kind": "cosine"},
    },
    "decoder": {
        **TRAINING,
        "model": {
            "family": "decoder",
            "layers": 2,
            "width": 64,
            "heads": 4,
            "ff": 128,
            "vocabulary": 264,
            "context": 128,
        },
        "objective": {"kind": "next-token"},
        "regime": {"version": 1, "method": "dense"},
        "sparsity": 0,
        "optimizer": {"kind": "adamw"},
        "schedule": {"kind": "cosine"},
    },
}
"""runs written as shortly as can be: whatever is left out comes from the defaults"""

TRAINED: dict[str, dict[str, Any]] = {
    "t5-dense-adafactor": {"family": "t5", "optimizer": "adafactor"},
    "t5-75-adafactor": {"family": "t5", "optimizer": "adafactor", "sparsity": 0.75},
    "t5-2:4-adamw": {"family": "t5", "sparsity": 0.5, "pattern": "2:4"},
    "vit-dense-adamw": {"family": "vit"},
    "vit-75-adamw": {"family": "vit", "sparsity": 0.75},
    "vit-2:4-adafactor": {"family": "vit", "optimizer": "adafactor", "sparsity": 0.5, "pattern": "2:4"},
    "decoder-dense-adamw": {"family": "decoder", "schedule": {"kind": "inverse-sqrt", "cooldown": 0.2}},
    "decoder-75-adafactor": {"family": "decoder", "optimizer": "adafactor", "sparsity": 0.75},
    "t5-ac/dc-adamw": {
        "family": "t5",
        "sparsity": 0.75,
        "regime": {
            "version": 1,
            "method": "masked",
            "score": {"kind": "saliency"},
            "allocation": {"kind": "global", "embeddings_and_head": "balanced"},
            "schedule": {"kind": "cyclic", "cycles": 2},
            "optimizer_state": "reset",
        },
    },
    "decoder-sr-ste-adafactor": {
        "family": "decoder",
        "optimizer": "adafactor",
        "sparsity": 0.5,
        "regime": {
            "version": 1,
            "method": "straight-through",
            "pattern": {"kind": "n:m", "n": 2, "m": 4},
            "decay": 0.01,
            "refresh": {"until": 1.0, "minimum_updates": 6},
        },
    },
    "vit-rigl-adamw": {
        "family": "vit",
        "sparsity": 0.75,
        "regime": {
            "version": 1,
            "method": "dynamic",
            "allocation": {"kind": "erdos-renyi-kernel"},
            "refresh": {"minimum_updates": 6},
        },
    },
    "vit-fisher-adamw": {
        "family": "vit",
        "sparsity": 0.5,
        "regime": {
            "version": 1,
            "method": "masked",
            "pattern": {"kind": "block", "height": 2, "width": 4},
            "score": {"kind": "fisher"},
            "schedule": {"kind": "one-shot"},
            "optimizer_state": "kept",
        },
    },
}


def golden(name: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((HERE / name).read_text(encoding="utf-8"))
    return values


def write(name: str, values: dict[str, Any]) -> None:
    (HERE / name).write_text(json.dumps(values, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    pytest.skip(f"{name} was written, not checked")


def identity(family: str) -> dict[str, Any]:
    run = RunSpec.model_validate(NAMED[family])
    return {"spec": json.loads(canonical_json(run)), "fingerprint": fingerprint(run, DATA, engine=1)}


@pytest.mark.skipif(not WRITE, reason="GOLDEN=write writes the names anew")
def test_write_fingerprints() -> None:
    write("fingerprints.json", {family: identity(family) for family in NAMED})


@pytest.mark.parametrize("family", NAMED)
@pytest.mark.skipif(WRITE, reason="being written")
def test_names_of_runs_never_change(family: str) -> None:
    pinned = golden("fingerprints.json")[family]
    assert identity(family) == pinned
    assert fingerprint(RunSpec.model_validate(pinned["spec"]), DATA, engine=1) == pinned["fingerprint"]


@pytest.fixture(scope="module")
def inputs_of(text_data: Path, image_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Inputs]:
    make_deterministic(1)
    cache = tmp_path_factory.mktemp("cache")
    text, images = Inputs(text_data, cache), Inputs(image_data, cache)
    return lambda family: images if family == "vit" else text


InputsOf = Callable[[str], Inputs]


def trained(name: str, make_run: MakeRun, inputs_of: InputsOf, folder: Path) -> dict[str, Any]:
    run = make_run(**TRAINED[name])
    record: RunRecord = train(run, inputs_of(run.model.family), RunContext(folder / name, device=torch.device("cpu")))
    assert record.finished, record.reason
    return {
        "data": record.data_hash,
        "first_loss": record.first_loss,
        "loss": record.loss,
        "curve": [[point.step, point.loss, point.train_loss, point.sparsity] for point in record.curve],
    }


@pytest.mark.skipif(not WRITE, reason="GOLDEN=write writes the losses anew")
def test_write_losses(make_run: MakeRun, inputs_of: InputsOf, tmp_path: Path) -> None:
    runs = {name: trained(name, make_run, inputs_of, tmp_path) for name in TRAINED}
    write("losses.json", {"engine": ENGINE_VERSION, "runs": runs})


@pytest.mark.skipif(WRITE, reason="being written")
def test_losses_belong_to_this_engine() -> None:
    assert golden("losses.json")["engine"] == ENGINE_VERSION, "ENGINE_VERSION was raised: write the losses anew"


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.skipif(WRITE, reason="being written")
def test_losses_do_not_change(name: str, make_run: MakeRun, inputs_of: InputsOf, tmp_path: Path) -> None:
    pinned, found = golden("losses.json")["runs"][name], trained(name, make_run, inputs_of, tmp_path)
    assert found["data"] == pinned["data"], "the data have changed, so the losses must"
    assert found["first_loss"] == pytest.approx(pinned["first_loss"], rel=1e-5), "the model or its initial weights"
    assert found["curve"] == [pytest.approx(point, rel=1e-5) for point in pinned["curve"]]
    assert found["loss"] == pytest.approx(pinned["loss"], rel=1e-5)
