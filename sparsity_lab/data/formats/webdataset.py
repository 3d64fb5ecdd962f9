"""WebDataset: samples in tar files, members of one name up to its first dot, in the order of the archive."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.artifacts.kinds import naming
from sparsity_lab.artifacts.reading import opened, parse_json
from sparsity_lab.data.formats.values import field_of, label_of, picture_of, text_of
from sparsity_lab.errors import DataError, refusing
from sparsity_lab.specs.sources import WebdatasetImages, WebdatasetText

NAME: Final = re.compile(r"((?:.*/|)[^./]+)[.]([^/]*)", re.DOTALL)
"""of a member: the sample's key, and the member's ending"""
META: Final = re.compile(r"__[^/]*__($|/)")
"""names of members that describe the archive"""
BLOCK: Final = 512
"""bytes; a tar file ends with zeros"""
LARGEST_MEMBER: Final = 1 << 30
"""bytes"""
MOST_PADDING: Final = 1 << 28
"""bytes of zeros at an archive's end; writers round up to a few thousand"""


def member_texts(path: Path, source: WebdatasetText) -> Iterator[bytes]:
    """The documents of an archive.

    Raises:
        DataError: it is damaged, or a sample has no text.
    """
    for key, members in _samples(path, (source.text_member,)):
        where = f"{path}: {key}.{source.text_member}"
        value = _member(members, (source.text_member,), f"{path}: {key}")
        if source.text_member.endswith("json"):
            yield text_of(_json(value, source.text_field, "text", where), where, source.text_field)
        else:
            yield text_of(value, where)


def member_pictures(path: Path, source: WebdatasetImages) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """The pictures of an archive, each with its label.

    Raises:
        DataError: it is damaged, or a sample lacks a picture or a label.
    """
    for key, members in _samples(path, (*source.image_members, source.label_member)):
        where = f"{path}: {key}"
        label: Any = _member(members, (source.label_member,), where)
        if in_json := source.label_member.endswith("json"):
            label = _json(label, source.label_field, "label", f"{where}.{source.label_member}")
        picture = picture_of(_member(members, source.image_members, where), source, where)
        yield picture, label_of(label, f"{where}.{source.label_member}", source.label_field if in_json else None)


def _member(members: dict[str, bytes], endings: tuple[str, ...], where: str) -> bytes:
    found = [ending for ending in endings if ending in members]
    if len(found) != 1:
        told = ", ".join(found or members) or "none of the members that are read"
        expected = "one member that ends in " + " or ".join(endings)
        raise DataError(
            "several such members" if found else "no such member", where=where, found=told, expected=expected
        )
    return members[found[0]]


def _json(content: bytes, field: str, what: str, where: str) -> Any:
    return field_of(parse_json(text_of(content, where), Path(where), DataError), field, what, where)


def _samples(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Keys, and of each sample's members those with a wanted ending, once each."""
    now, members = None, dict[str, bytes]()
    for name, content in _members(path, wanted):
        key, ending = NAME.fullmatch(name).groups()  # type: ignore[union-attr]  # or `_members` had left it out
        if key != now:
            if now is not None:
                yield now, members
            now, members = key, {}
        ending = ending.lower()
        if ending in members:
            raise DataError("stands twice in a sample", where=f"{path}: {name}")
        if content is not None:
            members[ending] = content
    if now is not None:
        yield now, members


def _members(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, bytes | None]]:
    """Names of files in an archive, and the content of those with a wanted ending."""
    form = "a tar archive"
    with opened(path, DataError) as packed, naming(path, DataError, form):
        tail = _Tail(packed)
        stream = cast("BinaryIO", tail)
        with refusing(path, DataError, f"is damaged, or not {form}"), tarfile.open(fileobj=stream, mode="r|") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # which it would keep, all of them
                found = NAME.fullmatch(member.name)
                if not member.isreg() or META.match(member.name) or found is None:
                    continue
                if found[2].lower() not in wanted:
                    yield member.name, None
                    continue
                if member.size > LARGEST_MEMBER:
                    message, expected = "is too large a member", f"at most {LARGEST_MEMBER:,} bytes"
                    raise DataError(message, where=f"{path}: {member.name}", found=member.size, expected=expected)
                content = tar.extractfile(member)
                yield member.name, content.read() if content else b""
        if not tail.is_whole():
            raise DataError("is cut or damaged: a tar archive ends with some blocks of zeros", where=path)


class _Tail:
    """A stream that knows whether it ended as an archive does: what is cut between two members has no other sign."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._last = stream, b""

    def read(self, size: int) -> bytes:
        """The next bytes."""
        content = self._stream.read(size)
        self._last = (self._last + content)[-BLOCK:] if len(content) < BLOCK else content[-BLOCK:]
        return content

    def is_whole(self) -> bool:
        """Whether the end is zeros, and not more than any writer pads with."""
        left = MOST_PADDING
        while left > 0 and (content := self.read(min(1 << 20, left))):
            left -= len(content)
        return left > 0 and self._last == bytes(BLOCK)
