import numpy as np
import pytest

from sparsity_lab.errors import RecordError
from sparsity_lab.laws import Runs

GOOD = {"sparsity": [0.0, 0.5], "nonzero": [1e6, 2e6], "data": [1e9, 2e9], "loss": [3.0, 2.5]}


def test_columns_are_read_only_float64():
    runs = Runs(**GOOD)
    assert runs.nonzero.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        runs.loss[0] = 1.0


def test_what_is_passed_in_stays_writable():
    loss = np.array([3.0, 2.5])
    Runs(**{**GOOD, "loss": loss})
    loss[0] = 1.0


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("sparsity", [0.0, 1.0], "sparsity.*row 1.*found 1.0"),
        ("sparsity", [-0.1, 0.5], "sparsity.*row 0"),
        ("loss", [0.0, 2.0], "loss.*row 0.*loss > 0"),
        ("loss", [-1.0, -2.0], "2 rows in all"),
        ("loss", [np.nan, 2.0], "loss.*finite"),
        ("data", [1e9, np.inf], "data.*row 1.*finite"),
        ("nonzero", [1e6, 0.0], "nonzero.*nonzero > 0"),
        ("nonzero", [1e6], "nonzero.*differ in length"),
        ("nonzero", ["a", "b"], "nonzero.*not a number"),
        ("loss", [[3.0, 2.0]], "loss.*one value a row"),
    ],
)
def test_bad_columns_are_named(column, values, words):
    with pytest.raises(RecordError, match=words):
        Runs(**{**GOOD, column: values})


def test_no_rows():
    with pytest.raises(RecordError, match="holds no run"):
        Runs([], [], [], [])


def test_labels_follow_their_rows():
    runs = Runs(**GOOD, labels=("a", "b"))
    assert runs.select(runs.loss < 2.9).labels == ("b",)
    with pytest.raises(RecordError, match="labels"):
        Runs(**GOOD, labels=("a",))


def test_selecting_nothing_is_an_error():
    with pytest.raises(RecordError, match="holds no run"):
        Runs(**GOOD).select([False, False])


def test_hash_ignores_order_but_not_values():
    runs = Runs(**GOOD)
    reversed_runs = Runs(*(np.array(column)[::-1] for column in GOOD.values()))
    assert runs.sha256 == reversed_runs.sha256
    assert runs.sha256 != Runs(**{**GOOD, "loss": [3.0, 2.5000001]}).sha256
    assert runs.sha256 != Runs(**GOOD, data_unit="images").sha256


def test_csv_round_trip_with_further_columns(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("name,loss,sparsity,nonzero,data\nx,3.0,0,1e6,1e9\ny,2.5,.5,2000000,2e9\n")
    runs = Runs.from_csv(path, "images")
    assert runs.sha256 == Runs(**GOOD, data_unit="images").sha256


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sparsity,nonzero,data\n0,1,1\n", "lacks the column loss"),
        ("sparsity,nonzero,data,loss\n0,1,1,three\n", r"runs.csv:2: loss: is not a number .*'three'"),
        ("sparsity,nonzero,data,loss\n0,1,1,3\n0,1,1\n", r"runs.csv:3: loss: is missing"),
        ("sparsity,nonzero,data,loss\n0,1,1,nan\n", r"runs.csv:2: loss: is missing"),
        ("sparsity,nonzero,data,loss\n1.5,1,1,3\n", r"runs.csv: sparsity: row 0"),
        ("sparsity,nonzero,data,loss\n", "holds no run"),
        ("", "is empty"),
    ],
)
def test_bad_csv(tmp_path, text, words):
    path = tmp_path / "runs.csv"
    path.write_text(text)
    with pytest.raises(RecordError, match=words):
        Runs.from_csv(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(RecordError, match="no such file"):
        Runs.from_csv(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordError, match="cannot be read"):
        Runs.from_csv(tmp_path / "binary.csv")
