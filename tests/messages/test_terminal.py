"""What long work says: text of others is text, on a terminal and off it."""

from __future__ import annotations

import io

import pytest
from rich.progress import Progress

from sparsity_lab.messages.terminal import Terminal

HOSTILE = (
    "[/b]",
    "[red]no[/red]",
    "[link=http://x]y[/link]",
    ":warning:",
    "a\x1b[2Jb",
    "a\x9bb",
    "a\u202eb",
    "a\u2028b",
)


def terminal(*, seen: bool) -> tuple[Terminal, io.StringIO]:
    file = io.StringIO()
    return Terminal(file=file, width=100, force_terminal=seen), file


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("text", HOSTILE)
def test_brackets_are_shown_and_control_characters_escaped(text: str, seen: bool) -> None:
    console, file = terminal(seen=seen)
    console.print(f"{text}: 3 runs")
    shown = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
    assert file.getvalue().strip() == f"{shown}: 3 runs"


@pytest.mark.parametrize("text", HOSTILE)
def test_so_they_are_in_the_line_that_changes(text: str) -> None:
    console, file = terminal(seen=True)
    with console.status(text) as status:
        status.update(f"{text} again")
    hostile = "".join(one for one in text if not one.isprintable())
    assert not hostile or hostile not in file.getvalue().replace("\x1b[", "")
    assert not text.startswith("[") or text in file.getvalue()


def test_bars_of_progress_escape_what_they_show() -> None:
    console, file = terminal(seen=True)
    with Progress(console=console) as bars:
        bars.add_task("a\x07b\x9bc")
    assert "\x9b" not in file.getvalue()
