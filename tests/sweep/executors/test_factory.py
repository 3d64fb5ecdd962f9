"""From a compute file to what trains: each engine its executor, and a package that is missing is named."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Any

import pytest

from sparsity_lab.errors import MachineError, RecordError
from sparsity_lab.specs.compute import Compute
from sparsity_lab.sweep.executors.factory import RAY_AT_ONCE, executor_for, on_node, side_by_side
from sparsity_lab.sweep.executors.local import LocalExecutor
from sparsity_lab.sweep.jobs import Workplace
from sparsity_lab.sweep.worker import failure, forget

PACKAGES = {"ray": "ray", "slurm": "submitit"}


def compute(kind: str, **engine: Any) -> Compute:
    return Compute.model_validate({"version": 1, "engine": {"kind": kind, **engine}})


def without(package: str, kind: str, patch: pytest.MonkeyPatch) -> None:
    """As on a machine where a package was never installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        patch.delitem(sys.modules, name)
    patch.setitem(sys.modules, package, None)
    patch.delitem(sys.modules, f"sparsity_lab.sweep.executors.{kind}", raising=False)


def test_this_machine_has_workers(place: Workplace) -> None:
    executor = executor_for(compute("local", workers=3), place)
    assert isinstance(executor, LocalExecutor)
    assert executor.count == 3


@pytest.mark.parametrize("kind", PACKAGES)
def test_a_missing_package_is_named_with_how_to_get_it(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    without(PACKAGES[kind], kind, monkeypatch)
    with pytest.raises(MachineError, match=rf"{PACKAGES[kind]}.*sparsity-lab\[{kind}\]"):
        executor_for(compute(kind, **({"workers": 2} if kind == "slurm" else {})), place)


def test_a_node_is_asked_for_where_there_is_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for where in (compute("local"), compute("slurm", workers=2)):
        assert on_node(where, tmp_path, lambda *_: 1) is None
    without("ray", "ray", monkeypatch)
    with pytest.raises(MachineError, match="ray"):
        on_node(compute("ray"), tmp_path, lambda *_: 1)


def test_how_many_runs_are_under_way_at_once() -> None:
    assert side_by_side(compute("local", workers=3)) == 3
    assert side_by_side(compute("local")) >= 1
    assert side_by_side(compute("slurm", workers=5)) == 5
    assert side_by_side(compute("ray")) == RAY_AT_ONCE


@pytest.mark.parametrize(
    ("error", "mended", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), True, "/x/y"),
        (RecordError("is damaged", where="record.json"), True, "record.json: is damaged"),
        (OSError(errno.EIO, "Input/output error", "/x/y"), False, "Input/output error"),
        (ZeroDivisionError("ours"), False, "Traceback"),
    ],
)
def test_what_a_worker_tells_of_an_error(error: Exception, mended: bool, told: str) -> None:
    try:
        raise error  # noqa: TRY301
    except Exception as raised:
        failed = failure("f" * 64, raised)
    assert failed.user_error == mended
    assert told in failed.message


def test_the_checkpoints_of_a_finished_run_are_removed_here_and_elsewhere(place: Workplace, tmp_path: Path) -> None:
    name, elsewhere = "f" * 64, tmp_path / "elsewhere"
    there = Workplace(place.layout, place.data, place.home, checkpoints=str(elsewhere))
    for file in (place.layout.checkpoint(name), elsewhere / f"{name}.safetensors", elsewhere / "other.safetensors"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    forget(name, there)
    assert not place.layout.checkpoint(name).parent.exists()
    left = [path for path in elsewhere.rglob("*") if path.is_file()]
    assert elsewhere / "other.safetensors" in left
