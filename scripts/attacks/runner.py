"""Runs the real command line on many inputs: a child is forked for each, with everything imported already."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Literal
from unittest import mock

Verdict = Literal["done", "refused", "traceback", "wrong exit", "hang", "aborted", "nameless", "accepted", "unlike"]
"""refused: one error, exit 2; nameless: one without the file; accepted: exit 0 where the input had to be refused;
unlike: the program itself, in a process that began with nothing, ended otherwise than the child"""
BAD: tuple[Verdict, ...] = ("traceback", "wrong exit", "hang", "aborted", "nameless", "accepted", "unlike")
Stream = Literal["kept", "closed", "full", "broken"]
"""where a command's output goes: a file, nowhere (`>&-`), a full device, a pipe that nobody reads"""
SECONDS = 10
"""CPU seconds after which a command hangs; the wall clock says little on a busy machine"""
START = 10
"""CPU seconds more for a process that imports everything first"""
WALL = 600
"""seconds of the wall clock after which one that does nothing is given up"""
MEMORY = 6 * 2**30
"""bytes of address space"""
THREADS = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
CHECKOUT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-P", "-m", "sparsity_lab.cli")
ROOMS = ("cli", "console", "hardware", "report", "stages")
"""what commands load only when they are asked for"""
PASSING = re.compile(r"\d+(\.\d+)? ?(s|ms|min|h|GB|MB|KB|%)\b|\d+:\d\d(:\d\d)?|0x[0-9a-f]+")
"""times, sizes of what is free, and addresses: what two runs of one command may say otherwise"""


@dataclass(frozen=True)
class Shot:
    """A command, and how it is to end.

    Attributes:
        did: what was changed, in words.
        arguments: after `sparsity-lab`.
        names: an error must hold one of these: the attacked file, field or flag; none is asked for when empty.
        variables: of the environment, set besides; None takes one away.
        out, err: where the output goes.
        must_refuse: an input that no sound program takes.
        ends: exit codes that are right besides 0 and 2.
    """

    did: str
    arguments: Sequence[str]
    names: Sequence[str] = ()
    variables: Mapping[str, str | None] = field(default_factory=dict)
    out: Stream = "kept"
    err: Stream = "kept"
    must_refuse: bool = False
    ends: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of one command."""

    verdict: Verdict
    code: int
    errors: str
    """what it wrote as errors"""
    said: str
    """the rest of its output"""
    cpu: float
    """seconds of the processor, its children's too"""


def prepare_imports() -> None:
    """Load what commands load, so that a child begins at once."""
    import gc
    import importlib

    import matplotlib
    import optuna
    import torch
    from pydantic import BaseModel, TypeAdapter

    import sparsity_lab.sweep.worker  # noqa: F401

    for room in ROOMS:
        for path in sorted((CHECKOUT / "sparsity_lab" / room).rglob("[!_]*.py")):
            importlib.import_module(".".join(path.relative_to(CHECKOUT).with_suffix("").parts))
    importlib.import_module("pandas")
    models: list[type[BaseModel]] = [BaseModel]
    for model in models:  # whose schemas are built at their first use, a third of a command's time
        models += model.__subclasses__()
        if model.__module__.startswith("sparsity_lab"):
            model.model_rebuild()
    for adapter in [one for one in gc.get_objects() if type(one) is TypeAdapter]:
        adapter.rebuild()
    torch.set_num_threads(1)
    matplotlib.use("Agg")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    gc.freeze()  # a child's collections leave what it shares alone


def threads() -> int:
    """How many threads this process has; a child of more than one may find a lock that nobody opens again.

    Arrow's allocator keeps one that returns memory; it is not counted, since jemalloc itself sees to forks.
    """
    names = [path.read_text(encoding="utf-8") for path in Path("/proc/self/task").glob("*/comm")]
    return sum(not name.startswith("jemalloc") for name in names)


def run(shot: Shot, folder: Path, *, anew: bool = False) -> Outcome:
    """Run a command in a folder; its output lies beside it for a while.

    Args:
        shot: the command.
        folder: its current folder.
        anew: by the program itself, in a process that imports everything; otherwise in a child that has imported it.
    """
    logs = folder.with_name(f"{folder.name}.err"), folder.with_name(f"{folder.name}.out")
    child = os.fork()
    if child == 0:
        _become(shot, folder, logs, anew=anew)
    status, cpu = _wait(child, time.monotonic() + WALL)
    errors, said = (log.read_text(encoding="utf-8", errors="replace") if log.exists() else "" for log in logs)
    for log in logs:
        log.unlink(missing_ok=True)
    return Outcome(*_judge(shot, status, errors + said), errors, said, cpu)


def compared(forked: Outcome, anew: Outcome) -> Outcome:
    """The outcome of a child, held against the program's own: exit code, and errors where it ended with one.

    What a command that is done said of its progress differs with the load.
    """
    alike = anew.code == 0 or PASSING.sub("", forked.errors) == PASSING.sub("", anew.errors)
    if forked.code == anew.code and alike:
        return forked
    return replace(forked, verdict="unlike", errors=f"{forked.errors}\n--- anew, exit {anew.code}:\n{anew.errors}")


def _become(shot: Shot, folder: Path, logs: tuple[Path, Path], *, anew: bool) -> None:
    """The child's life: never returns."""
    code = 70
    try:
        seconds = SECONDS + START * anew
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.setpgid(0, 0)
        os.chdir(folder)
        os.environ.pop("PYTHONUNBUFFERED", None)  # what is left in a buffer at the end is part of the trial
        for name, value in shot.variables.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _direct(1, shot.out, logs[1])
        _direct(2, shot.err, logs[0])
        if anew:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as a shell hands it on; Python ignores it at its start
            os.environ["PYTHONPATH"] = str(CHECKOUT)
            os.execv(sys.executable, (*PROGRAM, *shot.arguments))  # noqa: S606
        code = call(shot.arguments)
    finally:
        os._exit(code)


def _direct(number: int, stream: Stream, log: Path) -> None:
    """Make a descriptor of this process lead where a shell would have led it."""
    match stream:
        case "kept":
            target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        case "full":
            target = os.open("/dev/full", os.O_WRONLY)
        case "broken":
            read, target = os.pipe()
            os.close(read)
        case _:
            os.close(number)
            return
    os.dup2(target, number)
    os.close(target)


def call(arguments: Sequence[str]) -> int:
    """The exit code of the command line with these arguments, in a child that has imported everything.

    Processes that it would spawn are forked of it, and so have imported everything too.
    """
    forking = multiprocessing.get_context("fork")
    mock.patch.object(multiprocessing, "get_context", return_value=forking).start()
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.argv = ["__main__.py", *arguments]
    sys.modules["__main__"] = ModuleType("__main__")  # usage names the program as one asked for by `python -m`
    sys.modules["__main__"].__package__ = "sparsity_lab.cli"
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
    return code


def start(command: Sequence[str], folder: Path, log: Path, variables: Mapping[str, str], *, warm: bool) -> int:
    """Start a command in a session of its own.

    Args:
        command: the whole of it.
        folder: its current folder.
        log: what it says goes here.
        variables: its environment.
        warm: in a child that has imported everything; `command` begins with `PROGRAM` then.

    Returns:
        The process.
    """
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        for number in (1, 2):
            _direct(number, "kept", log)
        os.environ.update(variables)
        if not warm:
            os.execvp(command[0], tuple(command))  # noqa: S606
        code = call(command[len(PROGRAM) :])
    except OSError as error:
        os.write(2, f"cannot be started: {error}\n".encode())
    finally:
        os._exit(code)


def ended(process: int, seconds: float) -> int | None:
    """The exit code of a child, or None where it still lives so many seconds later."""
    deadline = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.005)


def _wait(child: int, deadline: float) -> tuple[int, float]:
    """Exit status and CPU seconds."""
    pause = 0.001
    while time.monotonic() < deadline:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            return status, used.ru_utime + used.ru_stime
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    os.killpg(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    return status, used.ru_utime + used.ru_stime


def _judge(shot: Shot, status: int, said: str) -> tuple[Verdict, int]:
    """What an exit status, and what was printed, amount to."""
    if os.WIFSIGNALED(status) and -os.WTERMSIG(status) not in shot.ends:
        ended = os.WTERMSIG(status)
        return ("hang" if ended in {signal.SIGXCPU, signal.SIGKILL} else "aborted"), -ended
    code = os.waitstatus_to_exitcode(status)
    verdict: Verdict = "refused"
    if re.search(r"^(Traceback \(most recent call last\)|Exception ignored in)", said, re.MULTILINE):
        verdict = "traceback"
    elif code == 0:
        verdict = "accepted" if shot.must_refuse else "done"
    elif code != 2 and code not in shot.ends:
        verdict = "wrong exit"
    elif shot.names and not any(name in said for name in shot.names):
        verdict = "nameless"
    return verdict, code
