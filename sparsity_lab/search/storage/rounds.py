"""A round of a search, run by any number of processes: write down, claim, run, tell, and wait for the others.

Which trials a round has follows from the finished rounds before it, so every process finds the same ones. Whoever comes
first writes them down; after that each process claims trials that wait, or that a dead process left, until all are
finished.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from secrets import SystemRandom

from sparsity_lab.artifacts.leases import Holder, Lease, Owner, Timeouts, Watch
from sparsity_lab.search.storage.trial_store import TrialStore
from sparsity_lab.search.storage.trials import Proposal, StoredTrial, TrialOutcome

RunTrials = Callable[[Sequence[StoredTrial]], Sequence[TrialOutcome]]
"""runs the trials claimed, and returns their outcomes in the same order"""
Propose = Callable[[str], Iterable[Proposal]]
"""a round's trials of one study: a pure function of the finished rounds before"""
Slots = Mapping[str, Sequence[int]]
"""a round's slots of each study, by the study's name"""

CHANCE = SystemRandom()
GROWTH = 1.2
"""of the pauses of a process that waits: it looks again after about a fifth of the time that it has waited already"""


@dataclass(eq=False)
class RoundWorker:
    """One process of a search.

    Attributes:
        store: where all processes of the search meet.
        run_trials: runs claimed trials.
        most: trials claimed at a time; None for all there are, which leaves other processes none.
        objectives: how many values a trial has.
        timeouts: of waiting for others.
        owner: this process.
    """

    store: TrialStore
    run_trials: RunTrials
    most: int | None = None
    objectives: int = 1
    timeouts: Timeouts = field(default_factory=Timeouts)
    owner: Owner = field(default_factory=Owner.here)

    def __post_init__(self) -> None:
        self._watch = Watch(self.timeouts.grace)
        self._holder = Holder(self.store, self.timeouts, self.owner)
        self._pause = self.timeouts.poll
        self._leads = True
        """whether it is up to this process to write the round down"""
        self._missing = (0, time.monotonic())
        """how many trials are yet to be written down, and since when that number has not changed"""

    def run(self, slots: Slots, propose: Propose) -> dict[str, list[StoredTrial]]:
        """Take part in a round until all its trials are finished.

        Args:
            slots: what the round consists of.
            propose: asked for the trials of a study when some are not written down yet.

        Returns:
            The finished trials of each study, in order of their slots.

        Raises:
            MachineError: the storage cannot be written; what is finished stays so.
            RecordError: the storage is damaged.
        """
        while True:
            known = self._read(slots)
            trials = [trial for study in known.values() for trial in study.values()]
            missing = {study: set(asked) - known[study].keys() for study, asked in slots.items()}
            if not any(missing.values()) and all(trial.outcome for trial in trials):
                self._leads = self._told_last(trials)
                return {study: [known[study][slot] for slot in asked] for study, asked in slots.items()}
            if self._should_write(sum(map(len, missing.values()))):
                self._leads = self._write_down(missing, propose)
            elif mine := self._claimed(trials):
                self._work(mine)
            else:
                self._wait()

    def _told_last(self, trials: Sequence[StoredTrial]) -> bool:
        """Whether this process ended the round, or one that is no more did: it writes the next one down.

        Everyone sees the same trial as the last, so that processes seldom write down the same.
        """
        lease = max(trials, key=lambda trial: (trial.ended, trial.identity)).lease
        return lease is None or lease.owner == self.owner or lease.owner.gone

    def _should_write(self, missing: int) -> bool:
        """Whether trials are missing that this process, or for too long nobody, writes down."""
        before, since = self._missing
        now = time.monotonic()
        if missing != before:
            self._missing = missing, (since := now)
        return missing > 0 and (self._leads or now - since >= self.timeouts.settle)

    def _read(self, slots: Slots) -> dict[str, dict[int, StoredTrial]]:
        """The round's real trials as they stand; doubles are told so."""
        known = self.store.read(slots)
        for study in known.values():
            for double in study.doubles:
                self.store.dismiss(double)
        return {
            study: {s: known[study].real[s] for s in asked if s in known[study].real} for study, asked in slots.items()
        }

    def _write_down(self, missing: Mapping[str, set[int]], propose: Propose) -> bool:
        """Add the missing trials; False as soon as another process turns out to be doing it too."""
        for study, wanted in missing.items():
            proposals = propose(study) if wanted else ()
            for proposal in (each for each in proposals if each.slot in wanted):
                identity = self.store.enqueue(study, proposal, self.objectives)
                if self.store.read([study])[study].real[proposal.slot].identity != identity:
                    return False
        return True

    def _claimed(self, trials: Sequence[StoredTrial]) -> list[StoredTrial]:
        """Trials that are now this process's: such as wait, then such as have been abandoned."""
        waiting = [trial for trial in trials if trial.state == "waiting"]
        if self.most is not None:
            CHANCE.shuffle(waiting)  # else all processes would go for the same one
        mine = list(islice((trial for trial in waiting if self.store.claim(trial, Lease(self.owner))), self.most))
        running = [trial for trial in trials if trial.state == "running"]
        stale = [trial for trial in running if self._watch.is_stale((trial.study, trial.number), trial.lease)]
        left = None if self.most is None else self.most - len(mine)
        return mine + self._holder.taken_over([(trial, trial.lease) for trial in stale[:left]])

    def _work(self, mine: Sequence[StoredTrial]) -> None:
        """Run claimed trials and tell their outcomes; whatever goes wrong, others may claim them at once."""
        with self._holder.holding(mine):
            for trial, outcome in zip(mine, self.run_trials(mine), strict=True):
                self.store.finish(trial, outcome)
        self._pause = self.timeouts.poll

    def _wait(self) -> None:
        """Pause, for longer each time until there is work again."""
        time.sleep(self._pause * CHANCE.uniform(0.5, 1.5))
        self._pause = min(GROWTH * self._pause, self.timeouts.longest)
