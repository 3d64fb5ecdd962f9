"""Tables as pandas, spreadsheets, W&B and MLflow write them are the same runs."""

from __future__ import annotations

import json
import math
from csv import writer
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import feather

from sparsity_lab.errors import RecordError, SparsityLabError
from sparsity_lab.laws.rows.in_memory import table_of
from sparsity_lab.laws.rows.inputs import read_runs
from sparsity_lab.laws.rows.tables import Dialect, read_table, refuse_other_files

ROWS = [
    {"sparsity": S, "nonzero": N, "data": D, "loss": 2 + 30 * N**-0.3 + 0.1 * S}
    for S in (0.0, 0.5)
    for N in (1e6, 4e6)
    for D in (1e9, 4e9)
]
NAMES = list(ROWS[0])
LABELS = [str(i) for i in range(len(ROWS))]
FRAMES: dict[str, Any] = {
    "records": ROWS,
    "list": {name: [row[name] for row in ROWS] for name in NAMES},
    "columns": {name: {label: row[name] for label, row in zip(LABELS, ROWS, strict=True)} for name in NAMES},
    "index": dict(zip(LABELS, ROWS, strict=True)),
    "index by name": {f"run-{label}": row for label, row in zip(LABELS, ROWS, strict=True)},
    "split": {"columns": NAMES, "index": list(range(len(ROWS))), "data": [list(row.values()) for row in ROWS]},
    "tight": {
        "index": list(range(len(ROWS))),
        "columns": NAMES,
        "data": [list(row.values()) for row in ROWS],
        "index_names": [None],
        "column_names": [None],
    },
    "objects as texts": [{"config": json.dumps(row), "summary": "{}"} for row in ROWS],
    "table": {"schema": {"fields": [], "pandas_version": "1.4.0"}, "data": [{"index": 1, **row} for row in ROWS]},
    "wandb": [
        {
            "name": label,
            "config": {"sparsity": {"value": row["sparsity"], "desc": None}, "nonzero": {"value": row["nonzero"]}},
            "summary": {"data": row["data"], "loss": row["loss"], "_runtime": 3},
        }
        for label, row in zip(LABELS, ROWS, strict=True)
    ],
    "mlflow": {
        "runs": [
            {
                "info": {"run_id": label, "status": "FINISHED"},
                "data": {
                    "metrics": [{"key": "loss", "value": row["loss"], "timestamp": 1, "step": 0}],
                    "params": [{"key": name, "value": str(row[name])} for name in NAMES[:3]],
                },
            }
            for label, row in zip(LABELS, ROWS, strict=True)
        ]
    },
}


def same(path: Path, **options: Any) -> None:
    runs = read_runs(path, **options).runs
    for name in NAMES:
        np.testing.assert_allclose(runs.column(name), [row[name] for row in ROWS], rtol=1e-9)


@pytest.mark.parametrize("frame", FRAMES)
def test_json_in_every_layout(tmp_path: Path, frame: str) -> None:
    path = tmp_path / "runs.json"
    path.write_text(json.dumps(FRAMES[frame]))
    same(path)


def test_values_without_names_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    path.write_text(json.dumps([list(row.values()) for row in ROWS]))
    with pytest.raises(RecordError, match="names no columns"):
        read_runs(path)


@pytest.mark.parametrize("mark", [".", ","])
def test_objects_in_the_cells_of_a_csv_are_columns(tmp_path: Path, mark: str) -> None:
    """As W&B's documentation writes a project: what Python prints of a run's configuration and summary."""
    path, semicolon = tmp_path / "project.csv", mark == ","
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = writer(file, delimiter=";" if semicolon else ",")
        lines.writerow(("", "summary", "config", "data", "name"))
        for place, row in enumerate(ROWS):
            summary = {"loss": row["loss"], "worst": math.inf, "best": math.nan, "_wandb": {"runtime": 3}, "of": [None]}
            config = {name: row[name] for name in ("sparsity", "nonzero")} | {"note": "nan, {and} 'inf'"}
            lines.writerow((place, summary, config, str(row["data"]).replace(".", mark), f"{{run {place}"))
        lines.writerow((len(ROWS), "{}", "{}", "", "{crashed}"))
    same(path, dialect=Dialect(";", ",") if semicolon else Dialect())
    table = read_table(path, Dialect(";", ",") if semicolon else Dialect())
    assert table.columns["config.note"][0] == "nan, {and} 'inf'"
    assert table.columns["summary._wandb.runtime"][0] == 3
    assert table.places[0] == f"{path}:2"
    assert table.columns["name"][-1] == "{crashed}", "a text in braces is a text"


@pytest.mark.parametrize("ending", [".feather", ".arrow"])
@pytest.mark.parametrize("compression", ["lz4", "uncompressed"])
def test_feather(tmp_path: Path, ending: str, compression: str) -> None:
    path = tmp_path / f"runs{ending}"
    feather.write_feather(pa.Table.from_pylist(ROWS), str(path), compression=compression)
    same(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(RecordError, match="cannot be read as Feather"):
        read_runs(path)


def csv(delimiter: str, mark: str, *, thousands: bool = False) -> str:
    def cell(value: float) -> str:
        text = f"{value:,.6f}" if thousands else f"{value:.6f}"
        return text.translate(str.maketrans({",": ".", ".": mark} if mark == "," else {}))

    lines = (delimiter.join(cell(value) for value in row.values()) for row in ROWS)
    return "\n".join((delimiter.join(NAMES), *lines)) + "\n"


@pytest.mark.parametrize("thousands", [False, True])
def test_semicolons_and_decimal_commas_by_option(tmp_path: Path, thousands: bool) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(csv(";", ",", thousands=thousands))
    runs = read_runs(path, dialect=Dialect(";", ",")).runs
    np.testing.assert_allclose(runs.loss, [row["loss"] for row in ROWS], atol=1e-6)
    np.testing.assert_allclose(runs.nonzero, [row["nonzero"] for row in ROWS])
    with pytest.raises(RecordError):
        read_runs(path)


def test_excels_first_line_says_the_delimiter(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("sep=;\n" + csv(";", "."))
    table = read_table(path)
    assert list(table.columns) == NAMES
    assert table.places[0] == f"{path}:3"


def test_a_semicolon_file_names_its_option(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(csv(";", "."))
    with pytest.raises(RecordError, match="--delimiter ';'"):
        read_runs(path)


@given(value=st.floats(-1e9, 1e9, allow_nan=False), thousands=st.booleans(), digits=st.integers(0, 6))
def test_decimal_commas_never_become_another_number(
    tmp_path_factory: pytest.TempPathFactory, value: float, thousands: bool, digits: int
) -> None:
    path = tmp_path_factory.mktemp("comma") / "x.csv"
    text = f"{value:,.{digits}f}" if thousands else f"{value:.{digits}f}"
    path.write_text("x\n" + f'"{text.translate(str.maketrans({",": ".", ".": ","}))}"\n')
    assert read_table(path, Dialect(None, ",")).numbers("x")[0] == pytest.approx(round(value, digits), abs=1e-9)


@pytest.mark.parametrize("text", ["0.5", "1.25", "1.2345", "12.34.5", "1.5e3"])
def test_a_dot_that_is_no_thousands_mark_is_no_number(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"x\n{text}\n")
    with pytest.raises(RecordError, match="is not a number"):
        read_table(path, Dialect(";", ",")).numbers("x")


def test_two_columns_that_could_be_meant_are_not_guessed_between(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    path.write_text(json.dumps([{**row, "loss": {"train": {"loss": 1}, "eval": {"loss": 2}}} for row in ROWS]))
    with pytest.raises(RecordError, match="lacks the column loss"):
        read_runs(path)
    read = read_runs(path, columns={"loss": "`loss.eval.loss`"}).runs
    assert set(read.loss) == {2.0}


def test_a_law_without_sparsity_needs_no_column_of_it(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    path.write_text(json.dumps([{name: row[name] for name in NAMES[1:]} for row in ROWS]))
    assert set(read_runs(path, dialect=Dialect(all_dense=True)).runs.sparsity) == {0.0}
    with pytest.raises(RecordError, match="lacks the column sparsity"):
        read_runs(path)


@pytest.mark.parametrize(
    "name", ["missing.csv.bak", "dir/x", "./nope", "/nowhere/runs", "missing.xlsx", "x.feather.zip"]
)
def test_a_path_that_is_not_there_is_no_study(name: str) -> None:
    with pytest.raises(SparsityLabError, match="no such file"):
        refuse_other_files(name)


def test_a_bare_name_may_be_a_study() -> None:
    refuse_other_files("quickstart-text")


def test_a_decimal_comma_that_nobody_told_of_is_pointed_at(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("sep=;\nnonzero;sparsity;data;loss\n1000;0;1e6;7,15\n")
    with pytest.raises(RecordError, match=r"runs\.csv:3: loss: is not a number .*--decimal ,"):
        read_table(tmp_path / "runs.csv").numbers("loss")


@pytest.mark.parametrize("value", [timedelta(seconds=2), "2024_01"])
def test_what_python_alone_takes_for_a_number_is_none(value: object) -> None:
    found = table_of({"loss": [2.5, value]})
    with pytest.raises(RecordError, match="loss: is not a number"):
        found.numbers("loss")
