"""The Ray executor: every run is a task with a resource request, on whatever nodes a cluster has at the time."""

from __future__ import annotations

import contextlib
import logging
import math
import secrets
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import exceptions
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from sparsity_lab.artifacts.atomic import locked, write_bytes
from sparsity_lab.artifacts.paths import WEIGHTS
from sparsity_lab.artifacts.store import Store
from sparsity_lab.errors import MachineError, SparsityLabError
from sparsity_lab.specs.compute import Compute, RayEngine
from sparsity_lab.sweep.executors.base import Result
from sparsity_lab.sweep.executors.parcels import Parcel, pack
from sparsity_lab.sweep.executors.ray_cluster import SLACK, connect, demand, lacking, room_for
from sparsity_lab.sweep.executors.ray_group import carry_together
from sparsity_lab.sweep.executors.ray_node import Begun, Errand, Landed, Mailbox, Seat, call, carry, tidy
from sparsity_lab.sweep.jobs import Event, Job, Waiting, Workplace

HEAD = "node:__internal_head__"
"""Ray's own name for what only the head node has: the mailbox lives where losing it would end the cluster anyway"""
MOST_ASKED = 1_000
"""tasks that an autoscaler is told of"""
LOOKS = 1.0
"""seconds between two looks for tasks that ended without a word"""
LOST = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.OutOfMemoryError,
    exceptions.LocalRayletDiedError,
    exceptions.ObjectLostError,
    exceptions.TaskUnschedulableError,
)
"""what becomes of a task whose worker or node is gone, or of its result"""
BLAMELESS = (exceptions.NodeDiedError, exceptions.ObjectLostError, exceptions.TaskUnschedulableError)
"""of these, what says nothing against the run: nodes come and go"""


@dataclass
class _Flight:
    """A run whose tasks have been handed to Ray: one a device."""

    errand: Errand
    tasks: list[tuple[Any, Any]]
    """by rank, what comes of the run and its weights"""
    group: PlacementGroup | None = None
    """room for several tasks"""
    node: str | None = None
    silent: set[int] = field(default_factory=set)
    """ranks that have ended and left it to others to tell"""


class RayExecutor:
    """Tasks of a Ray cluster. A node that joins is used; one that leaves costs its runs the work since checkpoints."""

    def __init__(self, place: Workplace, compute: Compute) -> None:
        assert isinstance(compute.engine, RayEngine)
        self.place, self.compute, self.engine = place, compute, compute.engine
        self.queue: deque[tuple[Errand, str | None]] = deque()
        """what Ray has not been given yet, longest first, and the node that knows more of it than others: Ray itself
        begins tasks in no order"""
        self.nodes: list[dict[str, Any]] = []
        self.flying: dict[str, _Flight] = {}
        self.deaths: Counter[str] = Counter()
        self.stored: defaultdict[str, list[str]] = defaultdict(list)
        self.mailbox: Any = None
        self.warned = False

    def submit(self, jobs: Sequence[Job]) -> None:
        """See `Executor`.

        Raises:
            MachineError: there is no cluster at the address.
        """
        connect(self.engine)
        self.mailbox = ray.remote(Mailbox).options(num_cpus=0, resources={HEAD: 0.001}).remote()
        shared = self.engine.shared_files
        place = self.place.absolute()
        data = None if shared else pack(place.data, ray.put)
        starts: dict[Path, Parcel] = {}
        for job in jobs:
            if job.start is not None and not shared and job.start not in starts:
                starts[job.start] = pack(job.start, ray.put)
            start = None if job.start is None else starts.get(job.start)
            self.queue.append((Errand(job, place, self.engine.node_folder, data, start), None))
        asked = [demand(self.compute) for job in jobs[:MOST_ASKED] for _ in range(job.devices)]
        self.mailbox.ask_for_nodes.remote(asked)

    def events(self) -> Iterator[Event]:
        """See `Executor`."""
        looked = -math.inf
        while self.flying or self.queue:
            if time.monotonic() - looked >= LOOKS:
                looked = time.monotonic()
                yield from self._look()
            self._launch()
            for news in ray.get(self.mailbox.take.remote(LOOKS)):
                flight = self.flying.get(news.fingerprint)
                match news:
                    case _ if flight is None:
                        pass
                    case Begun():
                        flight.node = news.node
                    case Landed():
                        yield from self._landed(flight, news.rank)
                    case _:
                        yield news
        self._tidy()

    def cancel(self) -> None:
        """See `Executor`."""
        if self.mailbox is None or not ray.is_initialized():
            return
        waited_for = [delivery for flight in self.flying.values() for delivery, _ in flight.tasks]
        for delivery in waited_for:
            with contextlib.suppress(exceptions.RayError, ValueError):
                ray.cancel(delivery, force=True)
        if waited_for:
            ray.wait(waited_for, num_returns=len(waited_for), timeout=60, fetch_local=False)
        for flight in self.flying.values():
            _disband(flight)
        self.flying.clear()
        self.queue.clear()
        with contextlib.suppress(exceptions.RayError):
            ray.get(self.mailbox.ask_for_nodes.remote([]), timeout=LOOKS)
        ray.kill(self.mailbox)
        self.mailbox = None

    def _launch(self) -> None:
        """Fill the room that there is; where there is none, one run waits for it and tells Ray what is missing."""
        taken = sum(self._share(flight.errand.job) for flight in self.flying.values())
        while self.queue and (not self.flying or taken + self._share(self.queue[0][0].job) <= 1 + SLACK):
            errand, node = self.queue.popleft()
            self.flying[errand.job.fingerprint] = self._begun(errand, node)
            taken += self._share(errand.job)

    def _begun(self, errand: Errand, node: str | None) -> _Flight:
        """A run's task, or the tasks of its group: on one node where there is room, else on as few as there can be."""
        asked, name, size = demand(self.compute), errand.job.fingerprint, errand.job.devices
        options = {
            "name": f"train {name[:12]}",
            "num_returns": 2,
            "max_retries": 0,
            "num_cpus": asked["CPU"],
            "num_gpus": asked.get("GPU"),
            "memory": asked.get("memory"),
        }
        if size == 1:
            strategy = NodeAffinitySchedulingStrategy(node, soft=True) if node else "DEFAULT"
            task = ray.remote(carry).options(**options, scheduling_strategy=strategy)
            return _Flight(errand, [task.remote(errand, self.mailbox)])
        group, meeting = placement_group([asked] * size, strategy="PACK"), secrets.token_hex(8)
        tasks = []
        for rank in range(size):
            place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)
            task = ray.remote(max_calls=1)(carry_together).options(**options, scheduling_strategy=place)
            tasks.append(task.remote(errand, self.mailbox, Seat(rank, size, meeting)))
        return _Flight(errand, tasks, group)

    def _share(self, job: Job) -> float:
        """The part of the cluster that a run takes; all of it where it fits nowhere."""
        return 1 / max(1, room_for(demand(self.compute), self.nodes, job.devices))

    def _look(self) -> Iterator[Event]:
        """Nodes that came or went, and tasks that ended, with or without a word."""
        self.nodes = ray.nodes()
        if self.queue and not self.warned:
            missing = lacking(demand(self.compute), self.nodes, self.queue[0][0].job.devices)
            self.warned = bool(missing)
            if missing:
                yield Waiting(missing)
        flights = self.flying.values()
        tasks = {flight.tasks[rank][0]: (flight, rank) for flight in flights for rank in _speaking(flight)}
        ended, _ = ray.wait(list(tasks), num_returns=len(tasks), timeout=0, fetch_local=False) if tasks else ([], [])
        for delivery in ended:
            yield from self._landed(*tasks[delivery])

    def _landed(self, flight: _Flight, rank: int) -> Iterator[Event]:
        """What a task has to tell, of a flight that is under way: it has returned or is about to, or was lost."""
        name = flight.errand.job.fingerprint
        if self.flying.get(name) is not flight:
            return
        try:
            delivery, weights = ray.get(list(flight.tasks[rank]))
        except LOST as error:
            self._again(flight, error)
            return
        if delivery.event is None:
            flight.silent.add(rank)
            if not _speaking(flight):
                self._again(flight, exceptions.WorkerCrashedError())
            return
        if delivery.record is not None:
            with locked(self.place.layout.run_lock(name)):
                if weights is not None:
                    write_bytes(self.place.home / name / WEIGHTS, weights.tobytes())
                Store(self.place.home).settle(delivery.record, self.place.layout)
            self.stored[flight.node or ""].append(name)
        del self.flying[name]
        _disband(flight)
        yield delivery.event

    def _again(self, flight: _Flight, error: Exception) -> None:
        """A run's worker or node is gone: it is queued again, and goes on from its checkpoint where that is reached."""
        name = flight.errand.job.fingerprint
        self.deaths[name] += not isinstance(error, BLAMELESS)
        if self.deaths[name] > self.engine.retries:
            raise MachineError(
                f"the worker of run {name[:12]} was killed {self.deaths[name]} times ({type(error).__name__}); "
                "is there enough memory? Finished runs are kept"
            ) from None
        stays = self.place.checkpoints is None and not self.engine.shared_files
        del self.flying[name]
        _disband(flight)
        self.queue.appendleft((flight.errand, flight.node if stays else None))

    def _tidy(self) -> None:
        """Let every node remove the checkpoints of what is stored; a node that has left cannot."""
        tasks = []
        for node, names in self.stored.items():
            strategy = NodeAffinitySchedulingStrategy(node, soft=True) if node else "DEFAULT"
            task = ray.remote(tidy).options(num_cpus=0, max_retries=0, scheduling_strategy=strategy)
            tasks.append(task.remote(names, self.place.absolute(), self.engine.node_folder))
        self.stored.clear()
        if tasks:
            ray.wait(tasks, num_returns=len(tasks), timeout=60)


def call_on_node(compute: Compute, data: Path, work: Callable[[Path, Path], Result]) -> Result:
    """Call a function on a node that has what a run asks for.

    Args:
        compute: of kind ray.
        data: a folder that the node is sent.
        work: a function of a module, given the folder's path there and a folder for its own use.

    Raises:
        MachineError: there is no cluster, or the node was lost.
        SparsityLabError: `work` raised it.
    """
    assert isinstance(compute.engine, RayEngine)
    connect(compute.engine)
    asked = demand(compute)
    if missing := lacking(asked, ray.nodes()):
        logging.getLogger(__name__).warning(missing)
    task = ray.remote(call).options(num_cpus=asked["CPU"], num_gpus=asked.get("GPU"), memory=asked.get("memory"))
    answer = task.remote(pack(data, ray.put), compute.engine.node_folder, work)
    try:
        found: Result = ray.get(answer)
    except exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, SparsityLabError) else error from None
    except LOST as error:
        raise MachineError(f"the node was lost ({type(error).__name__})") from None
    return found


def _speaking(flight: _Flight) -> list[int]:
    """The ranks that may yet tell what came of a run."""
    return [rank for rank in range(len(flight.tasks)) if rank not in flight.silent]


def _disband(flight: _Flight) -> None:
    """End what is left of a group's tasks, and give its room back."""
    if flight.group is not None:
        remove_placement_group(flight.group)
