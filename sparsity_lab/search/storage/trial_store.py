"""The search's memory: trials in a storage that Optuna and its dashboard read.

A trial belongs to a slot, its place in its study's order. It comes into being with all that decides its run, waits to
be claimed, is claimed by one process, and is told its outcome once. Of several trials of one slot, made by processes
that planned the same round at once, the one with the lowest number is real; the others are told FAIL and never run.
Reading never writes, so a search with nothing to do leaves its storage's bytes as they were.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import Study, StudyDirection, load_study
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import OperationalError

from sparsity_lab.artifacts.leases import Lease
from sparsity_lab.errors import InputError, MachineError, RecordError, SparsityLabError, refusing
from sparsity_lab.search.storage.backends import (
    Database,
    Opened,
    SqliteFile,
    StoragePlace,
    explained,
    open_reader,
    open_writer,
    place_of,
    roll_back,
)
from sparsity_lab.search.storage.trials import LEASE, RECORD, RUN, Proposal, StoredTrial, StudyTrials, TrialOutcome


class TrialStore:
    """Trials by the name of their Optuna study; a context manager that closes what it opened.

    Args:
        location: path of an SQLite file or, ending in .journal or .log, of a journal; or a database's URL.
        check: raises where what is stored of a trial is not what its readers count on; a storage is a user's file.

    Every method raises RecordError for a storage that cannot be read, MachineError for one that cannot be reached or
    written.
    """

    def __init__(self, location: str | Path, check: Callable[[StoredTrial], object] = id) -> None:
        self.check = check
        self._checked: set[tuple[str, int]] = set()
        """finished trials, which do not change any more"""
        self.place: StoragePlace = place_of(location)
        self._reader: Opened | None = None
        self._studies: dict[str, Study] = {}
        """studies that have been read; they remember finished trials"""
        self._writer: Opened | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for opened in (self._reader, self._writer):
            if opened is not None:
                opened.close()
        self._reader = self._writer = None
        self._studies.clear()

    def read(self, names: Iterable[str]) -> dict[str, StudyTrials]:
        """Trials of ours; what someone else enqueued or runs in the storage is passed over."""
        try:
            return self._read(names)
        except SparsityLabError:
            raise
        except Exception as error:
            if not isinstance(self.place, SqliteFile):
                raise self._unreadable(error) from error
        try:  # a kill may have left a write half done, which a file opened for reading only cannot undo
            roll_back(self.place.path)
            return self._read(names)
        except Exception as error:
            raise self._unreadable(error) from error

    def enqueue(self, study: str, proposal: Proposal, objectives: int = 1) -> int:
        """Add a trial that waits to be claimed, and its study if it is the first; returns the trial's identity."""
        with self._writing() as storage:
            return storage.create_new_trial(_study(storage, study, objectives), proposal.trial(TrialState.WAITING))

    def claim(self, trial: StoredTrial, lease: Lease) -> bool:
        """Make a waiting trial one's own; False when another process was first."""
        return self._unless_finished(
            lambda storage: storage.set_trial_state_values(trial.identity, TrialState.RUNNING)
        ) and self.renew(trial, lease)

    def renew(self, trial: StoredTrial, lease: Lease) -> bool:
        """Write a lease; False when the trial is finished."""
        return self._unless_finished(
            lambda storage: storage.set_trial_user_attr(trial.identity, LEASE, lease.json()) is None
        )

    def lease(self, trial: StoredTrial) -> Lease | None:
        """The lease of a trial as it stands."""
        with self._writing() as storage:
            return Lease.of(storage.get_trial(trial.identity).user_attrs.get(LEASE))

    def release(self, trial: StoredTrial) -> bool:
        """Let a claimed trial wait again, without a lease that its next holder could be mistaken by.

        False when it is finished.
        """

        def let_go(storage: BaseStorage) -> bool:
            storage.set_trial_user_attr(trial.identity, LEASE, None)
            return storage.set_trial_state_values(trial.identity, TrialState.WAITING)

        return self._unless_finished(let_go)

    def finish(self, trial: StoredTrial, outcome: TrialOutcome) -> bool:
        """Tell a trial's outcome; False when another process has told it."""

        def tell(storage: BaseStorage) -> bool:
            if outcome.record is not None:
                storage.set_trial_system_attr(trial.identity, RECORD, outcome.record)
            storage.set_trial_user_attr(trial.identity, RUN, dict(outcome.facts))
            return storage.set_trial_state_values(trial.identity, outcome.state, outcome.values)

        return self._unless_finished(tell)

    def dismiss(self, trial: StoredTrial) -> bool:
        """Tell a double FAIL; False when another process has."""
        return self._unless_finished(lambda storage: storage.set_trial_state_values(trial.identity, TrialState.FAIL))

    def _read(self, names: Iterable[str]) -> dict[str, StudyTrials]:
        known = {name: StudyTrials.of(name, self._trials(name)) for name in names}
        for trial in (trial for study in known.values() for trial in study.real.values()):
            if (trial.study, trial.number) not in self._checked:
                with refusing(self.place, RecordError, f"trial {trial.number} of {trial.study} is damaged"):
                    self.check(trial)
                if trial.outcome:
                    self._checked.add((trial.study, trial.number))
        return known

    def _trials(self, name: str) -> Sequence[FrozenTrial]:
        self._reader = self._reader or open_reader(self.place)
        if self._reader is None:
            return ()
        if name not in self._studies:
            try:
                self._studies[name] = load_study(study_name=name, storage=self._reader.storage)
            except KeyError:
                return ()
        return self._studies[name].get_trials(deepcopy=False)

    def _unless_finished(self, act: Callable[[BaseStorage], bool]) -> bool:
        with self._writing() as storage:
            try:
                return act(storage)
            except UpdateFinishedTrialError:
                return False

    @contextlib.contextmanager
    def _writing(self) -> Iterator[BaseStorage]:
        try:
            self._writer = self._writer or open_writer(self.place)
            yield self._writer.storage
        except SparsityLabError:
            raise
        except Exception as error:
            raise MachineError(
                f"the search's storage cannot be written: {explained(error)}", where=self.place
            ) from error

    def _unreadable(self, error: BaseException) -> InputError:
        refused = any(isinstance(layer, OperationalError) for layer in (error, error.__cause__))
        if refused and isinstance(self.place, Database):
            return MachineError(f"cannot be reached: {explained(error)}", where=self.place)
        journal = self._reader.journal if self._reader else None
        if journal is not None and journal.line:
            return journal.damaged(explained(error))
        return RecordError(f"is no search storage that can be read: {explained(error)}", where=self.place)


def _study(storage: BaseStorage, name: str, objectives: int) -> int:
    """The study of a name, created if it is missing."""
    with contextlib.suppress(KeyError):
        return storage.get_study_id_from_name(name)
    try:
        return storage.create_new_study([StudyDirection.MINIMIZE] * objectives, name)
    except DuplicatedStudyError:
        return storage.get_study_id_from_name(name)
