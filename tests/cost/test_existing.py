"""Pruning a checkpoint by a law of pruned models: the worked example by hand, its doubt, and how far it reaches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from worked import CHECKPOINT, hardware, setting

from sparsity_lab.cost.advice import Advice
from sparsity_lab.cost.assumptions import Setting
from sparsity_lab.cost.candidates import outcomes
from sparsity_lab.cost.decision import advise
from sparsity_lab.cost.existing import PruningLaw
from sparsity_lab.laws import Law, document, fit, form_named
from sparsity_lab.laws.rows.runs import Runs
from sparsity_lab.messages import LANGUAGES, words_in

P2 = {"A": 441.9417382, "B": 5e6, "E": 0.025, "gamma": 1.0, "delta": 0.0, "alpha": 0.5, "beta": 1.0}
"""2.30 = 2.10 + 2 (A / sqrt(3.125e8) + 5e6 / D + .025), so D = 1e8"""


def by_hand(draws: np.ndarray | None = None) -> PruningLaw:
    """The example's law of pruned models, with draws of B."""
    form = form_named("pruned_after")
    params = form.make_params(P2)
    drawn = None
    if draws is not None:
        drawn = params._replace(**{name: np.full(len(draws), value) for name, value in P2.items()})
        drawn = drawn._replace(B=draws)
    return PruningLaw("ours", Law(form, params, "tokens", "by hand", drawn))


def pruning(told: PruningLaw, **changes: Any) -> Setting:
    checkpoint = CHECKPOINT | {"law": "ours", "loss": 2.1}
    return replace(setting(hardware(), checkpoint=checkpoint, **changes), pruning=told)


def said(found: Advice) -> set[str]:
    return {message.key for message in (*found.caveats, *found.recommendation.until)}


def test_the_worked_example_by_a_law() -> None:
    one = outcomes(pruning(by_hand()).case())[1]
    assert float(one.option.data[0]) == pytest.approx(1e8)
    assert float(one.cost.total[0]) == pytest.approx(5000 + 1.44 * (312.5 + 312.5 + 1000))


def test_the_loss_before_is_the_scenarios_or_the_laws() -> None:
    held = pruning(by_hand())
    bare = held.scenario.model_copy(update={"checkpoint": held.scenario.checkpoint.model_copy(update={"loss": None})})
    existing = replace(held, scenario=bare).case().existing
    assert float(existing.loss_before(held.law)) == pytest.approx(4000 / 3.125e8**0.5 + 0.05 + 2)


def test_draws_of_the_law_widen_the_saving_and_have_a_bar_of_their_own() -> None:
    cheap = {"engineering__days": 1, "engineering__days_per_year": 0}
    fixed = advise(pruning(by_hand(), **cheap))
    loose = advise(pruning(by_hand(np.linspace(2e6, 8e6, 50)), **cheap))
    assert fixed.recommendation.choice == loose.recommendation.choice == "prune-existing"
    assert fixed.options[2].npv_low == fixed.options[2].npv_high
    assert loose.options[2].npv_low < loose.options[2].npv < loose.options[2].npv_high
    assert {bar.field for bar in loose.tornado} - {bar.field for bar in fixed.tornado} == {"pruning"}
    assert (fixed.pruning.key, loose.pruning.key) == ("pruning-law-fixed", "pruning-law")
    assert "caveat-worth" not in said(fixed)


def test_what_pruning_rests_on_is_said_in_both_languages() -> None:
    held = setting(hardware(), checkpoint=CHECKPOINT)
    own = setting(hardware(), checkpoint=CHECKPOINT | {"worth": [[0.5, 4.0]]})
    every = [held, own, pruning(by_hand()), pruning(by_hand(np.linspace(4e6, 6e6, 9)))]
    told = [advise(one).pruning for one in every]
    assert [one.key for one in told] == ["pruning-paper", "pruning-worth", "pruning-law-fixed", "pruning-law"]
    assert advise(setting(hardware())).pruning is None
    for language in LANGUAGES:
        words = words_in(language)
        assert "ours" in words(told[3])
        assert all(words(one) for one in told)


def test_a_law_is_not_believed_far_beyond_its_runs() -> None:
    """Fitted to a tenth of the size; to as many zeros as are asked for, or fewer."""
    rng, form = np.random.default_rng(0), form_named("pruned_after")
    cheap = {"engineering__days": 1, "engineering__days_per_year": 0}
    for most, doubted in ((0.75, {"pruned-range"}), (0.45, {"pruned-range", "pruned-sparsity"})):
        S, D = rng.uniform(0.3, most, 60), 10 ** rng.uniform(7, 9, 60)
        dense, before = 10 ** rng.uniform(5, 6, 60), rng.uniform(2, 3, 60)
        N = dense * (1 - S)
        loss = form.predict(form.make_params(P2), S, N, D, further={"loss_before": before})
        runs = Runs(S, N, D, loss, "tokens", others={"loss_before": before})
        found = fit(runs, "pruned_after", starts=2)
        told = replace(by_hand(), document=document(found, source="ours"))
        advised = advise(pruning(told, **cheap))
        assert doubted <= said(advised)
        assert ("pruned-sparsity" in said(advised)) == ("pruned-sparsity" in doubted)
        assert (advised.recommendation.choice, advised.recommendation.firm) == ("stay-dense", False)
        near = replace(told, document=told.document.model_copy(update={"provenance": _wide(told)}))
        assert advise(pruning(near, **cheap)).recommendation.choice == "prune-existing"


def _wide(told: PruningLaw) -> Any:
    spans = {"sparsity": (0.1, 0.9), "nonzero": (1e8, 1e9), "data": (1e6, 1e10)}
    return told.document.provenance.model_copy(update={"ranges": spans})


@pytest.mark.parametrize("changes", [{"law": "x", "worth": [[0.5, 4.0]]}, {"loss": 2.0}])
def test_a_checkpoint_has_one_worth(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        setting(hardware(), checkpoint=CHECKPOINT | changes)
