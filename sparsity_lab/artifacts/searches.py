"""What a search found: trials, and for each data budget the optimal sparsity with its uncertainty."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from sparsity_lab.artifacts.atomic import write_text
from sparsity_lab.artifacts.records import Value
from sparsity_lab.errors import NotReadyError, RecordError
from sparsity_lab.specs.choices import CostMultiplier, DataUnit

Source = Literal["sampler", "design", "dense"]


class TrialRecord(Value):
    """One trial: a sparsity tried at a budget, and the run that answered."""

    number: int
    source: Source
    """proposed by the sampler, part of the space-filling start, or the dense anchor"""
    sparsity: float
    """sparsity of the trained weights"""
    data: int
    """D_S, what the run was given"""
    loss: float | None
    """held-out loss, nats; None when the run diverged"""
    fingerprint: str


class BudgetResult(Value):
    """The answer for one data budget."""

    data_dense: int
    """the budget as data: what a dense model of N weights sees for the same compute"""
    compute: float
    """C = 6 N D_dense, FLOPs"""
    trials: tuple[TrialRecord, ...]
    dense_loss: float | None
    """held-out loss of the dense run at this budget"""
    best_sparsity: float
    """sparsity of the best trial"""
    best_loss: float
    optimum: float | None
    """sparsity at the minimum of the smooth curve through the trials; None when there is no such minimum"""
    optimum_low: float | None
    optimum_high: float | None
    """interval of the optimum at the result's confidence; at the edge of the space the edge itself"""
    optimum_loss: float | None
    """value of the smooth curve at its minimum"""
    flat_low: float
    flat_high: float
    """all sparsities between these are within noise of the best"""
    verdict: str
    """in words: identified, at an edge, or not identified, and why"""


class Trend(Value):
    """Whether the optimal sparsity changes with data."""

    slope: float | None
    """change of the optimal sparsity for each doubling of the data budget"""
    slope_low: float | None
    slope_high: float | None
    probability_rising: float | None
    """share of resampled searches whose slope is positive"""
    verdict: str
    """in words"""


class SearchResult(Value):
    """A finished search."""

    version: Literal[1] = 1
    study: str
    nonzero: int
    """N asked"""
    cost: CostMultiplier
    data_unit: DataUnit
    noise: float
    """standard deviation of the held-out loss, nats: between seeds, or of the trials about the smooth curve"""
    noise_source: str
    """where `noise` comes from, in words"""
    confidence: float
    budgets: tuple[BudgetResult, ...]
    trend: Trend


def write_search(result: SearchResult | None, path: Path) -> None:
    """Write a result as readable JSON, atomically; None says that the study asks for no search."""
    write_text(path, (result.model_dump_json(indent=1) if result else "null") + "\n")


def read_search(path: Path) -> SearchResult | None:
    """Read a result; None for a study that asks for no search.

    Raises:
        NotReadyError: the search has not been run.
        RecordError: the file is damaged.
    """
    if not path.is_file():
        raise NotReadyError(path, make_it=f"sparsity-lab search {path.stem}")
    content = path.read_bytes()
    if content.strip() == b"null":
        return None
    try:
        return SearchResult.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RecordError(
            f"is no search result: {first['msg']}", where=path, field=".".join(map(str, first["loc"])) or None
        ) from None
