"""Tasks of EleutherAI's lm-evaluation-harness, asked of a Hugging Face folder; the one module that imports it."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sparsity_lab.errors import CheckpointError, DataError, MachineError, SpecError, refusing
from sparsity_lab.training.determinism import best_device

BATCH = 8
NEED = "pip install 'sparsity-lab[lm-eval]'"
ERROR_OF = "_stderr"
"""follows the name of the metric whose standard error a number is"""


@dataclass(frozen=True)
class TaskRequest:
    """What is asked."""

    names: tuple[str, ...]
    """of tasks, groups and tags, as the harness has them"""
    include: Path | None = None
    """a folder of task files of one's own"""
    limit: int | None = None
    """documents of each task; all when None"""
    shots: int | None = None
    """examples shown before the question; as the task says when None"""


@dataclass(frozen=True)
class TaskScore:
    """One task."""

    name: str
    version: str
    documents: int
    sha256: str
    """of its documents, prompts and answers"""
    scores: Mapping[str, float]
    deviations: Mapping[str, float]
    """standard errors of the scores that have one"""


def harness_version() -> str:
    """The version of lm-evaluation-harness.

    Raises:
        MachineError: it is not installed.
    """
    for package in ("lm_eval", "accelerate"):
        if find_spec(package) is None:
            raise MachineError(f"tasks need the package {package}", field="--tasks", expected=NEED)
    return version("lm_eval")


def task_scores(folder: Path, request: TaskRequest, length: int | None = None) -> list[TaskScore]:
    """Ask tasks of the causal or encoder-decoder model in a folder, on the best device there is.

    Args:
        folder: configuration, weights and tokenizer as `transformers` loads them.
        request: the tasks.
        length: tokens of the longest input; as the configuration says when None.

    Raises:
        MachineError: the harness is not installed.
        SpecError: there is no such task.
        CheckpointError: the folder cannot be loaded.
        DataError: a task cannot be asked: its data are out of reach, or it needs what the model has not.
    """
    harness_version()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    manager = _manager(request)
    with refusing(folder, CheckpointError, "cannot be loaded for tasks"):
        model = import_module("lm_eval.models.huggingface").HFLM(
            pretrained=str(folder), device=str(best_device()), batch_size=BATCH, max_length=length
        )
    with refusing(", ".join(request.names), DataError, "cannot be asked", field="--tasks"):
        found = import_module("lm_eval").simple_evaluate(
            model, tasks=list(request.names), task_manager=manager, limit=request.limit, num_fewshot=request.shots
        )
    return [_score(name, found) for name in found["samples"]]


def _manager(request: TaskRequest) -> Any:
    """The index of tasks: of the folder alone where it has all, for that of the harness takes ten seconds to read."""
    tasks = import_module("lm_eval.tasks")
    if request.include is not None and not request.include.is_dir():
        raise SpecError("no such folder", field="--include-path", found=str(request.include), expected="of task files")
    given = None if request.include is None else str(request.include)
    managers = (
        tasks.TaskManager(include_path=given, include_defaults=known) for known in (False, True)[given is None :]
    )
    manager, missing = None, list[str]()
    for manager in managers:
        missing = [name for name in request.names if not manager.match_tasks([name])]
        if not missing:
            return manager
    assert manager is not None, "there is one at least"
    near = get_close_matches(missing[0], manager.all_tasks, n=3)
    expected = f"one such as {', '.join(near)}" if near else "the name of a task of lm-eval, or --include-path"
    raise SpecError("no such task", field="--tasks", found=missing[0], expected=expected)


def _score(name: str, found: Mapping[str, Any]) -> TaskScore:
    numbers = {metric: value for metric, value in found["results"][name].items() if _is_number(value) and "," in metric}
    deviations = {metric.replace(ERROR_OF, ""): value for metric, value in numbers.items() if ERROR_OF in metric}
    scores = {metric: value for metric, value in numbers.items() if ERROR_OF not in metric}
    samples: Sequence[Mapping[str, Any]] = found["samples"][name]
    return TaskScore(
        name=name,
        version=str(found["versions"].get(name, "")),
        documents=int(found["n-samples"][name]["effective"]),
        sha256=_digest(f"{one['doc_hash']}{one['prompt_hash']}{one['target_hash']}" for one in samples),
        scores={_plain(metric): float(value) for metric, value in scores.items()},
        deviations={_plain(metric): float(value) for metric, value in deviations.items()},
    )


def _digest(hashes: Iterable[str]) -> str:
    """In no order: some harnesses shuffle."""
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _plain(metric: str) -> str:
    """A metric without its filter, where that does nothing."""
    return metric.removesuffix(",none")
