"""Preparing text: killed, interrupted, and how much memory it takes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sparsity_lab.data.manifest import Manifest, read_manifest
from sparsity_lab.data.prepare import prepare
from sparsity_lab.specs.datasets import (
    Bpe,
    TextDataset,
)
from tests.data.conftest import FILES, packed_spec, snapshot

PROGRAM = """
import sys
from pathlib import Path
from sparsity_lab.data import judging
from sparsity_lab.data.prepare import prepare
from sparsity_lab.specs.datasets import TextDataset
judging.UNIT_BYTES = int(sys.argv[4])
prepare(TextDataset.model_validate_json(sys.argv[1]), Path(sys.argv[2]), workers=int(sys.argv[3]))
if sys.platform.startswith("linux"):
    import resource
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def started(spec: TextDataset, data: Path, workers: int, unit: int = 1) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, spec.model_dump_json(), str(data), str(workers), str(unit)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def children(process: int) -> list[int]:
    found = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        found += [int(child) for child in path.read_text(encoding="utf-8").split()]
    return found


def finished_work(data: Path) -> int:
    return len([path for path in data.glob(".work/*") if not path.name.startswith(".")])


@pytest.mark.slow
@pytest.mark.usefixtures("small_units")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc who is alive")
def test_ten_kills_in_parallel_change_no_byte(packed: Path, tmp_path: Path) -> None:
    spec, data = packed_spec(packed, Bpe(kind="bpe", vocabulary=300, training_bytes=9000)), tmp_path / "data"
    prepare(spec, tmp_path / "fresh")
    total = 2 * FILES + 3
    for kill in range(10):
        before = finished_work(data)
        running = started(spec, data, 2)
        while running.poll() is None and finished_work(data) < max(before + 1, total * kill // 10):
            time.sleep(0.005)
        processes = children(running.pid)
        running.send_signal(signal.SIGINT if kill % 3 == 0 else signal.SIGKILL)
        running.communicate()
        assert running.returncode != 0
        wait_for_the_end(processes)
        assert not (data / "manifest.json").exists()
    manifest: Manifest = prepare(spec, data, workers=2)
    assert manifest == read_manifest(tmp_path / "fresh")
    assert snapshot(data) == snapshot(tmp_path / "fresh")


def wait_for_the_end(processes: list[int]) -> None:
    """Nobody outlives the process that started them."""
    for _ in range(2000):
        if not any(Path(f"/proc/{process}/cmdline").exists() and cmdline(process) for process in processes):
            return
        time.sleep(0.01)
    raise AssertionError(f"still alive: {processes}")


def cmdline(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for the peak of memory")
def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path) -> None:
    peaks = {}
    text = os.urandom(1 << 20).hex()
    for count in (2, 30):
        root = tmp_path / str(count)
        root.mkdir()
        for number in range(count):
            rows = (
                json.dumps({"text": f"{number} {row} {text[row * 2000 : row * 2000 + 2000]}"}) for row in range(1000)
            )
            (root / f"{number:03d}.json").write_text("\n".join(rows), encoding="utf-8")
        spec = packed_spec(root).model_copy(update={"shard_tokens": 10_000_000})
        running = started(spec, tmp_path / f"data-{count}", 1, 1 << 20)
        told, errors = running.communicate()
        assert running.returncode == 0, errors
        peaks[count] = int(told) / 1024
    assert peaks[30] < peaks[2] + 12, "28 files more, 56 MB of text more, megabytes at the peak"
