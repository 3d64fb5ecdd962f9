"""Where a process is among those that train one run: as `torchrun` says, or `srun` on several nodes of a SLURM job."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Mapping
from typing import NamedTuple

from sparsity_lab.artifacts.lifeline import die_with_ancestors
from sparsity_lab.errors import MachineError

BOUND = ("SLURM_CPU_BIND", "SLURM_MEM_BIND", "SLURM_DISTRIBUTION")
"""begin the variables by which a step says where its own processes lie"""
PLACE = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_STEP_NUM_TASKS", "LOCAL_RANK": "SLURM_LOCALID"}
"""the variables that `torchrun` would set, and those of SLURM's that say the same"""


MOST = 1_000_000
"""processes of a run"""


class GroupPlace(NamedTuple):
    """A process among those that train together: its number of how many, that on its machine, and where they meet."""

    rank: int
    size: int
    local: int
    meeting: str


def place_among(variables: Mapping[str, str] = os.environ) -> GroupPlace:
    """This process's place, by the variables that `torchrun` sets.

    Raises:
        MachineError: one is not set, is no number, or out of its bounds; or nobody knows the host where they meet.
    """
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        if name not in variables:
            expected = "to be started by torchrun --nproc-per-node N -m sparsity_lab.training …"
            raise MachineError("no other processes to train with", field=name, found="not set", expected=expected)
    size = _number(variables, "WORLD_SIZE", 1, MOST)
    rank, local = (_number(variables, name, 0, size - 1) for name in ("RANK", "LOCAL_RANK"))
    host, port = variables["MASTER_ADDR"], _number(variables, "MASTER_PORT", 1, 65535)
    try:
        socket.getaddrinfo(host, port)
    except (OSError, UnicodeError):
        raise MachineError("is no host that is known here", field="MASTER_ADDR", found=host) from None
    return GroupPlace(rank, size, local, f"{host}:{port}")


def _number(variables: Mapping[str, str], name: str, lowest: int, highest: int) -> int:
    text = variables.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MOST)) and lowest <= int(text) <= highest):
        expected = f"a whole number from {lowest} to {highest}"
        raise MachineError("is no place among processes", field=name, found=text, expected=expected)
    return int(text)


def nodes_for(devices: int, devices_per_node: int | None) -> int:
    """How many nodes hold so many devices; one where nobody says how many a node has."""
    return -(-devices // devices_per_node) if devices_per_node else 1


def by_srun(
    nodes: int, devices: int, threads: int, surroundings: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """What starts a process a device, `python -m` so far, and in which environment.

    The processes are a step of the job beside that of this process, which is on the first node.

    Raises:
        MachineError: the job has fewer nodes.
    """
    there = int(surroundings.get("SLURM_JOB_NUM_NODES", "1"))
    if there < nodes:
        found, expected = f"{there} nodes", f"{nodes}, for {devices} devices"
        raise MachineError("the job has too few nodes", field="engine.devices_per_node", found=found, expected=expected)
    with socket.socket() as one:
        one.bind(("", 0))
        port = int(one.getsockname()[1])
    kept = {name: value for name, value in surroundings.items() if not name.startswith(BOUND)}
    size = (f"--nodes={nodes}", f"--ntasks={devices}", f"--ntasks-per-node={-(-devices // nodes)}")
    srun = ["srun", "--overlap", "--export=ALL", "--kill-on-bad-exit=1", *size, f"--cpus-per-task={threads}"]
    meeting = {"MASTER_ADDR": socket.gethostname(), "MASTER_PORT": str(port)}
    return [*srun, sys.executable, "-m"], {**kept, **meeting}


def take_place(starter: tuple[int, int]) -> list[int]:
    """Take this process's place among those that `srun` started.

    Args:
        starter: the process that waits for them on the first node, and the one above it: with it a process of that node
            ends, and `srun` then ends the others.

    Returns:
        SLURM's signals as they come, all of which say to write the checkpoint and leave.
    """
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, _: told.append(number))
    above = [starter] if os.environ["SLURM_NODEID"] == "0" else []
    die_with_ancestors((os.getpid(), os.getppid()), *above)
    os.environ |= {name: os.environ[said] for name, said in PLACE.items()}
    return told
