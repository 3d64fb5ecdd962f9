"""The same spec gives the same bytes on the same instruction set and thread count."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Final

import torch

from sparsity_lab.artifacts.records import Machine
from sparsity_lab.models.base import Model
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.accounting import peak_flops
from sparsity_lab.training.memory import run_memory

Device = torch.device
USABLE: Final = 0.9
"""of a GPU's memory: the rest goes to the driver, workspaces of kernels and fragments"""


def make_deterministic(threads: int = 1, *, fast: bool = False) -> None:
    """Fix the thread count and refuse operations without a deterministic implementation.

    Args:
        threads: of arithmetic.
        fast: leave it to the GPU's libraries which implementation they take, deterministic or not: bits do not repeat,
            and records say so. The types of numbers stay the same.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("default" if fast else "error")
    torch.backends.cudnn.benchmark = fast


def compile_blocks(model: Model) -> None:
    """Compile a model's blocks, by the mode that `make_deterministic` has set.

    torch tells its compiler of that mode in another call, which loads the whole of it: more than a second of every
    worker's start, and only here is it needed.
    """
    torch.use_deterministic_algorithms(mode=torch.are_deterministic_algorithms_enabled())
    for block in model.blocks_of_stacks():
        block.compile(dynamic=False)


@contextlib.contextmanager
def deterministic(threads: int = 1) -> Iterator[None]:
    """As `make_deterministic`, until the block ends."""
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    make_deterministic(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])
        torch.backends.cudnn.benchmark = before[2]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread until the block ends, as a worker has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def this_machine(
    device: torch.device, processes: int = 1, parts: int = 1, *, bfloat16: bool = False, transformers: bool = False
) -> Machine:
    """What a record says of where it was made.

    Args:
        device: on which.
        processes: that shared every batch.
        parts: in which every batch was added up.
        bfloat16: whether products were taken in that type.
        transformers: whether the module was one of that library.
    """
    return Machine(
        torch=torch.__version__,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        processor=_processor(),
        instruction_set=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        platform=platform.platform(terse=True),
        processes=processes,
        parts=parts,
        deterministic=torch.are_deterministic_algorithms_enabled(),
        peak_flops=peak_flops(torch.cuda.get_device_name(device), bfloat16) if device.type == "cuda" else None,
        transformers=version("transformers") if transformers else None,
    )


def peak_memory(device: torch.device) -> int | None:
    """Most bytes that were allocated on a GPU since the process began or this was reset; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def best_device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def needs_sharding(run: RunSpec, device: torch.device) -> bool:
    """Whether what a run holds while it trains does not fit the memory of one GPU; a CPU's is not asked for."""
    if device.type != "cuda":
        return False
    return run_memory(run).training > USABLE * torch.cuda.get_device_properties(device).total_memory


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
