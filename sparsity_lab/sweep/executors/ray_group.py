"""One run on several tasks of a Ray cluster, one a device, on one node or several: how they meet, what they tell.

A placement group holds room for all of them or for none. Each task is given a rank, meets the others through the
mailbox, and trains as the processes of a `torchrun` do. Lost tasks are the driver's to notice.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from sparsity_lab.artifacts.paths import Layout
from sparsity_lab.errors import MachineError, SparsityLabError
from sparsity_lab.sweep.executors.ray_node import (
    Begun,
    Card,
    Delivery,
    Errand,
    Landed,
    Seat,
    node_folder,
    train_errand,
)
from sparsity_lab.sweep.jobs import Event, Failed

Delivered = tuple[Delivery, NDArray[np.uint8] | None]


def carry_together(errand: Errand, mailbox: Any, seat: Seat) -> Delivered:
    """Train a run with the other tasks of its group; the first to fail, else rank 0, delivers what came of it."""
    from sparsity_lab.training.determinism import make_deterministic  # noqa: PLC0415 - torch is for nodes
    from sparsity_lab.training.parallel.group import Failure, join_group  # noqa: PLC0415

    name, delivered = errand.job.fingerprint, list[Delivered]()
    own, cards = _meet(mailbox, seat)
    if seat.rank == 0:
        mailbox.put.remote(Begun(name, own.node))
    os.environ |= surroundings(seat, cards)
    make_deterministic(errand.place.threads, fast=errand.place.fast)
    apart = errand.data is not None and len({card.node for card in cards}) > 1

    def tell(event: Event) -> None:
        if seat.rank == 0:
            mailbox.put.remote(event)

    def work() -> None:
        made = _trained_apart(errand, tell) if apart else train_errand(errand, tell)
        if seat.rank == 0:
            delivered.append(made)

    def failed(failure: Failure) -> None:
        told = None if failure.others_lost else Failed(name, failure.text, failure.user_error)
        delivered.append((Delivery(told), None))

    try:
        join_group().run(work, failed)
    except SparsityLabError as error:
        delivered.append((Delivery(Failed(name, str(error), user_error=True)), None))
    except RuntimeError:  # of the connection to those that are gone
        logging.getLogger(__name__).warning("%s: left alone", name[:12], exc_info=True)
    found = [*delivered, (Delivery(None), None)][0]
    if found[0].event is not None:
        ray.get(mailbox.put.remote(Landed(name, seat.rank)))
    return found


def _trained_apart(errand: Errand, tell: Callable[[Event], None]) -> Delivered:
    """As `train_errand`, by tasks of several nodes that share no folder."""
    from sparsity_lab.sweep.worker import Together  # noqa: PLC0415

    if errand.place.checkpoints is None:
        message = "a run on several nodes needs a place for its checkpoints that all of them reach"
        expected = "checkpoints.uri, or engine.shared_files: true"
        raise MachineError(message, field="checkpoints.uri", found="nothing", expected=expected)
    together = Together(leads=os.environ["LOCAL_RANK"] == "0")
    made = train_errand(errand, tell, together)
    if together.leads and os.environ["RANK"] != "0":  # rank 0 keeps what it has until the driver has the run
        layout = Layout(node_folder(errand.node_folder))
        shutil.rmtree(layout.checkpoint(errand.job.fingerprint).parent, ignore_errors=True)
    return made


def _meet(mailbox: Any, seat: Seat) -> tuple[Card, list[Card]]:
    """This task's card, and those of all by rank."""
    with socket.socket() as one:
        one.bind(("", 0))
        port = int(one.getsockname()[1])
    node, gpus = ray.get_runtime_context().get_node_id(), ray.get_runtime_context().get_accelerator_ids()["GPU"]
    own = Card(node, ray.util.get_node_ip_address(), port, tuple(gpus))
    return own, ray.get(mailbox.meet.remote(seat, own))


def surroundings(seat: Seat, cards: Sequence[Card]) -> dict[str, str]:
    """The variables that `torchrun` would set, and the GPUs of all tasks of this node: NCCL joins them directly."""
    mine = [rank for rank, card in enumerate(cards) if card.node == cards[seat.rank].node]
    gpus = list(dict.fromkeys(gpu for rank in mine for gpu in cards[rank].gpus))
    return {
        "RANK": str(seat.rank),
        "WORLD_SIZE": str(seat.size),
        "LOCAL_RANK": str(mine.index(seat.rank)),
        "MASTER_ADDR": cards[0].address,
        "MASTER_PORT": str(cards[0].port),
        **({"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}),
    }
