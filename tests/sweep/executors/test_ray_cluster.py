"""How a driver reaches a Ray cluster: an address at which nothing listens is told at once, in one line."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from sparsity_lab.errors import MachineError
from sparsity_lab.specs.compute import RayEngine
from sparsity_lab.sweep.executors import ray_cluster
from sparsity_lab.sweep.executors.ray_cluster import connect, lacking


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "[::1]:{}", "nohost.invalid:{}"])
def test_where_nothing_listens_one_line_says_so_before_ray_tries(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = address.format(closed_port())
    monkeypatch.setattr(ray_cluster.ray, "init", lambda *_, **__: pytest.fail("Ray tries for a minute"))
    with pytest.raises(MachineError, match=r"^engine.address: no Ray cluster answers: .*expected a cluster") as caught:
        connect(RayEngine(address=asked), {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["ray://", "ray://head", "ray://head:port", "127.0.0.1:99999"])
def test_what_is_no_host_and_port_is_refused(address: str) -> None:
    with pytest.raises(MachineError, match="no Ray cluster answers"):
        connect(RayEngine(), {"RAY_ADDRESS": address})


def test_an_empty_variable_names_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(ray_cluster.ray, "init", lambda address, **options: asked.append((address, options)))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    connect(RayEngine(), {"RAY_ADDRESS": ""})
    ((address, options),) = asked
    assert address == "local"
    assert "runtime_env" not in options


def test_what_no_node_has_is_told() -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 2.0}}]
    assert not lacking({"CPU": 2}, nodes)
    assert (
        lacking({"CPU": 2, "GPU": 0.5}, nodes)
        == "no node of the cluster has CPU 2, GPU 0.5 now: runs wait for one that does"
    )
    assert lacking({"CPU": 1}, nodes, devices=3).startswith("the cluster's nodes have not 3 times CPU 1")
