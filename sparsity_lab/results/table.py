"""All runs of a study as one Parquet table, for people with pandas, DuckDB or a plotting tool.

A run's regime is told by what its record knows: names of files are not part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, assert_never

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from sparsity_lab.artifacts.atomic import replacing
from sparsity_lab.artifacts.reading import parquet_rows, parquet_schema
from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.errors import RecordError, first_problem, refusing
from sparsity_lab.messages import words_in
from sparsity_lab.specs.fingerprint import fingerprint
from sparsity_lab.specs.regimes.patterns import Block, Channel, NofM, Pattern, Unstructured
from sparsity_lab.specs.regimes.plugins import Plugin
from sparsity_lab.specs.regimes.regime import (
    Dense,
    Dynamic,
    Masked,
    OneShotPruning,
    RegimeSpec,
    SparseRegime,
    StraightThrough,
    sparse,
)
from sparsity_lab.specs.runs import FileOrigin, RunOrigin, RunSpec

SCHEMA = pa.schema(
    [
        ("fingerprint", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("family", pa.string()),
        ("method", pa.string()),
        ("pattern", pa.string()),
        ("score", pa.string()),
        ("allocation", pa.string()),
        ("schedule", pa.string()),
        ("origin", pa.string()),
        ("sparsity", pa.float64()),
        ("nonzero", pa.int64()),
        ("dense", pa.int64()),
        ("other_params", pa.int64()),
        ("other_zeros", pa.int64()),
        ("nonzero_total", pa.int64()),
        ("paper_dense", pa.int64()),
        ("data", pa.int64()),
        ("data_unit", pa.string()),
        ("epochs", pa.float64()),
        ("loss", pa.float64()),
        ("seed", pa.int64()),
        ("width", pa.int64()),
        ("steps", pa.int64()),
        ("peak_learning_rate", pa.float64()),
        ("flops_dense", pa.float64()),
        ("flops_sparse", pa.float64()),
        ("flops_mask_updates", pa.float64()),
        ("seconds", pa.float64()),
        ("pretraining_flops_dense", pa.float64()),
        ("pretraining_seconds", pa.float64()),
        ("instruction_set", pa.string()),
        ("threads", pa.int64()),
        ("torch", pa.string()),
        ("data_hash", pa.string()),
        ("loss_before", pa.float64()),
        ("loss_pruned", pa.float64()),
        ("data_before", pa.int64()),
    ]
)
WHOLE = "record"
"""the column that holds records whole"""
CHOICES = ("pattern", "score", "allocation", "schedule")


def write_table(records: Sequence[RunRecord], path: Path, *, about: Mapping[str, str] | None = None) -> None:
    """Write one row a run, in order of fingerprint, atomically.

    Args:
        records: the runs.
        path: a Parquet file.
        about: where the runs come from, kept as metadata of the file; with it, a further column `record` holds every
            record whole, as JSON, from which `read_records` makes them again.
    """
    ordered = sorted(records, key=lambda record: record.fingerprint)
    table = pa.Table.from_pylist([row_of(record) for record in ordered], schema=SCHEMA)
    if about is not None:
        whole = pa.array([record.model_dump_json() for record in ordered], pa.string())
        table = table.append_column(WHOLE, whole).replace_schema_metadata(about)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd" if about is not None else "snappy")


def read_records(path: Path) -> list[RunRecord]:
    """The records of a table that holds them whole.

    Raises:
        RecordError: the file is missing, damaged or without that column, or a row is no run record or is not the run
            that its fingerprint names.
    """
    names = parquet_schema(path, RecordError)[0].names
    if WHOLE not in names:
        expected = "a file that `sparsity-lab runs pack` wrote"
        raise RecordError("holds no whole records", where=path, field=WHOLE, found=names, expected=expected)
    return [
        _read(text, f"{path}: row {row}")
        for start, columns in parquet_rows(path, RecordError, [WHOLE])
        for row, text in enumerate(columns[WHOLE].to_pylist(), start)
    ]


def _read(text: Any, where: str) -> RunRecord:
    """One record from its cell."""
    with refusing(where, RecordError, "is no run record", field=WHOLE):
        try:
            record = RunRecord.model_validate_json(text)
        except ValidationError as error:
            field, wrong, _ = first_problem(error)
            raise RecordError(wrong, where=where, field=field or WHOLE) from None
        expected = fingerprint(record.spec, record.data_hash, record.engine)
    if record.fingerprint != expected:
        message = "spec and data do not have this fingerprint"
        raise RecordError(message, where=where, found=record.fingerprint, expected=expected)
    return record


def row_of(record: RunRecord) -> dict[str, Any]:
    """A run as one row: its value in every column of the table."""
    spec, cost, machine, regime = record.spec, record.cost, record.machine, sparse(record.spec.regime)
    known = {
        "reason": words_in()(record.reason),
        "family": spec.model.family,
        "method": spec.regime.method,
        **(dict.fromkeys(CHOICES, "") if regime is None else _choices(regime)),
        "origin": spec.origin.sha256 if isinstance(spec.origin, FileOrigin) else record.origin,
        "seed": spec.seed,
        "width": spec.model.width,
        "steps": spec.steps,
        "peak_learning_rate": spec.peak_learning_rate,
        **cost.model_dump(),
        "pretraining_flops_dense": record.pretraining and record.pretraining.flops_dense,
        "pretraining_seconds": record.pretraining and record.pretraining.seconds,
        "instruction_set": machine.instruction_set,
        "threads": machine.threads,
        "torch": machine.torch,
        "loss_before": record.pruned_at_once and record.pruned_at_once.loss_before,
        "loss_pruned": record.pruned_at_once and record.pruned_at_once.loss_after,
        "data_before": _data_before(spec),
    }
    return {name: known[name] if name in known else getattr(record, name) for name in SCHEMA.names}


def _data_before(spec: RunSpec) -> int | None:
    """Examples or tokens that a run's first weights were trained on; 0 of fresh ones, None of a file's."""
    if spec.origin is None:
        return 0
    return spec.origin.run.data if isinstance(spec.origin, RunOrigin) else None


def pattern_words(pattern: Pattern) -> str:
    """The pattern: `unstructured`, `2:4`, `4x4 blocks`, `rows`."""
    match pattern:
        case Unstructured(within=within):
            return "unstructured" if within == "tensor" else "unstructured in rows"
        case NofM(n=n, m=m):
            return f"{'n' if n is None else n}:{m}"
        case Block(height=height, width=width):
            return f"{height}x{width} blocks"
        case Channel(axis=axis):
            return axis
        case Plugin(name=name):
            return name
        case _:
            assert_never(pattern)


def regime_words(regime: RegimeSpec) -> str:
    """All five choices that matter most in one line, such as `dynamic (gradient) unstructured, magnitude, static`."""
    match regime:
        case Dense():
            return "dense"
        case Dynamic(grow=grow):
            method = f"dynamic ({grow})"
        case Masked() | StraightThrough() | OneShotPruning():
            method = regime.method
        case _:
            assert_never(regime)
    pattern, *rest = _choices(regime).values()
    return ", ".join((f"{method} {pattern}", *rest))


def _choices(regime: SparseRegime) -> dict[str, str]:
    """Pattern, score, allocation and schedule: their kinds, or a plug-in's name."""
    return {
        "pattern": pattern_words(regime.pattern),
        "score": _kind(regime.score.kind, regime.score),
        "allocation": regime.allocation.kind,
        "schedule": _kind(regime.schedule.kind, regime.schedule),
    }


def _kind(kind: str, spec: object) -> str:
    return spec.name if isinstance(spec, Plugin) else kind
