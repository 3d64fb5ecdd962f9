"""Pruning with updated weights, held to its definition on small matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from sparsity_lab.pruning.masks import keep_largest
from sparsity_lab.pruning.patterns import group_winners
from sparsity_lab.pruning.reconstruction import (
    choose_mask,
    damped,
    least_squares,
    obc,
    output_change,
    reconstruct,
    sparsegpt,
)
from sparsity_lab.specs.regimes.patterns import NofM, Pattern, Unstructured
from sparsity_lab.specs.regimes.scores import OBC, Reconstruction, SparseGPT

FREE = Unstructured()
TWO_OF_FOUR = NofM(kind="n:m", n=2, m=4)
WAYS: tuple[Reconstruction, ...] = (
    SparseGPT(kind="sparsegpt", block_size=1, damping=0),
    SparseGPT(kind="sparsegpt", block_size=4),
    SparseGPT(kind="sparsegpt"),
    OBC(kind="obc"),
)


def problem(seed: int, rows: int, columns: int, examples: int = 200) -> tuple[Tensor, Tensor]:
    """A weight, and the second moments of inputs that hang together."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    x = torch.randn(examples, columns, generator=generator, dtype=torch.float64) @ (mixing + torch.eye(columns))
    return torch.randn(rows, columns, generator=generator), x.T @ x / examples


def obs_in_order(w: NDArray[np.float64], hessian: NDArray[np.float64], kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Optimal brain surgeon, column by column from the left, with the true inverse of what is not yet frozen."""
    w = w.copy()
    for column in np.flatnonzero(~kept):
        inverse = np.linalg.inv(hessian[column:, column:])
        w[column:] -= w[column] / inverse[0, 0] * inverse[:, 0]
        w[column] = 0
    return w


def greedy_obs(w: NDArray[np.float64], hessian: NDArray[np.float64], zeros: int) -> NDArray[np.bool_]:
    """The weight that costs least, by solving for all others each time; (columns,) of what is kept."""
    kept = np.ones(len(w), dtype=bool)
    for _ in range(zeros):
        losses = {}
        for column in np.flatnonzero(kept):
            trial = kept.copy()
            trial[column] = False
            losses[column] = _least_loss(w, hessian, trial)
        kept[min(losses, key=lambda column: losses[column])] = False
    return kept


def _least_loss(w: NDArray[np.float64], hessian: NDArray[np.float64], kept: NDArray[np.bool_]) -> float:
    new = np.zeros_like(w)
    if kept.any():
        new[kept] = np.linalg.solve(hessian[np.ix_(kept, kept)], (hessian @ w)[kept])
    return float((new - w) @ hessian @ (new - w))


@pytest.mark.parametrize(
    ("pattern", "block"), [(FREE, 1), (FREE, 3), (FREE, 128), (TWO_OF_FOUR, 4), (TWO_OF_FOUR, 12), (TWO_OF_FOUR, 128)]
)
def test_frozen_weights_are_those_of_exact_obs_in_the_same_order(pattern: Pattern, block: int) -> None:
    weight, moments = problem(0, 6, 16)
    hessian, inverse = damped(moments, 0.01)
    new, mask = sparsegpt(weight.double(), inverse, pattern, 48, block)
    for row in range(len(weight)):
        expected = obs_in_order(weight[row].double().numpy(), hessian.numpy(), mask[row].numpy())
        np.testing.assert_allclose((new * mask)[row].numpy(), expected, atol=1e-9)


def test_columns_one_by_one_are_chosen_by_what_obs_says_they_cost() -> None:
    weight, moments = problem(1, 8, 6)
    hessian, inverse = damped(moments, 0.01)
    _, mask = sparsegpt(weight.double(), inverse, FREE, 24, 1)
    w = weight.double().numpy().copy()
    for column in range(6):
        left = np.linalg.inv(hessian.numpy()[column:, column:])
        cost = w[:, column] ** 2 / left[0, 0]
        gone = np.argsort(cost)[:4]
        assert set(np.flatnonzero(~mask[:, column].numpy())) == set(gone)
        w[np.ix_(gone, np.arange(column, 6))] -= np.outer(w[gone, column] / left[0, 0], left[:, 0])


@pytest.mark.parametrize("seed", range(4))
def test_exact_pruning_takes_the_weight_that_costs_least_each_time(seed: int) -> None:
    weight, moments = problem(seed, 1, 7)
    hessian, inverse = damped(moments, 0.01)
    for zeros in range(7):
        mask = obc(weight.double(), inverse, FREE, zeros)
        expected = greedy_obs(weight[0].double().numpy(), hessian.numpy(), zeros)
        np.testing.assert_array_equal(mask[0].numpy(), expected)


@given(st.integers(0, 10_000), st.integers(1, 9), st.sampled_from([4, 8, 12]), st.floats(0, 1), st.sampled_from(WAYS))
@settings(max_examples=60, deadline=None)
def test_sparsity_is_met_to_the_weight(
    seed: int, rows: int, columns: int, sparsity: float, way: Reconstruction
) -> None:
    weight, moments = problem(seed, rows, columns)
    zeros = round(sparsity * rows * columns)
    given = weight.clone()
    new, mask = reconstruct(weight, moments, FREE, zeros, way)
    assert int((~mask).sum()) == zeros
    assert int((new == 0).sum()) == zeros
    assert new.dtype == weight.dtype
    assert torch.equal(weight, given)
    assert bool(new.isfinite().all())


@given(st.integers(0, 10_000), st.integers(1, 7), st.sampled_from([(1, 4), (2, 4), (3, 8), (5, 8)]), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_n_m_holds_in_every_group(seed: int, rows: int, n_m: tuple[int, int], groups: int) -> None:
    n, m = n_m
    weight, moments = problem(seed, rows, groups * m)
    for way in (SparseGPT(kind="sparsegpt", block_size=8), OBC(kind="obc")):
        new, mask = reconstruct(weight, moments, NofM(kind="n:m", n=n, m=m), rows * groups * (m - n), way)
        assert bool((mask.view(-1, m).sum(1) == n).all())
        assert bool((new.view(-1, m) != 0).sum(1).eq(n).all())


def errors_under_one_mask(seed: int) -> tuple[float, float, float]:
    """Under SparseGPT's mask: of least squares, of its own weights, and of weights that are not moved."""
    weight, moments = problem(seed, 8, 12)
    hessian, inverse = damped(moments, 0.01)
    new, mask = sparsegpt(weight.double(), inverse, FREE, 48, 12)
    best = least_squares(weight.double(), hessian, mask)
    found = [output_change(weight, one, hessian) for one in (best, new * mask, weight.double() * mask)]
    return found[0], found[1], found[2]


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_nothing_is_nearer_under_a_mask_than_least_squares(seed: int) -> None:
    best, moved, unmoved = errors_under_one_mask(seed)
    assert best <= min(moved, unmoved) * (1 + 1e-9)


def test_moved_weights_are_nearer_than_unmoved_ones_under_the_same_mask() -> None:
    """Over problems together: a weight that takes over and is pruned later may make a single one worse."""
    _, moved, unmoved = np.sum([errors_under_one_mask(seed) for seed in range(20)], axis=0)
    assert moved < 0.8 * unmoved


def test_it_does_better_than_wanda_and_that_than_magnitude_and_exact_pruning_best() -> None:
    """On average over problems whose inputs differ in size, as those of real layers do: no single one is promised."""
    totals = np.zeros(4)
    for seed in range(8):
        weight, moments = problem(seed, 12, 16)
        sizes = torch.randn(16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).exp()
        moments = moments * sizes[:, None] * sizes
        wanda = group_winners(weight.abs() * moments.diagonal().sqrt(), 8, 16)
        moved = [reconstruct(weight, moments, FREE, 96, way)[0] for way in WAYS[2:]]
        found = [weight * keep_largest(weight.abs(), 96), weight * wanda, *moved]
        totals += [output_change(weight, one, moments) for one in found]
    assert totals[3] < totals[2] < totals[1] < totals[0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", ["dead", "singular", "nothing", "infinite"])
def test_inputs_that_say_nothing_do_no_harm(way: Reconstruction, case: str) -> None:
    weight, moments = problem(3, 6, 8, examples=3 if case == "singular" else 100)
    match case:
        case "dead":
            moments[2], moments[:, 2] = 0, 0
        case "nothing":
            moments.zero_()
        case "infinite":
            moments[1, 1] = torch.inf
        case _:
            pass
    new, mask = reconstruct(weight, moments, FREE, 24, way)
    assert int((new == 0).sum()) == 24
    assert bool(new.isfinite().all())
    if case == "dead" and way in WAYS[2:]:
        assert int((~mask[:, 2]).sum()) == 6  # what is never seen costs nothing
    if case in {"nothing", "infinite"} and way == WAYS[2]:
        assert torch.equal(new, weight * choose_mask(FREE, weight.abs(), 24))
