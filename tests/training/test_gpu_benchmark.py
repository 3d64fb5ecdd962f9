"""The GPU's benchmark takes the same paths on a CPU, and says why it measures nothing where there is no GPU."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A benchmark with these arguments, in this process: it loads what tests have loaded."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def main(*arguments: str, program: str = "gpu") -> None:
        monkeypatch.setattr(sys, "argv", [f"{program}.py", *arguments])
        importlib.import_module(program).main()

    return main


def test_a_dry_run_measures_every_part(
    tmp_path: Path, run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # traced and differentiated, without C++ in the end: that takes a minute, and test_compiled has it
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    run("--dry", "--json", str(tmp_path / "figures.json"))
    figures = json.loads((tmp_path / "figures.json").read_text())
    rows = {part: [row for row in figures["rows"] if row["part"] == part] for part in ("speed", "masks", "sharing")}
    ways = [
        "ours",
        "ours, batches in time",
        "ours compiled",
        "bare compiled",
        "bare compiled, CUDA graphs",
        "transformers",
    ]
    assert [row["way"] for row in rows["speed"]] == ways
    assert all(row["per_second"] > 0 for row in rows["speed"])
    assert [(row["pattern"], row["as_on_cpu"]) for row in rows["masks"]] == [("unstructured", True), ("2:4", True)]
    assert [row["together"] for row in rows["sharing"]] == [1, 2]
    assert figures["machine"]["device"] == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_nothing_is_measured(run: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    run()
    assert capsys.readouterr().out == "skipped: no CUDA device here (--dry takes the same paths on the CPU)\n"


def test_stacked_models_lose_what_models_alone_lose(
    run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("--widths", "16", "--together", "1", "3", "--batches", "2", "--repeats", "1")
    run(*small, program="stacking")  # which holds the losses against each other
    _, _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split()[:4] for row in rows] == [
        [f, "16", "2", n] for f in ("t5", "vit", "decoder") for n in ("1", "3")
    ]
    assert all(float(number) > 0 for row in rows for number in row.split()[4:])
