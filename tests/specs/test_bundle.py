from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sparsity_lab.errors import SpecError
from sparsity_lab.specs.bundle import load_study

ROOT = Path(__file__).resolve().parents[2]
STUDY = "studies/quickstart-text.yaml"


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    """A copy of the shipped specs."""
    return Path(shutil.copytree(ROOT / "specs", tmp_path / "specs"))


def problem(specs: Path, old: str, new: str) -> str:
    """What is said of the quickstart study once a line of it is changed."""
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
    assert (study.name, study.model.family, study.dataset.content) == ("quickstart-text", "t5", "text")
    assert set(study.regimes) == {"gradual"}


def test_a_regime_of_the_search_alone_is_read_too(specs: Path) -> None:
    path = specs / STUDY
    path.write_text(path.read_text(encoding="utf-8").replace("regime: gradual", "regime: gradual-2-4"), encoding="utf-8")
    assert set(load_study(path).regimes) == {"gradual", "gradual-2-4"}


@pytest.mark.parametrize(
    ("kind", "field", "old", "new"),
    [
        ("model", "model", "model: t5-mini", "model: gpt-9"),
        ("dataset", "dataset", "dataset: python-stdlib", "dataset: gpt-9"),
        ("regime", "grid.regimes", "regimes: [gradual]", "regimes: [gradual, gpt-9]"),
        ("regime", "search.regime", "  regime: gradual", "  regime: gpt-9"),
    ],
)
def test_a_name_without_a_file_lists_those_that_have_one(specs: Path, kind: str, field: str, old: str, new: str) -> None:
    message = problem(specs, old, new)
    known = ", ".join(sorted(path.stem for path in (specs / f"{kind}s").glob("*.yaml")))
    assert message == (
        f"{STUDY}:{line_of(specs, 'gpt-9')}: {field}: names a {kind} that has no file "
        f"(found 'gpt-9', expected a file in {specs / kind}s: {known})"
    )


def test_a_mistake_in_a_named_file_is_told_of_that_file(specs: Path) -> None:
    (specs / "models" / "t5-mini.yaml").write_text("version: 1\nkind: model\nfamily: t5\nwidth: 3\n", encoding="utf-8")
    with pytest.raises(SpecError, match=r"models/t5-mini\.yaml:4: width: unknown field"):
        load_study(specs / STUDY)


def test_a_file_of_another_kind_under_the_name_is_refused(specs: Path) -> None:
    shutil.copy(specs / "regimes" / "gradual.yaml", specs / "models" / "t5-mini.yaml")
    with pytest.raises(SpecError, match=r"models/t5-mini\.yaml:2: kind: wrong kind of spec \(found 'regime', expected model\)"):
        load_study(specs / STUDY)


def test_the_objective_must_suit_the_family(specs: Path) -> None:
    message = problem(specs, "kind: span-corruption\n  input_length: 64", "kind: next-token")
    expected = "objective.kind: the objective does not fit the model family (found 'next-token', expected span-corruption)"
    assert message == f"{STUDY}:{line_of(specs, 'kind: next-token')}: {expected}"


def test_the_dataset_must_suit_the_objective(specs: Path) -> None:
    message = problem(specs, "dataset: python-stdlib", "dataset: glyphs")
    expected = "dataset: the dataset does not fit the objective (found 'glyphs (images)', expected text)"
    assert message == f"{STUDY}:{line_of(specs, 'dataset: glyphs')}: {expected}"
