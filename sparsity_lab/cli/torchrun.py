"""`torchrun --nproc-per-node N -m sparsity_lab.training STUDY`: a study whose runs are trained on all processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsity_lab.cli.options import (
    ComputeOption,
    RootOption,
    SetOption,
    StudyArgument,
    open_compute,
    open_study,
    refuse_unexpanded,
)
from sparsity_lab.errors import SparsityLabError

if TYPE_CHECKING:
    from sparsity_lab.training.parallel.group import Failure

RunsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--only", help="Only runs whose fingerprint begins so; repeatable.", show_default="all that are missing"
    ),
]
ShardedOption = Annotated[
    bool | None,
    typer.Option(
        "--sharded/--whole",
        help="Spread parameters, gradients and optimiser state over the processes.",
        show_default="where one GPU does not hold them",
    ),
]
PartsOption = Annotated[
    int | None,
    typer.Option(
        "--parts", min=1, help="In which new runs take their batches: they decide the bits.", show_default="8"
    ),
]


def main() -> int:
    """One process of the group; its exit code."""
    codes: list[int] = []

    def train(  # noqa: PLR0917
        study: StudyArgument,
        root: RootOption = Path(),
        only: RunsOption = None,
        sharded: ShardedOption = None,
        parts: PartsOption = None,
        compute: ComputeOption = None,
        changes: SetOption = None,
    ) -> None:
        """Train the runs of a study's grid that no store has, each on all processes that torchrun started."""
        codes.append(_train((study, root, changes), tuple(only or ()), compute, sharded=sharded, parts=parts))

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(train)
    try:
        refuse_unexpanded(sys.argv[1:])
        app(prog_name="torchrun … -m sparsity_lab.training")
    except SystemExit as end:  # after help, wrong usage and Ctrl-C, which have been told
        return codes[0] if codes else int(end.code or 0)
    except SparsityLabError as error:
        return _say(str(error), error.exit_code)
    return codes[0] if codes else 0


def _train(
    asked: tuple[str, Path, list[str] | None],
    prefixes: tuple[str, ...],
    compute: str | None,
    *,
    sharded: bool | None,
    parts: int | None,
) -> int:
    from sparsity_lab.artifacts.lifeline import die_with_parent
    from sparsity_lab.stages.train import train_runs
    from sparsity_lab.sweep.executors.ranks import RanksExecutor, dismiss, follow
    from sparsity_lab.sweep.worker import Together
    from sparsity_lab.training.parallel.group import join_group

    die_with_parent(os.getppid())
    group, told = join_group(), threading.Event()
    for name in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(name, lambda *_: told.set())
    together = Together(group.device, sharded, parts, leave=told.is_set)

    def lead() -> None:
        space, where = open_study(*asked), open_compute(asked[1], compute)
        home = space.layout.runs(space.name)
        sweep = train_runs(space, prefixes, where, RanksExecutor(space.workplace(home, where), together))
        dismiss()
        sys.stderr.write(
            f"{space.name}: {len(sweep.records)} runs, {sweep.trained} trained now on {group.size} processes\n"
        )

    return group.run(lead if group.rank == 0 else lambda: follow(together), _tell)


def _tell(failure: Failure) -> None:
    _say(failure.text, failure.code)


def _say(text: str, code: int) -> int:
    sys.stderr.write(f"error: {text}\n")
    return code
