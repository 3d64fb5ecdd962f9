from __future__ import annotations

import re
import shlex
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sparsity_lab.errors import SpecError, about, printable
from sparsity_lab.specs import files, loading
from sparsity_lab.specs.bundle import check_specs, load_study
from sparsity_lab.specs.files import SHIPPED, check_name

STUDY = "studies/small.yaml"
FILES = {
    "models/tiny-t5.yaml": "version: 1\nkind: model\nfamily: t5\n",
    "models/tiny-vit.yaml": "version: 1\nkind: model\nfamily: vit\n",
    "datasets/words.yaml": "version: 1\nkind: dataset\ncontent: text\nsource: {kind: python-stdlib}\n",
    "datasets/shapes.yaml": "version: 1\nkind: dataset\ncontent: images\nsource: {kind: glyphs}\n",
    "regimes/gradual.yaml": "version: 1\nkind: regime\nmethod: masked\n",
    "regimes/pairs.yaml": "version: 1\nkind: regime\nmethod: masked\npattern: {kind: 'n:m', n: 1, m: 2}\n",
    "regimes/static.yaml": "version: 1\nkind: regime\nmethod: masked\nschedule: {kind: static}\n",
    STUDY: """\
version: 1
kind: study
model: tiny-t5
dataset: words
objective:
  kind: span-corruption
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
  blocks:
    - {regimes: [static], dense: [1000], sparsity: [0.5], data: [1e6]}
    - {regimes: [pairs], nonzero: [1000], sparsity: [0.5], data: [1e6]}
search:
  nonzero: 1000
  budgets: [1e6]
  regimes: [pairs]
""",
}


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    """A folder of specs with one study."""
    for name, text in FILES.items():
        path = tmp_path / "specs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "specs"


def problem(specs: Path, old: str, new: str) -> str:
    """What is said of the study once it is changed."""
    path = specs / STUDY
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load_study(path)
    return str(caught.value).replace(f"{specs}/", "")


def line_of(specs: Path, text: str) -> int:
    lines = (specs / STUDY).read_text(encoding="utf-8").splitlines()
    return 1 + next(number for number, line in enumerate(lines) if text in line)


def test_a_study_comes_with_what_it_names(specs: Path) -> None:
    study = load_study(specs / STUDY)
    assert (study.name, study.model.family, study.dataset.content) == ("small", "t5", "text")
    assert set(study.regimes) == {"gradual", "pairs", "static"}
    assert study.law_regime == "gradual"


def test_every_file_is_read_once(specs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    parse = files.parse

    def counted(path: Path, *more: Any) -> Any:
        read.append(path.relative_to(specs).as_posix())
        return parse(path, *more)

    monkeypatch.setattr(files, "parse", counted)
    monkeypatch.setattr(loading, "parse", counted)
    load_study(specs / STUDY)
    assert sorted(read) == sorted(FILES.keys() - {"models/tiny-vit.yaml", "datasets/shapes.yaml"})


def test_a_study_knows_where_it_lies(specs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, path in ((specs.parent, Path("specs") / STUDY), (specs / "studies", Path("small.yaml"))):
        monkeypatch.chdir(folder)
        study = load_study(path)
        assert study.project == specs.parent
        assert study.regime_file("static") == specs / "regimes/static.yaml"


@pytest.mark.parametrize(
    ("kind", "field", "old", "new"),
    [
        ("model", "model", "model: tiny-t5", "model: gpt-9"),
        ("dataset", "dataset", "dataset: words", "dataset: gpt-9"),
        ("regime", "grid.regimes", "regimes: [gradual]", "regimes: [gradual, gpt-9]"),
        ("regime", "search.regimes.0", "  regimes: [pairs]\n", "  regimes: [gpt-9]\n"),
        ("regime", "grid.blocks.1.regimes", "{regimes: [pairs]", "{regimes: [gpt-9]"),
    ],
)
def test_a_name_without_a_file_lists_those_that_have_one(
    specs: Path, kind: str, field: str, old: str, new: str
) -> None:
    message = problem(specs, old, new)
    own = {path.stem for path in (specs / f"{kind}s").glob("*.yaml")}
    known = ", ".join(sorted(own | {path.stem for path in (SHIPPED / f"{kind}s").glob("*.yaml")}))
    assert message == (
        f"{STUDY}:{line_of(specs, 'gpt-9')}: {field}: names a {kind} that has no file "
        f"(found 'gpt-9', expected a file in {kind}s and {SHIPPED / kind}s: {known})"
    )


def test_a_mistake_in_a_named_file_is_told_of_that_file(specs: Path) -> None:
    (specs / "models" / "tiny-t5.yaml").write_text("version: 1\nkind: model\nfamily: t5\nwidth: 3\n", encoding="utf-8")
    with pytest.raises(SpecError, match=r"models/tiny-t5\.yaml:4: width: unknown field"):
        load_study(specs / STUDY)


def test_a_file_of_another_kind_under_the_name_is_refused(specs: Path) -> None:
    (specs / "models" / "tiny-t5.yaml").write_text(FILES["regimes/gradual.yaml"], encoding="utf-8")
    with pytest.raises(
        SpecError, match=r"models/tiny-t5\.yaml:2: kind: wrong kind of spec \(found 'regime', expected model\)"
    ):
        load_study(specs / STUDY)


def test_the_objective_must_suit_the_family(specs: Path) -> None:
    message = problem(specs, "kind: span-corruption", "kind: next-token")
    expected = (
        "objective.kind: the objective does not fit the model family (found 'next-token', expected span-corruption)"
    )
    assert message == f"{STUDY}:{line_of(specs, 'kind: next-token')}: {expected}"


def test_the_dataset_must_suit_the_objective(specs: Path) -> None:
    message = problem(specs, "dataset: words", "dataset: shapes")
    expected = "dataset: the dataset does not fit the objective (found 'shapes (images)', expected text)"
    assert message == f"{STUDY}:{line_of(specs, 'dataset: shapes')}: {expected}"


@given(st.text(max_size=120) | st.text(alphabet="aZ9._-", max_size=120))
@example("x; touch OOPS")
@example("$(touch OOPS)")
@example("a.JSON")
@example("a\n")
@example("..")
def test_a_name_is_safe_wherever_it_goes_or_is_no_name(name: str) -> None:
    try:
        check_name("study", name)
    except SpecError:
        return
    assert shlex.quote(name) == name
    assert re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII)
    assert Path(name).name == name
    assert len(name) <= 100
    assert Path(name).suffix.lower() not in {".json", ".parquet", ".yaml"}


@pytest.mark.parametrize("name", ["my study", "a@b", "größe", "it's", "a.json", "x; touch OOPS", "-x", "n" * 101])
@pytest.mark.parametrize("kind", ["studies", "models", "laws"])
def test_a_file_that_no_spec_can_name_is_refused(specs: Path, name: str, kind: str) -> None:
    source = specs / (STUDY if kind == "studies" else "models/tiny-t5.yaml")
    path = specs / kind / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(SpecError, match="can be called so") as refused:
        list(check_specs([path], specs.parent))
    assert str(path) in str(refused.value)


@given(st.text())
def test_what_is_printed_moves_no_cursor(text: str) -> None:
    shown = printable(text)
    assert not {unicodedata.category(one) for one in shown if one not in "\n\t"} & {"Cc", "Cf", "Cs"}
    told = str(SpecError(text, where=text, field=text, found=text))
    assert printable(told) == told
    plain = "".join(one for one in text if one.isprintable())
    assert printable(plain) == plain


def test_an_error_without_a_place_is_told_of_the_file_that_was_asked_about() -> None:
    with pytest.raises(SpecError, match=r"^outer\.csv: size: never changes \(found 3\)$") as told, about("outer.csv"):
        raise SpecError("never changes", field="size", found=3)
    assert told.value.where == "outer.csv"
    with pytest.raises(SpecError, match=r"^inner\.csv: size: never changes$"), about("outer.csv"):
        raise SpecError("never changes", field="size", where="inner.csv")


def test_only_a_classifiers_head_is_made_anew(specs: Path) -> None:
    regime = specs / "regimes" / "gradual.yaml"
    text = regime.read_text(encoding="utf-8")
    regime.write_text(text + "start: {kind: huggingface, path: folder, head: fresh}\n", encoding="utf-8")
    line = len(text.splitlines()) + 1
    with pytest.raises(SpecError, match=rf"gradual\.yaml:{line}: start\.head: only the head of a classifier .*'fresh'"):
        load_study(specs / STUDY)
