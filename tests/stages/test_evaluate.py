"""What a run's final weights are worth: perplexity of a text by any window, accuracy on the images held out."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from projects import cli, environment, one_error
from safetensors.torch import load_file
from torch.nn import functional

from sparsity_lab.artifacts.evaluations import evaluated, read_evaluations
from sparsity_lab.artifacts.paths import EVALUATIONS, MANIFEST, RECORD, WEIGHTS
from sparsity_lab.artifacts.records import write_record
from sparsity_lab.data.tokenizer import ByteCodec
from sparsity_lab.models.build import build_model
from sparsity_lab.report.regimes import evaluations_table
from sparsity_lab.specs.models import ViTDims
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.stages.evaluate import EvaluationRequest, evaluate
from sparsity_lab.stages.runs import find_run
from sparsity_lab.training.context import RunContext
from sparsity_lab.training.determinism import deterministic
from sparsity_lab.training.evaluate import classes_before, restored_model, text_score
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


def scores_of(done: subprocess.CompletedProcess[str]) -> dict[str, float]:
    (one,) = json.loads(done.stdout)["evaluations"]
    return dict(one["scores"])


def test_a_text_is_predicted_token_by_token(project: Path) -> None:
    found = evaluate(name_of(project, "decoder"), EvaluationRequest(project / "text.txt"), project)
    assert found.record is not None
    run, length = found.record.spec, 16
    model = restored_model(run.model, _weights(project, "decoder"))
    ids = np.append(ByteCodec().encode([TEXT.encode()])[0].astype(np.int64), 1)
    nats = 0.0
    for place in range(1, len(ids)):
        begin = (place - 1) // (length - 1) * (length - 1)
        window = torch.from_numpy(ids[None, begin : max(place + 1, begin + 2)])
        with torch.no_grad():
            logits = model.logits({"tokens": window})[0, -1].double()
        nats -= float(functional.log_softmax(logits, 0)[ids[place]])
    (score,) = found.evaluations
    assert score.scores["nats_per_token"] * score.examples == pytest.approx(nats, rel=1e-5)
    told = scores_of(cli(project, "evaluate", found.record.fingerprint[:12], "--text", "text.txt", "--json"))
    assert told["nats_per_token"] == pytest.approx(nats / len(TEXT), rel=1e-5)
    assert told["perplexity"] == pytest.approx(math.exp(nats / len(TEXT)), rel=1e-4)
    assert told["bits_per_byte"] == pytest.approx(nats / math.log(2) / len(TEXT), rel=1e-5)
    said = cli(project, "evaluate", found.record.fingerprint[:12], "--text", "text.txt").stdout
    assert f"{len(TEXT)} tokens" in said


def _weights(project: Path, family: str) -> dict[str, torch.Tensor]:
    return load_file(project / "runs" / family / name_of(project, family) / WEIGHTS)


@pytest.mark.parametrize("tokens", [2, 15, 16, 17, 30, 31, 32, 46])
def test_every_token_but_the_first_is_predicted_once_whatever_the_batch(
    tokens: int, make_run: Callable[..., RunSpec]
) -> None:
    run = make_run("decoder")
    torch.manual_seed(0)
    weights = {name: tensor.detach() for name, tensor in build_model(run.model, 0).named_parameters()}
    model = restored_model(run.model, weights)
    ids = np.random.default_rng(tokens).integers(2, 258, tokens).astype(np.uint16)
    one, many = (text_score(model, ids, 16, tokens, batch=batch) for batch in (1, 8))
    assert one.predicted == tokens - 1
    assert one.nats == pytest.approx(many.nats)
    assert one.nats_per_token == pytest.approx(math.log(264), abs=1.0), "fresh weights know nothing"


def test_accuracy_is_that_of_all_images_held_out(project: Path, image_data: Path) -> None:
    told = scores_of(cli(project, "evaluate", name_of(project, "vit"), "--json"))
    inputs = Inputs(image_data, project / "cache")
    record = evaluate(name_of(project, "vit"), root=project).record
    assert record is not None
    run = record.spec
    model, right, among, images = restored_model(run.model, _weights(project, "vit")), 0, 0, 0
    for batch in inputs.evaluation(run, inputs.manifest.heldout.items):
        with torch.no_grad():
            order = model.logits(batch).argsort(dim=1, descending=True, stable=True)
        right += int((order[:, 0] == batch["labels"]).sum())
        among += int((order[:, :5] == batch["labels"][:, None]).any(1).sum())
        images += len(order)
    assert told == {"top_1": right / images, "top_5": among / images}
    assert images == inputs.manifest.heldout.items
    assert f"of {images} images" in cli(project, "evaluate", name_of(project, "vit")).stdout


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--text", "text.txt", "--length", "5000"), "more than the model reads at once"),
        (("--length", "16"), "goes with --text or --tasks"),
        (("--text", "text.txt", "--limit", "3"), "goes with --tasks"),
        (("--text", "text.txt", "--include-path", "."), "goes with --tasks"),
    ],
)
def test_options_that_do_nothing_or_too_much_are_refused(project: Path, options: tuple[str, ...], told: str) -> None:
    name = name_of(project, "decoder")
    assert told in one_error(cli(project, "evaluate", name, *options, code=2))
    cli(project, "export", name, "--format", "huggingface", "--to", "out")
    assert told in one_error(cli(project, "evaluate", "out", *options, code=2))


def test_of_equal_classes_the_first_is_likelier() -> None:
    logits = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0]])
    assert classes_before(logits, torch.tensor([1, 1])).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("family", "content", "told"),
    [
        ("decoder", None, "--text"),
        ("decoder", b"", "too short"),
        ("decoder", b"\xff\xfe", "UTF-8"),
        ("t5", b"any", "no such score"),
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


def test_an_exported_folder_is_worth_what_its_run_is(project: Path) -> None:
    name = name_of(project, "decoder")
    own = scores_of(cli(project, "evaluate", name, "--text", "text.txt", "--json"))
    cli(project, "export", name, "--format", "huggingface", "--to", "out")
    out = scores_of(cli(project, "evaluate", "out", "--text", "text.txt", "--json"))
    assert out == pytest.approx(own, rel=1e-5)
    assert one_error(cli(project, "evaluate", "out", "--images", "data", code=2)).startswith("out/config.json")
    assert "nothing to evaluate on" in one_error(cli(project, "evaluate", "out", code=2))
    shutil.copy(project / "text.txt", project / "LICENSE")
    page = (Path(__file__).parents[2] / "docs" / "watching.md").read_text(encoding="utf-8")
    (block,) = (one.partition("```")[0] for one in page.split("```python\n")[1:] if "EvaluationRequest" in one)
    asked = [sys.executable, "-c", block]
    done = subprocess.run(asked, cwd=project, env=environment(), capture_output=True, text=True, check=True)
    assert f"'nats_per_token': {out['nats_per_token']:.4}"[:-1] in done.stdout


def test_an_export_is_worth_what_its_rounding_leaves(project: Path) -> None:
    name = name_of(project, "decoder")
    own = scores_of(cli(project, "evaluate", name, "--text", "text.txt", "--json"))
    for form in ("csr", "int4"):
        cli(project, "export", name, "--format", form, "--to", f"{form}.safetensors")
        cli(project, "evaluate", f"{form}.safetensors", "--text", "text.txt")
    kept = {one.weights: one.scores for one in read_evaluations(project / "runs" / "decoder" / name)}
    assert kept.keys() == {"final", "int4"}, "csr holds the final weights, and its scores replace theirs"
    assert kept["final"] == own
    assert kept["int4"] != own


def test_pictures_in_folders_are_told_apart(project: Path) -> None:
    classes = evaluate(name_of(project, "vit"), root=project).record
    assert classes is not None
    assert isinstance(classes.spec.model, ViTDims)
    side, count = classes.spec.model.image, classes.spec.model.classes
    for label in range(count):
        (project / "pictures" / f"{label:03}").mkdir(parents=True)
        Image.new("L", (side, side), label).save(project / "pictures" / f"{label:03}" / "one.png")
    told = scores_of(cli(project, "evaluate", name_of(project, "vit"), "--images", "pictures", "--json"))
    model = restored_model(classes.spec.model, _weights(project, "vit"))
    pixels = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, side, side, 1)
    with torch.no_grad():
        logits = model.logits({"images": pixels, "labels": torch.arange(count)})
    assert told["top_1"] == int((classes_before(logits, torch.arange(count)) == 0).sum()) / count
    shutil.rmtree(project / "pictures" / "000")
    told_error = one_error(cli(project, "evaluate", name_of(project, "vit"), "--images", "pictures", code=2))
    assert f"expected {count} folders" in told_error


def test_scores_are_kept_beside_the_record_and_never_twice(project: Path) -> None:
    name = name_of(project, "decoder")
    record = (project / "runs" / "decoder" / name / RECORD).read_bytes()
    for _ in range(2):
        cli(project, "evaluate", name, "--text", "text.txt")
    (kept,) = read_evaluations(project / "runs" / "decoder" / name)
    assert (kept.kind, kept.about, kept.examples) == ("text", "text.txt", len(TEXT))
    (project / "text.txt").write_text(TEXT + "more")
    cli(project, "evaluate", name, "--text", "text.txt")
    assert len(read_evaluations(project / "runs" / "decoder" / name)) == 2
    assert (project / "runs" / "decoder" / name / RECORD).read_bytes() == record
    rows = evaluations_table(evaluated(project / "runs" / "decoder", [find_run(name, project)])).rows
    assert [row[1] for row in rows] == ["nats_per_token", "perplexity", "bits_per_byte"] * 2
    assert not evaluations_table(()).rows
    (project / "runs" / "decoder" / name / EVALUATIONS).write_text("{")
    assert EVALUATIONS in one_error(cli(project, "evaluate", name, "--text", "text.txt", code=2))


def test_tasks_need_their_package(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparsity_lab.training.tasks.find_spec", lambda _: None)
    told = one_error(cli(project, "evaluate", name_of(project, "decoder"), "--tasks", "any", code=2))
    assert "sparsity-lab[lm-eval]" in told


TASK = """
task: next-letter
dataset_path: json
dataset_kwargs: {{data_files: {{test: {documents}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{start}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
target_delimiter: ""
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1.0}}
"""


@pytest.mark.slow
def test_tasks_of_ones_own_are_asked_of_a_run_and_of_its_folder(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lm_eval")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    starts = [TEXT[:size] for size in range(4, 12)]
    rows = [{"start": start, "choices": ["e", "s", "k"], "answer": n % 3} for n, start in enumerate(starts)]
    (project / "documents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (project / "tasks").mkdir()
    (project / "tasks" / "letter.yaml").write_text(TASK.format(documents=project / "documents.jsonl"))
    name, asked = name_of(project, "decoder"), ("--tasks", "next-letter", "--include-path", "tasks", "--json")
    told = scores_of(cli(project, "evaluate", name, *asked))
    model = restored_model(find_run(name, project).spec.model, _weights(project, "decoder"))
    right = 0
    for row in rows:
        ids = torch.from_numpy(ByteCodec().encode([row["start"].encode() + b"?"])[0].astype(np.int64))
        letters = ByteCodec().encode([b"esk"])[0].astype(np.int64)
        with torch.no_grad():
            right += int(model.logits({"tokens": ids[None]})[0, -1][letters].argmax()) == row["answer"]
    assert told["acc"] == right / len(rows)
    cli(project, "export", name, "--format", "huggingface", "--to", "out")
    assert scores_of(cli(project, "evaluate", "out", *asked)) == told
    (kept,) = read_evaluations(project / "runs" / "decoder" / name)
    assert (kept.kind, kept.about, kept.examples) == ("task", "next-letter", len(rows))
    assert "lm_eval" in kept.tools
