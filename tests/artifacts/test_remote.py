"""Checkpoints on other file systems: a folder and S3 (moto, on loopback), whole or not at all."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from buckets import s3

from sparsity_lab.artifacts.paths import CHECKPOINT
from sparsity_lab.artifacts.remote import RemoteCheckpoints, file_system_at
from sparsity_lab.errors import MachineError

__all__ = ["s3"]
RUN = "a" * 64


@pytest.fixture(params=["folder", "file URI", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> RemoteCheckpoints:
    match request.param:
        case "folder":
            return RemoteCheckpoints(str(tmp_path / "kept"))
        case "file URI":
            return RemoteCheckpoints((tmp_path / "kept").as_uri())
        case _:
            from pyarrow import fs  # noqa: PLC0415

            uri = str(request.getfixturevalue("s3"))
            system, folder = fs.FileSystem.from_uri(uri)
            system.create_dir(folder.split("/")[0])
            return RemoteCheckpoints(uri)


def test_what_was_put_last_is_fetched_until_it_is_forgotten(place: RemoteCheckpoints, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "elsewhere" / CHECKPOINT
    place.forget(RUN)
    assert not place.fetch(RUN, target)
    for content in (b"first" * 100_000, b"second"):
        source.write_bytes(content)
        place.put(RUN, source)
        assert place.fetch(RUN, target)
        assert target.read_bytes() == content
    assert not place.fetch("b" * 64, target)
    place.forget(RUN)
    assert not place.fetch(RUN, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_place_out_of_reach_is_the_users_error_and_keeps_the_key_secret(tmp_path: Path) -> None:
    place = RemoteCheckpoints("s3://key:secret@bucket/x?endpoint_override=127.0.0.1:9&scheme=http&connect_timeout=1")
    with pytest.raises(MachineError, match="s3://bucket/x: the place of checkpoints cannot be used") as caught:
        place.fetch(RUN, tmp_path / "file")
    assert "secret" not in str(caught.value)


def test_an_unknown_scheme_is_named(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="carrier-pigeon://loft/x: the place of checkpoints cannot be used"):
        RemoteCheckpoints("carrier-pigeon://loft/x").fetch(RUN, tmp_path / "file")


def test_what_is_no_uri_is_told_as_it_stands(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"s3://\[bucket/x: the place of checkpoints cannot be used"):
        RemoteCheckpoints("s3://[bucket/x?key=1").fetch(RUN, tmp_path / "file")


@pytest.mark.parametrize(("query", "told"), [("", "10"), ("?retry_limit_seconds=5", "5"), ("?scheme=http", "10")])
def test_google_is_not_asked_again_for_a_quarter_hour(query: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("pyarrow.fs.FileSystem", SimpleNamespace(from_uri=lambda uri: asked.append(uri) or (None, "x")))
    file_system_at(f"gs://bucket/x{query}")
    assert asked[0].count("retry_limit_seconds") == 1
    assert f"retry_limit_seconds={told}" in asked[0]
