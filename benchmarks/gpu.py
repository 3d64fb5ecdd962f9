"""What one GPU makes of training: speed and energy, masks, many small runs side by side.

    python benchmarks/gpu.py [--parts speed masks sharing] [--widths 256 512 1024 2048] [--json FILE]
    python benchmarks/gpu.py --dry          the same paths on the CPU, in small, to see that they work

`speed`: a step of our trainer (`training.loop.Loop`; plain, with compiled blocks, with batches made in time instead of
ahead), of a bare loop under `torch.compile` with fused AdamW, with CUDA graphs and without, and of transformers' model
in the bare loop; bfloat16 with float32 weights. Tokens or images a second, share of the GPU's published peak (MFU),
peak memory, joules a unit of data by `nvidia-smi`. To beat: 40 % MFU at width >= 1,024. `masks`: milliseconds to
choose masks on the device, which must be those that the CPU chooses. `sharing`: small runs a minute with 1, 4 and 16
processes on the GPU; `stacking.py` has them in one batched step. Without CUDA nothing is measured, unless dry.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from step import OBJECTIVES, VOCABULARY, batch_of, transformers_model
from torch import Tensor, nn

from sparsity_lab.models.base import Batch
from sparsity_lab.models.build import build_model
from sparsity_lab.models.count import prunable_count, step_flops
from sparsity_lab.pruning.patterns import choose
from sparsity_lab.specs.models import DecoderDims, OwnDims, T5Dims, ViTDims
from sparsity_lab.specs.regimes.patterns import NofM, Pattern, Unstructured
from sparsity_lab.specs.regimes.regime import Dense
from sparsity_lab.specs.runs import RunSpec, data_per_example
from sparsity_lab.specs.training import AdamW, CosineSchedule, Evaluation
from sparsity_lab.training.accounting import peak_flops
from sparsity_lab.training.determinism import best_device, make_deterministic, peak_memory, this_machine
from sparsity_lab.training.loop import Loop

Step = Callable[[], object]
PARTS = ("speed", "masks", "sharing")


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    widths: tuple[int, ...]
    layers: int = 8
    copies: int = 8
    """of the 32 examples of `step.batch_of`: 32,768 tokens of the decoder"""
    steps: int = 20
    repeats: int = 5
    side: int = 4096
    """of the matrix whose masks are chosen"""
    together: tuple[int, ...] = (1, 4, 16)
    small_steps: int = 500

    @classmethod
    def dry(cls) -> Scale:
        """Seconds on a CPU."""
        return cls((16,), layers=1, copies=1, steps=1, repeats=1, side=64, together=(1, 2), small_steps=4)


@dataclass
class Figures:
    """What was seen, as it is printed and written."""

    machine: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, part: str, **row: Any) -> None:
        """Print and keep one line."""
        self.rows.append({"part": part, **row})
        said = (f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items())
        print(f"{part:8} {'  '.join(said)}", flush=True)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--families", nargs="+", choices=list(OBJECTIVES), help="all of them, or one when dry")
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 512, 1024, 2048])
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--dry", action="store_true", help="on the CPU and in small")
    options = parser.parse_args()
    device = torch.device("cpu") if options.dry else best_device()
    if device.type != "cuda" and not options.dry:
        print("skipped: no CUDA device here (--dry takes the same paths on the CPU)")
        return
    scale = Scale.dry() if options.dry else Scale(tuple(options.widths))
    make_deterministic(1, fast=not options.dry)
    figures = Figures(this_machine(device, bfloat16=True).model_dump())
    if "speed" in options.parts:
        for family in options.families or (["decoder"] if options.dry else list(OBJECTIVES)):
            for width in scale.widths:
                measure_speed(figures, family, width, scale, device)
    for part, measure in (("masks", measure_masks), ("sharing", measure_sharing)):
        if part in options.parts:
            measure(figures, scale, device)
    if options.json:
        options.json.write_text(json.dumps(asdict(figures), indent=1) + "\n", encoding="utf-8")


def dims_of(family: str, width: int, scale: Scale) -> OwnDims:
    """Heads 64 wide, MLPs four times the width (T5 and decoder: gated, 8/3)."""
    heads, ff = max(width // 64, 1), width * 8 // 3 // 16 * 16
    match family:
        case "t5":
            stacks = {"encoder_layers": scale.layers, "decoder_layers": scale.layers}
            return T5Dims(**stacks, width=width, heads=heads, ff=ff, vocabulary=VOCABULARY)
        case "vit":
            image = {"image": 24, "channels": 1, "patch": 4, "classes": 200}
            return ViTDims(layers=scale.layers, width=width, heads=heads, ff=4 * width, **image)
        case _:
            text = {"vocabulary": VOCABULARY, "context": 128}
            return DecoderDims(layers=scale.layers, width=width, heads=heads, ff=ff, **text)


def run_of(family: str, dims: OwnDims, batch: int, precision: str) -> RunSpec:
    """A dense run of these shapes without end."""
    return RunSpec(
        model=dims,
        objective=OBJECTIVES[family],
        regime=Dense(version=1, method="dense"),
        sparsity=0.0,
        batch=batch,
        steps=1_000_000,
        optimizer=AdamW(kind="adamw"),
        peak_learning_rate=1e-3,
        schedule=CosineSchedule(kind="cosine"),
        precision=precision,
        evaluation=Evaluation(),
        seed=0,
    )


def measure_speed(figures: Figures, family: str, width: int, scale: Scale, device: torch.device) -> None:
    """One line a way to train a model of this width, all on the same batch, the ways in turn."""
    dims = dims_of(family, width, scale)
    batch = {name: torch.cat([tensor] * scale.copies) for name, tensor in batch_of(dims).items()}
    examples = len(next(iter(batch.values())))
    flops = step_flops(dims, OBJECTIVES[family], examples).total
    units = examples * data_per_example(OBJECTIVES[family])
    peak = peak_flops(this_machine(device).device, bfloat16=True)
    for name, make in ways(family, dims, batch, device).items():
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        with make() as step, Watts(device) as watts:
            seconds = step_seconds(step, scale, device)
        figures.add(
            "speed",
            family=family,
            width=width,
            weights=prunable_count(dims),
            way=name,
            ms=seconds * 1e3,
            per_second=units / seconds,
            mfu=None if peak is None else flops / seconds / peak,
            peak_memory=peak_memory(device),
            joules_per_unit=None if watts.mean is None else watts.mean * seconds / units,
        )


def ways(family: str, dims: OwnDims, batch: dict[str, Tensor], device: torch.device) -> dict[str, Callable[[], Any]]:
    """Ways to take a step, each a context that gives the step."""
    examples = len(next(iter(batch.values())))

    @contextmanager
    def ours(precision: str, ahead: int) -> Iterator[Step]:
        loop = Loop(run_of(family, dims, examples, precision), lambda _: dict(batch), device, ahead=ahead)
        with closing(loop):
            yield loop.advance

    @contextmanager
    def bare(model: nn.Module, loss: Callable[[Batch], Tensor]) -> Iterator[Step]:
        model.to(device)
        moved = {name: tensor.to(device) for name, tensor in batch.items()}
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)

        def step() -> None:
            optimizer.zero_grad()
            with torch.autocast(device.type, dtype=torch.bfloat16):
                found = loss(moved)
            found.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        yield step

    model = build_model(dims, 0)
    return {
        "ours": lambda: ours("bfloat16", 2),
        "ours, batches in time": lambda: ours("bfloat16", 0),
        "ours compiled": lambda: ours("bfloat16-compiled", 2),
        "bare compiled": lambda: bare(model, torch.compile(model)),
        "bare compiled, CUDA graphs": lambda: bare(model, torch.compile(model, mode="reduce-overhead")),
        "transformers": lambda: bare(*transformers_model(dims)),
    }


def step_seconds(step: Step, scale: Scale, device: torch.device) -> float:
    """Median over repeats of the seconds of a step, after two that compile and warm up."""
    step(), step()
    times = []
    for _ in range(scale.repeats):
        wait(device)
        start = time.perf_counter()
        for _ in range(scale.steps):
            step()
        wait(device)
        times.append((time.perf_counter() - start) / scale.steps)
    return statistics.median(times)


def wait(device: torch.device) -> None:
    """Until the device has done all that it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Watts:
    """Mean power of the GPU while the context lasts, by `nvidia-smi`; None where that is not known."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._seen, self._done = device, list[float](), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    @property
    def mean(self) -> float | None:
        """Watts."""
        return statistics.fmean(self._seen) if self._seen else None

    def __enter__(self) -> Watts:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        program = shutil.which("nvidia-smi") if self._device.type == "cuda" else None
        while program and not self._done.wait(0.2):
            command = [program, "--query-gpu=power.draw", "--format=csv,noheader,nounits", "-i", "0"]
            said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
            if said.replace(".", "").isdigit():
                self._seen.append(float(said))


def measure_masks(figures: Figures, scale: Scale, device: torch.device) -> None:
    """Milliseconds to choose half of a matrix's weights on the device, and that the CPU chooses the same."""
    score = torch.rand((scale.side, scale.side), generator=torch.Generator().manual_seed(0))
    patterns: dict[str, Pattern] = {
        "unstructured": Unstructured(kind="unstructured"),
        "2:4": NofM(kind="n:m", n=2, m=4),
    }
    for name, pattern in patterns.items():
        there, zeros = score.to(device), score.numel() // 2
        seconds = step_seconds(lambda p=pattern, s=there, z=zeros: choose(p, s, z), scale, device)  # type: ignore[misc]
        same = torch.equal(choose(pattern, there, zeros).cpu(), choose(pattern, score, zeros))
        figures.add("masks", pattern=name, weights=score.numel(), ms=seconds * 1e3, as_on_cpu=same)


def measure_sharing(figures: Figures, scale: Scale, device: torch.device) -> None:
    """Runs a minute of a small decoder, so many processes at a time; their start is not counted."""
    context = multiprocessing.get_context("spawn")
    for count in scale.together:
        barrier = context.Barrier(count + 1)
        processes = [context.Process(target=small_run, args=(scale, str(device), barrier)) for _ in range(count)]
        for process in processes:
            process.start()
        barrier.wait()
        start = time.perf_counter()
        barrier.wait()
        minutes = (time.perf_counter() - start) / 60
        figures.add("sharing", together=count, steps=scale.small_steps, runs_per_minute=count / minutes)


def small_run(scale: Scale, device: str, barrier: Any) -> None:
    """One of several processes: a run of width 64, or 16 when dry."""
    make_deterministic(1)
    batch = batch_of(dims := dims_of("decoder", min(64, *scale.widths), scale))
    loop = Loop(run_of("decoder", dims, 32, "float32"), lambda _: dict(batch), torch.device(device))
    loop.advance()
    barrier.wait()
    for _ in range(scale.small_steps):
        loop.advance()
    loop.mean_train_loss()
    barrier.wait()


if __name__ == "__main__":
    main()
