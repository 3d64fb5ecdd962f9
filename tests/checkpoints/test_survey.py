"""What a survey says of zeros is what was put there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from sparsity_lab.checkpoints import write_weights
from sparsity_lab.checkpoints.encodings import TWO_FOUR, Bitmask, Csr, DenseEncoding, Encoding
from sparsity_lab.checkpoints.survey import survey, zeros_of
from sparsity_lab.console.weights import weights_text
from sparsity_lab.errors import CheckpointError


def grouped(n: int, m: int) -> Tensor:
    """(16, 64) of exactly n kept in every group of m, at random places."""
    generator = torch.Generator().manual_seed(n * m)
    places = torch.rand(16 * 64 // m, m, generator=generator).argsort(dim=1)[:, :n]
    return torch.zeros(16 * 64 // m, m, dtype=torch.bool).scatter(1, places, value=True).view(16, 64)


def blocked(height: int, width: int) -> Tensor:
    """(32, 64) of random whole blocks."""
    generator = torch.Generator().manual_seed(height * width)
    kept = torch.rand(32 // height, 64 // width, generator=generator) < 0.5
    return kept.repeat_interleave(height, 0).repeat_interleave(width, 1)


@pytest.mark.parametrize(
    ("n", "m", "expected"),
    [
        (2, 4, ((2, 4), (4, 8))),
        (1, 4, ((1, 4), (2, 8))),
        (4, 8, ((4, 8),)),
        (2, 8, ((2, 4), (2, 8))),
        (1, 8, ((1, 4), (1, 8))),
    ],
)
def test_groups(n: int, m: int, expected: tuple[tuple[int, int], ...]) -> None:
    assert set(expected) <= set(zeros_of(grouped(n, m)).groups)


@given(st.integers(1, 8), st.integers(1, 6), st.integers(0, 999), st.sampled_from([0.3, 0.8]))
def test_groups_and_lines_are_as_a_loop_finds_them(rows: int, columns: int, seed: int, sparsity: float) -> None:
    kept = torch.rand(rows, 4 * columns, generator=torch.Generator().manual_seed(seed)) > sparsity
    found = zeros_of(kept)
    lists = kept.tolist()
    assert found.empty_rows == sum(not any(row) for row in lists)
    assert found.empty_columns == sum(not any(column) for column in zip(*lists, strict=True))
    for m in (4, 8):
        counts = [sum(row[first : first + m]) for row in lists for first in range(0, 4 * columns, m)]
        worst = max(counts)
        holds = 4 * columns % m == 0 and (2 * worst <= m or worst == min(counts) < m)
        assert {b: a for a, b in found.groups}.get(m) == (worst if holds else None)


def test_a_zero_in_every_group_is_no_pattern_unless_it_is_the_only_one() -> None:
    kept = grouped(3, 4)
    assert zeros_of(kept).groups == ((3, 4), (6, 8))
    assert zeros_of(kept).patterns == ("3:4",)
    kept[0, :4] = False
    assert zeros_of(kept).groups == ()


def test_names_leave_out_what_is_implied() -> None:
    assert zeros_of(grouped(2, 4)).patterns == ("2:4",)
    assert "4:8" in zeros_of(grouped(4, 8)).patterns
    assert {"2:8", "2:4"} < set(zeros_of(grouped(2, 8)).patterns)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (8, 2), (1, 16), (16, 1), (32, 64), (2, 32)])
def test_blocks(height: int, width: int) -> None:
    blocks = zeros_of(blocked(height, width)).blocks
    assert any(h % height == 0 and w % width == 0 for h, w in blocks) or not blocked(height, width).any()
    if (height, width) == (4, 4):
        assert blocks == ((4, 4),)
        assert zeros_of(blocked(4, 4)).patterns[-1] == "blocks 4x4"


def test_single_zeros_are_no_blocks() -> None:
    kept = torch.ones(8, 8, dtype=torch.bool)
    kept[3, 3] = False
    assert zeros_of(kept).blocks == ()


def test_empty_rows_and_columns_are_told_as_such() -> None:
    kept = torch.ones(16, 16, dtype=torch.bool)
    kept[:4] = False
    kept[:, 5] = False
    assert zeros_of(kept).patterns == ("4 empty rows", "1 empty column")


@pytest.mark.parametrize("how", [DenseEncoding(), TWO_FOUR, Bitmask(), Csr()], ids=lambda how: how.name)
def test_a_file_is_seen_alike_in_every_encoding(how: Encoding, tmp_path: Path) -> None:
    weights = {"a": grouped(2, 4) * 1.5, "norm": torch.ones(16), "count": torch.tensor(0)}
    write_weights(tmp_path / "w", weights, how, prunable=("a",), run="abc")
    found = survey(tmp_path / "w")
    assert (found.encoding, found.run) == (how.name, "abc")
    matrix, norm, count = found.tensors
    assert (matrix.name, matrix.shape, matrix.dtype, matrix.encoding) == ("a", (16, 64), "float32", how.name)
    assert (matrix.size, matrix.zeros, matrix.dense_bytes) == (1024, 512, 4096)
    assert matrix.where is not None
    assert matrix.where.patterns == ("2:4",)
    assert (norm.zeros, norm.where, norm.prunable) == (0, None, False)
    assert (count.shape, count.size, count.zeros) == ((), 1, 1)


def test_any_file_of_any_type(tmp_path: Path) -> None:
    kept = grouped(1, 4)
    types = (torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int8, torch.bool)
    negative = {f"{t}": (kept * -1.0).to(t) for t in types}  # zeros are -0.0 here, whose bits are not zero
    save_file({**negative, "empty": torch.zeros(0, 4)}, tmp_path / "w")
    tensors = {tensor.name: tensor for tensor in survey(tmp_path / "w").tensors}
    assert tensors["empty"].size == 0
    for name in negative:
        tensor = tensors[name]
        assert f"torch.{tensor.dtype}" == name
        assert tensor.zeros == 16 * 48
        assert tensor.where is not None
        assert tensor.where.patterns[0] == "1:4"


def test_a_folder_of_shards_and_one_without_weights(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, 2)}, tmp_path / "one.safetensors")
    save_file({"b": torch.ones(2, 2)}, tmp_path / "two.safetensors")
    index = '{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}'
    (tmp_path / "model.safetensors.index.json").write_text(index)
    found = survey(tmp_path)
    assert {tensor.name: tensor.zeros for tensor in found.tensors} == {"a": 4, "b": 0}
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is no index of shards"):
        survey(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(CheckpointError, match="no safetensors weights here"):
        survey(tmp_path)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.float8_e5m2])
def test_entries_that_are_no_finite_numbers_are_told(kind: torch.dtype, tmp_path: Path) -> None:
    weight = torch.ones(4, 8).index_fill(1, torch.tensor([0]), 0)
    weight[0, 1], weight[1, 2:4] = float("nan"), float("inf")
    save_file({"w": weight.to(kind), "whole": torch.arange(3)}, tmp_path / "w")
    first, second = survey(tmp_path / "w").tensors
    assert (first.zeros, first.nan, first.infinite, first.not_finite) == (4, 1, 2, 3)
    assert second.not_finite == 0
    assert "not finite: w: 1 NaN, 2 infinite" in weights_text(survey(tmp_path / "w"))


def test_no_tensors_at_all(tmp_path: Path) -> None:
    save_file({}, tmp_path / "w")
    assert survey(tmp_path / "w").tensors == ()
    assert "dense" in weights_text(survey(tmp_path / "w"), 10)
