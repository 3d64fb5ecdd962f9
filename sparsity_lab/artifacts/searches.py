"""What a search found: trials, and for each budget the optimal sparsity with its uncertainty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import model_validator

from sparsity_lab.artifacts.atomic import replacing, write_text
from sparsity_lab.artifacts.reading import read_bytes, read_json
from sparsity_lab.artifacts.records import FrozenModel
from sparsity_lab.errors import NotReadyError, RecordError
from sparsity_lab.messages import Message
from sparsity_lab.specs.base import misfit, of_one_length
from sparsity_lab.specs.choices import BudgetUnit, CostMultiplier, DataUnit, SearchObjective

TrialState = Literal["finished", "diverged", "stopped"]
Source = Literal["dense", "design", "sampler", "grid", "repeat"]
"""who asked for a trial: the dense anchor, the space-filling start, the sampler, the study's grid, or a repeat of an
earlier trial with another seed"""
ParameterValue = float | str
Params = Mapping[str, ParameterValue]
"""what a run is asked for, by name: sparsity, regime, pattern, allocation, start, end, learning_rate_factor"""


class TrialRecord(FrozenModel):
    """One trial: a point tried at a budget, and the run that answered."""

    number: int
    """slot in its study's order of trials"""
    source: Source
    nonzero: int
    """N asked"""
    data_dense: int
    """the budget it was tried at, as data"""
    params: Params
    """as asked"""
    seed: int
    sparsity: float
    """sparsity of the trained weights"""
    data: int
    """D_S, what the run was given"""
    state: TrialState
    loss: float | None
    """held-out loss at the end, nats; None where the run diverged or was stopped"""
    values: tuple[float, ...] | None
    """of the objectives, in the search's order; None as with `loss`"""
    flops: float
    """training FLOPs under the search's cost: 6 N D m(S); of a stopped run, its share"""
    fingerprint: str

    @property
    def finished(self) -> bool:
        """Whether the trial has a loss."""
        return self.state == "finished"


class CurveBand(FrozenModel):
    """A smooth curve of loss against sparsity with its interval, for drawing; all four are of one length."""

    sparsity: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    _together = of_one_length("sparsity", "mean", "low", "high")


class BudgetResult(FrozenModel):
    """The answer for one N and one budget."""

    nonzero: int
    budget: float
    """in the search's budget unit"""
    data_dense: int
    """the budget as data: what a dense model of N weights sees for it"""
    compute: float
    """C = 6 N D_dense, FLOPs"""
    trials: tuple[TrialRecord, ...]
    dense_loss: float | None
    """held-out loss of the dense run at this budget; the mean over seeds where there are several"""
    best_sparsity: float
    """sparsity of the best point tried"""
    best_loss: float
    """its held-out loss, the mean over seeds where there are several; NaN where no trial finished"""
    best_params: Params
    """what was asked for it"""
    optimum: float | None
    """sparsity at the minimum of the smooth curve through the trials; None when there is no such minimum"""
    optimum_low: float | None
    optimum_high: float | None
    """interval of the optimum at the result's confidence; at the edge of the space the edge itself"""
    optimum_loss: float | None
    """value of the smooth curve at its minimum"""
    gained: float | None
    """loss of the dense run less the loss at the optimum, nats; the dense one as measured or from the curve at S = 0,
    whichever leaves the narrower interval"""
    gained_low: float | None
    gained_high: float | None
    flat_low: float
    flat_high: float
    """no sparsity between these can be told from the best at the result's confidence"""
    curve: CurveBand | None
    estimate: Literal["law", "curve"]
    """where the optimum comes from: a smooth curve through this budget's trials, or half of that and half of a law
    fitted to all trials"""
    verdict: Message
    """identified, at an edge, or not identified, and why"""


class Trend(FrozenModel):
    """Whether the optimal sparsity of one N changes with data."""

    nonzero: int
    slope: float | None
    """change of the optimal sparsity for each doubling of the data budget"""
    slope_low: float | None
    slope_high: float | None
    probability_rising: float | None
    """share of resampled searches whose slope is positive"""
    test: Message
    """name of the test"""
    p_value: float | None
    """two-sided, of the hypothesis that the optimum is the same at every budget"""
    verdict: Message
    """whether the optimum rises or falls, or why that cannot be told"""


class SearchResult(FrozenModel):
    """A finished search."""

    version: Literal[3] = 3
    study: str
    regimes: tuple[str, ...]
    cost: CostMultiplier
    budget_unit: BudgetUnit
    data_unit: DataUnit
    objectives: tuple[SearchObjective, ...]
    sampler: str
    noise: float
    """standard deviation of the held-out loss, nats: between seeds, or of the trials about the smooth curve"""
    noise_source: Message
    """where `noise` comes from"""
    confidence: float
    budgets: tuple[BudgetResult, ...]
    """in order of N, then of the budget"""
    explored: tuple[TrialRecord, ...] = ()
    """trials at other N and budgets than asked, where the law sampler found them cheaper for what they teach"""
    trends: tuple[Trend, ...]
    """of each N"""
    front: tuple[TrialRecord, ...] = ()
    """trials that no other beats in every objective; empty where there is one objective"""
    flops: float
    """training FLOPs of all trials together under the search's cost"""

    @model_validator(mode="before")
    @classmethod
    def _of_version_2(cls, stored: Any) -> Any:
        """Before version 3 a result held sentences, which are said as they stand; what is damaged stays as it is."""
        if not isinstance(stored, dict) or stored.get("version") != 2:
            return stored

        def said(held: Any, *names: str) -> Any:
            if not isinstance(held, dict):
                return held
            texts = {name: held[name] for name in names if isinstance(held.get(name), str)}
            return held | {name: {"key": "search-as-written", "values": {"text": text}} for name, text in texts.items()}

        def each(name: str, *names: str) -> dict[str, Any]:
            held = stored.get(name)
            return {name: [said(one, *names) for one in held]} if isinstance(held, list) else {}

        newer = {"version": 3, **each("budgets", "verdict"), **each("trends", "test", "verdict")}
        return {**said(stored, "noise_source"), **newer}

    @model_validator(mode="after")
    def _a_value_an_objective(self) -> Self:
        wanted = len(self.objectives)
        for trial in (*self.trials, *self.front):
            if trial.values is not None and len(trial.values) != wanted:
                raise misfit(f"trial {trial.number} holds {len(trial.values)} values of {wanted} objectives", "budgets")
        return self

    @property
    def nonzero(self) -> tuple[int, ...]:
        """Every N that has an answer, in order."""
        return tuple(dict.fromkeys(budget.nonzero for budget in self.budgets))

    @property
    def trials(self) -> tuple[TrialRecord, ...]:
        """Every trial of every budget, and those explored elsewhere."""
        return (*(trial for budget in self.budgets for trial in budget.trials), *self.explored)

    def of(self, nonzero: int) -> tuple[BudgetResult, ...]:
        """The answers for one N, in order of the budget."""
        return tuple(budget for budget in self.budgets if budget.nonzero == nonzero)


SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("source", pa.string()),
        ("role", pa.string()),
        ("nonzero", pa.int64()),
        ("data_dense", pa.int64()),
        ("regime", pa.string()),
        ("asked_sparsity", pa.float64()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("learning_rate_factor", pa.float64()),
        ("pattern", pa.string()),
        ("allocation", pa.string()),
        ("seed", pa.int64()),
        ("sparsity", pa.float64()),
        ("data", pa.int64()),
        ("state", pa.string()),
        ("loss", pa.float64()),
        ("training_cost", pa.float64()),
        ("inference_cost", pa.float64()),
        ("flops", pa.float64()),
        ("on_front", pa.bool_()),
        ("fingerprint", pa.string()),
    ]
)
"""one row a trial; `role` is "budget" for trials at a budget asked for and "explored" for others"""


def write_search(result: SearchResult | None, path: Path) -> None:
    """Write a result as readable JSON, and beside it as `.parquet` one row a trial; each file atomically.

    None says that the study asks for no search: the JSON is `null` and the table has no rows.

    Raises:
        MachineError: the disk is full or the folder cannot be written.
    """
    rows = [] if result is None else list(_rows(result))
    with replacing(path.with_suffix(".parquet")) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), temporary)
    write_text(path, (result.model_dump_json(indent=1) if result else "null") + "\n")


def read_search(path: Path) -> SearchResult | None:
    """Read a result; None for a study that asks for no search.

    Raises:
        NotReadyError: the search has not been run.
        RecordError: the file is damaged.
    """
    if not path.exists():
        raise NotReadyError(path, make_it=f"sparsity-lab search {path.stem}")
    if read_bytes(path, RecordError).strip() == b"null":
        return None
    return read_json(path, SearchResult, "a search result")


def _rows(result: SearchResult) -> Iterator[dict[str, Any]]:
    front = {trial.fingerprint for trial in result.front}
    asked = [trial for budget in result.budgets for trial in budget.trials]
    for role, trials in (("budget", asked), ("explored", result.explored)):
        for trial in trials:
            known: dict[str, Any] = {
                **trial.params,
                **dict(zip(result.objectives, trial.values or (), strict=False)),
                **trial.model_dump(exclude={"params", "values"}),
                "asked_sparsity": trial.params.get("sparsity"),
                "role": role,
                "on_front": trial.fingerprint in front,
            }
            yield {name: known.get(name) for name in SCHEMA.names}
