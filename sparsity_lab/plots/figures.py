"""Whole figures: a page of axes, drawn, labelled, with its legend."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sparsity_lab.laws.documents.comparison import ComparisonDocument
from sparsity_lab.laws.documents.diagnostics import FormDiagnostics
from sparsity_lab.plots import draw_fits, draw_hardware, draw_laws, draw_regimes, draw_runs, draw_search
from sparsity_lab.plots.info_fits import Gains, OptimumCurves, Residuals
from sparsity_lab.plots.info_hardware import SpeedUps
from sparsity_lab.plots.info_laws import OptimumContours, Parity
from sparsity_lab.plots.info_runs import LossAgainstData, TrainingCurves
from sparsity_lab.plots.info_search import Front, LossUnderBudgets, OptimumAgainstData
from sparsity_lab.plots.picture import label
from sparsity_lab.plots.style import INK, below_legend, legend_entry, outside_legend, sparsity_handles, styled
from sparsity_lab.results.places import DifferencesAndNoise
from sparsity_lab.results.regimes import EntriesAt, Match, RegimeComparison, ranked

PANEL_WIDTH, PANEL_HEIGHT = 2.7, 2.5
"""inches"""
MOST_COLUMNS = 4


def loss_against_data_figure(info: LossAgainstData) -> Figure:
    """Loss against data, a panel for each size, on one loss axis."""
    levels = sorted({line.sparsity for panel in info.panels for line in panel.lines})
    with styled():
        figure, grid = _panels(len(info.panels), share_y=True)
        for axes, panel in zip(grid, info.panels, strict=True):
            draw_runs.draw_size_panel(axes, panel, levels, info.data_unit)
        grid[0].set_ylabel(label("label-loss"))
        below_legend(figure, sparsity_handles(levels, line=bool(info.law)), columns=len(levels))
    return figure


def training_curves_figure(info: TrainingCurves) -> Figure:
    """Loss and sparsity over training, one above the other."""
    levels = [curve.sparsity for curve in info.curves]
    with styled():
        figure = Figure(figsize=(6.0, 4.2), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.4, 1])
        draw_runs.draw_losses(upper, info, levels)
        draw_runs.draw_reached(lower, info, levels)
        unit = f"unit-{info.data_unit}"
        upper.set_title(label("label-at-the-end", nonzero=info.nonzero, data=info.data, unit=unit))
        outside_legend(figure, sparsity_handles(levels, line=True), label("label-zeros-at-end"))
    return figure


def seed_noise_figure(info: DifferencesAndNoise) -> Figure:
    """Differences between sparsities, with the band that seeds alone explain."""
    levels = sorted({0.0, *(d.place.sparsity for d in info.differences)})
    rows = len({(d.place.nonzero, d.place.data) for d in info.differences})
    with styled():
        figure = Figure(figsize=(6.4, 1.3 + 0.3 * max(rows, 2)), layout="constrained")
        axes = figure.subplots()
        draw_runs.draw_seed_noise(axes, info, levels)
        outside_legend(figure, [*sparsity_handles(levels)[1:], *draw_runs.noise_handles(info)], label("label-zeros"))
    return figure


def parity_figure(info: Parity, levels: Sequence[float]) -> Figure:
    """Predicted against measured loss, the errors in percent below."""
    with styled():
        figure = Figure(figsize=(5.4, 4.9), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        draw_laws.draw_parity(upper, info)
        draw_laws.draw_relative_errors(lower, info)
        outside_legend(figure, [*_dots(levels), *draw_laws.parity_handles(info)], label("label-zeros"))
    return figure


def speed_ups_figure(info: SpeedUps) -> Figure:
    """Speed-up against sparsity on one machine, with the break-even points."""
    with styled():
        figure = Figure(figsize=(5.8, 4.2), layout="constrained")
        draw_hardware.draw_speed_ups(figure.subplots(), info)
        below_legend(figure, draw_hardware.speed_handles(info))
    return figure


def residuals_figure(info: Residuals, levels: Sequence[float]) -> Figure:
    """Errors against sparsity, size and data, side by side on one axis."""
    with styled():
        figure, grid = _panels(3, share_y=True)
        draw_fits.draw_residuals(grid[0], info, "sparsity")
        draw_fits.draw_residuals(grid[1], info, "nonzero")
        draw_fits.draw_residuals(grid[2], info, "data")
        grid[0].set_ylabel(label("label-relative-error"))
        grid[0].set_title(label("label-law-runs", law=info.law, runs=len(info.error)))
        medians = legend_entry(label("label-median"), INK, linewidth=1.1)
        below_legend(figure, [*_dots(levels), medians], columns=len(levels) + 1)
    return figure


def gains_figure(info: Gains) -> Figure:
    """Dense-equivalent size against sparsity, several laws."""
    return _one_panel(partial(draw_fits.draw_gains, info=info), partial(draw_fits.gain_handles, info))


def optima_figure(info: OptimumCurves) -> Figure:
    """Optimal sparsity against compute in units of the dense-optimal one, several laws."""
    return _one_panel(partial(draw_fits.draw_optima, info=info), partial(draw_fits.optima_handles, info))


def _one_panel(draw: Callable[[Axes], None], handles: Callable[[], list[Line2D]]) -> Figure:
    with styled():
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        draw(figure.subplots())
        outside_legend(figure, handles())
    return figure


def profiles_figure(record: FormDiagnostics) -> Figure:
    """A profile for each parameter, in grey where the runs do not identify it."""
    identified = {verdict.name for verdict in record.verdicts if verdict.identified}
    with styled():
        figure, grid = _panels(len(record.profiles), share_y=False)
        for axes, profile in zip(grid, record.profiles, strict=True):
            known = profile.name in identified and not profile.open_ends
            draw_fits.draw_profile(axes, profile, identified=known)
        grid[0].set_ylabel(label("label-likelihood"))
        below_legend(figure, draw_fits.profile_handles(record.confidence), columns=4)
    return figure


def forms_figure(compared: ComparisonDocument) -> Figure:
    """Every form under every criterion, a panel a criterion, the winner of each filled."""
    judged = [
        name for name, one in compared.criteria.items() if any(value is not None for value in one.values.values())
    ]
    with styled():
        figure = Figure(figsize=(1.9 * len(judged) + 1.4, 0.42 * len(compared.forms) + 1.5), layout="constrained")
        grid = figure.subplots(1, len(judged), sharey=True, squeeze=False).ravel()
        for axes, name in zip(grid, judged, strict=True):
            draw_fits.draw_criterion(axes, compared, name)
        below_legend(figure, draw_fits.criterion_handles(), columns=3)
    return figure


def loss_under_budgets_figure(info: LossUnderBudgets) -> Figure:
    """Loss against sparsity, a panel for each N and budget."""
    with styled():
        figure, grid = _panels(len(info.panels), share_y=False)
        for axes, panel in zip(grid, info.panels, strict=True):
            draw_search.draw_budget(axes, panel, info)
        grid[0].set_ylabel(label("label-loss"))
        below_legend(figure, draw_search.budget_handles(info), columns=3)
    return figure


def optimum_against_data_figure(infos: Sequence[OptimumAgainstData]) -> Figure:
    """Optimal sparsity against the data budget, a panel for each N, on one sparsity axis."""
    with styled():
        figure = Figure(figsize=(3.0 + 3.6 * len(infos), 3.6), layout="constrained")
        grid = figure.subplots(1, len(infos), sharey=True, squeeze=False).ravel()
        for axes, info in zip(grid, infos, strict=True):
            draw_search.draw_optimum_against_data(axes, info)
        grid[0].set_ylabel(label("label-optimum"))
        outside_legend(figure, draw_search.optimum_handles(infos))
    return figure


def fronts_figure(infos: Sequence[Front]) -> Figure:
    """Loss against each other objective, with the trials that no other beats."""
    with styled():
        figure = Figure(figsize=(2.2 + 3.6 * len(infos), 3.4), layout="constrained")
        grid = figure.subplots(1, len(infos), sharey=True, squeeze=False).ravel()
        for axes, info in zip(grid, infos, strict=True):
            draw_search.draw_front(axes, info)
        grid[0].set_ylabel(label("label-loss"))
        outside_legend(figure, draw_search.front_handles(infos[0].sparsity), label("label-zeros"))
    return figure


def optimum_contours_figure(info: OptimumContours) -> Figure:
    """Optimal sparsity over size and compute."""
    with styled():
        figure = Figure(figsize=(6.2, 4.6), layout="constrained")
        axes = figure.subplots()
        filled = draw_laws.draw_contours(axes, info)
        bar = figure.colorbar(filled, ax=axes, pad=0.02, label=label("label-optimum"), spacing="uniform")
        bar.set_ticks(draw_laws.LEVELS.tolist(), labels=[f"{100 * level:.3g}" for level in draw_laws.LEVELS])
        below_legend(figure, draw_laws.contour_handles(info))
    return figure


def regimes_figure(info: RegimeComparison, table: EntriesAt) -> Figure:
    """Regimes by loss, a panel for each sparsity, at one N and D."""
    rankings = ranked(table.entries)
    dense = next((entry for entry in table.entries if entry.regime == "dense"), None)
    rows = max(len(ranking) for ranking in rankings.values())
    with styled():
        figure = Figure(figsize=(0.4 + 3.3 * len(rankings), 1.4 + 0.18 * rows), layout="constrained")
        grid = figure.subplots(1, len(rankings), squeeze=False).ravel()
        for axes, ranking in zip(grid, rankings.values(), strict=True):
            draw_regimes.draw_ranking(axes, ranking, info.reference, dense)
        handles = draw_regimes.ranking_handles(info.reference, dense=dense is not None)
        below_legend(figure, handles, columns=len(handles))
    return figure


def matches_figure(matches: Sequence[Match], info: RegimeComparison) -> Figure:
    """From scratch against from trained weights, a panel for each regime and sparsity."""
    with styled():
        figure, grid = _panels(len(matches), share_y=False)
        for axes, match in zip(grid, matches, strict=True):
            draw_regimes.draw_match(axes, match, info.data_unit)
        grid[0].set_ylabel(label("label-loss"))
        below_legend(figure, draw_regimes.match_handles(info.reference), columns=3)
    return figure


def _dots(levels: Sequence[float]) -> list[Line2D]:
    """Legend entries for figures whose points are all round."""
    return [
        legend_entry(str(handle.get_label()), handle.get_color(), marker="o", linestyle="none")
        for handle in sparsity_handles(levels)
    ]


def _panels(number: int, *, share_y: bool) -> tuple[Figure, list[Axes]]:
    """A figure with `number` axes in even rows of at most `MOST_COLUMNS`."""
    rows = math.ceil(number / MOST_COLUMNS)
    columns = math.ceil(number / rows)
    figure = Figure(figsize=(PANEL_WIDTH * max(columns, 2) + 0.4, PANEL_HEIGHT * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=share_y, squeeze=False).ravel()
    for unused in grid[number:]:
        unused.set_axis_off()
    return figure, list(grid[:number])
