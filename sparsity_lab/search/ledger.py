"""The search's memory: finished trials in one SQLite file that Optuna and its dashboard read.

A trial is written once, when its run has an answer, in one transaction. A process killed at any moment therefore leaves
no trial half told and none that waits for an answer. Reading never writes, so a search with nothing to do leaves the
file's bytes as they were.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import URL
from sqlalchemy.exc import DatabaseError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.searches import Source
from sparsity_lab.errors import MachineError, RecordError
from sparsity_lab.search.sampler import SPARSITY, distribution
from sparsity_lab.search.space import Space

SLOT, SOURCE = "slot", "source"


@dataclass(frozen=True)
class Entry:
    """A finished trial of one budget.

    Attributes:
        slot: its place in the budget's order of trials; 0 is the dense anchor.
        sparsity: as asked, a multiple of the resolution.
        source: who asked.
    """

    slot: int
    sparsity: float
    source: Source

    def trial(self, record: RunRecord, space: Space) -> FrozenTrial:
        """What Optuna is told: the loss, or for a diverged run that it was stopped early, which samplers avoid."""
        attributes = {
            SLOT: self.slot,
            SOURCE: self.source,
            "fingerprint": record.fingerprint,
            "sparsity": record.sparsity,
            "data": record.data,
            "loss": record.loss if record.finished else None,
        }
        return create_trial(
            state=TrialState.COMPLETE if record.finished else TrialState.PRUNED,
            value=record.loss if record.finished else None,
            params={SPARSITY: self.sparsity},
            distributions={SPARSITY: distribution(space)},
            user_attrs=attributes if record.finished else {**attributes, "reason": record.reason},
        )


@dataclass(frozen=True)
class Ledger:
    """Trials by the name of their Optuna study, in the SQLite file at `path`."""

    path: Path

    def read(self, names: Iterable[str]) -> dict[str, dict[int, Entry]]:
        """The finished trials of each study by slot; none when the file or the study does not exist.

        Raises:
            RecordError: the file is no storage of this version of Optuna.
        """
        if not self.path.is_file():
            return {name: {} for name in names}
        with self._reading() as storage:
            known = {study.study_name: study._study_id for study in storage.get_all_studies()}  # noqa: SLF001
            return {name: _by_slot(storage.get_all_trials(known[name])) if name in known else {} for name in names}

    def write(self, trials: Mapping[str, Sequence[FrozenTrial]]) -> None:
        """Add finished trials to studies, each in a transaction of its own, creating what is missing.

        Raises:
            MachineError: the file cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _opened(self.path, "rwc") as storage:
                for name, news in trials.items():
                    optuna.create_study(storage=storage, study_name=name, load_if_exists=True).add_trials(news)
        except (StorageInternalError, SQLAlchemyError, OSError) as error:
            raise MachineError(f"the search's storage cannot be written: {_cause(error)}", where=self.path) from error

    @contextlib.contextmanager
    def _reading(self) -> Iterator[RDBStorage]:
        """The storage, read-only if it can be: one that a kill left in mid-write must first be put right."""
        try:
            with contextlib.ExitStack() as stack:
                try:
                    storage = stack.enter_context(_opened(self.path, "ro"))
                except (OperationalError, StorageInternalError):
                    storage = stack.enter_context(_opened(self.path, "rwc"))
                yield storage
        except (DatabaseError, StorageInternalError, RuntimeError) as error:
            raise RecordError(f"is no search storage that can be read: {_cause(error)}", where=self.path) from error


def _by_slot(trials: Iterable[FrozenTrial]) -> dict[int, Entry]:
    """Trials of ours; what someone else enqueued or left running in the file is passed over."""
    ours = (trial for trial in trials if trial.state.is_finished() and SLOT in trial.user_attrs)
    entries = (Entry(t.user_attrs[SLOT], t.params[SPARSITY], t.user_attrs[SOURCE]) for t in ours)
    return {entry.slot: entry for entry in entries}


@contextlib.contextmanager
def _opened(path: Path, mode: Literal["ro", "rwc"]) -> Iterator[RDBStorage]:
    """SQLite at `path`; no connection outlives the context."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = URL.create("sqlite", database=f"file:{quote(str(path.absolute()))}", query={"mode": mode, "uri": "true"})
    storage = RDBStorage(str(url), engine_kwargs={"poolclass": NullPool}, skip_table_creation=mode == "ro")
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _cause(error: BaseException) -> str:
    """The first line of what the database said, below the layers that passed it on."""
    below = error.__cause__ or error
    return str(getattr(below, "orig", None) or below).splitlines()[0]
