"""Numbers read well and lose at most the digits they say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_lab.messages.numbers import count, duration, percent, quantity, storage

SUFFIX = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1k"),
        (1_327_104, "1.33M"),
        (16_384_000_000, "16.4B"),
        (999_999, "1M"),
        (0.5, "0.5"),
    ],
)
def test_count(value, text):
    assert count(value) == text


@given(st.floats(1e-3, 9e14))
def test_count_keeps_three_digits(value):
    text = count(value)
    read = float(text.rstrip("".join(SUFFIX))) * SUFFIX.get(text[-1], 1)
    assert read == pytest.approx(value, rel=6e-3)
    assert len(text) <= 8


def test_others():
    assert quantity(3.2e15, "FLOPs") == "3.2 PFLOPs"
    assert quantity(12, "FLOPs") == "12 FLOPs"
    assert [quantity(n) for n in (12, 3.2e15)] == ["12", "3.2 P"]
    assert percent(0.875) == "87.5\N{NO-BREAK SPACE}%"
    assert [duration(s) for s in (3, 150, 9000, 400_000)] == ["3.0 s", "2 min 30 s", "2 h 30 min", "4.6 days"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.04, "0.0 s"), (42, "42 s"), (99.7, "1 min 40 s"), (3600, "60 min 0 s"), (7260, "2 h 1 min"), (3e5, "3.5 days")],
)
def test_clock(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_storage() -> None:
    assert [storage(n) for n in (0, 999, 1_327_104, 6.5e10)] == ["0 B", "999 B", "1.33 MB", "65 GB"]
