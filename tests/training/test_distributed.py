"""Runs on 1, 2 and 4 processes, whole or sharded, make the same bits; and nearly what one process makes alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from method_cases import regime
from projects import once
from rank_of_several import into_the_second_epoch, to_its_end
from safetensors.torch import load_file
from torch import Tensor

from sparsity_lab.artifacts.paths import Layout
from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.errors import MachineError
from sparsity_lab.models.build import build_model
from sparsity_lab.specs.fingerprint import fingerprint
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.sweep import worker
from sparsity_lab.sweep.jobs import Job, Workplace
from sparsity_lab.training.context import RunContext
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.loop import Loop
from sparsity_lab.training.parallel import distributed as distributed_module
from sparsity_lab.training.parallel.distributed import Ranks, TreeSum, current_ranks, parts_for, sizes_for, tree_sum
from sparsity_lab.training.run import train

MakeRun = Callable[..., RunSpec]
InputsOf = Callable[[str], Inputs]
WORKER = Path(__file__).parents[1] / "support" / "rank_of_several.py"
CPU = torch.device("cpu")
MODES = ("whole", "sharded")
SIZES = (2, 4)
BROKEN_OFF = ("rigl", "sr-ste", "wanda")
WAYS = ((2, "whole", 2), (4, "sharded", 3), (2, "sharded", 5), (4, "whole", 6), (2, "sharded", 7))
"""processes, mode and last step of each stretch of a run that is broken off"""
CASES = {
    "saliency": ("t5", "adamw"),
    "fisher": ("decoder", "adafactor"),
    "wanda": ("vit", "adamw"),
    "rigl": ("decoder", "adamw"),
    "set": ("t5", "adafactor"),
    "sr-ste": ("vit", "adafactor"),
    "ac/dc": ("t5", "adamw"),
    "2:4": ("decoder", "adafactor"),
    "sparsegpt": ("decoder", "adamw"),
}
AT_ONCE = {
    "version": 1,
    "method": "one-shot",
    "start": {"kind": "scratch"},
    "score": {"kind": "sparsegpt", "batches": 2},
}


def run_of(make_run: MakeRun, name: str, **changes: object) -> RunSpec:
    family, optimizer = CASES[name]
    rule = AT_ONCE if name == "sparsegpt" else regime(name)
    return make_run(family, 0.5, optimizer, regime=rule, **{"steps": 8, "batch": 8, **changes})


@pytest.fixture(scope="module")
def trained(shared: Path, make_run: MakeRun, inputs_of: InputsOf) -> Path:
    """What two and four processes made of every case; and of a few that were broken off again and again."""
    return once(shared / "ranks", lambda folder: train_by_several(folder, make_run, inputs_of))


def train_by_several(folder: Path, make_run: MakeRun, inputs_of: InputsOf) -> None:
    folder.mkdir()
    every, few = asked_for(make_run, inputs_of, *CASES), asked_for(make_run, inputs_of, *BROKEN_OFF)
    phases = [{**every, "size": size, "modes": MODES} for size in SIZES]
    done = 0
    for size, mode, until in WAYS:
        phases.append({**few, "size": size, "modes": [mode], "break_off": [done, until]})
        done = until
    (folder / "asked.json").write_text(json.dumps(phases))
    ranks = [subprocess.Popen([sys.executable, WORKER, str(rank), folder]) for rank in range(max(SIZES))]
    assert [rank.wait(timeout=900) for rank in ranks] == [0] * len(ranks)


def asked_for(make_run: MakeRun, inputs_of: InputsOf, *names: str) -> dict[str, Any]:
    runs = {name: run_of(make_run, name) for name in names}
    texts = {
        name.replace("/", ""): (run.model_dump_json(), str(inputs_of(run.model.family).folder))
        for name, run in runs.items()
    }
    return {"cache": str(inputs_of("t5").cache), "runs": texts}


@pytest.fixture(scope="module")
def by_one(make_run: MakeRun, inputs_of: InputsOf) -> Callable[[str, int], dict[str, Tensor]]:
    """All state of a run that one process trained in so many parts."""
    known: dict[tuple[str, int], dict[str, Tensor]] = {}

    def train(name: str, parts: int) -> dict[str, Tensor]:
        if (name, parts) not in known:
            run = run_of(make_run, name)
            stream = inputs_of(run.model.family).stream(run)
            loop = Loop(run, into_the_second_epoch(stream), CPU, current_ranks(run.batch, parts))
            known[name, parts] = to_its_end(loop)
        return known[name, parts]

    return train


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", SIZES)
def test_any_number_of_processes_makes_the_same_bits_on_every_rank(
    trained: Path, by_one: Callable[[str, int], dict[str, Tensor]], size: int, mode: str, name: str
) -> None:
    expected = by_one(name, 8)
    for rank in range(size):
        found = load_file(trained / f"{name.replace('/', '')}-{size}-{mode}" / f"rank{rank}")
        assert found.keys() == expected.keys()
        assert [part for part, tensor in expected.items() if not torch.equal(found[part], tensor)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_parts_change_no_more_than_the_last_bits(by_one: Callable[[str, int], dict[str, Tensor]], name: str) -> None:
    whole, parts = by_one(name, 1), by_one(name, 8)
    assert float(parts["loss_sum"]) == pytest.approx(float(whole["loss_sum"]), rel=1e-5)
    masks = [part for part in whole if part.startswith("masks/")]
    assert sum(int(mask.sum()) for part in masks for mask in [whole[part]]) == sum(
        int(parts[part].sum()) for part in masks
    )
    moved = sum(int((whole[part] != parts[part]).sum()) for part in masks)
    assert moved <= 0.01 * sum(whole[part].numel() for part in masks), "rounding may swap a few close scores"


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN_OFF)
def test_a_run_goes_on_on_other_numbers_of_processes_sharded_or_not(
    trained: Path, tmp_path: Path, make_run: MakeRun, inputs_of: InputsOf, name: str
) -> None:
    """Its bits are those of one device that a compute file lets accumulate the gradients of eight parts."""
    run, folder = run_of(make_run, name), trained / name
    inputs = inputs_of(run.model.family)
    broken = train(run, inputs, RunContext(folder / "checkpoint.safetensors", folder / "weights", 1e9, CPU))
    job = Job(fingerprint(run, inputs.manifest.content_hash), run, cost=0)
    place = Workplace(Layout(tmp_path), inputs.folder, tmp_path, accumulation=8)
    whole = worker.train(job, place, inputs, tmp_path / "weights", lambda _: None, worker.Together(device=CPU))
    assert isinstance(whole, RunRecord)
    assert (folder / "weights").read_bytes() == (tmp_path / "weights").read_bytes()
    assert (broken.losses(), broken.tensors) == (whole.losses(), whole.tensors)
    assert broken.machine == whole.machine
    assert broken.machine.parts == 8


@pytest.mark.parametrize(("size", "parts"), [(1, 1), (1, 4), (2, 2), (2, 8), (3, 6), (4, 4), (4, 8)])
@pytest.mark.parametrize("sharded", [False, True])
def test_parts_are_a_partition_weighted_by_their_size(make_run: MakeRun, size: int, parts: int, sharded: bool) -> None:
    examples = 9
    tokens = torch.arange(examples * 16).view(examples, 16)
    ranks = [Ranks(rank, size, parts, sharded) for rank in range(size)]
    found = {
        part: share for each in ranks for part, share in zip(each.own, each.shares({"tokens": tokens}), strict=True)
    }
    assert sorted(found) == list(range(parts))
    shares = [found[part] for part in range(parts)]
    assert torch.equal(torch.cat([batch["tokens"] for batch, _ in shares]), tokens)
    assert sum(weight for _, weight in shares) == pytest.approx(1)
    model = build_model(make_run("decoder").model, 0)
    whole = model.loss({"tokens": tokens}).item()
    assert sum(model.loss(batch).item() * weight for batch, weight in shares) == pytest.approx(whole, rel=1e-5)


@given(st.integers(0, 3), st.sampled_from([1, 3, 5]), st.integers(0, 3), st.integers(0, 2**32))
def test_sums_are_the_same_tree_however_the_terms_are_grouped(halvings: int, odd: int, local: int, seed: int) -> None:
    count, each = odd << halvings, 1 << min(local, halvings)
    terms = list(torch.randn((count, 7), generator=torch.Generator().manual_seed(seed)))
    groups = []
    for first in range(0, count, each):
        summed = TreeSum(each)
        for term in terms[first : first + each]:
            summed.add(term)
        groups.append(summed.total)
    at_once, one_by_one = tree_sum([term.clone() for term in terms]), TreeSum(count)
    for term in terms:
        one_by_one.add(term)
    assert torch.equal(tree_sum(groups), at_once)
    assert torch.equal(one_by_one.total, at_once)


@given(st.integers(1, 64), st.integers(1, 512))
def test_parts_fit_the_processes_that_begin(size: int, batch: int) -> None:
    parts = parts_for(size, max(size, batch))
    assert size in sizes_for(parts)
    assert parts <= max(size, batch)
    assert (parts == 1) == (size == 1)


@pytest.fixture
def as_one_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda size: monkeypatch.setattr(distributed_module, "place_in_group", lambda: (0, size))


def test_more_processes_than_examples_are_told(as_one_of: Callable[[int], None]) -> None:
    as_one_of(3)
    with pytest.raises(MachineError, match=r"more processes than examples in a batch .found 3, expected up to 2"):
        current_ranks(2)


def test_processes_that_cannot_share_the_parts_are_told(as_one_of: Callable[[int], None]) -> None:
    as_one_of(3)
    assert current_ranks(32) == Ranks(0, 3, 12)
    with pytest.raises(MachineError, match=r"in 8 parts.* .found 3, expected 1 or 2 or 4 or 8"):
        current_ranks(32, 8)
    as_one_of(6)
    with pytest.raises(MachineError, match=r"in 12 parts"):
        current_ranks(32, sharded=True)
