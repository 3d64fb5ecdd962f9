"""One of several processes that train runs together, in one phase after another: rank_of_several.py RANK FOLDER.

`asked.json` in the folder has the phases: of how many processes, which are the first ones, which runs, in which modes.
Without steps to break off at, `NAME-SIZE-MODE/rankR` gets all state of a run after its last step, whole tensor by
whole tensor; with them, runs are trained with checkpoints until there, to be taken up again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from sparsity_lab.data.stream import Batch, Stream
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.checkpoint import save_tensors
from sparsity_lab.training.context import RunContext
from sparsity_lab.training.determinism import make_deterministic
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.loop import Loop
from sparsity_lab.training.parallel.distributed import current_ranks
from sparsity_lab.training.run import train

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


def to_its_end(loop: Loop) -> dict[str, Tensor]:
    """Prune at once what is pruned so, take every step, and give all state."""
    while loop.one_shot is not None and not loop.one_shot.finished:
        loop.one_shot.prune_next()
    while loop.step < loop.run.steps:
        loop.advance()
    return whole_state(loop)


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


def train_all(rank: int, size: int, folder: Path, asked: dict[str, Any]) -> None:
    """One process's part of a phase."""
    for mode in asked["modes"]:
        for name, (text, data) in asked["runs"].items():
            run, inputs = RunSpec.model_validate_json(text), Inputs(Path(data), Path(asked["cache"]))
            if asked.get("break_off"):
                context = RunContext(folder / name / "checkpoint.safetensors", None, -1, CPU, sharded=mode == "sharded")
                break_off(run, inputs, context, *asked["break_off"])
                continue
            ranks = current_ranks(run.batch, sharded=mode == "sharded")
            loop = Loop(run, into_the_second_epoch(inputs.stream(run)), CPU, ranks)
            save_tensors(folder / f"{name}-{size}-{mode}" / f"rank{rank}", to_its_end(loop))


def main(rank: int, folder: Path) -> None:
    make_deterministic(1)
    for number, asked in enumerate(json.loads((folder / "asked.json").read_text())):
        if rank < (size := asked["size"]):
            meeting = f"file://{folder}/meeting-{number}"
            distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
            train_all(rank, size, folder, asked)
            distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
