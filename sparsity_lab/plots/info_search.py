"""What the figures of a search show: loss under a budget, optimal sparsity against data, and the Pareto front.

Plain numbers, no drawing. "Data budget" means D_dense = C / (6 N): the data that a dense model of N weights sees for
the same cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.searches import BudgetResult, CurveBand, SearchResult, TrialRecord
from sparsity_lab.laws import Interval, Law, Multiplier, chinchilla_data, optimal_sparsity
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.messages import Message
from sparsity_lab.specs.choices import BudgetUnit, DataUnit, SearchObjective

STEPS = 60
"""points of a curve"""
HEADROOM = 0.12
"""share of a panel's height kept free above what it shows"""
TYPICAL, NOISES = 2.0, 8.0
"""a panel shows losses up to so many median heights above the lowest, or so many standard deviations of the noise,
and the dense loss in any case"""


@dataclass(frozen=True, eq=False)
class TriedAt:
    """Finished trials of one budget and kind.

    Attributes:
        sparsity: (trials,) trained.
        loss: (trials,) nats.
    """

    sparsity: FloatArray
    loss: FloatArray

    @classmethod
    def of(cls, trials: Iterable[TrialRecord]) -> TriedAt:
        """Those of the trials that have a loss."""
        table = np.array([(t.sparsity, t.loss) for t in trials if t.loss is not None], dtype=np.float64).reshape(-1, 2)
        return cls(table[:, 0], table[:, 1])


@dataclass(frozen=True, eq=False)
class BudgetPanel:
    """One N and budget: what was tried, what it says, what a law fitted to all runs says.

    Attributes:
        nonzero: N.
        budget: in the search's unit.
        proposed: trials by the sampler.
        opening: the dense anchor, the design and the grid's runs.
        repeats: of earlier trials, with other seeds.
        lost: (trials,) asked sparsity of trials that were given up or diverged.
        curve: of the search's own posterior or smooth curve, with its interval; None where there is none.
        estimate: what `curve` and `optimum` come from.
        optimum: (value, low, high), or None.
        optimum_loss: nats, or None.
        flat: sparsities between these cannot be told from the best.
        law_sparsity: (steps,); empty without a law.
        law_loss: (steps,) nats.
        noise: standard deviation of a loss, nats.
        verdict: the search's.
    """

    nonzero: int
    budget: float
    proposed: TriedAt
    opening: TriedAt
    repeats: TriedAt
    lost: FloatArray
    curve: CurveBand | None
    estimate: str
    optimum: tuple[float, float, float] | None
    optimum_loss: float | None
    flat: tuple[float, float]
    law_sparsity: FloatArray
    law_loss: FloatArray
    noise: float
    verdict: Message

    @property
    def losses(self) -> tuple[FloatArray, FloatArray]:
        """Sparsity and loss of every finished trial."""
        tried = (self.opening, self.proposed, self.repeats)
        return np.concatenate([one.sparsity for one in tried]), np.concatenate([one.loss for one in tried])

    @property
    def drawn_noise(self) -> float:
        """The noise to draw: none where it is not known."""
        return self.noise if np.isfinite(self.noise) else 0.0

    @property
    def frame(self) -> tuple[float, float]:
        """The losses to show, from and to: those near the lowest. Without a finished trial, nothing."""
        S, loss = self.losses
        if not loss.size:
            return -np.inf, np.inf
        noise = self.drawn_noise
        low = min(float(loss.min()), self.optimum_loss if self.optimum_loss is not None else np.inf)
        heights = loss - low
        telling = max(TYPICAL * float(np.median(heights)), NOISES * noise, float(heights[S == 0].max(initial=0.0)))
        height = max(min(float(heights.max()), telling), 2 * noise, 1e-6 * abs(low), 1e-9)
        return low - noise - 0.08 * height, low + noise + (1 + HEADROOM) * height

    @property
    def beyond(self) -> FloatArray:
        """Sparsity of the trials whose loss is above the frame."""
        S, loss = self.losses
        return S[loss > self.frame[1]]


@dataclass(frozen=True, eq=False)
class LossUnderBudgets:
    """Figure: loss against sparsity, a panel for each N and budget."""

    budget_unit: BudgetUnit
    data_unit: DataUnit
    confidence: float
    panels: tuple[BudgetPanel, ...]
    law: str

    @property
    def sizes(self) -> int:
        """How many N there are."""
        return len({panel.nonzero for panel in self.panels})


@dataclass(frozen=True, eq=False)
class OptimumAgainstData:
    """Figure: optimal sparsity against the data budget, for one N.

    Attributes:
        nonzero: N.
        data: (steps,) D_dense.
        law: the fitted law's optimal sparsity and its interval, each (steps,), or None without a law.
        chinchilla: D_dense for which the dense model is compute-optimal, or None.
        measured: least and most D_dense of what the law was fitted to.
        found: (data, optimum, low, high) of each budget whose optimum the search identified, in order of data.
        flat: (data, low, high) of each budget whose optimum it did not.
        highest: the highest sparsity that was trained.
        confidence: of the intervals.
    """

    nonzero: int
    data_unit: DataUnit
    data: FloatArray
    law: Interval | None
    chinchilla: float | None
    measured: tuple[float, float]
    found: tuple[tuple[float, float, float, float], ...]
    flat: tuple[tuple[float, float, float], ...]
    highest: float
    confidence: float

    @property
    def chinchilla_in_view(self) -> bool:
        """Whether the dense optimum lies among the budgets shown."""
        return self.chinchilla is not None and bool(self.data[0] < self.chinchilla < self.data[-1])


@dataclass(frozen=True, eq=False)
class Front:
    """Figure: loss against another objective, and the trials that no other beats in all objectives.

    Attributes:
        objective: on the horizontal axis.
        cost: (trials,) of all finished trials.
        loss: (trials,) nats.
        sparsity: (trials,).
        best: (trials,) bool: on the front.
    """

    objective: SearchObjective
    cost: FloatArray
    loss: FloatArray
    sparsity: FloatArray
    best: NDArray[np.bool_]


def loss_under_budgets(result: SearchResult, law: Law | None, cost: Multiplier) -> LossUnderBudgets:
    """Trials, optimum and the law's curve L(S, N, D_dense / m(S)) for each N and budget; `cost` is the search's m."""
    panels = tuple(_budget_panel(budget, result, law, cost) for budget in result.budgets)
    return LossUnderBudgets(
        result.budget_unit, result.data_unit, result.confidence, panels, law.form.name if law else ""
    )


def optimum_against_data(
    records: Sequence[RunRecord],
    nonzero: int,
    law: Law | None,
    result: SearchResult | None,
    cost: Multiplier,
    *,
    confidence: float,
) -> OptimumAgainstData:
    """The law's optimum from a third of the least to three times the most data budget, and the search's own.

    Args:
        records: finished runs that the law was fitted to, at least one.
        nonzero: N of the curve.
        law: one that sees sparsity, or None.
        result: a search, of which the answers for `nonzero` are drawn; or None.
        cost: m(S).
        confidence: of the law's band.
    """
    shown = result.of(nonzero) if result else ()
    trained, seen = np.array([(record.sparsity, record.data) for record in records], dtype=np.float64).T
    budgets = np.append(seen * cost(trained), [budget.data_dense for budget in shown])
    data = np.geomspace(budgets.min() / 3, budgets.max() * 3, STEPS)
    return OptimumAgainstData(
        nonzero=nonzero,
        data_unit=records[0].data_unit,
        data=data,
        law=optimum_interval(law, nonzero, data, cost, confidence) if law else None,
        chinchilla=float(chinchilla_data(law, nonzero)) if law else None,
        measured=(float(budgets.min()), float(budgets.max())),
        found=tuple(sorted(found for budget in shown if (found := _found(budget)) is not None)),
        flat=tuple(
            (budget.data_dense, budget.flat_low, budget.flat_high) for budget in shown if _found(budget) is None
        ),
        highest=max(record.spec.sparsity for record in records),
        confidence=confidence,
    )


def optimum_interval(law: Law, nonzero: float, data: FloatArray, cost: Multiplier, confidence: float) -> Interval:
    """Optimal sparsity at each data budget with its interval; the interval is the value for a law without draws."""
    if law.draws is None:
        value = optimal_sparsity(law, nonzero, data, cost)
        return Interval(value, value, value)
    return law.interval(lambda each: optimal_sparsity(each, nonzero, data, cost), confidence)


def fronts(result: SearchResult) -> tuple[Front, ...]:
    """Loss against each other objective; nothing where the loss is the only one."""
    at = {objective: place for place, objective in enumerate(result.objectives)}
    rows = [(trial, trial.values) for trial in result.trials if trial.values is not None]
    if len(at) < 2 or not rows:
        return ()
    table = np.array([values for _, values in rows], dtype=np.float64)
    best = {trial.fingerprint for trial in result.front}
    on_front = np.array([trial.fingerprint in best for trial, _ in rows], dtype=bool)
    sparsity = np.array([trial.sparsity for trial, _ in rows])
    others = (objective for objective in at if objective != "loss")
    return tuple(Front(each, table[:, at[each]], table[:, at["loss"]], sparsity, on_front) for each in others)


def _budget_panel(budget: BudgetResult, result: SearchResult, law: Law | None, cost: Multiplier) -> BudgetPanel:
    highest = max((trial.sparsity for trial in budget.trials), default=0.0)
    curve = np.linspace(0, max(0.5, highest), STEPS) if law else np.empty(0)
    found = _found(budget)
    return BudgetPanel(
        nonzero=budget.nonzero,
        budget=budget.budget,
        proposed=TriedAt.of(t for t in budget.trials if t.source == "sampler"),
        opening=TriedAt.of(t for t in budget.trials if t.source in {"dense", "design", "grid"}),
        repeats=TriedAt.of(t for t in budget.trials if t.source == "repeat"),
        lost=np.array([float(t.params.get("sparsity", t.sparsity)) for t in budget.trials if not t.finished]),
        curve=budget.curve,
        estimate=budget.estimate,
        optimum=found[1:] if found else None,
        optimum_loss=budget.optimum_loss,
        flat=(budget.flat_low, budget.flat_high),
        law_sparsity=curve,
        law_loss=law.predict(curve, budget.nonzero, budget.data_dense / cost(curve)) if law else curve,
        noise=result.noise,
        verdict=budget.verdict,
    )


def _found(budget: BudgetResult) -> tuple[float, float, float, float] | None:
    optimum, low, high = budget.optimum, budget.optimum_low, budget.optimum_high
    if optimum is None or low is None or high is None:
        return None
    return float(budget.data_dense), optimum, low, high
