"""Processes that die with their parent, however it dies.

A trainer that outlives a killed sweep would hold the run's lock and the cores, and the next sweep would wait for
it. Linux is asked for a death signal; everywhere a thread also watches the parent, which covers parents that
died before the request and a shell between us and the process that counts.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

PR_SET_PDEATHSIG = 1
SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "fish", "busybox"})


def die_with_parent(parent: int) -> None:
    """Be killed when the process `parent` ends, or at once when it is no longer the parent."""
    die_with_ancestors((os.getpid(), parent))


def die_with_ancestors(*links: tuple[int, int]) -> None:
    """Be killed when one of these (process, parent) is no longer so, this process's own parent first."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    _watch(list(links))


def die_with_dvc() -> None:
    """Be killed when the `dvc` that runs this stage ends; nothing where no `dvc` does.

    DVC starts a stage through a shell, which may or may not replace itself by the stage's command.
    """
    if "DVC_STAGE" not in os.environ:
        return
    child, links = os.getpid(), [(os.getpid(), os.getppid())]
    while _name(links[-1][1]) in SHELLS:
        child = links[-1][1]
        links.append((child, _parent(child)))
    _watch(links)


@contextmanager
def without_main() -> Iterator[None]:
    """Within, processes are spawned that do not run this one's script again: ours need none, and a script no guard."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _watch(links: list[tuple[int, int]]) -> None:
    threading.Thread(target=_watch_forever, args=(links,), name="lifeline", daemon=True).start()


def _watch_forever(links: list[tuple[int, int]]) -> None:
    while all(_parent(child) == parent for child, parent in links):
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


def _parent(process: int) -> int:
    if process == os.getpid():
        return os.getppid()
    try:
        return int(Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return -1


def _name(process: int) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
