"""The content-addressed store: a finished run is never trained twice, by any study, trial or machine.

A store writes to one folder and reads from several. A run is a folder named by its fingerprint that holds
`record.json`, written last: a run without its record does not exist. The checkpoint of an unfinished run lies
elsewhere, with a note of the store that it is for.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sparsity_lab.artifacts.atomic import locked, replacing, write_text
from sparsity_lab.artifacts.index import LEAST, Index
from sparsity_lab.artifacts.paths import CLAIM, RECORD, WEIGHTS, Layout
from sparsity_lab.artifacts.records import RunRecord, read_run, write_record


@dataclass(frozen=True)
class Store:
    """Runs by fingerprint: written to `home`, found in `home` first and then in `others`."""

    home: Path
    others: tuple[Path, ...] = ()

    def find(self, fingerprint: str) -> RunRecord | None:
        """The record of a run, or None when nobody has made it.

        Raises:
            RecordError: a record is damaged, or lies under a name that is not its own.
        """
        folder = self.folder(fingerprint)
        return None if folder is None else read_run(folder)

    def get(self, fingerprint: str) -> RunRecord:
        """The record of a run that is known to be there."""
        record = self.find(fingerprint)
        assert record is not None, f"run {fingerprint} is not in {self.home}"
        return record

    def folder(self, fingerprint: str, *, with_weights: bool = False) -> Path | None:
        """Where a run lies, or None; `with_weights` passes over a finished run without its final weights."""
        for place in (self.home, *self.others):
            if _complete(f"{place}/{fingerprint}", with_weights=with_weights):
                return place / fingerprint
        return None

    def weights(self, fingerprint: str) -> Path | None:
        """The final weights of a run, or None where nobody kept them."""
        folder = self.folder(fingerprint, with_weights=True)
        return folder / WEIGHTS if folder is not None and (folder / WEIGHTS).is_file() else None

    def put(self, record: RunRecord) -> Path:
        """Write a record to its place at home, atomically."""
        path = self.home / record.fingerprint / RECORD
        write_record(record, path)
        return path

    def settle(self, made: RunRecord, layout: Layout) -> RunRecord:
        """Put the record of a run; of one that was trained again, for its weights, to equal bits, the first stays.

        In a project that DVC made for an experiment, which goes with it, the run is kept in the original too.
        """
        known = self.find(made.fingerprint)
        record = made if known is None or known.losses() != made.losses() else known
        self.put(record)
        if layout.original is not layout:
            copy_run(self.home / made.fingerprint, layout.archive / made.fingerprint)
        return record

    def adopt(self, fingerprint: str, *, with_weights: bool = False) -> bool:
        """Make sure that a run lies at home, copying it from elsewhere; False when nobody has it, as `folder`."""
        folder = self.folder(fingerprint, with_weights=with_weights)
        if folder is not None and folder.parent != self.home:
            copy_run(folder, self.home / fingerprint)
        return folder is not None

    def keep_only(self, fingerprints: Iterable[str], archive: Path) -> int:
        """Move every other run from home to `archive`; returns how many moved."""
        wanted = set(fingerprints)
        runs = _runs(self.home)
        surplus = [name for name in runs if name not in wanted]
        for name in surplus:
            copy_run(self.home / name, archive / name)
            shutil.rmtree(self.home / name)
        for name in runs:
            for leftover in _unfinished(f"{self.home}/{name}") if name in wanted else ():
                leftover.unlink(missing_ok=True)
        return len(surplus)

    def find_all(self, fingerprints: Iterable[str]) -> list[RunRecord | None]:
        """As `find`, of many runs; their long parts stay in their files (`IndexedRecord`)."""
        names = list(fingerprints)
        if len(names) < LEAST:
            return [self.find(name) for name in names]
        found: dict[str, RunRecord] = {}
        for place in (self.home, *self.others):
            left = [name for name in names if name not in found]
            if left:
                index = Index.of(place)
                there = [name for name in left if name in index.stamps]
                found.update(zip(there, index.records(there), strict=True))
        return [found.get(name) for name in names]

    def records(self) -> list[RunRecord]:
        """Every record at home, in order of fingerprint; the long parts of many stay in their files."""
        index = Index.of(self.home)
        return index.records(list(index.stamps))


def all_homes(layout: Layout) -> tuple[Path, ...]:
    """Every folder of the project that holds runs: all studies' grids and searches, and the archive.

    In a copy that DVC made for an experiment, those of the original too.
    """
    roots = dict.fromkeys((layout.root, layout.original.root))
    grids, searches = (
        [place for one in roots for place in sorted((one / name).glob("*")) if place.is_dir()]
        for name in ("runs", "search")
    )
    return (*grids, *searches, layout.archive)


def copy_run(source: Path, target: Path) -> None:
    """Copy a run's folder, its record last, so that an interrupted copy is no run; half-written files stay behind."""
    whole = (f for f in source.iterdir() if f.is_file() and not f.name.startswith("."))
    files = sorted(whole, key=lambda f: f.name == RECORD)
    for file in files:
        with replacing(target / file.name) as temporary:
            shutil.copyfile(file, temporary)
            temporary.chmod(0o644)


def _runs(home: Path) -> list[str]:
    if not home.is_dir():
        return []
    with os.scandir(home) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir())


def _unfinished(folder: str) -> list[Path]:
    """Files that were being written when their writer died."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - of every run
    except FileNotFoundError:
        return []
    return [Path(folder, name) for name in names if name.startswith(".") and name.endswith(".tmp")]


def _complete(folder: str, *, with_weights: bool) -> bool:
    """Asked of every run in every place: a `Path` would take longer to make than the answer."""
    if not os.path.exists(f"{folder}/{RECORD}"):  # noqa: PTH110 - one that is no file is refused when it is read
        return False
    return not with_weights or Path(folder, WEIGHTS).is_file() or not read_run(Path(folder)).finished


def claim(layout: Layout, fingerprint: str, home: Path) -> None:
    """Note that a run is trained for the store at `home`."""
    write_text(layout.claim(fingerprint), f"{home.resolve()}\n")


def claims(layout: Layout) -> dict[Path, str]:
    """The store that each run under way is trained for, by the run's folder; a claim that just went is passed over."""
    found = {}
    for note in layout.scratch.glob(f"*/{CLAIM}"):
        with suppress(OSError):
            found[note.parent] = note.read_text(encoding="utf-8").strip()
    return found


def clear_scratch(layout: Layout, home: Path, keep: Collection[str] = ()) -> int:
    """Remove the checkpoints that the store at `home`, once complete, has no more use for; returns how many.

    They were left by runs that an edit of the spec dropped before they were finished. Checkpoints of other stores
    stay, and so do those of runs that are under way, and of those named in `keep`: given up, but not dropped.
    """
    ours = [
        folder for folder, store in claims(layout).items() if store == str(home.resolve()) and folder.name not in keep
    ]
    for folder in layout.scratch.glob("*"):
        if folder.is_dir() and not any(folder.iterdir()):  # a kill came between its last file and the folder
            _removed(layout, folder)
    return sum(_removed(layout, folder) for folder in ours)


def _removed(layout: Layout, folder: Path) -> bool:
    with locked(layout.run_lock(folder.name), wait=False) as free:
        if free:
            shutil.rmtree(folder, ignore_errors=True)
        return free
