"""The border to files: one reader a format, and one error for whatever a library throws."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsity_lab.artifacts.reading import json_lines, parquet_rows, parse_json, read_bytes, read_text
from sparsity_lab.data.sources import documents
from sparsity_lab.errors import DataError, InputError, RecordError, refusing, shown
from sparsity_lab.laws.rows.tables import Cell, read_table
from sparsity_lab.specs.sources import JsonLines, ParquetText

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(lambda text: f"<{text}>")
"""among them every character that Unicode calls an end of line"""
NUMBERS = st.one_of(
    st.integers(), st.integers(min_value=10**309, max_value=10**400), st.floats(allow_nan=False), st.just(-(10**400))
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reading")


@given(texts=st.lists(TEXTS, min_size=1, max_size=5), mark=st.booleans(), end=st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_tables_and_data_read_the_same_json_lines(folder: Path, texts: list[str], mark: bool, end: str) -> None:
    body = "".join(json.dumps({"text": text}, ensure_ascii=False) + end for text in texts).encode()
    for path, content in ((folder / "x.jsonl", body), (folder / "x.jsonl.gz", gzip.compress(body, 1))):
        path.write_bytes(b"\xef\xbb\xbf" * (mark and path.suffix != ".gz") + content)
        source = JsonLines(kind="jsonl", path=str(path))
        assert [text.decode() for text in documents(source)] == texts
        assert read_table(path).columns["text"] == [text.strip() for text in texts]


def encoded(texts: list[str]) -> dict[str, pa.Array]:
    plain = pa.array(texts, pa.string())
    return {
        "string": plain,
        "large": plain.cast(pa.large_string()),
        "view": plain.cast(pa.string_view()),
        "dictionary": plain.dictionary_encode(),
        "large-dictionary": plain.cast(pa.large_string()).dictionary_encode(),
    }


@given(texts=st.lists(TEXTS, min_size=1, max_size=5))
def test_tables_and_data_read_every_kind_of_text_in_parquet(folder: Path, texts: list[str]) -> None:
    path = folder / "x.parquet"
    for column in encoded(texts).values():
        pq.write_table(pa.table({"text": column}), path)
        source = ParquetText(kind="parquet-text", path=str(path))
        assert [text.decode() for text in documents(source)] == texts
        assert read_table(path).columns["text"] == [text.strip() for text in texts]


def cells(path: Path) -> list[Cell]:
    return list(read_table(path).columns["x"])


@given(number=NUMBERS, mark=st.booleans())
def test_a_number_is_the_same_in_every_text_format(folder: Path, number: float, mark: bool) -> None:
    text = repr(number).replace("inf", "Infinity")
    found = []
    for name, body in {
        "n.csv": f"x\n{text}\n",
        "n.tsv": f"x\n{text}\n",
        "n.json": f'[{{"x": {text}}}]',
        "n.jsonl": f'{{"x": {text}}}\n',
    }.items():
        (folder / name).write_text("\ufeff" * mark + body, encoding="utf-8")
        found.append(cells(folder / name))
    assert all(one == found[0] for one in found)
    assert found[0] == [float(text)]


def test_true_is_no_number_but_may_be_asked_for(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [True, False], "y": [1.0, 2.0]}), tmp_path / "t.parquet")
    (tmp_path / "t.json").write_text('[{"x": true, "y": 1}, {"x": false, "y": 2}]')
    for name in ("t.parquet", "t.json"):
        table = read_table(tmp_path / name)
        assert table.columns["x"] == [True, False]
        with pytest.raises(RecordError, match=r"x: is not a number \(found True\)"):
            table.numbers("x")


def test_what_is_no_text_or_number_in_parquet_is_kept_as_text(tmp_path: Path) -> None:
    columns = {
        "when": pa.array([1, None], pa.timestamp("ns", "Europe/Berlin")),
        "list": pa.array([[1.0], None]),
        "bytes": pa.array([b"\xff", None]),
        "took": pa.array([5, None], pa.duration("ns")),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert [table.columns[name][1] for name in columns] == [None] * 4
    assert all(table.columns[name][0] for name in ("when", "list", "bytes"))


def test_text_that_is_no_utf8_is_refused_in_every_format(tmp_path: Path) -> None:
    offsets = pa.array([0, 1, 2], pa.int32()).buffers()[1]
    bad = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"a\xff")])
    pq.write_table(pa.table({"text": bad}), tmp_path / "t.parquet")
    with pytest.raises(RecordError, match=r"t\.parquet: rows 0 to 1: text: cannot be read as Parquet: Invalid UTF8"):
        read_table(tmp_path / "t.parquet")
    for name, body in {"t.csv": b"x\n\xff\n", "t.json": b'[\n"\xff"]', "t.jsonl": b'\n{"x": "\xff"}\n'}.items():
        (tmp_path / name).write_bytes(body)
        with pytest.raises(RecordError, match=rf"{name}:2: cannot be read"):
            read_table(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "recursion"),
        ("1" * 5000, "digits"),
        ('{"a": 1, "a": 2}', "an object names 'a' twice"),
        ("[1\n2]", r"x\.json:2: cannot be read as JSON: Expecting ',' delimiter, column 1"),
        ("", r"x\.json:1: .*column 1"),
    ],
)
def test_json_that_python_gives_up_on_is_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(RecordError, match=words) as raised:
        parse_json(text, Path("x.json"), RecordError)
    assert len(str(raised.value)) < 300


def folders(path: Path) -> None:
    path.mkdir()


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def nothing(_: Path) -> None:
    """There is no such file."""


def bomb(path: Path) -> None:
    path.write_bytes(b"\x1f\x8b damaged")


READERS: dict[str, Callable[[Path], object]] = {
    "bytes": lambda path: read_bytes(path, RecordError),
    "text": lambda path: read_text(path, RecordError),
    "lines": lambda path: list(json_lines(path, RecordError)),
    "parquet": lambda path: list(parquet_rows(path, RecordError)),
    "table": read_table,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("what", [folders, dangling, loop, pipe, nothing, bomb])
def test_what_is_no_file_is_refused_by_every_reader(tmp_path: Path, what: Callable[[Path], None], reader: str) -> None:
    path = tmp_path / "x.csv.gz"
    what(path)
    with pytest.raises(RecordError, match=r"x\.csv\.gz: "):
        READERS[reader](path)


def test_a_packed_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparsity_lab.artifacts.reading.LARGEST_UNPACKED", 1000)
    monkeypatch.setattr("sparsity_lab.artifacts.reading.LONGEST_LINE", 1000)
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(b" " * 1001))
    for read in (READERS["bytes"], READERS["lines"]):
        with pytest.raises(RecordError, match=r"x\.jsonl\.gz.*expected 1,000 bytes"):
            read(tmp_path / "x.jsonl.gz")


def test_what_zstandard_packed_is_unpacked_and_refused_where_it_is_cut(tmp_path: Path) -> None:
    text = "a,b\n1,2\n" * 5000
    packed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(packed, "zstd") as stream:
        stream.write(text.encode())
    content, path = packed.getvalue().to_pybytes(), tmp_path / "x.csv.zst"
    path.write_bytes(content * 2)
    assert read_text(path, RecordError) == text * 2
    assert read_table(path).columns == read_table(_written(tmp_path / "x.csv", text * 2)).columns
    for size in (1, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(RecordError, match=r"x\.csv\.zst: damaged Zstandard file"):
            read_text(path, RecordError)


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("columns", [1001, 1])
def test_a_table_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setattr("sparsity_lab.laws.rows.tables.MOST_CELLS", 1000)
    rows = 2002 // columns
    (tmp_path / "x.csv").write_text(",".join(f"c{i}" for i in range(columns)) + "\n1" * rows)
    pq.write_table(pa.table({f"c{i}": [1] * rows for i in range(columns)}), tmp_path / "x.parquet")
    for name in ("x.csv", "x.parquet"):
        with pytest.raises(
            RecordError, match=rf"{name}: is too large a table .found '{rows:,} rows of {columns:,} col"
        ):
            read_table(tmp_path / name)


class PanicException(BaseException):
    """As pyo3 raises it."""


@pytest.mark.parametrize(
    "thrown",
    [ValueError("a\nb"), MemoryError(), RecursionError("deep"), KeyError("k"), PanicException("oh"), OSError(5, "x")],
)
def test_whatever_a_library_throws_becomes_one_line_with_its_place(thrown: BaseException) -> None:
    with (
        pytest.raises(DataError, match=r"^file: field: fails: .+ \(found 3\)$") as raised,
        refusing("file", DataError, "fails", field="field", found=3),
    ):
        raise thrown
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("thrown", [KeyboardInterrupt, SystemExit, GeneratorExit, RecordError("ours")])
def test_interruptions_and_our_own_errors_pass_the_border(thrown: BaseException) -> None:
    with pytest.raises(thrown if isinstance(thrown, type) else RecordError), refusing("file", DataError):
        raise thrown


VALUES = st.recursive(
    st.one_of(
        st.integers(),
        st.text(),
        st.floats(),
        st.none(),
        st.booleans(),
        st.none().map(lambda _: 10**5000),
        st.none().map(lambda _: "x" * 10**6),
    ),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner), st.none().map(lambda _: [0] * 10**5)),
    max_leaves=20,
)


@given(found=VALUES, where=st.text(), field=st.text(), message=st.text())
def test_no_message_is_longer_than_its_bound_or_moves_the_cursor(
    found: object, where: str, field: str, message: str
) -> None:
    text = str(InputError(message, where=where * 1000, field=field * 1000, found=found, expected=message * 5000))
    assert len(shown(found)) <= 4 * 300
    assert len(text) < 50_000
    assert not set("\x1b\r\x00\x08\u2028\u202e") & set(text)
