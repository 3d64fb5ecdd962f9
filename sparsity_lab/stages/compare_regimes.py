"""Compare: the regimes of a study against one another, from the runs that are there."""

from __future__ import annotations

from dataclasses import dataclass

from sparsity_lab.artifacts.store import Store
from sparsity_lab.console.tables import text_table
from sparsity_lab.errors import NotReadyError
from sparsity_lab.report.regimes import compare, regime_tables
from sparsity_lab.results.regimes import RegimeComparison
from sparsity_lab.stages.workspace import Workspace


@dataclass(frozen=True)
class Compared:
    """A comparison, and how many runs of the grid it rests on."""

    info: RegimeComparison
    runs: int
    missing: int


def compare_study(space: Workspace) -> Compared:
    """Compare the regimes of a study's grid, as far as it is trained.

    Raises:
        NotReadyError: the data is not prepared, or no run is there.
        RecordError: a record is damaged.
    """
    store = Store(space.layout.runs(space.name))
    found = [store.find(name) for name in space.grid().runs]
    records = [record for record in found if record is not None]
    if not records:
        raise NotReadyError(store.home, make_it=f"sparsity-lab train {space.name}")
    return Compared(compare(records, space.study), len(records), len(found) - len(records))


def compared_text(compared: Compared) -> str:
    """The comparison as tables for a terminal."""
    tables = regime_tables(compared.info)
    parts = [f"{table.caption}\n\n{text_table(table.head, table.rows)}" for table in tables]
    if not tables:
        parts.append(f"nothing to compare: no other regime has the N, D and S of {compared.info.reference}")
    if compared.missing:
        parts.append(f"{compared.missing} of {compared.runs + compared.missing} runs are not trained yet")
    return "\n\n".join(parts)
