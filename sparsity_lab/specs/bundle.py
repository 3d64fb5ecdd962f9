"""A study with every spec it names, read and checked together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from sparsity_lab.errors import SpecError
from sparsity_lab.specs.datasets import Classification, DatasetSpec, ImageDataset, NextToken, SpanCorruption
from sparsity_lab.specs.files import FOLDERS, check_name, file_of
from sparsity_lab.specs.loading import load_named, load_spec, place
from sparsity_lab.specs.models import DecoderSpec, ModelSpec, T5Spec, ViTSpec
from sparsity_lab.specs.regimes.regime import RegimeSpec, SparseRegime, sparse
from sparsity_lab.specs.scenarios import ScenarioSpec
from sparsity_lab.specs.studies import StudySpec


@dataclass(frozen=True)
class Study:
    """A study and what it names: complete, and known to fit together."""

    name: str
    path: Path
    spec: StudySpec
    model: ModelSpec
    dataset: DatasetSpec
    regimes: Mapping[str, RegimeSpec]
    scenario: ScenarioSpec | None = None

    @property
    def project(self) -> Path:
        """The project folder, which holds `specs/`: paths of files that regimes start from are relative to it."""
        return self.path.resolve().parents[2]

    @property
    def sparse_regimes(self) -> dict[str, SparseRegime]:
        """The regimes under which weights become zero."""
        return {name: rule for name, regime in self.regimes.items() if (rule := sparse(regime)) is not None}

    @property
    def law_regime(self) -> str:
        """The regime that the laws are about, besides dense runs: the named one, or the grid's first."""
        return self.spec.law.regime or self.spec.grid.regimes[0]

    def regime_file(self, name: str) -> Path:
        """The file of one of the regimes."""
        return file_of(self.path.resolve().parents[1], "regime", name)


def load_study(path: Path) -> Study:
    """Read `<specs>/studies/<name>.yaml` and the files it names, beside it in `<specs>`.

    Raises:
        SpecError: a file is missing or wrong, or the parts do not fit together.
    """
    check_name("study", path.stem, path)
    spec = load_spec(path, "study")
    assert isinstance(spec, StudySpec)
    root = path.resolve().parent.parent
    asked = dict.fromkeys(spec.grid.regimes, "grid.regimes")
    for number, block in enumerate(spec.grid.blocks):
        asked = dict.fromkeys(block.regimes, f"grid.blocks.{number}.regimes") | asked
    regimes = {name: load_named(root, "regime", name, path, field) for name, field in asked.items()}
    if spec.law.regime and spec.law.regime not in asked:
        raise SpecError(
            "names a regime under which the grid trains nothing",
            where=place(path, "law.regime"),
            field="law.regime",
            found=spec.law.regime,
            expected=f"one of {', '.join(asked)}",
        )
    if spec.search:
        for number, name in enumerate(spec.search.regimes):
            regimes[name] = load_named(root, "regime", name, path, f"search.regimes.{number}")
            if sparse(regimes[name]) is None:
                field = f"search.regimes.{number}"
                message = "a search needs regimes that prune; it tries dense runs by itself"
                raise SpecError(message, where=place(path, field), field=field, found=name)
    study = Study(
        name=path.stem,
        path=path,
        spec=spec,
        model=load_named(root, "model", spec.model, path, "model"),
        dataset=load_named(root, "dataset", spec.dataset, path, "dataset"),
        regimes=MappingProxyType(regimes),
        scenario=load_named(root, "scenario", spec.scenario, path, "scenario") if spec.scenario else None,
    )
    _check_fit(study)
    _check_scenario(study)
    return study


def check_specs(files: Sequence[Path] | None, root: Path) -> Iterator[tuple[Path, str]]:
    """Check spec files (all below `specs/` when none are named); yields each good one, and what it is.

    Raises:
        SpecError: every problem of every file, one a line.
    """
    paths = list(files or sorted((root / "specs").glob("**/*.yaml")))
    if not paths:
        raise SpecError("no spec files", where=root / "specs")
    problems = []
    for path in paths:
        try:
            if path.parent.name in FOLDERS.values():
                check_name(path.parent.name, path.stem, path)
            spec = load_spec(path)
            if isinstance(spec, StudySpec):
                yield path, f"study: {load_study(path).model.family} on {spec.dataset}"
            else:
                yield path, spec.kind
        except SpecError as error:
            problems.append(str(error))
    if problems:
        raise SpecError("\n       ".join(problems))


def _check_fit(study: Study) -> None:
    match study.model, study.spec.objective:
        case (T5Spec(), SpanCorruption()) | (DecoderSpec(), NextToken()) | (ViTSpec(), Classification()):
            pass
        case model, objective:
            raise SpecError(
                "the objective does not fit the model family",
                where=place(study.path, "objective.kind"),
                field="objective.kind",
                found=objective.kind,
                expected=_objective_of(model),
            )
    wants_images = isinstance(study.spec.objective, Classification)
    if wants_images != isinstance(study.dataset, ImageDataset):
        raise SpecError(
            "the dataset does not fit the objective",
            where=place(study.path, "dataset"),
            field="dataset",
            found=f"{study.spec.dataset} ({study.dataset.content})",
            expected="images" if wants_images else "text",
        )


def _check_scenario(study: Study) -> None:
    if study.scenario is not None and study.scenario.evidence.study != study.name:
        raise SpecError(
            "decides by something else than this study",
            where=place(study.path, "scenario"),
            field="scenario",
            found=study.spec.scenario,
            expected=f"a scenario with evidence: {{study: {study.name}}}",
        )


def _objective_of(model: ModelSpec) -> str:
    match model:
        case T5Spec():
            return "span-corruption"
        case DecoderSpec():
            return "next-token"
        case ViTSpec():
            return "classification"
