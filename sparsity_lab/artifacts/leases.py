"""Who works on a thing that many could work on, and whether they still do.

A process that claims something (a search's trial, a run of a sweep on several nodes) writes its lease where all can
read it, the *book*, and renews it from a thread while it works. A lease is stale when it has not changed for a while on
the reader's own clock, so that machines need no common time, or at once when its holder was a process of this machine
and is no more.

Neither Optuna's storages nor files have a compare-and-swap. A stale lease is therefore taken over as in Fischer's
mutual exclusion: write one's own, wait for longer than a write takes, and go on if it is still there. Should two
processes nevertheless train one run (a holder that slept through its lease wakes up), they find the same result, and
only the first can tell it: a finished trial, or a run with its record, is not changed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from sparsity_lab.errors import InputError

T = TypeVar("T")
Thing_contra = TypeVar("Thing_contra", contravariant=True)


@dataclass(frozen=True)
class Timeouts:
    """How long processes that share work wait for each other, all in seconds.

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
    _seen: dict[Hashable, tuple[object, float]] = field(default_factory=dict)

    def is_stale(self, thing: Hashable, lease: Lease | None) -> bool:
        """Whether the holder of what is being worked on has given no sign of life for too long.

        Args:
            thing: which.
            lease: as it stands; None where a claim was never followed by a lease.
        """
        return self.quiet(thing, lease) >= self.grace or (lease is not None and lease.owner.gone)

    def quiet(self, thing: Hashable, sign: object, before: float = 0.0) -> float:
        """Seconds since a thing last gave a new sign of life; the first one seen is `before` seconds old."""
        now = self.clock()
        if thing not in self._seen:
            self._seen[thing] = sign, now - before
        elif self._seen[thing][0] != sign:
            self._seen[thing] = sign, now
        return now - self._seen[thing][1]


class Book(Protocol[Thing_contra]):
    """Where the leases of things stand; each method raises an InputError where it is out of reach."""

    def renew(self, thing: Thing_contra, lease: Lease, /) -> bool:
        """Write a lease; False when there is nothing left to hold."""

    def lease(self, thing: Thing_contra, /) -> Lease | None:
        """The lease as it stands."""

    def release(self, thing: Thing_contra, /) -> bool:
        """Let others claim what is held; False when there is nothing left to hold."""


@dataclass(eq=False)
class Holder(Generic[T]):
    """One process among those that read a book."""

    book: Book[T]
    timeouts: Timeouts
    owner: Owner

    def holds(self, thing: T) -> bool:
        """Whether it is this process's."""
        lease = self.book.lease(thing)
        return lease is not None and lease.owner == self.owner

    def taken_over(self, stale: Sequence[tuple[T, Lease | None]]) -> list[T]:
        """Those of the things with stale leases that no other process has taken over meanwhile."""
        unclaimed = (thing for thing, lease in stale if self.book.lease(thing) == lease)
        taken = [thing for thing in unclaimed if self.book.renew(thing, Lease(self.owner))]
        if taken:
            time.sleep(self.timeouts.settle)
        return [thing for thing in taken if self.holds(thing)]

    @contextlib.contextmanager
    def holding(self, mine: Sequence[T]) -> Iterator[None]:
        """Renew the leases of what was claimed, as long as the context lasts; on any error others may claim it."""
        leases = [Lease(self.owner)] * len(mine)

        def beat() -> None:
            for index, thing in enumerate(mine):
                leases[index] = leases[index].renewed()
                with contextlib.suppress(InputError):  # a book out of reach may be back at the next beat
                    if self.holds(thing):
                        self.book.renew(thing, leases[index])

        try:
            with heartbeat(beat, self.timeouts.beat):
                yield
        except BaseException:
            with contextlib.suppress(InputError):
                for thing in filter(self.holds, mine):
                    self.book.release(thing)
            raise


@contextlib.contextmanager
def heartbeat(renew: Callable[[], None], interval: float, *, at_once: bool = False) -> Iterator[None]:
    """Call `renew` every `interval` seconds in a thread, as long as the context lasts; `at_once` a first time too."""
    done = threading.Event()

    def beat() -> None:
        if at_once:
            renew()
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
