"""One of several processes that train runs together: rank_of_several.py RANK SIZE FOLDER ASKED.

ASKED is a file in the folder: runs, and in which modes. Without steps to break off at, `NAME-SIZE-MODE/rankR` gets
all state of a run after its last step, whole tensor by whole tensor; with them, runs are trained with checkpoints
until there, to be taken up again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, distributed

from sparsity_lab.data.stream import Batch, Stream
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.checkpoint import save_tensors
from sparsity_lab.training.determinism import make_deterministic
from sparsity_lab.training.distributed import current_ranks
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.loop import Loop
from sparsity_lab.training.run import RunContext, train

CPU = torch.device("cpu")


def whole_state(loop: Loop) -> dict[str, Tensor]:
    """Everything that decides later bits, by name of state and parameter, gathered where it is spread."""
    found = {}
    for part, tensor in loop.flat_state().items():
        if tensor.ndim == 1:
            found |= {f"{part}/{name}": whole.clone() for name, whole in loop.parameters.whole(tensor).items()}
        else:
            found[part] = tensor
    return found


def into_the_second_epoch(stream: Stream) -> Callable[[int], Batch]:
    """The stream's batches from four before the end of its first epoch on."""
    ahead = int(1 / stream.epochs(1)) - 4
    assert stream.epochs(ahead) < 1 < stream.epochs(ahead + 8)
    return lambda number: stream.batch_at(number + ahead)


class BrokenOffError(Exception):
    """Stands for kill -9 of all ranks."""


def break_off(run: RunSpec, inputs: Inputs, context: RunContext, first: int, step: int) -> None:
    """Train a run, which has to go on at `first`, with a checkpoint after every step, until `step` steps are done."""
    advance, seen = Loop.advance, []

    def breaking(loop: Loop) -> None:
        seen.append(loop.step)
        if loop.step == step:
            raise BrokenOffError
        advance(loop)

    Loop.advance = breaking  # type: ignore[method-assign]
    try:
        train(run, inputs, context)
    except BrokenOffError:
        pass
    finally:
        Loop.advance = advance  # type: ignore[method-assign]
    assert seen == list(range(first, step + 1))


def main(rank: int, size: int, folder: Path, asked_file: str) -> None:
    make_deterministic(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting-{size}-{asked_file}", rank=rank, world_size=size
    )
    asked = json.loads((folder / asked_file).read_text())
    for mode in asked["modes"]:
        for name, (text, data) in asked["runs"].items():
            run, inputs = RunSpec.model_validate_json(text), Inputs(Path(data), Path(asked["cache"]))
            if asked.get("break_off"):
                context = RunContext(folder / name / "checkpoint.safetensors", None, -1, CPU, sharded=mode == "sharded")
                break_off(run, inputs, context, *asked["break_off"])
                continue
            ranks = current_ranks(run.batch, sharded=mode == "sharded")
            loop = Loop(run, into_the_second_epoch(inputs.stream(run)), CPU, ranks)
            while loop.step < run.steps:
                loop.advance()
            save_tensors(folder / f"{name}-{size}-{mode}" / f"rank{rank}", whole_state(loop))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
