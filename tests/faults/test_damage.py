"""Data and checkpoints that were damaged between two steps."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from projects import cli, contents, edit, one_error, results

pytestmark = pytest.mark.slow


@pytest.fixture
def few(prepared: Path) -> Path:
    """Prepared data that was never unpacked, and a study of two runs."""
    shutil.rmtree(prepared / ".sparsity-lab")
    edit(prepared, "studies/tiny", grid__nonzero=[1536], grid__data=[1024], grid__replicates=[])
    return prepared


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "told"), [(truncate, "size is wrong"), (flip, "SHA-256 is wrong"), (Path.unlink, "shard is missing")]
)
@pytest.mark.parametrize("split", ["train", "heldout"])
def test_a_damaged_shard_is_refused_and_prepared_again(
    few: Path, finished: Path, damage: Callable[[Path], None], told: str, split: str
) -> None:
    before = contents(few, "data")
    shard = next((few / "data/tiny").glob(f"{split}-*.arrow"))
    damage(shard)
    message = one_error(cli(few, "train", "tiny", "--workers", "1", code=2))
    assert told in message
    assert shard.name in message
    assert not list((few / "runs/tiny").iterdir())
    cli(few, "prepare", "tiny")
    assert contents(few, "data") == before
    if split == "train" and damage is truncate:
        cli(few, "train", "tiny", "--workers", "1")
        assert results(few).items() <= results(finished).items()


def test_a_damaged_manifest_is_refused_and_prepared_again(few: Path) -> None:
    before = contents(few, "data")
    truncate(few / "data/tiny/manifest.json")
    for step in ("train", "plan"):
        assert "damaged manifest" in one_error(cli(few, step, "tiny", code=2))
    cli(few, "prepare", "tiny")
    assert contents(few, "data") == before


def test_a_damaged_cache_is_made_again(prepared: Path, finished: Path) -> None:
    edit(prepared, "studies/tiny", grid__nonzero=[1536], grid__data=[1024], grid__replicates=[])
    notes = list(prepared.glob(".sparsity-lab/cache/*/*.verified"))
    assert notes
    for note in notes:
        truncate(note)
    cli(prepared, "train", "tiny", "--workers", "1")
    assert results(prepared).items() <= results(finished).items()


def test_a_damaged_checkpoint_is_named_and_can_be_deleted(few: Path, finished: Path) -> None:
    names = [name for name, record in results(finished).items() if (record["data"], record["dense"]) == (1024, 1536)]
    for name in names:
        folder = few / ".sparsity-lab/scratch" / name
        folder.mkdir(parents=True)
        (folder / "checkpoint.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    message = one_error(cli(few, "train", "tiny", "--workers", "1", code=2))
    assert "is damaged" in message
    assert "delete it to train from the start" in message
    shutil.rmtree(few / ".sparsity-lab/scratch")
    cli(few, "train", "tiny", "--workers", "1")
    assert results(few).items() <= results(finished).items()


@pytest.mark.parametrize("step", ["train", "search", "fit", "plan"])
def test_a_half_written_record_is_never_taken_for_a_run(trained: Path, step: str) -> None:
    record = next((trained / "runs/tiny").glob("*/record.json"))
    truncate(record)
    for twin in trained.glob(f"search/tiny/{record.parent.name}/record.json"):
        twin.unlink()
    assert f"{record.parent.name}/record.json" in one_error(cli(trained, step, "tiny", code=2))
