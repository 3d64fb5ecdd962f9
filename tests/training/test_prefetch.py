"""Batches made ahead by a thread are those made in time; nothing of it is left; no step waits for the device."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from method_cases import regime
from torch.utils._python_dispatch import TorchDispatchMode

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.errors import DataError
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.context import RunContext
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.loop import Loop
from sparsity_lab.training.prefetch import BatchParts, Prefetch
from sparsity_lab.training.run import train

MakeRun = Callable[..., RunSpec]
InputsOf = Callable[[str], Inputs]
CPU = torch.device("cpu")


def numbered(number: int) -> BatchParts:
    return [({"tokens": torch.tensor([[number]])}, 1.0)]


def number_of(shares: BatchParts) -> int:
    return int(shares[0][0]["tokens"])


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_any_number_may_be_asked_for_in_any_order(ahead: int) -> None:
    made: Counter[int] = Counter()

    def make(number: int) -> BatchParts:
        made[number] += 1
        return numbered(number)

    prefetch = Prefetch(make, ahead, CPU)
    asked = [0, 1, 2, 3, 4, 2, 3, 9, 9, 10, 0]
    assert [number_of(prefetch(number)) for number in asked] == asked
    prefetch.close()
    assert not threads()
    assert max(made) <= 10 + ahead


def test_batches_in_order_are_made_once_each() -> None:
    made: Counter[int] = Counter()
    lock = threading.Lock()

    def make(number: int) -> BatchParts:
        with lock:
            made[number] += 1
        return numbered(number)

    prefetch = Prefetch(make, 2, CPU)
    for number in range(20):
        prefetch(number)
    prefetch.close()
    assert all(made[number] == 1 for number in range(20))


def test_an_error_in_the_thread_is_raised_where_its_batch_is_asked_for() -> None:
    def make(number: int) -> BatchParts:
        if number == 2:
            raise DataError("the shard is missing", where="shard-2")
        return numbered(number)

    prefetch = Prefetch(make, 2, CPU)
    assert [number_of(prefetch(number)) for number in (0, 1)] == [0, 1]
    with pytest.raises(DataError, match="shard-2: the shard is missing"):
        prefetch(2)
    prefetch.close()
    assert not threads()


@pytest.mark.parametrize("name", ["snip", "rigl"])
def test_a_run_with_a_thread_makes_the_same_bits(
    tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, name: str
) -> None:
    run, inputs, made = make_run("t5", 0.5, regime=regime(name)), inputs_of("t5"), []
    for ahead in (0, 3):
        folder = tmp_path / str(ahead)
        record = train(run, inputs, RunContext(folder / "checkpoint", folder / "weights", 1e9, CPU, ahead=ahead))
        made.append((record.losses(), record.tensors, (folder / "weights").read_bytes()))
    assert made[0] == made[1]
    assert not threads()


def test_the_thread_ends_with_a_run_that_fails(
    tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Loop, "sparsity", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(make_run("vit"), inputs_of("vit"), RunContext(tmp_path / "checkpoint", None, 1e9, CPU, ahead=2))
    assert not threads()


class Reads(TorchDispatchMode):
    """Notes which tensors become Python numbers: on a GPU each would wait for all that was asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:  # noqa: SLF001 - torch's name for it
            self.read.append(args[0].data_ptr())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
@pytest.mark.parametrize("name", ["magnitude", "sr-ste"])
def test_a_step_reads_no_number_from_the_device(
    make_run: MakeRun, make_loop: Callable[[RunSpec], Loop], name: str, optimizer: str
) -> None:
    loop = make_loop(make_run("decoder", 0.5, optimizer, regime=regime(name)))
    assert loop.pruner is not None
    loop.advance()
    while loop.pruner.due(loop.step + 1):
        loop.advance()
    with Reads() as reads:
        loop.advance()
    counter = loop.optimizer.state()["count"]  # always on the CPU
    assert set(reads.read) <= {counter.data_ptr()}
    with Reads() as reads:
        loop.mean_train_loss()
    assert reads.read, "the mode sees what it is to see"


def test_a_record_knows_its_speed(tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf) -> None:
    record = train(make_run("vit"), inputs_of("vit"), RunContext(tmp_path / "checkpoint", None, 1e9, CPU))
    assert record.data_per_second == pytest.approx(record.data / record.cost.seconds)
    assert (record.mfu, record.cost.peak_memory, record.machine.deterministic) == (None, None, True)
    on_gpu = record.model_copy(
        update={"machine": record.machine.model_copy(update={"peak_flops": 1e12, "processes": 2})}
    )
    assert on_gpu.mfu == pytest.approx(record.cost.flops_dense / record.cost.seconds / 2e12)
    assert RunRecord.model_validate_json(on_gpu.model_dump_json()) == on_gpu
