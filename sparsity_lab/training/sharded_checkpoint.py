"""Checkpoints of sharded runs, by `torch.distributed.checkpoint`: each rank writes its rows, any number reads them.

They lie beside the file that a run which is not sharded writes: `checkpoint.sharded/step-N/`, complete once it has
`facts.json`, which is written last. The two kinds hold the same state, so a run may go on either way.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from sparsity_lab.artifacts.atomic import explained, write_text
from sparsity_lab.artifacts.reading import parse_json, read_bytes
from sparsity_lab.errors import CheckpointError
from sparsity_lab.training.checkpoint import copy_into, damaged, load_checkpoint, refuse_others
from sparsity_lab.training.distributed import Ranks
from sparsity_lab.training.loop import Loop
from sparsity_lab.training.sharded import own_rows

FACTS = "facts.json"
RANDOM = "rng"


@dataclass(frozen=True)
class Found:
    """The latest checkpoint of a run: a file, with its tensors, or a folder, from which each rank reads its rows."""

    path: Path
    facts: dict[str, Any]
    tensors: Mapping[str, Tensor] | None = None

    def restore(self, loop: Loop) -> None:
        """Copy the state into a loop of either kind, and torch's random state.

        Raises:
            CheckpointError: a tensor is missing, damaged or has another shape.
        """
        state = torch.get_rng_state()
        if self.tensors is None:
            targets = stored_state(loop) | {RANDOM: state}
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # that each rank reads for itself is meant
                    load(targets, storage_reader=FileSystemReader(self.path), no_dist=True)
            except (CheckpointException, Exception) as error:  # the first is no Exception
                raise damaged(self.path, error) from None
        elif loop.ranks.sharded:
            copy_into(stored_locally(loop) | {RANDOM: state}, _own_parts(loop, dict(self.tensors)), self.path)
        else:
            copy_into({**loop.tensors(), RANDOM: state}, dict(self.tensors), self.path)
        torch.set_rng_state(state)


def find_checkpoint(path: Path, fingerprint: str) -> Found | None:
    """The latest state of a run, in a file at `path` or a folder beside it; None where there is none.

    Raises:
        CheckpointError: it is damaged or belongs to another run.
    """
    file = load_checkpoint(path, fingerprint)
    found = [] if file is None else [Found(path, file[1], file[0])]
    for note in folder_of(path).glob(f"step-*/{FACTS}"):
        try:
            facts = parse_json(read_bytes(note, CheckpointError), note, CheckpointError)
            int(facts["step"])
        except Exception as error:
            raise damaged(note, error) from None
        refuse_others(note.parent, facts.get("fingerprint"), fingerprint)
        found.append(Found(note.parent, facts))
    return max(found, key=lambda each: int(each.facts["step"]), default=None)


def folder_of(path: Path) -> Path:
    """Where sharded checkpoints lie: beside the file at `path`."""
    return path.with_name(f"{path.stem}.sharded")


def save_sharded(path: Path, loop: Loop, facts: dict[str, Any]) -> None:
    """Write the state of a sharded loop; every rank has to call this at the same step.

    Raises:
        MachineError: the disk is full or the folder cannot be written.
    """
    ranks, place = loop.ranks, folder_of(path) / f"step-{loop.step:012d}"
    if ranks.writes:
        shutil.rmtree(place, ignore_errors=True)  # left by a run that was killed here
        place.mkdir(parents=True)
    ranks.wait()
    try:
        save(stored_state(loop) | {RANDOM: torch.get_rng_state()}, storage_writer=FileSystemWriter(place))
    except CheckpointException as error:  # torch gathers the errors of all ranks in one
        causes = [cause for cause, _ in error.failures.values()]
        told = [explained(cause, place) for cause in causes if isinstance(cause, OSError)]
        raise next((each for each in told if each), RuntimeError(str(error))) from None
    if ranks.writes:
        write_text(place / FACTS, json.dumps(facts))
        path.unlink(missing_ok=True)
        for other in folder_of(path).iterdir():
            if other != place:
                shutil.rmtree(other, ignore_errors=True)


def stored_state(loop: Loop) -> dict[str, Any]:
    """All state, tensor by tensor, as `torch.distributed.checkpoint` reads and writes it in place."""
    found: dict[str, Any] = {}
    for part, tensor in loop.flat_state().items():
        if tensor.ndim:
            found |= {f"{part}/{name}": view for name, view in loop.parameters.stored(tensor).items()}
        else:
            found[part] = tensor
    return found


def stored_locally(loop: Loop) -> dict[str, Tensor]:
    """The same, this process's rows of each tensor."""
    found: dict[str, Tensor] = {}
    for part, tensor in loop.flat_state().items():
        if tensor.ndim:
            found |= {f"{part}/{slot.name}": slot.view(tensor) for slot in loop.parameters.slots_of(tensor)}
        else:
            found[part] = tensor
    return found


def _own_parts(loop: Loop, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """This process's rows of what a file holds: weights and masks by name, other state as whole flat vectors."""
    found: dict[str, Tensor] = dict(tensors)
    for part, tensor in loop.flat_state().items():
        if tensor.ndim and part in tensors:
            whole = loop.parameters.whole_slots(loop.parameters.slots_of(tensor))
            found |= {f"{part}/{slot.name}": slot.view(tensors[part]) for slot in whole}
    spread = {name for name, tensor in stored_locally(loop).items() if tensor.ndim}
    return {name: _rows(tensor, loop.ranks) if name in spread else tensor for name, tensor in found.items()}


def _rows(whole: Tensor, ranks: Ranks) -> Tensor:
    first, last = own_rows(len(whole), ranks)
    return whole[first:last]
