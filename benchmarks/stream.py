"""What data cost: preparing (documents and images a second) and streaming (milliseconds a batch).

    python benchmarks/stream.py [--batches 2000] [--batch 32]

Needs nothing but the package: text is the standard library, images are glyphs. Preparing is timed by the clock, once;
everything else by processor time, the best of several runs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from sparsity_lab.data.fonts import rasterise
from sparsity_lab.data.glyphs import BLOCK, GlyphPainter
from sparsity_lab.data.mapped import open_split
from sparsity_lab.data.prepare import prepare
from sparsity_lab.data.stream import Stream
from sparsity_lab.specs.datasets import (
    Bpe,
    Classification,
    DatasetSpec,
    ImageDataset,
    NextToken,
    Objective,
    SpanCorruption,
    TextDataset,
)
from sparsity_lab.specs.sources import Glyphs, PythonStdlib

STDLIB = PythonStdlib(kind="python-stdlib")
GLYPHS = Glyphs(kind="glyphs", examples=100_000)
BYTES_TEXT = TextDataset(version=1, content="text", source=STDLIB)
BPE_TEXT = BYTES_TEXT.model_copy(update={"tokenizer": Bpe(kind="bpe")})
IMAGES = ImageDataset(version=1, content="images", source=GLYPHS)
PREPARED: dict[str, DatasetSpec] = {"bytes": BYTES_TEXT, "bpe": BPE_TEXT, "glyphs": IMAGES}
STREAMED: dict[str, tuple[str, Objective]] = {
    "span corruption 128": ("bytes", SpanCorruption(kind="span-corruption", input_length=128)),
    "span corruption 512": ("bpe", SpanCorruption(kind="span-corruption", input_length=512)),
    "next token 128": ("bytes", NextToken(kind="next-token", length=128)),
    "images 24 x 24": ("glyphs", Classification(kind="classification")),
}


def main() -> None:
    """Print one line for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=2000, help="batches in one run")
    parser.add_argument("--batch", type=int, default=32, help="examples in a batch")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name, spec in PREPARED.items():
            _measure_preparing(name, spec, Path(folder) / name)
        _measure_drawing()
        for name, (data, objective) in STREAMED.items():
            split = open_split(Path(folder) / data, "train", Path(folder) / "cache")
            _measure_streaming(name, Stream(split, objective, arguments.batch, 0), arguments.batches)


def _measure_preparing(name: str, spec: DatasetSpec, folder: Path) -> None:
    start = time.perf_counter()
    manifest = prepare(spec, folder)
    seconds = time.perf_counter() - start
    documents = manifest.train.documents + manifest.heldout.documents
    megabytes = (manifest.train.bytes + manifest.heldout.bytes) / 1e6
    again = _seconds(lambda: prepare(spec, folder))
    print(
        f"prepare {name:<20} {seconds:7.2f} s {documents / seconds:9,.0f} documents/s {megabytes / seconds:7.1f} MB/s"
        f"   again {again * 1e3:.0f} ms"
    )


def _measure_drawing() -> None:
    seconds = _seconds(lambda: rasterise.__wrapped__(GLYPHS.classes, 30), runs=1)
    print(f"choose and rasterise {GLYPHS.classes} classes {seconds:7.2f} s")
    painter = GlyphPainter(GLYPHS)
    seconds = _seconds(lambda: [painter.block(number) for number in range(40)])
    print(f"draw glyphs 24 x 24 {40 * BLOCK / seconds:28,.0f} images/s")


def _measure_streaming(name: str, stream: Stream, batches: int) -> None:
    size = sum(value.nbytes for value in stream.batch_at(0).values())
    seconds = _seconds(lambda: [stream.batch_at(step) for step in range(batches)]) / batches
    print(f"stream  {name:<20} {seconds * 1e3:7.3f} ms a batch of {stream.batch} {size / seconds / 1e6:9,.0f} MB/s")


def _seconds(work: Callable[[], object], runs: int = 5) -> float:
    """Processor time, which other programs disturb less than the clock; all that is measured so runs on one thread."""
    times = []
    for _ in range(runs):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


if __name__ == "__main__":
    main()
