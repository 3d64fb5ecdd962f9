"""One of several processes that train runs together, as `test_distributed` asks: rank_of_two.py RANK SIZE FOLDER."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import distributed

from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.checkpoint import save_tensors
from sparsity_lab.training.determinism import make_deterministic
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.loop import Loop
from sparsity_lab.training.run import RunContext, train

CPU = torch.device("cpu")


def main(rank: int, size: int, folder: Path) -> None:
    make_deterministic(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    asked = json.loads((folder / "asked.json").read_text())
    inputs = Inputs(Path(asked["data"]), Path(asked["cache"]))
    own = folder / f"rank{rank}"
    for name, text in asked["runs"].items():
        run = RunSpec.model_validate_json(text)
        loop = Loop(run, inputs.stream(run).batch_at, CPU)
        while loop.step < run.steps:
            loop.advance()
        save_tensors(own / name, loop.tensors())
        if name != asked["trained"]:
            continue
        record = train(run, inputs, RunContext(own / "checkpoint", own / "weights", -1, CPU))
        (own / "record.json").write_text(record.model_dump_json())
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
