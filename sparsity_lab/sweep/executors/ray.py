"""The Ray executor: every run is a task with a resource request, on whatever nodes a cluster has at the time."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import sparsity_lab
from sparsity_lab.artifacts.atomic import locked, write_bytes
from sparsity_lab.artifacts.paths import WEIGHTS
from sparsity_lab.artifacts.store import Store
from sparsity_lab.doctor import usable_cores
from sparsity_lab.errors import MachineError, SparsityLabError
from sparsity_lab.specs.compute import GIB, Compute, RayEngine
from sparsity_lab.sweep.executors.base import Result
from sparsity_lab.sweep.executors.parcels import Parcel, pack
from sparsity_lab.sweep.executors.ray_node import Begun, Errand, Landed, Mailbox, call, carry, tidy
from sparsity_lab.sweep.jobs import Event, Job, Waiting, Workplace

HEAD = "node:__internal_head__"
"""Ray's own name for what only the head node has: the mailbox lives where losing it would end the cluster anyway"""
MOST_ASKED = 1_000
"""tasks that an autoscaler is told of"""
SLACK = 1e-6
"""three thirds of a GPU are a whole one"""
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
    """A run whose task has been handed to Ray."""

    errand: Errand
    delivery: Any
    weights: Any
    node: str | None = None


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
        self.mailbox.ask_for_nodes.remote([demand(self.compute, job.devices) for job in jobs[:MOST_ASKED]])

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
                        yield from self._landed(news.fingerprint)
                    case _:
                        yield news
        self._tidy()

    def cancel(self) -> None:
        """See `Executor`."""
        if self.mailbox is None or not ray.is_initialized():
            return
        waited_for = [flight.delivery for flight in self.flying.values()]
        for delivery in waited_for:
            with contextlib.suppress(exceptions.RayError, ValueError):
                ray.cancel(delivery, force=True)
        if waited_for:
            ray.wait(waited_for, num_returns=len(waited_for), timeout=60, fetch_local=False)
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
            name, asked = errand.job.fingerprint, demand(self.compute, errand.job.devices)
            task = ray.remote(carry).options(
                name=f"train {name[:12]}",
                num_returns=2,
                max_retries=0,
                num_cpus=asked["CPU"],
                num_gpus=asked.get("GPU"),
                memory=asked.get("memory"),
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True) if node else "DEFAULT",
            )
            self.flying[name] = _Flight(errand, *task.remote(errand, self.mailbox))
            taken += self._share(errand.job)

    def _share(self, job: Job) -> float:
        """The part of the cluster that a run takes; all of it where it fits nowhere."""
        return 1 / max(1, room_for(demand(self.compute, job.devices), self.nodes))

    def _look(self) -> Iterator[Event]:
        """Nodes that came or went, and tasks that ended, with or without a word."""
        self.nodes = ray.nodes()
        if self.queue and not self.warned:
            asked = demand(self.compute, self.queue[0][0].job.devices)
            self.warned = not room_for(asked, self.nodes)
            if self.warned:
                wanted = ", ".join(f"{name} {amount:g}" for name, amount in asked.items())
                yield Waiting(f"no node of the cluster has {wanted} now: runs wait for one that does")
        tasks = {flight.delivery: name for name, flight in self.flying.items()}
        ended, _ = ray.wait(list(tasks), num_returns=len(tasks), timeout=0, fetch_local=False) if tasks else ([], [])
        for delivery in ended:
            yield from self._landed(tasks[delivery])

    def _landed(self, name: str) -> Iterator[Event]:
        flight = self.flying[name]
        try:
            delivery = ray.get(flight.delivery)
            weights = ray.get(flight.weights)
        except LOST as error:
            self._again(flight, error)
            return
        if delivery.record is not None:
            with locked(self.place.layout.lock(name)):
                if weights is not None:
                    write_bytes(self.place.home / name / WEIGHTS, weights.tobytes())
                Store(self.place.home).settle(delivery.record)
            self.stored[flight.node or ""].append(name)
        del self.flying[name]
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
    task = ray.remote(call).options(num_cpus=asked["CPU"], num_gpus=asked.get("GPU"), memory=asked.get("memory"))
    answer = task.remote(pack(data, ray.put), compute.engine.node_folder, work)
    try:
        found: Result = ray.get(answer)
    except exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, SparsityLabError) else error from None
    except LOST as error:
        raise MachineError(f"the node was lost ({type(error).__name__})") from None
    return found


def demand(compute: Compute, devices: int = 1) -> dict[str, float]:
    """What the task of a run on so many devices, all of one node, asks Ray for, by Ray's names."""
    run = compute.run
    one = {"CPU": run.cores, "GPU": run.gpus, "memory": round((run.memory_gib or 0) * GIB)}
    asked = {name: amount * devices for name, amount in one.items()}
    return {name: amount for name, amount in asked.items() if amount}


def room_for(asked: Mapping[str, float], nodes: Iterable[Mapping[str, Any]]) -> int:
    """How many tasks of one demand the nodes of a cluster hold at once, whatever else they do."""
    living = [node["Resources"] for node in nodes if node["Alive"]]
    return sum(min(int(node.get(name, 0) / amount + SLACK) for name, amount in asked.items()) for node in living)


def connect(engine: RayEngine, environment: Mapping[str, str] = os.environ) -> None:
    """Connect this process to its cluster, or start one of this machine that ends with the process; once.

    Raises:
        MachineError: there is no cluster at the address.
    """
    if ray.is_initialized():
        return
    address = engine.address or environment.get("RAY_ADDRESS")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options |= {"num_cpus": usable_cores(), "include_dashboard": False}
    elif engine.send_package:
        package = str(Path(sparsity_lab.__file__).parent)
        options["runtime_env"] = {"py_modules": [package], "excludes": ["**/__pycache__/**"]}
    try:
        ray.init(address or "local", **options)
    except (ConnectionError, ValueError, RuntimeError, exceptions.RayError) as error:
        reason = " ".join(str(error).split())
        expected = "a cluster that runs; RAY_AUTH_MODE=token where it wants a token" if address else None
        message = f"no Ray cluster answers: {reason}"
        raise MachineError(message, field="engine.address", found=address, expected=expected) from None
