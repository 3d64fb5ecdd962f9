"""What a run's final weights turned out to be worth in use: kept beside its record, no part of its identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from sparsity_lab.artifacts.atomic import locked, write_text
from sparsity_lab.artifacts.paths import EVALUATIONS, RECORD, Layout
from sparsity_lab.artifacts.reading import read_json
from sparsity_lab.artifacts.records import FrozenModel, RunRecord
from sparsity_lab.artifacts.store import all_homes
from sparsity_lab.errors import RecordError

EvaluationKind = Literal["text", "images", "task"]
FINAL = "final"
"""the weights that training left; others are rounded, as an export names them"""


class EvaluationEntry(FrozenModel):
    """Scores of one set of weights on one text, set of images, or task."""

    kind: EvaluationKind
    about: str
    """name of the file or folder, or of the task"""
    sha256: str
    """of the text, of images and labels, or of a task's documents, prompts and answers"""
    weights: str = FINAL
    settings: Mapping[str, int] = {}
    """tokens of a window, limit of documents, examples shown before the question: those that were said"""
    tools: Mapping[str, str]
    """versions of what computed the scores, by name"""
    examples: Annotated[int, Field(ge=0)]
    """tokens predicted, images, or documents of a task"""
    scores: Mapping[str, float]
    """by metric: nats_per_token, perplexity, bits_per_byte; top_1, top_5 as fractions; or as the task names them"""
    deviations: Mapping[str, float] = {}
    """standard errors of scores, where a task tells them"""

    @property
    def key(self) -> dict[str, Any]:
        """What was evaluated and how: an evaluation of the same key replaces an earlier one."""
        told = self.model_dump(exclude={"scores", "deviations", "examples"})
        return told if self.kind == "task" else {name: value for name, value in told.items() if name != "about"}


class Evaluations(FrozenModel):
    """All evaluations of one run."""

    version: Literal[1] = 1
    fingerprint: str
    evaluations: tuple[EvaluationEntry, ...] = ()


def read_evaluations(folder: Path) -> tuple[EvaluationEntry, ...]:
    """The evaluations in a run's folder, in the order in which they were first made; none where there is no file.

    Raises:
        RecordError: the file is damaged, or another run's.
    """
    path = folder / EVALUATIONS
    if not path.is_file():
        return ()
    found = read_json(path, Evaluations, "a file of evaluations")
    if found.fingerprint != folder.name:
        raise RecordError("is another run's", where=path, field="fingerprint", found=found.fingerprint)
    return found.evaluations


def evaluated(home: Path, records: Iterable[RunRecord]) -> tuple[tuple[RunRecord, EvaluationEntry], ...]:
    """Every evaluation of runs that lie in a folder; errors as `read_evaluations`."""
    return tuple((one, found) for one in records for found in read_evaluations(home / one.fingerprint))


def keep_evaluations(layout: Layout, fingerprint: str, made: Iterable[EvaluationEntry]) -> list[Path]:
    """Write evaluations beside every record of a run in the project; returns the files.

    Raises:
        RecordError: a file that is there is damaged.
        MachineError: a file cannot be written.
    """
    fresh = list(made)
    folders = [home / fingerprint for home in all_homes(layout) if (home / fingerprint / RECORD).is_file()]
    with locked(layout.run_lock(f"evaluations-{fingerprint}")):
        for folder in folders:
            every = list(read_evaluations(folder))
            for one in fresh:
                same = next((place for place, other in enumerate(every) if other.key == one.key), len(every))
                every[same : same + 1] = [one]
            held = Evaluations(fingerprint=fingerprint, evaluations=tuple(every))
            write_text(folder / EVALUATIONS, held.model_dump_json(indent=1) + "\n")
    return [folder / EVALUATIONS for folder in folders]
