"""Looking at runs: list, find, pack, compare regimes, verify that records say what they are and repeat here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, assert_never

from sparsity_lab.artifacts.evaluations import EvaluationEntry, evaluated
from sparsity_lab.artifacts.paths import CHECKPOINT, RECORD, Layout
from sparsity_lab.artifacts.records import Machine, RunRecord, read_record
from sparsity_lab.artifacts.store import Store, all_homes
from sparsity_lab.errors import NotReadyError, RecordError
from sparsity_lab.results.regimes import RegimeComparison, compare_grid
from sparsity_lab.results.table import read_records, write_table
from sparsity_lab.specs.fingerprint import ENGINE_VERSION, fingerprint
from sparsity_lab.specs.runs import FileOrigin, RunOrigin
from sparsity_lab.stages.workspace import Workspace
from sparsity_lab.sweep.jobs import Workplace
from sparsity_lab.sweep.study import job_of, started


def list_runs(space: Workspace) -> list[RunRecord]:
    """Records of the study's grid and search, by N, D, S and seed."""
    homes = (space.layout.runs(space.name), space.layout.search(space.name))
    records = {record.fingerprint: record for home in homes for record in Store(home).records()}
    return sorted(records.values(), key=lambda r: (r.nonzero, r.data, r.sparsity, r.spec.seed))


def find_run(prefix: str, root: Path) -> RunRecord:
    """The one run whose fingerprint starts with `prefix`.

    Raises:
        RecordError: no run, or more than one.
    """
    homes = [home for home in all_homes(Layout(root)) if home.is_dir()]
    found = {run.name: run for home in homes for run in home.iterdir() if (run / RECORD).exists()}
    matches = [run for name, run in found.items() if name.startswith(prefix)]
    if len(matches) != 1:
        expected, where = f"one match, there are {len(matches)}", root.absolute()
        raise RecordError("fingerprint names not one run", where=where, found=prefix, expected=expected)
    return read_record(matches[0] / RECORD)


def pack_runs(space: Workspace, path: Path) -> int:
    """Write a study's runs, grid and search, into one Parquet file that can be committed or sent; returns how many.

    Raises:
        NotReadyError: no run is there.
        MachineError: the file cannot be written.
    """
    records = list_runs(space)
    if not records:
        raise NotReadyError(space.layout.runs(space.name), make_it=f"sparsity-lab train {space.study.typed}")
    write_table(records, path, about={"study": space.name, "command": f"sparsity-lab train {space.study.typed}"})
    return len(records)


def unpack_runs(space: Workspace, path: Path) -> tuple[int, int]:
    """Take the runs of a packed file into a study's folder; those that are there already stay as they are.

    Returns:
        How many were taken, and how many the file holds.

    Raises:
        RecordError: the file is damaged, or holds something else.
    """
    records, there = read_records(path), {record.fingerprint for record in list_runs(space)}
    new = [record for record in records if record.fingerprint not in there]
    for record in new:
        Store(space.layout.runs(space.name)).put(record)
    return len(new), len(records)


@dataclass(frozen=True)
class ComparedRegimes:
    """A comparison, and how many runs of the grid it rests on."""

    info: RegimeComparison
    runs: int
    missing: int
    evaluated: tuple[tuple[RunRecord, EvaluationEntry], ...] = ()
    """what runs turned out to be worth in use"""


def compare_study(space: Workspace) -> ComparedRegimes:
    """Compare the regimes of a study's grid, as far as it is trained.

    Raises:
        NotReadyError: the data is not prepared, or no run is there.
        RecordError: a record is damaged.
    """
    store = Store(space.layout.runs(space.name))
    found = store.find_all(space.grid().runs)
    records = [record for record in found if record is not None]
    if not records:
        raise NotReadyError(store.home, make_it=f"sparsity-lab train {space.study.typed}")
    in_use = evaluated(store.home, records)
    return ComparedRegimes(compare_grid(records, space.study), len(records), len(found) - len(records), in_use)


@dataclass(frozen=True)
class Retrained:
    """A run that was to be trained again.

    Attributes:
        record: of the run.
        outcome: the same bits, another loss on another kind of machine, or why it was not trained.
        loss: of the second training, if there was one.
    """

    record: RunRecord
    outcome: Literal["same bits", "other machine", "other data or engine", "start is gone"]
    loss: float | None = None


@dataclass(frozen=True)
class Verification:
    """What a study's records are.

    Attributes:
        study: its name.
        records: how many there are, each with the fingerprint of its spec and data.
        makers: how many each machine and engine made, most first.
        retrained: the cheapest, trained again.
    """

    study: str
    records: int
    makers: Mapping[tuple[Machine, int], int]
    retrained: tuple[Retrained, ...]


def verify_study(space: Workspace, *, retrain: int = 0) -> Verification:
    """Check every record of a study; train the `retrain` cheapest again and compare losses and bits.

    Raises:
        RecordError: a record's fingerprint is not that of its contents, or a retrained run differs although the
            machine, the torch version and the thread count are the same.
    """
    records = list_runs(space)
    for record in (one.whole() for one in records):
        expected = fingerprint(record.spec, record.data_hash, record.engine)
        if expected != record.fingerprint:
            raise RecordError("spec and data do not have this fingerprint", found=record.fingerprint, expected=expected)
    makers = dict(Counter((record.machine, record.engine) for record in records).most_common())
    cheapest = sorted(records, key=lambda record: record.cost.flops_dense)[:retrain]
    return Verification(space.name, len(records), makers, tuple(_retrain(space, record) for record in cheapest))


def _retrain(space: Workspace, record: RunRecord) -> Retrained:
    from sparsity_lab.training.context import RunContext  # noqa: PLC0415
    from sparsity_lab.training.determinism import make_deterministic  # noqa: PLC0415 - looks need no torch
    from sparsity_lab.training.inputs import Inputs  # noqa: PLC0415
    from sparsity_lab.training.run import train  # noqa: PLC0415

    if (record.data_hash, record.engine) != (space.manifest().content_hash, ENGINE_VERSION):
        return Retrained(record, "other data or engine")
    place = space.workplace(space.layout.runs(space.name))
    store = Store(place.home, all_homes(space.layout))
    if not _has_start(record, place, store):
        return Retrained(record, "start is gone")
    make_deterministic(record.machine.threads)
    inputs = Inputs(space.layout.data(space.name), space.layout.cache)
    job = started(job_of(record.fingerprint, record.spec, record.origin), place, store)
    with TemporaryDirectory() as scratch:
        context = RunContext(
            Path(scratch) / CHECKPOINT, start=job.start, pretraining=job.pretraining, parts=record.machine.parts or None
        )
        again = train(record.spec, inputs, context)
    if again.losses() == record.losses():
        return Retrained(record, "same bits", again.loss)
    if same_bits_expected(record.machine, again.machine):
        name = record.fingerprint[:12]
        difference = f"loss {again.loss!r}, recorded {record.loss!r}"
        raise RecordError(f"run {name} trained again on the same kind of machine differs: {difference}")
    return Retrained(record, "other machine", again.loss)


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
    """Whether two machines should give the same bits: same torch, device, instruction set, threads and parts.

    So must the version of `transformers` be, where both tell it.
    """
    facts = [(each.torch, each.device, each.instruction_set, each.threads, each.parts) for each in (one, other)]
    library = {each.transformers for each in (one, other)} - {None}
    alike = facts[0] == facts[1] and len(library) < 2
    return alike and one.parts > 0 and one.deterministic and other.deterministic
