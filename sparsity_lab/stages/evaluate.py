"""Evaluate: from final weights to what they are worth in use, noted beside the run's record."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sparsity_lab import __version__
from sparsity_lab.artifacts.evaluations import FINAL, EvaluationEntry, keep_evaluations
from sparsity_lab.artifacts.paths import Layout
from sparsity_lab.artifacts.reading import read_bytes
from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.checkpoints.files import Weights, read_header, read_weights
from sparsity_lab.checkpoints.folder import write_folder
from sparsity_lab.checkpoints.plain import fingerprint_of
from sparsity_lab.data.places import TOKENIZER
from sparsity_lab.data.sources import source_hash
from sparsity_lab.data.tokenizer import Codec, load_tokenizer, restored_tokenizer
from sparsity_lab.errors import CheckpointError, DataError, NotReadyError, SpecError, refusing
from sparsity_lab.models.build import parameter_shapes
from sparsity_lab.specs.datasets import Classification, GivenIds, ImageDataset, NextToken, TextDataset
from sparsity_lab.specs.models import Dims, HuggingFaceTask
from sparsity_lab.specs.sources import ImageFolder, Pictures
from sparsity_lab.stages.runs import find_run
from sparsity_lab.stages.weights import check_shapes, run_data, run_tokenizer, run_weights, tokenizer_source
from sparsity_lab.training.evaluate import (
    folder_batches,
    image_score,
    image_shape,
    most_tokens,
    read_foreign,
    restored_model,
    text_score,
    window,
)
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.tasks import TaskRequest, harness_version, task_scores


@dataclass(frozen=True)
class EvaluationRequest:
    """What weights are asked; the images held out from a classifier's training when nothing is named."""

    text: Path | None = None
    """a file of UTF-8, one document"""
    images: Path | None = None
    """a folder with a folder of pictures for each class"""
    tasks: TaskRequest | None = None
    length: int | None = None
    """tokens of a window; as in training, or as a folder's configuration says, when None"""


@dataclass(frozen=True)
class EvaluatedWeights:
    """What was found out."""

    name: str
    """of the run, or the folder"""
    record: RunRecord | None
    """None for a folder: nothing says whose weights it holds"""
    weights: str
    evaluations: tuple[EvaluationEntry, ...]


@dataclass(frozen=True)
class _Run:
    """A run's weights, its own or those of an export."""

    record: RunRecord
    weights: Weights
    form: str
    root: Path

    @property
    def name(self) -> str:
        return f"run {self.record.fingerprint[:12]}"

    def model(self, task: HuggingFaceTask) -> tuple[Dims, Any]:  # noqa: ARG002 - it has the head of its objective
        return self.record.spec.model, restored_model(self.record.spec.model, self.weights)

    def length(self) -> int:
        assert isinstance(self.record.spec.objective, NextToken)
        return self.record.spec.objective.length

    def codec(self) -> Codec:
        folder, manifest = run_data(self.record, self.root)
        assert isinstance(manifest.spec, TextDataset)
        if isinstance(manifest.spec.tokenizer, GivenIds):
            message, expected = "knows ids alone, which no text has", "data with a tokenizer"
            raise DataError(message, where=folder, field="tokenizer", found="given", expected=expected)
        return restored_tokenizer(manifest.spec.tokenizer, tokenizer_source(folder, manifest), manifest.own)

    def background(self) -> int:
        """The page on which transparent pictures were seen in training, where its data are still there."""
        try:
            _, manifest = run_data(self.record, self.root)
        except NotReadyError:
            return 255
        spec = manifest.spec
        return spec.source.background if isinstance(spec, ImageDataset) and isinstance(spec.source, Pictures) else 255

    def check(self, option: str, *allowed: str) -> None:
        found = self.record.spec.objective.kind
        if found not in allowed:
            expected = " or ".join(allowed)
            raise SpecError("has no such score", where=self.name, field=option, found=found, expected=expected)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        self.check("--tasks", "next-token", "span-corruption")
        tokenizer, own = run_tokenizer(self.record, self.root)
        if not tokenizer:
            run_data(self.record, self.root)  # which says how to get them, where they are not there
            raise DataError("has no tokenizer, and tasks are texts", where=self.name, field="--tasks")
        with TemporaryDirectory() as place:
            write_folder(Path(place) / "model", self.weights, self.record.spec.model, tokenizer, own)
            yield Path(place) / "model"


@dataclass(frozen=True)
class _Folder:
    """A Hugging Face folder."""

    path: Path
    record: RunRecord | None = None
    form: str = FINAL

    @property
    def name(self) -> str:
        return str(self.path)

    def model(self, task: HuggingFaceTask) -> tuple[Dims, Any]:
        return read_foreign(self.path, task)

    def length(self) -> int:
        return window(self.path)

    def codec(self) -> Codec:
        if not (self.path / TOKENIZER).is_file():
            raise DataError("has no tokenizer", where=self.path, expected=TOKENIZER)
        return load_tokenizer(self.path / TOKENIZER)

    def background(self) -> int:
        return 255

    def check(self, option: str, *allowed: str) -> None:
        """Its configuration says which heads it can have."""

    @contextmanager
    def folder(self) -> Iterator[Path]:
        self.codec()
        yield self.path


def evaluate(source: str, request: EvaluationRequest | None = None, root: Path = Path()) -> EvaluatedWeights:
    """Ask final weights for more than the held-out loss; a run's answers are kept in `evaluations.json` by its record.

    Args:
        source: a run's fingerprint or the beginning of it, a file of its weights (its own, or any export), or a
            Hugging Face folder.
        request: what is asked.
        root: the project's folder.

    Raises:
        RecordError: no run, or more than one, has this name.
        NotReadyError: its weights were not kept, or the data it was trained on is prepared no more.
        CheckpointError: the weights are damaged, or the file does not say whose they are.
        DataError: a text, image or task cannot be read, or there is no tokenizer for it.
        SpecError: the objective has no such score, or there is no such task.
        MachineError: the package that asks tasks, or reads folders, is not installed.
    """
    asked = request or EvaluationRequest()
    named = [name for name in ("text", "images", "tasks") if getattr(asked, name) is not None]
    if len(named) > 1:
        raise SpecError("is one thing at a time", field=f"--{named[1]}", found=f"--{named[0]} beside it")
    held = _weights_of(source, root)
    match asked:
        case EvaluationRequest(text=Path() as text):
            made = [_of_text(held, text, asked.length)]
        case EvaluationRequest(images=Path() as images):
            made = [_of_images(held, images)]
        case EvaluationRequest(tasks=TaskRequest() as tasks):
            made = _of_tasks(held, tasks, asked.length)
        case _:
            made = [_held_out(held)]
    if held.record is not None:
        keep_evaluations(Layout(root), held.record.fingerprint, made)
    return EvaluatedWeights(held.name, held.record, held.form, tuple(made))


def _weights_of(source: str, root: Path) -> _Run | _Folder:
    path = Path(source)
    if path.is_dir():
        return _Folder(path)
    if not path.is_file():
        if os.sep in source or path.suffix:
            raise CheckpointError("is no file" if path.exists() else "no such file or folder", where=path)
        record = find_run(source, root)
        return _Run(record, run_weights(record, root), FINAL, root)
    header = read_header(path)
    name = header.run if header else fingerprint_of(path)
    if name is None:
        expected = "an export, a run's weights.safetensors, or a Hugging Face folder"
        raise CheckpointError("does not say which run's weights it holds", where=path, expected=expected)
    record, weights = find_run(name, root), read_weights(path)
    check_shapes(path, weights, parameter_shapes(record.spec.model))
    rounded = header.encoding if header and header.encoding.startswith("int") else ""
    types = {str(weight.dtype).removeprefix("torch.") for weight in weights.values()} - {"float32"}
    form = " ".join(filter(None, (rounded, *sorted(types)))) or FINAL
    return _Run(record, {name: weight.float() for name, weight in weights.items()}, form, root)


def _of_text(held: _Run | _Folder, text: Path, length: int | None) -> EvaluationEntry:
    held.check("--text", "next-token")
    document = read_bytes(text, DataError)
    with refusing(text, DataError, "is not UTF-8"):
        document.decode()
    ids, _ = held.codec().encode_joined([document])
    if len(ids) < 2:
        raise DataError("too short to predict anything", where=text, found=f"{len(ids)} tokens", expected="2")
    tokens = length or held.length()
    dims, model = held.model("causal-lm")
    most = most_tokens(dims) or tokens
    if tokens > most:
        message, expected = "more than the model reads at once", f"{most} at most"
        raise SpecError(message, where=held.name, field="--length", found=tokens, expected=expected)
    score = text_score(model, ids, tokens, len(document))
    scores = {name: getattr(score, name) for name in ("nats_per_token", "perplexity", "bits_per_byte")}
    sha256 = hashlib.sha256(document).hexdigest()
    return _evaluation(
        held, kind="text", about=text.name, sha256=sha256, examples=score.predicted, scores=scores, length=tokens
    )


def _of_images(held: _Run | _Folder, folder: Path) -> EvaluationEntry:
    held.check("--images", "classification")
    dims, model = held.model("image-classification")
    shape = image_shape(dims)
    channels: Any = shape.channels
    source = ImageFolder(
        kind="image-folder", path=str(folder), image=shape.image, channels=channels, background=held.background()
    )
    score = image_score(model, folder_batches(source, shape.classes))
    scores = {"top_1": score.top_1, "top_5": score.top_5}
    sha256 = source_hash(source)
    return _evaluation(held, kind="images", about=folder.name, sha256=sha256, examples=score.images, scores=scores)


def _held_out(held: _Run | _Folder) -> EvaluationEntry:
    """All images held out from a classifier's training."""
    if isinstance(held, _Folder):
        raise SpecError("nothing to evaluate on", where=held.name, expected="--text, --images or --tasks")
    if not isinstance(held.record.spec.objective, Classification):
        expected = "--text FILE or --tasks TASKS"
        raise SpecError("nothing to evaluate on", where=held.name, field="--text", found="nothing", expected=expected)
    folder, manifest = run_data(held.record, held.root)
    inputs = Inputs(folder, Layout(held.root).cache)
    batches = inputs.evaluation(held.record.spec, manifest.heldout.items)
    _, model = held.model("image-classification")
    score = image_score(model, batches)
    return _evaluation(
        held,
        kind="images",
        about=f"{folder.name}, held out",
        sha256=manifest.heldout.sha256,
        examples=score.images,
        scores={"top_1": score.top_1, "top_5": score.top_5},
    )


def _of_tasks(held: _Run | _Folder, request: TaskRequest, length: int | None) -> list[EvaluationEntry]:
    tools = {"lm_eval": harness_version()}
    said = {"length": length, "limit": request.limit, "shots": request.shots}
    settings = {name: value for name, value in said.items() if value is not None}
    with held.folder() as folder:
        found = task_scores(folder, request, length)
    return [
        _evaluation(
            held,
            kind="task",
            about=one.name,
            sha256=one.sha256,
            examples=one.documents,
            scores=one.scores,
            deviations=one.deviations,
            tools=tools | ({one.name: one.version} if one.version else {}),
            **settings,
        )
        for one in found
    ]


def _evaluation(held: _Run | _Folder, *, tools: dict[str, str] | None = None, **said: Any) -> EvaluationEntry:
    settings = {name: said.pop(name) for name in ("length", "limit", "shots") if name in said}
    every = {"sparsity_lab": __version__, **(tools or {})}
    return EvaluationEntry(weights=held.form, settings=settings, tools=every, **said)
