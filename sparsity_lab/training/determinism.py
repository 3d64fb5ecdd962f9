"""The same spec gives the same bytes on the same instruction set and thread count."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from sparsity_lab.artifacts.records import Machine


def settle(threads: int = 1) -> None:
    """Fix the thread count and refuse operations without a deterministic implementation."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=True)
    torch.backends.cudnn.benchmark = False


def this_machine(device: torch.device, processes: int = 1) -> Machine:
    """What a record says of where it was made."""
    return Machine(
        torch=torch.__version__,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        processor=_processor(),
        instruction_set=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        platform=platform.platform(terse=True),
        processes=processes,
    )


def best_device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
