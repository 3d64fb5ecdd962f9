from __future__ import annotations

from typing import Any

import pytest
from regime_cases import GRIDS, SCORES, Shapes, regime

from sparsity_lab.errors import SpecError
from sparsity_lab.pruning.feasibility import check_feasible, resolve_regime
from sparsity_lab.specs.regimes.patterns import NofM
from sparsity_lab.specs.regimes.starts import Scratch

SHAPES: Shapes = {"b.q": (8, 12), "b.wo": (16, 4)}
TWO_OF_FOUR = regime(pattern={"kind": "n:m", "n": 2, "m": 4})


def said(regime: Any, sparsity: float, shapes: Shapes | None = None) -> str:
    """What is said against a regime; nothing when it can be."""
    try:
        check_feasible(regime, sparsity, shapes or SHAPES)
    except SpecError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("method", ["masked", "straight-through", "dynamic"])
@pytest.mark.parametrize("pattern", GRIDS, ids=lambda fields: "-".join(map(str, fields.values())))
@pytest.mark.parametrize("score", SCORES, ids=lambda fields: str(fields["kind"]))
def test_methods_patterns_and_scores_combine(method: str, pattern: Any, score: Any) -> None:
    assert not said(regime(method, pattern=pattern, score=score), 0.5)


@pytest.mark.parametrize("outside", ["balanced", "dense"])
def test_what_can_be_pruned_is_not_refused(outside: str) -> None:
    assert not said(
        regime(score={"kind": "wanda"}, allocation={"kind": "uniform", "embeddings_and_head": outside}), 0.5
    )
    assert not said(regime(), 0.99, {"a": (3, 7)})
    assert not said(TWO_OF_FOUR, 0.5)
    assert not said(regime(pattern={"kind": "n:m", "n": 1, "m": 3}), 0.6666666666666666, {"a": (4, 6)})
    assert not said(
        regime(pattern=NM, allocation={"kind": "uniform", "exclude": ["b.wo"]}),
        0.3,
        {"b.q": (4, 12), "b.wo": (8, 4)},
    )
    assert not said(regime(allocation={"kind": "layers", "sparsity": {"b.q": 0.25, "b.wo": 0.5}}), 0.35)


NM = {"kind": "n:m", "n": 2, "m": 4}


@pytest.mark.parametrize(
    ("asked", "sparsity", "reason"),
    [
        (
            TWO_OF_FOUR,
            0.75,
            "sparsity: 2:4 ends on one sparsity only (found 0.75, expected 0.5, or 0 for the dense run)",
        ),
        (
            regime(pattern={**NM, "m": 8}),
            0.75,
            "pattern: 2:8 does not divide the input dimension of b.q (found 12, expected a multiple of 8 (see",
        ),
        (
            regime(pattern={"kind": "n:m", "m": 4}),
            0.6,
            "sparsity: no whole number of every 4 weights stays at this sparsity (found 0.6, expected",
        ),
        (regime(pattern={"kind": "n:m", "m": 4}), 0.9, "no whole number of every 4 weights stays"),
        (regime(pattern=NM, allocation={"kind": "global"}), 0.5, "every tensor of an n:m pattern ends on the same"),
        (
            regime(pattern=NM, allocation={"kind": "uniform", "exclude": ["b.wo"]}),
            0.5,
            "(found 0.5, expected 0.3, or 0",
        ),
        (
            regime("dynamic", pattern=NM),
            0.5,
            "a dynamic regime cannot follow this pattern: dropping and growing one by",
        ),
        (
            regime(pattern={"kind": "block", "height": 8, "width": 8}),
            0.5,
            "pattern: blocks of 8 x 8 do not divide b.q (found '8 x 12', expected multiples of 8 and 8)",
        ),
        (regime(pattern={"kind": "block", "height": 8, "width": 4}), 0.1, "rounding to whole units prunes nothing"),
        (regime(pattern={"kind": "channel", "axis": "columns"}), 0.9, "rounding to whole units empties b.wo"),
        (
            regime(pattern={"kind": "unstructured", "within": "row"}, allocation={"kind": "global"}),
            0.5,
            "allocation: rows of equal sparsity leave nothing to rank globally",
        ),
        (
            regime("dynamic", pattern={"kind": "channel"}, allocation={"kind": "global"}),
            0.5,
            "channels of different tensors differ in size",
        ),
        (regime("dynamic", schedule={"kind": "cyclic"}), 0.5, "dense phases undo what a dynamic regime has grown"),
        (
            regime("dynamic", schedule={"kind": "one-shot"}, refresh={"until": 0.5}),
            0.5,
            "refresh.until: masks settle before the first are chosen (found 0.5, expected over 0.5)",
        ),
        (
            regime(allocation={"kind": "uniform", "exclude": ["head.*"]}),
            0.5,
            "allocation.exclude: matches no prunable tensor (found 'head.*', expected names such as b.q, b.wo)",
        ),
        (
            regime(allocation={"kind": "uniform", "exclude": ["b.*"]}),
            0.5,
            "allocation.exclude: no tensor is left to prune",
        ),
        (
            regime(allocation={"kind": "uniform", "exclude": ["b.q"]}),
            0.5,
            "would have to give up more than they have (found 0.5, expected less than 0.4)",
        ),
        (
            regime(allocation={"kind": "layers", "sparsity": {"b.q": 0.5}}),
            0.8,
            "would have to give up more than they have (found 0.8, expected less than 0.7)",
        ),
        (
            regime(allocation={"kind": "layers", "sparsity": {"b.q": 0.99}}),
            0.3,
            "allocation: named tensors give up more than is asked of all (found 0.3, expected at least 0.594)",
        ),
        (
            regime(allocation={"kind": "layers", "sparsity": {"b.q": 0.1, "b.*": 0.5}}),
            0.5,
            "allocation.sparsity: two patterns match b.q",
        ),
        (regime(allocation={"kind": "layers", "sparsity": {"c": 0.1}}), 0.5, "matches no prunable tensor (found 'c'"),
        (
            regime(allocation={"kind": "layers", "sparsity": {"b.*": 0.25}}),
            0.5,
            "gives another sparsity than the one asked for (found 0.25, expected 0.5)",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(asked: Any, sparsity: float, reason: str) -> None:
    found = said(asked, sparsity)
    assert found.startswith("")
    assert reason in found


@pytest.mark.parametrize(("sparsity", "m", "n"), [(0.5, 4, 2), (0.75, 8, 2), (0.875, 8, 1), (1 - 1 / 3, 3, 1)])
def test_n_follows_from_the_sparsity(sparsity: float, m: int, n: int) -> None:
    asked = regime(pattern={"kind": "n:m", "m": m})
    assert resolve_regime(asked, sparsity).pattern == NofM(kind="n:m", n=n, m=m)


def test_a_resolved_regime_has_no_start_and_stays_as_it_is() -> None:
    asked = regime(start={"kind": "dense-run", "seed": 3}, pattern={"kind": "n:m", "m": 4})
    resolved = resolve_regime(asked, 0.5)
    assert resolved.start == Scratch()
    assert resolve_regime(resolved, 0.5) == resolved
    with pytest.raises(SpecError, match=r"^sparsity: no whole number"):
        resolve_regime(asked, 0.6)
