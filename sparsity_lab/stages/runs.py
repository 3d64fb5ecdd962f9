"""Looking at what is there: specs and records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import assert_never

from sparsity_lab.artifacts.paths import RECORD, Layout
from sparsity_lab.artifacts.records import RunRecord, read_record
from sparsity_lab.artifacts.store import Store, all_homes
from sparsity_lab.artifacts.wording import in_words
from sparsity_lab.console.tables import text_table
from sparsity_lab.errors import RecordError, SpecError
from sparsity_lab.messages.numbers import count
from sparsity_lab.specs.bundle import load_study
from sparsity_lab.specs.loading import load_spec
from sparsity_lab.specs.runs import FileOrigin, RunOrigin
from sparsity_lab.specs.studies import StudySpec
from sparsity_lab.stages.workspace import Workspace


def check_specs(files: Sequence[Path] | None, root: Path) -> Iterator[str]:
    """Check spec files (all below `specs/` when none are named); yields a line for each good one.

    Raises:
        SpecError: every problem of every file, one a line.
    """
    paths = list(files or sorted(Layout(root).specs.glob("**/*.yaml")))
    if not paths:
        raise SpecError("no spec files", where=Layout(root).specs)
    problems = []
    for path in paths:
        try:
            yield f"ok  {path}  ({_check(path)})"
        except SpecError as error:
            problems.append(str(error))
    if problems:
        raise SpecError("\n       ".join(problems))


def list_runs(space: Workspace) -> list[RunRecord]:
    """Records of the study's grid and search, by N, D, S and seed."""
    homes = (space.layout.runs(space.name), space.layout.search(space.name))
    records = {record.fingerprint: record for home in homes for record in Store(home).records()}
    return sorted(records.values(), key=lambda r: (r.nonzero, r.data, r.sparsity, r.spec.seed))


def run_rows(records: Sequence[RunRecord]) -> str:
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
            count(record.cost.flops_dense),
            f"{record.cost.seconds:.1f}",
            in_words(record.spec.regime),
            _start(record),
            record.status,
        )
        for record in records
    ]
    return text_table(head, rows) if rows else "no runs yet"


def _start(record: RunRecord) -> str:
    match record.spec.origin:
        case None:
            return "scratch"
        case FileOrigin(sha256=sha256):
            return f"file {sha256[:12]}"
        case RunOrigin():
            return f"run {(record.origin or '')[:12]}"
        case _:
            assert_never(record.spec.origin)


def find_run(prefix: str, root: Path) -> RunRecord:
    """The one run whose fingerprint starts with `prefix`.

    Raises:
        RecordError: no run, or more than one.
    """
    homes = [home for home in all_homes(Layout(root)) if home.is_dir()]
    found = {run.name: run for home in homes for run in home.iterdir() if (run / RECORD).is_file()}
    matches = [run for name, run in found.items() if name.startswith(prefix)]
    if len(matches) != 1:
        raise RecordError(
            "fingerprint names not one run", found=prefix, expected=f"one match, there are {len(matches)}"
        )
    return read_record(matches[0] / RECORD)


def _check(path: Path) -> str:
    spec = load_spec(path)
    if isinstance(spec, StudySpec):
        study = load_study(path)
        return f"study: {study.model.family} on {study.spec.dataset}"
    return spec.kind
