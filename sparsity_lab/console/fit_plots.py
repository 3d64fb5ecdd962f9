"""Every figure that a fit allows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sparsity_lab.laws.documents.comparison import comparison_document
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.multipliers import multiplier
from sparsity_lab.laws.questions.optimum import acts_on_size_alone
from sparsity_lab.laws.rows.runs import Runs
from sparsity_lab.plots import figures, info_fits, info_laws
from sparsity_lab.plots.style import save
from sparsity_lab.stages.fit_runs import FittedForm, RunsFit

MOST_LEVELS = 8
"""sparsities in a legend"""


def draw_fit(fitted: RunsFit, folder: Path) -> str:
    """Write the figures as PNG and SVG; gives the names of the PNGs, a line each."""
    return "\n".join(str(save(figure, folder, name)[0]) for name, figure in _figures(fitted))


def _figures(fitted: RunsFit) -> Iterator[tuple[str, Figure]]:
    for name, one in fitted.forms.items():
        yield from ((f"{kind}-{name}", figure) for kind, figure in _of_form(one, fitted))
    laws = {f"{name}, fitted": one.law for name, one in fitted.forms.items() if has_gains(one.law)}
    if fitted.against and has_gains(fitted.against.given):
        laws[fitted.against.name] = fitted.against.given
    if len(fitted.forms) > 1:
        yield "forms", figures.forms_figure(comparison_document(fitted.comparison, fitted.source))
    if laws:
        trained = float(fitted.input.runs.sparsity.max())
        info = info_fits.gains(laws, trained=trained, confidence=fitted.settings.confidence)
        yield "gains", figures.gains_figure(info)
        cost = multiplier(fitted.settings.cost)
        optima = info_fits.optima(laws, cost, fitted.input.runs, confidence=fitted.settings.confidence)
        yield "optima", figures.optima_figure(optima)


def _of_form(one: FittedForm, fitted: RunsFit) -> Iterator[tuple[str, Figure]]:
    runs, law = one.fit.runs, one.law
    levels = _levels(runs)
    yield "predicted", figures.parity_figure(info_laws.parity(runs, law, one.fit.r2), levels)
    yield "residuals", figures.residuals_figure(info_fits.residuals(runs, law), levels)
    yield "loss", figures.loss_against_data_figure(info_fits.loss_curves(runs, law))
    if one.diagnostics.profiles:
        yield "profiles", figures.profiles_figure(one.diagnostics)
    if law.form.sees_sparsity and not law.form.levels:
        cost = multiplier(fitted.settings.cost)
        yield "contours", figures.optimum_contours_figure(info_laws.optimum_contours(law, cost, runs))


def has_gains(law: Law) -> bool:
    """Whether the gain is one curve: the form sees every sparsity, and through the size alone."""
    return law.form.sees_sparsity and not law.form.levels and acts_on_size_alone(law)


def _levels(runs: Runs) -> list[float]:
    """Sparsities for a legend, thinned evenly where there are many."""
    every = np.unique(np.round(runs.sparsity, 3))
    return [float(value) for value in every[np.linspace(0, len(every) - 1, min(len(every), MOST_LEVELS)).astype(int)]]
