"""Looking at records and specs: list, show, verify, check."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from projects import GRID_RUNS, edit, records, silent, space_of, write_spec

from sparsity_lab.artifacts.records import Machine
from sparsity_lab.console.runs import runs_text, verified_text
from sparsity_lab.errors import RecordError, SpecError
from sparsity_lab.specs.bundle import check_specs
from sparsity_lab.stages.prepare import prepare_study
from sparsity_lab.stages.runs import find_run, list_runs, same_bits_expected, verify_study


def tamper(root: Path, name: str, **changes: Any) -> None:
    """Change a record wherever it lies."""
    for path in root.glob(f"*/tiny/{name}/record.json"):
        path.write_text(json.dumps(json.loads(path.read_bytes()) | changes), encoding="utf-8")


def cheapest(root: Path) -> str:
    every = records(root) | records(root, "search/tiny")
    return min(every, key=lambda name: (every[name]["cost"]["flops_dense"], every[name]["spec"]["seed"]))


def test_the_list_holds_grid_and_search_once_each_in_order(finished: Path) -> None:
    listed = list_runs(space_of(finished))
    assert {record.fingerprint for record in listed} == {*records(finished), *records(finished, "search/tiny")}
    assert len(listed) == len({record.fingerprint for record in listed}) > GRID_RUNS
    keys = [(record.nonzero, record.data, record.sparsity) for record in listed]
    assert keys == sorted(keys)
    lines = runs_text(listed).splitlines()
    assert len(lines) == len(listed) + 2
    assert lines[2].split()[0] == listed[0].fingerprint[:12]
    assert lines[2].split()[-1] == "finished"


def test_a_study_without_runs_says_so(bare: Path) -> None:
    assert runs_text(list_runs(space_of(bare))) == "no runs yet"


def test_a_run_is_found_by_the_beginning_of_its_name(trained: Path) -> None:
    name = min(records(trained))
    shutil.copytree(trained / "runs/tiny", trained / "runs/twin")
    assert find_run(name[:10], trained).fingerprint == name
    assert find_run(name, trained).fingerprint == name


def test_a_run_that_lacks_its_record_in_one_place_is_found_in_another(trained: Path) -> None:
    name = min(records(trained))
    (trained / ".sparsity-lab/store" / name).mkdir(parents=True)
    assert find_run(name, trained).fingerprint == name


@pytest.mark.parametrize("prefix", ["", "zzz", "/bin", "*", "../runs", "[", "\0"])
def test_a_name_that_is_no_name_is_refused(finished: Path, prefix: str) -> None:
    with pytest.raises(RecordError, match="fingerprint names not one run"):
        find_run(prefix, finished)


def test_a_sound_study_is_verified_and_its_cheapest_run_repeats_bit_for_bit(finished: Path) -> None:
    said = verified_text(verify_study(space_of(finished), retrain=1))
    count = len({*records(finished), *records(finished, "search/tiny")})
    assert said.startswith(f"tiny: {count} records, every fingerprint is that of its spec and data\n")
    assert f"\n  {count} made with torch " in said
    assert f"{cheapest(finished)[:12]} trained again: the same bits" in said


@pytest.mark.parametrize("field", ["seed", "steps", "sparsity"])
def test_a_record_whose_spec_was_tampered_with_is_found(trained: Path, field: str) -> None:
    name = sorted(records(trained))[5]
    spec = records(trained)[name]["spec"]
    tamper(trained, name, spec=spec | {field: 0.25 if field == "sparsity" else spec[field] + 1})
    with pytest.raises(RecordError, match=f"spec and data do not have this fingerprint.*{name}"):
        verify_study(space_of(trained))


def test_a_loss_that_was_tampered_with_is_found_by_training_again(trained: Path) -> None:
    name = cheapest(trained)
    tamper(trained, name, loss=1.25)
    with pytest.raises(RecordError, match=rf"run {name[:12]} trained again .* differs: loss .*recorded 1\.25"):
        verify_study(space_of(trained), retrain=1)


def test_a_diverged_run_whose_loss_is_no_number_repeats_too(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = cheapest(trained)
    tamper(trained, name, loss="NaN", status="diverged")
    record = find_run(name, trained)
    monkeypatch.setattr("sparsity_lab.training.run.train", lambda *_: record)
    assert "the same bits" in verified_text(verify_study(space_of(trained), retrain=1))


def test_a_run_made_from_other_data_is_not_compared(trained: Path) -> None:
    edit(trained, "datasets/words", tokenizer={"kind": "bpe", "vocabulary": 270})
    prepare_study(space_of(trained), silent())
    assert "not trained again: it was made from other data" in verified_text(verify_study(space_of(trained), retrain=1))


def test_a_record_under_another_name_and_a_damaged_one_are_found(trained: Path) -> None:
    first, second = sorted(records(trained))[:2]
    path = trained / "runs/tiny" / first / "record.json"
    whole = path.read_bytes()
    path.write_bytes((trained / "runs/tiny" / second / "record.json").read_bytes())
    with pytest.raises(RecordError, match="lies under another run's name"):
        verify_study(space_of(trained))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecordError, match="is no run record") as caught:
        verify_study(space_of(trained))
    assert str(path) in str(caught.value)


def test_bits_are_expected_to_repeat_only_on_a_machine_that_computes_alike() -> None:
    one = Machine(torch="2", device="cpu", processor="x", instruction_set="AVX2", threads=1, platform="Linux")
    assert same_bits_expected(one, one.model_copy(update={"processor": "y", "platform": "z"}))
    for field, value in {"torch": "3", "device": "cuda", "instruction_set": "AVX512", "threads": 2}.items():
        assert not same_bits_expected(one, one.model_copy(update={field: value}))
    older, newer = (one.model_copy(update={"transformers": version}) for version in ("5.1", "5.2"))
    assert same_bits_expected(one, newer), "older records do not tell it"
    assert not same_bits_expected(older, newer)


def test_every_spec_is_checked_and_every_problem_is_told(bare: Path) -> None:
    checked = dict(check_specs(None, bare))
    assert set(checked) == set((bare / "specs").glob("*/*.yaml"))
    assert checked[bare / "specs/studies/tiny.yaml"] == "study: t5 on words"
    edit(bare, "regimes/gradual", schedule__start=2)
    write_spec(bare, "models/tiny", {"version": 1, "kind": "model", "family": "resnet"})
    told = []
    with pytest.raises(SpecError) as caught:
        told.extend(check_specs(None, bare))
    for part in ("regimes/gradual.yaml", "schedule.start", "models/tiny.yaml", "resnet"):
        assert part in str(caught.value)


def test_named_files_alone_are_checked(bare: Path) -> None:
    edit(bare, "regimes/gradual", nonsense=1)
    tiny = bare / "specs/models/tiny.yaml"
    assert list(check_specs([tiny], bare)) == [(tiny, "model")]
    with pytest.raises(SpecError, match="nonsense"):
        list(check_specs([bare / "specs/regimes/gradual.yaml"], bare))


def test_a_folder_without_specs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no spec files"):
        list(check_specs(None, tmp_path))
