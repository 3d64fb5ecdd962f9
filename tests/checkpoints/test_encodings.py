"""Encodings give back every bit, take the space they should, and refuse what they cannot hold."""

from __future__ import annotations

import math
from math import ceil, log2
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparsity_lab.checkpoints.encodings import TWO_FOUR, Bitmask, Csr, DenseEncoding, Encoding, Groups, encoding

TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
ODD = torch.tensor([math.nan, math.inf, -math.inf, 1e-45])


def bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)


def survives(how: Encoding, weight: Tensor) -> bool:
    decoded = how.decode(how.encode(weight), tuple(weight.shape))
    return decoded.dtype == weight.dtype and decoded.shape == weight.shape and torch.equal(bits(decoded), bits(weight))


def random_matrix(rows: int, columns: int, sparsity: float, seed: int) -> Tensor:
    """Normal weights, each zero with this probability; a few of those left are NaN, infinite or denormal."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator)
    odd = torch.rand(rows, columns, generator=generator) < 0.05
    weight[odd] = ODD[torch.randint(len(ODD), (int(odd.sum()),), generator=generator)]
    return weight.masked_fill(torch.rand(rows, columns, generator=generator) < sparsity, 0.0)


@st.composite
def matrices(draw: st.DrawFn) -> Tensor:
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 40))
    weight = random_matrix(rows, columns, draw(st.sampled_from([0.0, 0.3, 0.9, 1.0])), draw(st.integers(0, 999)))
    return weight.to(draw(st.sampled_from(TYPES)))


@st.composite
def grouped(draw: st.DrawFn) -> tuple[Groups, Tensor]:
    """A pattern and a matrix that has it: every group keeps n weights or fewer, at random places."""
    m = draw(st.integers(2, 17))
    how = Groups(draw(st.integers(1, m - 1)), m)
    rows, groups = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    weight = random_matrix(rows, groups * m, draw(st.sampled_from([0.0, 0.5])), draw(st.integers(0, 999)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    places = torch.rand(rows * groups, m, generator=generator).argsort(dim=1)[:, how.n :]
    pruned = weight.view(-1, m).scatter(1, places, 0.0).view(weight.shape)
    return how, pruned.to(draw(st.sampled_from(TYPES)))


@given(matrices())
def test_any_matrix_survives(weight: Tensor) -> None:
    assert all(survives(how, weight) for how in (DenseEncoding(), Bitmask(), Csr()))


@given(grouped())
def test_a_matrix_with_the_pattern_survives(pair: tuple[Groups, Tensor]) -> None:
    how, weight = pair
    assert how.violation(weight) is None
    assert survives(how, weight)


@given(grouped())
def test_groups_take_n_values_and_their_places_and_no_more(pair: tuple[Groups, Tensor]) -> None:
    how, weight = pair
    parts, groups = how.encode(weight), weight.numel() // how.m
    assert set(parts) == set(how.endings)
    assert parts[".values"].numel() == groups * how.n
    assert parts[".indices"].nbytes == ceil(groups * how.n * ceil(log2(how.m)) / 8)


def test_two_four_by_hand() -> None:
    weight = torch.tensor([[0.0, 5.0, 0.0, 7.0, 1.0, 0.0, 0.0, 0.0]])
    parts = TWO_FOUR.encode(weight)
    assert parts[".values"].tolist() == [[5.0, 7.0, 1.0, 0.0]]  # the first zero fills the second group
    assert parts[".indices"].tolist() == [1 | 3 << 2 | 0 << 4 | 1 << 6]


def test_bitmask_and_csr_by_hand() -> None:
    weight = torch.tensor([[0.0, 5.0, 0.0], [0.0, 0.0, 0.0], [7.0, 0.0, 9.0]])
    mask = Bitmask().encode(weight)
    assert mask[".values"].tolist() == [5.0, 7.0, 9.0]
    assert mask[".mask"].tolist() == [1 << 1 | 1 << 6, 1]
    rows = Csr().encode(weight)
    assert rows[".values"].tolist() == [5.0, 7.0, 9.0]
    assert rows[".indices"].tolist() == [1, 0, 2]
    assert rows[".indptr"].tolist() == [0, 1, 1, 3]


@pytest.mark.parametrize(
    ("columns", "expected"), [(32_768, torch.int16), (32_769, torch.int32)], ids=["int16", "int32"]
)
def test_csr_indices_are_as_small_as_fits(columns: int, expected: torch.dtype) -> None:
    weight = torch.zeros(1, columns)
    weight[0, -1] = 1
    assert Csr().encode(weight)[".indices"].dtype == expected
    assert survives(Csr(), weight)


def test_csr_row_starts_outgrow_int16() -> None:
    weight = torch.ones(2, 20_000)
    assert Csr().encode(weight)[".indptr"].dtype == torch.int32
    assert survives(Csr(), weight)


@given(grouped(), st.integers(0, 10**6))
def test_the_first_group_that_breaks_the_pattern_is_named(pair: tuple[Groups, Tensor], where: int) -> None:
    how, weight = pair
    group = where % (weight.numel() // how.m)
    weight.view(-1, how.m)[group] = 1.0
    row, first = divmod(group * how.m, weight.shape[1])
    problem = f"row {row}, inputs {first}..{first + how.m - 1} hold {how.m} weights that are not zero"
    assert how.violation(weight) == problem
    with pytest.raises(ValueError, match=problem):
        how.encode(weight)


@pytest.mark.parametrize("weight", [torch.zeros(3, 6), torch.zeros(8)])
def test_groups_need_a_matrix_of_whole_groups(weight: Tensor) -> None:
    with pytest.raises(ValueError, match="no whole number of groups of 4 inputs"):
        TWO_FOUR.encode(weight)


def test_names_and_encodings() -> None:
    named = {
        "dense": DenseEncoding(),
        "bitmask": Bitmask(),
        "csr": Csr(),
        "1:4": Groups(1, 4),
        "31:256": Groups(31, 256),
    }
    for name, how in named.items():
        assert encoding(name) == how
        assert how.name == name
    assert encoding("two-four") == encoding("2:4") == TWO_FOUR


@pytest.mark.parametrize("name", ["", "4:2", "2:2", "0:4", "1:257", "1:", "two", "-1:4", "1:4:8", "٢:٤"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is the name alone
        encoding(name)


@pytest.mark.parametrize(
    ("how", "change"),
    [
        (TWO_FOUR, {".indices": torch.zeros(3, dtype=torch.uint8)}),
        (TWO_FOUR, {".values": torch.ones(2, 4)}),
        (Groups(2, 5), {".indices": torch.full((3,), 255, dtype=torch.uint8)}),
        (Bitmask(), {".mask": torch.full((5,), 255, dtype=torch.uint8)}),
        (Bitmask(), {".mask": torch.zeros(4, dtype=torch.uint8)}),
        (Csr(), {".indices": torch.full((16,), 30, dtype=torch.int16)}),
        (Csr(), {".indices": torch.full((16,), -1, dtype=torch.int16)}),
        (Csr(), {".indptr": torch.tensor([0, 9, 3])}),
        (Csr(), {".indptr": torch.tensor([0, 16])}),
        (DenseEncoding(), {"": torch.ones(3)}),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(how: Any, change: dict[str, Tensor]) -> None:
    weight = torch.tensor([[1.0, 2, 0, 0, 0], [0, 3, 4, 0, 0]]).repeat(1, 4)
    whole = how.encode(weight) if how != TWO_FOUR else how.encode(torch.tensor([[1.0, 2, 0, 0]]).repeat(2, 5))
    with pytest.raises((ValueError, IndexError, RuntimeError)):
        how.decode(whole | change, tuple(weight.shape))
