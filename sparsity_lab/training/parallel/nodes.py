"""The processes of one run on several nodes of a SLURM job: `srun` starts them, they meet on the first node."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Mapping

from sparsity_lab.artifacts.lifeline import die_with_ancestors
from sparsity_lab.errors import MachineError

BOUND = ("SLURM_CPU_BIND", "SLURM_MEM_BIND", "SLURM_DISTRIBUTION")
"""begin the variables by which a step says where its own processes lie"""
PLACE = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_STEP_NUM_TASKS", "LOCAL_RANK": "SLURM_LOCALID"}
"""the variables that `torchrun` would set, and those of SLURM's that say the same"""


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
