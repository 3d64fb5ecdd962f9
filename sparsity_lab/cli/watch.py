"""`sparsity-lab watch`: how far a study's runs are, from any shell that sees the project."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsity_lab.cli.options import (
    LOOK,
    JsonOption,
    RootOption,
    SetOption,
    StudyArgument,
    open_study,
    print_json,
    print_safe,
)

if TYPE_CHECKING:
    from rich.console import Console

    from sparsity_lab.stages.watch import Watcher

EVERY = 2.0
"""seconds between two looks where nothing is said"""


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(rich_help_panel=LOOK)(watch)


def watch(
    study: StudyArgument,
    root: RootOption = Path(),
    every: Annotated[
        float | None, typer.Option("--every", min=0.2, help="Seconds between two looks.", show_default=f"{EVERY:g}")
    ] = None,
    *,
    once: Annotated[bool, typer.Option("--once", help="Show one frame and end, as off a terminal.")] = False,
    changes: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far a study's runs are while another shell or a cluster trains them: losses, speed, time left.

    It reads what runs write beside their checkpoints and changes nothing. Ends when all is there, or by Ctrl-C.
    """
    from sparsity_lab.console.watch import WatchFrame, watch_json
    from sparsity_lab.messages.terminal import Terminal
    from sparsity_lab.stages.watch import Watcher

    watcher, console = Watcher(open_study(study, root, changes)), Terminal(stderr=False)
    if every is not None and (as_json or once or not console.is_terminal):
        print_safe("--every has no effect: one look is shown", err=True)
    if as_json:
        print_json(watch_json(watcher.look()))
    elif once or not console.is_terminal:
        console.print(WatchFrame(watcher.look()), soft_wrap=not console.is_terminal)
    else:
        _live(watcher, console, EVERY if every is None else every)


def _live(watcher: Watcher, console: Console, every: float) -> None:
    """Frames in place until all is there; Ctrl-C ends it quietly, for nothing of it was at work."""
    from rich.live import Live

    from sparsity_lab.console.watch import WatchFrame

    found = watcher.look()
    try:
        with Live(WatchFrame(found), console=console, auto_refresh=False) as live:
            while not found.over:
                time.sleep(every)
                found = watcher.look()
                live.update(WatchFrame(found), refresh=True)
    except KeyboardInterrupt:
        return
