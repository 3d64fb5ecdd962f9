"""Whatever is done to a file of weights, it gives back what it held, or one error that names it.

The damage is made up by `mutated_weights`: any byte, any length, any field of a header. Where checksums of ours cover a
file, no other content is ever read; a file of others has nothing to tell damage by but its header, which must hold.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutated_weights import OURS, claims, cuts, edits, flips, joined, metadata_edits, parsed, sealed
from safetensors.torch import load, save
from torch import Tensor

from sparsity_lab.artifacts.weights import weight_files
from sparsity_lab.checkpoints import read_weights, write_weights
from sparsity_lab.checkpoints.encodings import Groups, encoding
from sparsity_lab.checkpoints.files import read_header
from sparsity_lab.checkpoints.plain import with_checksums
from sparsity_lab.checkpoints.survey import survey
from sparsity_lab.console.weights import weights_json, weights_text
from sparsity_lab.errors import CheckpointError
from sparsity_lab.training.checkpoint import load_checkpoint, save_checkpoint

ENCODINGS = ("dense", "2:4", "3:6", "bitmask", "csr")
Content = dict[str, tuple[torch.dtype, tuple[int, ...], bytes]]
many = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
each_encoding = pytest.mark.parametrize("how", ENCODINGS)


def weights() -> dict[str, Tensor]:
    """Small tensors of several shapes and types: two prunable ones with every pattern, an empty one and a number."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(4, 12, generator=generator) * torch.tensor([1, 1, 0, 0, 0, 0] * 2) + 0.0
    return {
        "a.weight": matrix,
        "b.weight": matrix.flip(0).bfloat16(),
        "norm": torch.ones(3),
        "step": torch.tensor(7),
        "none": torch.zeros(0, 5),
    }


def exported(how: str, folder: Path) -> bytes:
    write_weights(folder / "whole", weights(), encoding(how), prunable=("a.weight", "b.weight"), run="abc")
    return (folder / "whole").read_bytes()


def content_of(tensors: dict[str, Tensor]) -> Content:
    return {
        name: (t.dtype, tuple(t.shape), t.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        for name, t in tensors.items()
    }


def attempted(action: Callable[[], Any], path: Path) -> Any:
    """What comes of reading a file; None where it is refused in one line that names it."""
    try:
        return action()
    except CheckpointError as error:
        said = str(error)
    assert str(path) in said
    assert said.isprintable()
    assert len(said) < 2000
    return None


def read(path: Path) -> Content | None:
    """What a file gives, which `inspect` can show too; None where it is refused."""
    found = attempted(lambda: read_weights(path), path)
    looked = attempted(lambda: survey(path), path)
    if looked is not None:
        assert found is not None
        assert all(line.isprintable() for line in weights_text(looked, 80).split("\n"))
        json.dumps(weights_json(looked))
    return None if found is None else content_of(found)


@each_encoding
@many
@given(data=st.data())
def test_an_export_gives_what_it_held_or_an_error(how: str, data: st.DataObject, tmp_path: Path) -> None:
    whole = exported(how, tmp_path)
    damage = st.one_of(flips(whole), cuts(whole), edits(whole), metadata_edits(whole))
    (tmp_path / "damaged").write_bytes(data.draw(damage))
    found = read(tmp_path / "damaged")
    if found is None:
        return
    if (header := read_header(tmp_path / "damaged")) is None:  # the mark that makes it ours is gone: read as it lies
        assert found == content_of(load((tmp_path / "damaged").read_bytes()))
    else:
        assert found == content_of(weights())
        assert (header.run, header.encoding) == ("abc", how)


@each_encoding
@many
@given(data=st.data())
def test_a_header_of_ours_is_held_against_its_content(how: str, data: st.DataObject, tmp_path: Path) -> None:
    (tmp_path / "damaged").write_bytes(data.draw(claims(exported(how, tmp_path))))
    found = read(tmp_path / "damaged")
    if found is not None:
        header = read_header(tmp_path / "damaged")
        assert header is not None
        assert list(found) == list(header.tensors)
        expected = content_of(weights())
        for name, (dtype, shape, held) in found.items():
            entry = header.tensors[name]
            assert (f"torch.{entry.dtype}", entry.shape, entry.crc32) == (str(dtype), shape, zlib.crc32(held))
            assert held == expected.get(name, (None, None, held))[2]


PART_CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "type": lambda t: t.to({torch.uint8: torch.int8}.get(t.dtype, torch.float64)),
    "bool": lambda t: t.bool(),
    "bfloat16": lambda t: t.to(torch.bfloat16) if t.dtype != torch.bfloat16 else t.to(torch.float16),
    "float": lambda t: t.to(torch.float32) + 0.4,
    "nan": lambda t: t.float() * float("nan"),
    "another rank": lambda t: t[None],
    "number": lambda t: t.flatten()[0].clone(),
    "one short": lambda t: t.flatten()[:-1].clone(),
    "one more": lambda t: torch.cat((t.flatten(), t.flatten()[:1])),
    "none": lambda t: t.flatten()[:0].clone(),
    "constant": lambda t: t.flatten()[:1].expand(t.numel()).reshape(t.shape).clone(),
    "backwards": lambda t: t.flatten().flip(0).reshape(t.shape).clone(),
    "ones": lambda t: torch.full_like(t, -1 if t.dtype != torch.uint8 else 255),
    "shifted": lambda t: t + 1,
}


@each_encoding
@pytest.mark.parametrize("change", PART_CHANGES)
@pytest.mark.parametrize("fits", [False, True], ids=["as it was", "checksum of what a careless reader makes"])
def test_parts_that_are_others(how: str, change: str, fits: bool, tmp_path: Path) -> None:
    whole = exported(how, tmp_path)
    header, _ = parsed(whole)
    for part in (name for name in load(whole) if name.startswith("a.weight")):
        tensors = load(whole)
        tensors[part] = PART_CHANGES[change](tensors[part])
        document = json.loads(header["__metadata__"][OURS])
        if fits:
            document["tensors"]["a.weight"]["crc32"] = zlib.crc32(careless(how, tensors).numpy().tobytes())
        again, data = parsed(save({name: t.contiguous() for name, t in tensors.items()}, {"format": "pt"}))
        again["__metadata__"][OURS] = sealed(document)
        (tmp_path / "damaged").write_bytes(joined(again, data))
        found = read(tmp_path / "damaged")
        if found and found["a.weight"] != content_of(weights())["a.weight"]:  # another file, sound in itself
            assert fits
            assert found["a.weight"][2] == careless(how, tensors).numpy().tobytes()
            values = tensors.get("a.weight.values", tensors.get("a.weight"))
            assert values is not None
            assert int((values != 0).sum()) == int((read_weights(tmp_path / "damaged")["a.weight"] != 0).sum())


def careless(how: str, tensors: dict[str, Tensor]) -> Tensor:
    """The (4, 12) matrix that a reader makes who takes parts as they come."""
    flat = torch.zeros(48)
    if how == "dense":
        return tensors["a.weight"].float().flatten()
    values = tensors["a.weight.values"].float().flatten()
    places = [int(p) for p in tensors.get("a.weight.indices", torch.zeros(1)).nan_to_num().flatten().tolist()]
    if how == "csr":
        starts = [int(s) for s in tensors["a.weight.indptr"].nan_to_num().flatten().tolist()]
        rows = [r for r in range(len(starts) - 1) for _ in range(starts[r], starts[r + 1])]
        where = [r * 12 + c for r, c in zip(rows, places, strict=False)]
    elif how == "bitmask":
        bits = [
            int(b) >> k & 1 for b in tensors["a.weight.mask"].float().nan_to_num().flatten().tolist() for k in range(8)
        ]
        where = [index for index, bit in enumerate(bits) if bit]
    else:
        groups = encoding(how)
        assert isinstance(groups, Groups)
        bits = [int(b) >> k & 1 for b in places for k in range(8)]
        packed = [bits[i : i + groups.bits] for i in range(0, len(bits), groups.bits)]
        where = [
            k // groups.n * groups.m + sum(bit << p for p, bit in enumerate(place)) for k, place in enumerate(packed)
        ]
    for place, value in zip(where, values.tolist(), strict=False):
        if 0 <= place < 48:
            flat[place] = value
    return flat


@many
@given(data=st.data())
def test_a_file_of_others_is_what_its_header_says_or_an_error(data: st.DataObject, tmp_path: Path) -> None:
    whole = save(weights(), {"format": "pt"})
    damage = st.one_of(flips(whole), cuts(whole), edits(whole), metadata_edits(whole))
    (tmp_path / "damaged").write_bytes(data.draw(damage))
    found = read(tmp_path / "damaged")
    if found is not None:
        header, rest = parsed((tmp_path / "damaged").read_bytes())
        assert sorted(found) == sorted(set(header) - {"__metadata__"})
        for name, (_, _, held) in found.items():
            first, last = header[name]["data_offsets"]
            assert held == rest[first:last]


@many
@given(data=st.data())
def test_what_training_writes_is_found_damaged(data: st.DataObject, tmp_path: Path) -> None:
    whole = save(weights(), with_checksums(weights(), {"fingerprint": "abc"}))
    damage = st.one_of(flips(whole), cuts(whole), edits(whole), metadata_edits(whole))
    (tmp_path / "damaged").write_bytes(data.draw(damage))
    found = read(tmp_path / "damaged")
    if found is not None and "sparsity_lab_crc32" in parsed((tmp_path / "damaged").read_bytes())[0]["__metadata__"]:
        assert found == content_of(weights())


@many
@given(data=st.data())
def test_a_checkpoint_goes_on_as_it_was_or_is_refused(data: st.DataObject, tmp_path: Path) -> None:
    facts = {"fingerprint": "f", "step": 3, "loss": float("nan")}
    save_checkpoint(tmp_path / "whole", weights(), facts)
    whole = (tmp_path / "whole").read_bytes()
    damage = st.one_of(flips(whole), cuts(whole), edits(whole), metadata_edits(whole))
    path = tmp_path / "damaged"
    path.write_bytes(data.draw(damage))
    found = attempted(lambda: load_checkpoint(path, "f"), path)
    if found is not None and "sparsity_lab_crc32" in parsed(path.read_bytes())[0]["__metadata__"]:
        assert content_of(found[0]) == content_of(weights())
        assert repr(found[1]) == repr(facts)


def shards(folder: Path) -> Path:
    """A folder with two shards and their index."""
    folder.mkdir(exist_ok=True)
    halves = {"one.safetensors": ("a.weight", "norm"), "two.safetensors": ("b.weight", "step", "none")}
    for file, names in halves.items():
        (folder / file).write_bytes(save({name: weights()[name] for name in names}))
    places = {name: file for file, names in halves.items() for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


INDICES = [
    "",
    "{",
    "[]",
    "null",
    "{}",
    "[" * 5000,
    "1" * 5000,
    '{"weight_map": 1' + "0" * 400 + "}",
    '{"weight_map": {}}',
]
ODD_PLACES = [
    None,
    1,
    "",
    "..",
    "../one.safetensors",
    "/etc/passwd",
    "none.safetensors",
    "two.safetensors",
    "\x00",
    ["x"],
]


@pytest.mark.parametrize("index", INDICES)
def test_an_index_that_is_none(index: str, tmp_path: Path) -> None:
    folder = shards(tmp_path / "folder")
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError, match=r"index.json"):
        weight_files(folder)


@pytest.mark.parametrize("place", ODD_PLACES)
def test_an_index_that_names_another_place(place: object, tmp_path: Path) -> None:
    folder = shards(tmp_path / "folder")
    assert len(weight_files(folder)) == 2
    index = folder / "model.safetensors.index.json"
    document = json.loads(index.read_text())
    document["weight_map"]["norm"] = place
    index.write_text(json.dumps(document))
    with pytest.raises(CheckpointError):
        weight_files(folder)


@pytest.mark.parametrize("change", ["unnamed", "twice", "named only"])
def test_index_and_shards_agree(change: str, tmp_path: Path) -> None:
    folder = shards(tmp_path / "folder")
    index = folder / "model.safetensors.index.json"
    document = json.loads(index.read_text())
    if change == "unnamed":
        document["weight_map"].pop("norm")
    elif change == "named only":
        document["weight_map"]["more"] = "one.safetensors"
    else:
        (folder / "two.safetensors").write_bytes(
            save({**{n: weights()[n] for n in ("b.weight", "step", "none", "norm")}})
        )
    index.write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=r"norm|more"):
        weight_files(folder)
