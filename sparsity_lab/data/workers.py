"""Work spread over processes: a few that live through many tasks, and die with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar, cast

from sparsity_lab.artifacts.lifeline import die_with_parent, without_main
from sparsity_lab.errors import MachineError, SparsityLabError

Given = TypeVar("Given")
GivenBack = TypeVar("GivenBack")
Progress: TypeAlias = Callable[[str, int, int | None], None]
"""called with what is being done, how many documents or images are done, and of how many (None: not known)"""
Heard: TypeAlias = Callable[[int], None]
"""told how many documents were done since it was told last"""


@dataclass
class Counter:
    """Adds up what processes have done."""

    report: Progress
    what: str
    total: int | None
    done: int = 0

    def __call__(self, more: int) -> None:
        """So many more."""
        self.done += more
        if more:
            self.report(self.what, self.done, self.total)

    def end(self) -> None:
        """That was all."""
        self.report(self.what, self.done, self.done)


class Workers:
    """Processes that share tasks; none is started where one is enough, and the work is then done here.

    Threads of the tokenizers library are switched off in them: a process is a core.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._alive: list[tuple[BaseProcess, Connection]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process, connection in self._alive:
            process.kill()
            process.join()
            connection.close()
        self._alive = []

    def map(
        self, work: Callable[[Given, Heard], GivenBack], tasks: Sequence[Given], heard: Heard, *, apart: bool = False
    ) -> Iterator[tuple[int, GivenBack]]:
        """Do every task: (its number, its result), in whatever order they are finished.

        Args:
            work: what is done for each task; it travels to other processes, as tasks and results do.
            tasks: in the order in which they are handed out.
            heard: told of documents as they are done.
            apart: never in this process, so that Ctrl-C is heard at once.

        Raises:
            SparsityLabError: a task failed for a reason the user can mend.
            RuntimeError: a task failed for a reason of ours, with its traceback.
            MachineError: a process was killed.
        """
        if not apart and min(self.count, len(tasks)) <= 1:
            with threads(1):
                yield from ((number, work(task, heard)) for number, task in enumerate(tasks))
            return
        while len(self._alive) < min(self.count, len(tasks)):
            self._alive.append(_start())
        left = iter(enumerate(tasks))
        busy: dict[Connection, int] = {}
        for _, connection in self._alive:
            _hand(connection, work, left, busy)
        while busy:
            for connection in cast("list[Connection]", wait(list(busy))):
                answer = _answer(connection)
                if isinstance(answer, int):
                    heard(answer)
                    continue
                number = busy.pop(connection)
                _hand(connection, work, left, busy)
                yield number, answer[0]


def _start() -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_live, args=(theirs, os.getpid()), daemon=True)
    with without_main():
        process.start()
    theirs.close()
    return process, ours


def _hand(connection: Connection, work: Any, left: Iterator[tuple[int, Any]], busy: dict[Connection, int]) -> None:
    """Give an idle process the next task, if there is one."""
    number, task = next(left, (-1, None))
    if number < 0:
        return
    busy[connection] = number
    try:
        connection.send((work, task))
    except OSError:
        raise _killed() from None


def _answer(connection: Connection) -> int | tuple[Any]:
    """Documents done since the last time, or the result of a task."""
    try:
        answer = connection.recv()
    except (EOFError, OSError):
        raise _killed() from None
    if isinstance(answer, BaseException):
        raise answer
    found: int | tuple[Any] = answer
    return found


def _killed() -> MachineError:
    return MachineError("a process was killed; is there enough memory? What is finished is kept: start again to go on")


def _live(connection: Connection, parent: int) -> None:
    """A process's life; Ctrl-C is for the one that hands out tasks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)
    with threads(1):
        while True:
            work, task = connection.recv()
            try:
                connection.send((work(task, connection.send),))
            except SparsityLabError as error:
                connection.send(error)
            except Exception:
                connection.send(RuntimeError(traceback.format_exc()))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """How many threads the tokenizers library takes; more than one only where it has none yet."""
    before = {name: os.environ.get(name) for name in ("TOKENIZERS_PARALLELISM", "RAYON_NUM_THREADS")}
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if count > 1 else "false"
    if count > 1:
        os.environ["RAYON_NUM_THREADS"] = str(count)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
