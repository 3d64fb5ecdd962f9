"""A figure and its words, and the labels drawn into it.

A drawing is made once, with English labels. Each label that is not a name is a message; while `recorded` is open, what
was drawn for it is kept, so that a page in another language can say the same label in its own words.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsity_lab.messages import Message, Said, Value, message, words_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Labels = dict[str, Message]
_RECORD: ContextVar[Labels | None] = ContextVar("labels", default=None)


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure for a page.

    Attributes:
        name: of its files.
        title: above it.
        caption: sentences on how to read it.
        alt: for those who cannot see it, in sentences.
        figure: drawn.
    """

    name: str
    title: Said
    caption: Said
    alt: Said
    figure: Figure


@contextmanager
def recorded() -> Iterator[Labels]:
    """Every label drawn while this is open, or while what it stands in is, by its English text."""
    labels = _RECORD.get()
    if labels is None:
        labels = {}
    token = _RECORD.set(labels)
    try:
        yield labels
    finally:
        _RECORD.reset(token)


def label(key: str, **values: Value) -> str:
    """A line of text for a drawing."""
    return label_of(message(key, **values))


def label_of(said: Message) -> str:
    """A message as a line of text for a drawing."""
    text, record = words_in("en")(said), _RECORD.get()
    if record is not None:
        record[text] = said
    return text
