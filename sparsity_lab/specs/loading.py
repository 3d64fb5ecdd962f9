"""The kinds of spec files there are, and how each is found and read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from sparsity_lab.errors import SpecError
from sparsity_lab.specs import files
from sparsity_lab.specs.compute import Compute
from sparsity_lab.specs.datasets import DatasetSpec, ImageDataset, TextDataset
from sparsity_lab.specs.files import SHIPPED, Override, file_of, looked_in, names_in, parse, read_spec
from sparsity_lab.specs.hardware import HardwareProfile
from sparsity_lab.specs.laws import PublishedLaw
from sparsity_lab.specs.models import DecoderSpec, HuggingFaceSpec, ModelSpec, T5Spec, ViTSpec
from sparsity_lab.specs.problems import where_of
from sparsity_lab.specs.regimes.regime import Dense, RegimeSpec, SparseRegime
from sparsity_lab.specs.runtimes import RuntimeSpec
from sparsity_lab.specs.scenarios import ScenarioSpec
from sparsity_lab.specs.studies import StudySpec

AnySpec = (
    T5Spec
    | ViTSpec
    | DecoderSpec
    | HuggingFaceSpec
    | TextDataset
    | ImageDataset
    | Dense
    | SparseRegime
    | StudySpec
    | PublishedLaw
    | HardwareProfile
    | ScenarioSpec
    | RuntimeSpec
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
    "runtime": TypeAdapter(RuntimeSpec),
    "compute": TypeAdapter(Compute),
}


def load_spec(path: Path, kind: str | None = None, overrides: Sequence[Override] = ()) -> AnySpec:
    """Read and validate one spec file.

    Args:
        path: the file.
        kind: the kind it must be; any when None.
        overrides: fields that are other than the file says.

    Raises:
        SpecError: the file is missing, is not YAML, or does not say what its kind asks for.
    """
    spec: AnySpec = read_spec(path, ADAPTERS if kind is None else {kind: ADAPTERS[kind]}, overrides)
    return spec


def load_named(specs: Path, kind: str, name: str, at: Callable[[str], str], field: str) -> Any:
    """Read `specs/<folder of kind>/name.yaml`, or what ships under the name, for a field (dotted) of another spec file.

    Args:
        specs: the folder of specs.
        kind: of the spec.
        name: of its file.
        at: says where a field is said; it is asked for the error alone, for it reads the file again.
        field: that names it.

    Raises:
        SpecError: as `load_spec`, and when no such file exists, with the names that do.
    """
    path = file_of(specs, kind, name)
    if not path.exists():
        known = ", ".join(sorted({*names_in(specs, kind), *names_in(SHIPPED, kind)})) or "none"
        raise SpecError(
            f"names a {kind} that has no file",
            where=at(field),
            field=field,
            found=name,
            expected=f"a file in {looked_in(kind, specs)}: {known}",
        )
    return load_spec(path, kind)


def place(path: Path, field: str, overrides: Sequence[Override] = ()) -> str:
    """Where a field (dotted) stands in a spec file that can be read: `file:line`, or the override that sets it."""
    keys = [int(key) if key.isdigit() else key for key in field.split(".")]
    return where_of(path, parse(path, overrides)[1], keys)


def schema(kind: str) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one kind of spec file, for editors."""
    return files.schema(kind, ADAPTERS[kind])
