"""Dense against sparse at equal cost: published numbers come out of them, and they behave as costs must."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_lab.cost.comparison import NO_SPARSITY, QuantityComparison, Reference, advantage
from sparsity_lab.cost.economics import Assumptions, Option
from sparsity_lab.cost.quantities import CostQuantity, QuantityName, WeightBytes, quantities
from sparsity_lab.cost.speeds import Speeds
from sparsity_lab.hardware.curves import Ratio
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.multipliers import Measured, dense_hardware
from sparsity_lab.laws.questions.optimum import chinchilla_data, optimal_sparsity_on_dense_hardware
from sparsity_lab.stages.law import open_law

ROOT = Path(__file__).parents[2]
LAWS = {
    name: open_law(file, ROOT).law
    for name, file in (
        ("T5", "frantar2024-t5-c4"),
        ("T5 minimum", "frantar2024-t5-c4-minimum"),
        ("ViT", "frantar2024-vit-jft"),
    )
}
PAPER = np.array([0.5, 0.75, 0.875])
SIZE = 85e6
S_OPT = {
    1: {"T5": (0.425, 0), "T5 minimum": (0.427, 0.095), "ViT": (0.351, 0)},
    2: {"T5": (0.484, 0), "T5 minimum": (0.498, 0.224), "ViT": (0.543, 0.210)},
    5: {"T5": (0.553, 0.105), "T5 minimum": (0.579, 0.367), "ViT": (0.713, 0.510)},
    10: {"T5": (0.601, 0.231), "T5 minimum": (0.632, 0.458), "ViT": (0.798, 0.658)},
    100: {"T5": (0.729, 0.536), "T5 minimum": (0.767, 0.675), "ViT": (0.938, 0.897)},
}
"""by C / C_chin: optimal sparsity when zeros are skipped, and on dense hardware"""
GAINS = {"T5": (1.586, 2.157, 2.630), "T5 minimum": (1.772, 2.270, 2.512), "ViT": (1.596, 2.172, 2.634)}
"""dense-equivalent size / N at the paper's sparsities"""
NUMBERS = Assumptions(
    nonzero=1.0,
    data=1.0,
    runs_per_year=3.0,
    items_per_year=0.0,
    hour=2.0,
    flops_per_second=1e14,
    inference_hour=2.0,
    inference_flops_per_second=1e14,
    days=0.0,
    days_per_year=0.0,
    day_cost=800.0,
    horizon_years=3,
    discount_rate=0.05,
)


def named(found: tuple[CostQuantity, ...], name: QuantityName) -> CostQuantity:
    return next(quantity for quantity in found if quantity.name == name)


def under(law: Law, name: QuantityName, data: float, **options: object) -> QuantityComparison:
    return Reference(law, SIZE, data, **options).under(named(quantities(), name))  # type: ignore[arg-type]


def with_draws(law: Law, spread: float, draws: int = 60) -> Law:
    """The law with draws of its size and data terms around the published ones."""
    rng, values = np.random.default_rng(0), law.params._asdict()
    moved = {name: value * np.exp(spread * rng.standard_normal(draws)) for name, value in values.items()}
    return replace(law, draws=law.form.make_params(moved))


@pytest.mark.parametrize("ratio", S_OPT)
@pytest.mark.parametrize("name", LAWS)
def test_optimal_sparsities_are_the_published_ones(ratio: int, name: str) -> None:
    law = LAWS[name]
    data = ratio * float(chinchilla_data(law, SIZE))
    found = [under(law, quantity, data).best for quantity in ("sparse_flops", "dense_flops")]
    assert found == pytest.approx(S_OPT[ratio][name], abs=6e-4)


def test_skipping_zeros_costs_the_papers_multipliers() -> None:
    _, data = named(quantities(), "sparse_flops").buys(PAPER, np.array(SIZE), np.array(1e9))
    assert 1e9 / data == pytest.approx([1.375, 2.125, 3.625])
    _, data = named(quantities(), "dense_flops").buys(PAPER, np.array(SIZE), np.array(1e9))
    assert 1e9 / data == pytest.approx([2, 4, 8])


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("place", range(3))
def test_equal_weights_are_worth_the_published_gains(name: str, place: int) -> None:
    one = under(LAWS[name], "nonzero", 3e10, levels=(float(PAPER[place]),), only_levels=True)
    assert one.best == PAPER[place]
    assert one.worth == pytest.approx(GAINS[name][place], abs=6e-4)
    assert (one.nonzero, one.data) == (SIZE, 3e10)
    assert one.winner == "sparse"
    assert one.changes == ()


@pytest.mark.parametrize("name", LAWS)
def test_on_dense_hardware_the_winner_changes_where_the_closed_form_says(name: str) -> None:
    law = LAWS[name]
    (change,) = under(law, "dense_flops", 1e10).changes
    assert change.to == "sparse"
    shrunk = optimal_sparsity_on_dense_hardware(law.params, SIZE, [0.9 * change.data, change.data, 1.1 * change.data])  # type: ignore[arg-type]
    assert shrunk[0] < NO_SPARSITY
    assert pytest.approx(shrunk[1], rel=0.1) == NO_SPARSITY / 2, "A(S) is 0 at 0 and about twice the optimum"
    assert shrunk[2] > NO_SPARSITY
    assert np.isnan(change.low) == (law.draws is None)


def test_the_range_of_winners_ends_where_the_advantage_does() -> None:
    law = LAWS["ViT"]
    one = under(law, "dense_flops", 5 * float(chinchilla_data(law, SIZE)))
    assert one.wins is not None
    step = one.curve[1]
    quantity = one.quantity
    assert advantage(law, quantity, one.wins[1], SIZE, 5 * float(chinchilla_data(law, SIZE))) > 0
    assert advantage(law, quantity, one.wins[1] + step, SIZE, 5 * float(chinchilla_data(law, SIZE))) <= 0
    assert one.wins[0] < one.best < one.wins[1]


def test_training_a_sparse_network_takes_the_memory_of_its_dense_shape() -> None:
    size, data = named(quantities(), "training_memory").buys(PAPER, np.array(SIZE), np.array(1e9))
    assert size == pytest.approx(SIZE * (1 - PAPER) * 16 / 17)
    assert data == 1e9
    assert under(LAWS["T5"], "training_memory", 1e10).winner == "dense"


@pytest.mark.parametrize(
    ("sparsity", "group", "expected"),
    [
        (0.0, None, 4),
        (0.02, None, 4 / 0.98),  # as it is
        (0.5, None, 4.25),  # a bit a weight
        (0.875, None, 5),
        (0.97, None, 6),  # CSR
        (0.75, 4, 4.25),  # 1:4, two bits a weight kept
        (0.0, 4, 4),
    ],
)
def test_a_weight_is_stored_in_the_smallest_format(sparsity: float, group: int | None, expected: float) -> None:
    assert float(WeightBytes(group=group).stored(sparsity)) == pytest.approx(expected)


def test_without_draws_there_is_no_interval_and_with_equal_draws_it_is_a_point() -> None:
    bare = under(LAWS["T5"], "sparse_flops", 1e11)
    assert np.isnan([bare.advantage.low, bare.advantage.high]).all()
    assert np.isnan(bare.on_curve.low).all()
    sure = under(with_draws(LAWS["T5"], 0.0), "sparse_flops", 1e11)
    assert sure.advantage.low == pytest.approx(sure.advantage.value, abs=1e-12)
    assert sure.best == bare.best
    assert sure.winner == "sparse"
    (one,), (other,) = sure.changes, bare.changes
    assert [one.low, one.high] == pytest.approx([other.data, other.data])


def test_draws_make_a_winner_unclear_and_a_change_wide() -> None:
    law = with_draws(LAWS["ViT"], 0.05)
    (change,) = under(law, "dense_flops", 5e9).changes
    assert change.low < change.data < change.high
    near = under(law, "dense_flops", change.data * 1.05)
    assert near.winner == "unclear"
    assert near.advantage.low < 0 < near.advantage.high or near.best <= NO_SPARSITY
    assert under(law, "dense_flops", change.low / 30).winner == "dense"
    assert under(law, "sparse_flops", change.high * 30).winner == "sparse"


def test_money_of_training_alone_is_seconds() -> None:
    speeds = Speeds(dense_hardware)
    money = named(quantities(money=(NUMBERS, speeds)), "money").buys(PAPER, np.array(SIZE), np.array(1e10))
    flops = named(quantities(), "dense_flops").buys(PAPER, np.array(SIZE), np.array(1e10))
    assert money[1] == pytest.approx(flops[1])


@given(st.floats(0, 1e13), st.floats(0, 50), st.floats(0.05, 0.95), st.floats(1, 30))
def test_equal_money_is_equal_cost(items: float, days: float, sparsity: float, dear: float) -> None:
    given_ = replace(NUMBERS, items_per_year=items, days=days)
    r = Ratio(np.array([0.0, 0.9]), np.array([1.0, 0.5]), np.array([1.0, 0.5]), np.array([1.0, 0.5]))
    speeds = Speeds(Measured(np.array([0.0, 0.99]), np.array([1.0, dear])), inference=r)
    S, N, D = (np.asarray(value) for value in (sparsity, SIZE, 1e11))
    size, data = named(quantities(money=(given_, speeds)), "money").buys(S, N, D)
    here = replace(given_, nonzero=N, data=D)
    option = Option("train-sparse", S, size, data, speeds.training_ratio(S), speeds.inference_ratio(S))
    wanted = float(here.dense().cost(here).total)
    assert float(option.cost(here).total) == pytest.approx(wanted, rel=1e-6, abs=1e-6 * wanted)


def test_what_the_money_does_not_reach_is_no_run() -> None:
    speeds = Speeds(dense_hardware)
    quantity = named(quantities(money=(replace(NUMBERS, days=1e6), speeds)), "money")
    found = Reference(LAWS["T5"], SIZE, 1e10).under(quantity)
    assert found.winner == "dense"
    assert found.best == 0
    assert np.isneginf(found.at_levels.value).all()


@given(st.floats(1, 20), st.floats(0.3, 1), st.floats(0.05, 0.9))
def test_faster_hardware_never_lowers_the_case_for_sparsity(cost: float, faster: float, sparsity: float) -> None:
    slow, fast = (
        named(quantities(measured=Measured(np.array([0.0, 0.99]), np.array([1.0, value]))), "seconds")
        for value in (cost, cost * faster)
    )
    gained = [advantage(LAWS["T5"], quantity, sparsity, SIZE, 1e11) for quantity in (slow, fast)]
    assert gained[1] >= gained[0]


@given(st.floats(1e6, 1e10), st.floats(1e8, 1e13))
def test_equal_is_never_better_than_free(nonzero: float, data: float) -> None:
    law, S = LAWS["T5"], np.linspace(0.05, 0.95, 7)
    free, *others = (advantage(law, quantity, S, nonzero, data) for quantity in quantities())
    for other in others:
        assert (other <= free + 1e-12).all()
    assert (free > 0).all()


def test_dense_against_itself_is_equal() -> None:
    for quantity in quantities(money=(NUMBERS, Speeds(dense_hardware)), measured=dense_hardware):
        assert float(advantage(LAWS["T5"], quantity, 0.0, SIZE, 1e10)) == pytest.approx(0, abs=1e-12)
