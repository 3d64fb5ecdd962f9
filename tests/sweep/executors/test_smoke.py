"""The same bits by one process, by this machine's workers, by Ray, by SLURM, and by a torchrun on nodes of SLURM's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attacks.project import like
from clusters import ray_nodes
from projects import RUN_JOBS, contents, edit, environment, once, results, silent, space_of, train_here
from slurm_cluster import compute, free_ports, slurm_cluster

from sparsity_lab.specs.compute import Compute, here
from sparsity_lab.specs.files import SHIPPED
from sparsity_lab.stages.prepare import prepare_study
from sparsity_lab.stages.train import train_study

pytestmark = pytest.mark.slow

HOME = "runs/small"
GRID = {"nonzero": [6_144, 12_288], "sparsity": [0, 0.75], "data": [20_000, 40_000], "data_unit": "tokens"}


@pytest.fixture(scope="module")
def alone(shared: Path) -> Path:
    """The smoke study at fewer places, its weights kept, trained by this process; for reading only."""

    def make(root: Path) -> None:
        shutil.copytree(SHIPPED, root / "specs")
        like(root, "smoke", "small", keep_weights=True, grid={**GRID, "regimes": ["gradual"]}, search=None)
        prepare_study(space_of(root, "small"), silent())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RUN_JOBS, train_here)
            train_study(space_of(root, "small"), workers=1, console=silent())

    return once(shared / "smoke", make)


@contextmanager
def engine(name: str, folder: Path) -> Iterator[Compute]:
    """A compute file for two workers of this machine, a Ray cluster of so many nodes, or a SLURM cluster of three."""
    if name == "local":
        yield here(2)
    elif name == "SLURM":
        with slurm_cluster(folder / "c"):
            yield compute(2)
    else:
        with ray_nodes(folder, *[1] * int(name.rpartition(" ")[2])) as nodes:
            yield nodes.compute()


@pytest.mark.parametrize("name", ["local", "Ray 1", "Ray 2", "Ray 3", "SLURM"])
def test_records_and_weights_are_those_of_one_process(
    name: str, alone: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("smoke") / "project"
    shutil.copytree(alone, root, ignore=shutil.ignore_patterns("runs", "metrics", "plots", ".sparsity-lab"))
    with engine(name, tmp_path_factory.mktemp("engine")) as where:
        sweep = train_study(space_of(root, "small"), compute=where, console=silent())
    assert sweep.trained == len(sweep.records) == 8
    assert results(root, HOME) == results(alone, HOME)
    weights = {path: held for path, held in contents(root, HOME).items() if path.endswith(".safetensors")}
    assert len(weights) == 8
    assert weights == {path: held for path, held in contents(alone, HOME).items() if path.endswith(".safetensors")}


def torchrun(root: Path, *options: str, srun: tuple[str, ...] = ()) -> None:
    """Train the tiny study by a torchrun, alone or by each task of an srun."""
    each = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "1", *options]
    done = subprocess.run(
        [*srun, *each, "-m", "sparsity_lab.training", "tiny"],
        cwd=root,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_run_on_two_nodes_of_slurm_has_the_bits_of_one_machine(
    prepared: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    edit(prepared, "studies/tiny", grid__sparsity=[0.5], grid__data=[1024], grid__nonzero=[1536], grid__replicates=[])
    other = Path(shutil.copytree(prepared, tmp_path / "other"))
    with slurm_cluster(tmp_path_factory.mktemp("engine") / "c", 2):
        place = ("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_ports(0)[0]}")
        torchrun(prepared, "--nnodes", "2", *place, srun=("srun", "--nodes", "2", "--ntasks-per-node", "1"))
    torchrun(other, "--nproc-per-node", "2", "--standalone")
    found = results(prepared)
    assert [record["machine"]["processes"] for record in found.values()] == [2]
    assert found == results(other)
