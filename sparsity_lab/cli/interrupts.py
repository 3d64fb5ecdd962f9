"""Ctrl-C while modules are loaded: torch, which takes seconds, would abort the process or end it in a traceback."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

INTERRUPTED = 130
"""what typer exits with after Ctrl-C"""
TOLD = "interrupted: finished runs are kept, the others go on from their checkpoints\n"
LOADER = "<frozen importlib._bootstrap>"


@contextlib.contextmanager
def ending_imports() -> Iterator[None]:
    """Inside, Ctrl-C ends the process at once where a module is being loaded; elsewhere it is what it always was."""
    ours = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    if not ours or before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupted(number: int, frame: FrameType | None) -> None:
    """An exception would pass through the C++ of a library that is being loaded, which gives up on it."""
    here = frame
    while here is not None:
        if here.f_code.co_filename == LOADER:
            sys.stderr.write(TOLD)
            sys.stderr.flush()
            os._exit(INTERRUPTED)
        here = here.f_back
    signal.default_int_handler(number, frame)
