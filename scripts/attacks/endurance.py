"""Thousands of tiny runs in one sweep: whether its driver and its workers keep more and more memory or descriptors."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attacks.project import STUDY, like, program, write_spec

ENDURED = "endured"
"""name of the study and of its model"""
PAUSE = 1.0
"""seconds between two looks"""
LEAST = 20
"""samples of a process without which no slope is told"""
SETTLING = 0.1
"""share of the runs after which memory is held to be settled"""
RESAMPLES = 1000
PAGE = 4096 / 2**20
"""MiB"""
SERVICES = ("resource_tracker", "forkserver")


@dataclass(frozen=True)
class Sample:
    """One process at one moment."""

    role: str
    process: int
    runs: int
    """that were finished by then"""
    memory: float
    """resident, MiB"""
    descriptors: int
    threads: int


def make_study(root: Path, runs: int) -> None:
    """A study of so many runs of a few updates each, its data prepared."""
    scaling = {"layers": [1], "head_width": 8, "ff_ratio": 2.0, "width_multiple": 8, "ff_multiple": 4}
    model = {"version": 1, "kind": "model", "family": "t5", "scaling": scaling}
    write_spec(root, "models", ENDURED, model)
    grid = {"data_unit": "tokens", "nonzero": [1536], "sparsity": [0, 0.5], "data": [256], "regimes": ["gradual"]}
    objective = {"kind": "span-corruption", "input_length": 16}
    training: dict[str, Any] = {"batch": 8, "optimizer": {"kind": "adafactor"}, "learning_rate": {"base": 0.03}}
    training["schedule"] = {"kind": "cosine", "warmup": 0.1}
    training["evaluation"] = {"examples": 8, "curve_examples": 8, "every": 100}
    seeds = list(range((runs + 1) // 2))
    changes = {"model": ENDURED, "objective": objective, "training": training, "grid": {**grid, "seeds": seeds}}
    like(root, STUDY, ENDURED, **changes, search=None)
    program(root, "prepare", ENDURED)


def endure(root: Path, workers: int) -> tuple[list[Sample], float]:
    """Train the study in one sweep.

    Args:
        root: the project.
        workers: of the sweep.

    Returns:
        What was seen, and the seconds that it took.

    Raises:
        RuntimeError: the sweep failed.
    """
    call = [sys.executable, "-P", "-m", "sparsity_lab.cli", "train", ENDURED, "--workers", str(workers)]
    began, seen = time.monotonic(), []
    log = root / "endured.log"
    with log.open("wb") as out, subprocess.Popen(call, cwd=root, stdout=out, stderr=out) as driver:
        while driver.poll() is None:
            seen += list(_look(driver.pid, root / "runs" / ENDURED))
            time.sleep(PAUSE)
    if driver.returncode:
        raise RuntimeError(f"exit {driver.returncode}: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}")
    return seen, time.monotonic() - began


def _look(driver: int, records: Path) -> Iterator[Sample]:
    runs = sum(1 for _ in records.iterdir()) if records.is_dir() else 0
    children = Path(f"/proc/{driver}/task/{driver}/children").read_text(encoding="utf-8").split()
    for process in (driver, *map(int, children)):
        home = Path(f"/proc/{process}")
        try:
            command = (home / "cmdline").read_text(encoding="utf-8", errors="replace")
            if any(service in command for service in SERVICES):
                continue
            memory = int((home / "statm").read_text(encoding="utf-8").split()[1]) * PAGE
            counts = [sum(1 for _ in (home / kind).iterdir()) for kind in ("fd", "task")]
        except OSError:
            continue  # it has just ended
        yield Sample("driver" if process == driver else "worker", process, runs, memory, counts[0], counts[1])


def told(seen: list[Sample], seconds: float) -> Iterator[str]:
    """A line for each process: where memory, descriptors and threads began and ended, and their slopes."""
    runs = max((one.runs for one in seen), default=0)
    yield f"{runs} runs in {seconds:.0f} s; a slope is of what came after the first {SETTLING:.0%} of them"
    yield "process          samples              MiB  MiB a 1,000 runs (95 %)       descriptors       threads"
    for process in dict.fromkeys(one.process for one in seen):
        own = [one for one in seen if one.process == process and one.runs >= SETTLING * runs]
        if len(own) < LEAST:
            yield f"{process}: {len(own)} samples"
            continue
        x = np.array([one.runs for one in own]) / 1000
        low, mid, high = slope(x, np.array([one.memory for one in own]))
        first, last = own[0], own[-1]
        yield (
            f"{first.role:<8}{process:<8} {len(own):>7}  {first.memory:>6.1f} → {last.memory:>6.1f}"
            f"  {mid:>8.3f} ({low:+.3f} … {high:+.3f})  {_span([one.descriptors for one in own]):>12}"
            f"  {_span([one.threads for one in own]):>8}"
        )


def _span(counts: list[int]) -> str:
    return f"{counts[0]} → {counts[-1]} (≤ {max(counts)})"


def slope(x: NDArray[np.float64], y: NDArray[np.float64], seed: int = 0) -> tuple[float, float, float]:
    """Least-squares slope of y over x, and its interval of 95 %.

    Neighbours resemble each other, so residuals are resampled in blocks (moving-block bootstrap, Künsch 1989).

    Returns:
        Lower end, slope, upper end.
    """
    count = len(x)
    line = np.polyfit(x, y, 1)
    fitted = np.polyval(line, x)
    block = max(2, round(count ** (1 / 2)))
    chance = np.random.default_rng(seed)
    starts = chance.integers(0, count - block + 1, (RESAMPLES, -(-count // block)))
    places = (starts[:, :, None] + np.arange(block)).reshape(RESAMPLES, -1)[:, :count]
    slopes = np.polyfit(x, (fitted + (y - fitted)[places]).T, 1)[0]
    low, high = np.quantile(slopes, (0.025, 0.975))
    return float(low), float(line[0]), float(high)
