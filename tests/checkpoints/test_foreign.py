"""Files as compressed-tensors lays them out, made by hand after its format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from sparsity_lab.checkpoints import read_weights
from sparsity_lab.checkpoints.survey import survey
from sparsity_lab.console.weights import weights_text
from sparsity_lab.errors import CheckpointError


def in_parts(stem: str, weight: Tensor, *, offsets: bool) -> dict[str, Tensor]:
    kept = weight != 0
    counts = kept.sum(dim=1)
    parts = {
        f"{stem}.shape": torch.tensor(weight.shape),
        f"{stem}.compressed": weight[kept],
        f"{stem}.bitmask": torch.from_numpy(np.packbits(kept.numpy(), axis=1, bitorder="little")),
    }
    return parts | ({f"{stem}.row_offsets": counts.cumsum(0) - counts} if offsets else {})


def two_of_four(draw: Tensor) -> Tensor:
    """Which weights a 2:4 file keeps: the largest draws of every four."""
    groups = draw.view(-1, 4)
    return torch.zeros_like(groups).scatter_(1, groups.topk(2).indices, 1.0).bool().view(draw.shape)


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 40)),
    st.floats(0, 1),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_matrices_are_read_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, int], share: float, dtype: torch.dtype, offsets: bool
) -> None:
    rows, columns = shape if offsets else (shape[0], 4 * shape[1])
    generator = torch.Generator().manual_seed(rows * columns)
    weight = torch.rand(rows, columns, generator=generator) + 1
    draw = torch.rand(rows, columns, generator=generator)
    kept = draw < share if offsets else two_of_four(draw)
    weight = (weight * kept).to(dtype)
    path = tmp_path_factory.mktemp("parts") / "model.safetensors"
    stem = "a.weight" if offsets else "a"  # as older and newer versions of the library name them
    save_file({**in_parts(stem, weight, offsets=offsets), "norm.weight": torch.ones(3)}, path)
    found = read_weights(path)
    assert list(found) == ["a.weight", "norm.weight"]
    assert torch.equal(found["a.weight"], weight)
    looked = survey(path)
    assert looked.encoding == f"compressed-tensors {'sparse-bitmask' if offsets else 'sparse-24-bitmask'}"
    assert looked.tensors[0].zeros == int((weight == 0).sum())
    assert looked.tensors[0].shape == (rows, columns)


def without(parts: dict[str, Tensor], *endings: str) -> dict[str, Tensor]:
    return {name: part for name, part in parts.items() if not name.endswith(endings)}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda parts: parts | {"a.shape": torch.tensor([4, 6])}, "weights, and"),
        (lambda parts: parts | {"a.shape": torch.tensor([3, 8])}, r"a mask of \(4, 1\) for a matrix of 3 x 8"),
        (lambda parts: parts | {"a.shape": torch.tensor([2**40, 2**40])}, "a mask of"),
        (lambda parts: parts | {"a.shape": torch.tensor([32])}, r"shape \[32\]"),
        (lambda parts: parts | {"a.compressed": parts["a.compressed"][:-1].clone()}, "weights, and"),
        (lambda parts: parts | {"a.row_offsets": parts["a.row_offsets"] + 1}, "rows do not begin"),
        (lambda parts: parts | {"a.bitmask": parts["a.bitmask"].to(torch.int32)}, "with a mask of"),
        (lambda parts: parts | {"a.shape": torch.tensor([4.7, 8.2])}, "no whole numbers"),
        (lambda parts: parts | {"a.row_offsets": parts["a.row_offsets"] + 0.4}, "no whole numbers"),
        (lambda parts: without(parts, ".row_offsets"), r"\.row_offsets is missing"),
    ],
)
def test_parts_that_disagree_are_damage(
    tmp_path: Path, damage: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    weight = torch.eye(4, 8)
    weight[:, 7] = 1
    path = tmp_path / "model.safetensors"
    save_file(damage(in_parts("a", weight, offsets=True)), path)
    with pytest.raises(CheckpointError, match=rf"model\.safetensors: a: is damaged: .*{message}"):
        survey(path)


@pytest.mark.parametrize("lost", [".compressed", ".bitmask", ".shape"])
@pytest.mark.parametrize("offsets", [True, False])
def test_a_matrix_that_lost_a_part_is_not_read_as_its_parts(tmp_path: Path, lost: str, offsets: bool) -> None:
    save_file(without(in_parts("a", torch.eye(4, 8), offsets=offsets), lost), tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match=rf"m\.safetensors: is damaged: a\{lost} is not in this file"):
        survey(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    "other", [{"a.weight": torch.ones(4, 8)}, in_parts("a.weight", torch.ones(4, 8), offsets=True)]
)
def test_a_matrix_that_is_there_twice_is_damage(tmp_path: Path, other: dict[str, Tensor]) -> None:
    save_file(in_parts("a", torch.eye(4, 8), offsets=True) | other, tmp_path / "m.safetensors")
    for read in (survey, read_weights):
        with pytest.raises(CheckpointError, match=r"m\.safetensors: is damaged: a\.weight is there twice"):
            read(tmp_path / "m.safetensors")


def test_parts_alone_and_packed_integers_are_what_they_are(tmp_path: Path) -> None:
    packed = {"a.weight_packed": torch.zeros(4, 2, dtype=torch.int32), "a.weight_scale": torch.ones(4, 1)}
    save_file(packed | {"b.bitmask": torch.zeros(2, 2, dtype=torch.uint8)}, tmp_path / "model.safetensors")
    looked = survey(tmp_path / "model.safetensors")
    assert looked.encoding == "compressed-tensors packed"
    assert {tensor.name: tensor.encoding for tensor in looked.tensors} == {
        "a.weight_packed": "compressed-tensors packed",
        "a.weight_scale": "dense",
        "b.bitmask": "dense",
    }
    assert "compressed-tensors packed" in weights_text(looked)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    assert survey(tmp_path).encoding == "huggingface, compressed-tensors packed"
