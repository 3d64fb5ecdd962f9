"""The start of a search: enough sparsities at every N and budget, whatever the sampler does afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import BUDGETS, N, Runs, context_of, run, spec

from sparsity_lab.artifacts.searches import BudgetResult
from sparsity_lab.search.propose.design import SPACING, anchors, design
from sparsity_lab.search.propose.samplers import given as chosen
from sparsity_lab.search.propose.space import Space
from sparsity_lab.search.propose.targets import LEAST_DIFFERENT, WIDEST_GAP
from sparsity_lab.search.propose.variants import RESOLUTION, on_grid
from sparsity_lab.specs.regimes.regime import Masked, RegimeSpec
from sparsity_lab.specs.regimes.schedules import Static
from sparsity_lab.specs.searches import SamplerName

TWO: dict[str, RegimeSpec] = {
    "gradual": Masked(version=1, method="masked"),
    "static": Masked(version=1, method="masked", schedule=Static(kind="static")),
}
bounds = st.tuples(st.integers(0, 194), st.integers(0, 194)).filter(lambda ends: ends[0] + 3 < ends[1])


def widest(sparsities: Sequence[float]) -> float:
    return max(b - a for a, b in pairwise(sorted(sparsities)))


@given(bounds, st.sets(st.integers(0, 199), max_size=5))
@settings(max_examples=60, deadline=None)
def test_no_gap_is_wide_and_every_beginning_is_as_even_as_it_can_be(ends: tuple[int, int], tried: set[int]) -> None:
    levels = [on_grid(k * RESOLUTION) for k in range(ends[0], ends[1] + 1)]
    known = [on_grid(k * RESOLUTION) for k in tried if ends[0] <= k <= ends[1]]
    found = anchors(known, levels)
    assert len({*found}) == len(found)
    assert {*found} <= {*levels}
    assert widest([*known, *found]) <= SPACING + RESOLUTION + 1e-9
    assert len({*known, *found}) >= LEAST_DIFFERENT
    gaps = [widest([levels[0], levels[-1], *known, *found[:k]]) for k in range(len(found) + 1)]
    assert gaps == sorted(gaps, reverse=True)


def test_the_usual_start_is_known() -> None:
    levels = [on_grid(k * RESOLUTION) for k in range(181)]
    assert anchors([0.0], levels) == [0.9, 0.36, 0.54, 0.18, 0.72]
    assert anchors([0.0, 0.5, 0.75], levels) == [0.9, 0.165, 0.335, 0.625], "what the grid has is not made again"
    assert anchors([], levels[60:]) == [0.9, 0.3, 0.6, 0.45, 0.75], "dense lies outside"
    assert anchors([0.0], [0.25, 0.5, 0.75]) == [0.75, 0.25, 0.5]
    assert anchors([], [0.5]) == [0.5]


def test_the_start_lies_on_one_curve_and_begins_like_a_longer_one() -> None:
    """Of two regimes and two patterns it takes the first of each; what else there is is drawn at random."""
    patterns = [{"kind": "unstructured"}, {"kind": "n:m", "m": 8}]
    asked = spec(regimes=[*TWO], space={"patterns": patterns, "start": {"low": 0.1, "high": 0.5}})
    space = Space.of(asked, [(N, budget) for budget in BUDGETS], TWO)
    known = {(N, budget): [chosen(space, N, budget, {"sparsity": 0.0})] for budget in BUDGETS}
    found = design(space, "seed", known)
    assert [len(trials) for trials in found] == [5, 5, 5]
    for budget, trials in zip(BUDGETS, found, strict=True):
        assert {(one.nonzero, one.data_dense) for one in trials} == {(N, budget)}
        assert {(one.params["regime"], one.params["pattern"]) for one in trials} == {("gradual", "unstructured")}
    starts = [one.params["start"] for trials in found for one in trials]
    assert len({*starts}) == len(starts)


def covered(budget: BudgetResult) -> bool:
    """Whether enough sparsities were trained, none far from the next, before the sampler was asked."""
    opening = [t.sparsity for t in budget.trials if t.source in {"dense", "design"}]
    return len({*opening}) >= LEAST_DIFFERENT and widest(opening) <= WIDEST_GAP and max(opening) == 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["law", "tpe", "random", "grid", "gp"])
def test_every_sampler_has_a_curve_at_every_budget(name: SamplerName, tmp_path: Path) -> None:
    """Dense is best at every budget here: the law sampler spent the lower budgets on dense runs alone."""
    runs = Runs(0.002, loss=lambda S, data, _: 3 + 0.2 * S + (1e7 / data) ** 0.5)
    asked = spec(sampler=name, budgets=BUDGETS, trials=8)
    result = run(tmp_path / "search.journal", runs, asked)
    assert all(covered(budget) for budget in result.budgets)
    assert [budget.verdict.key for budget in result.budgets] == ["search-dense-wins"] * 3
    assert result.trends[0].verdict.key == "search-trend-at-lower-edge"
    assert result.trends[0].p_value is not None, "a test was possible"


@pytest.mark.slow
@pytest.mark.parametrize("joint", [False, True])
def test_more_trials_keep_the_start(joint: bool, tmp_path: Path) -> None:
    several = {"objectives": ["loss", "inference_cost"]} if joint else {}
    few, more = (spec(trials=trials, **several) for trials in (2, 5))
    storage = tmp_path / "search.journal"
    begun, runs = run(storage, Runs(0.002), few), Runs(0.002)
    grown = run(storage, runs, more)
    kept = {t.fingerprint for t in begun.trials}
    assert kept < {t.fingerprint for t in grown.trials}
    assert not kept & {context_of().fingerprint(request) for call in runs.calls for request in call}
    assert [b.verdict.key for b in begun.budgets] == ["search-few-sparsities"] * 2
