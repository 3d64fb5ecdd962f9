"""What every stage begins with: the study, its prepared data, the hardware it is judged on, where things lie."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Collection, Container, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from sparsity_lab.artifacts.atomic import clear_unfinished, write_text
from sparsity_lab.artifacts.paths import Layout
from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.searches import SearchResult, read_search
from sparsity_lab.artifacts.store import Store
from sparsity_lab.cost.speeds import study_multiplier
from sparsity_lab.data.manifest import Manifest, expected_shape, model_shape, read_manifest
from sparsity_lab.errors import NotReadyError, SpecError, asked_by
from sparsity_lab.hardware.profile import load_profile, read_profile
from sparsity_lab.laws.questions.multipliers import Multiplier
from sparsity_lab.specs.bundle import IDLE, Study, load_study
from sparsity_lab.specs.choices import CostMultiplier
from sparsity_lab.specs.compute import Compute, here
from sparsity_lab.specs.datasets import DataShape
from sparsity_lab.specs.files import Override, as_yaml, check_name, find_named, known_names, parse
from sparsity_lab.specs.fingerprint import NamedRuns, digest, name_runs
from sparsity_lab.specs.hardware import HardwareProfile
from sparsity_lab.sweep.jobs import Workplace
from sparsity_lab.sweep.resolve import grid_points, grid_runs, start_files

MOST_SIZES = 3
"""whose training steps are timed"""

SHORT = 12
"""characters of a fingerprint that name a run to people"""


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
            raise NotReadyError(
                self.layout.data(self.name), make_it=f"sparsity-lab prepare {self.study.typed}"
            ) from None
        if manifest.spec != self.study.dataset:
            raise NotReadyError(
                f"data for the present {self.study.spec.dataset} spec (its spec has changed since it was prepared)",
                make_it=f"sparsity-lab prepare {self.study.typed}",
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
            accumulation=compute.run.accumulation,
            checkpoint_seconds=compute.checkpoints.seconds,
            checkpoints=uri if uri is None or "://" in uri else str(self.layout.root.resolve() / uri),
            start_files=start_files(self.study),
        )

    def search_result(self) -> SearchResult | None:
        """What the search found; None for a study that asks for none, whatever an earlier one left.

        Raises:
            NotReadyError: the search has not been run.
            RecordError: its result is damaged.
        """
        return read_search(self.layout.search_result(self.name)) if self.study.spec.search else None

    def clear_unfinished(self) -> None:
        """Remove what a kill left half-written among results, where DVC would take it for a part of them."""
        layout, name, found = self.layout, self.name, self.layout.search_result(self.name)
        metrics = {layout.metrics(name, step).parent for step in IDLE}
        folders = (layout.laws(name), layout.report(name), layout.plot(name, "any").parent, *metrics)
        clear_unfinished(*folders, found, found.with_suffix(".parquet"), layout.hardware(name))

    def write_metrics(self, step: str, metrics: dict[str, Any]) -> None:
        """Write one step's few telling numbers for `dvc metrics`; all of them are in its results."""
        write_text(self.layout.metrics(self.name, step), json.dumps(metrics, indent=2) + "\n")

    def write_plot(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Write a table for `dvc plots`."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows((columns, *rows))
        write_text(self.layout.plot(self.name, name), text.getvalue())


def open_workspace(study: str, root: Path = Path(), overrides: Sequence[Override] = ()) -> Workspace:
    """A study by its name, by the path of its file, or as DVC calls the stage of it that it is running.

    The pipeline passes "$DVC_STAGE" (`train@NAME`), so that no name is ever part of a shell's command.

    Args:
        study: its name or file.
        root: the project folder.
        overrides: fields that are other than the file says. Results of steps that they change lie in folders of their
            own, so that nothing of the study as it is written is touched; the others are shared with it.

    Raises:
        SpecError: there is no such study, with those that are, or a spec is wrong.
    """
    if study == os.environ.get("DVC_STAGE"):
        study = study.rpartition(".yaml:")[2].partition("@")[2]
        check_name("study", study, "params.yaml: studies")
    opened = load_study(find_named("study", study, root), overrides)
    names = {step: opened.name_of(step) for step in IDLE} if opened.overrides else {}
    return Workspace(Layout(root, names), opened)


def names_study(name: str, root: Path) -> bool:
    """Whether `open_workspace` knows a study of this name, or of the stage that DVC is running; no file is opened."""
    return name == os.environ.get("DVC_STAGE") or name in known_names("study", root)


def compose_study(values: Mapping[str, Any], name: str | None, root: Path = Path()) -> Path:
    """Write the file of a study that is given as values, so that commands and DVC know it too; gives its path.

    Args:
        values: the fields; `version` and `kind` may be left out.
        name: of the study; of what it says when None, so that equal values are one study.
        root: the project folder, whose specs the study names.

    Raises:
        SpecError: the values are no study, or a file of this name says something else.
    """
    where = "values" if name is None else name
    tree = {"version": 1, "kind": "study", **json.loads(as_yaml(dict(values), where))}
    named = f"study-{digest(tree)}" if name is None else name
    check_name("study", named)
    path = Layout(root).study_spec(named)
    if path.exists():
        if parse(path)[0] != tree:
            expected = "another name, or overrides of what the file says"
            raise SpecError("a study of this name says something else", where=path, field="name", expected=expected)
        return path
    text = io.StringIO()
    YAML().dump(tree, text)
    write_text(path, text.getvalue())
    try:
        load_study(path)
    except SpecError:
        path.unlink()
        raise
    return path


def profile_of(space: Workspace) -> HardwareProfile:
    """The hardware that a study is judged on: the one its spec names, else this machine as it was measured.

    Raises:
        NotReadyError: it names none, and nothing was measured.
        RecordError: there is no profile of that name, or it is damaged.
    """
    if (named := space.study.spec.hardware) is not None:
        with asked_by(partial(space.study.place, "hardware"), "hardware"):
            return load_profile(space.layout.root, named)
    path = space.layout.hardware(space.name)
    if not path.exists():
        raise NotReadyError(path, make_it=f"sparsity-lab measure {space.study.typed}")
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


def named_records(store: Store, names: Collection[str], make_it: str) -> list[RunRecord]:
    """The records of runs by their fingerprints, in their order.

    Raises:
        NotReadyError: a run is missing.
    """
    found = store.find_all(names)
    require([name for name, record in zip(names, found, strict=True) if record is None], found, store, make_it)
    return [record for record in found if record is not None]


def require(missing: Sequence[str], of: Sized, store: Store, make_it: str) -> None:
    """Refuse to go on while runs of a store are missing, which are told by the first of them.

    Raises:
        NotReadyError: some are.
    """
    if missing:
        which = f"{missing[0][:SHORT]}{' and others' if len(missing) > 1 else ''}"
        raise NotReadyError(f"{len(missing)} of {len(of)} runs in {store.home.absolute()} ({which})", make_it=make_it)


def measured_sizes(study: Study) -> tuple[str | None, tuple[int, ...]]:
    """The regime whose training steps are timed, if any prunes, and the N at which they are: at most `MOST_SIZES`."""
    regime = study.spec.law.regime or next(iter(study.sparse_regimes), None)
    points = list(grid_points(study))
    of_regime = {round(one.nonzero) for one in points if one.sparsity > 0 and one.regime == regime}
    sizes = sorted(of_regime or {round(one.nonzero) for one in points})
    few = len(sizes) <= MOST_SIZES
    return regime, tuple(sizes) if few else (sizes[0], sizes[len(sizes) // 2], sizes[-1])


def settings_read(study: Study) -> Mapping[str, Mapping[str, Any]]:
    """What some steps read of a study's spec, every default filled in, by step.

    Prepare and report are not among them, and of train only what may be left out: the rest are whole sections.
    """
    spec = study.spec.model_dump(mode="json")
    runs = {name: spec[name] for name in ("model", "objective", "training", "grid")}
    regime, sizes = measured_sizes(study)
    timed = {name: spec["training"][name] for name in ("batch", "optimizer", "precision")}
    searched = {name: spec["search"][name] for name in ("regimes", "cost")} if spec["search"] else None
    return {
        "measure": {"model": spec["model"], "objective": spec["objective"], **timed, "regime": regime, "sizes": sizes},
        "train": {"keep_weights": spec["keep_weights"]},
        "search": runs
        | {name: spec[name] for name in ("search", "hardware", "keep_weights")}
        | {"confidence": study.spec.law.confidence},
        "fit": {
            "law": spec["law"],
            "regime": study.law_regime,
            "search": searched,
            "hardware": spec["hardware"],
            "data_unit": spec["grid"]["data_unit"],
        },
    }


def write_settings(space: Workspace) -> Path:
    """Write what steps read to `settings/STUDY`, a file a step: an edit that one does not read leaves its file alone.

    DVC cannot depend on a field that may be left out, so its stages depend on these files.
    """
    folder = space.layout.settings(space.name)
    for step, values in settings_read(space.study).items():
        write_text(folder / f"{step}.json", json.dumps(values, indent=1) + "\n")
    return folder
