"""The GPU's benchmark takes the same paths on a CPU, and says why it measures nothing where there is no GPU."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from projects import environment

pytestmark = pytest.mark.slow

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def run(*arguments: str) -> str:
    command = [sys.executable, BENCHMARK, *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_a_dry_run_measures_every_part(tmp_path: Path) -> None:
    run("--dry", "--json", str(tmp_path / "figures.json"))
    figures = json.loads((tmp_path / "figures.json").read_text())
    rows = {part: [row for row in figures["rows"] if row["part"] == part] for part in ("speed", "masks", "sharing")}
    ways = ["ours", "ours, batches in time", "ours compiled", "bare compiled", "transformers"]
    assert [row["way"] for row in rows["speed"]] == ways
    assert all(row["per_second"] > 0 for row in rows["speed"])
    assert [(row["pattern"], row["as_on_cpu"]) for row in rows["masks"]] == [("unstructured", True), ("2:4", True)]
    assert [row["together"] for row in rows["sharing"]] == [1, 2]
    assert figures["machine"]["device"] == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_nothing_is_measured() -> None:
    assert run() == "skipped: no CUDA device here (--dry takes the same paths on the CPU)\n"
