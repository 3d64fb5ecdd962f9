"""The report's figures of the optimum: by the search and by the law; with their words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sparsity_lab.messages import Said, linked, message
from sparsity_lab.messages.numbers import count
from sparsity_lab.plots import figures, info_search
from sparsity_lab.plots.picture import Picture
from sparsity_lab.report.evidence import Evidence
from sparsity_lab.results.places import asked_sizes


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
    by_law = result is not None and any(budget.estimate == "law" for budget in result.budgets)
    caption = message(
        "figure-optimum-by-law" if by_law else "figure-optimum",
        sizes=_sizes(shown),
        cost=f"where-{cost_name}",
        confidence=evidence.confidence,
    )
    alt = [message("figure-optimum-alt")]
    for info in infos:
        if info.law:
            low, high = float(info.law.value[0]), float(info.law.value[-1])
            alt.append(message("figure-optimum-alt-law", low=low, high=high))
        found = [message("optimum-found", S=optimum, data=data) for data, optimum, _, _ in info.found]
        if found:
            alt.append(message("figure-optimum-alt-search", found=linked("pair-comma", found)))
    figure = figures.optimum_against_data_figure(infos)
    yield Picture("optimum-against-data", message("trend-title"), (caption,), tuple(alt), figure)


def _budgets(evidence: Evidence) -> Iterator[Picture]:
    result = evidence.inputs.search
    if result is None or not result.budgets:
        return
    cost = evidence.cost(result.cost, _search_regime(evidence))
    info = info_search.loss_under_budgets(result, evidence.law, cost)
    caption = message(
        "figure-budgets",
        sizes=_sizes(result.nonzero),
        cost=f"where-{result.cost}",
        source=result.noise_source,
        confidence=result.confidence,
    )
    verdicts = tuple(message("budget-verdict", budget=panel.budget, verdict=panel.verdict) for panel in info.panels)
    alt = message("figure-budgets-alt", charts=len(info.panels), verdicts=verdicts)
    figure = figures.loss_under_budgets_figure(info)
    yield Picture("loss-under-budgets", message("figure-budgets-title"), (caption,), (alt,), figure)


def _fronts(evidence: Evidence) -> Iterator[Picture]:
    result = evidence.inputs.search
    infos = info_search.fronts(result) if result else ()
    if result is None or not infos:
        return
    objectives = linked("pair-comma", [message(f"objective-{each}") for each in result.objectives])
    points = [message("front-point", S=t.sparsity, loss=t.loss) for t in result.front if t.loss is not None]
    yield Picture(
        "pareto-front",
        message("figure-front-title"),
        (message("figure-front", objectives=objectives),),
        (message("figure-front-alt", points=linked("pair-comma", points)),),
        figures.fronts_figure(infos),
    )


def _search_regime(evidence: Evidence) -> str | None:
    search = evidence.inputs.study.spec.search
    return search.regimes[0] if search else None


def _sizes(sizes: Sequence[int]) -> Said:
    return linked("pair-and", map(count, sizes))
