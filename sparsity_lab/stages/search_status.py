"""Where a study's search stands, as a table and as JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sparsity_lab.artifacts.searches import BudgetResult
from sparsity_lab.console.tables import text_table
from sparsity_lab.messages.numbers import count, duration
from sparsity_lab.results.noise import seed_noise
from sparsity_lab.search.status import SearchStatus, Work, read_status
from sparsity_lab.search.storage.backends import place_of
from sparsity_lab.search.storage.leases import Lease, Timeouts
from sparsity_lab.specs.fingerprint import fingerprint
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.stages.search_asked import location, search_of
from sparsity_lab.stages.search_setup import RunRequests, ground_of
from sparsity_lab.stages.train import grid_records
from sparsity_lab.stages.workspace import Workspace

STATES = ("finished", "running", "waiting", "stopped", "diverged")
HEAD = ("N", "data", "done", "runs", "waits", "ended", "lost", "optimum", "gained")


@dataclass(frozen=True)
class Status:
    """A search as its storage knows it.

    Attributes:
        storage: where that is, without a password.
        standing: what it says.
    """

    storage: str
    standing: SearchStatus


def search_status(space: Workspace, storage: str | None = None) -> Status:
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
    standing = read_status(
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
    return Status(str(place_of(place)), standing)


def status_json(status: Status) -> dict[str, Any]:
    """For programs."""
    standing = status.standing
    return {
        "study": standing.result.study,
        "storage": status.storage,
        "planned": standing.planned,
        "over": standing.over,
        "flops": standing.result.flops,
        "places": [
            {"nonzero": N, "data_dense": D, **{state: counts.get(state, 0) for state in STATES}}
            for (N, D), counts in standing.counts.items()
        ],
        "optima": [_optimum_json(budget) for budget in standing.result.budgets],
        "work": [_work_json(work) for work in standing.work],
    }


def status_text(status: Status) -> str:
    """For people: a row for each N and budget, then who works on what."""
    standing, result = status.standing, status.standing.result
    lines = [
        f"{result.study}: {standing.over} of {standing.planned} trials are over, {result.flops:.3g} training FLOPs",
        f"storage {status.storage}",
    ]
    if not standing.counts:
        return "\n".join((*lines, f"no trial yet: sparsity-lab search {result.study}"))
    lines += ["", text_table(HEAD, list(_rows(standing)))]
    if standing.work:
        lines += ["", *(_told(work) for work in standing.work)]
    return "\n".join(lines)


def _rows(standing: SearchStatus) -> Iterator[tuple[str, ...]]:
    answers = {(budget.nonzero, budget.data_dense): budget for budget in standing.result.budgets}
    for place, counts in standing.counts.items():
        N, D = place
        yield (count(N), f"{D:,}", *(str(counts.get(state, 0)) for state in STATES), *_answer(answers.get(place)))


def _answer(budget: BudgetResult | None) -> tuple[str, str]:
    """Optimum and gain; nothing for a place that only teaches the law."""
    if budget is None:
        return "", ""
    if budget.optimum is None or budget.optimum_low is None or budget.optimum_high is None:
        return "unknown", "-"
    half = (budget.optimum_high - budget.optimum_low) / 2
    return f"{budget.optimum:.2f} ±{half:.2f}", "-" if budget.gained is None else f"{budget.gained:+.4f}"


def _told(work: Work) -> str:
    run = f"N {count(work.nonzero)}, data {count(work.data_dense)}, S {work.sparsity:.3g}"
    if work.lease is None:
        return f"claimed by nobody known: {run}"
    owner = work.lease.owner
    return f"{owner.host or owner.machine[:8]}, process {owner.process}: {run}, {_life(work.lease)}"


def _life(lease: Lease) -> str:
    """How long ago its holder gave a sign of life, by the holder's clock and ours."""
    if lease.owner.gone:
        return "dead; the next process goes on with it"
    ago = max(0.0, time.time() - lease.at)
    return f"silent for {duration(ago)}" if ago > Timeouts().grace else f"alive {duration(ago)} ago"


def _optimum_json(budget: BudgetResult) -> Mapping[str, Any]:
    fields = {"nonzero", "budget", "data_dense", "optimum", "optimum_low", "optimum_high", "gained", "verdict"}
    return budget.model_dump(mode="json", include=fields)


def _work_json(work: Work) -> Mapping[str, Any]:
    return {**vars(work), "lease": None if work.lease is None else {**work.lease.json(), "gone": work.lease.owner.gone}}
