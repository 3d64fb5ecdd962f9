from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparsity_lab.artifacts.records import CurvePoint, RunCost, RunRecord, read_record, write_record
from sparsity_lab.errors import RecordError
from sparsity_lab.messages import Message, message, words_in
from sparsity_lab.results.table import SCHEMA, write_table
from sparsity_lab.specs.runs import FileOrigin, RunOrigin, RunSpec

MakeRecord = Callable[..., RunRecord]
losses = st.floats(allow_nan=False)


def same(one: RunRecord, other: RunRecord) -> bool:
    """Equal, where no number equals no number."""
    return repr(one) == repr(other)


@given(losses, losses)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_record_is_read_as_it_was_written(
    tmp_path: Path, make_record: MakeRecord, loss: float, first_loss: float
) -> None:
    record = make_record(loss=loss, first_loss=first_loss)
    write_record(record, tmp_path / "record.json")
    assert read_record(tmp_path / "record.json") == record


@pytest.mark.parametrize(
    ("reason", "english", "japanese"),
    [
        (
            message("run-no-number", loss="nan", step=5),
            "held-out loss became nan at step 5",
            "ステップ 5 で評価損失が nan になりました",
        ),
        ("loss became nan", "loss became nan", "loss became nan"),
    ],
    ids=["of now", "of earlier versions, said as it stands"],
)
def test_the_reason_of_a_diverged_run_is_said_in_every_language(
    tmp_path: Path, make_record: MakeRecord, reason: Message | str, english: str, japanese: str
) -> None:
    write_record(make_record(status="diverged", reason=reason), tmp_path / "record.json")
    again = read_record(tmp_path / "record.json")
    assert again.reason == reason
    assert (words_in("en")(again.reason), words_in("ja")(again.reason)) == (english, japanese)


def test_a_diverged_run_keeps_its_broken_numbers(tmp_path: Path, make_record: MakeRecord) -> None:
    curve = (CurvePoint(step=5, loss=math.nan, train_loss=math.inf, sparsity=0.0),)
    reason = message("run-no-number", loss="nan", step=5)
    record = make_record(status="diverged", reason=reason, loss=math.nan, first_loss=-math.inf, curve=curve)
    write_record(record, tmp_path / "record.json")
    again = read_record(tmp_path / "record.json")
    assert same(again, record)
    assert not again.finished
    json.loads((tmp_path / "record.json").read_text(), parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON: other programs cannot read the record")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "is no run record: Invalid JSON: EOF"),
        (lambda _: "", "is no run record: Invalid JSON: EOF"),
        (lambda _: "[]", "is no run record: Input should be an object"),
        (lambda text: text.replace('"version": 1', '"version": 2', 1), "version: is a run record of another"),
        (lambda text: text.replace('"nonzero"', '"non_zero"'), "nonzero: is no run record: Field required"),
        (lambda text: text.replace('"batch": 4', '"batch": 0'), "spec.batch: is no run record"),
        (lambda text: text.replace('"finished"', '"done"'), "status: is no run record"),
    ],
)
def test_a_damaged_record_is_an_error_to_mend(
    tmp_path: Path, make_record: MakeRecord, damage: Callable[[str], str], message: str
) -> None:
    path = tmp_path / "record.json"
    write_record(make_record(), path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(RecordError) as caught:
        read_record(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def older(record: RunRecord, embeddings: str = "dense", **fields: Any) -> str:
    """A record as it was written before there was a total."""
    found = json.loads(record.model_dump_json())
    del found["nonzero_total"], found["other_zeros"]
    allocations = [found["spec"]["regime"]["allocation"]]
    if found["spec"]["origin"]:
        allocations.append(found["spec"]["origin"]["run"]["regime"]["allocation"])
    for allocation in allocations:
        del allocation["embeddings_and_head"]
        allocation["embeddings"] = embeddings
    return json.dumps(found | fields)


@pytest.mark.parametrize(("fields", "zeros"), [({}, 0), ({"embedding_zeros": 0}, 0), ({"embedding_zeros": 120}, 120)])
def test_an_older_record_is_read_and_its_total_derived(
    tmp_path: Path, make_record: MakeRecord, make_run: Callable[..., RunSpec], fields: dict[str, int], zeros: int
) -> None:
    blocks = {"kind": "uniform", "embeddings_and_head": "dense"}
    run = make_run("t5", 0.5, regime={"version": 1, "method": "masked", "allocation": blocks})
    for spec in (run, run.model_copy(update={"origin": RunOrigin(run=run)})):
        record = make_record(spec=spec, other_zeros=zeros)
        (tmp_path / "record.json").write_text(older(record, **fields))
        again = read_record(tmp_path / "record.json")
        assert again == record
        assert (again.other_zeros, again.nonzero_total) == (zeros, 500 + 300 - zeros)
        write_record(again, tmp_path / "record.json")
        assert read_record(tmp_path / "record.json") == record


def test_an_older_record_of_pruned_embeddings_under_a_dense_head_cannot_be_told_by_todays_specs(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    (tmp_path / "record.json").write_text(older(make_record(), "balanced", embedding_zeros=120))
    with pytest.raises(RecordError, match=r"allocation\..*embeddings: is no run record"):
        read_record(tmp_path / "record.json")


def test_a_record_that_is_not_there_is_an_error_to_mend(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"none\.json: no such file"):
        read_record(tmp_path / "none.json")


def test_the_table_has_a_row_a_run_in_order_of_fingerprint(tmp_path: Path, make_record: MakeRecord) -> None:
    reason = message("run-no-number", loss="nan", step=5)
    records = [
        make_record(fingerprint="b" * 64, status="diverged", reason=reason, loss=math.nan),
        make_record(fingerprint="a" * 64),
    ]
    write_table(records, tmp_path / "runs.parquet")
    table = pq.read_table(tmp_path / "runs.parquet")
    assert table.schema.equals(SCHEMA)
    first, second = table.to_pylist()
    assert first == {
        "fingerprint": "a" * 64,
        "status": "finished",
        "reason": "",
        "family": "t5",
        "method": "masked",
        "pattern": "unstructured",
        "score": "magnitude",
        "allocation": "uniform",
        "schedule": "cubic",
        "origin": None,
        "sparsity": 0.5,
        "nonzero": 500,
        "dense": 1000,
        "other_params": 300,
        "other_zeros": 0,
        "nonzero_total": 800,
        "paper_dense": 900,
        "data": records[1].spec.data,
        "data_unit": "tokens",
        "epochs": 0.5,
        "loss": 1.0 / 3,
        "seed": 0,
        "width": 16,
        "steps": 24,
        "peak_learning_rate": 0.01,
        "flops_dense": 3e9,
        "flops_sparse": 2e9,
        "flops_mask_updates": 1e3,
        "seconds": 0.25,
        "pretraining_flops_dense": None,
        "pretraining_seconds": None,
        "instruction_set": "AVX2",
        "threads": 1,
        "torch": "2",
        "data_hash": "0" * 64,
        "loss_before": None,
        "loss_pruned": None,
        "data_before": 0,
    }
    assert (second["fingerprint"], second["status"]) == ("b" * 64, "diverged")
    assert second["reason"] == "held-out loss became nan at step 5"
    assert math.isnan(second["loss"])


def test_the_table_tells_regimes_apart(
    tmp_path: Path, make_record: MakeRecord, make_run: Callable[..., RunSpec]
) -> None:
    runs = [make_run("t5"), make_run("t5", 0.5), make_run("t5", 0.5, pattern="2:4")]
    records = [make_record(fingerprint=str(number) * 64, spec=run) for number, run in enumerate(runs)]
    write_table(records, tmp_path / "runs.parquet")
    table = pq.read_table(tmp_path / "runs.parquet")
    assert table["pattern"].to_pylist() == ["", "unstructured", "2:4"]
    assert table["method"].to_pylist() == ["dense", "masked", "masked"]
    assert table["score"].to_pylist() == ["", "magnitude", "magnitude"]


def test_the_table_books_pretraining_apart(
    tmp_path: Path, make_record: MakeRecord, make_run: Callable[..., RunSpec]
) -> None:
    before = RunCost(flops_dense=7e9, flops_sparse=7e9, flops_mask_updates=0, seconds=3.5)
    from_run = make_run("t5", 0.5, origin=RunOrigin(run=make_run("t5")))
    from_file = make_run("t5", 0.5, origin=FileOrigin(format="safetensors", sha256="f" * 64))
    records = [
        make_record(fingerprint="1" * 64, spec=from_run, origin="d" * 64, pretraining=before),
        make_record(fingerprint="2" * 64, spec=from_file),
    ]
    write_table(records, tmp_path / "runs.parquet")
    first, second = pq.read_table(tmp_path / "runs.parquet").to_pylist()
    assert (first["origin"], first["pretraining_flops_dense"], first["pretraining_seconds"]) == ("d" * 64, 7e9, 3.5)
    assert (second["origin"], second["pretraining_flops_dense"]) == ("f" * 64, None)
    assert (first["flops_dense"], first["seconds"]) == (3e9, 0.25), "a run's own cost"


def test_a_table_of_no_runs_has_its_columns(tmp_path: Path) -> None:
    write_table([], tmp_path / "runs.parquet")
    table = pq.read_table(tmp_path / "runs.parquet")
    assert (table.num_rows, table.schema.equals(SCHEMA)) == (0, True)
