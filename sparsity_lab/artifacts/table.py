"""All runs of a study as one Parquet table, for people with pandas, DuckDB or a plotting tool."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sparsity_lab.artifacts.atomic import replacing
from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.wording import allocation_of, pattern_of, schedule_of, score_of
from sparsity_lab.specs.runs import FileOrigin

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
        ("embedding_zeros", pa.int64()),
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
    ]
)


def write_table(records: Sequence[RunRecord], path: Path) -> None:
    """Write one row a run, in order of fingerprint, atomically."""
    rows = [row_of(record) for record in sorted(records, key=lambda record: record.fingerprint)]
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), temporary)


def row_of(record: RunRecord) -> dict[str, Any]:
    """A run as one row: its value in every column of the table."""
    spec, cost, machine = record.spec, record.cost, record.machine
    known = {
        "family": spec.model.family,
        "method": spec.regime.method,
        "pattern": pattern_of(spec.regime),
        "score": score_of(spec.regime),
        "allocation": allocation_of(spec.regime),
        "schedule": schedule_of(spec.regime),
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
    }
    return {name: known.get(name, getattr(record, name, None)) for name in SCHEMA.names}
