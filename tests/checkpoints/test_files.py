"""A file gives back the weights it was made from, says what it holds, and is refused when it is damaged."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from mutated_weights import sealed
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sparsity_lab.checkpoints import read_weights, write_weights
from sparsity_lab.checkpoints.encodings import TWO_FOUR, Bitmask, Csr, DenseEncoding, Encoding
from sparsity_lab.checkpoints.files import KEY, read_header, stored_bytes
from sparsity_lab.errors import CheckpointError

ALL: list[Encoding] = [DenseEncoding(), TWO_FOUR, Bitmask(), Csr()]
each_encoding = pytest.mark.parametrize("how", ALL, ids=lambda how: how.name)
PRUNABLE = ("a.weight", "b.weight")


@pytest.fixture
def weights() -> dict[str, Tensor]:
    """Two prunable 2:4 matrices, and what is never pruned."""
    torch.manual_seed(0)
    kept = torch.tensor([True, False, False, True]).repeat(16, 8)
    return {
        "a.weight": torch.randn(16, 32) * kept,
        "b.weight": (torch.randn(16, 32) * kept).bfloat16(),
        "embedding.weight": torch.randn(50, 16),
        "norm.weight": torch.ones(16),
        "step": torch.tensor(7),
    }


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return list(found) == list(expected) and all(
        found[name].dtype == tensor.dtype and torch.equal(found[name], tensor) for name, tensor in expected.items()
    )


@each_encoding
def test_weights_come_back(how: Encoding, weights: dict[str, Tensor], tmp_path: Path) -> None:
    assert torch.signbit(weights["a.weight"][weights["a.weight"] == 0]).any(), "masking leaves negative zeros"
    write_weights(tmp_path / "w", weights, how, prunable=PRUNABLE, run="abc")
    found = read_weights(tmp_path / "w")
    assert same(found, weights)
    assert not torch.signbit(found["a.weight"][found["a.weight"] == 0]).any()


@each_encoding
def test_a_file_says_what_it_holds(how: Encoding, weights: dict[str, Tensor], tmp_path: Path) -> None:
    write_weights(tmp_path / "w", weights, how, prunable=PRUNABLE, run="abc")
    header = read_header(tmp_path / "w")
    assert header is not None
    assert (header.encoding, header.run) == (how.name, "abc")
    entry = header.tensors["b.weight"]
    assert (entry.shape, entry.dtype, entry.encoding, entry.prunable) == ((16, 32), "bfloat16", how.name, True)
    assert {header.tensors[name].encoding for name in ("embedding.weight", "norm.weight", "step")} == {"dense"}


@each_encoding
def test_equal_weights_are_equal_bytes(how: Encoding, weights: dict[str, Tensor], tmp_path: Path) -> None:
    written = set()
    for number in range(4):
        write_weights(tmp_path / str(number), weights, how, prunable=PRUNABLE, run="ab")
        written.add((tmp_path / str(number)).read_bytes())
    assert len(written) == 1


@each_encoding
def test_the_bytes_are_those_of_the_tensors(how: Encoding, weights: dict[str, Tensor], tmp_path: Path) -> None:
    write_weights(tmp_path / "w", weights, how, prunable=PRUNABLE)
    stored = sum(tensor.nbytes for tensor in load_file(tmp_path / "w").values())
    assert stored_bytes(weights, how, prunable=PRUNABLE) == stored


def test_sizes_by_hand(weights: dict[str, Tensor]) -> None:
    rest = 50 * 16 * 4 + 16 * 4 + 8
    kept = 16 * 32 // 2
    expected = {
        "dense": 16 * 32 * (4 + 2),
        "2:4": kept * (4 + 2) + 2 * kept * 2 // 8,
        "bitmask": kept * (4 + 2) + 2 * 16 * 32 // 8,
        "csr": kept * (4 + 2) + 2 * (kept * 2 + 17 * 2),
    }
    assert {how.name: stored_bytes(weights, how, prunable=PRUNABLE) - rest for how in ALL} == expected


def test_a_dense_file_is_read_by_others(weights: dict[str, Tensor], tmp_path: Path) -> None:
    write_weights(tmp_path / "w", weights, DenseEncoding(), prunable=PRUNABLE)
    assert same({name: load_file(tmp_path / "w")[name] for name in weights}, weights)


def test_a_file_of_others_is_read(weights: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(weights, tmp_path / "w", {"format": "pt"})
    assert read_header(tmp_path / "w") is None
    found = read_weights(tmp_path / "w")
    assert same({name: found[name] for name in weights}, weights)


def test_a_pruned_embedding_is_compressed_but_not_by_groups(weights: dict[str, Tensor]) -> None:
    weights["embedding.weight"][:, ::2] = 0
    dense = weights["embedding.weight"].nbytes
    for how, expected in ((Bitmask(), dense // 2 + 50 * 16 // 8), (Csr(), dense // 2 + 50 * 8 * 2 + 51 * 2)):
        alone = {"embedding.weight": weights["embedding.weight"]}
        assert stored_bytes(alone, how, prunable=()) == expected
    assert stored_bytes({"embedding.weight": weights["embedding.weight"]}, TWO_FOUR, prunable=()) == dense


def test_two_four_of_other_masks_names_tensor_and_group(weights: dict[str, Tensor], tmp_path: Path) -> None:
    weights["b.weight"][3, 4:8] = 1
    with pytest.raises(CheckpointError, match=r"b.weight: is not 2:4: row 3, inputs 4..7 hold 4 weights"):
        write_weights(tmp_path / "w", weights, TWO_FOUR, prunable=PRUNABLE)
    assert not list(tmp_path.iterdir())


def test_a_tensor_left_out_of_pruning_stays_dense(weights: dict[str, Tensor], tmp_path: Path) -> None:
    weights["b.weight"] = torch.ones(16, 30)
    write_weights(tmp_path / "w", weights, TWO_FOUR, prunable=PRUNABLE)
    header = read_header(tmp_path / "w")
    assert header is not None
    assert [header.tensors[name].encoding for name in PRUNABLE] == ["2:4", "dense"]
    weights["a.weight"] = torch.ones(16, 32)
    with pytest.raises(CheckpointError, match=r"a.weight: is not 2:4: row 0, inputs 0..3 hold 4"):
        write_weights(tmp_path / "w", weights, TWO_FOUR, prunable=PRUNABLE)


@each_encoding
def test_every_flipped_bit_of_the_data_is_found(how: Encoding, weights: dict[str, Tensor], tmp_path: Path) -> None:
    write_weights(tmp_path / "w", weights, how, prunable=PRUNABLE)
    whole = (tmp_path / "w").read_bytes()
    start = 8 + struct.unpack("<Q", whole[:8])[0]
    for position in range(start, len(whole), 97):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        (tmp_path / "w").write_bytes(damaged)
        with pytest.raises(CheckpointError, match="is damaged"):
            read_weights(tmp_path / "w")


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_a_torn_file(length: int, weights: dict[str, Tensor], tmp_path: Path) -> None:
    write_weights(tmp_path / "w", weights, Bitmask(), prunable=PRUNABLE)
    (tmp_path / "w").write_bytes((tmp_path / "w").read_bytes()[:length])
    with pytest.raises(CheckpointError, match=f"{tmp_path / 'w'}: is damaged or no safetensors file"):
        read_weights(tmp_path / "w")


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing: no such file"):
        read_weights(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"cannot be read|is damaged"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 3}, "sparsity_lab: is damaged"),
        ({"version": True}, "sparsity_lab: is damaged"),
        ({"version": 1}, "sparsity_lab: is damaged: it has changed"),
        ({"tensors": {}, "surprise": 1}, "sparsity_lab: is damaged"),
        (
            {"tensors": {"x": {"shape": [1], "dtype": "float32", "encoding": "dense", "prunable": True, "crc32": 0}}},
            "x, which it names, is missing",
        ),
        (
            {"tensors": {"a": {"shape": [1], "dtype": "float32", "encoding": "zip", "prunable": True, "crc32": 0}}},
            "a is not stored as dense",
        ),
    ],
)
def test_a_header_that_is_wrong(change: dict[str, object], message: str, tmp_path: Path) -> None:
    write_weights(tmp_path / "w", {"a": torch.ones(1)}, DenseEncoding(), prunable=())
    with safe_open(tmp_path / "w", "pt") as file:
        header = json.loads(file.metadata()[KEY])
    save_file({"a": torch.ones(1)}, tmp_path / "w", {KEY: sealed(header | change)})
    with pytest.raises(CheckpointError, match=message):
        read_weights(tmp_path / "w")


@each_encoding
def test_files_of_the_first_version_are_read(how: Encoding, weights: dict[str, Tensor], tmp_path: Path) -> None:
    write_weights(tmp_path / "w", weights, how, prunable=PRUNABLE, run="abc")
    with safe_open(tmp_path / "w", "pt") as file:
        header = json.loads(file.metadata()[KEY])
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no mapping
    del header["crc32"]
    save_file(stored, tmp_path / "w", {KEY: json.dumps(header | {"version": 1})})
    assert same(read_weights(tmp_path / "w"), weights)


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.bool, torch.complex64])
@each_encoding
def test_other_types_come_back(how: Encoding, kind: torch.dtype, weights: dict[str, Tensor], tmp_path: Path) -> None:
    one = {"a.weight": weights["a.weight"].masked_fill(weights["a.weight"] == 0, 0).to(kind)}
    write_weights(tmp_path / "w", one, how, prunable=["a.weight"])
    found = read_weights(tmp_path / "w")["a.weight"]
    assert found.dtype == kind
    assert torch.equal(found.view(torch.uint8), one["a.weight"].view(torch.uint8))


def test_two_things_of_one_name_are_refused(tmp_path: Path) -> None:
    weights = {"x": torch.eye(4), "x.values": torch.ones(4)}
    with pytest.raises(CheckpointError, match=r"x.values: is the name of two things to store"):
        write_weights(tmp_path / "w", weights, Csr(), prunable=["x"])
