"""Decisions: what is recommended, how sure, in which colours, and in words of both languages."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from worked import CHECKPOINT, hardware, law, setting

from sparsity_lab.cost.advice import Advice
from sparsity_lab.cost.candidates import candidates, focus_of, npv_with
from sparsity_lab.cost.decision import advise, tornado
from sparsity_lab.laws import Law, form_named
from sparsity_lab.messages import LANGUAGES, words_in


def decided(*args, **changes) -> Advice:
    return advise(setting(*args, **changes))


def with_draws(spread: float):
    """The example's law with draws of c_S around its own."""
    held = law()
    values = np.linspace(1000 * (1 - spread), 1000 * (1 + spread), 50)
    draws = held.params._replace(**{name: np.full(50, value) for name, value in held.params._asdict().items()})
    return replace(held, draws=draws._replace(c_S=values))


def messages(advice: Advice):
    chosen = advice.recommendation
    yield from (chosen.headline, *chosen.until, *advice.checklist, *advice.caveats)
    yield from (part for criterion in advice.criteria for part in (criterion.finding, criterion.change))
    yield from (option.obstacle for option in advice.options if option.obstacle)


MANY = {"inference__items_per_year": 1e13}
CASES = {
    "few": decided(hardware()),
    "many": decided(hardware(), **MANY),
    "slow": decided(hardware(0.5), **MANY, format="csr"),
    "nothing known": decided(None, **MANY),
    "prune": decided(hardware(), checkpoint=CHECKPOINT, engineering__days=1, engineering__days_per_year=0),
    "unreachable": decided(hardware(), checkpoint={"dense": 1e7, "data": 1e9}),
    "unknown worth": decided(hardware(), checkpoint=CHECKPOINT, sparsities=[0.4]),
    "short of data": decided(hardware(), training__data_available=1e8),
    "dense better": decided(hardware(), model__data=1e8, training__data_available=1e12),
    "scarce": decided(hardware(), model__data=1e8, training__data_available=1.5e8, **MANY),
    "unsure": decided(hardware(), ranges={"items_per_year": [1e9, 1e12]}, inference__items_per_year=5e10),
    "doubtful law": decided(hardware(), with_draws(0.9), **MANY),
}


def test_few_items_stay_dense_with_the_volume_that_would_change_it():
    found = CASES["few"].recommendation
    assert (found.choice, found.firm, found.confidence) == ("stay-dense", True, 1.0)
    above = next(message for message in found.until if message.key == "until-above")
    assert above.values["items"] == pytest.approx(5633.6 / 2.496e-7)
    assert CASES["few"].options[1].npv == pytest.approx(-5184.32)


def test_many_items_train_sparse():
    found = CASES["many"]
    assert (found.recommendation.choice, found.recommendation.firm) == ("train-sparse", True)
    assert found.recommendation.option == found.focus == 1
    assert [criterion.colour for criterion in found.criteria] == ["green", "green", "green"]
    assert found.criteria[1].value == pytest.approx(2.0)
    assert found.criteria[1].threshold == pytest.approx(1e8 / 0.5 / 2.56e8)


def test_hardware_that_is_too_slow_is_red():
    found = CASES["slow"]
    assert found.recommendation.choice == "stay-dense"
    assert [criterion.colour for criterion in found.criteria][1:] == ["red", "red"]
    assert found.options[1].break_even_items.side == "never"


def test_unknown_hardware_is_amber():
    assert CASES["nothing known"].criteria[1].colour == "amber"
    assert {message.key for message in CASES["nothing known"].caveats} >= {"caveat-no-hardware"}


def test_pruning_wins_where_training_is_what_costs():
    found = CASES["prune"]
    assert found.recommendation.choice == "prune-existing"
    assert found.options[found.focus].kind == "prune-existing"


@pytest.mark.parametrize(
    ("name", "obstacle"),
    [
        ("unreachable", "unreachable-data"),
        ("unknown worth", "unknown-worth"),
        ("short of data", "data-short"),
        ("dense better", "data-dense-better"),
    ],
)
def test_what_cannot_be_had_says_why(name, obstacle):
    last = CASES[name].options[-1]
    assert not last.possible
    assert last.obstacle is not None
    assert last.obstacle.key == obstacle
    assert last.share == 0


def test_a_quality_below_the_sparse_floor_is_out_of_reach_however_scarce_data_are():
    floor = {"e": 2.0, "gamma": -0.5, "a": 3000.0, "alpha": 1.0, "c": 1000.0, "b": 5e7, "beta": 1.0}
    form = form_named("generalized")  # e (1 − S)^gamma: sparse models never get below 2.83
    rising = Law(form, form.make_params(floor), "tokens", "by hand")
    found = decided(hardware(), rising, training__data_available=1.5e9)
    sparse = found.options[1]
    assert (sparse.nonzero, sparse.npv, sparse.possible, sparse.share) == (np.inf, -np.inf, False, 0)
    assert sparse.obstacle is not None
    assert sparse.obstacle.key == "unreachable-size"
    assert [criterion.colour for criterion in found.criteria] == ["red", "red", "red"]
    assert (found.recommendation.choice, found.recommendation.firm) == ("stay-dense", True)


def test_short_data_is_red_and_scarce_data_amber():
    short = CASES["short of data"].criteria[0]
    assert (short.colour, short.value, short.threshold) == ("red", 1e8, 1e9)
    assert CASES["scarce"].criteria[0].colour == "amber"


def test_unsure_draws_stay_dense_until():
    found = CASES["unsure"].recommendation
    assert (found.choice, found.firm) == ("stay-dense", False)
    assert CASES["unsure"].options[1].npv > 0
    assert CASES["unsure"].criteria[2].colour == "amber"
    assert found.confidence == pytest.approx(1 - CASES["unsure"].options[1].share)


def test_draws_of_the_law_widen_the_interval():
    sure, loose = CASES["many"].options[1], CASES["doubtful law"].options[1]
    assert loose.npv_high - loose.npv_low > sure.npv_high - sure.npv_low
    assert {bar.field for bar in CASES["doubtful law"].tornado} == {"law"}
    assert "caveat-no-draws" in {message.key for message in CASES["many"].caveats}
    assert "caveat-no-draws" not in {message.key for message in CASES["doubtful law"].caveats}


def test_tornado_is_npv_at_the_ends_widest_first():
    held = setting(
        hardware(),
        ranges={"days": [5, 20], "items_per_year": [1e9, 1e12], "data_available": [1e9, 2e9]},
        training__data_available=1.5e9,
    )
    bars = tornado(held, focus_of(candidates(held)))
    assert [bar.field for bar in bars] == ["items_per_year", "days"]
    assert (bars[1].npv_low, bars[1].npv_high) == pytest.approx((-5184.32 + 2500, -5184.32 - 5000))
    assert bars[0].npv_high == pytest.approx(-5633.6 + 2.496e-7 * 1e12)


def test_break_even_data_is_where_npv_is_zero():
    held = setting(hardware())
    found = CASES["few"].options[1].break_even_data
    assert found.side == "above"
    there = npv_with(held, candidates(held)[0], {"data": found.value})
    assert float(there) == pytest.approx(0, abs=1e-2)


def test_the_same_scenario_gives_the_same_advice():
    again = decided(hardware(), ranges={"items_per_year": [1e9, 1e12]}, inference__items_per_year=5e10)
    assert again.json() == CASES["unsure"].json()


@pytest.mark.parametrize("name", CASES)
def test_json_is_plain(name):
    assert json.loads(json.dumps(CASES[name].json(), allow_nan=False))["options"][0]["kind"] == "dense"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", CASES)
def test_everything_can_be_said(name, language):
    told = words_in(language)
    for message in messages(CASES[name]):
        text = told(message)
        assert text
        assert not set("{}") & set(text)
        assert "nan" not in text
        assert not any(f"{kind}-" in text for kind in ("unit", "pattern", "field"))
