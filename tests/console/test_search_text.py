"""The answer as text: every line fits a terminal, and says what was found, how surely, and at what cost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_trials import asked, at_equal_cost, sampled, trial, trials
from made_trials import settings as spec_of

from sparsity_lab.artifacts.searches import SearchResult
from sparsity_lab.console.search import answer_text
from sparsity_lab.console.tables import WIDTH
from sparsity_lab.messages import words_in
from sparsity_lab.messages.numbers import quantity
from sparsity_lab.search.answer.conclude import conclude

SIZES, BUDGETS = (1_000_000, 4_000_000), (100_000_000, 300_000_000, 1_000_000_000)


@pytest.fixture(scope="module")
def result() -> SearchResult:
    known = {
        asked(budget, nonzero): trials(sampled(at_equal_cost(budget, nonzero), 0.01), budget, nonzero)
        for nonzero in SIZES
        for budget in BUDGETS
    }
    known[asked(BUDGETS[0], SIZES[0])].append(trial(99, 0.5, None, budget=BUDGETS[0], state="stopped"))
    spec = spec_of(nonzero=SIZES, budgets=BUDGETS)
    elsewhere = [trial(200, 0.5, 9.0, nonzero=250_000)]
    return conclude("a-study", spec, "images", known, noise=0.01, confidence=0.9, explored=elsewhere)


def test_it_fits_a_terminal_and_names_every_size_budget_and_trend(result: SearchResult) -> None:
    said = answer_text(result)
    lines = said.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert [line for line in lines if line.endswith("non-zero weights")] == [
        "1M non-zero weights",
        "4M non-zero weights",
    ]
    assert sum(line.startswith("Trend: ") for line in lines) == 2
    assert all(sum(line.startswith(f"{b}: ") for line in lines) == 2 for b in ("100M", "300M", "1B"))
    assert "given up early of 10 trials" in said
    assert "at 90%" in said
    text = " ".join(said.split())
    assert f"Noise {result.noise:.3g} nats ({words_in('en')(result.noise_source)})" in text
    # 6 budgets of 9 dense-cost trials, one more and one elsewhere, each 6 N D
    spent = sum(6 * n * b * 9 for n in SIZES for b in BUDGETS) + 6 * 1e6 * 1e8 + 6 * 250_000 * 3e8
    assert f"56 trials, 1 of them at other N and budgets; {quantity(spent, 'FLOPs')} of training" in text


def test_a_row_has_the_optimum_its_interval_the_gain_and_the_flat_region(result: SearchResult) -> None:
    budget = result.of(SIZES[0])[-1]
    row = next(line.split() for line in answer_text(result).splitlines() if line.strip().startswith("1B "))
    assert row[1] == "9"
    assert row[3] == f"{budget.optimum:.2f}"
    assert row[4] == f"{budget.optimum_low:.2f}-{budget.optimum_high:.2f}"
    assert row[6] == f"{budget.gained:+.4f}"
    assert row[8] == f"{budget.flat_low:.2f}-{budget.flat_high:.2f}"


@settings(max_examples=20, deadline=None)
@given(st.floats(1, 1e21), st.floats(-1e3, 1e3), st.sampled_from(["data", "compute", "seconds"]))
def test_no_number_bursts_the_table(result: SearchResult, budget: float, gained: float, unit: str) -> None:
    one = result.budgets[0].model_copy(
        update={"budget": budget, "gained": gained, "gained_low": gained - 1, "gained_high": gained + 1}
    )
    changed = result.model_copy(update={"budgets": (one, *result.budgets[1:]), "budget_unit": unit})
    assert max(map(len, answer_text(changed).splitlines())) <= WIDTH
