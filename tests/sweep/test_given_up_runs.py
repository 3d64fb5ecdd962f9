"""Real workers that give runs up: nothing enters the store, and asked again the run is finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from projects import silent

from sparsity_lab.artifacts.paths import Layout
from sparsity_lab.artifacts.stopping import Recovery, StopRule
from sparsity_lab.artifacts.store import Store, clear_scratch
from sparsity_lab.data.manifest import read_manifest
from sparsity_lab.specs.compute import here
from sparsity_lab.specs.fingerprint import name_runs
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.sweep.jobs import Workplace
from sparsity_lab.sweep.study import complete

pytestmark = pytest.mark.slow

MakeRun = Callable[..., RunSpec]
HARSH = StopRule(
    best=0.0, margin=0.0, recoveries=(Recovery(settled=1.0, fractions=(0.0, 1.0), drops=(0.0, 0.0)),), least=1
)
"""gives up whatever has settled"""


def test_a_worker_answers_stopped_and_finishes_the_run_when_asked_without_a_rule(
    tmp_path: Path, text_data: Path, make_run: MakeRun
) -> None:
    place = Workplace(Layout(tmp_path), text_data, tmp_path / "search" / "study")
    runs = [_often(make_run("t5", sparsity, steps=8)) for sparsity in (0.5, 0.0)]
    named = name_runs(runs, read_manifest(text_data).content_hash)
    poor, good = named.runs
    first = complete(named, place, title="x", rules={poor: HARSH}, compute=here(1), console=silent())
    assert (list(first.stopped), list(first.records)) == ([poor], [good])
    stopped = first.stopped[poor]
    assert (stopped.fingerprint, stopped.step, stopped.steps) == (poor, 7, 8)
    assert [record.fingerprint for record in Store(place.home).records()] == [good]
    assert clear_scratch(place.layout, place.home, keep={poor}) == 0
    assert place.layout.checkpoint(poor).is_file()
    second = complete(named, place, title="x", compute=here(1), console=silent())
    assert second.records[poor].status == "finished"
    assert not place.layout.checkpoint(poor).exists()
    from_store = complete(named, place, title="x", rules={poor: HARSH}, compute=here(1), console=silent())
    assert from_store.records == second.records, "what a store has is not given up"
    assert from_store.records[good] == first.records[good]


def _often(run: RunSpec) -> RunSpec:
    """Evaluated at every step."""
    return run.model_copy(update={"evaluation": run.evaluation.model_copy(update={"every": 1})})
