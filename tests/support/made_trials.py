"""Trials made up from a loss curve, without any run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sparsity_lab.artifacts.searches import BudgetResult, SearchResult, TrialRecord
from sparsity_lab.search.answer.conclude import conclude
from sparsity_lab.search.answer.curve import LossCurve
from sparsity_lab.search.propose.targets import Target
from sparsity_lab.specs.searches import SearchSpec

N = 1_000_000
BUDGET = 300_000_000
SPARSITIES = (0.0, 0.2, 0.45, 0.55, 0.65, 0.75, 0.82, 0.86, 0.9)


def multiplier(sparsity: float) -> float:
    """Cubic ramp from 25 to 75 %, cost at the density of each moment (SCIENCE.md, section 4)."""
    return (1 - 0.625 * sparsity) / (1 - sparsity)


def vit(sparsity: float, data: float, nonzero: float = N) -> float:
    """Frantar et al. 2024, ViT row."""
    size = (2.94e2 * (1 - sparsity) ** 0.821 + 4.68e2) * nonzero**-0.392
    return float(size + (2.37e8 / data) ** 0.890 + 4.517)


def at_equal_cost(budget: float = BUDGET, nonzero: float = N) -> Callable[[float], float]:
    """The ViT law's loss against sparsity at one budget."""
    return lambda s: vit(s, budget / multiplier(s), nonzero)


def true_optimum(budget: float, highest: float = 0.9) -> float:
    """Sparsity with the lowest noiseless loss at equal compute."""
    grid = np.linspace(0, highest, 1801)
    return float(grid[np.argmin([at_equal_cost(budget)(s) for s in grid])])


def settings(**changes: object) -> SearchSpec:
    """A search of one N and budget."""
    fields = {"nonzero": N, "budgets": [BUDGET], "regimes": ["gmp"], "sampler": "tpe", **changes}
    return SearchSpec.model_validate(fields)


def trial(
    number: int,
    sparsity: float,
    loss: float | None,
    *,
    budget: int = BUDGET,
    nonzero: int = N,
    seed: int = 0,
    state: str | None = None,
    values: tuple[float, ...] | None = None,
    source: str | None = None,
    **params: float | str,
) -> TrialRecord:
    """One trial; a loss of None is a diverged run unless `state` says otherwise."""
    data = round(budget / multiplier(sparsity))
    own = (loss,) if loss is not None else None
    return TrialRecord.model_validate(
        {
            "number": number,
            "source": source or ("design" if sparsity else "dense"),
            "nonzero": nonzero,
            "data_dense": budget,
            "params": {"sparsity": sparsity, **({"regime": "gmp"} if sparsity else {}), **params},
            "seed": seed,
            "sparsity": sparsity,
            "data": data,
            "state": state or ("diverged" if loss is None else "finished"),
            "loss": loss,
            "values": values or own,
            "flops": 6.0 * nonzero * budget,
            "fingerprint": f"{nonzero}/{budget}/{number}/{seed}",
        }
    )


def trials(losses: Mapping[float, float | None], budget: int = BUDGET, nonzero: int = N) -> list[TrialRecord]:
    """One trial for each sparsity."""
    return [trial(k, s, y, budget=budget, nonzero=nonzero) for k, (s, y) in enumerate(losses.items())]


def sampled(
    curve: Callable[[float], float], sd: float = 0.0, sparsities: Sequence[float] = SPARSITIES, seed: int = 3
) -> dict[float, float | None]:
    """Losses on a curve with normal noise."""
    rng = np.random.default_rng(seed)
    return {float(s): curve(float(s)) + sd * rng.normal() for s in sparsities}


def asked(budget: int = BUDGET, nonzero: int = N) -> Target:
    """One N and budget."""
    return Target(nonzero, float(budget), budget)


def answer(
    found: Sequence[TrialRecord] | Mapping[float, float | None],
    noise: float | None = None,
    spec: SearchSpec | None = None,
) -> BudgetResult:
    """What is concluded from the trials of one budget."""
    known = trials(found) if isinstance(found, Mapping) else found
    return conclude("s", spec or settings(), "images", {asked(): known}, noise=noise, confidence=0.9).budgets[0]


def several(found: Mapping[int, Sequence[TrialRecord]], noise: float | None = None, nonzero: int = N) -> SearchResult:
    """What is concluded from the trials of several budgets of one N."""
    spec = settings(budgets=list(found), nonzero=nonzero)
    known = {asked(budget, nonzero): each for budget, each in found.items()}
    return conclude("s", spec, "images", known, noise=noise, confidence=0.9)


def law_says(sparsity: float, spread: float) -> LossCurve:
    """What a law says that is sure of its optimum, to a standard deviation; valleys in log density."""
    S, rng = np.linspace(0, 0.9, 37), np.random.default_rng(0)
    optima = np.clip(sparsity + spread * rng.normal(size=(500, 1)), 0, 0.9)
    draws = 2.8 + 0.2 * (np.log1p(-S) - np.log1p(-optima)) ** 2
    return LossCurve(S, draws.mean(axis=0), draws)


def beside_law(cloud: Sequence[TrialRecord], law: LossCurve) -> BudgetResult:
    """What is concluded from trials of one budget beside a law."""
    found = {asked(): cloud}
    return conclude("s", settings(), "images", found, noise=0.01, confidence=0.9, by_law={asked(): law}).budgets[0]
