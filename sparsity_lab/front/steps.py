"""The steps of a study as functions: each calls the function of `sparsity_lab.stages` that its command calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sparsity_lab.errors import SpecError

if TYPE_CHECKING:
    from rich.console import Console

    from sparsity_lab.console.notebook_laws import FitView
    from sparsity_lab.console.notebook_steps import (
        DataView,
        HardwareView,
        PlanView,
        ReportView,
        RunsView,
        SearchView,
        StudyView,
        SweepView,
    )
    from sparsity_lab.stages.workspace import Workspace

    AnyStudy = str | PathLike[str] | StudyView
    Source = AnyStudy | Sequence[str] | Mapping[str, Any] | Sequence[Mapping[str, Any]] | object

Root = str | PathLike[str]


def study(
    source: AnyStudy | Mapping[str, Any],
    *,
    root: Root = ".",
    overrides: Mapping[str, Any] | Sequence[str] | None = None,
    name: str | None = None,
) -> StudyView:
    """Open a study: `specs/studies/NAME.yaml` of the project, else one that ships with the package.

    Args:
        source: its name, or the path of its file; or what the file is to say, as values, which is written first.
        root: the project folder, which holds specs/.
        overrides: fields that are to be other than the file says, dotted, as `--set` has them:
            `{"grid.sparsity": [0, 0.5]}`. The file stays as it is, and results go to folders of their own.
        name: of the study that is made of values.

    Raises:
        SpecError: there is no such study, with those that are, or a spec is wrong; or a study of this name says
            something else than the values.
    """
    from sparsity_lab.console.notebook_steps import StudyView
    from sparsity_lab.specs.files import overrides_of
    from sparsity_lab.stages.workspace import compose_study, open_workspace

    asked = overrides_of(overrides)
    if isinstance(source, StudyView):
        if not asked:
            return source
        space = source.value
        layout, path, before = space.layout, space.study.path, space.study.overrides
        return StudyView(open_workspace(str(path), layout.root, (*before, *asked)))
    if isinstance(source, Mapping):
        source = compose_study(source, name, Path(root))
    elif name is not None:
        raise SpecError("names a study made of values", field="name", found=name, expected="a mapping of fields")
    return StudyView(open_workspace(fspath(source), Path(root), asked))


def plan(source: AnyStudy, *, root: Root = ".", workers: int | None = None, compute: str | None = None) -> PlanView:
    """Every run of a study before anything is trained: dimensions, counts, FLOPs, time.

    Args:
        source: the study.
        root: the project folder.
        workers: runs at once on this machine; one a core when None.
        compute: where else, a file in specs/compute by its name, or its path.

    Raises:
        SpecError: a run cannot be laid out, or there is no such study or compute file.
    """
    from sparsity_lab.console.notebook_steps import PlanView
    from sparsity_lab.specs.compute import chosen_compute
    from sparsity_lab.stages.plan import plan_study

    there = chosen_compute(Path(root), compute, workers) if compute else None
    return PlanView(plan_study(_opened(source, root), workers, there))


def prepare(
    source: AnyStudy, *, root: Root = ".", workers: int | None = None, shards: str | None = None, quiet: bool = False
) -> DataView:
    """Step 1: turn the study's source into shards and a manifest.

    Args:
        source: the study.
        root: the project folder.
        workers: processes that read and tokenize; one a core when None.
        shards: a folder or URI for the shards; data/STUDY when None.
        quiet: show no progress.

    Raises:
        DataError: the source is missing, empty or damaged.
    """
    from sparsity_lab.console.notebook_steps import DataView
    from sparsity_lab.stages.prepare import prepare_study

    return DataView(prepare_study(_opened(source, root), _console(quiet), workers=workers, shards=shards))


def measure(
    source: AnyStudy, *, root: Root = ".", seconds: float = 45.0, again: bool = False, quiet: bool = False
) -> HardwareView:
    """Step 2: time dense and sparse arithmetic of the study's models on this machine.

    Args:
        source: the study, its data prepared.
        root: the project folder.
        seconds: that everything may take.
        again: measure even where this was measured here before.
        quiet: show no progress.

    Raises:
        NotReadyError: the data is not prepared.
    """
    from sparsity_lab.console.notebook_steps import HardwareView
    from sparsity_lab.stages.measure import measure_study
    from sparsity_lab.stages.measure_plan import MeasureRequest

    request = MeasureRequest(seconds=seconds)
    return HardwareView(measure_study(_opened(source, root), request, again=again, console=_console(quiet)))


def train(
    source: AnyStudy,
    *,
    root: Root = ".",
    workers: int | None = None,
    compute: str | None = None,
    retry: Literal["diverged"] | None = None,
    quiet: bool = False,
) -> SweepView:
    """Step 3: train the runs of the grid that no store has.

    Args:
        source: the study, its data prepared.
        root: the project folder.
        workers: parallel runs on this machine; one a core when None.
        compute: where runs are trained, a file in specs/compute by its name, or its path.
        retry: runs that are trained again although they are there.
        quiet: show no progress.

    Raises:
        NotReadyError: the data is not prepared.
        SparsityLabError: a run cannot be trained; finished runs are kept.
    """
    from sparsity_lab.console.notebook_steps import SweepView
    from sparsity_lab.stages.train import train_study

    space = _opened(source, root)
    return SweepView(train_study(space, workers=workers, compute=compute, retry=retry, console=_console(quiet)))


def search(
    source: AnyStudy, *, root: Root = ".", workers: int | None = None, storage: str | None = None, quiet: bool = False
) -> SearchView:
    """Step 4: find the sparsity with the lowest loss at each budget, or go on with that.

    Args:
        source: the study, its grid trained.
        root: the project folder.
        workers: parallel runs on this machine; one a core when None.
        storage: where trials are kept, a file or a database's URL; as the study says when None.
        quiet: show no progress.

    Raises:
        NotReadyError: the grid is not trained yet.
    """
    from sparsity_lab.console.notebook_steps import SearchView
    from sparsity_lab.stages.searching.run import search_study

    space = _opened(source, root)
    return SearchView(search_study(space, workers=workers, storage=storage, console=_console(quiet)))


def fit(
    source: Source,
    *,
    root: Root = ".",
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
    form: str | Sequence[str] | None = None,
    data_unit: Literal["tokens", "images"] = "tokens",
    **settings: Any,
) -> FitView:
    """Step 5: fit scaling laws to the runs of a study, or to runs from anywhere.

    A study by itself does the study's own step, which writes its laws below laws/; of anything else nothing is written.

    Args:
        source: a study; a file of runs or several; or a table in memory: columns by name, a list of rows, a table of
            pyarrow, polars or pandas.
        root: the project folder.
        columns: what sparsity, nonzero, data and loss are called in a table, or how they follow:
            `{"data": "steps * 65536"}`.
        where: keeps the rows that meet a condition: `"sparsity <= 0.75"`.
        form: of the law, or several; frantar for tables, and what the spec names for a study, when None.
        data_unit: what data counts in a table.
        settings: any field of a study's `law`: starts, bootstrap, residual, delta, pin, ...

    Raises:
        NotReadyError: runs or the search of the study are missing.
        RecordError: the runs cannot carry a form, or the table is wrong, with row and column.
    """
    from sparsity_lab.console.notebook_laws import FitView
    from sparsity_lab.stages.fit import FitRequest, fit_asked, fit_study

    tables = _tables(source, Path(root))
    if not tables and not (columns or where or form or settings):
        return FitView(fit_study(_opened(source, root)))
    changes = {**settings, "forms": (form,) if isinstance(form, str) else tuple(form)} if form else settings
    asked = FitRequest(changes, columns or {}, where, data_unit)
    return FitView(fit_asked(tables or _opened(source, root), asked, Path(root)))


def report(source: AnyStudy, *, root: Root = ".", language: Literal["en", "ja"] = "en") -> ReportView:
    """Step 6: write reports/STUDY: a page for people, the same as Markdown and JSON, and figures.

    Raises:
        NotReadyError: an earlier step has not been run.
    """
    from sparsity_lab.console.notebook_steps import ReportView
    from sparsity_lab.stages.report import report_study

    return ReportView(report_study(_opened(source, root), language))


def run(
    source: AnyStudy, *, root: Root = ".", workers: int | None = None, seconds: float = 30.0, quiet: bool = False
) -> ReportView:
    """All steps of a study in order, each of which does only what is missing; arguments as theirs."""
    opened = study(source, root=root)
    prepare(opened, workers=workers, quiet=quiet)
    measure(opened, seconds=seconds, quiet=quiet)
    train(opened, workers=workers, quiet=quiet)
    search(opened, workers=workers, quiet=quiet)
    fit(opened)
    return report(opened)


def runs(source: AnyStudy, *, root: Root = ".") -> RunsView:
    """The finished runs of a study, of grid and search; none are made."""
    from sparsity_lab.console.notebook_steps import RunsView
    from sparsity_lab.stages.runs import list_runs

    return RunsView(list_runs(_opened(source, root)))


def _opened(source: Any, root: Root) -> Workspace:
    return study(source, root=root).value


def _console(quiet: bool) -> Console:
    from sparsity_lab.messages.terminal import Terminal

    return Terminal(quiet=quiet)


def _tables(source: Any, root: Path) -> list[Any]:
    """Files and tables of runs; none where the source is a study."""
    from sparsity_lab.console.notebook_steps import StudyView
    from sparsity_lab.laws.rows.in_memory import table_of
    from sparsity_lab.laws.rows.tables import are_tables, refuse_other_files
    from sparsity_lab.stages.workspace import names_study

    if isinstance(source, StudyView):
        return []
    if isinstance(source, str | PathLike):
        if are_tables([fspath(source)]):
            return [fspath(source)]
        if not names_study(fspath(source), root):
            refuse_other_files(fspath(source))
        return []
    if isinstance(source, Sequence) and source and all(isinstance(one, str | PathLike) for one in source):
        return [fspath(one) for one in source]
    return [table_of(source)]
