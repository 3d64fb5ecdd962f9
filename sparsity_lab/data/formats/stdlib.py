"""The source of the library that the running Python carries."""

from __future__ import annotations

import hashlib
import os
import sysconfig
from pathlib import Path
from typing import Final

from sparsity_lab.errors import DataError

NOT_LIBRARY: Final = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"})


def stdlib_root() -> Path:
    """The folder of the library."""
    return Path(sysconfig.get_paths()["stdlib"])


def stdlib_files() -> list[Path]:
    """Its source files, without tests and what was installed beside it, sorted.

    Raises:
        DataError: there are none.
    """
    found: list[Path] = []
    for folder, inner, names in os.walk(stdlib_root()):
        inner[:] = [name for name in inner if name not in NOT_LIBRARY]
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    if not found:
        raise DataError("this Python carries no library source", where=stdlib_root(), expected="*.py files")
    return sorted(found)


def stdlib_chosen(maximum_bytes: int | None) -> list[Path]:
    """Whole files in order of a hash, as many as fit: an order that no name and no folder decides.

    Salted, for the split goes by the plain hash: in its order the first files would all be held out.
    """
    texts = ((path, path.read_bytes()) for path in stdlib_files())
    keyed = [(hashlib.sha256(b"order" + text).digest(), len(text), path) for path, text in texts if _is_utf8(text)]
    keyed.sort(key=lambda one: one[0])
    left, chosen = maximum_bytes if maximum_bytes is not None else sum(size for _, size, _ in keyed), []
    for _, size, path in keyed:
        left -= size
        if left < 0:
            break
        chosen.append(path)
    return chosen


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
