"""Economics: the example of docs/decision.md to its very numbers, and what must hold for any numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worked import CHECKPOINT, hardware, law, setting

from sparsity_lab.cost.candidates import outcomes
from sparsity_lab.cost.economics import (
    annuity,
    equal_quality_size,
    from_scratch,
    hourly,
    sufficient_data,
)
from sparsity_lab.cost.existing import pruned, pruning_worth

volumes = st.floats(0, 1e14)
speedups = st.floats(0.2, 20)


def case(**changes):
    return setting(hardware(), **changes).case()


def options(held):
    sparse = from_scratch(held.law, held.given, 0.5, m=held.m[..., 0], r=held.r[..., 0])
    return held.given.dense(), sparse


def test_worked_example_prices_and_quality():
    held = case()
    assert float(hourly(1.9, 400, 0.2, 1.25)) == pytest.approx(2.0)
    assert float(annuity(0.25, 2)) == pytest.approx(1.44)
    assert float(held.given.target_loss(held.law)) == pytest.approx(2.30)
    assert float(equal_quality_size(held.law, 0.5, 2.56e8, 1e9)) == pytest.approx(1e8)


def test_worked_example_costs():
    reference, sparse = options(case())
    a, b = (one.cost(case().given) for one in (reference, sparse))
    assert [float(part) for part in a] == pytest.approx([0, 2560, 512, 0, 4423.68])
    assert [float(part) for part in b] == pytest.approx([5000, 2000, 200, 1000, 9608])
    assert float(sparse.npv(reference, case().given)) == pytest.approx(-5184.32)


def test_worked_example_break_even():
    reference, sparse = options(case())
    found = sparse.break_even_items(reference, case().given)
    assert found.side == "above"
    assert found.value == pytest.approx(5633.6 / 2.496e-7)
    there = replace(case().given, items_per_year=found.value)
    assert float(sparse.npv(reference, there)) == pytest.approx(0, abs=1e-6)


def test_worked_example_pruned():
    held = case(checkpoint=CHECKPOINT)
    option = pruned(held.law, held.given, held.existing, 0.5, m=2.0, r=0.5)
    assert float(option.data) == pytest.approx(5e8 / 4.9)
    assert float(option.cost(held.given).total) == pytest.approx(7349.18, abs=0.005)
    assert float(option.npv(held.given.dense(), held.given)) == pytest.approx(-2925.50, abs=0.005)


def test_worked_example_enough_data():
    assert float(sufficient_data(law(), 0.5, 1e8, 2.0)) == pytest.approx(5e7 / 2 / 0.15)


@settings(max_examples=30)
@given(volumes, volumes, st.floats(0, 1))
def test_npv_is_linear_in_volume(one, other, share):
    reference, sparse = options(case())

    def saved(items):
        return float(sparse.npv(reference, replace(case().given, items_per_year=items)))

    middle = share * one + (1 - share) * other
    expected = share * saved(one) + (1 - share) * saved(other)
    assert saved(middle) == pytest.approx(expected, rel=1e-9, abs=1e-3)


@settings(max_examples=30)
@given(speedups, speedups, volumes)
def test_faster_sparse_inference_never_lowers_the_case_for_sparsity(one, other, items):
    slow, fast = sorted((one, other))
    held = [setting(hardware(v), inference__items_per_year=items, format="csr").case() for v in (slow, fast)]
    worse, better = (float(outcomes(each)[0].npv[0]) for each in held)
    assert better >= worse


@settings(max_examples=30)
@given(st.sampled_from([0.5, 0.75, 0.875]), st.floats(1e6, 1e10), st.floats(1e8, 1e12))
def test_without_use_or_work_training_decides_in_closed_form(S, nonzero, data):
    held = setting(
        None,
        sparsities=[S],
        model={"nonzero": nonzero, "data": data},
        inference={"items_per_year": 0},
        engineering={"days": 0, "day_cost": 0},
    ).case()
    gain = (4000 / (3000 * (1 - S) + 1000)) ** 2
    per_run = 6 * nonzero * data * (1 - 1 / (gain * (1 - S))) / 1e12 / 3600 * 2.0
    assert float(outcomes(held)[0].npv[0]) == pytest.approx(1.44 * 3 * per_run, rel=1e-9)


def test_one_year_without_discount_is_the_sum_of_that_year():
    held = case(horizon_years=1, discount_rate=0)
    reference, sparse = options(held)
    assert float(reference.cost(held.given).total) == pytest.approx(2560 + 512)
    assert float(sparse.cost(held.given).total) == pytest.approx(5000 + 2000 + 200 + 1000)


def test_unreachable_quality_costs_without_end():
    held = setting(hardware(), checkpoint={"dense": 1e7, "data": 1e9}).case()
    found = outcomes(held)[1]
    assert np.isinf(found.option.data).all()
    assert np.isinf(found.cost.total).all()
    assert not found.pays.any()
    alone = pruned(held.law, held.given, held.existing, 0.5, m=2.0, r=0.5)
    assert alone.break_even_items(held.given.dense(), held.given).side == "never"


def test_a_checkpoint_that_is_the_dense_model_costs_it_no_training():
    held = setting(hardware(), checkpoint={"dense": 2.56e8, "data": 1e9})
    free = float(outcomes(held.case())[0].npv[0])
    charged = float(outcomes(setting(hardware()).case())[0].npv[0])
    assert charged - free == pytest.approx(1.44 * 2560)


def test_unpaid_pretraining_is_charged_to_every_run():
    paid, unpaid = (setting(hardware(), checkpoint=CHECKPOINT | {"paid": paid}).case() for paid in (True, False))
    difference = float(outcomes(paid)[1].npv[0] - outcomes(unpaid)[1].npv[0])
    assert difference == pytest.approx(1.44 * 3 * 6 * 3.125e8 * 1e9 / 1e12 / 3600 * 2)


def test_worth_of_pruning_is_the_papers_and_nothing_beyond():
    found = pruning_worth([0.5, 0.75, 0.875])
    assert found == pytest.approx([4.90, 4.27, 2.45])
    assert np.isnan(pruning_worth([0.4, 0.9])).all()
    between = float(pruning_worth(1 - np.sqrt(0.5 * 0.25)))  # half-way in −ln(1 − S)
    assert between == pytest.approx(np.sqrt(4.90 * 4.27))


@settings(max_examples=30)
@given(st.floats(1e7, 1e11))
def test_equal_quality_is_equal_loss(data):
    size = equal_quality_size(law(), 0.5, 2.56e8, data)
    assert law().predict(0.5, size, data) == pytest.approx(law().predict(0.0, 2.56e8, data))


@pytest.mark.parametrize(
    ("rate", "years", "worth"),
    [
        (0.0, 3, 3),
        (0.0, 0.5, 0.5),
        (0.25, 2, 1.44),
        (0.25, 1.5, 0.8 + 0.5 * 0.8**1.5),
        (-0.5, 2, 6),
        (-0.2, 0.25, 0.25 * 0.8**-0.25),
    ],
)
def test_annuity_of_any_rate_and_horizon(rate, years, worth):
    assert float(annuity(rate, years)) == pytest.approx(worth)


@given(rate=st.floats(-0.5, 1.0), years=st.floats(0.05, 30), more=st.floats(1e-3, 5))
def test_a_longer_horizon_is_never_worth_less_at_rates_from_zero_on(rate, years, more):
    longer, shorter = (float(annuity(abs(rate), span)) for span in (years + more, years))
    assert longer >= shorter * (1 - 1e-9)
    assert float(annuity(rate, years)) > 0
