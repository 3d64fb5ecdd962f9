"""A disk that is full: one clear error, nothing half-written, and on it goes once there is space again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from projects import cli, contents, edit, new_project, one_error, results, train_here

from sparsity_lab.artifacts.paths import Layout
from sparsity_lab.artifacts.store import Store
from sparsity_lab.data.manifest import read_manifest
from sparsity_lab.errors import SparsityLabError
from sparsity_lab.specs.compute import here
from sparsity_lab.specs.fingerprint import fingerprint
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.sweep.executors.factory import run_jobs
from sparsity_lab.sweep.jobs import Event, Progressed, Workplace
from sparsity_lab.sweep.study import job_of

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts a tmpfs"),
    pytest.mark.slow,
]

NO_SPACE = "no space left on the disk; nothing half-written was kept"


class Disk:
    """A small file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def fill(self) -> None:
        """Leave not a byte."""
        with (self.root / "ballast").open("wb", buffering=0) as file:
            try:
                while file.write(b"x" * 4096):
                    pass
            except OSError:
                return

    def free(self) -> None:
        """Give the space back."""
        (self.root / "ballast").unlink()

    def half_written(self) -> list[Path]:
        """Temporary files left behind."""
        return list(self.root.rglob("*.tmp"))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    root = tmp_path / "disk"
    root.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", root], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield Disk(root)
    finally:
        subprocess.run(["umount", "-l", root], check=True)


@pytest.fixture
def project(disk: Disk, documents: Path) -> Path:
    """A project with specs alone on the small disk."""
    return new_project(disk.root / "project", documents)


def test_prepare(disk: Disk, project: Path, finished: Path) -> None:
    disk.fill()
    assert NO_SPACE in one_error(cli(project, "prepare", "tiny", code=2))
    assert not list(project.glob("data/tiny/*")), "neither a shard nor a manifest"
    assert not disk.half_written()
    disk.free()
    cli(project, "prepare", "tiny")
    assert contents(project, "data") == contents(finished, "data")


def test_train(disk: Disk, project: Path, finished: Path) -> None:
    cli(project, "prepare", "tiny")
    edit(project, "studies/tiny", grid__nonzero=[1536], grid__data=[1024], grid__replicates=[])
    cli(project, "train", "tiny", "--workers", "1")
    early = contents(project, "runs")
    assert len(early) == 2
    edit(project, "studies/tiny", grid__data=[1024, 2048])
    disk.fill()
    assert NO_SPACE in one_error(cli(project, "train", "tiny", code=2))
    assert contents(project, "runs") == early
    assert not disk.half_written()
    disk.free()
    assert "2 trained now" in cli(project, "train", "tiny", "--workers", "1").stderr
    assert early.items() <= contents(project, "runs").items()
    whole = results(finished)
    assert all(whole[name] == record for name, record in results(project).items())


def test_unpacking_the_data(disk: Disk, project: Path) -> None:
    cli(project, "prepare", "tiny")
    edit(project, "studies/tiny", grid__nonzero=[1536], grid__data=[1024], grid__replicates=[])
    disk.fill()
    assert NO_SPACE in one_error(cli(project, "train", "tiny", code=2))
    assert not list(project.glob(".sparsity-lab/cache/*[0-9a-f]/")), "no whole dataset is unpacked"
    disk.free()
    assert "2 trained now" in cli(project, "train", "tiny", "--workers", "1").stderr


@pytest.mark.slow
@pytest.mark.parametrize("step", ["search", "fit"])
def test_later_steps(disk: Disk, finished: Path, step: str) -> None:
    project = shutil.copytree(finished, disk.root / "project")
    for name in ("metrics/tiny/search.json", "metrics/tiny/fit.json", "search/tiny.json", "laws"):
        path = project / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if step == "fit":
        cli(project, "search", "tiny")
    early = contents(project, "runs", "search")
    disk.fill()
    assert NO_SPACE in one_error(cli(project, step, "tiny", code=2))
    assert contents(project, "runs", "search") == early
    assert not disk.half_written()
    disk.free()
    cli(project, step, "tiny")
    folder = {"search": "search", "fit": "laws"}[step]
    assert contents(project, folder) == contents(finished, folder)


def test_the_searchs_storage(disk: Disk, finished: Path) -> None:
    project = shutil.copytree(finished, disk.root / "project")
    (project / "search/tiny/optuna.db").unlink()
    disk.fill()
    message = one_error(cli(project, "search", "tiny", code=2))
    assert "the search's storage cannot be written" in message
    disk.free()
    cli(project, "search", "tiny")
    assert (project / "search/tiny.json").read_bytes() == (finished / "search/tiny.json").read_bytes()


@pytest.mark.slow
def test_checkpoints(disk: Disk, tmp_path: Path, text_data: Path, make_run: Callable[..., RunSpec]) -> None:
    run = make_run("t5", sparsity=0.5, steps=60)
    job = job_of(fingerprint(run, read_manifest(text_data).content_hash), run)
    quiet = Workplace(Layout(tmp_path), text_data, tmp_path / "runs")
    train_here([job], quiet)
    small = Workplace(Layout(disk.root), text_data, tmp_path / "other", checkpoint_seconds=0.0)

    def fill_in_the_middle(event: Event) -> None:
        if isinstance(event, Progressed) and event.step == 30:
            disk.fill()

    with pytest.raises(SparsityLabError, match=NO_SPACE):
        run_jobs([job], small, here(1), fill_in_the_middle)
    assert not Store(small.home).records()
    assert not disk.half_written()
    disk.free()
    steps: list[int] = []
    run_jobs([job], small, here(1), lambda event: steps.append(event.step) if isinstance(event, Progressed) else None)
    assert steps[0] >= 29, "it goes on from the last whole checkpoint"
    assert losses(small) == losses(quiet)


def losses(place: Workplace) -> list[tuple[str, float, object]]:
    return [(record.fingerprint, record.loss, record.curve) for record in Store(place.home).records()]
