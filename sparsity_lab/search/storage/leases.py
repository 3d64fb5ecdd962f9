"""Who works on a trial, and whether they still do.

A process that claims a trial writes its lease into the trial's attributes and renews it from a thread, while it trains.
A lease is stale when it has not changed for a while on the reader's own clock, so that machines need no common time, or
at once when its holder was a process of this machine and is no more.

Optuna's storages have no compare-and-swap for attributes. A stale lease is therefore taken over as in Fischer's mutual
exclusion: write one's own, wait for longer than a write takes, and go on if it is still there. Should two processes
nevertheless train one run (a holder that slept through its lease wakes up), they find the same result, and only the
first can tell it: a finished trial cannot be changed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Timeouts:
    """How long processes of one search wait for each other, all in seconds.

    Attributes:
        beat: between two renewals of a lease.
        grace: without a renewal after which a lease is stale.
        settle: between taking a lease over and trusting that no one else did, and before doing what another process
            was expected to do; longer than a write takes.
        poll: first pause before looking again what others have done; pauses grow up to `longest`.
        longest: longest pause.
    """

    beat: float = 15.0
    grace: float = 60.0
    settle: float = 1.0
    poll: float = 0.1
    longest: float = 5.0

    def __post_init__(self) -> None:
        if not 0 < 2 * self.beat <= self.grace:
            raise ValueError(f"a lease must outlive two beats: beat {self.beat}, grace {self.grace}")


@dataclass(frozen=True)
class Owner:
    """A process, told from every other one, past and present."""

    machine: str
    process: int
    born: str
    """when the process started, as the machine's kernel counts; tells apart processes with one number"""
    name: str
    """unlike that of any other owner, be it of the same process"""
    host: str = ""
    """what people call the machine"""

    @classmethod
    def here(cls) -> Owner:
        """This process."""
        process = os.getpid()
        return cls(_machine(), process, _born(process) or "", uuid.uuid4().hex[:12], platform.node())

    @property
    def gone(self) -> bool:
        """Whether it surely runs no more; of processes elsewhere nothing is sure."""
        return self.machine == _machine() and _born(self.process) != self.born


@dataclass(frozen=True)
class Lease:
    """A claim that must be renewed."""

    owner: Owner
    beat: int = 0
    at: float = field(default_factory=time.time)
    """when it was written, seconds since 1970 by the owner's clock: for people, who know whether to trust it"""

    def renewed(self) -> Lease:
        """The same claim, a beat later."""
        return Lease(self.owner, self.beat + 1)

    def json(self) -> dict[str, Any]:
        """As it is stored."""
        return {"owner": vars(self.owner), "beat": self.beat, "at": self.at}

    @classmethod
    def of(cls, stored: Mapping[str, Any] | None) -> Lease | None:
        """What was stored."""
        if stored is None:
            return None
        return cls(Owner(**stored["owner"]), stored["beat"], stored["at"])


@dataclass(eq=False)
class Watch:
    """What one process has seen of leases, by its own clock.

    Attributes:
        grace: seconds without a change after which a lease is stale.
        clock: seconds since any fixed moment.
    """

    grace: float
    clock: Callable[[], float] = time.monotonic
    _seen: dict[Hashable, tuple[Lease | None, float]] = field(default_factory=dict)

    def is_stale(self, trial: Hashable, lease: Lease | None) -> bool:
        """Whether the holder of a trial that is being worked on has given no sign of life for too long.

        Args:
            trial: which.
            lease: as it stands; None where a claim was never followed by a lease.
        """
        now = self.clock()
        last, since = self._seen.get(trial, (None, now))
        if last != lease or trial not in self._seen:
            self._seen[trial], since = (lease, now), now
        return now - since >= self.grace or (lease is not None and lease.owner.gone)


@contextlib.contextmanager
def heartbeat(renew: Callable[[], None], interval: float) -> Iterator[None]:
    """Call `renew` every `interval` seconds in a thread, as long as the context lasts."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(interval):
            renew()

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@functools.cache
def _machine() -> str:
    """This machine since it was booted, as far as process numbers reach; where that is unknown, like no other."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return uuid.uuid4().hex


def _born(process: int) -> str | None:
    """When a process of this machine started; None where there is no such process, or only its remains."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]
