"""What preparing text costs: MB/s on one and two processes, memory, disk, and `datasets.map` beside it.

    python benchmarks/prepare.py [--files 8] [--megabytes 8] [--pairs 2]

Makes C4-like `.json.gz` of seeded words of Python's own library, with a tokenizer trained on a part of it, and prepares
them in processes of their own. Runs of one and of two processes take turns; beside the clock stands processor time,
which other programs disturb less. `datasets` is compared where it is installed: pip install datasets -c constraints.txt
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparsity_lab.data.sources import documents
from sparsity_lab.data.tokenizer import train_bpe
from sparsity_lab.specs.sources import PythonStdlib

VOCABULARY = 8192
OURS = """
import sys
from pathlib import Path
from sparsity_lab.data.prepare import prepare
from sparsity_lab.specs.datasets import TextDataset, TokenizerFile
from sparsity_lab.specs.sources import JsonLines
source = JsonLines(kind="jsonl", path=sys.argv[1])
tokenizer = TokenizerFile(kind="file", path=sys.argv[2])
spec = TextDataset(version=1, content="text", source=source, tokenizer=tokenizer, held_out=0.01)
prepare(spec, Path(sys.argv[3]), workers=int(sys.argv[4]))
"""
THEIRS = """
import sys
from pathlib import Path
from datasets import load_dataset
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_file(sys.argv[2])
def tokens(rows):
    return {"tokens": [one.ids for one in tokenizer.encode_batch_fast(rows["text"], add_special_tokens=False)]}
files = [str(path) for path in sorted(Path(sys.argv[1]).iterdir())]
rows = load_dataset("json", data_files=files, split="train", cache_dir=sys.argv[3])
rows.map(tokens, batched=True, remove_columns=rows.column_names, num_proc=int(sys.argv[4]))
"""


@dataclass(frozen=True)
class Cost:
    """Of one run: seconds of the clock and of processors, peak memory of all its processes and disk, bytes."""

    clock: float
    processor: float
    memory: int
    disk: int


def main() -> None:
    """Print one line for each run, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--megabytes", type=int, default=8, help="of text in a file")
    parser.add_argument("--pairs", type=int, default=2, help="runs of each kind")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, tokenizer = Path(folder) / "source", Path(folder) / "tokenizer.json"
        size = _make(source, tokenizer, arguments.files, arguments.megabytes)
        packed = sum(path.stat().st_size for path in source.iterdir())
        print(f"{arguments.files} files, {size / 1e6:.0f} MB of text, {packed / 1e6:.0f} MB packed")
        kinds = {"prepare, 1 process": (OURS, 1), "prepare, 2 processes": (OURS, 2)}
        if importlib.util.find_spec("datasets"):
            kinds["datasets.map, 2 processes"] = (THEIRS, 2)
        best: dict[str, float] = {}
        spent: dict[str, float] = {}
        for pair in range(arguments.pairs):
            for kind, (program, workers) in kinds.items():
                home = Path(folder) / f"{kind}-{pair}"
                cost = _run(program, source, tokenizer, home, workers)
                best[kind] = min(best.get(kind, cost.clock), cost.clock)
                spent[kind] = min(spent.get(kind, cost.processor), cost.processor)
                print(
                    f"{kind:<26} {size / cost.clock / 1e6:6.2f} MB/s  {cost.clock:6.1f} s, of processors "
                    f"{cost.processor:6.1f} s  peak {cost.memory / 1e6:5.0f} MB  disk {cost.disk / size:.2f} B a byte",
                    flush=True,
                )
        one, two, *others = best.values()
        alone, shared, *theirs = spent.values()
        print(
            f"two processes against one: {one / two:.2f}x; on free cores, by processor time: {2 * alone / shared:.2f}x"
        )
        for other, its in zip(others, theirs, strict=True):
            print(f"against datasets.map: {other / two:.2f}x; by processor time: {its / shared:.2f}x")


def _make(source: Path, tokenizer: Path, files: int, megabytes: int) -> int:
    """C4's layout: documents of about 2 kB, words as frequent as ranks say; bytes of text."""
    text = b" ".join(documents(PythonStdlib(kind="python-stdlib", maximum_bytes=4_000_000))).decode()
    words = np.array(list(dict.fromkeys(re.findall("[A-Za-z]{2,12}", text)))[:20_000])
    chances = 1 / np.arange(10, len(words) + 10)
    random = np.random.default_rng(0)
    source.mkdir()
    sample: list[bytes] = []
    total = 0
    for number in range(files):
        left = megabytes * 1_000_000
        with gzip.open(source / f"c4-train.{number:05d}.json.gz", "wt", compresslevel=3, encoding="utf-8") as file:
            while left > 0:
                drawn = random.choice(words, int(random.integers(60, 700)), p=chances / chances.sum())
                body = ". ".join(" ".join(drawn[at : at + 14]) for at in range(0, len(drawn), 14)) + "."
                file.write(json.dumps({"text": body, "timestamp": "2019-04-25T12:57:54Z", "url": "https://a.b"}) + "\n")
                left -= len(body)
                total += len(body)
                if number == 0 and len(sample) < 1000:
                    sample.append(body.encode())
    tokenizer.write_text(train_bpe(sample, VOCABULARY).source, encoding="utf-8")
    return total


def _run(program: str, source: Path, tokenizer: Path, home: Path, workers: int) -> Cost:
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, str(source), str(tokenizer), str(home), str(workers)]
    before, start, memory = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), 0
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        while running.poll() is None:
            memory = max(memory, _memory(running.pid))
            time.sleep(0.1)
        clock = time.perf_counter() - start
        if running.returncode:
            raise SystemExit(running.stderr.read().decode() if running.stderr else "")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    disk = sum(path.stat().st_size for path in home.rglob("*") if path.is_file())
    return Cost(clock, processor, memory, disk)


def _memory(process: int) -> int:
    """Resident bytes of a process and all below it (Linux)."""
    try:
        own = int(Path(f"/proc/{process}/statm").read_text(encoding="utf-8").split()[1]) * resource.getpagesize()
        below = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="utf-8").split()
    except (OSError, IndexError):
        return 0
    return own + sum(_memory(int(child)) for child in below)


if __name__ == "__main__":
    main()
