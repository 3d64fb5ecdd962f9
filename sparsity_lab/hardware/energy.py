"""Joules of what is timed, by counters of the machine: RAPL of a CPU's packages, NVML of a GPU.

Counters know whole packages and boards: what else runs there, and what idles, is in them. So work is repeated until a
counter has long moved on, dense and sparse in turn, and figures of a busy machine are figures of a busy machine.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

POWERCAP = Path("/sys/class/powercap")
MICRO, MILLI = 1e-6, 1e-3
ENERGY_SHARE = 0.4
"""of the time of what is timed in turn, where there is a meter"""


class NoMeterError(Exception):
    """The machine tells nobody its energy; why. Caught where the profile says what was not measured."""


class Meter(Protocol):
    """Joules since any time in the past, rising."""

    name: str
    """of the counters, for people"""
    shortest: float
    """seconds in which the counters move often enough"""

    def joules(self) -> float:
        """Up to now; a counter that wrapped around since the last call has gone on."""
        ...


@dataclass
class _RaplFile:
    """One file of RAPL."""

    path: Path
    largest: float
    last: float
    total: float = 0.0

    def read(self) -> float:
        now = _number(self.path / "energy_uj")
        self.total += now - self.last if now >= self.last else now + self.largest - self.last
        self.last = now
        return self.total


class Rapl:
    """Energy of a CPU's packages.

    Raises:
        NoMeterError: the kernel has no such files, or lets nobody but root read them.
    """

    shortest = 0.02

    def __init__(self, root: Path = POWERCAP) -> None:
        found = [path for path in sorted(root.glob("*-rapl:*")) if path.name.count(":") == 1]
        self._counters = []
        names = []
        for path in found:
            name = _text(path / "name")
            if name.startswith("package"):
                names.append(name)
                self._counters.append(
                    _RaplFile(path, _number(path / "max_energy_range_uj"), _number(path / "energy_uj"))
                )
        if not self._counters:
            raise NoMeterError(f"no counter of a CPU package in {root}")
        self.name = f"RAPL, {' and '.join(names)}"

    def joules(self) -> float:
        """Of all packages."""
        return MICRO * sum(one.read() for one in self._counters)


class Nvml:
    """Energy of an NVIDIA GPU, by `pynvml` (package nvidia-ml-py).

    Args:
        uuid: of the GPU, as the driver names it.

    Raises:
        NoMeterError: the package or the driver is not here, or the GPU counts no energy (before Volta).
    """

    shortest = 0.4

    def __init__(self, uuid: str) -> None:
        try:
            self._nvml = importlib.import_module("pynvml")
        except ImportError:
            raise NoMeterError("pynvml is not installed: pip install nvidia-ml-py") from None
        with _of_nvml():
            self._nvml.nvmlInit()
            self._gpu = self._nvml.nvmlDeviceGetHandleByUUID(uuid)
        self.name = f"NVML, {uuid}"
        self.joules()

    def joules(self) -> float:
        """Since the driver was loaded."""
        with _of_nvml():
            return MILLI * float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu))


def meter_of(device: str, gpu: Callable[[], str], root: Path = POWERCAP) -> Meter:
    """The meter of a device.

    Args:
        device: cpu or cuda.
        gpu: tells the UUID of the GPU.
        root: where the kernel keeps its counters.

    Raises:
        NoMeterError: the machine tells nobody.
    """
    return Nvml(gpu()) if device == "cuda" else Rapl(root)


_METER: ContextVar[Meter | None] = ContextVar("meter", default=None)


@contextlib.contextmanager
def metering(meter: Meter | None) -> Iterator[None]:
    """Whatever pairs are timed inside are metered too."""
    token = _METER.set(meter)
    try:
        yield
    finally:
        _METER.reset(token)


def meter_here(seconds: float, works: int = 2) -> Meter | None:
    """The meter in use, where its counters can tell anything in so many seconds of pieces of work in turn."""
    meter = _METER.get()
    enough = meter is not None and ENERGY_SHARE * seconds / (2 * works) >= meter.shortest
    return meter if enough else None


def joules_in_turn(
    works: Sequence[Callable[[], object]],
    wait: Callable[[], None],
    meter: Meter,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, ...] | None:
    """Joules of one call of each piece of work; None where a counter stood still or failed.

    They are metered one after the other and then in reverse, so that a drift of the machine falls on all.

    Args:
        works: two or more.
        wait: for the device.
        meter: of the device.
        seconds: for everything.
        clock: seconds from anywhere.
    """
    used, calls, order = [0.0] * len(works), [0] * len(works), [*range(len(works)), *reversed(range(len(works)))]
    try:
        for which in order:
            wait()
            begun, until = meter.joules(), clock() + seconds / len(order)
            while clock() < until:
                works[which]()
                calls[which] += 1
                wait()
            used[which] += meter.joules() - begun
    except NoMeterError:
        return None
    return tuple(one / count for one, count in zip(used, calls, strict=True)) if min(used) > 0 else None


@contextlib.contextmanager
def _of_nvml() -> Iterator[None]:
    """The border to the driver: whatever it throws is that it tells nothing."""
    try:
        yield
    except Exception as error:
        raise NoMeterError(f"NVML: {error}") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise NoMeterError(f"{path}: {error.strerror}") from None


def _number(path: Path) -> float:
    text = _text(path)
    if not text.isdigit():
        raise NoMeterError(f"{path}: no number, {text[:40]!r}")
    return float(text)
