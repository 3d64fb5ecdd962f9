"""Where a study's search stands."""

from __future__ import annotations

from sparsity_lab.search.status import SearchStatus, read_status
from sparsity_lab.stages.search_setup import RunRequests, context_of, search_of
from sparsity_lab.stages.train import grid_records
from sparsity_lab.stages.workspace import Workspace, storage_of


def search_status(space: Workspace, storage: str | None = None) -> SearchStatus:
    """Read where a search stands; nothing is written, and a search that runs is not disturbed.

    Raises:
        SpecError: the study asks for no search.
        NotReadyError: the grid is not trained yet.
        RecordError: the storage is damaged.
        MachineError: the storage cannot be reached.
    """
    context = context_of(space, RunRequests.of(space), grid_records(space))
    return read_status(search_of(space), context, storage_of(space, storage))
