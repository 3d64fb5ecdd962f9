"""Verify: are the records what they say, where were they made, and do the bits repeat here?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import assert_never

from sparsity_lab.artifacts.paths import CHECKPOINT
from sparsity_lab.artifacts.records import Machine, RunRecord
from sparsity_lab.artifacts.store import Store, all_homes
from sparsity_lab.errors import RecordError
from sparsity_lab.specs.fingerprint import ENGINE_VERSION, fingerprint
from sparsity_lab.specs.runs import FileOrigin, RunOrigin
from sparsity_lab.stages.runs import list_runs
from sparsity_lab.stages.workspace import Workspace
from sparsity_lab.sweep.jobs import Workplace
from sparsity_lab.sweep.study import job_of, started
from sparsity_lab.training.determinism import best_device, make_deterministic, this_machine
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.run import RunContext, train


def verify_study(space: Workspace, *, retrain: int = 0) -> str:
    """Check every record of a study; train the `retrain` cheapest again and compare losses and bits.

    Raises:
        RecordError: a record's fingerprint is not that of its contents, or a retrained run differs although the
            machine, the torch version and the thread count are the same.
    """
    records = list_runs(space)
    for record in records:
        _check_identity(record)
    lines = [f"{space.name}: {len(records)} records, every fingerprint is that of its spec and data", *_makers(records)]
    cheapest = sorted(records, key=lambda record: record.cost.flops_dense)[:retrain]
    lines += [f"  {record.fingerprint[:12]} {_retrain(space, record)}" for record in cheapest]
    return "\n".join(lines)


def _check_identity(record: RunRecord) -> None:
    expected = fingerprint(record.spec, record.data_hash, record.engine)
    if expected != record.fingerprint:
        raise RecordError("spec and data do not have this fingerprint", found=record.fingerprint, expected=expected)


def _makers(records: Sequence[RunRecord]) -> list[str]:
    counts = Counter((record.machine, record.engine) for record in records)
    return [
        f"  {count} made with torch {machine.torch}, {machine.instruction_set}, {machine.threads} thread(s), "
        f"{machine.processor}, engine {engine}{'' if engine == ENGINE_VERSION else ' (older than this one)'}"
        for (machine, engine), count in counts.most_common()
    ]


def _retrain(space: Workspace, record: RunRecord) -> str:
    if (record.data_hash, record.engine) != (space.manifest().content_hash, ENGINE_VERSION):
        return "not trained again: it was made from other data or by another engine"
    place = space.workplace(space.layout.runs(space.name))
    store = Store(place.home, all_homes(space.layout))
    if not _has_start(record, place, store):
        return "not trained again: the weights that it starts from are gone"
    make_deterministic(record.machine.threads)
    inputs = Inputs(space.layout.data(space.name), space.layout.cache)
    job = started(job_of(record.fingerprint, record.spec, record.origin), place, store)
    with TemporaryDirectory() as scratch:
        sitting = RunContext(Path(scratch) / CHECKPOINT, start=job.start, pretraining=job.pretraining)
        again = train(record.spec, inputs, sitting)
    if again.losses() == record.losses():
        return "trained again: the same bits"
    alike = same_bits_expected(record.machine, this_machine(best_device()))
    difference = f"loss {again.loss!r}, recorded {record.loss!r}"
    if alike:
        name = record.fingerprint[:12]
        raise RecordError(f"run {name} trained again on the same kind of machine differs: {difference}")
    return f"trained again on another kind of machine: {difference}"


def _has_start(record: RunRecord, place: Workplace, store: Store) -> bool:
    match record.spec.origin:
        case None:
            return True
        case FileOrigin(sha256=sha256):
            return sha256 in place.start_files
        case RunOrigin():
            return record.origin is not None and store.weights(record.origin) is not None
        case _:
            assert_never(record.spec.origin)


def same_bits_expected(one: Machine, other: Machine) -> bool:
    """Whether two machines should give the same bits: same torch, device, instruction set and thread count."""
    return (one.torch, one.device, one.instruction_set, one.threads) == (
        other.torch,
        other.device,
        other.instruction_set,
        other.threads,
    )
