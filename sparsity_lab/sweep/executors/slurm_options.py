"""What `sbatch` is told of a sweep's job array, and what it says against it."""

from __future__ import annotations

import math
from typing import Any

from sparsity_lab.errors import SpecError
from sparsity_lab.specs.compute import Compute, SlurmEngine
from sparsity_lab.sweep.executors.board import last_line
from sparsity_lab.training.parallel.nodes import nodes_for

WARNING = 120  # seconds before its time ends that a task is told
AGAIN = (
    'status=$?; if [ "$status" -gt 128 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 100 ]; '
    'then scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"; fi; '
    'exit "$status"'
)
"""ends a task's script: one whose worker was killed is queued again"""


def array_options(compute: Compute, name: str, devices: int = 1) -> dict[str, Any]:
    """What submitit is told of an array, the options of the compute file above all else.

    Args:
        compute: the compute file.
        name: of the array.
        devices: that a run is spread over, at the most; of one node, or of as many as the compute file says.

    Raises:
        SpecError: a share of a GPU is asked for, which SLURM has not, or options say nodes where the devices do.
    """
    assert isinstance(compute.engine, SlurmEngine)
    run, engine = compute.run, compute.engine
    if 0 < run.gpus < 1:
        expected = "a whole number; shares, where a cluster has them, by engine.options: {gres: shard:1}"
        raise SpecError("SLURM gives whole GPUs", field="run.gpus", found=run.gpus, expected=expected)
    nodes = nodes_for(devices, engine.devices_per_node)
    options = {key.replace("_", "-"): value for key, value in engine.options.items()}
    if nodes > 1 and (said := {"nodes", "ntasks", "ntasks-per-node"} & options.keys()):
        expected = "devices and engine.devices_per_node alone to say it"
        raise SpecError("nodes are said twice", field="engine.options", found=min(said), expected=expected)
    each = -(-devices // nodes)
    asked: dict[str, Any] = {
        "job_name": name,
        "wckey": None,
        "cpus_per_task": run.cores * each,
        "srun_args": [f"--cpus-per-task={run.cores * each}"],  # no step inherits it since SLURM 22.05
        "signal_delay_s": WARNING,
        "array_parallelism": engine.workers,  # submitit's own would be 256
        "setup": list(engine.setup),
        "teardown": [AGAIN],
    }
    if nodes > 1:  # the worker is on the first of them; it starts the processes that train
        asked |= {"nodes": nodes, "ntasks_per_node": 1}
        asked["srun_args"] += ["--nodes=1", "--ntasks=1", "--relative=0"]
    if run.gpus:
        asked["gpus_per_node"] = int(run.gpus) * each
    if run.memory_gib:
        asked["mem"] = f"{math.ceil(run.memory_gib * each * 1024)}M"
    if run.wall_minutes:
        asked["time"] = math.ceil(run.wall_minutes)
        asked["signal_delay_s"] = min(WARNING, int(15 * run.wall_minutes))
    if options.get("requeue") is False:
        options["no-requeue"] = True
    ours: dict[str, str | int | bool] = {} if options.get("no-requeue") else {"requeue": True}
    ours |= {} if run.wall_minutes else {"time": 0}
    said_so = {key.replace("-", "_"): value for key, value in options.items()}
    asked |= {key: None for key, value in said_so.items() if value is False and key in {"time", *asked}}
    asked["additional_parameters"] = {key: value for key, value in (ours | said_so).items() if value is not False}
    return asked


def refusal(said: str) -> str:
    """What `sbatch` has against a script: the last line that is its own, for a hint how to get help may follow."""
    lines = [line.strip() for line in said.splitlines() if line.strip().startswith("sbatch: ")]
    return (lines or [last_line(said)])[-1]
