"""Messages of an advice in words: one catalogue of templates for each language, `advice_words/<language>.json`.

A template names values in braces with how they are written: `{items:count}`, `{S:percent}`, `{speedup:times}`. A value
that is itself a key of the catalogue, such as `unit-tokens`, is said in words.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from string import Formatter
from typing import Any, Literal, get_args

from sparsity_lab.cost.advice import Message
from sparsity_lab.errors import SpecError
from sparsity_lab.plots.labels import count, percent

Language = Literal["en", "ja"]
LANGUAGES: tuple[Language, ...] = get_args(Language)


WRITTEN: Mapping[str, Callable[[float], str]] = {
    "": lambda value: f"{value:g}",
    "count": lambda value: f"{'−' if value < 0 else ''}{count(abs(value))}",
    "percent": percent,
    "nats": lambda value: f"{value:.4f} nats",
    "whole": lambda value: f"{value:,.0f}",
}


class _Words(Formatter):
    """`str.format` with a catalogue and with numbers as people read them."""

    def __init__(self, catalogue: Mapping[str, str]) -> None:
        self.catalogue = catalogue

    def format_field(self, value: Any, format_spec: str) -> str:
        """One value of a template."""
        if isinstance(value, str):
            return self.catalogue.get(value, value)
        if not math.isfinite(value):
            return self.catalogue["unknown" if math.isnan(value) else "endless" if value > 0 else "out-of-reach"]
        if format_spec == "times":
            return self.catalogue["times"].replace("#", f"{value:.4g}")
        return WRITTEN[format_spec](value)


def say(language: str = "en") -> Callable[[Message], str]:
    """What puts messages into words.

    Raises:
        SpecError: there are no words in that language.
    """
    words = _Words(catalogue(language))
    return lambda message: words.vformat(words.catalogue[message.key], (), dict(message.values))


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """Templates by key; errors as `say`."""
    if language not in LANGUAGES:
        raise SpecError("no such language", field="lang", found=language, expected="one of " + ", ".join(LANGUAGES))
    found: dict[str, str] = json.loads(
        (files(__package__) / "advice_words" / f"{language}.json").read_text(encoding="utf-8")
    )
    return found
