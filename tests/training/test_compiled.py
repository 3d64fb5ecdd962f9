"""Compiled blocks: a run of its own, near to the plain one, with the same masks' sizes, and bits that repeat."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from method_cases import regime

from sparsity_lab.specs.fingerprint import fingerprint
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.accounting import peak_flops
from sparsity_lab.training.context import RunContext
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.run import train

CPU = torch.device("cpu")
needs_compiler = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU"),
]


def test_compiled_runs_are_others(make_run: Callable[..., RunSpec]) -> None:
    precisions = ("float32", "bfloat16", "float32-compiled", "bfloat16-compiled")
    runs = [make_run("decoder", precision=precision) for precision in precisions]
    assert len({fingerprint(run, "data") for run in runs}) == 4
    assert [(run.bfloat16, run.compiled) for run in runs] == [
        (False, False),
        (True, False),
        (False, True),
        (True, True),
    ]


def test_the_compiler_is_loaded_for_compiled_runs_alone_and_told_of_determinism() -> None:
    code = """
import sys, torch
from sparsity_lab.models.build import build_model
from sparsity_lab.specs.models import DecoderDims
from sparsity_lab.training.determinism import compile_blocks, make_deterministic
model = build_model(DecoderDims(layers=1, width=4, heads=2, ff=4, vocabulary=8, context=4), 0)
make_deterministic(1)
assert torch.are_deterministic_algorithms_enabled() and "torch._inductor.config" not in sys.modules
compile_blocks(model)
assert sys.modules["torch._inductor.config"].deterministic
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("case", [pytest.param(case, marks=needs_compiler) for case in ("wanda", "rigl")])
def test_a_compiled_run_is_near_to_the_plain_one_and_repeats(
    tmp_path: Path, make_run: Callable[..., RunSpec], inputs_of: Callable[[str], Inputs], case: str
) -> None:
    made = []
    for place, precision in (("plain", "float32"), ("one", "float32-compiled"), ("two", "float32-compiled")):
        run = make_run("decoder", 0.5, regime=regime(case), steps=8, precision=precision)
        made.append(train(run, inputs_of("decoder"), RunContext(tmp_path / place / "checkpoint", None, 1e9, CPU)))
    plain, one, two = made
    assert one.losses() == two.losses()
    assert one.loss == pytest.approx(plain.loss, rel=1e-4)
    assert [tensor.zeros for tensor in one.tensors] == [tensor.zeros for tensor in plain.tensors]


@pytest.mark.parametrize(
    ("device", "bfloat16", "single"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12, 67e12),
        ("NVIDIA H100 PCIe", 756e12, 51e12),
        ("NVIDIA A100-SXM4-80GB", 312e12, 19.5e12),
        ("NVIDIA L4", 121e12, 30.3e12),
        ("NVIDIA L40S", 362e12, 91.6e12),
        ("Tesla T4", None, None),
    ],
)
def test_peaks_are_found_by_name(device: str, bfloat16: float | None, single: float | None) -> None:
    assert (peak_flops(device, bfloat16=True), peak_flops(device, bfloat16=False)) == (bfloat16, single)
