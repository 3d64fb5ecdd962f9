"""Ray clusters of several nodes on this machine, each with a folder of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from projects import descendants
from ray.cluster_utils import Cluster

from sparsity_lab.specs.compute import Compute

MEMORY = 80 * 2**20
"""of a node's object store, bytes: Ray's least"""
NOTICE = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 8,
    "worker_niceness": 0,
}
"""a node that is killed is missed after four seconds; workers are as important as the tests that wait for them"""


class Nodes:
    """A cluster whose head trains nothing, so that every other node can be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cluster = Cluster()
        self.cluster.add_node(
            num_cpus=0,
            object_store_memory=MEMORY,
            include_dashboard=False,
            _system_config=NOTICE,
            env_vars={"OMP_NUM_THREADS": "1"},
        )
        self.own: dict[Any, Path] = {}
        """the folder of each node that ever joined"""
        self.apart = ""
        """the folder of a test, below each node's own"""

    @property
    def address(self) -> str:
        """For `ray.init`."""
        return str(self.cluster.address)

    def add(self, cpus: int = 1) -> Any:
        """A node that joins."""
        own = self.folder / f"node-{len(self.own) + 1}"
        node = self.cluster.add_node(
            num_cpus=cpus, object_store_memory=MEMORY, env_vars={"OMP_NUM_THREADS": "1", "SPARSITY_LAB_NODE": str(own)}
        )
        self.own[node] = own
        return node

    def kill(self, node: Any) -> None:
        """A node that leaves without a word."""
        self.cluster.remove_node(node, allow_graceful=False)

    def begin_anew(self, name: str) -> None:
        """One node beside the head, and folders that nobody has written to."""
        self.apart = name
        first, *others = self.cluster.worker_nodes or {self.add()}
        del first
        for node in others:
            self.kill(node)

    def used(self) -> list[Any]:
        """The living nodes that have been sent something since `begin_anew`."""
        return [node for node in self.cluster.worker_nodes if (self.own[node] / self.apart / "data").is_dir()]

    @property
    def folders(self) -> list[Path]:
        """Of all nodes that have been sent something since `begin_anew`."""
        return sorted(self.folder.glob(f"*/{self.apart}/data"))

    def compute(self, **fields: Any) -> Compute:
        """A compute file for this cluster, with nodes that share nothing."""
        engine = {
            "kind": "ray",
            "address": self.address,
            "node_folder": f"$SPARSITY_LAB_NODE/{self.apart}",
            "send_package": False,
        }
        engine |= fields.pop("engine", {})
        return Compute.model_validate({"version": 1, "engine": engine, **fields})


@contextmanager
def ray_nodes(folder: Path, *cpus: int) -> Iterator[Nodes]:
    """A cluster of nodes with so many cores, beside its head; gone afterwards, with this process's connection.

    Its dashboards are what Ray has without their libraries: a node costs half as much, and no test asks them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ray._private.utils.get_dashboard_dependency_error", lambda: ImportError("not wanted"))
        cluster = Nodes(folder)
        try:
            for count in cpus:
                cluster.add(count)
            yield cluster
        finally:
            ray.shutdown()
            cluster.cluster.shutdown()


def training_tasks() -> list[int]:
    """The processes below this one that are in a run's task now."""
    return [process for process in descendants(os.getpid()) if title_of(process).startswith("ray::train ")]


def title_of(process: int) -> str:
    """How a process is called."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text(encoding="utf-8").strip("\0")
    except OSError:
        return ""
