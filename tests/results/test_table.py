"""Every regime has a few words of its own."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from sparsity_lab.results.table import pattern_words, regime_words
from sparsity_lab.specs.regimes.patterns import Pattern
from sparsity_lab.specs.regimes.regime import RegimeSpec


def regime(method: str = "masked", **fields: Any) -> RegimeSpec:
    found: RegimeSpec = TypeAdapter(RegimeSpec).validate_python({"version": 1, "method": method, **fields})
    return found


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ({"kind": "unstructured"}, "unstructured"),
        ({"kind": "unstructured", "within": "row"}, "unstructured in rows"),
        ({"kind": "n:m", "n": 2, "m": 4}, "2:4"),
        ({"kind": "n:m", "m": 8}, "n:8"),
        ({"kind": "block", "height": 4, "width": 2}, "4x2 blocks"),
        ({"kind": "channel"}, "rows"),
        ({"kind": "channel", "axis": "columns"}, "columns"),
        ({"kind": "plugin", "name": "diagonal"}, "diagonal"),
    ],
)
def test_patterns(pattern: dict[str, Any], words: str) -> None:
    assert pattern_words(TypeAdapter(Pattern).validate_python(pattern)) == words


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (regime("dense"), "dense"),
        (regime(), "masked unstructured, magnitude, uniform, cubic"),
        (regime("dynamic"), "dynamic (gradient) unstructured, magnitude, uniform, static"),
        (regime("dynamic", grow="random"), "dynamic (random) unstructured, magnitude, uniform, static"),
        (
            regime("straight-through", score={"kind": "plugin", "name": "mine"}, allocation={"kind": "global"}),
            "straight-through unstructured, mine, global, cubic",
        ),
        (
            regime(schedule={"kind": "plugin", "name": "ramp"}, pattern={"kind": "n:m", "m": 4}),
            "masked n:4, magnitude, uniform, ramp",
        ),
    ],
)
def test_regimes(found: RegimeSpec, words: str) -> None:
    assert regime_words(found) == words
