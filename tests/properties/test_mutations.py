"""Whatever a user's file says, it is read or refused in one bounded message that names the file: never a traceback."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import at, changed, damaged, json_of, places
from projects import space_of
from ruamel.yaml import YAML
from simulated import ONE, Runs, run, spec
from typer.testing import CliRunner

from sparsity_lab.artifacts.atomic import explained
from sparsity_lab.artifacts.records import read_record
from sparsity_lab.artifacts.searches import read_search, write_search
from sparsity_lab.cli.main import app
from sparsity_lab.console.law import answer_table, law_json, law_text
from sparsity_lab.console.runs import runs_text
from sparsity_lab.data.manifest import read_manifest
from sparsity_lab.errors import InputError, SparsityLabError
from sparsity_lab.laws.documents.comparison import comparison_document, read_comparison
from sparsity_lab.laws.documents.diagnostics import Diagnostics, read_diagnostics
from sparsity_lab.laws.questions import queries
from sparsity_lab.laws.questions.answers import warned
from sparsity_lab.laws.rows.expressions import condition, numbers
from sparsity_lab.laws.rows.inputs import read_runs
from sparsity_lab.laws.rows.tables import InputTable
from sparsity_lab.results.table import read_records, write_table
from sparsity_lab.specs.loading import load_spec
from sparsity_lab.stages.fit_runs import SINGLE, fit_runs
from sparsity_lab.stages.fit_runs import settings as law_settings
from sparsity_lab.stages.law import open_law
from sparsity_lab.stages.runs import pack_runs

pytestmark = pytest.mark.slow

SPECS = sorted((Path(__file__).parents[2] / "specs").glob("*/*.yaml"))
LONGEST = 9000
ROWS = [
    {
        "sparsity": S,
        "nonzero": N,
        "data": D,
        "loss": 2 + (N / 1e6) ** -0.3 * (2 - S) + (D / 1e8) ** -0.3,
        "name": "r\u2028é",
    }
    for S in (0.0, 0.5, 0.75)
    for N in (1e6, 4e6, 16e6)
    for D in (1e8, 4e8)
]
RNG = st.randoms(use_true_random=False)


def refusal(use: Callable[[], object]) -> str | None:
    """What is said where it is refused; None where it is used."""
    try:
        use()
    except InputError as error:
        return str(error)
    return None


def holds(path: Path, use: Callable[[], object]) -> None:
    """It is used, or refused in one bounded message that names the file."""
    said = refusal(use)
    assert said is None or (str(path) in said and len(said) < LONGEST), said


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutations")


def table_of(rows: list[dict[str, Any]], ending: str) -> bytes:
    """Rows in a format."""
    match ending:
        case ".json":
            return json_of(rows)
        case ".jsonl":
            return b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        case ".parquet":
            buffer = io.BytesIO()
            pq.write_table(pa.Table.from_pylist(rows), buffer)
            return buffer.getvalue()
        case _:
            text = io.StringIO()
            writer = csv.DictWriter(text, list(rows[0]), delimiter="\t" if ending == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
            return text.getvalue().encode()


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".json", ".jsonl", ".parquet"])
@given(rng=RNG)
@settings(max_examples=60, deadline=None)
def test_damaged_tables(folder: Path, ending: str, rng: random.Random) -> None:
    path = folder / f"runs{ending}"
    path.write_bytes(damaged(table_of(ROWS, ending), rng))
    holds(path, lambda: read_runs(path).runs.repeats)


@pytest.mark.parametrize("ending", [".json", ".jsonl"])
@given(rng=RNG)
@settings(max_examples=80, deadline=None)
def test_tables_with_strange_values(folder: Path, ending: str, rng: random.Random) -> None:
    path, tree = folder / f"runs{ending}", changed(ROWS, rng)
    path.write_bytes(table_of(tree, ending) if isinstance(tree, list) else json_of(tree))
    holds(path, lambda: read_runs(path, where="not (name == 'x') and nonzero * 2 > 1"))


TABLE = InputTable(
    Path("t.csv"), {"x": [1.0, None, 3.0], "text": ["a", None, "b"], "flag": [True, False, None]}, ("1", "2", "3")
)
WORDS = st.sampled_from(
    [
        *(
            "x",
            "text",
            "flag",
            "nothing",
            "`x`",
            "`",
            "1",
            "9" * 400,
            "9" * 4400,
            "1e999",
            "'a'",
            "True",
            "None",
            "()",
            "[]",
        ),
        *(
            "+",
            "-",
            "*",
            "/",
            "**",
            "<",
            "<=",
            "==",
            "!=",
            "in",
            "not in",
            "is",
            "and",
            "or",
            "not",
            "(",
            ")",
            "[",
            ",",
            ":=",
        ),
        *(
            "log",
            "exp",
            "abs",
            "lambda",
            "if",
            "else",
            "x.__class__",
            "__import__('os')",
            "f'{x}'",
            "\x00",
            "é",
            "\u202e",
        ),
    ]
)


@given(parts=st.lists(WORDS, max_size=8), joint=st.sampled_from([" ", ""]))
@settings(max_examples=200, deadline=None)
def test_expressions_of_any_words(parts: list[str], joint: str) -> None:
    for ask in (condition, numbers):
        said = refusal(partial(ask, joint.join(parts), TABLE, "where"))
        assert said is None or (len(said) < LONGEST and ("where" in said or "is not a number" in said)), said


@given(depth=st.integers(1, 1900), one=st.sampled_from(["-", "not ", "(", "abs(", "x+", "x**", "1 in ["]))
@settings(max_examples=60, deadline=None)
def test_deep_expressions(depth: int, one: str) -> None:
    said = refusal(lambda: condition((one * depth)[:1900] + "x", TABLE, "where"))
    assert said is None or len(said) < LONGEST


@given(rng=RNG, path=st.sampled_from(SPECS), structured=st.booleans())
@settings(max_examples=60, deadline=None)
def test_specs(folder: Path, rng: random.Random, path: Path, structured: bool) -> None:
    content, here = path.read_bytes(), folder / "spec.yaml"
    tree = YAML(typ="safe", pure=True).load(content)
    here.write_bytes(json_of(changed(tree, rng)) if structured else damaged(content, rng))
    holds(here, lambda: load_spec(here))


@pytest.mark.parametrize("end", ["", ", true", ", 1.5", ", '7'"])
def test_a_spec_of_a_hundred_thousand_items_says_little(tmp_path: Path, end: str) -> None:
    text = next(path for path in SPECS if path.stem == "smoke").read_text()
    path = tmp_path / "smoke.yaml"
    for count in (300, 100_000):
        path.write_text(text.replace("nonzero: [", f"nonzero: [{', '.join(['7'] * count)}{end}, ", 1))
        with pytest.raises(InputError) as raised:
            load_spec(path)
        assert len(str(raised.value)) < LONGEST


@pytest.fixture(scope="module")
def written(folder: Path) -> dict[str, tuple[bytes, Callable[[Path], object]]]:
    """Documents that steps write, and what reads and uses them."""
    path = folder / "rows.csv"
    path.write_bytes(table_of(ROWS, ".csv"))
    asked = law_settings(SINGLE, {"forms": ("chinchilla",), "starts": 4, "bootstrap": 3})
    fitted = fit_runs(read_runs(path), asked, "rows")
    one = fitted.forms["chinchilla"]
    result = run(folder / "search.db", Runs(0.003), spec(budgets=ONE, trials=2))
    write_search(result, folder / "search.json")
    diagnosed = Diagnostics(forms={"chinchilla": one.diagnostics})
    return {
        "law": (one.document.model_dump_json().encode(), use_law),
        "comparison": (comparison_document(fitted.comparison, "rows").model_dump_json().encode(), read_comparison),
        "diagnostics": (diagnosed.model_dump_json().encode(), read_diagnostics),
        "search": ((folder / "search.json").read_bytes(), read_search),
    }


def use_law(path: Path) -> None:
    """Everything that a law is asked on the command line."""
    opened = open_law(str(path))
    law_text(opened)
    json.dumps(law_json(opened))
    law = opened.law
    for answer in (
        queries.predict(law, [0, 0.5], [1e6], [1e8]),
        queries.needed_data(law, [3.0], [0], [1e6]),
        queries.optimum(law, [1e6], ratio=[1.0]),
    ):
        said = warned(answer, [opened.document] if opened.document else [])
        answer_table(said)
        json.dumps(said.as_json())


@pytest.mark.parametrize("name", ["law", "comparison", "diagnostics", "search"])
@given(rng=RNG, structured=st.booleans())
@settings(max_examples=60, deadline=None)
def test_documents(
    folder: Path,
    written: dict[str, tuple[bytes, Callable[[Path], object]]],
    name: str,
    rng: random.Random,
    structured: bool,
) -> None:
    content, use = written[name]
    path = folder / f"{name}-changed.json"
    path.write_bytes(json_of(changed(json.loads(content), rng)) if structured else damaged(content, rng))
    holds(path, lambda: use(path))


@pytest.fixture(scope="module")
def study(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study, with a file of all its runs."""
    root = shutil.copytree(finished, tmp_path_factory.mktemp("finished") / "project")
    pack_runs(space_of(root), root / "packed.parquet")
    return root


def use_record(path: Path) -> None:
    """A record is read, listed and written into a table."""
    record = read_record(path)
    runs_text([record])
    write_table([record], path.with_suffix(".parquet"))


@pytest.mark.parametrize(
    ("found", "use"),
    [
        ("runs/tiny/*/record.json", use_record),
        ("data/tiny/manifest.json", lambda path: read_manifest(path.parent)),
        ("search/tiny.json", read_search),
    ],
)
@given(rng=RNG, structured=st.booleans())
@settings(max_examples=80, deadline=None)
def test_documents_of_a_study(
    study: Path, found: str, use: Callable[[Path], object], rng: random.Random, structured: bool
) -> None:
    path = next(study.glob(found))
    content = path.read_bytes()
    path.write_bytes(json_of(changed(json.loads(content), rng)) if structured else damaged(content, rng))
    try:
        holds(path, lambda: use(path))
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("text", [None, "", "{", "[" * 10**5, "9" * 5000, '{"version": 1}', 5, 1.5, b"\xff"])
def test_a_packed_file_whose_records_are_none(tmp_path: Path, text: object) -> None:
    path = tmp_path / "packed.parquet"
    pq.write_table(pa.table({"record": [text]}), path)
    with pytest.raises(InputError, match=r"packed\.parquet: rows? 0"):
        read_records(path)


@given(rng=RNG)
@settings(max_examples=40, deadline=None)
def test_packed_runs(study: Path, rng: random.Random) -> None:
    path = study / "damaged.parquet"
    path.write_bytes(damaged((study / "packed.parquet").read_bytes(), rng))
    holds(path, lambda: read_records(path))


@pytest.mark.parametrize(
    "make", [Path.mkdir, Path.touch, lambda path: path.symlink_to("gone"), lambda path: path.symlink_to(path)]
)
@pytest.mark.parametrize(
    ("name", "commands"),
    [
        ("data/tiny/manifest.json", ["plan tiny", "runs list tiny", "prepare tiny"]),
        ("search/tiny.json", ["search best tiny", "fit tiny"]),
        ("hardware/tiny.json", ["compare tiny", "measure tiny --formats csr --seconds 1"]),
        ("runs/tiny/*/record.json", ["runs list tiny", "fit tiny", "runs unpack tiny packed.parquet"]),
        ("packed.parquet", ["runs unpack tiny packed.parquet", "runs pack tiny packed.parquet"]),
        ("runs/tiny", ["runs list tiny", "fit tiny", "runs unpack tiny packed.parquet"]),
        ("runs", ["runs list tiny", "fit tiny"]),
        (".sparsity-lab", ["prepare tiny", "train tiny"]),
        ("metrics", ["search tiny"]),
        ("laws/tiny", ["compare tiny", "law show tiny"]),
        ("specs/studies/tiny.yaml", ["plan tiny"]),
    ],
)
def test_what_is_no_file_where_a_document_is_looked_for(  # noqa: PLR0917
    study: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], None],
    name: str,
    commands: list[str],
) -> None:
    root = shutil.copytree(study, tmp_path / "project")
    path = next(iter(root.glob(name)), root / name)
    path.parent.mkdir(exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    make(path)
    monkeypatch.chdir(root)
    for asked in commands:
        done = CliRunner().invoke(app, asked.split())
        said = done.exception
        told = explained(said, said.filename) if isinstance(said, OSError) else said  # as `cli.main` does
        assert done.exit_code == 0 or isinstance(told, SparsityLabError), (asked, said)


@pytest.mark.parametrize(
    "make", [Path.mkdir, lambda path: path.symlink_to("gone"), lambda path: path.symlink_to(path.name)]
)
@pytest.mark.parametrize("name", ["x.json", "x.yaml"])
def test_what_is_no_file_where_a_law_is_looked_for(tmp_path: Path, make: Callable[[Path], None], name: str) -> None:
    make(tmp_path / name)
    with pytest.raises(InputError, match=name):
        open_law(str(tmp_path / name))
    (tmp_path / "laws/study").mkdir(parents=True)
    make(tmp_path / "laws/study" / name)
    with pytest.raises(InputError, match="study"):
        open_law("study", tmp_path)


ABSURD = (2**31, 2**63 - 1, 10**12, 10**30, 10**400, 1e300, 1e-300)
NUMBERS = [
    (path, place)
    for path in SPECS
    if (path.parent.name, path.stem) in {("studies", "smoke"), ("scenarios", "vit-a100")}
    or path.parent.name == "models"
    for tree in [YAML(typ="safe", pure=True).load(path.read_text())]
    for place in places(tree)
    if isinstance(at(tree, place), int | float)
]


@given(number=st.sampled_from(NUMBERS), absurd=st.sampled_from(ABSURD))
@settings(max_examples=25, deadline=None)
def test_absurd_numbers_end_at_once(project: Path, number: tuple[Path, tuple[str | int, ...]], absurd: float) -> None:
    path, place = number
    tree = YAML(typ="safe", pure=True).load(path.read_text())
    at(tree, place[:-1])[place[-1]] = absurd
    here = project / "specs" / path.parent.name / path.name
    here.write_bytes(json_of(tree))
    try:
        asked = ["advise", path.stem] if path.parent.name == "scenarios" else ["plan", "smoke"]
        done = CliRunner().invoke(app, [*asked, "--root", str(project)])
        assert done.exit_code == 0 or isinstance(done.exception, SparsityLabError), done.exception
        assert len(str(done.exception)) < LONGEST
    finally:
        here.write_bytes(path.read_bytes())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with the specs that ship."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(SPECS[0].parents[1], root / "specs")
    return root
