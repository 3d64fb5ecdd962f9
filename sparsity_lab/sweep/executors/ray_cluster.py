"""A Ray cluster as a driver sees it: how it is reached, and how much of what a task asks for there is room for."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import exceptions

import sparsity_lab
from sparsity_lab.doctor import usable_cores
from sparsity_lab.errors import MachineError, said
from sparsity_lab.specs.compute import GIB, Compute, RayEngine

SLACK = 1e-6
"""three thirds of a GPU are a whole one"""
ANSWERS = 5.0
"""seconds in which a port takes a connection: Ray itself tries for a minute, or ends the process"""
HOST = re.compile(r"(?P<client>ray://)?(\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[^/\s:]+)):(?P<port>[0-9]{1,5})")


def demand(compute: Compute) -> dict[str, float]:
    """What a task asks Ray for, by Ray's names: a run has one for each of its devices."""
    run = compute.run
    asked = {"CPU": run.cores, "GPU": run.gpus, "memory": round((run.memory_gib or 0) * GIB)}
    return {name: amount for name, amount in asked.items() if amount}


def room_for(asked: Mapping[str, float], nodes: Iterable[Mapping[str, Any]], devices: int = 1) -> int:
    """How many runs of so many tasks of one demand the nodes of a cluster hold at once, whatever else they do."""
    living = [node["Resources"] for node in nodes if node["Alive"]]
    tasks = sum(min(int(node.get(name, 0) / amount + SLACK) for name, amount in asked.items()) for node in living)
    return tasks // devices


def lacking(asked: Mapping[str, float], nodes: Iterable[Mapping[str, Any]], devices: int = 1) -> str:
    """What the nodes of a cluster have not, where a run of so many tasks has no room on them; empty where it has."""
    if room_for(asked, nodes, devices):
        return ""
    wanted = ", ".join(f"{name} {amount:g}" for name, amount in asked.items())
    missing = f"no node of the cluster has {wanted}"
    if devices > 1:
        missing = f"the cluster's nodes have not {devices} times {wanted}"
    return f"{missing} now: runs wait for one that does"


def connect(engine: RayEngine, environment: Mapping[str, str] = os.environ) -> None:
    """Connect this process to its cluster, or start one of this machine that ends with the process; once.

    Raises:
        MachineError: there is no cluster at the address.
    """
    if ray.is_initialized():
        return
    address = engine.address or environment.get("RAY_ADDRESS") or None
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options |= {"num_cpus": usable_cores(), "include_dashboard": False}
    elif engine.send_package:
        package = str(Path(sparsity_lab.__file__).parent)
        options["runtime_env"] = {"py_modules": [package], "excludes": ["**/__pycache__/**"]}
    try:
        _see_port(address)
        ray.init(address or "local", **options)
    except (OSError, OverflowError, ValueError, RuntimeError, exceptions.RayError) as error:
        reason = said(error)
        expected = "a cluster that runs; RAY_AUTH_MODE=token where it wants a token" if address else None
        message = f"no Ray cluster answers: {reason}"
        raise MachineError(message, field="engine.address", found=address, expected=expected) from None


def _see_port(address: str | None) -> None:
    """See that something listens at a host's port; addresses of other forms are for Ray to read.

    Raises:
        OSError, OverflowError: nothing does, or there is no such host or port.
        ValueError: an address of Ray's client names no host and port.
    """
    found = HOST.fullmatch(address or "")
    if found is not None:
        socket.create_connection((found["v6"] or found["name"], int(found["port"])), ANSWERS).close()
    elif address is not None and address.startswith("ray://"):
        raise ValueError("is not ray://HOST:PORT")
