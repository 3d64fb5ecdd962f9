"""The report's figures of the optimum: by the search and by the law; with their words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sparsity_lab.artifacts.searches import SearchResult
from sparsity_lab.messages import words_in
from sparsity_lab.messages.numbers import count, percent
from sparsity_lab.plots import figures, info_search
from sparsity_lab.plots.picture import Picture
from sparsity_lab.report.evidence import Evidence
from sparsity_lab.results.places import asked_sizes
from sparsity_lab.specs.choices import CostMultiplier


def search_pictures(evidence: Evidence) -> Iterator[Picture]:
    """Optimal sparsity against data, loss under each budget, the Pareto front, and what Optuna draws of the search."""
    yield from _optimum(evidence)
    yield from _budgets(evidence)
    yield from _fronts(evidence)
    yield from evidence.inputs.drawn


def _optimum(evidence: Evidence) -> Iterator[Picture]:
    study, result = evidence.inputs.study, evidence.inputs.search
    if evidence.law is None and result is None:
        return
    sizes = asked_sizes(study)
    shown = result.nonzero if result else (sizes[len(sizes) // 2],)
    cost_name = result.cost if result else study.spec.law.cost
    cost = evidence.cost(cost_name, _search_regime(evidence))
    infos = [
        info_search.optimum_against_data(
            evidence.finished, nonzero, evidence.law, result, cost, confidence=evidence.confidence
        )
        for nonzero in shown
    ]
    caption = (
        f"Optimal sparsity against the data budget for {_sizes(shown)} non-zero weights, where "
        f"{cost_words(cost_name)}. Blue: the law with the {percent(evidence.confidence)} interval of its bootstrap. "
        f"Diamonds: the search{_basis(result)}. Hatched: budgets beyond those measured; above the dashed "
        "line no model was trained."
    )
    alt = f"Line chart of optimal sparsity in percent against data budget. {' '.join(map(_optimum_alt, infos))}"
    yield Picture(
        "optimum-against-data", "Optimal sparsity and data", caption, alt, figures.optimum_against_data_figure(infos)
    )


def _budgets(evidence: Evidence) -> Iterator[Picture]:
    result = evidence.inputs.search
    if result is None or not result.budgets:
        return
    cost = evidence.cost(result.cost, _search_regime(evidence))
    info, said = info_search.loss_under_budgets(result, evidence.law, cost), words_in("en")
    caption = (
        f"Held-out loss against sparsity where every point of a panel costs the same, N = {_sizes(result.nonzero)}: "
        f"a model of sparsity S sees D = budget / m(S), where {cost_words(result.cost)}. Bars: one standard deviation "
        f"({said(result.noise_source)}). Grey: sparsities that cannot be told from the best at "
        f"{percent(result.confidence)}."
    )
    verdicts = "; ".join(f"{count(panel.budget)}: {said(panel.verdict)}" for panel in info.panels)
    alt = f"{len(info.panels)} charts of loss against sparsity, one for each data budget. {verdicts}."
    yield Picture("loss-under-budgets", "Loss at equal cost", caption, alt, figures.loss_under_budgets_figure(info))


def _fronts(evidence: Evidence) -> Iterator[Picture]:
    result = evidence.inputs.search
    infos = info_search.fronts(result) if result else ()
    if result is None or not infos:
        return
    caption = (
        "Every finished trial of the search, coloured by sparsity; ringed: no other trial is as good in all of "
        f"{', '.join(_OBJECTIVES[each] for each in result.objectives)}."
    )
    points = ", ".join(f"{percent(t.sparsity)} with loss {t.loss:.4f}" for t in result.front if t.loss is not None)
    alt = f"Scatter plots of loss against cost. On the front: {points}."
    yield Picture("pareto-front", "Loss and cost", caption, alt, figures.fronts_figure(infos))


_OBJECTIVES = {"loss": "loss", "training_cost": "training cost", "inference_cost": "inference cost"}


def _search_regime(evidence: Evidence) -> str | None:
    search = evidence.inputs.study.spec.search
    return search.regimes[0] if search else None


def _sizes(sizes: Sequence[int]) -> str:
    return " and ".join(map(count, sizes))


def _basis(result: SearchResult | None) -> str:
    """Says what the search's optima come from: whether they owe anything to a law's form."""
    by_law = result is not None and any(budget.estimate == "law" for budget in result.budgets)
    return " by a law fitted to its own and the grid’s runs" if by_law else ", independent of the law’s form"


def cost_words(cost: CostMultiplier) -> str:
    """What a step costs under a multiplier."""
    words: dict[CostMultiplier, str] = {
        "sparse_schedule": "every multiplication counts at the density of its moment",
        "dense_hardware": "zeros are multiplied like any number",
        "free": "training costs nothing",
        "measured": "a step costs the seconds that the hardware profile gives it",
    }
    return words[cost]


def _optimum_alt(info: info_search.OptimumAgainstData) -> str:
    found = ", ".join(f"{percent(optimum)} at {count(data)}" for data, optimum, _, _ in info.found)
    law = (
        f"The law runs from {percent(float(info.law.value[0]))} to {percent(float(info.law.value[-1]))}."
        if info.law
        else ""
    )
    return " ".join(part for part in (law, f"The search finds {found}." if found else "") if part)
