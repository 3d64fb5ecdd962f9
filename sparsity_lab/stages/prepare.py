"""Prepare: source -> documents -> tokens -> shards and manifest."""

from __future__ import annotations

from rich.console import Console

from sparsity_lab.artifacts.atomic import locked
from sparsity_lab.data.manifest import Manifest
from sparsity_lab.data.prepare import prepare
from sparsity_lab.doctor import usable_cores
from sparsity_lab.specs.compute import Compute, chosen_compute
from sparsity_lab.stages.workspace import Workspace


def prepare_study(
    space: Workspace,
    console: Console | None = None,
    *,
    compute: Compute | str | None = None,
    workers: int | None = None,
    shards: str | None = None,
) -> Manifest:
    """Make the study's data, or find it made already; what a kill left of it is gone on with.

    Data is made on this machine whatever trains the runs: other machines see its folder or are sent it.

    Args:
        space: the study.
        console: where progress is shown.
        compute: a compute file, or its name.
        workers: processes that read and tokenize, one a core when None.
        shards: folder or `pyarrow.fs` URI that shards go to, in the place of the study's data folder.

    Raises:
        SpecError: there is no such compute file.
        DataError: the source is missing, empty or damaged.
        MachineError: the disk is full, or a process was killed.
    """
    console = console or Console(stderr=True)
    chosen_compute(space.layout.root, compute)
    preparing = console.status(f"{space.name}: preparing {space.study.spec.dataset}")
    with locked(space.layout.lock(f"prepare-{space.name}")), preparing as status:
        manifest = prepare(
            space.study.dataset,
            space.layout.data(space.name),
            lambda what, done, total: status.update(_line(what, done, total)),
            workers=workers or usable_cores(),
            location=shards,
            work=space.layout.preparation(space.name),
        )
    unit = "images" if manifest.image else "tokens"
    console.print(
        f"{space.name}: {manifest.train.items:,} training and {manifest.heldout.items:,} held-out {unit}, "
        f"data hash {manifest.content_hash[:12]}",
        highlight=False,
        soft_wrap=True,
    )
    return manifest


def _line(what: str, done: int, total: int | None) -> str:
    return f"{what}: {done:,}" + (f" of {total:,}" if total else "")
