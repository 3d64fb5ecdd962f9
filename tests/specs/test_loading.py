from __future__ import annotations

from pathlib import Path

import pytest
from projects import cli, edit, one_error

from sparsity_lab.errors import SpecError
from sparsity_lab.specs.loading import load_spec
from sparsity_lab.specs.regimes.regime import Masked
from sparsity_lab.specs.regimes.schedules import Cubic
from sparsity_lab.specs.studies import StudySpec

REGIME = "version: 1\nkind: regime\nmethod: masked\n"
STUDY = """\
version: 1
kind: study
model: m
dataset: d
objective: {kind: span-corruption, input_length: 16}
training:
  batch: 4
  optimizer: {kind: adamw}
  learning_rate: {base: 1e-3}
  schedule: {kind: cosine}
grid:
  data_unit: tokens
  nonzero: [1000]
  sparsity: [0, 0.5]
  data: [1e6]
  regimes: [gradual]
"""


def problem(tmp_path: Path, text: str, kind: str | None = None) -> str:
    """What is said of a file, with its folder left out."""
    path = tmp_path / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load_spec(path, kind)
    message = str(caught.value)
    assert "\n" not in message, "one mistake, one line"
    return message.replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "foo: 3\n",
            "spec.yaml:4: foo: unknown field (found 3, expected one of version, kind, pattern, score, allocation, ",
        ),
        ("3: foo\n", "spec.yaml:4: the name of a field must be text (found 3)"),
        (
            "schedule:\n  kind: cubic\n  strat: 0.2\n",
            "spec.yaml:6: schedule.strat: unknown field (found 0.2, expected one of start, end, every, ",
        ),
        (
            "schedule:\n  kind: cubic\n  start: 1.5\n",
            "spec.yaml:6: schedule.start: wrong value (found 1.5, expected less than or equal to 1)",
        ),
        (
            "schedule:\n  kind: cubic\n  start: .nan\n",
            "spec.yaml:6: schedule.start: wrong value (found nan, expected a finite number)",
        ),
        (
            "schedule:\n  kind: cubic\n  power: .inf\n",
            "spec.yaml:6: schedule.power: wrong value (found inf, expected a finite number)",
        ),
        (
            "schedule:\n  kind: cubic\n  every: 2.5\n",
            "spec.yaml:6: schedule.every: wrong value (found 2.5, expected a valid integer, ",
        ),
        (
            "schedule:\n  kind: cubic\n  every: often\n",
            "spec.yaml:6: schedule.every: wrong value (found 'often', expected a valid integer)",
        ),
        ("schedule: soon\n", "spec.yaml:4: schedule: wrong value (found 'soon', expected a mapping of fields)"),
        ("score: [1]\n", "spec.yaml:4: score: wrong value (found 'a list', expected a mapping of fields)"),
        (
            "schedule:\n  kind: cubic\n  start: 0.5\n  end: 0.5\n",
            "spec.yaml:4: schedule: start must come before end, found 0.5 and 0.5",
        ),
        ("pattern: {kind: 'n:m', n: 4, m: 4}\n", "spec.yaml:4: pattern: n must be smaller than m, found 4:4"),
        (
            "pattern: {kind: 'n:m', n: 0, m: 4}\n",
            "spec.yaml:4: pattern.n: wrong value (found 0, expected greater than 0)",
        ),
        ("pattern:\n  kind: 'n:m'\n  n: 2\n", "spec.yaml:4: pattern.m: is missing"),
        (
            "pattern:\n  n: 2\n",
            "spec.yaml:4: pattern.kind: is missing (expected one of block, channel, n:m, plugin, unstructured)",
        ),
        (
            "pattern:\n  n: 2\n  kind: blocks\n",
            "spec.yaml:6: pattern.kind: unknown variant (found 'blocks', expected one of block, channel, n:m, ",
        ),
        (
            "pattern:\n  kind: block\n  height: 4\n  width: 0\n",
            "spec.yaml:7: pattern.width: wrong value (found 0, expected greater than 0)",
        ),
        (
            "allocation:\n  kind: layers\n  sparsity:\n    blocks.*: 1.5\n",
            "spec.yaml:6: allocation.sparsity: wrong value",
        ),
        ("start: {kind: dense-run, times: 0}\n", "spec.yaml:4: start.times: wrong value (found 0, expected greater "),
        ("start: {kind: safetensors}\n", "spec.yaml:4: start.path: is missing"),
        ("decay: 1e-3\n", "spec.yaml:4: decay: unknown field (found 0.001, expected one of version, kind, "),
    ],
)
def test_a_wrong_field_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    assert problem(tmp_path, REGIME + text).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "version: 1\nmethod: dense\n",
            (
                "spec.yaml:1: kind: is missing (expected model or dataset or regime or study or law or hardware or "
                "scenario or runtime or compute)"
            ),
        ),
        ("kind: regim\n", "spec.yaml:1: kind: wrong kind of spec (found 'regim', expected model or dataset or "),
        ("version: 1\nkind: [regime]\n", "spec.yaml:2: kind: wrong kind of spec (found ['regime'], expected model or "),
        (
            "version: 1\nkind: regime\n",
            "spec.yaml:1: method: is missing (expected one of dense, dynamic, masked, one-shot, straight-through)",
        ),
        (
            "version: 1\nkind: regime\nmethod: lottery\n",
            "spec.yaml:3: method: unknown variant (found 'lottery', expected one of dense, dynamic, masked, ",
        ),
        ("kind: regime\nmethod: dense\n", "spec.yaml:1: version: is missing"),
        (
            "version: 2\nkind: regime\nmethod: dense\n",
            "spec.yaml:1: version: wrong value (found 2, expected less than or equal to 1)",
        ),
    ],
)
def test_what_kind_of_spec_it_is_must_be_clear(tmp_path: Path, text: str, message: str) -> None:
    assert problem(tmp_path, text).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "version: 1\nschedule:\n\tstart: 0.1\n",
            "spec.yaml:3: is not YAML: found character '\\t' that cannot start any token (expected spaces, for YAML ",
        ),
        ("version: 1\nmethod: {a\n\n", "spec.yaml:4: is not YAML: expected ',' or '}', but got '<stream end>', while "),
        ('version: 1\nkind: "regime\n', "spec.yaml:3: is not YAML: found unexpected end of stream, while scanning a "),
        ("version: 1\nversion: 1\n", 'spec.yaml:2: is not YAML: found duplicate key "version" with value "1" '),
        ("version: 1\n---\nversion: 1\n", "spec.yaml:2: is not YAML: "),
        ("version: !!python/name:os.system x\n", "spec.yaml:1: is not YAML: could not determine a constructor for "),
        ("version: 2024-13-45\n", "spec.yaml: is not YAML: month must be in 1..12"),
        ("version: " + "1" * 5000 + "\n", "spec.yaml: is not YAML: Exceeds the limit (4300 digits) "),
        ("version: 1\0\n", "spec.yaml: is not YAML: unacceptable character #x0000"),
        ("version: " + "[" * 600 + "\n", "spec.yaml: is nested too deeply for a spec"),
        ("", "spec.yaml: must be a mapping of fields (found 'nothing')"),
        ("- version: 1\n", "spec.yaml: must be a mapping of fields (found 'list')"),
        ("regime\n", "spec.yaml: must be a mapping of fields (found 'str')"),
    ],
)
def test_what_is_not_yaml_is_said_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    assert problem(tmp_path, text).startswith(message)


@pytest.mark.parametrize(
    ("text", "field", "found", "expected"),
    [
        ("devices: '4'\n", "devices", "'4'", "a valid integer or a mapping of fields"),
        ("devices: [1]\n", "devices", "'a list'", "a valid integer or a mapping of fields"),
        ("devices:\n", "devices", "'nothing'", "a valid integer or a mapping of fields"),
        ("devices: {memory_gib: x, most: 2}\n", "devices.memory_gib", "'x'", "a valid number"),
        ("run: 3\n", "run", "3", "a mapping of fields"),
        ("run:\n", "run", "'nothing'", "a mapping of fields"),
        ("tracking: tensorboard\n", "tracking", "'tensorboard'", "a list"),
    ],
)
def test_a_value_that_fits_none_of_several_kinds_is_told_once(
    tmp_path: Path, text: str, field: str, found: str, expected: str
) -> None:
    path = tmp_path / "where.yaml"
    path.write_text(f"version: 1\nkind: compute\nengine: {{kind: local}}\n{text}", encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert str(caught.value) == f"{path}:4: {field}: wrong value (found {found}, expected {expected})"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("sparsity: [0, 0.5]", "sparsity: [0, 1.0]"),
            "spec.yaml:14: grid.sparsity.1: wrong value (found 1.0, expected less than 1)",
        ),
        (
            ("sparsity: [0, 0.5]", "sparsity: [0, -0.5]"),
            "spec.yaml:14: grid.sparsity.1: wrong value (found -0.5, expected greater ",
        ),
        (
            ("sparsity: [0, 0.5]", "sparsity: 0.5"),
            "spec.yaml:14: grid.sparsity: wrong value (found 0.5, expected a list)",
        ),
        (("sparsity: [0, 0.5]", "sparsity: []"), "spec.yaml:14: grid.sparsity: wrong value (found 'a list', expected "),
        (
            ("sparsity: [0, 0.5]", "sparsity: [0.5, 0, 0.5]"),
            "spec.yaml:14: grid.sparsity: values must differ from one another, found [0.5, 0.0, 0.5]",
        ),
        (("data: [1e6]", "data: [1e6, 1000000]"), "spec.yaml:15: grid.data: values must differ from one another"),
        (("[gradual]", "[gradual, gradual]"), "spec.yaml:16: grid.regimes: values must differ from one another"),
        (
            ("data_unit: tokens", "data_unit: images"),
            "spec.yaml:12: grid.data_unit: a span-corruption objective counts tokens, found 'images'",
        ),
        (
            ("data_unit: tokens", "data_unit: words"),
            "spec.yaml:12: grid.data_unit: wrong value (found 'words', expected 'tokens' or 'images')",
        ),
        (("data: [1e6]", "data: [1M]"), "spec.yaml:15: grid.data.0: wrong value (found '1M', expected a valid integer"),
        (("data: [1e6]", "data: [0.5]"), "spec.yaml:15: grid.data.0: wrong value (found 0.5, expected a valid integer"),
        (
            ("data: [1e6]", "data: [1e6]\n  seeds: [-1]"),
            "spec.yaml:16: grid.seeds.0: wrong value (found -1, expected greater than ",
        ),
        (
            ("data: [1e6]", f"data: [1e6]\n  seeds: [{2**63}]"),
            "spec.yaml:16: grid.seeds.0: wrong value (found 9223372036854775808",
        ),
        (("model: m", "model: ../m"), "spec.yaml:3: model: wrong value (found '../m', expected "),
        (
            ("grid:", "search: {nonzero: 5, budgets: [5, 5], regimes: [g]}\ngrid:"),
            "spec.yaml:11: search.budgets: values must differ from one another, found [5.0, 5.0]",
        ),
        (
            ("grid:", "search: {nonzero: 5, budgets: [5], regimes: [g], budget: 3}\ngrid:"),
            (
                "spec.yaml:11: search.budget: unknown field (found 3, expected one of nonzero, budgets, budget_unit, "
                "cost, "
            ),
        ),
        (
            ("grid:", "search: {nonzero: 5, budgets: [5], regimes: [g], space: {sparsity: {low: 0.9}}}\ngrid:"),
            "spec.yaml:11: search.space.sparsity: low must be below high, found 0.9 and 0.9",
        ),
        (
            ("{kind: adamw}", "{kind: adamw, clip_rms: 1}"),
            "spec.yaml:8: training.optimizer.clip_rms: unknown field (found 1, expected one of kind, beta1, ",
        ),
        (
            (
                "regimes: [gradual]",
                "regimes: [gradual]\n  replicates: [{nonzero: [5], sparsity: [0], data: [5], seed: [1]}]",
            ),
            "spec.yaml:17: grid.replicates.0.seed: unknown field (found 'a list', expected one of nonzero, ",
        ),
        (
            ("regimes: [gradual]", "regimes: [gradual]\n  blocks:\n  - {regimes: [g], sparsity: [0], data: [5]}"),
            "spec.yaml:18: grid.blocks.0: give either nonzero or dense",
        ),
        (
            (
                "regimes: [gradual]",
                "regimes: [gradual]\n  blocks:\n  - {regimes: [g], sparsity: [0], data: [5], nonzero: [5], dense: [5]}",
            ),
            "spec.yaml:18: grid.blocks.0: give either nonzero or dense",
        ),
    ],
)
def test_a_wrong_study_is_named_with_its_line(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in STUDY
    assert problem(tmp_path, STUDY.replace(*change)).startswith(message)


def test_several_mistakes_are_several_lines(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(STUDY.replace("batch: 4", "batch: 0").replace("base: 1e-3", "base: 0"), encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == [
        "training.batch",
        "training.learning_rate.base",
    ]


def test_a_missing_file_and_a_folder_are_no_spec(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.yaml: no such file"):
        load_spec(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match=r": is a folder"):
        load_spec(tmp_path)


def test_what_is_not_text_is_no_spec(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"version: \xff\xfe\n")
    with pytest.raises(SpecError, match=r"spec\.yaml: cannot be read: .*utf-8"):
        load_spec(path)


def test_another_kind_than_asked_for_is_refused(tmp_path: Path) -> None:
    message = problem(tmp_path, REGIME, kind="study")
    assert message == "spec.yaml:2: kind: wrong kind of spec (found 'regime', expected study)"


def test_numbers_and_words_are_read_as_yaml_1_2(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(STUDY.replace("model: m", "model: on") + "description: no\n", encoding="utf-8")
    study = load_spec(path, "study")
    assert isinstance(study, StudySpec)
    assert study.training.learning_rate.base == 1e-3
    assert (study.model, study.description) == ("on", "no")
    assert study.grid.data == (1_000_000,)


def test_defaults_fill_what_a_file_leaves_out(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(REGIME, encoding="utf-8")
    regime = load_spec(path, "regime")
    assert isinstance(regime, Masked)
    assert isinstance(regime.schedule, Cubic)
    assert (regime.schedule.start, regime.schedule.end, regime.schedule.every) == (0.25, 0.75, 100)


@pytest.mark.parametrize("deep", ["[" * 20_000 + "]" * 20_000, "{a: [" * 9_000, "[{a: " * 9_000])
def test_what_is_nested_beyond_reading_is_told_as_that(deep: str, tmp_path: Path) -> None:
    path = tmp_path / "deep.yaml"
    path.write_text(f"version: 1\nkind: regime\npattern: {deep}\n")
    with pytest.raises(SpecError, match=r"deep\.yaml: is nested too deeply"):
        load_spec(path)


def test_a_url_where_files_are_read_is_told_whole_and_without_its_password(bare: Path) -> None:
    edit(bare, "datasets/words", source__path="s3://bucket/x")
    said = one_error(cli(bare, "plan", "tiny", code=2))
    assert "words.yaml" in said
    assert "source.path: is a URL, where only files and folders of a machine are used (found 's3://bucket/x')" in said
    assert one_error(cli(bare, "plan", "s3://b/x.yaml", code=2)) == "s3://b/x.yaml: no such file"
    assert one_error(cli(bare, "fit", "s3://k:secret@b/x.csv", code=2)).startswith("s3://k:***@b/x.csv")
    assert one_error(cli(bare, "plan", "tiny", "--root", "s3://b/x", code=2)).startswith("s3://b/x: --root: is a URL")
