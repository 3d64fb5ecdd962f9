"""Options that take several numbers: `--nonzero 100M,1e9`."""

from __future__ import annotations

from collections.abc import Callable

import typer

from sparsity_lab.errors import shown

SUFFIXES = {"k": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12, "P": 1e15, "E": 1e18, "Z": 1e21}


def numbers(text: str) -> list[float]:
    """Numbers between commas, each with a suffix k, M, B (or G), T, P, E, Z if it likes.

    Raises:
        typer.BadParameter: a part is no number.
    """
    return [_number(part.strip()) for part in text.split(",")]


def _number(text: str) -> float:
    digits, factor = (text[:-1], SUFFIXES[text[-1]]) if text and text[-1] in SUFFIXES else (text, 1.0)
    try:
        return float(digits) * factor
    except ValueError:
        raise typer.BadParameter(f"{shown(text)} is no number; say 1e8, 100M, or several as 1e8,1e9") from None


def sizes(text: str) -> list[float]:
    """Positive numbers.

    Raises:
        typer.BadParameter: a part is none.
    """
    return _within(text, lambda value: 0 < value < float("inf"), "positive and finite")


def given_sizes(text: str | None) -> list[float] | None:
    """Positive numbers, or None where the option is not given."""
    return None if text is None else sizes(text)


def sparsities(text: str, above: float = -1.0) -> list[float]:
    """Fractions below one, and above a bound.

    Raises:
        typer.BadParameter: a part is none.
    """
    expected = "a fraction, 0 <= S < 1" if above < 0 else f"a fraction, {above:g} < S < 1: dense is always there"
    return _within(text, lambda value: max(0.0, above) <= value < 1 and value != above, expected)


def checked(parse: Callable[[str], object]) -> Callable[[str | None], str | None]:
    """A callback of an option that holds its text against `parse`, so that an error names the option."""

    def check(value: str | None) -> str | None:
        if value is not None:
            parse(value)
        return value

    return check


def _within(text: str, good: Callable[[float], bool], expected: str) -> list[float]:
    found = numbers(text)
    bad = [value for value in found if not good(value)]
    if bad:
        raise typer.BadParameter(f"{bad[0]:g} is not {expected}")
    return found
