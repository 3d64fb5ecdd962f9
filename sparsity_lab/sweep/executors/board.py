"""A sweep as files that every node sees: its runs, who works on which, what has happened, and when to end.

    .sparsity-lab/sweeps/NAME/
        work.pickle      the runs and their workplace
        arrays           identities of the job arrays that work on it, one a line
        driver.json      the lease of the process that waits for it; none where the sweep was left to itself
        cancelled        there once every worker is to write its checkpoint and leave
        events/*.jsonl   what a worker tells, a file for each life of one
        ended/*.json     runs that ended without a record: given up, or failed
        losses/*         a byte for each time that a run's worker was lost
        log/             what submitit and the workers write

The lease of a run lies in `.sparsity-lab/leases`, whichever sweep the run is trained for.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sparsity_lab.artifacts.atomic import explained, write_bytes, write_text
from sparsity_lab.artifacts.leases import Lease
from sparsity_lab.artifacts.paths import Layout
from sparsity_lab.artifacts.records import CurvePoint, Stopped
from sparsity_lab.artifacts.store import Store
from sparsity_lab.errors import RecordError, refusing
from sparsity_lab.sweep.jobs import Done, Event, Failed, Job, Progressed, Workplace

KINDS: Mapping[str, type[Progressed | Done | Failed]] = {one.__name__: one for one in (Progressed, Done, Failed)}
DRIVER = "driver"


@dataclass(frozen=True)
class LeaseFiles:
    """Leases as files of a folder by name; see `artifacts.leases.Book`."""

    folder: Path

    def claim(self, name: str, lease: Lease) -> bool:
        """Make a thing that nobody holds one's own; False when another process was first."""
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(json.dumps(lease.json()))
        except FileExistsError:
            return False
        except OSError as error:
            raise explained(error, path) or error from error
        return True

    def renew(self, name: str, lease: Lease) -> bool:
        """Write a lease."""
        write_text(self._path(name), json.dumps(lease.json()))
        return True

    def lease(self, name: str) -> Lease | None:
        """The lease as it stands; None without one, and for a claim whose holder was lost before it wrote it."""
        with contextlib.suppress(Exception):
            return Lease.of(json.loads(self._path(name).read_text(encoding="utf-8")))
        return None

    def release(self, name: str) -> bool:
        """Let others claim it."""
        self._path(name).unlink(missing_ok=True)
        return True

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"


@dataclass(frozen=True)
class SweepWork:
    """What a sweep is to do: its jobs in the order in which they are begun, and where."""

    jobs: tuple[Job, ...]
    place: Workplace


@dataclass
class Board:
    """The files of one sweep; whoever has the folder takes part."""

    folder: Path
    _read: dict[Path, int] = field(default_factory=dict)
    """how far each worker's events have been read, bytes"""

    @classmethod
    def new(cls, jobs: Sequence[Job], place: Workplace) -> Board:
        """Write a sweep down.

        Raises:
            MachineError: the disk is full, or the folder cannot be written.
        """
        board = cls(
            place.layout.sweeps / f"{place.home.name}-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**6}"
        )
        write_bytes(board.folder / "work.pickle", pickle.dumps(SweepWork(tuple(jobs), place)))
        return board

    @classmethod
    def all_in(cls, layout: Layout) -> list[Board]:
        """Every sweep of a project, the newest last."""
        found = []
        for path in layout.sweeps.glob("*/work.pickle"):
            with contextlib.suppress(FileNotFoundError):  # another process has just removed it
                found.append((path.parent.stat().st_mtime, path.parent))
        return [cls(folder) for _, folder in sorted(found)]

    @cached_property
    def work(self) -> SweepWork:
        """What is to be done.

        Raises:
            RecordError: it was written by another version.
        """
        with refusing(self.folder, RecordError):
            work: SweepWork = pickle.loads((self.folder / "work.pickle").read_bytes())  # noqa: S301 - our own file
        return work

    @property
    def driver(self) -> LeaseFiles:
        """Whose book holds the lease `DRIVER` of the process that waits for the sweep."""
        return LeaseFiles(self.folder)

    @property
    def left_to_itself(self) -> bool:
        """Whether no process waits for it."""
        return self.driver.lease(DRIVER) is None

    @property
    def log(self) -> Path:
        """What submitit and the workers write."""
        return self.folder / "log"

    @property
    def last_words(self) -> str:
        """The last line of the task that said something last; empty where none did."""
        logs = sorted(self.log.glob("*.err"), key=lambda path: path.stat().st_mtime)
        return last_line(logs[-1].read_text(encoding="utf-8", errors="replace")) if logs else ""

    @property
    def cancelled(self) -> bool:
        """Whether every worker is to write its checkpoint and leave."""
        return (self.folder / "cancelled").exists()

    def cancel(self) -> None:
        """Tell every worker to write its checkpoint and leave, now and if it starts later."""
        write_text(self.folder / "cancelled", "")

    @property
    def arrays(self) -> list[str]:
        """The identities of the job arrays that were submitted, in order."""
        path = self.folder / "arrays"
        return path.read_text(encoding="utf-8").split() if path.is_file() else []

    def add_array(self, identity: str) -> None:
        """Note a job array."""
        write_text(self.folder / "arrays", "".join(f"{one}\n" for one in [*self.arrays, identity]))

    def remove(self) -> None:
        """Forget the sweep; records and checkpoints of its runs stay."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def has(self, job: Job) -> bool:
        """Whether a run lies at home with all that was asked for."""
        place = self.work.place
        return (
            Store(place.home).folder(job.fingerprint, with_weights=place.keep_weights or job.keep_weights) is not None
        )

    @property
    def over(self) -> bool:
        """Whether its workers have nothing left to do, though some may not have ended yet."""
        return self.cancelled or all(self.has(job) or self.ended(job.fingerprint) for job in self.work.jobs)

    def ended(self, fingerprint: str) -> Event | None:
        """How a run ended without a record; None where it did not."""
        try:
            return event_of((self.folder / "ended" / f"{fingerprint}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def end(self, event: Failed | Stopped) -> None:
        """Write down that a run ended without a record."""
        write_text(self.folder / "ended" / f"{event.fingerprint}.json", line_of(event))

    def lose(self, fingerprint: str) -> int:
        """Note that the worker of a run was lost; how often that was by now."""
        path = self.folder / "losses" / fingerprint
        path.parent.mkdir(exist_ok=True)
        with path.open("ab") as file:
            file.write(b".")
            return file.tell()

    @property
    def lives(self) -> int:
        """How many workers have begun so far, those counted twice that began again."""
        return sum(1 for _ in (self.folder / "events").glob("*.jsonl"))

    def events_of(self, life: str) -> Path:
        """The file of what a worker tells."""
        path = self.folder / "events" / f"{life}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        return path

    def news(self) -> Iterator[Event]:
        """What the workers have told since this was last asked; a line that is being written is left for later."""
        for path in sorted((self.folder / "events").glob("*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                whole = file.read().rpartition(b"\n")[0]
            if whole:
                self._read[path] = self._read.get(path, 0) + len(whole) + 1
                yield from map(event_of, whole.decode().splitlines())


def line_of(event: Event) -> str:
    """An event as a line of JSON."""
    content = event.model_dump(mode="json") if isinstance(event, Stopped) else asdict(event)
    return json.dumps({"kind": type(event).__name__, **content}, default=vars)


def event_of(line: str) -> Event:
    """The event of a line of JSON."""
    content: dict[str, Any] = json.loads(line)
    kind = content.pop("kind")
    if "points" in content:
        content["points"] = tuple(CurvePoint(**point) for point in content["points"])
    return Stopped.model_validate(content) if kind == Stopped.__name__ else KINDS[kind](**content)


def last_line(text: str) -> str:
    """The last line that holds anything."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "").strip()
