"""What a person sees: plain lines in a log, bars on a terminal."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import pytest
from rich.console import Console

from sparsity_lab.artifacts.records import Stopped
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.sweep.jobs import Done, Failed, Job, Progressed, Waiting
from sparsity_lab.sweep.progress import SweepDisplay


@pytest.fixture
def jobs(make_run: Callable[..., RunSpec]) -> dict[str, Job]:
    runs = [make_run("t5", steps=100), make_run("t5", 0.5, steps=50, seed=3)]
    return {name: Job(name, run, float(run.steps)) for name, run in zip("ab", runs, strict=True)}


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_without_a_terminal_there_is_one_plain_line_a_run(jobs: dict[str, Job]) -> None:
    console = Console(file=io.StringIO(), width=60)
    with SweepDisplay("study", jobs, 3, console) as display:
        display(Progressed("a", 50, 4.0))
        display(Done("a", 3.25, diverged=False))
        display(Progressed("b", 25, math.nan))
        display(Done("b", math.nan, diverged=True))
    first, one, two = shown(console).splitlines()
    assert first == "study: 3 of 5 runs are there already"
    assert one.startswith("study 4/5  width 16   S 0         100 steps  seed 0  loss 3.2500  ")
    assert one.endswith(" left")
    assert "S 0.5" in two
    assert "50 steps  seed 3  diverged" in two
    assert "\x1b" not in shown(console)


def test_on_a_terminal_there_are_bars_with_losses_and_the_time_left(jobs: dict[str, Job]) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=140)
    with SweepDisplay("study", jobs, 1, console) as display:
        display(Progressed("a", 50, 4.125))
        display.bars.refresh()
        during = shown(console)
        display(Done("a", 3.5, diverged=False))
        display.bars.refresh()
    assert "loss 4.125" in during
    assert "50/100" in during
    assert "1/3" in during
    assert "left" in during
    assert "2/3" in shown(console)
    assert "are there already" not in shown(console)


def test_a_finished_run_leaves_the_terminal(jobs: dict[str, Job]) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=140)
    with SweepDisplay("study", jobs, 0, console) as display:
        display(Progressed("a", 99, 4.0))
        assert list(display.rows) == ["a"]
        display(Done("a", 3.0, diverged=False))
        assert not display.rows


def test_the_time_left_is_in_proportion_to_flops(jobs: dict[str, Job], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("sparsity_lab.sweep.progress.time.monotonic", lambda: now[0])
    display = SweepDisplay("study", jobs, 0, Console(file=io.StringIO()))
    assert math.isnan(display.seconds_left())
    now[0] += 30
    display(Progressed("a", 50, 4.0))
    assert display.seconds_left() == pytest.approx(30 * (150 - 50) / 50)
    display(Done("a", 3.0, diverged=False))
    display(Done("b", 3.0, diverged=False))
    assert display.seconds_left() == 0


@pytest.mark.parametrize("terminal", [False, True])
def test_a_failure_clears_the_screen_for_the_error(jobs: dict[str, Job], *, terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal)
    with SweepDisplay("study", jobs, 0, console) as display:
        assert display.bars.live.is_started == terminal
        display(Failed("a", "no", user_error=True))
        assert not display.bars.live.is_started


@pytest.mark.parametrize("terminal", [True, False])
def test_waiting_and_giving_up_are_told_with_their_reasons(jobs: dict[str, Job], terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=140)
    with SweepDisplay("study", jobs, 0, console) as display:
        display(Waiting("no node has room"))
        display.bars.refresh()
        display(Progressed("a", 50, 4.0))
        display(Stopped(fingerprint="a", step=50, steps=100, loss=4.0, reason="it cannot become the best"))
        display.bars.refresh()
    told = shown(console)
    assert "no node has room" in told
    assert terminal or "study 1/2" in told
    assert terminal or "given up: it cannot become the best" in told
