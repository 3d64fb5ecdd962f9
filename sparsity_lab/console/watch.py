"""What `sparsity-lab watch` shows: how many runs are there, and how far those are that are under way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.text import Text

from sparsity_lab.console.tables import text_table
from sparsity_lab.messages.numbers import count, duration
from sparsity_lab.stages.watch import StudyWatch, Watched

BARS, PLAIN_BARS = "▁▂▃▄▅▆▇█", "_.-=+*#@"
NO_NUMBER = "×"
WIDTH = 16
"""columns of a curve"""
HEAD = ("run", "done", "loss", "curve", "left", "steps/s", "data", "", "where")
"""what matters most first: a narrow terminal cuts off the rest"""
STYLES = {"alive": "", "silent": "yellow", "dead": "red"}


def watch_json(found: StudyWatch) -> dict[str, Any]:
    """Everything, for machines."""
    return {
        "study": found.study,
        "total": found.total,
        "finished": found.finished,
        "waiting": found.waiting,
        "seconds_left": found.seconds_left,
        "trials": found.trials,
        "trial_runs": found.trial_runs,
        "over": found.over,
        "runs": [
            {
                **run.progress.model_dump(mode="json"),
                "seconds_left": run.progress.seconds_left,
                "part": run.part,
                "life": run.life,
                "quiet": run.quiet,
            }
            for run in found.runs
        ],
    }


class WatchFrame:
    """One frame of the view, for rich: plain text where that is no terminal."""

    def __init__(self, found: StudyWatch) -> None:
        self.found = found

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """See rich."""
        found, bars = self.found, PLAIN_BARS if options.ascii_only else BARS
        yield Text(_head(found), overflow="fold" if console.is_terminal else "ignore")
        if console.is_terminal and not options.ascii_only:
            yield ProgressBar(total=max(1, found.total), completed=found.finished, width=60)
            yield Segment.line()
        if found.runs:
            head, _, *rows = text_table(HEAD, [_row(run, bars) for run in found.runs], left=len(HEAD)).splitlines()
            styles = ["bold", *(STYLES[run.life] for run in found.runs)]
            for line, style in zip((head, *rows), styles, strict=True):
                yield Text(line.rstrip(), style, no_wrap=True, overflow="ellipsis" if console.is_terminal else "ignore")
        elif not found.over:
            yield Text("nothing is at work on it here; `sparsity-lab train` goes on with what is missing")


def _head(found: StudyWatch) -> str:
    lost = len(found.of("dead"))
    parts = [
        f"{found.finished} of {found.total} runs are there",
        f"{len(found.runs) - lost} under way",
        f"{found.waiting} waiting",
    ]
    if lost:
        parts.append(f"{lost} lost: the next worker goes on from the checkpoint")
    if found.seconds_left is not None:
        parts.append(f"about {duration(found.seconds_left)} left")
    if found.trials is not None and (found.trial_runs or any(run.part == "search" for run in found.runs)):
        parts.append(f"search: {found.trial_runs} runs there, {found.trials} trials asked for beside dense ones")
    return f"{found.study}: {', '.join(parts)}"


def _row(run: Watched, bars: str) -> tuple[str, ...]:
    told = run.progress
    losses = [point.loss for point in told.curve]
    left = told.seconds_left if run.life == "alive" else None
    return (
        told.fingerprint[:12],
        f"{told.share:.0%}",
        f"{losses[-1]:.4f}" if losses else "-",
        sparkline(losses, WIDTH, bars),
        duration(left) if left is not None else "-",
        f"{told.steps_per_second:.3g}" if told.steps_per_second else "-",
        f"{count(told.data_per_step * told.steps_per_second)}/s" if told.steps_per_second else "-",
        told.words,
        _where(run),
    )


def _where(run: Watched) -> str:
    owner = run.progress.owner
    part = "" if run.part == "grid" else f"{run.part}, "
    place = f"{part}{owner.host or owner.machine[:8]}, process {owner.process}"
    match run.life:
        case "dead":
            return f"{place} is gone"
        case "silent":
            return f"{place}, silent for {duration(run.quiet)}"
        case "alive":
            return place


def sparkline(values: Sequence[float], width: int, bars: str = BARS) -> str:
    """Numbers as bars of a line of text, the lowest one the lowest bar; the last of each stretch where they are many.

    Args:
        values: in order; what is no finite number is a cross.
        width: columns at the most.
        bars: characters from low to high.
    """
    shown = [values[-(-(n + 1) * len(values) // width) - 1] for n in range(width)] if len(values) > width else values
    finite = [value for value in shown if math.isfinite(value)]
    low, span = min(finite, default=0.0), max(finite, default=0.0) - min(finite, default=0.0)
    no_number = NO_NUMBER if bars == BARS else "x"
    return "".join(
        bars[round((value - low) / span * (len(bars) - 1)) if span else 0] if math.isfinite(value) else no_number
        for value in shown
    )
