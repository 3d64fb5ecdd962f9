"""The kinds of spec files there are, and how each is found and read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from sparsity_lab.errors import SpecError
from sparsity_lab.specs import files
from sparsity_lab.specs.compute import Compute
from sparsity_lab.specs.datasets import DatasetSpec, ImageDataset, TextDataset
from sparsity_lab.specs.files import file_of, names_in, parse, read_spec
from sparsity_lab.specs.hardware import HardwareProfile
from sparsity_lab.specs.laws import PublishedLaw
from sparsity_lab.specs.models import DecoderSpec, ModelSpec, T5Spec, ViTSpec
from sparsity_lab.specs.problems import line_of
from sparsity_lab.specs.regimes.regime import Dense, RegimeSpec, SparseRegime
from sparsity_lab.specs.scenarios import ScenarioSpec
from sparsity_lab.specs.studies import StudySpec

AnySpec = (
    T5Spec
    | ViTSpec
    | DecoderSpec
    | TextDataset
    | ImageDataset
    | Dense
    | SparseRegime
    | StudySpec
    | PublishedLaw
    | HardwareProfile
    | ScenarioSpec
    | Compute
)

WHEN_USED = ConfigDict(defer_build=True)

ADAPTERS: Mapping[str, TypeAdapter[Any]] = {
    "model": TypeAdapter(ModelSpec, config=WHEN_USED),
    "dataset": TypeAdapter(DatasetSpec, config=WHEN_USED),
    "regime": TypeAdapter(RegimeSpec, config=WHEN_USED),
    "study": TypeAdapter(StudySpec),
    "law": TypeAdapter(PublishedLaw),
    "hardware": TypeAdapter(HardwareProfile),
    "scenario": TypeAdapter(ScenarioSpec),
    "compute": TypeAdapter(Compute),
}


def load_spec(path: Path, kind: str | None = None) -> AnySpec:
    """Read and validate one spec file.

    Args:
        path: the file.
        kind: the kind it must be; any when None.

    Raises:
        SpecError: the file is missing, is not YAML, or does not say what its kind asks for.
    """
    spec: AnySpec = read_spec(path, ADAPTERS if kind is None else {kind: ADAPTERS[kind]})
    return spec


def load_named(root: Path, kind: str, name: str, asked_by: Path, field: str) -> Any:
    """Read `root/<folder of kind>/name.yaml`, named by a field (dotted) of another spec file.

    Raises:
        SpecError: as `load_spec`, and when no such file exists, with the names that do.
    """
    path = file_of(root, kind, name)
    if not path.is_file():
        known = ", ".join(names_in(root, kind)) or "none"
        raise SpecError(
            f"names a {kind} that has no file",
            where=place(asked_by, field),
            field=field,
            found=name,
            expected=f"a file in {path.parent}: {known}",
        )
    return load_spec(path, kind)


def place(path: Path, field: str) -> str:
    """Where a field (dotted) stands in a spec file that can be read: `file:line`."""
    keys = [int(key) if key.isdigit() else key for key in field.split(".")]
    return f"{path}:{line_of(parse(path)[1], keys)}"


def schema(kind: str) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one kind of spec file, for editors."""
    return files.schema(kind, ADAPTERS[kind])
