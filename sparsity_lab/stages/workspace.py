"""What every stage begins with: the study, its prepared data, the hardware it is judged on, where things lie."""

from __future__ import annotations

import json
import os
from collections.abc import Container, Iterable, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsity_lab.artifacts.atomic import write_text
from sparsity_lab.artifacts.paths import STORAGE, Layout
from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.store import Store
from sparsity_lab.cost.assumptions import study_multiplier
from sparsity_lab.data.manifest import Manifest, expected_shape, model_shape, read_manifest
from sparsity_lab.errors import NotReadyError
from sparsity_lab.hardware.profile import load_profile, read_profile
from sparsity_lab.laws.questions.multipliers import Multiplier
from sparsity_lab.specs.bundle import Study, load_study
from sparsity_lab.specs.choices import CostMultiplier
from sparsity_lab.specs.compute import Compute, here
from sparsity_lab.specs.datasets import DataShape
from sparsity_lab.specs.files import check_name, find_named
from sparsity_lab.specs.fingerprint import NamedRuns, name_runs
from sparsity_lab.specs.hardware import HardwareProfile
from sparsity_lab.sweep.jobs import Workplace
from sparsity_lab.sweep.resolve import grid_runs, start_files


@dataclass(frozen=True)
class Workspace:
    """A study in a project folder."""

    layout: Layout
    study: Study

    @property
    def name(self) -> str:
        """The study's name."""
        return self.study.name

    def manifest(self) -> Manifest:
        """The prepared data.

        Raises:
            NotReadyError: `prepare` has not been run, or not since the dataset's spec was edited.
            DataError: the manifest is damaged.
        """
        try:
            manifest = read_manifest(self.layout.data(self.name))
        except NotReadyError:
            raise NotReadyError(self.layout.data(self.name), make_it=f"sparsity-lab prepare {self.name}") from None
        if manifest.spec != self.study.dataset:
            raise NotReadyError(
                f"data for the present {self.study.spec.dataset} spec (its spec has changed since it was prepared)",
                make_it=f"sparsity-lab prepare {self.name}",
            )
        return manifest

    def shape(self) -> DataShape:
        """What models must know of the data: from the manifest, or from the spec before anything is prepared."""
        try:
            return model_shape(self.manifest(), self.study.spec.objective)
        except NotReadyError as error:
            try:
                return expected_shape(self.study.dataset, self.study.spec.objective)
            except NotReadyError:
                raise error from None

    def grid(self, regimes: Container[str] | None = None) -> NamedRuns:
        """The grid's runs by name; only dense ones and those under `regimes` unless that is None.

        Raises:
            NotReadyError: the data is not prepared.
            SpecError: a run cannot be laid out.
        """
        data_hash = self.manifest().content_hash
        return name_runs((one.run for one in grid_runs(self.study, self.shape(), regimes)), data_hash)

    def workplace(self, home: Path, compute: Compute | None = None) -> Workplace:
        """Where workers train this study's runs, writing finished ones to `home`; None is this machine."""
        compute = compute or here()
        uri = compute.checkpoints.uri
        return Workplace(
            self.layout,
            self.layout.data(self.name),
            home,
            keep_weights=self.study.spec.keep_weights,
            threads=compute.run.cores,
            fast=not compute.run.deterministic,
            checkpoint_seconds=compute.checkpoints.seconds,
            checkpoints=uri if uri is None or "://" in uri else str(self.layout.root.resolve() / uri),
            start_files=start_files(self.study),
        )

    def write_metrics(self, step: str, metrics: dict[str, Any]) -> None:
        """Write one step's numbers for `dvc metrics`."""
        write_text(self.layout.metrics(self.name, step), json.dumps(metrics, indent=2, sort_keys=True) + "\n")


def open_workspace(study: str, root: Path = Path()) -> Workspace:
    """A study by its name, by the path of its file, or as DVC calls the stage of it that it is running.

    The pipeline passes "$DVC_STAGE" (`train@NAME`), so that no name is ever part of a shell's command.

    Raises:
        SpecError: there is no such study, with those that are, or a spec is wrong.
    """
    if study == os.environ.get("DVC_STAGE"):
        study = study.rpartition(".yaml:")[2].partition("@")[2]
        check_name("study", study, "params.yaml: studies")
    return Workspace(Layout(root), load_study(find_named("study", study, root)))


def profile_of(space: Workspace) -> HardwareProfile:
    """The hardware that a study is judged on: the one its spec names, else this machine as it was measured.

    Raises:
        NotReadyError: it names none, and nothing was measured.
        RecordError: there is no profile of that name, or it is damaged.
    """
    if (named := space.study.spec.hardware) is not None:
        return load_profile(space.layout.root, named)
    path = space.layout.hardware(space.name)
    if not path.is_file():
        raise NotReadyError(path, make_it=f"sparsity-lab measure {space.name}")
    return read_profile(path)


def known_profile(space: Workspace) -> HardwareProfile | None:
    """As `profile_of`, or None where the spec names none and nothing was measured."""
    try:
        return profile_of(space)
    except NotReadyError:
        return None


def study_cost(space: Workspace, name: CostMultiplier, regime: str | None = None) -> Multiplier:
    """m(S) of a study under a cost that its spec names.

    Raises:
        NotReadyError: it is to be the measured one, and nothing was measured.
    """
    return study_multiplier(space.study, name, regime, profile_of(space) if name == "measured" else None)


def named_records(store: Store, names: Iterable[str], make_it: str) -> list[RunRecord]:
    """The records of runs by their fingerprints, in their order.

    Raises:
        NotReadyError: a run is missing.
    """
    found = store.find_all(names)
    require(sum(record is None for record in found), found, store, make_it)
    return [record for record in found if record is not None]


def require(missing: int, of: Sized, store: Store, make_it: str) -> None:
    """Refuse to go on while runs of a store are missing.

    Raises:
        NotReadyError: some are.
    """
    if missing:
        raise NotReadyError(f"{missing} of {len(of)} runs in {store.home}", make_it=make_it)


def storage_of(space: Workspace, asked: str | None = None) -> str:
    """Where trials are kept: what was asked for, else what the study says, else SQLite beside the trials' runs.

    A path in the study is below the project's root; one that was asked for is as the shell understands it.
    """
    said = space.study.spec.search.storage if space.study.spec.search else None
    if asked is not None:
        return asked
    if said is None:
        return str(space.layout.search(space.name) / STORAGE)
    return said if "://" in said else str(space.layout.root / said)
