"""Checkpoints of unfinished runs: which store they are for, and when they can go."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from sparsity_lab.artifacts.atomic import locked, write_text
from sparsity_lab.artifacts.paths import CLAIM, Layout


def claim(layout: Layout, fingerprint: str, home: Path) -> None:
    """Note that a run is trained for the store at `home`."""
    write_text(layout.claim(fingerprint), f"{home.resolve()}\n")


def clear_scratch(layout: Layout, home: Path, keep: Collection[str] = ()) -> int:
    """Remove the checkpoints that the store at `home`, once complete, has no more use for; returns how many.

    They were left by runs that an edit of the spec dropped before they were finished. Checkpoints of other stores
    stay, and so do those of runs that are under way, and of those named in `keep`: given up, but not dropped.
    """
    ours = [claimed.parent for claimed in layout.scratch.glob(f"*/{CLAIM}") if _claimed_by(claimed, home)]
    return sum(_removed(layout, folder) for folder in ours if folder.name not in keep)


def _claimed_by(claimed: Path, home: Path) -> bool:
    return claimed.read_text(encoding="utf-8").strip() == str(home.resolve())


def _removed(layout: Layout, folder: Path) -> bool:
    with locked(layout.lock(folder.name), wait=False) as free:
        if free:
            shutil.rmtree(folder, ignore_errors=True)
        return free
