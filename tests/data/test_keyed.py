from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsity_lab.data.keyed import Permutation, random_words, uniforms


@given(size=st.integers(1, 3000), key=st.integers(-5, 10**12))
@settings(max_examples=60, deadline=None)
def test_a_permutation_is_a_bijection(size: int, key: int) -> None:
    images = Permutation(size, key)(np.arange(size))
    assert np.array_equal(np.sort(images), np.arange(size))


@given(size=st.integers(2, 2**45), key=st.integers(), positions=st.lists(st.integers(0, 2**45), min_size=1))
@settings(max_examples=60, deadline=None)
def test_any_position_is_found_alone_and_stays_inside(size: int, key: int, positions: list[int]) -> None:
    where = np.array(positions) % size
    permutation = Permutation(size, key)
    together = permutation(where)
    assert ((together >= 0) & (together < size)).all()
    assert [int(permutation(where[k : k + 1])[0]) for k in range(len(where))] == together.tolist()


def test_keys_give_unlike_orders() -> None:
    size = 4096
    orders = [Permutation(size, "order", seed, epoch)(np.arange(size)) for seed in range(3) for epoch in range(3)]
    for first in range(len(orders)):
        for second in range(first):
            assert (orders[first] == orders[second]).sum() < 12, "about one fixed point is expected"


def test_neighbours_do_not_stay_together() -> None:
    size = 10_000
    images = Permutation(size, 1)(np.arange(size))
    correlation = np.corrcoef(images[:-1], images[1:])[0, 1]
    assert abs(correlation) < 0.05
    assert abs(np.corrcoef(np.arange(size), images)[0, 1]) < 0.05


def test_every_part_of_a_key_counts() -> None:
    keys = [(1, 2), (2, 1), (12,), ("1", 2), (1, 2, 0)]
    assert len({random_words(4, *key).tobytes() for key in keys}) == len(keys)


def test_uniform_numbers_are_uniform() -> None:
    draws = uniforms(20_000, "test")
    counts, _ = np.histogram(draws, bins=20, range=(0, 1))
    assert counts.sum() == len(draws)
    assert np.abs(counts - 1000).max() < 150, "five standard deviations"
