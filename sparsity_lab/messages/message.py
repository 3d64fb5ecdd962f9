"""Something to say, as a value: it is compared, stored and decided on by its key, and never by its words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import TypeAlias, Union

from pydantic import model_validator

from sparsity_lab.errors import said

Value: TypeAlias = Union[float, int, str, "Message", tuple["Message", ...]]
"""a number, a name as it stands, something to say within the sentence, or several such"""


@dataclass(frozen=True)
class Message:
    """Something to say.

    Attributes:
        key: of a template, in the catalogue of every language.
        values: what the template's holes stand for.
    """

    key: str
    values: Mapping[str, Value] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.key, *sorted(self.values.items(), key=lambda item: item[0])))

    @model_validator(mode="after")
    def _sayable(self) -> Message:
        """Of what files hold: a message that no catalogue has, or that lacks a value, is none."""
        from sparsity_lab.messages.catalogue import words_in  # noqa: PLC0415 - which imports this module

        try:
            words_in("en")(self)
        except Exception as error:
            raise ValueError(f"says nothing that is known: {said(error)}") from None
        return self


Said: TypeAlias = str | Message | tuple[Message, ...]
"""what is shown: a name or number as it stands, something to say, or several sentences"""


def message(key: str, **values: Value) -> Message:
    """A message with its values as keywords."""
    return Message(key, values)


def listed(parts: Sequence[Message]) -> Message:
    """One message for several, said as the language joins a list; a single one is itself."""
    return parts[0] if len(parts) == 1 else message("listed", parts=tuple(parts))


def linked(key: str, parts: Iterable[str | Message]) -> str | Message:
    """At least one part, each bound to those before by a template with the holes `one` and `other`."""
    return reduce(lambda one, other: message(key, one=one, other=other), parts)
