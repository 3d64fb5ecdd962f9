"""What a run's final weights are worth: perplexity of a text by any window, accuracy on the images held out."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from projects import cli, one_error
from safetensors.torch import load_file
from torch.nn import functional

from sparsity_lab.artifacts.paths import MANIFEST, RECORD, WEIGHTS
from sparsity_lab.artifacts.records import write_record
from sparsity_lab.data.tokenizer import ByteCodec
from sparsity_lab.models.build import build_model
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.stages.evaluate import evaluate_run
from sparsity_lab.training.context import RunContext
from sparsity_lab.training.determinism import deterministic
from sparsity_lab.training.evaluate import TextScore, classes_before, restored_model, text_score
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.run import train

TEXT = "the law of a dense weight is loss, the mask of a sparse layer is the law\n" * 3


@pytest.fixture
def project(tmp_path: Path, make_run: Callable[..., RunSpec], text_data: Path, image_data: Path) -> Path:
    """A project with a run of each family, trained with its weights kept."""
    root = tmp_path / "project"
    for family, data in (("decoder", text_data), ("vit", image_data), ("t5", text_data)):
        shutil.copytree(data, root / "data" / family)
        made = root / "runs" / family
        with deterministic(1):
            context = RunContext(tmp_path / "checkpoint", made / WEIGHTS)
            record = train(make_run(family, steps=4), Inputs(data, tmp_path / "cache"), context)
        (made / WEIGHTS).rename((made / record.fingerprint).with_suffix(".part"))
        write_record(record, made / record.fingerprint / RECORD)
        (made / record.fingerprint).with_suffix(".part").rename(made / record.fingerprint / WEIGHTS)
    (root / "specs").mkdir()
    (root / "text.txt").write_text(TEXT)
    return root


def name_of(project: Path, family: str) -> str:
    (folder,) = (project / "runs" / family).iterdir()
    return folder.name


def test_a_text_is_predicted_token_by_token(project: Path) -> None:
    found = evaluate_run(name_of(project, "decoder"), project / "text.txt", project)
    run, length = found.record.spec, 16
    model = restored_model(run, _weights(project, "decoder"))
    ids = np.append(ByteCodec().encode([TEXT.encode()])[0].astype(np.int64), 1)
    nats = 0.0
    for place in range(1, len(ids)):
        begin = (place - 1) // (length - 1) * (length - 1)
        window = torch.from_numpy(ids[None, begin : max(place + 1, begin + 2)])
        with torch.no_grad():
            logits = model.logits({"tokens": window})[0, -1].double()
        nats -= float(functional.log_softmax(logits, 0)[ids[place]])
    score = found.score
    assert isinstance(score, TextScore)
    assert score.nats == pytest.approx(nats, rel=1e-5)
    told = json.loads(cli(project, "evaluate", found.record.fingerprint[:12], "--text", "text.txt", "--json").stdout)
    assert told["nats_per_token"] == pytest.approx(nats / len(TEXT), rel=1e-5)
    assert told["perplexity"] == pytest.approx(math.exp(nats / len(TEXT)), rel=1e-4)
    assert told["bits_per_byte"] == pytest.approx(nats / math.log(2) / len(TEXT), rel=1e-5)
    said = cli(project, "evaluate", found.record.fingerprint[:12], "--text", "text.txt").stdout
    assert f"{len(TEXT)} tokens, {len(TEXT)} bytes" in said


def _weights(project: Path, family: str) -> dict[str, torch.Tensor]:
    return load_file(project / "runs" / family / name_of(project, family) / WEIGHTS)


@pytest.mark.parametrize("tokens", [2, 15, 16, 17, 30, 31, 32, 46])
def test_every_token_but_the_first_is_predicted_once_whatever_the_batch(
    tokens: int, make_run: Callable[..., RunSpec]
) -> None:
    run = make_run("decoder")
    torch.manual_seed(0)
    weights = {name: tensor.detach() for name, tensor in build_model(run.model, 0).named_parameters()}
    model = restored_model(run, weights)
    ids = np.random.default_rng(tokens).integers(2, 258, tokens).astype(np.uint16)
    one, many = (text_score(model, ids, 16, tokens, batch=batch) for batch in (1, 8))
    assert one.predicted == tokens - 1
    assert one.nats == pytest.approx(many.nats)
    assert one.nats_per_token == pytest.approx(math.log(264), abs=1.0), "fresh weights know nothing"


def test_accuracy_is_that_of_all_images_held_out(project: Path, image_data: Path) -> None:
    told = json.loads(cli(project, "evaluate", name_of(project, "vit"), "--json").stdout)
    inputs = Inputs(image_data, project / "cache")
    run = evaluate_run(name_of(project, "vit"), root=project).record.spec
    model, right, among, images = restored_model(run, _weights(project, "vit")), 0, 0, 0
    for batch in inputs.evaluation(run, inputs.manifest.heldout.items):
        with torch.no_grad():
            order = model.logits(batch).argsort(dim=1, descending=True, stable=True)
        right += int((order[:, 0] == batch["labels"]).sum())
        among += int((order[:, :5] == batch["labels"][:, None]).any(1).sum())
        images += len(order)
    assert (told["images"], told["top_1"], told["top_5"]) == (images, right / images, among / images)
    assert images == inputs.manifest.heldout.items
    assert f"of {images} images" in cli(project, "evaluate", name_of(project, "vit")).stdout


def test_of_equal_classes_the_first_is_likelier() -> None:
    logits = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0]])
    assert classes_before(logits, torch.tensor([1, 1])).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("family", "content", "told"),
    [
        ("decoder", None, "--text"),
        ("decoder", b"", "too short"),
        ("decoder", b"\xff\xfe", "UTF-8"),
        ("t5", b"any", "no perplexity"),
    ],
)
def test_what_has_no_score_is_refused(project: Path, family: str, content: bytes | None, told: str) -> None:
    extra = []
    if content is not None:
        (project / "other.txt").write_bytes(content)
        extra = ["--text", "other.txt"]
    assert told in one_error(cli(project, "evaluate", name_of(project, family), *extra, code=2))


@pytest.mark.parametrize("text", [b"of", b"four", b"more than that"])
def test_ids_without_a_tokenizer_read_no_text(project: Path, text: bytes) -> None:
    file = project / "data" / "decoder" / MANIFEST
    manifest = json.loads(file.read_text())
    manifest["spec"] |= {
        "source": {"kind": "token-files", "path": "ids", "dtype": "uint16"},
        "tokenizer": {"kind": "given", "vocabulary": 264, "end": 1},
    }
    file.write_text(json.dumps(manifest))
    shutil.rmtree(project / "data" / "t5")
    (project / "other.txt").write_bytes(text)
    told = one_error(cli(project, "evaluate", name_of(project, "decoder"), "--text", "other.txt", code=2))
    assert "knows ids alone" in told


def test_data_that_is_gone_is_asked_for(project: Path) -> None:
    shutil.rmtree(project / "data")
    assert "prepare" in one_error(cli(project, "evaluate", name_of(project, "vit"), code=2))
