"""Runs the real command line on many inputs: a child is forked for each, with everything imported already."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

Verdict = Literal["done", "refused", "traceback", "wrong exit", "hang", "aborted", "nameless", "accepted"]
"""refused: one error, exit 2; nameless: one without the file; accepted: exit 0 where the input had to be refused"""
BAD: tuple[Verdict, ...] = ("traceback", "wrong exit", "hang", "aborted", "nameless", "accepted")
SECONDS = 10
"""CPU seconds after which a command hangs; the wall clock says little on a busy machine"""
WALL = 120
MEMORY = 6 * 2**30
"""bytes of address space"""


@dataclass(frozen=True)
class Outcome:
    """What became of one command."""

    verdict: Verdict
    code: int
    said: str
    seconds: float


def prepare_imports() -> None:
    """Load what commands load, so that a child begins at once."""
    import matplotlib
    import optuna
    import torch

    import sparsity_lab.checkpoints.survey
    import sparsity_lab.cli.main
    import sparsity_lab.stages.fit
    import sparsity_lab.stages.plan
    import sparsity_lab.stages.prepare  # noqa: F401

    torch.set_num_threads(1)
    matplotlib.use("Agg")
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def run(
    arguments: Sequence[str],
    folder: Path,
    names: Sequence[str],
    environment: Mapping[str, str] = MappingProxyType({}),
    *,
    must_refuse: bool = False,
) -> Outcome:
    """Run a command in a folder.

    Args:
        arguments: after `sparsity-lab`.
        folder: the current folder of the command; its output is kept beside it.
        names: an error must hold one of these: the attacked file, field or flag; none is asked for when empty.
        environment: variables that are set besides.
        must_refuse: an input that no sound program takes.
    """
    log = folder.with_name(f"{folder.name}.log")
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.environ.update(environment)
        _become(arguments, folder, log)
    status = _wait(child, began + WALL)
    said = log.read_text(encoding="utf-8", errors="replace")
    log.unlink()
    return Outcome(*_judge(status, said, names, must_refuse=must_refuse), said, time.monotonic() - began)


def _become(arguments: Sequence[str], folder: Path, log: Path) -> None:
    """The child's life: never returns."""
    code = 70
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.setpgid(0, 0)
        os.chdir(folder)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
        sys.argv = ["sparsity-lab", *arguments]
        from sparsity_lab.cli.main import main

        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1 if end.code else 0
        except BaseException:
            import traceback

            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _wait(child: int, deadline: float) -> int:
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    os.killpg(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def _judge(status: int, said: str, names: Sequence[str], *, must_refuse: bool) -> tuple[Verdict, int]:
    """What an exit status, and what was printed, amount to."""
    if os.WIFSIGNALED(status):
        ended = os.WTERMSIG(status)
        return ("hang" if ended in {signal.SIGXCPU, signal.SIGKILL} else "aborted"), -ended
    code = os.WEXITSTATUS(status)
    verdict: Verdict = "refused"
    if re.search(r"^Traceback \(most recent call last\)", said, re.MULTILINE):
        verdict = "traceback"
    elif code == 0:
        verdict = "accepted" if must_refuse else "done"
    elif code != 2:
        verdict = "wrong exit"
    elif names and not any(name in said for name in names):
        verdict = "nameless"
    return verdict, code


def copied(project: Path, folder: Path) -> Path:
    """A copy of a project whose files are links, which costs little; see `own`."""
    shutil.rmtree(folder, ignore_errors=True)
    return Path(shutil.copytree(project, folder, copy_function=os.link, symlinks=True))


def own(path: Path) -> Path:
    """A linked file, as one that may be changed in place."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    return path
