"""What a command asks of a search beyond the study's spec: other budgets, more trials, another storage, company."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import ValidationError

from sparsity_lab.artifacts.paths import STORAGE
from sparsity_lab.doctor import usable_cores
from sparsity_lab.errors import SpecError
from sparsity_lab.specs.searches import SearchSpec
from sparsity_lab.stages.workspace import Workspace


def changed(space: Workspace, budgets: Sequence[float] | None = None, trials: int | None = None) -> Workspace:
    """The study with other budgets or numbers of trials; as it is where nothing is asked.

    Raises:
        SpecError: the study asks for no search, or its search cannot be changed so.
    """
    asked = {"budgets": None if budgets is None else tuple(budgets), "trials": trials}
    update = {name: value for name, value in asked.items() if value is not None}
    if not update:
        return space
    spec = search_of(space)
    try:
        search = SearchSpec.model_validate(spec.model_dump(exclude_unset=True) | update)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or None
        raise SpecError(first["msg"], where="search", field=field, found=first["input"]) from None
    study = replace(space.study, spec=space.study.spec.model_copy(update={"search": search}))
    return replace(space, study=study)


def search_of(space: Workspace) -> SearchSpec:
    """The study's search.

    Raises:
        SpecError: it asks for none.
    """
    spec = space.study.spec.search
    if spec is None:
        raise SpecError("the study asks for no search", where=space.study.path, field="search")
    return spec


def location(space: Workspace, asked: str | None = None) -> str:
    """Where trials are kept: what was asked for, else what the study says, else SQLite beside the trials' runs.

    A path in the study is below the project's root; one that was asked for is as the shell understands it.
    """
    said = space.study.spec.search.storage if space.study.spec.search else None
    if asked is not None:
        return asked
    if said is None:
        return str(space.layout.search(space.name) / STORAGE)
    return said if "://" in said else str(space.layout.root / said)


def claimed_at_a_time(storage: str, share: bool | None, workers: int | None) -> int | None:
    """Trials that a process takes at once: as many as it has workers when it shares a search, else None, for all.

    Who names a database shares it unless it says otherwise.
    """
    shares = "://" in storage if share is None else share
    return (workers or usable_cores()) if shares else None
