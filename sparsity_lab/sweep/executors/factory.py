"""From a compute file to the executor that it asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import assert_never

from sparsity_lab.doctor import usable_cores
from sparsity_lab.errors import MachineError
from sparsity_lab.specs.compute import Compute, DevicesBySize, LocalEngine, RayEngine, SlurmEngine
from sparsity_lab.sweep.executors.base import Executor, OnEvent, Result, carry_out
from sparsity_lab.sweep.executors.local import LocalExecutor, gpu_shares
from sparsity_lab.sweep.jobs import Job, Workplace


def run_jobs(jobs: Iterable[Job], place: Workplace, compute: Compute, on_event: OnEvent = lambda _: None) -> None:
    """Train every job where `compute` says; errors as `carry_out`."""
    carry_out(executor_for(compute, place), jobs, on_event)


def executor_for(compute: Compute, place: Workplace, *, detached: bool = False) -> Executor:
    """The executor of a compute file.

    Args:
        compute: the compute file.
        place: where its workers train.
        detached: its workers go on when this process ends; SLURM's only.

    Raises:
        MachineError: what its engine needs is not there.
    """
    match compute.engine:
        case LocalEngine():
            return _local(compute, place)
        case RayEngine():
            try:
                from sparsity_lab.sweep.executors.ray import RayExecutor  # noqa: PLC0415 - an extra
            except ModuleNotFoundError as error:
                raise missing_extra("ray", error) from None
            return RayExecutor(place, compute)
        case SlurmEngine():
            try:
                from sparsity_lab.sweep.executors.slurm import SlurmExecutor  # noqa: PLC0415 - an extra
            except ModuleNotFoundError as error:
                raise missing_extra("slurm", error) from None
            return SlurmExecutor(place, compute, detached=detached)
        case _:
            assert_never(compute.engine)


@contextmanager
def lasting_executor(compute: Compute, place: Workplace) -> Iterator[Executor | None]:
    """An executor that takes jobs several times, its workers waiting in between: each takes seconds to load torch.

    None for the engines of clusters, where whoever waits holds what others could use.

    Raises:
        MachineError: GPUs are asked for that this machine has not.
    """
    if not isinstance(compute.engine, LocalEngine):
        yield None
        return
    with closing(_local(compute, place, stays=True)) as executor:
        yield executor


def on_node(compute: Compute, data: Path, work: Callable[[Path, Path], Result]) -> Result | None:
    """What a function makes of a folder on a machine that trains runs; None where that is this one, or it has to be.

    Raises:
        MachineError: the cluster is out of reach.
    """
    match compute.engine:
        case LocalEngine() | SlurmEngine():
            return None
        case RayEngine():
            try:
                from sparsity_lab.sweep.executors.ray import call_on_node  # noqa: PLC0415 - an extra
            except ModuleNotFoundError as error:
                raise missing_extra("ray", error) from None
            return call_on_node(compute, data, work)
        case _:
            assert_never(compute.engine)


def missing_extra(name: str, error: ModuleNotFoundError) -> Exception:
    """What there is to say of a package that only an extra brings; the error itself where the package is ours."""
    if (error.name or "").startswith("sparsity_lab"):
        return error
    expected = f"pip install 'sparsity-lab[{name}]'"
    message = f"the {name} engine needs a package that is not installed"
    return MachineError(message, field="engine.kind", found=error.name, expected=expected)


def side_by_side(compute: Compute) -> int:
    """Runs that are under way at once: what a search takes on at a time, and a plan counts with.

    A Ray cluster has as many as it has room for, which nobody knows before it is asked: 64 stand for it.
    """
    match compute.engine:
        case LocalEngine(workers=workers):
            at_once = workers or max(1, usable_cores() // compute.run.cores)
            return min(at_once, len(_gpus_here(compute)) or at_once)
        case SlurmEngine(workers=workers):
            return workers
        case RayEngine():
            return RAY_AT_ONCE
        case _:
            assert_never(compute.engine)


def _local(compute: Compute, place: Workplace, *, stays: bool = False) -> LocalExecutor:
    shares = _gpus_here(compute)
    if compute.run.gpus and not shares and not _has_gpu():
        found, expected = compute.run.gpus, "gpus: 0, to train on the CPU"
        where = compute.place("run")
        raise MachineError("there is no GPU here", where=where, field="run.gpus", found=found, expected=expected)
    return LocalExecutor(place, side_by_side(compute), shares, stays=stays)


def _has_gpu() -> bool:
    """Whether torch sees one, be it none of NVIDIA's."""
    from sparsity_lab.training.determinism import best_device  # noqa: PLC0415 - loads torch

    return best_device().type != "cpu"


def _gpus_here(compute: Compute) -> list[str]:
    """What each run under way may see of this machine's GPUs; one that may be of many devices sees as many."""
    most = compute.devices.most if isinstance(compute.devices, DevicesBySize) else compute.devices
    return gpu_shares(compute.run.gpus * most)


RAY_AT_ONCE = 64
