"""A study with every spec it names, read and checked together."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sparsity_lab.errors import SpecError
from sparsity_lab.specs.datasets import Classification, DatasetSpec, ImageDataset, NextToken, SpanCorruption
from sparsity_lab.specs.files import FOLDERS, Override, check_name, file_of
from sparsity_lab.specs.fingerprint import digest
from sparsity_lab.specs.loading import load_named, load_spec, place
from sparsity_lab.specs.models import DecoderSpec, HuggingFaceSpec, ModelSpec, OwnSpec, T5Spec, ViTSpec
from sparsity_lab.specs.regimes.regime import RegimeSpec, SparseRegime, sparse
from sparsity_lab.specs.regimes.starts import WithHead
from sparsity_lab.specs.scenarios import ScenarioSpec
from sparsity_lab.specs.studies import StudySpec

TOLD = frozenset({"description", "scenario"})
IDLE: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "prepare": frozenset(StudySpec.model_fields) - {"dataset"},
        "measure": TOLD | {"law", "search", "hardware", "keep_weights"},
        "train": TOLD | {"law", "search", "hardware"},
        "search": TOLD | {"law"},
    }
)
"""fields of a study that decide nothing of what a step makes, but for:"""
HEEDED: Mapping[str, str] = MappingProxyType({"measure": "law.regime", "search": "law.confidence"})


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
    overrides: tuple[Override, ...] = ()
    """fields that are other than the file says; the name tells such studies from the file's own"""
    changed: frozenset[str] = frozenset()
    """dotted fields that differ from the file's"""

    @property
    def typed(self) -> str:
        """What names the study on a command line."""
        asked = [self.path.stem]
        return shlex.join([*asked, *(part for one in self.overrides for part in ("--set", str(one)))])

    @property
    def told(self) -> str:
        """The study in the provenance of what rests on it: its name, and what is other than its file says."""
        return f"{self.name} ({'; '.join(map(str, self.overrides))})" if self.overrides else self.name

    def name_of(self, step: str) -> str:
        """What this step's results are called: as the file's own where nothing that decides them is changed."""
        idle = {field.partition(".")[0] for field in self.changed} <= IDLE.get(step, frozenset())
        return self.path.stem if idle and HEEDED.get(step) not in self.changed else self.name

    def place(self, field: str) -> str:
        """Where a field (dotted) is said: `file:line`, or the override that sets it."""
        return place(self.path, field, self.overrides)

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

    @property
    def dataset_file(self) -> Path:
        """The file of the dataset."""
        return file_of(self.path.resolve().parents[1], "dataset", self.spec.dataset)

    @property
    def model_file(self) -> Path:
        """The file of the model."""
        return file_of(self.path.resolve().parents[1], "model", self.spec.model)

    def regime_file(self, name: str) -> Path:
        """The file of one of the regimes."""
        return file_of(self.path.resolve().parents[1], "regime", name)


def load_study(path: Path, overrides: Sequence[Override] = ()) -> Study:
    """Read `<specs>/studies/<name>.yaml` and the files it names, beside it in `<specs>`.

    Args:
        path: the file.
        overrides: fields that are other than it says; a study that they change is called `<name>.set-<hash>`, after
            what is other. Those that change nothing count for nothing.

    Raises:
        SpecError: a file is missing or wrong, or the parts do not fit together.
    """
    check_name("study", path.stem, path)
    spec = load_spec(path, "study", overrides)
    assert isinstance(spec, StudySpec)
    other = _difference(path, spec) if overrides else {}
    overrides = tuple(overrides) if other else ()
    at = partial(place, path, overrides=overrides)
    root = path.resolve().parent.parent
    regimes = _regimes(spec, root, at)
    study = Study(
        name=f"{path.stem}.set-{digest(other)}" if other else path.stem,
        path=path,
        spec=spec,
        model=_in_project(load_named(root, "model", spec.model, at, "model"), file_of(root, "model", spec.model)),
        dataset=load_named(root, "dataset", spec.dataset, at, "dataset"),
        regimes=MappingProxyType(regimes),
        scenario=load_named(root, "scenario", spec.scenario, at, "scenario") if spec.scenario else None,
        overrides=overrides,
        changed=frozenset(other),
    )
    _check_fit(study)
    _check_scenario(study)
    return study


def _regimes(spec: StudySpec, root: Path, at: Callable[[str], str]) -> dict[str, RegimeSpec]:
    """The regimes that grid and search name.

    Raises:
        SpecError: one is missing or wrong, the search names one that prunes nothing, or the law one that nobody trains.
    """
    asked = dict.fromkeys(spec.grid.regimes, "grid.regimes")
    for number, block in enumerate(spec.grid.blocks):
        asked = dict.fromkeys(block.regimes, f"grid.blocks.{number}.regimes") | asked
    regimes = {name: load_named(root, "regime", name, at, field) for name, field in asked.items()}
    if spec.law.regime and spec.law.regime not in asked:
        raise SpecError(
            "names a regime under which the grid trains nothing",
            where=at("law.regime"),
            field="law.regime",
            found=spec.law.regime,
            expected=f"one of {', '.join(asked)}",
        )
    for number, name in enumerate(spec.search.regimes if spec.search else ()):
        field = f"search.regimes.{number}"
        if name not in regimes:
            regimes[name] = load_named(root, "regime", name, at, field)
        if sparse(regimes[name]) is None:
            message = "a search needs regimes that prune; it tries dense runs by itself"
            raise SpecError(message, where=at(field), field=field, found=name)
    return regimes


def _in_project(model: ModelSpec, file: Path) -> ModelSpec:
    """A model whose configuration lies in a file, with the file's place on this machine.

    Raises:
        SpecError: there is no such file or folder.
    """
    if not isinstance(model, HuggingFaceSpec) or model.path is None:
        return model
    project = file.parents[2]
    path = project / model.path
    if not path.exists():
        message, expected = "names a configuration that is not there", f"a file or folder in {project}"
        raise SpecError(message, where=place(file, "path"), field="path", found=model.path, expected=expected)
    return model.model_copy(update={"path": str(path)})


def _difference(path: Path, spec: StudySpec) -> dict[str, Any]:
    """Dotted fields of a study, with what they hold, that its file says otherwise; all if the file alone is wrong."""
    try:
        written = load_spec(path, "study").model_dump(mode="json")
    except SpecError:
        written = {}
    return dict(_differing(spec.model_dump(mode="json"), written))


def _differing(new: Any, old: Any, field: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(new, dict) and isinstance(old, dict):
        for name in dict.fromkeys((*new, *old)):
            yield from _differing(new.get(name), old.get(name), f"{field}.{name}" if field else name)
    elif new != old:
        yield field, new


def check_specs(files: Sequence[Path] | None, root: Path) -> Iterator[tuple[Path, str]]:
    """Check spec files (all below `specs/` when none are named); yields each good one, and what it is.

    Raises:
        SpecError: every problem of every file, one a line.
    """
    paths = list(files or sorted((root / "specs").glob("**/*.yaml")))
    if not paths:
        raise SpecError("no spec files", where=(root / "specs").absolute())
    problems = []
    for path in paths:
        try:
            for kind in (one for one, folder in FOLDERS.items() if folder == path.parent.name):
                check_name(kind, path.stem, path)
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
        case HuggingFaceSpec(), _:
            pass  # which heads an architecture has only transformers knows
        case model, objective:
            raise SpecError(
                "the objective does not fit the model family",
                where=study.place("objective.kind"),
                field="objective.kind",
                found=objective.kind,
                expected=_objective_of(model),
            )
    wants_images = isinstance(study.spec.objective, Classification)
    if wants_images != isinstance(study.dataset, ImageDataset):
        raise SpecError(
            "the dataset does not fit the objective",
            where=study.place("dataset"),
            field="dataset",
            found=f"{study.spec.dataset} ({study.dataset.content})",
            expected="images" if wants_images else "text",
        )
    for name, regime in study.sparse_regimes.items():
        if not wants_images and isinstance(regime.start, WithHead) and regime.start.head == "fresh":
            raise SpecError(
                f"only the head of a classifier is made anew, and {study.name} has none",
                where=place(study.regime_file(name), "start.head"),
                field="start.head",
                found="fresh",
                expected="kept",
            )


def _check_scenario(study: Study) -> None:
    if study.scenario is not None and study.scenario.evidence.study != study.path.stem:
        raise SpecError(
            "decides by something else than this study",
            where=study.place("scenario"),
            field="scenario",
            found=study.spec.scenario,
            expected=f"a scenario with evidence: {{study: {study.path.stem}}}",
        )


def _objective_of(model: OwnSpec) -> str:
    match model:
        case T5Spec():
            return "span-corruption"
        case DecoderSpec():
            return "next-token"
        case ViTSpec():
            return "classification"
