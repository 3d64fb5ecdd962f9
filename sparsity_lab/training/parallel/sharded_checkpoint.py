"""Checkpoints of sharded runs, by `torch.distributed.checkpoint`: each rank writes its rows, any number reads them.

They lie beside the file that a run which is not sharded writes: `checkpoint.sharded/step-N/`, complete once it has
`facts.json`, which is written last. The two kinds hold the same state, so a run may go on either way.
"""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsity_lab.artifacts.atomic import explained, write_text
from sparsity_lab.artifacts.paths import FACTS, SHARDED
from sparsity_lab.artifacts.reading import parse_json, read_bytes
from sparsity_lab.artifacts.remote import RemoteCheckpoints
from sparsity_lab.errors import CheckpointError, MachineError
from sparsity_lab.training.checkpoint import copy_into, damaged, load_checkpoint, refuse_others, save_checkpoint
from sparsity_lab.training.loop import Loop
from sparsity_lab.training.parallel.distributed import Ranks

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
            _read_parts(self.path, stored_state(loop) | {RANDOM: state})
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
    for note in path.with_name(SHARDED).glob(f"step-*/{FACTS}"):
        try:
            facts = parse_json(read_bytes(note, CheckpointError), note, CheckpointError)
            int(facts["step"])
        except Exception as error:
            raise damaged(note, error) from None
        refuse_others(note.parent, facts.get("fingerprint"), fingerprint)
        found.append(Found(note.parent, facts))
    return max(found, key=lambda each: int(each.facts["step"]), default=None)


def save_whole(
    path: Path, loop: Loop, facts: dict[str, Any], copies: RemoteCheckpoints | None = None, leads: bool | None = None
) -> None:
    """Write the state of a loop that is not sharded, by rank 0; as `save_sharded`."""
    del leads
    if loop.ranks.writes:
        save_checkpoint(path, {**loop.tensors(), RANDOM: torch.get_rng_state()}, facts)
        shutil.rmtree(path.with_name(SHARDED), ignore_errors=True)
        if copies is not None:
            _send_copy(copies, facts["fingerprint"], path)


def save_sharded(
    path: Path, loop: Loop, facts: dict[str, Any], copies: RemoteCheckpoints | None = None, leads: bool | None = None
) -> None:
    """Write the state of a sharded loop; every rank has to call this at the same step.

    Args:
        path: of the file that a run which is not sharded would write.
        loop: the run in motion.
        facts: what is not a tensor.
        copies: where copies go that other machines reach.
        leads: as in `RunContext`; with it the copy alone is a checkpoint, for each machine has some rows only.

    Raises:
        MachineError: the disk is full or the folder cannot be written.
    """
    ranks, place = loop.ranks, path.with_name(SHARDED) / f"step-{loop.step:012d}"
    if ranks.writes if leads is None else leads:
        shutil.rmtree(place, ignore_errors=True)  # left by a run that was killed here
        place.mkdir(parents=True)
    ranks.wait()
    _write_parts(place, stored_state(loop) | {RANDOM: torch.get_rng_state()})
    if ranks.writes and leads is None:
        write_text(place / FACTS, json.dumps(facts))
        path.unlink(missing_ok=True)
        for other in place.parent.iterdir():
            if other != place:
                shutil.rmtree(other, ignore_errors=True)
    if copies is not None:
        _send_parts(place, ranks, facts, copies)
    if leads is not None:
        ranks.wait()
        if leads:
            shutil.rmtree(place.parent, ignore_errors=True)


def _send_parts(place: Path, ranks: Ranks, facts: dict[str, Any], copies: RemoteCheckpoints) -> None:
    """Copy a checkpoint, each rank the files that it wrote; where all have arrived, the facts make them a whole."""
    name, sent = f"{SHARDED}/{place.name}", True
    own = [*place.glob(f"__{ranks.rank}_*"), *(place.glob(".metadata") if ranks.writes else ())]
    for file in own:
        sent = sent and _send_copy(copies, facts["fingerprint"], file, f"{name}/{file.name}")
    if not ranks.any_wishes(not sent) and ranks.writes:
        last = place / f".{FACTS}"
        write_text(last, json.dumps(facts))
        _send_copy(copies, facts["fingerprint"], last, f"{name}/{FACTS}")


def _send_copy(copies: RemoteCheckpoints, fingerprint: str, file: Path, name: str | None = None) -> bool:
    """Copy a checkpoint, or by its name a part of one; False where that fails, of which the log is told.

    The place was reached when the run began: more is lost by ending it than by going on.
    """
    try:
        if name is None:
            copies.put(fingerprint, file)
        else:
            copies.put_part(fingerprint, file, name)
    except MachineError as error:
        logging.getLogger(__name__).warning("%s: no copy of this checkpoint: %s", fingerprint[:12], error)
        return False
    return True


def _write_parts(place: Path, state: dict[str, Any]) -> None:
    from torch.distributed.checkpoint.api import CheckpointException  # noqa: PLC0415 - loads for a second
    from torch.distributed.checkpoint.filesystem import FileSystemWriter  # noqa: PLC0415
    from torch.distributed.checkpoint.state_dict_saver import save  # noqa: PLC0415

    try:
        save(state, storage_writer=FileSystemWriter(place))
    except CheckpointException as error:  # torch gathers the errors of all ranks in one
        causes = [cause for cause, _ in error.failures.values()]
        told = [explained(cause, place) for cause in causes if isinstance(cause, OSError)]
        raise next((each for each in told if each), RuntimeError(str(error))) from None


def _read_parts(place: Path, targets: dict[str, Any]) -> None:
    from torch.distributed.checkpoint.api import CheckpointException  # noqa: PLC0415 - loads for a second
    from torch.distributed.checkpoint.filesystem import FileSystemReader  # noqa: PLC0415
    from torch.distributed.checkpoint.state_dict_loader import load  # noqa: PLC0415

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that each rank reads for itself is meant
            load(targets, storage_reader=FileSystemReader(place), no_dist=True)
    except (CheckpointException, Exception) as error:  # the first is no Exception
        raise damaged(place, error) from None


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
    first, last = ranks.own_rows(len(whole))
    return whole[first:last]
