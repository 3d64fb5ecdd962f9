"""`torchrun -m sparsity_lab.training STUDY`: runs on several processes, and how such a group ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from projects import alive, children, cli, edit, environment, until, until_gone
from safetensors import safe_open

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.store import Store
from sparsity_lab.errors import MachineError
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.context import Left, RunContext
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.parallel import group
from sparsity_lab.training.parallel.group import train_together
from sparsity_lab.training.parallel.nodes import place_among
from sparsity_lab.training.run import train

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")]

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone")
FAILING = Path(__file__).parents[1] / "support" / "failing_rank.py"
CPU = torch.device("cpu")


def torchrun(processes: int, *arguments: str) -> list[str]:
    return [*TORCHRUN, f"--nproc-per-node={processes}", "-m", "sparsity_lab.training", *arguments]


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("error: ")]


@pytest.fixture
def small(prepared: Path) -> Path:
    """Three sizes and a second seed, one sparsity, one budget."""
    edit(prepared, "studies/tiny", grid__sparsity=[0.5], grid__data=[1024], keep_weights=True)
    return prepared


MET = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in sorted(MET.keys() - {"MASTER_ADDR"}) for value in ("", "-1", "x", "9" * 5000)),
        ("RANK", "2"),
        ("RANK", "²"),
        ("WORLD_SIZE", "0"),
        ("WORLD_SIZE", "1e3"),
        ("LOCAL_RANK", "2"),
        ("MASTER_PORT", "65536"),
        ("MASTER_ADDR", "no-such-host.invalid"),
        ("MASTER_ADDR", "." * 300),
    ],
)
def test_a_place_that_is_none_is_named_by_its_variable(name: str, value: str) -> None:
    with pytest.raises(MachineError) as caught:
        place_among(MET | {name: value})
    assert str(caught.value).startswith(f"{name}: ")
    assert len(str(caught.value)) < 500


def test_places_are_those_that_torchrun_says() -> None:
    assert place_among(MET | {"RANK": "1", "LOCAL_RANK": "1"}) == (1, 2, 1, "127.0.0.1:29500")
    with pytest.raises(MachineError, match=r"RANK: no other processes to train with .found 'not set', expected to be"):
        place_among({})


def test_a_process_that_meets_nobody_says_so_in_one_line(small: Path) -> None:
    command = [sys.executable, "-m", "sparsity_lab.training", "tiny"]
    variables = environment() | MET | {"RANK": "7"}
    done = subprocess.run(command, cwd=small, env=variables, capture_output=True, text=True, check=False)
    told = "error: RANK: is no place among processes (found '7', expected a whole number from 0 to 1)\n"
    assert (done.returncode, done.stderr) == (2, told)


def test_waiting_for_others_is_said_and_ends(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in (MET | {"RANK": "1", "MASTER_PORT": "9"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(group, "PATIENCE", timedelta(seconds=2))
    monkeypatch.setattr(group, "QUIET", 0.1)
    with pytest.raises(MachineError, match=r"MASTER_ADDR: process 1 did not meet the others: .*found '127.0.0.1:9'"):
        group.join_group()
    assert "process 1 of 2 waits for the others at 127.0.0.1:9\n" in capfd.readouterr().err


def test_a_study_is_trained_once_and_by_name(small: Path) -> None:
    def train(*arguments: str, processes: int = 2) -> str:
        command = torchrun(processes, "tiny", *arguments)
        done = subprocess.run(command, cwd=small, env=environment(), capture_output=True, text=True, check=True)
        return done.stderr

    assert "4 trained now on 2 processes" in train("--sharded")
    records = {record.fingerprint: record for record in Store(small / "runs" / "tiny").records()}
    assert {(each.machine.processes, each.machine.parts) for each in records.values()} == {(2, 8)}
    assert not list((small / ".sparsity-lab" / "scratch").glob("*")), "checkpoints of finished runs are removed"
    again, other = sorted(records)[:2]
    weights = small / "runs" / "tiny" / again / "weights.safetensors"
    with safe_open(weights, framework="pt") as file:
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no mapping
    weights.unlink()
    (small / "runs" / "tiny" / other / "record.json").unlink()
    assert "1 trained now on 2 processes" in train("--whole", "--only", again[:12])
    with safe_open(weights, framework="pt") as file:
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in kept.items())
    record = Store(small / "runs" / "tiny").get(again)
    assert (record, record.machine.processes) == (records[again], 2)
    assert Store(small / "runs" / "tiny").find(other) is None


def test_bad_input_is_one_error(small: Path) -> None:
    done = subprocess.run(
        torchrun(2, "tiny", "--only", "nope"), cwd=small, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode
    assert errors(done.stderr) == ["error: tiny: run: no run of the grid has this name (found 'nope')"]


def test_the_last_rank_fails_while_the_first_waits() -> None:
    command = [*TORCHRUN, "--nproc-per-node=2", str(FAILING), "lost.parquet"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode
    assert errors(done.stderr) == ["error: lost.parquet: the shard is missing"]


@pytest.fixture
def endless(small: Path) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """A torchrun whose two processes are in the middle of a run that is not done before the test is."""
    edit(small, "studies/tiny", grid__data=[30_000_000], training__evaluation__every=100_000_000)
    log = small / "log"
    with log.open("wb") as out:
        started = subprocess.Popen(
            torchrun(2, "tiny"), cwd=small, env=environment(), stdout=out, stderr=out, start_new_session=True
        )
    try:
        until(lambda: list((small / ".sparsity-lab" / "scratch").glob("*/for")), what="a run is under way")
        ranks = children(started.pid)
        assert len(ranks) == 2
        yield started, ranks
    finally:
        started.kill()
        started.wait()


@pytest.mark.parametrize("how", ["a rank is killed", "torchrun is killed", "Ctrl-C", "SIGTERM"])
def test_nothing_is_left_of_a_group(small: Path, endless: tuple[subprocess.Popen[bytes], list[int]], how: str) -> None:
    started, ranks = endless
    match how:
        case "a rank is killed":
            os.kill(ranks[1], signal.SIGKILL)
        case "torchrun is killed":
            os.kill(started.pid, signal.SIGKILL)
        case "Ctrl-C":
            os.killpg(started.pid, signal.SIGINT)
        case _:
            os.kill(started.pid, signal.SIGTERM)
    until_gone(ranks, 60)
    until(lambda: not alive(started.pid) or started.poll() is not None, 60, "torchrun has ended")
    told = errors((small / "log").read_text(errors="replace"))
    if how == "a rank is killed":
        assert len(told) <= 1, "torchrun may end the others before they can tell"
        assert all("waited for the others in vain" in line for line in told)
    if how == "SIGTERM":
        assert list(small.glob(".sparsity-lab/scratch/*/checkpoint.safetensors")), "it left with its checkpoint written"


def test_the_local_executor_gives_a_run_its_devices(small: Path) -> None:
    edit(small, "studies/tiny", grid__nonzero=[1536], grid__replicates=[])
    (small / "specs" / "compute").mkdir(parents=True)
    (small / "specs" / "compute" / "pairs.yaml").write_text(
        "version: 1\nkind: compute\nengine: {kind: local, workers: 1}\ndevices: 2\n"
    )
    cli(small, "train", "tiny", "--compute", "pairs")
    records = Store(small / "runs" / "tiny").records()
    assert [record.machine.processes for record in records] == [2]
    assert "the same bits" in cli(small, "runs", "verify", "tiny", "--retrain", "1").stdout


def test_a_group_told_to_leave_goes_on_from_its_checkpoint_to_the_bits_of_one_process(
    tmp_path: Path, make_run: Callable[..., RunSpec], inputs_of: Callable[[str], Inputs]
) -> None:
    run, inputs, seen = make_run("t5", 0.5, batch=8), inputs_of("t5"), list[tuple[int, float]]()

    def train_some(leave: Callable[[], bool] | None) -> object:
        context = RunContext(tmp_path / "checkpoint.safetensors", tmp_path / "weights", 1e9, leave=leave)
        return train_together(2, run, inputs, context, None, lambda step, loss, _: seen.append((step, loss)))

    with pytest.raises(Left):
        train_some(lambda: True)
    assert (tmp_path / "checkpoint.safetensors").is_file()
    before = len(seen)
    made = train_some(None)
    assert isinstance(made, RunRecord)
    assert 1 <= seen[before][0] < run.steps, "it went on from its checkpoint"
    assert seen[before + 1 :] == [(point.step, point.loss) for point in made.curve if point.step > seen[before][0]]
    alone = train(run, inputs, RunContext(tmp_path / "alone", tmp_path / "alone-weights", 1e9, CPU, parts=8))
    assert made.losses() == alone.losses()
    assert (tmp_path / "weights").read_bytes() == (tmp_path / "alone-weights").read_bytes()
