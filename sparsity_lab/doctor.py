"""What this machine offers: cores, memory, disk, torch, accelerator and the programs the pipeline calls.

Importing this module is cheap. `diagnose` imports torch, which takes seconds, and multiplies matrices for
a third of a second; the rest reads files of the operating system.
"""

from __future__ import annotations

import configparser
import contextlib
import json
import math
import os
import platform
import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sparsity_lab.artifacts.atomic import explaining, locked

GIB = 2**30
MEMORY_PER_JOB = 1.5
"""GiB that one worker of a quickstart study may take at its peak"""
DISK_WANTED = 5.0
"""GiB that the quickstart studies, their data and DVC's cache fit into with room to spare"""
CUDA_HINT = "make env TORCH_INDEX=https://download.pytorch.org/whl/cu130"
COMPILERS = ("c++", "g++", "clang++")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PROC_CGROUP = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Check:
    """One line of the diagnosis."""

    name: str
    value: str
    state: Literal["ok", "warn", "fail"] = "ok"
    """fail: the pipeline cannot run; warn: it runs, but worse than it could"""
    hint: str = ""
    """what to do about it, or what it is good for"""


def diagnose(root: Path = Path()) -> tuple[Check, ...]:
    """Look at the machine and at the project in `root`; never raises for what it finds missing."""
    usable, installed = usable_cores(), os.cpu_count() or 1
    cores = f"{usable} usable" + (f" of {installed}" if usable < installed else "")
    alone = "" if usable > 1 else "two runs train side by side where there are two cores"
    return (
        Check("Python", f"{platform.python_version()} ({platform.system()} {platform.machine()}), {sys.executable}"),
        Check("cores", cores, hint=alone),
        _memory(),
        _disk("disk", root),
        _disk("temporary disk", Path(tempfile.gettempdir())),
        *_torch(),
        _package("optuna", "the search for the best sparsity needs it"),
        _package("pyarrow", "data and tables of runs are Parquet files"),
        _package("dvc", "`make repro` runs the studies through it"),
        _dvc_repository(root),
        _program("C++ compiler", COMPILERS, "only torch.compile needs one"),
        _program("browser", BROWSERS, "any browser opens the reports; nothing is lost without one here"),
    )


def render(checks: Sequence[Check], width: int = 80) -> str:
    """A table of `width` columns: state, name, value; hints stand below their line."""
    column = max((len(check.name) for check in checks), default=0)
    lines: list[str] = []
    for check in checks:
        prefix = f"{check.state:<4}  {check.name:<{column}}  "
        indent = " " * len(prefix)
        lines += textwrap.wrap(check.value, width, initial_indent=prefix, subsequent_indent=indent) or [prefix]
        lines += textwrap.wrap(check.hint, width, initial_indent=indent + "-> ", subsequent_indent=indent + "   ")
    return "\n".join(line.rstrip() for line in lines)


def usable_cores() -> int:
    """Cores that this process may use: its affinity, cut down to its control group's quota; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(allowed, _cpu_quota())))


def usable_memory() -> int:
    """Bytes that this process may use: the machine's memory, cut down to its control group's limit."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [*_limits("memory.max"), *_limits("memory.limit_in_bytes", "memory")]
    return min([installed, *(int(limit) for limit in limits)])


def _cpu_quota() -> float:
    quotas = [math.inf]
    for text in _limits("cpu.max"):  # version 2: "quota period", microseconds
        quota, period = text.split()
        quotas.append(int(quota) / int(period))
    for quota, period in zip(_limits("cpu.cfs_quota_us", "cpu"), _limits("cpu.cfs_period_us", "cpu"), strict=False):
        quotas.append(int(quota) / int(period))
    return min(quotas)


def _limits(name: str, controller: str = "") -> Iterator[str]:
    """Limits of the own control group and of all above it, without those that say "no limit".

    Args:
        name: the file's name.
        controller: of version 1 ("cpu", "memory"); empty for version 2.
    """
    for folder in _control_groups(controller):
        try:
            text = (folder / name).read_text().strip()
        except OSError:
            continue
        if text and not text.startswith(("max", "-1")):
            yield text


def _control_groups(controller: str) -> Iterator[Path]:
    try:
        lines = PROC_CGROUP.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            own = Path(path.lstrip("/"))
            for group in (own, *own.parents):
                yield CGROUPS / controller / group


def _memory() -> Check:
    usable, jobs = usable_memory() / GIB, usable_cores()
    needed = MEMORY_PER_JOB * jobs
    if usable >= needed:
        return Check("memory", f"{usable:.1f} GiB usable")
    hint = f"{jobs} jobs at a time can take {needed:.1f} GiB; run fewer"
    return Check("memory", f"{usable:.1f} GiB usable", "warn", hint)


def _disk(name: str, folder: Path) -> Check:
    try:
        free = shutil.disk_usage(folder).free / GIB
    except OSError as error:
        return Check(name, f"{folder}: {error.strerror}", "fail", "choose a folder that exists and can be read")
    value = f"{free:.1f} GiB free in {folder.resolve()}"
    if not os.access(folder, os.W_OK):
        return Check(name, value, "fail", "this folder cannot be written")
    if free < DISK_WANTED:
        return Check(name, value, "warn", f"{DISK_WANTED:.0f} GiB hold the quickstart studies with room to spare")
    return Check(name, value)


def _torch() -> tuple[Check, ...]:
    try:
        import torch  # noqa: PLC0415 - seconds of start-up, and a broken build must not break the diagnosis
    except (ImportError, OSError) as error:
        return (Check("torch", f"cannot be imported: {error}", "fail", "make env"),)
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    return (
        Check("torch", f"{torch.__version__}, {build}"),
        _accelerator(torch),
        Check("instruction set", torch.backends.cpu.get_cpu_capability()),
        Check("matrix product", f"{_gigaflops(torch):.0f} GFLOP/s on one thread (fp32, 512 x 512)"),
    )


def _accelerator(torch: ModuleType) -> Check:
    if torch.cuda.is_available():
        found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        return Check("accelerator", "; ".join(f"{each.name}, {each.total_memory / GIB:.0f} GiB" for each in found))
    if torch.backends.mps.is_available():
        return Check("accelerator", f"Apple GPU, shares {usable_memory() / GIB:.0f} GiB of memory")
    if shutil.which("nvidia-smi"):
        return Check("accelerator", "an NVIDIA driver that this torch cannot use", "warn", CUDA_HINT)
    return Check("accelerator", "none; runs train on the CPU")


def _gigaflops(torch: ModuleType, seconds: float = 0.3, side: int = 512) -> float:
    """Peak of one thread over about `seconds` of square matrix products, GFLOP/s."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        left = torch.ones(side, side)
        best, end = math.inf, time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            torch.mm(left, left)
            best = min(best, time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return float(2e-9 * side**3 / best)


def _package(name: str, purpose: str) -> Check:
    try:
        return Check(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Check(name, "not installed", "fail", f"{purpose}: make env")


def torn_files(root: Path) -> tuple[Path, ...]:
    """Files that a kill of DVC itself left half-written, so that every `dvc repro` from then on fails.

    DVC empties `dvc.lock` and `.dvc/tmp/rwlock` and then writes them anew.
    """
    home = _dvc_home(root)
    if home is None:
        return ()
    known = {home / ".dvc" / "tmp" / "rwlock": _is_whole_json, home / "dvc.lock": _is_whole_lock}
    torn = []
    for path, is_whole in known.items():
        with contextlib.suppress(OSError):  # what cannot be read is not torn but in another's hands
            torn += [path] * (path.is_file() and not is_whole(path))
    return tuple(torn)


def mend(root: Path) -> tuple[str, ...]:
    """Put away what `torn_files` finds, where no DVC is at work; what was done, a line each.

    What the stages made stays: without its entry in `dvc.lock` a stage runs again and finds its runs trained.

    Raises:
        MachineError: the folder cannot be written.
    """
    home = _dvc_home(root)
    if home is None or not torn_files(root):
        return ()
    at_work = home / ".dvc" / "tmp"
    with locked(at_work / "lock", wait=False) as own, locked(at_work / "rwlock.lock", wait=False) as alone:
        if not (own and alone):
            return ("another DVC is at work here: nothing was mended",)
        done = []
        for path in torn_files(root):
            away = at_work / f"{path.name}.torn"
            with explaining(path):
                path.replace(away)
            done.append(f"{path.relative_to(home)} was left half-written by a kill: moved to {away.relative_to(home)}")
    return tuple(done)


def _dvc_home(root: Path) -> Path | None:
    return next((folder for folder in (root.resolve(), *root.resolve().parents) if (folder / ".dvc").is_dir()), None)


def _is_whole_json(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except ValueError:
        return False


def _is_whole_lock(path: Path) -> bool:
    """Whether DVC reads a lock file: one that was cut lacks a line's end, a value, a file's path, or a command."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = YAML(typ="safe").load(text)
        files = [one for stage in tree["stages"].values() for kind in ("deps", "outs") for one in stage.get(kind, ())]
        named = all("cmd" in stage for stage in tree["stages"].values()) and all("path" in dict(one) for one in files)
    except (YAMLError, ValueError, TypeError, AttributeError, KeyError):
        return False
    return text.endswith("\n") and "schema" in tree and named and _has_all(tree)


def _has_all(tree: object) -> bool:
    if isinstance(tree, dict):
        return all(map(_has_all, tree.values()))
    return all(map(_has_all, tree)) if isinstance(tree, list) else tree is not None


def _dvc_repository(root: Path) -> Check:
    home = _dvc_home(root)
    if home is None:
        return Check("DVC repository", "none here", "warn", "run from the project's folder, or: dvc init")
    if torn := torn_files(root):
        names = ", ".join(str(path.relative_to(home)) for path in torn)
        return Check("DVC repository", f"{names}: left half-written by a kill", "fail", "sparsity-lab doctor --mend")
    config = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        config.read([home / ".dvc" / name for name in ("config", "config.local")])
    except configparser.Error:
        config.clear()
    remotes = [name.split('"')[1] for name in config.sections() if name.count('"') > 1 and "remote" in name]
    if remotes:
        return Check("DVC repository", f"{home}, remote: {', '.join(remotes)}")
    return Check("DVC repository", f"{home}, no remote", hint="to share runs: dvc remote add -d NAME ADDRESS")


def _program(name: str, candidates: Sequence[str], purpose: str) -> Check:
    found = next((path for path in map(shutil.which, candidates) if path), None)
    return Check(name, found) if found else Check(name, "none found", hint=f"optional: {purpose}")
