"""What `export` wrote, what a file of weights holds, and what a run is worth: as text and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sparsity_lab.artifacts.evaluations import FINAL, EvaluationEntry
from sparsity_lab.checkpoints.survey import Survey, TensorSurvey
from sparsity_lab.console.tables import text_table
from sparsity_lab.errors import printable
from sparsity_lab.messages.numbers import storage
from sparsity_lab.stages.evaluate import EvaluatedWeights
from sparsity_lab.stages.weights import HUGGING_FACE, Export

HEAD = ("tensor", "shape", "type", "bytes", "zeros", "S", "patterns")
SHORTEST_NAME = 16


def export_text(export: Export) -> str:
    """What was written, and a table of the formats' sizes."""
    record, dense = export.record, export.sizes["dense"]
    assert dense
    rows = [
        (name, storage(count), f"{count / dense:.1%}") if count else (name, "-", "lacks the pattern")
        for name, count in export.sizes.items()
    ]
    text = export.format == HUGGING_FACE and record.spec.objective.kind != "classification"
    untold = "without a tokenizer: the data that the run was trained on are no longer below data/"
    return "\n".join(
        (
            f"wrote {export.path}: {storage(export.bytes)}",
            f"run {record.fingerprint[:12]}: {record.nonzero:,} of {record.dense:,} prunable weights are not zero",
            *([f"{export.vanished:,} of these became zero in the type written"] if export.vanished else []),
            *([untold] if text and not export.tokenizer else []),
            "",
            text_table(("format", "tensors", "of dense"), rows),
        )
    )


def weights_text(found: Survey, width: int | None = None) -> str:
    """A table of tensors and their totals, at most `width` characters wide as far as shortened names allow."""
    rows = [_row(tensor) for tensor in found.tensors]
    table = text_table(HEAD, rows)
    surplus = table.index("\n") - width if width else 0
    if surplus > 0 and rows:
        longest = max(SHORTEST_NAME, max(len(row[0]) for row in rows) - surplus)
        table = text_table(HEAD, [(_shortened(row[0], longest), *row[1:]) for row in rows])
    lines = (line.rstrip() for line in table.splitlines())
    stored, dense = sum(t.bytes for t in found.tensors), sum(t.dense_bytes for t in found.tensors)
    share = f", {stored / dense:.1%} of {storage(dense)} dense" if stored != dense else ""
    title = [f"{printable(str(found.path))}: {found.encoding}, {storage(stored)} of tensors{share}"]
    if found.run:
        title.append(f"run {printable(found.run)}")
    totals = (
        f"{what:<9} {counts['tensors']} tensors, {counts['size']:,} weights, {counts['zeros']:,} zeros, "
        f"S = {counts['sparsity']:.6g}"
        for what, counts in found.totals.items()
        if counts["tensors"]
    )
    faults = (
        f"not finite: {_printable(t.name)}: {t.nan:,} NaN, {t.infinite:,} infinite"
        for t in found.tensors
        if t.not_finite
    )
    return "\n".join((*title, "", *lines, "", *totals, *faults))


def weights_json(found: Survey) -> dict[str, Any]:
    """The same for machines, nothing shortened."""
    return {
        "path": str(found.path),
        "format": found.encoding,
        "run": found.run,
        "tensors": [{**asdict(one), "sparsity": one.sparsity, "patterns": one.patterns} for one in found.tensors],
        "totals": found.totals,
    }


def _row(tensor: TensorSurvey) -> tuple[str, ...]:
    return (
        _printable(tensor.name),
        "x".join(map(str, tensor.shape)) or "scalar",
        tensor.dtype,
        storage(tensor.bytes),
        f"{tensor.zeros:,}" if tensor.zeros else "-",
        f"{tensor.sparsity:.4f}" if tensor.zeros else "-",
        ", ".join(tensor.patterns) or "-",
    )


def _printable(name: str) -> str:
    """A name from a file, with what a terminal would act on written out."""
    return name if name.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def _shortened(name: str, length: int) -> str:
    if len(name) <= length:
        return name
    head = (length - 1) // 2
    return f"{name[:head]}…{name[len(name) - (length - 1 - head) :]}"


def evaluated_json(found: EvaluatedWeights) -> dict[str, Any]:
    """What was evaluated, and everything that was found out."""
    return {
        "of": found.name,
        "run": found.record and found.record.fingerprint,
        "evaluations": [one.model_dump(mode="json") for one in found.evaluations],
    }


def evaluated_text(found: EvaluatedWeights) -> str:
    """A line for each thing that was asked, with its scores."""
    level = "" if found.record is None else f", S {found.record.sparsity:.3g}"
    rounded = "" if found.weights == FINAL else f", {found.weights}"
    head = f"{printable(found.name)}{level}{rounded}"
    return "\n".join(f"{head}, on {printable(one.about)}: {_scores(one)}" for one in found.evaluations)


def _scores(one: EvaluationEntry) -> str:
    told = one.scores
    match one.kind:
        case "text":
            return (
                f"{told['nats_per_token']:.4f} nats a token, perplexity {told['perplexity']:.4g}, "
                f"{told['bits_per_byte']:.4f} bits a byte ({one.examples:,} tokens)"
            )
        case "images":
            return f"top-1 {told['top_1']:.2%}, top-5 {told['top_5']:.2%} of {one.examples:,} images"
        case "task":
            listed = (f"{name} {value:.4g}{_error(one, name)}" for name, value in told.items())
            return f"{', '.join(listed) or 'no score'} of {one.examples:,} documents"


def _error(one: EvaluationEntry, name: str) -> str:
    return f" ± {one.deviations[name]:.2g}" if name in one.deviations else ""
