"""Processes that train one run together hold the same masks and weights, and train what one process would."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from method_cases import regime
from safetensors.torch import load_file

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.errors import MachineError
from sparsity_lab.models.build import build_model
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.distributed import Ranks
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.loop import Loop

MakeRun = Callable[..., RunSpec]
MakeLoop = Callable[[RunSpec], Loop]
InputsOf = Callable[[str], Inputs]
NAMES = ("saliency", "set", "wanda", "sr-ste")
WORKER = Path(__file__).parents[1] / "support" / "rank_of_two.py"


needs_two = pytest.mark.slow
"""starts two processes"""


def runs(make_run: MakeRun) -> dict[str, RunSpec]:
    return {name: make_run("t5", 0.5, regime=regime(name), steps=8) for name in NAMES}


@pytest.fixture(scope="module")
def trained_by_two(tmp_path_factory: pytest.TempPathFactory, make_run: MakeRun, inputs_of: InputsOf) -> Path:
    folder, inputs = tmp_path_factory.mktemp("ranks"), inputs_of("t5")
    texts = {name: run.model_dump_json() for name, run in runs(make_run).items()}
    asked = {"data": str(inputs.folder), "cache": str(inputs.cache), "runs": texts, "trained": NAMES[0]}
    (folder / "asked.json").write_text(json.dumps(asked))
    workers = [subprocess.Popen([sys.executable, WORKER, str(rank), "2", folder]) for rank in (0, 1)]
    assert [worker.wait(timeout=300) for worker in workers] == [0, 0]
    return folder


@needs_two
@pytest.mark.parametrize("name", NAMES)
def test_all_state_is_the_same_on_every_rank(trained_by_two: Path, name: str) -> None:
    one, other = (load_file(trained_by_two / rank / name) for rank in ("rank0", "rank1"))
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[part]) for part, tensor in one.items())


@needs_two
@pytest.mark.parametrize("name", NAMES)
def test_two_processes_train_what_one_does(
    trained_by_two: Path, make_run: MakeRun, make_loop: MakeLoop, name: str
) -> None:
    loop = make_loop(runs(make_run)[name])
    while loop.step < loop.run.steps:
        loop.advance()
    found = load_file(trained_by_two / "rank0" / name)
    assert float(found["loss_sum"]) == pytest.approx(float(loop.tensors()["loss_sum"]), rel=1e-4)
    masks = {part: mask for part, mask in loop.tensors().items() if part.startswith("masks/")}
    moved = sum(int((found[part] != mask).sum()) for part, mask in masks.items())
    assert moved <= 0.01 * sum(mask.numel() for mask in masks.values()), "rounding may swap a few close scores"


@needs_two
def test_rank_0_alone_writes_and_both_tell_the_same(trained_by_two: Path) -> None:
    one, other = (
        RunRecord.model_validate_json((trained_by_two / rank / "record.json").read_text())
        for rank in ("rank0", "rank1")
    )
    assert one.losses() == other.losses()
    assert one.tensors == other.tensors
    assert one.machine.processes == 2
    for file in ("weights", "checkpoint"):
        assert (trained_by_two / "rank0" / file).is_file()
        assert not (trained_by_two / "rank1" / file).exists()


@pytest.mark.parametrize(("size", "examples"), [(1, 5), (2, 5), (3, 7), (4, 4)])
def test_shares_are_a_partition_weighted_by_their_size(make_run: MakeRun, size: int, examples: int) -> None:
    tokens = torch.arange(examples * 16).view(examples, 16)
    shares = [Ranks(rank, size).share({"tokens": tokens}) for rank in range(size)]
    assert torch.equal(torch.cat([batch["tokens"] for batch, _ in shares]), tokens)
    assert sum(weight for _, weight in shares) == pytest.approx(1)
    model = build_model(make_run("decoder").model, 0)
    whole = model.loss({"tokens": tokens}).item()
    assert sum(model.loss(batch).item() * weight for batch, weight in shares) == pytest.approx(whole, rel=1e-5)


def test_more_processes_than_examples_are_told() -> None:
    with pytest.raises(MachineError, match=r"more processes than examples in a batch .found 3, expected up to 2"):
        Ranks(0, 3).share({"labels": torch.zeros(2)})
