"""Where a study's search stands."""

from __future__ import annotations

from sparsity_lab.results.noise import seed_noise
from sparsity_lab.search.status import SearchStatus, read_status
from sparsity_lab.specs.fingerprint import fingerprint
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.stages.search_setup import RunRequests, ground_of, location, search_of
from sparsity_lab.stages.train import grid_records
from sparsity_lab.stages.workspace import Workspace


def search_status(space: Workspace, storage: str | None = None) -> SearchStatus:
    """Read where a search stands; nothing is written, and a search that runs is not disturbed.

    Raises:
        SpecError: the study asks for no search.
        NotReadyError: the grid is not trained yet.
        RecordError: the storage is damaged.
        MachineError: the storage cannot be reached.
    """
    spec, place = search_of(space), location(space, storage)
    data_hash = space.manifest().content_hash
    records = {record.fingerprint: record for record in grid_records(space)}
    questions = RunRequests(space.study, spec, space.shape())

    def name(run: RunSpec) -> str:
        return fingerprint(run, data_hash)

    ground, multiplier = ground_of(space, questions, records, name)
    noise = seed_noise(records.values())
    return read_status(
        space.name,
        spec,
        space.study.spec.grid.data_unit,
        multiplier,
        place,
        fingerprint=lambda ask: name(questions.run(ask)),
        ground=ground,
        noise=noise.deviation if noise else None,
        confidence=space.study.spec.law.confidence,
    )
