"""The words of each language: `messages/<language>/*.json`, catalogues of equal standing with the same keys.

A template names its values in braces, each with how it is written:

| hole | a value of 1,500,000 is |
|---|---|
| `{n}` | a number to six digits, a name as it stands, a message in its own words |
| `{n:count}`, `{n:whole}` | 1.5M; 1,500,000 |
| `{n:percent2}`, `{n:percent4}` | of a fraction, to so many digits instead of three |
| `{n:percent}`, `{n:nats}`, `{n:times}` | of a fraction; a loss; a ratio |
| `{n:FLOPs}`, `{n:bytes}`, `{n:duration}` | 1.5 MFLOPs; 1.5 MB; of seconds |
| `{n:# run|# runs}` | the first where n is 1, else the second; `#` is the number |
| `{word:word}` | what the catalogue has under that key |
| `{n:.3f}` | as Python writes it |

Several messages in one hole are joined as the language joins a list.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from string import Formatter
from typing import Any, Literal, get_args

from sparsity_lab.errors import SpecError
from sparsity_lab.messages.message import Message, Said, message
from sparsity_lab.messages.numbers import count, duration, percent, quantity, storage

Language = Literal["en", "ja"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

WRITTEN: Mapping[str, Callable[[float], str]] = {
    "": lambda value: f"{value:g}",
    "count": lambda value: f"{'−' if value < 0 else ''}{count(abs(value))}",
    "percent": percent,
    "percent2": partial(percent, digits=2),
    "percent4": partial(percent, digits=4),
    "nats": lambda value: f"{value:.4f} nats",
    "whole": lambda value: f"{value:,.0f}",
    "FLOPs": lambda value: quantity(value, "FLOPs"),
    "bytes": storage,
    "duration": duration,
}
LAYOUT = "pattern-"
"""of the words for formats of weights: one of another package goes by its own name"""


@dataclass(frozen=True, eq=False)
class Words(Formatter):
    """Says messages in one language.

    Attributes:
        language: an HTML language code.
        catalogue: templates by key.
    """

    language: Language
    catalogue: Mapping[str, str]

    def __call__(self, said: Said) -> str:
        """A message in words, several as sentences after one another, a name as it stands.

        Raises:
            KeyError: the catalogue has no such key, or the message lacks a value.
        """
        match said:
            case Message():
                return self.vformat(self.catalogue[said.key], (), said.values)
            case str():
                return said
            case _:
                return self.space.join(map(self, said))

    def say(self, key: str, **values: Any) -> str:
        """As a call, for what is said at once."""
        return self(message(key, **values))

    def join(self, said: tuple[Message, ...]) -> str:
        """Several messages as one list."""
        return self.catalogue["list-separator"].join(map(self, said))

    @property
    def space(self) -> str:
        """What stands between two sentences."""
        return self.catalogue["sentence-separator"]

    def format_field(self, value: Any, format_spec: str) -> str:
        """One value of a template."""
        match value:
            case Message():
                return self(value)
            case tuple() | list():
                return self.join(tuple(value))
            case str() if format_spec == "word" and value.startswith(LAYOUT):
                return self.catalogue.get(value, value.removeprefix(LAYOUT))
            case str():
                return self.catalogue[value] if format_spec == "word" else value
            case _:
                return self._number(value, format_spec)

    def _number(self, value: float, form: str) -> str:
        if "|" in form:
            one, several = form.split("|")
            return (one if value == 1 else several).replace("#", f"{int(value) if value == int(value) else value:,}")
        if not math.isfinite(value):
            return self.catalogue["unknown" if math.isnan(value) else "endless" if value > 0 else "out-of-reach"]
        if form == "times":
            return self.catalogue["times"].replace("#", f"{value:.4g}")
        return WRITTEN[form](value) if form in WRITTEN else format(value, form)


@cache
def words_in(language: str = "en") -> Words:
    """What says messages in a language.

    Raises:
        SpecError: there are no words in that language.
    """
    for known in LANGUAGES:
        if language == known:
            return Words(known, _read(known))
    raise SpecError("no such language", field="lang", found=language, expected="one of " + ", ".join(LANGUAGES))


def _read(language: Language) -> Mapping[str, str]:
    """Every template of a language; a key that two of its files hold is a bug and refused."""
    every: dict[str, str] = {}
    for file in sorted((files(__package__) / language).iterdir(), key=lambda file: file.name):
        templates: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
        assert not (twice := every.keys() & templates.keys()), f"{file.name} repeats {sorted(twice)}"
        every |= templates
    return every
