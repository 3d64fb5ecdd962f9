"""Where the executors' tests train: a tiny prepared dataset, and every executor by its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from buckets import s3
from clusters import Nodes, ray_nodes, training_tasks
from projects import bare, documents, finished, prepared, quick, shared, trained, workers_of
from slurm_cluster import Cluster, compute, slurm_cluster

from sparsity_lab.artifacts.paths import Layout
from sparsity_lab.data.manifest import read_manifest
from sparsity_lab.specs.compute import Compute, here
from sparsity_lab.specs.fingerprint import fingerprint
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.sweep.jobs import Job, Workplace
from sparsity_lab.sweep.study import job_of

__all__ = ["bare", "documents", "finished", "prepared", "quick", "s3", "shared", "trained"]


@dataclass(frozen=True)
class Engine:
    """An executor under test."""

    compute: Callable[[int], Compute]
    """a compute file for so many runs at once"""
    training: Callable[[], list[int]]
    """the processes that train for this one, now"""


@pytest.fixture(scope="module")
def node_of_two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A Ray cluster of one node with two cores, for all tests of a module."""
    with ray_nodes(tmp_path_factory.mktemp("nodes"), 2) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A SLURM cluster of three nodes with a core each, for all tests of a module."""
    with slurm_cluster(tmp_path_factory.mktemp("slurm") / "c") as cluster:
        yield cluster


@pytest.fixture(params=["local", "ray", "slurm"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """Every executor."""
    match request.param:
        case "local":
            return Engine(here, lambda: workers_of(os.getpid()))
        case "slurm":
            cluster: Cluster = request.getfixturevalue("cluster")
            return Engine(compute, cluster.training)
    nodes: Nodes = request.getfixturevalue("node_of_two")
    folder = {"node_folder": str(tmp_path / "node")}
    return Engine(lambda at_once: nodes.compute(run={"cores": 3 - at_once}, engine=folder), training_tasks)


@pytest.fixture
def place(tmp_path: Path, text_data: Path) -> Workplace:
    """An empty store, with a checkpoint at every point of a curve."""
    return Workplace(Layout(tmp_path), text_data, tmp_path / "runs" / "study", checkpoint_seconds=0.0)


@pytest.fixture
def job(place: Workplace) -> Callable[[RunSpec], Job]:
    """The job of a run on the tiny dataset."""
    data_hash = read_manifest(place.data).content_hash
    return lambda run: job_of(fingerprint(run, data_hash), run)
