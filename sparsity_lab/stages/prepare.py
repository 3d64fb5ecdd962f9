"""Prepare: source -> documents -> tokens -> shards and manifest."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.status import Status

from sparsity_lab.artifacts.atomic import locked
from sparsity_lab.data.manifest import Manifest
from sparsity_lab.data.prepare import prepare
from sparsity_lab.data.workers import Progress
from sparsity_lab.doctor import usable_cores
from sparsity_lab.errors import DataError, holds_password, lost_slash
from sparsity_lab.messages.terminal import Terminal
from sparsity_lab.specs.bundle import Study
from sparsity_lab.specs.compute import Compute, chosen_compute
from sparsity_lab.specs.fingerprint import digest
from sparsity_lab.specs.loading import place
from sparsity_lab.stages.workspace import Workspace

EVERY = 5.0
"""seconds between two lines of progress"""


def prepare_study(
    space: Workspace,
    console: Console | None = None,
    *,
    compute: Compute | str | None = None,
    workers: int | None = None,
    shards: str | None = None,
) -> Manifest:
    """Make the study's data, or find it made already, by another study too; what a kill left of it is gone on with.

    Data is made on this machine whatever trains the runs: other machines see its folder or are sent it.

    Args:
        space: the study.
        console: where progress is shown.
        compute: a compute file, or its name.
        workers: processes that read and tokenize, one a core when None.
        shards: folder or `pyarrow.fs` URI that shards go to, in the place of the study's data folder.

    Raises:
        SpecError: there is no such compute file.
        DataError: the source is missing, empty or damaged, or `shards` holds a password, which a manifest would keep.
        MachineError: the disk is full, or a process was killed.
    """
    console = console or Terminal()
    _refuse_place(shards)
    if (engine := chosen_compute(space.layout.root, compute).engine.kind) != "local":
        console.print(f"{space.name}: data is made on this machine, whatever trains the runs ({engine})")
    home = space.layout.data(space.name)
    preparing = console.status(f"{space.name}: preparing {space.study.spec.dataset}")
    one = f"prepare-dataset-{digest(space.study.dataset, 16)}"
    with (
        locked(space.layout.lock(f"prepare-{space.name}")),
        locked(space.layout.lock(one)),
        preparing as status,
        _told_of_its_spec(space.study),
    ):
        manifest = prepare(
            space.study.dataset,
            home,
            _shown(space.name, console, status),
            workers=workers or usable_cores(),
            location=shards,
            work=space.layout.preparation(space.name),
            others=sorted({*home.parent.glob("*/")} - {home}),
        )
    for told in _told(manifest):
        console.print(f"{space.name}: {told}", highlight=False, soft_wrap=True)
    return manifest


def _refuse_place(shards: str | None) -> None:
    if shards and holds_password(shards):
        message = "a manifest would keep this password, which belongs where pyarrow looks for it: see docs/security.md"
        raise DataError(message, field="shards", found=shards)
    if shards and (scheme := lost_slash(shards)):
        raise DataError("is no folder and no URI", field="shards", found=shards, expected=f"{scheme}://…")


@contextlib.contextmanager
def _told_of_its_spec(study: Study) -> Iterator[None]:
    """Where a dataset's spec names a path that does not serve, that line is told too."""
    try:
        yield
    except DataError as error:
        path = getattr(study.dataset.source, "path", None)
        if path is None or error.where is None or Path(str(error.where)) != Path(path):
            raise
        where = place(study.dataset_file, "source.path")
        raise DataError(str(error), where=where, field="source.path") from None


def _shown(name: str, console: Console, status: Status) -> Progress:
    """One line that changes; where that is no terminal, a line now and then."""
    told = time.monotonic()

    def show(what: str, done: int, total: int | None) -> None:
        nonlocal told
        line = f"{what}: {done:,}" + (f" of {total:,}" if total else "")
        status.update(line)
        if not console.is_terminal and time.monotonic() - told > EVERY:
            told = time.monotonic()
            console.print(f"{name}: {line}", highlight=False, soft_wrap=True)

    return show


def _told(manifest: Manifest) -> Iterator[str]:
    """How much there is, what the loss on held-out data may owe to the training data, and labels that disagree."""
    near = manifest.near_duplicates
    noun, unit = ("images", "images") if manifest.image else ("documents", "tokens")
    sizes = f"{manifest.train.items:,} training and {manifest.heldout.items:,} held-out {unit}"
    yield f"{sizes}, data hash {manifest.content_hash[:12]}"
    if near and near.found:
        yield f"{near.found:,} of {near.looked_at:,} held-out {noun} looked at have a near-duplicate in training"
    if near and near.dropped:
        yield f"{near.dropped:,} training {noun} left out, nearly equal to one of {near.looked_at:,} held out"
    if manifest.label_conflicts:
        yield f"{manifest.label_conflicts:,} images left out as duplicates have another label than the one kept"
