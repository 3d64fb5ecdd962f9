"""Numbers as people read them: the same in figures, tables and sentences."""

from __future__ import annotations

import math

_STEPS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_WORDS = {"E": "e18", "P": "e15"}


def count(value: float, digits: int = 3) -> str:
    """Three significant digits and a suffix: 1_327_104 is "1.33M", 16_384_000_000 is "16.4B"."""
    return _with_suffix(value, digits, {"G": "B", **_WORDS})


def quantity(value: float, unit: str = "", digits: int = 3) -> str:
    """A physical quantity with its SI prefix: 3.2e15 FLOPs are "3.2 PFLOPs", or "3.2 P" where a head has the unit."""
    text = _with_suffix(value, digits, {})
    number, prefix = (text[:-1], text[-1]) if text[-1].isalpha() else (text, "")
    return f"{number} {prefix}{unit}".rstrip()


def duration(seconds: float) -> str:
    """Seconds as 42 s, 3 min 20 s, 5 h 12 min or 3.4 days."""
    whole = round(seconds)
    if whole < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 6000:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 2 * 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole / 86400:,.1f} days"


def storage(count: float) -> str:
    """Bytes with a decimal prefix: 1_330_000 is "1.33 MB"."""
    return quantity(count, "B")


def percent(fraction: float, digits: int = 3) -> str:
    """A fraction as a percentage, .875 is "87.5 %", with a space that no line breaks at."""
    return f"{100 * fraction:.{digits}g}\N{NO-BREAK SPACE}%"


def _with_suffix(value: float, digits: int, names: dict[str, str]) -> str:
    if not math.isfinite(value):
        return str(value)
    rounded = float(f"{value:.{digits}g}")
    for size, suffix in _STEPS:
        if abs(rounded) >= size:
            return _plain(rounded / size, digits) + names.get(suffix, suffix)
    return _plain(rounded, digits)


def _plain(value: float, digits: int) -> str:
    return f"{float(f'{value:.{digits}g}'):g}"
