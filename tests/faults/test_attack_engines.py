"""The campaign against engines, in short: one kill of each, and what it counts as a fault."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from attacks import engines
from attacks.engines import ENGINES, TRAINED, Engine, Round, kill_engine
from attacks.kills import Rounds
from projects import STUDY, dataset, new_project, space_of, write_documents, write_spec

from sparsity_lab.stages.prepare import prepare_study

pytestmark = pytest.mark.slow

GRID = {"nonzero": [1536, 6144], "sparsity": [0.5], "data": [8192], "data_unit": "tokens", "regimes": ["gradual"]}


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A prepared study of two runs whose weights are kept."""
    write_documents(tmp_path / "documents")
    root = new_project(tmp_path / "prepared", tmp_path / "documents")
    write_spec(root, "datasets/words", dataset(tmp_path / "documents"))
    study = {name: part for name, part in STUDY.items() if name != "search"}
    write_spec(root, f"studies/{TRAINED}", study | {"grid": GRID, "keep_weights": True})
    (root / "specs" / "compute").mkdir()
    prepare_study(space_of(root, TRAINED))
    return root


@pytest.mark.parametrize("name", ENGINES)
def test_a_kill_of_an_engine_costs_nothing_that_was_finished(
    name: str, prepared: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    toll = kill_engine(name, prepared, tmp_path_factory.mktemp("killed"), 1, Rounds(0))
    assert toll.kills == 1
    assert not any(toll.counts()), toll


@pytest.fixture
def one_round(prepared: Path, tmp_path: Path) -> Round:
    """A round of this machine's workers in which nothing is killed."""
    with engines.local(tmp_path) as engine:
        return Round(engine, prepared, tmp_path / "round")


def test_a_sound_round_counts_nothing_and_every_fault_is_found(one_round: Round) -> None:
    one_round.play()
    wanted = engines.made(one_round.root)
    assert len(wanted) == 2
    one_round.judge(wanted)
    assert not any(one_round.toll.counts())
    first, second = sorted((one_round.root / "runs" / TRAINED).iterdir())
    tree = json.loads((first / "record.json").read_bytes())
    (first / "record.json").write_text(json.dumps(tree | {"loss": tree["loss"] + 1e-12}))
    shutil.rmtree(second)
    one_round.judge(wanted)
    assert (one_round.toll.different, len(one_round.toll.failed)) == (1, 1)
    engines.compared(one_round.root, one_round.seen, one_round.toll, TRAINED)
    assert (one_round.toll.lost, one_round.toll.doubled) == (1, 1)


def test_what_outlives_a_driver_is_counted(
    one_round: Round, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "OUTLIVE", 0.0)
    local = one_round.engine
    outlived = Engine(local.compute, lambda _: [1], {"the driver": engines.kill_it})
    struck = Round(outlived, prepared, tmp_path / "struck", victim="the driver", after=0.0)
    struck.play()
    assert (struck.toll.kills, struck.toll.orphans) == (1, 1)
