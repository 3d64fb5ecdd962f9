"""Runs from anyone's files: what is read, what is refused, what is left out and counted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.fitting.fit import fit
from sparsity_lab.laws.rows.expressions import condition, numbers
from sparsity_lab.laws.rows.inputs import read_runs
from sparsity_lab.laws.rows.tables import InputTable, read_table

ROWS = [
    {"run": "a", "params_m": 1.5, "steps": 100, "val/loss": 3.2, "regime": "dense", "zeros": 0.0},
    {"run": "b", "params_m": 1.5, "steps": 100, "val/loss": 3.0, "regime": "gradual", "zeros": 50.0},
    {"run": "c", "params_m": 3.0, "steps": 200, "val/loss": 2.8, "regime": "gradual", "zeros": 75.0},
]
COLUMNS = {"sparsity": "zeros / 100", "nonzero": "params_m * 1e6", "data": "steps * 65536", "loss": "val/loss"}


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    """The rows in the format that the name's ending asks for."""
    match path.suffix:
        case ".json":
            path.write_text(json.dumps(rows))
        case ".jsonl":
            path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        case ".tsv" | ".csv":
            between = "\t" if path.suffix == ".tsv" else ","
            lines = [
                between.join(rows[0]),
                *(between.join("" if v is None else str(v) for v in row.values()) for row in rows),
            ]
            path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".json", ".jsonl", ".parquet"])
def test_every_format_says_the_same(tmp_path, ending):
    found = read_runs(write(tmp_path / f"runs{ending}", ROWS), columns=COLUMNS)
    np.testing.assert_allclose(found.runs.sparsity, [0, 0.5, 0.75])
    np.testing.assert_allclose(found.runs.nonzero, [1.5e6, 1.5e6, 3e6])
    np.testing.assert_allclose(found.runs.data, [6_553_600, 6_553_600, 13_107_200])
    np.testing.assert_allclose(found.runs.loss, [3.2, 3.0, 2.8])
    assert found.excluded == {}
    assert found.repeats == 0


def test_columns_of_lists_are_a_table_too(tmp_path):
    path = tmp_path / "runs.json"
    path.write_text(json.dumps({"sparsity": [0, 0.5], "nonzero": [1e6, 2e6], "data": [1e9, 2e9], "loss": [3, 2.5]}))
    assert read_runs(path).runs.loss.tolist() == [3, 2.5]


def test_a_mark_at_the_beginning_of_a_file_is_no_part_of_the_first_name(tmp_path):
    path = tmp_path / "excel.csv"
    path.write_bytes("\ufeffsparsity,nonzero,data,loss\n0,1,1,1\n".encode())
    assert len(read_runs(path).runs) == 1


def test_rows_are_chosen_by_any_column_and_by_the_four_quantities(tmp_path):
    path = write(tmp_path / "runs.csv", ROWS)
    for where in ("regime == 'gradual'", "sparsity > 0", "run in ('b', 'c')", "not run == 'a'", "`val/loss` < 3.1"):
        found = read_runs(path, columns=COLUMNS, where=where)
        assert found.runs.sparsity.tolist() == [0.5, 0.75], where
        assert found.excluded == {"filtered": 1}


def test_what_is_part_of_life_is_left_out_and_counted(tmp_path):
    unfinished = ROWS[1] | {"run": "d", "val/loss": None}
    diverged = ROWS[1] | {"run": "e", "val/loss": float("inf")}
    other_seed = ROWS[1] | {"run": "f", "val/loss": 3.01}
    path = write(tmp_path / "runs.csv", [*ROWS, unfinished, diverged, ROWS[2], other_seed])
    found = read_runs(path, columns=COLUMNS, where="run != 'a'")
    assert found.excluded == {"filtered": 1, "no-loss": 2, "given-twice": 1}
    assert found.runs.loss.tolist() == [3.0, 2.8, 3.01]
    assert found.repeats == 1
    assert found.runs.labels == (f"{path}:3", f"{path}:4", f"{path}:8")


def test_files_are_joined_and_a_run_in_both_counts_once(tmp_path):
    first, second = (
        write(tmp_path / "a.csv", ROWS[:2]),
        write(tmp_path / "b.jsonl", [row | {"who": "x"} for row in ROWS[1:]]),
    )
    found = read_runs([first, second], columns=COLUMNS)
    assert len(found.runs) == 3
    assert found.excluded == {"given-twice": 1}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"val/loss": 0.0}, r"runs.csv:3: loss: cannot be right \(found 0.0, expected loss > 0"),
        ({"val/loss": -3.0}, r"runs.csv:3: loss: cannot be right"),
        ({"val/loss": "broken"}, r"runs.csv:3: val/loss: is not a number \(found 'broken'\)"),
        ({"params_m": None}, r"runs.csv:3: nonzero: is missing"),
        ({"params_m": 0}, r"runs.csv:3: nonzero: cannot be right"),
        ({"steps": -1}, r"runs.csv:3: data: cannot be right"),
        ({"zeros": 100}, r"runs.csv:3: sparsity: cannot be right .*0 <= sparsity < 1"),
    ],
)
def test_mistakes_name_file_line_field_found_and_expected(tmp_path, changes, words):
    path = write(tmp_path / "runs.csv", [ROWS[0], ROWS[1] | changes])
    with pytest.raises(RecordError, match=words):
        read_runs(path, columns=COLUMNS)


def test_sparsity_in_percent_is_recognised(tmp_path):
    path = write(tmp_path / "runs.csv", ROWS)
    with pytest.raises(RecordError, match=r"in percent\? --columns sparsity=sparsity/100"):
        read_runs(path, columns=COLUMNS | {"sparsity": "zeros"})


def test_a_row_that_the_filter_leaves_out_may_be_wrong(tmp_path):
    path = write(tmp_path / "runs.csv", [*ROWS, ROWS[0] | {"val/loss": -1}])
    assert read_runs(path, columns=COLUMNS, where="loss > 0").excluded == {"filtered": 1}


@pytest.mark.parametrize("columns", [{}, {"loss": "2*loss"}])
def test_a_row_that_ends_before_a_quantity_is_refused_and_before_another_column_is_not(tmp_path, columns):
    path = tmp_path / "a.csv"
    head = "sparsity,nonzero,data,loss,note\n0,1000,1e6,3,dense\n.5,1000,1e6,2.9"
    path.write_text(f"{head}\n")
    assert len(read_runs([path], columns=columns).runs) == 2
    path.write_text(f"{head}\n.5,1000,1e6,\n  \n")
    assert read_runs([path], columns=columns).excluded == {"no-loss": 1}
    path.write_text(f"{head}\n.5,1000,1e6\n")
    with pytest.raises(RecordError, match=r"a\.csv:4: loss: holds too few cells .*a cell for loss"):
        read_runs([path], columns=columns)
    assert len(read_runs([path], columns=columns, where="note == 'dense'").runs) == 1


def test_columns_of_csv_without_a_name_are_passed_over(tmp_path):
    (tmp_path / "a.csv").write_text(",,sparsity,nonzero,data,loss,,\na,0,0,1000,1e6,3,,\na,1,.5,1000,1e6,2.9,,\n")
    assert set(read_table(tmp_path / "a.csv").columns) == {"sparsity", "nonzero", "data", "loss"}
    (tmp_path / "b.csv").write_text(""",loss,\n0,"{'a': 1}",\n""")
    assert set(read_table(tmp_path / "b.csv").columns) == {"loss.a"}
    (tmp_path / "c.csv").write_text(",,\n1,2,3\n")
    with pytest.raises(RecordError, match="is empty"):
        read_table(tmp_path / "c.csv")


def test_a_column_that_one_of_the_files_lacks_is_named_with_that_file(tmp_path):
    whole = write(tmp_path / "whole.csv", ROWS)
    part = write(tmp_path / "part.csv", [{"run": "x", "steps": 1}])
    with pytest.raises(RecordError, match=r"part.csv: columns.sparsity: no such column \(found 'zeros'"):
        read_runs([whole, part], columns=COLUMNS)
    with pytest.raises(RecordError, match=r"whole.csv: lacks the column sparsity"):
        read_runs([whole])


def test_nothing_left_says_what_became_of_the_rows(tmp_path):
    with pytest.raises(RecordError, match=r"holds no run .found '3 by the filter'"):
        read_runs(write(tmp_path / "runs.csv", ROWS), columns=COLUMNS, where="steps > 1e9")


def test_a_quantity_that_is_none(tmp_path):
    with pytest.raises(RecordError, match=r"columns: no such quantity .found 'size'"):
        read_runs(write(tmp_path / "runs.csv", ROWS), columns={"size": "params_m"})


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "x,x\n1,2\n", r"a.csv:1: x: names a column twice"),
        ("a.csv", "x,y\n1,2,3\n", r"a.csv:2: holds more cells"),
        ("a.csv", "x;y\n1,5;2,5\n", r"a.csv:2: holds more cells .*--delimiter ';', and --decimal ,"),
        ("a.csv", "", r"a.csv: is empty"),
        ("a.csv", "\n\n", r"a.csv: is empty"),
        ("a.csv", 'x,y\n1,"2\n', r"a.csv:\d: cannot be read as CSV"),
        ("a.json", "{", r"a.json:1: cannot be read as JSON"),
        ("a.json", "3", r"a.json: holds no table"),
        ("a.json", '{"a": [1], "b": [1, 2]}', r"a.json: columns differ in length"),
        ("a.json", "[1]", r"a.json: row 1: is no row"),
        ("a.jsonl", '{"a": 1}\n{\n', r"a.jsonl:2: cannot be read as JSON"),
        ("a.parquet", "no Parquet", r"a.parquet: cannot be read as Parquet"),
    ],
)
def test_damaged_files(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(RecordError, match=words):
        read_table(tmp_path / name)


TABLE = InputTable(
    Path("t.csv"), {"x": [1.0, 2.0, None], "y": [4.0, 5.0, 6.0], "name": ["a", "b", None]}, ("1", "2", "3")
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x + y * 2", [9, 12, np.nan]),
        ("-x ** 2", [-1, -4, np.nan]),
        ("(y - 1) / 3", [1, 4 / 3, 5 / 3]),
        ("sqrt(y - 4) + abs(0 - 1)", [1, 2, 1 + 2**0.5]),
        ("log(exp(y))", [4, 5, 6]),
        ("7", [7, 7, 7]),
    ],
)
def test_arithmetic(text, expected):
    np.testing.assert_allclose(numbers(text, TABLE, "test"), expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 < x <= 2", [False, True, False]),
        ("x == 1 or y == 6", [True, False, True]),
        ("x >= 1 and not y > 4", [True, False, False]),
        ("x in (1, 3)", [True, False, False]),
        ("name not in ['a']", [False, True, True]),
        ("name != 'b'", [True, False, True]),
        ("1 < 2", [True, True, True]),
    ],
)
def test_conditions(text, expected):
    assert condition(text, TABLE, "test").tolist() == expected


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "x.__class__",
        "open('f')",
        "[y for y in x]",
        "lambda: 1",
        "x[0]",
        "x if y else 1",
        "(x := 3)",
        "f'{x}'",
        "x @ y",
        "log(x, y)",
        "x is y",
        "unknown > 1",
        "name > 'a'",
        "name == 1",
        "name + 1 > 0",
        "x and y",
        "x",
        "x >",
        "",
        "(" * 300 + "x" + ")" * 300,
        "not " * 480 + "x > 1",
        "x > " + "9" * 3000,
    ],
)
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(RecordError):
        condition(text, TABLE, "where")


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    for read in (condition, numbers):
        try:
            assert len(read(text, TABLE, "where")) == 3
        except RecordError:
            continue


@given(st.lists(st.tuples(st.floats(0, 0.99), st.floats(1, 1e12), st.floats(1, 1e15), st.floats(0.01, 20)), min_size=1))
def test_numbers_survive_a_file(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("runs") / "runs.csv"
    names = ("sparsity", "nonzero", "data", "loss")
    write(path, [dict(zip(names, row, strict=True)) for row in rows])
    found = read_runs(path)
    assert len(found.runs) + found.excluded.get("given-twice", 0) == len(rows)
    assert set(zip(*(found.runs.column(name).tolist() for name in names), strict=True)) == set(rows)


def test_a_csv_needs_no_pyarrow(tmp_path):
    path = write(tmp_path / "runs.csv", ROWS)
    code = (
        "import sys; from sparsity_lab.laws.rows.inputs import read_runs\n"
        f"read_runs({str(path)!r}, columns={COLUMNS!r})\n"
        "print('pyarrow' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"


def test_a_model_pruned_at_once_and_trained_on_nothing_is_left_out_counted_or_taken(tmp_path):
    rows = [
        {"sparsity": 0.5, "nonzero": N, "data": D, "loss": 2 * before**0.9 * 1.5**0.4 * (1 + 3e6 / (D + 3e6)) ** 0.2}
        | {"loss_before": before}
        for N, before in ((1e6, 4.0), (2e6, 3.5), (4e6, 3.1))
        for D in (0, 2e6, 8e6)
    ]
    more = [row | {"sparsity": 0.75, "loss": row["loss"] * (1.75 / 1.5) ** 0.4} for row in rows]
    path = write(tmp_path / "pruned.csv", rows + more)
    found = read_runs(path)
    assert (len(found.runs), found.excluded) == (12, {"untrained": 6})
    taken = read_runs(path, untrained=True, further=["loss_before"])
    assert (len(taken.runs), taken.excluded) == (18, {})
    law = fit(taken.runs, "compressed", starts=8)
    assert law.params.unit == pytest.approx(3e6, rel=1e-3)
    assert law.params.gamma == pytest.approx(0.2, rel=1e-3)
    assert law.predicted == pytest.approx(taken.runs.loss, rel=1e-6)
    with pytest.raises(RecordError, match="data: is beyond what a law can be fitted to"):
        fit(taken.runs, "pruned_after", starts=2)
    plain = write(tmp_path / "plain.csv", [{name: row[name] for name in row if name != "loss_before"} for row in rows])
    with pytest.raises(RecordError, match="data: cannot be right"):
        read_runs(plain)


def test_a_further_column_without_a_number_is_none(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("sparsity,nonzero,data,loss,loss_before,bits\n0,1e6,1e9,3.0,,16\n0.5,1e6,1e9,2.9,,\n")
    assert set(read_runs([path], further=("loss_before", "bits")).runs.others) == {"bits"}
