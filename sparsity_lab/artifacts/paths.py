"""The steps of a study, and every file and folder name of the project as a pure function of a root and its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

STEPS: Mapping[str, str] = MappingProxyType(
    {
        "prepare": "source -> tokens or images -> shards and manifest",
        "measure": "seconds of dense and sparse arithmetic on this machine, for the study's models",
        "train": "the runs of the grid that no store has",
        "search": "Optuna looks for the optimal sparsity of each data budget",
        "fit": "scaling laws with their uncertainty and held-out error",
        "report": "figures and the page that a manager can read",
    }
)
"""what a study goes through, in order, and what each is about: the stages of dvc.yaml, and a command each"""

RECORD = "record.json"
WEIGHTS = "weights.safetensors"
CHECKPOINT = "checkpoint.safetensors"
TABLE = "runs.parquet"
STORAGE = "optuna.db"
MANIFEST = "manifest.json"
CLAIM = "for"


@dataclass(frozen=True)
class Layout:
    """Where things lie below the project's root (the folder that holds `dvc.yaml` and `specs/`)."""

    root: Path = Path()

    @property
    def specs(self) -> Path:
        """Spec files, edited by people."""
        return self.root / "specs"

    def study_spec(self, study: str) -> Path:
        """The study's own spec file."""
        return self.specs / "studies" / f"{study}.yaml"

    def data(self, study: str) -> Path:
        """Prepared shards and manifest."""
        return self.root / "data" / study

    def preparation(self, study: str) -> Path:
        """What is finished of prepared data that are under way."""
        return self.local / "prepare" / study

    def runs(self, study: str) -> Path:
        """The records of the study's grid, one folder a run."""
        return self.root / "runs" / study

    def table(self, study: str) -> Path:
        """All finished and diverged runs of grid and search, one row each."""
        return self.root / "laws" / study / TABLE

    def search(self, study: str) -> Path:
        """The search's storage and the records of its trials."""
        return self.root / "search" / study

    def search_result(self, study: str) -> Path:
        """What the search found."""
        return self.root / "search" / f"{study}.json"

    def law(self, study: str, form: str) -> Path:
        """A fitted law."""
        return self.root / "laws" / study / f"{form}.json"

    def comparison(self, study: str) -> Path:
        """The fitted forms side by side."""
        return self.laws(study) / "comparison.json"

    def diagnostics(self, study: str) -> Path:
        """What the runs determine of each law: verdicts and profiles."""
        return self.laws(study) / "diagnostics.json"

    def laws(self, study: str) -> Path:
        """All fitted laws of a study, its table of runs and diagnostics."""
        return self.root / "laws" / study

    def metrics(self, study: str, step: str) -> Path:
        """Numbers for `dvc metrics`: one file for each step that has any."""
        return self.root / "metrics" / study / f"{step}.json"

    def hardware(self, study: str) -> Path:
        """The profile that was measured for a study on this machine."""
        return self.root / "hardware" / f"{study}.json"

    def report(self, study: str) -> Path:
        """index.html and figures."""
        return self.root / "reports" / study

    @property
    def local(self) -> Path:
        """Everything that stays on this machine: neither git nor DVC sees it."""
        return self.root / ".sparsity-lab"

    @property
    def archive(self) -> Path:
        """Runs that no study asks for at present."""
        return self.local / "store"

    @property
    def cache(self) -> Path:
        """What this machine verified, fetched or unpacked of prepared data."""
        return self.local / "cache"

    @property
    def scratch(self) -> Path:
        """A folder for each unfinished run."""
        return self.local / "scratch"

    def checkpoint(self, fingerprint: str) -> Path:
        """The latest state of an unfinished run."""
        return self.scratch / fingerprint / CHECKPOINT

    def claim(self, fingerprint: str) -> Path:
        """Names the store that an unfinished run was last trained for."""
        return self.scratch / fingerprint / CLAIM

    def lease(self, fingerprint: str) -> Path:
        """Which worker of a cluster trains a run, and its last sign of life."""
        return self.local / "leases" / f"{fingerprint}.json"

    @property
    def sweeps(self) -> Path:
        """A folder for each set of runs that was given to a cluster with a shared file system."""
        return self.local / "sweeps"

    def lock(self, name: str) -> Path:
        """A lock file: one trainer a run, one sweep a study."""
        return self.local / "locks" / f"{name}.lock"


def index_of(home: Path) -> Path | None:
    """The index of the runs in a folder: one of a grid, a search, or the archive; None for any other folder."""
    if home.parent.name in {"runs", "search"}:
        return Layout(home.parent.parent).local / "index" / f"{home.parent.name}-{home.name}.index"
    layout = Layout(home.parent.parent)
    return layout.local / "index" / "archive.index" if home == layout.archive else None
