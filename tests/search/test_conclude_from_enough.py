"""Nothing is concluded of a budget from few sparsities, nor of a gap between them."""

from __future__ import annotations

import numpy as np
import pytest
from made_trials import answer, at_equal_cost, beside_law, law_says, sampled, several, trial, trials

from sparsity_lab.messages import message
from sparsity_lab.search.answer.optimum import gap_at


@pytest.mark.parametrize("sparsities", [(0.0,), (0.0, 0.4), (0.0, 0.4, 0.9)])
def test_dense_never_wins_where_nothing_sparse_was_trained(sparsities: tuple[float, ...]) -> None:
    """A law that saw smaller budgets was believed where the trials of a budget were dense repeats alone."""
    seeds = [trial(10 * k + n, S, 3 + S, seed=n) for k, S in enumerate(sparsities) for n in range(4)]
    result = beside_law(seeds, law_says(0.0, 0.0))
    assert result.verdict == message("search-few-sparsities", n=len(sparsities), needed=4)
    assert (result.optimum, result.gained, result.curve) == (None, None, None)
    assert result.dense_loss == 3.0
    assert beside_law(trials({S: 3 + S for S in (0.0, 0.2, 0.4, 0.6)}), law_says(0.0, 0.0)).optimum == 0.0


def test_an_optimum_in_a_gap_is_not_identified() -> None:
    """As on digits once: S = .12 was called identified, and nothing was trained between 0 and .35."""

    def valley(*sparsities: float) -> dict[float, float | None]:
        return {S: float(3 + (np.log1p(-S) - np.log1p(-0.12)) ** 2) for S in sparsities}

    holed = valley(0.0, 0.35, 0.5, 0.65, 0.85)
    law, curve = beside_law(trials(holed), law_says(0.12, 0.02)), answer(holed, noise=1e-4)
    for result in (law, curve):
        assert (result.optimum, result.gained) == (None, None)
        assert (result.verdict.key, result.verdict.values["low"], result.verdict.values["high"]) == (
            "search-in-gap",
            0.0,
            0.35,
        )
        assert result.curve is not None, "it is drawn all the same"
    assert answer({**holed, **valley(0.17)}, noise=1e-4).optimum == pytest.approx(0.12, abs=0.01)


def test_curves_whose_optimum_lies_in_a_gap_are_no_part_of_the_trend() -> None:
    places = np.linspace(0, 0.9, 7).tolist()
    whole = {d: trials(sampled(at_equal_cost(d), 0.002, places), d) for d in (150_000_000, 1_000_000_000)}
    assert several(whole, 0.01).trends[0].p_value is not None
    holed = {d: [t for t in found if not 0.2 < t.sparsity < 0.7] for d, found in whole.items()}
    assert several(holed, 0.01).trends[0].verdict == message("search-trend-too-few", n=0, all=2)


@pytest.mark.parametrize(
    ("sparsity", "gap"),
    [
        (0.0, (0.0, 0.3)),
        (0.1, (0.0, 0.3)),
        (0.305, (0.0, 0.3)),
        (0.4, None),
        (0.5, None),
        (0.7, None),
        (0.75, (0.7, 0.9)),
        (0.707, None),
    ],
)
def test_gaps_lie_between_trials_and_beyond_them(sparsity: float, gap: tuple[float, float] | None) -> None:
    assert gap_at(sparsity, np.array([0.7, 0.3, 0.0, 0.502, 0.3]), (0.0, 0.9)) == gap
