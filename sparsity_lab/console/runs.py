"""What `sparsity-lab runs` prints: records, regimes against one another, and what verifying them showed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from sparsity_lab.artifacts.records import Machine, RunRecord
from sparsity_lab.console.tables import text_table
from sparsity_lab.messages import words_in
from sparsity_lab.messages.numbers import count, quantity
from sparsity_lab.report.regimes import evaluations_table, regime_tables
from sparsity_lab.results.table import regime_words
from sparsity_lab.specs.fingerprint import ENGINE_VERSION
from sparsity_lab.specs.runs import FileOrigin, RunOrigin
from sparsity_lab.stages.runs import ComparedRegimes, Retrained, Verification


def runs_text(records: Sequence[RunRecord]) -> str:
    """Records as a table."""
    head = ("run", "non-zero", "S", "D", "seed", "loss", "FLOPs", "seconds", "regime", "starts from", "status")
    rows = [
        (
            record.fingerprint[:12],
            f"{record.nonzero:,}",
            f"{record.sparsity:.4g}",
            count(record.data),
            str(record.spec.seed),
            f"{record.loss:.4f}",
            quantity(record.cost.flops_dense),
            f"{record.cost.seconds:.1f}",
            regime_words(record.spec.regime),
            _start(record),
            record.status,
        )
        for record in records
    ]
    return text_table(head, rows) if rows else "no runs yet"


def _start(record: RunRecord) -> str:
    tensors = record.start_off_pattern
    off = f", off its pattern in {tensors} tensor{'s' * (tensors > 1)}" if tensors else ""
    return _origin(record) + (f", S = {record.start_sparsity:.4g}{off}" if record.start_sparsity else "")


def _origin(record: RunRecord) -> str:
    match record.spec.origin:
        case None:
            return "scratch"
        case FileOrigin(sha256=sha256, head=head):
            return f"file {sha256[:12]}" + (", fresh head" if head == "fresh" else "")
        case RunOrigin():
            return f"run {(record.origin or '')[:12]}"
        case _:
            assert_never(record.spec.origin)


def regimes_text(compared: ComparedRegimes) -> str:
    """The comparison as tables for a terminal."""
    words, compares = words_in(), regime_tables(compared.info)
    in_use = evaluations_table(compared.evaluated)
    tables = (*compares, *([in_use] if in_use.rows else []))
    parts = [
        f"{words(table.caption)}\n\n{text_table([*map(words, table.head)], [[*map(words, row)] for row in table.rows])}"
        for table in tables
    ]
    if not compares:
        parts.append(f"nothing to compare: no other regime has the N, D and S of {compared.info.reference}")
    if compared.missing:
        parts.append(f"{compared.missing} of {compared.runs + compared.missing} runs are not trained yet")
    return "\n\n".join(parts)


def verified_text(found: Verification) -> str:
    """How many records there are, who made them, and what came of training some again."""
    head = f"{found.study}: {found.records} records, every fingerprint is that of its spec and data"
    makers = (
        f"  {runs} made with torch {machine.torch}, {_library(machine)}{machine.instruction_set}, "
        f"{machine.threads} thread(s), {machine.processor}, "
        f"engine {engine}{'' if engine == ENGINE_VERSION else ' (older than this one)'}"
        for (machine, engine), runs in found.makers.items()
    )
    again = (f"  {one.record.fingerprint[:12]} {_outcome(one)}" for one in found.retrained)
    return "\n".join((head, *makers, *again))


def _library(machine: Machine) -> str:
    return f"transformers {machine.transformers}, " if machine.transformers else ""


def _outcome(one: Retrained) -> str:
    match one.outcome:
        case "same bits":
            return "trained again: the same bits"
        case "other machine":
            return f"trained again on another kind of machine: loss {one.loss!r}, recorded {one.record.loss!r}"
        case "other data or engine":
            return "not trained again: it was made from other data or by another engine"
        case "start is gone":
            return "not trained again: the weights that it starts from are gone"
        case _:
            assert_never(one.outcome)
