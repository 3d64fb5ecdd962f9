"""Integers by group: the nearest there are, zeros kept, the space they should take, and damage refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from typer.testing import CliRunner

from sparsity_lab.checkpoints.encodings import encoding
from sparsity_lab.checkpoints.files import read_header, read_weights, write_weights
from sparsity_lab.checkpoints.quantised import GROUP, Quantised
from sparsity_lab.cli.main import app
from sparsity_lab.errors import CheckpointError

TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@st.composite
def matrices(draw: st.DrawFn) -> Tensor:
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 300))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    weight = torch.randn(rows, columns, generator=generator) * draw(st.sampled_from([1e-3, 1.0, 30.0]))
    zeros = torch.rand(rows, columns, generator=generator) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    return weight.masked_fill(zeros, 0.0).to(draw(st.sampled_from(TYPES)))


def by_hand(weight: Tensor, bits: int) -> Tensor:
    """The definition, one group at a time."""
    most, found = 2 ** (bits - 1) - 1, torch.zeros_like(weight)
    for row in range(weight.shape[0]):
        for first in range(0, weight.shape[1], GROUP):
            group = weight[row, first : first + GROUP]
            scale = (group.double().abs().max() / most).to(weight.dtype)
            if scale > 0:
                q = (group.double() / scale.double()).round().clamp(-most, most)
                found[row, first : first + GROUP] = (q * scale.double()).to(weight.dtype)
    return found


@given(weight=matrices(), bits=st.sampled_from([4, 8]))
def test_weights_are_those_of_the_definition_and_zeros_stay(weight: Tensor, bits: int) -> None:
    how = Quantised(bits)
    parts = how.encode(weight)
    decoded = how.decode(parts, tuple(weight.shape))
    assert decoded.dtype == weight.dtype
    assert torch.equal(decoded, by_hand(weight, bits))
    assert not bool(decoded[weight == 0].any())
    assert not bool(torch.signbit(decoded[decoded == 0]).any())
    again = how.decode(how.encode(decoded), tuple(weight.shape))
    assert float((again.double() - decoded.double()).abs().max()) <= 0.02 * float(weight.double().abs().max() + 1e-30)


@pytest.mark.parametrize("bits", [4, 8])
def test_the_error_is_at_most_half_a_step(bits: int) -> None:
    weight = torch.randn(8, 3 * GROUP, generator=torch.Generator().manual_seed(0))
    how = Quantised(bits)
    step = weight.view(8, 3, GROUP).abs().amax(2).repeat_interleave(GROUP, 1) / how.most
    assert bool(((how.decode(how.encode(weight), (8, 3 * GROUP)) - weight).abs() <= step * 0.501).all())


@pytest.mark.parametrize(("bits", "columns", "size"), [(8, 256, 4 * 256 + 4 * 2 * 4), (4, 255, 4 * 128 + 4 * 2 * 4)])
def test_it_takes_the_space_that_it_should(bits: int, columns: int, size: int) -> None:
    parts = Quantised(bits).encode(torch.ones(4, columns))
    assert sum(part.nbytes for part in parts.values()) == size


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_files_are_written_read_and_inspected(tmp_path: Path, form: str) -> None:
    weights = {"a.weight": torch.randn(16, 130), "embedding": torch.randn(9, 5), "bias": torch.randn(16)}
    weights["a.weight"][:, ::2] = 0.0
    file = tmp_path / "f.safetensors"
    write_weights(file, weights, encoding(form), prunable=["a.weight"])
    back = read_weights(file)
    assert torch.equal(back["a.weight"], by_hand(weights["a.weight"], int(form[3:])))
    assert torch.equal(back["embedding"], weights["embedding"]), "what is not prunable stays as it is"
    header = read_header(file)
    assert header is not None
    assert header.encoding == form
    told = CliRunner().invoke(app, ["inspect", str(file), "--json"])
    found = next(one for one in json.loads(told.stdout)["tensors"] if one["name"] == "a.weight")
    assert (found["encoding"], found["zeros"] >= 16 * 65) == (form, True)


@pytest.mark.parametrize(
    "weight", [torch.ones(3), torch.ones(2, 2, dtype=torch.int32), torch.tensor([[1.0, torch.nan]])], ids=str
)
def test_what_is_no_matrix_of_finite_weights_is_refused(tmp_path: Path, weight: Tensor) -> None:
    with pytest.raises(ValueError, match=r"no matrix|not all"):
        Quantised(8).encode(weight)
    with pytest.raises(CheckpointError, match="is not int8"):
        write_weights(tmp_path / "f.safetensors", {"a": weight}, encoding("int8"), prunable=["a"])


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("damage", ["shape", "scales", "type", "negative", "outside", "infinite"])
def test_damaged_parts_are_refused(bits: int, damage: str) -> None:
    how = Quantised(bits)
    parts = how.encode(torch.randn(4, 131, generator=torch.Generator().manual_seed(0)))
    match damage:
        case "shape":
            parts[".values"] = parts[".values"][:, :-1]
        case "scales":
            parts[".scales"] = parts[".scales"][:, :1]
        case "type":
            parts[".values"] = parts[".values"].to(torch.int32)
        case "negative":
            parts[".scales"][0, 0] = -1.0
        case "infinite":
            parts[".scales"][0, 0] = torch.inf
        case _:
            parts[".values"][0, 0] = -128 if bits == 8 else 0
    with pytest.raises(ValueError, match=r"scale|value"):
        how.decode(parts, (4, 131))
