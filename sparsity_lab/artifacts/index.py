"""An index beside the records: what tables need of every run, so that ten thousand records are not read anew each time.

It lies on this machine only and is never trusted over the records. A row counts as long as its `record.json` is the
file that was read, by size, times and inode; whatever else is there is read, and its row replaced. An index that is
damaged, or of another version of the package, is made anew without a word: deleting it changes nothing but time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import PrivateAttr, ValidationError

from sparsity_lab.artifacts.atomic import locked, write_bytes
from sparsity_lab.artifacts.paths import RECORD, index_of
from sparsity_lab.artifacts.records import LONG, RunRecord, read_run
from sparsity_lab.errors import MachineError, RecordError

if TYPE_CHECKING:
    import pyarrow as pa

LEAST = 500
"""fewer records than this are read as quickly as an index is"""
BATCH = 1_000
"""records that are held whole at a time while rows are made of them"""
SETTLED = 1_000_000_000
"""ns; a younger file might change once more without a later time, and gets no row that stays"""


class Stamp(NamedTuple):
    """By what a file is known to be the one that was read."""

    size: int
    modified: int
    """ns"""
    changed: int
    """ns, which nobody can set back"""
    inode: int


class IndexedRecord(RunRecord):
    """A record whose long parts are read from its file when somebody asks for them."""

    _home: Path = PrivateAttr()

    def __getattr__(self, name: str) -> Any:
        if name not in LONG:
            return super().__getattr__(name)  # type: ignore[misc]  # pydantic has it, for private attributes
        whole = self.whole()
        self.__dict__.update({part: getattr(whole, part) for part in LONG})
        return self.__dict__[name]

    def whole(self) -> RunRecord:
        """The record as its file has it now.

        Raises:
            RecordError: it has gone or been damaged since.
        """
        return read_run(self._home / self.fingerprint)

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """As of the whole record."""
        return self.whole().model_dump(**options)

    def model_dump_json(self, **options: Any) -> str:
        """As of the whole record."""
        return self.whole().model_dump_json(**options)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunRecord) and self.whole() == other.whole()

    def __hash__(self) -> int:
        return hash(self.whole())


@dataclass(frozen=True)
class Index:
    """The records of one folder of runs.

    Attributes:
        home: the folder.
        stamps: of every `record.json` in it, by fingerprint.
        rows: of those that can be read; None where they are too few to be worth it.
        place: number of each run's row.
    """

    home: Path
    stamps: Mapping[str, Stamp]
    rows: pa.Table | None
    place: Mapping[str, int]

    @classmethod
    def of(cls, home: Path) -> Index:
        """What lies in a folder now; the index on disk is brought up to date where it can be written."""
        began, stamps, path = time.time_ns(), stamps_of(home), index_of(home)
        if len(stamps) < LEAST or path is None:
            return cls(home, stamps, None, {})
        from sparsity_lab.artifacts import index_rows  # noqa: PLC0415 - small stores need no pyarrow

        known = index_rows.load(path)
        fresh = {stamp: row for row, stamp in enumerate(index_rows.stamps(known))}
        kept = [fresh[name, *stamp] for name, stamp in stamps.items() if (name, *stamp) in fresh]
        new = [name for name, stamp in stamps.items() if (name, *stamp) not in fresh]
        rows = index_rows.joined(known, kept, _read(home, stamps, new))
        lasting = index_rows.settled(rows, before=began - SETTLED)
        if not len(kept) == known.num_rows == lasting.num_rows:
            _write(path, lasting)
        return cls(home, stamps, rows, {name: row for row, name in enumerate(rows["fingerprint"].to_pylist())})

    def records(self, names: Sequence[str]) -> list[RunRecord]:
        """The records of runs that lie here, in the order of their names.

        Raises:
            RecordError: a record is damaged, or lies under a name that is not its own.
        """
        known: dict[str, RunRecord] = {}
        if self.rows is not None:
            from sparsity_lab.artifacts import index_rows  # noqa: PLC0415

            places = [self.place[name] for name in names if name in self.place]
            with suppress(ValidationError):  # of a row that other code of this version wrote
                made = index_rows.records(IndexedRecord, self.rows, places, _home=self.home)
                known = {record.fingerprint: record for record in made}
        return [known.get(name) or read_run(self.home / name) for name in names]


def stamps_of(home: Path) -> dict[str, Stamp]:
    """A stamp of every record below a folder, by the name that it lies under, in order of name."""
    if not home.is_dir():
        return {}
    with os.scandir(home) as entries:
        names = sorted(entry.name for entry in entries)
    found = ((name, _stamp(f"{home}/{name}/{RECORD}")) for name in names)
    return {name: stamp for name, stamp in found if stamp is not None}


def _stamp(path: str) -> Stamp | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - a hundred thousand of them
    except OSError:
        return None
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def _read(home: Path, stamps: Mapping[str, Stamp], names: Sequence[str]) -> Iterable[pa.Table]:
    """Rows of records, a batch at a time; what cannot be read gets none, and is refused when it is asked for."""
    from sparsity_lab.artifacts import index_rows  # noqa: PLC0415

    for first in range(0, len(names), BATCH):
        found = []
        for name in names[first : first + BATCH]:
            with suppress(RecordError):
                found.append((stamps[name], read_run(home / name)))
        yield index_rows.rows_of(found)


def _write(path: Path, rows: pa.Table) -> None:
    """Where another process writes it, or nobody can, it stays as it is."""
    from sparsity_lab.artifacts import index_rows  # noqa: PLC0415

    with suppress(OSError, MachineError), locked(path.with_suffix(".lock"), wait=False) as mine:
        if mine:
            for leftover in path.parent.glob(f".{path.name}.*.tmp"):
                leftover.unlink()
            write_bytes(path, index_rows.packed(rows))
