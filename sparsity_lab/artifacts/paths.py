"""The steps of a study, and every file and folder name of the project as a pure function of a root and its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
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
SHARDED = "checkpoint.sharded"
FACTS = "facts.json"
TABLE = "runs.parquet"
STORAGE = "optuna.db"
MANIFEST = "manifest.json"
CLAIM = "for"
PROGRESS = "progress.json"
EVALUATIONS = "evaluations.json"


@dataclass(frozen=True)
class Layout:
    """Where things lie below the project's root (the folder that holds `dvc.yaml` and `specs/`)."""

    root: Path = Path()
    names: Mapping[str, str] = field(default_factory=dict, hash=False)
    """by step, what a study's results of it are called where they are shared with another study"""

    @property
    def specs(self) -> Path:
        """Spec files, edited by people."""
        return self.root / "specs"

    def study_spec(self, study: str) -> Path:
        """The study's own spec file."""
        return self.specs / "studies" / f"{study}.yaml"

    def settings(self, study: str) -> Path:
        """What steps read of the study's spec, for DVC: a file a step."""
        return self.root / "settings" / study

    def data(self, study: str) -> Path:
        """Prepared shards and manifest."""
        return self.root / "data" / self.names.get("prepare", study)

    def preparation(self, study: str) -> Path:
        """What is finished of prepared data that are under way."""
        return self.local / "prepare" / self.names.get("prepare", study)

    def runs(self, study: str) -> Path:
        """The records of the study's grid, one folder a run."""
        return self.root / "runs" / self.names.get("train", study)

    def table(self, study: str) -> Path:
        """All finished and diverged runs of grid and search, one row each."""
        return self.root / "laws" / study / TABLE

    def search(self, study: str) -> Path:
        """The search's storage and the records of its trials."""
        return self.root / "search" / self.names.get("search", study)

    def search_result(self, study: str) -> Path:
        """What the search found."""
        return self.root / "search" / f"{self.names.get('search', study)}.json"

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
        return self.root / "metrics" / self.names.get(step, study) / f"{step}.json"

    def plot(self, study: str, name: str) -> Path:
        """A table for `dvc plots`."""
        return self.root / "plots" / study / f"{name}.csv"

    def hardware(self, study: str) -> Path:
        """The profile that was measured for a study on this machine."""
        return self.root / "hardware" / f"{self.names.get('measure', study)}.json"

    def report(self, study: str) -> Path:
        """index.html and figures."""
        return self.root / "reports" / study

    @property
    def local(self) -> Path:
        """Everything that stays on this machine: neither git nor DVC sees it."""
        return self.root / ".sparsity-lab"

    @property
    def original(self) -> Layout:
        """The project of which DVC made this one, a copy for an experiment that goes with it; itself for any other.

        Runs, checkpoints and locks of runs are kept there, so that experiments side by side train a run once, and what
        one has trained outlasts it.
        """
        found = _original(self.root.absolute())
        return self if found is None else replace(self, root=found)

    @property
    def archive(self) -> Path:
        """Runs that no study asks for at present, and those of experiments."""
        return self.original.local / "store"

    @property
    def cache(self) -> Path:
        """What this machine verified, fetched or unpacked of prepared data."""
        return self.local / "cache"

    @property
    def scratch(self) -> Path:
        """A folder for each unfinished run."""
        return self.original.local / "scratch"

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
        """A lock file: one sweep a study."""
        return self.local / "locks" / f"{name}.lock"

    def run_lock(self, fingerprint: str) -> Path:
        """A lock file: one trainer a run."""
        return self.original.lock(fingerprint)


@cache
def _original(root: Path) -> Path | None:
    for place in (root, *root.parents):
        outside, experiment, _ = place.parent.as_posix().partition("/.dvc/tmp/exps")
        if experiment and (place / ".dvc").is_dir():
            return Path(outside) / root.relative_to(place)
    return None


def index_of(home: Path) -> Path | None:
    """The index of the runs in a folder: one of a grid, a search, or the archive; None for any other folder."""
    if home.parent.name in {"runs", "search"}:
        return Layout(home.parent.parent).local / "index" / f"{home.parent.name}-{home.name}.index"
    layout = Layout(home.parent.parent)
    return layout.local / "index" / "archive.index" if home == layout.archive else None
