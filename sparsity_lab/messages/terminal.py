"""What long work says while it lasts, on whatever stands for a terminal: text of others is text there, and no command.

Rich takes square brackets in what it prints for markup (`[/a]` in a file's name ends in an error) and passes on most
control characters. Whatever says something of the work does it by a `Terminal`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.status import Status
from rich.text import Text

from sparsity_lab.errors import printable


class Terminal(Console):
    """A console that shows text as it is: no markup, no highlights, control characters escaped."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"stderr": True, "markup": False, "emoji": False, "highlight": False, **settings})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See rich: whatever is shown goes through here."""
        for part in super().render(renderable, options):
            yield part if part.control else Segment(printable(part.text), part.style)

    def status(self, status: RenderableType, **settings: Any) -> Status:
        """One line that changes; its texts are no markup either."""
        return _PlainStatus(status, console=self, **settings)


class _PlainStatus(Status):
    """A status whose texts are shown as they are."""

    def __init__(self, status: RenderableType, **settings: Any) -> None:
        super().__init__(_plain(status), **settings)

    def update(self, status: RenderableType | None = None, **settings: Any) -> None:
        """See rich."""
        super().update(None if status is None else _plain(status), **settings)


def _plain(text: RenderableType) -> RenderableType:
    return Text(text) if isinstance(text, str) else text
