"""Evaluate: from a run's final weights to what they are worth in use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sparsity_lab.artifacts.paths import Layout
from sparsity_lab.artifacts.reading import read_bytes
from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.data.tokenizer import restored_tokenizer
from sparsity_lab.errors import DataError, SpecError, refusing
from sparsity_lab.specs.datasets import Classification, GivenIds, NextToken, TextDataset
from sparsity_lab.stages.runs import find_run
from sparsity_lab.stages.weights import run_data, run_weights, tokenizer_source
from sparsity_lab.training.evaluate import ImageScore, TextScore, image_score, restored_model, text_score
from sparsity_lab.training.inputs import Inputs


@dataclass(frozen=True)
class RunScore:
    """A run, what it was asked about, and its score."""

    record: RunRecord
    about: str
    score: TextScore | ImageScore


def evaluate_run(run: str, text: Path | None = None, root: Path = Path()) -> RunScore:
    """Perplexity of a text under a run of next tokens, or accuracy of a classifier on all held-out images.

    Args:
        run: its fingerprint, or the beginning of it.
        text: a file of UTF-8, one document; for runs of next tokens.
        root: the project's folder.

    Raises:
        RecordError: no run, or more than one, has this name.
        NotReadyError: its weights were not kept, or the data it was trained on is prepared no more.
        CheckpointError: the weights are damaged.
        DataError: the text cannot be read, is shorter than two tokens, or the data have no tokenizer for it.
        SpecError: the run's objective has no such score, or no text was given.
    """
    record = find_run(run, root)
    folder, manifest = run_data(record, root)
    match record.spec.objective:
        case NextToken(length=length):
            if text is None:
                raise SpecError("a text to evaluate on", field="--text", found="nothing", expected="a file of UTF-8")
            document = read_bytes(text, DataError)
            with refusing(text, DataError, "is not UTF-8"):
                document.decode()
            assert isinstance(manifest.spec, TextDataset)
            if isinstance(manifest.spec.tokenizer, GivenIds):
                message, expected = "knows ids alone, which no text has", "data with a tokenizer"
                raise DataError(message, where=folder, field="tokenizer", found="given", expected=expected)
            codec = restored_tokenizer(manifest.spec.tokenizer, tokenizer_source(folder, manifest))
            ids, _ = codec.encode_joined([document])
            if len(ids) < 2:
                raise DataError("too short to predict anything", where=text, found=f"{len(ids)} tokens", expected="2")
            model = restored_model(record.spec, run_weights(record, root))
            return RunScore(record, str(text), text_score(model, ids, length, len(document)))
        case Classification():
            inputs = Inputs(folder, Layout(root).cache)
            batches = inputs.evaluation(record.spec, manifest.heldout.items)
            model = restored_model(record.spec, run_weights(record, root))
            return RunScore(record, f"{folder.name}, held out", image_score(model, batches))
        case other:
            expected = "next-token or classification: others see what they predict"
            raise SpecError("has no perplexity of a text", field="objective.kind", found=other.kind, expected=expected)
