"""Numbers read well and lose at most the digits they say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_lab.plots.labels import count, duration, percent, plural, quantity

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
    assert percent(0.875) == "87.5\N{NO-BREAK SPACE}%"
    assert [duration(s) for s in (3, 150, 9000, 400_000)] == ["3 s", "2.5 min", "2.5 h", "4.63 d"]
    assert [plural(n, "run") for n in (1, 2, 1200)] == ["1 run", "2 runs", "1,200 runs"]
