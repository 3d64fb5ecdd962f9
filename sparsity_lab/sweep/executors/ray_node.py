"""What happens on a node of a Ray cluster: data is unpacked once, runs are trained, what came of them is sent back.

Loaded by the driver too, hence torch and whatever loads it are imported by the functions that a node runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from numpy.typing import NDArray

from sparsity_lab.artifacts.atomic import locked
from sparsity_lab.artifacts.paths import WEIGHTS, Layout
from sparsity_lab.artifacts.records import RunRecord, Stopped
from sparsity_lab.errors import MachineError
from sparsity_lab.sweep.executors.base import Result
from sparsity_lab.sweep.executors.parcels import Parcel, unpack
from sparsity_lab.sweep.jobs import Done, Event, Failed, Job, Progressed, Workplace

if TYPE_CHECKING:
    from sparsity_lab.sweep.worker import Together
    from sparsity_lab.training.inputs import Inputs


@dataclass(frozen=True)
class Begun:
    """A run has reached a node."""

    fingerprint: str
    node: str


@dataclass(frozen=True)
class Landed:
    """A run's task is about to return what came of it."""

    fingerprint: str
    rank: int = 0
    """of the task, where several train the run"""


News = Begun | Landed | Progressed


@dataclass(frozen=True)
class Errand:
    """All that a node needs to train one run."""

    job: Job
    place: Workplace
    node_folder: str | None = None
    data: Parcel | None = None
    """None where the node sees the driver's files"""
    start: Parcel | None = None


@dataclass(frozen=True)
class Seat:
    """A task's place among those that train one run together."""

    rank: int
    size: int
    meeting: str
    """another one each time that the run is begun"""


@dataclass(frozen=True)
class Card:
    """Where a task of a group is, as it tells the others."""

    node: str
    address: str
    port: int
    """free there"""
    gpus: tuple[str, ...]


@dataclass(frozen=True)
class Delivery:
    """What came of a run."""

    event: Done | Stopped | Failed | None
    """None from a task that leaves it to the others of its group to tell"""
    record: RunRecord | None = None
    """of a finished or diverged run that the driver has to store"""


class Mailbox:
    """Holds news of running tasks until the driver takes them: an actor."""

    def __init__(self) -> None:
        self.news: list[News] = []
        self.arrived = asyncio.Event()
        self.meetings: defaultdict[str, dict[int, Card]] = defaultdict(dict)
        self.met: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def put(self, news: News) -> None:
        """Leave news."""
        self.news.append(news)
        self.arrived.set()

    async def take(self, seconds: float) -> list[News]:
        """All news, in order; waits for some for at most so long."""
        try:
            await asyncio.wait_for(self.arrived.wait(), seconds)
        except TimeoutError:
            return []
        self.arrived.clear()
        taken, self.news = self.news, []
        return taken

    async def meet(self, seat: Seat, card: Card) -> list[Card]:
        """Wait for the other tasks of a group; the cards of all by rank."""
        cards = self.meetings[seat.meeting]
        cards[seat.rank] = card
        if len(cards) == seat.size:
            self.met[seat.meeting].set()
        await self.met[seat.meeting].wait()
        return [cards[rank] for rank in range(seat.size)]

    async def ask_for_nodes(self, bundles: list[dict[str, float]]) -> None:
        """Tell an autoscaler, where there is one, what would be used if it were there; a driver outside cannot."""
        from ray.autoscaler.sdk import request_resources  # noqa: PLC0415

        request_resources(bundles=bundles)


def carry(errand: Errand, mailbox: Any) -> tuple[Delivery, NDArray[np.uint8] | None]:
    """Train a run; its record and the bytes of its weights, where they are kept, for the driver to store."""
    from sparsity_lab.sweep.worker import failure  # noqa: PLC0415
    from sparsity_lab.training.determinism import make_deterministic  # noqa: PLC0415

    name = errand.job.fingerprint
    mailbox.put.remote(Begun(name, ray.get_runtime_context().get_node_id()))
    make_deterministic(errand.place.threads, fast=errand.place.fast)
    try:
        delivered = train_errand(errand, mailbox.put.remote)
    except Exception as error:
        delivered = Delivery(failure(name, error)), None
    ray.get(mailbox.put.remote(Landed(name)))  # after all it has told
    return delivered


def call(data: Parcel, folder: str | None, work: Callable[[Path, Path], Result]) -> Result:
    """What `work` makes of the unpacked data and of a folder of this node for its own use."""
    root = node_folder(folder)
    return work(unpack(data, root / "data", ray.get), root)


def tidy(fingerprints: Iterable[str], place: Workplace, folder: str | None) -> None:
    """Remove checkpoints, here and where other nodes would look for them, of runs that the driver has stored."""
    from sparsity_lab.sweep.worker import forget  # noqa: PLC0415

    here = replace(place, layout=Layout(node_folder(folder)))
    for fingerprint in fingerprints:
        forget(fingerprint, here)


def node_folder(asked: str | None) -> Path:
    """The folder of this machine that its variables make of a node folder.

    Raises:
        MachineError: a variable or a home is not known on this machine, or the folder is relative to nothing.
    """
    if asked is not None:
        made = os.path.expanduser(os.path.expandvars(asked))  # noqa: PTH111 - pathlib's raises where it knows no home
        if "$" in made or not os.path.isabs(made):  # noqa: PTH117
            expected = "a path from / on, of variables that are set there"
            raise MachineError("is no folder of this node", field="engine.node_folder", found=made, expected=expected)
        return Path(made)
    return Path(tempfile.gettempdir()) / f"sparsity-lab-{os.getuid()}"


def train_errand(
    errand: Errand, tell: Callable[[Event], object], together: Together | None = None
) -> tuple[Delivery, NDArray[np.uint8] | None]:
    """Train a run, alone or as one task of a group.

    With the driver's files the store is written here. Without, the checkpoint stays until the driver has the run,
    which may yet be lost on its way.
    """
    from sparsity_lab.sweep.worker import Together, train, train_into_store  # noqa: PLC0415

    together = together or Together()
    if errand.data is None:
        place = errand.place
        return Delivery(
            train_into_store(errand.job, place, _inputs(place.data, place.layout.cache), tell, together)
        ), None
    root, job = node_folder(errand.node_folder), errand.job
    place = replace(errand.place, layout=Layout(root), data=unpack(errand.data, root / "data", ray.get))
    if errand.start is not None:
        job = replace(job, start=unpack(errand.start, root / "starts", ray.get))
    lock = locked(place.layout.run_lock(job.fingerprint)) if together.keeps_files else contextlib.nullcontext()
    with lock:  # an orphan of a lost driver may not be gone yet
        kept = place.keep_weights or job.keep_weights
        weights = place.layout.checkpoint(job.fingerprint).parent / WEIGHTS if kept else None
        made = train(job, place, _inputs(place.data, place.layout.cache), weights, tell, together)
        if isinstance(made, Stopped):
            return Delivery(made), None
        sent = np.fromfile(weights, np.uint8) if weights is not None and weights.is_file() and made.finished else None
        return Delivery(Done.of(made), made), sent


@cache
def _inputs(data: Path, unpacked: Path) -> Inputs:
    """Opened once a process."""
    from sparsity_lab.training.inputs import Inputs  # noqa: PLC0415

    return Inputs(data, unpacked)
