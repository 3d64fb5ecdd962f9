"""The report's figures, each with a title, a caption on how to read it, and words for those who cannot see it."""

from __future__ import annotations

from collections.abc import Iterator

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.laws import Law, LawDocument, form_named
from sparsity_lab.laws.questions.optimum import acts_on_size_alone
from sparsity_lab.messages import words_in
from sparsity_lab.messages.numbers import count, percent
from sparsity_lab.plots import figures, info_fits, info_laws, info_runs
from sparsity_lab.plots.picture import Picture
from sparsity_lab.report.evidence import Evidence
from sparsity_lab.report.gallery_search import cost_words, search_pictures
from sparsity_lab.report.regimes import compare
from sparsity_lab.results import regimes as info_regimes
from sparsity_lab.results.places import Place, differences_and_noise
from sparsity_lab.results.regimes import regime_name

MOST_REGIMES = 3
"""a study with more gets no figures of its own for each regime"""


def pictures(evidence: Evidence) -> Iterator[Picture]:
    """Every figure that the results allow, the most telling first."""
    yield from _comparisons(evidence)
    yield from search_pictures(evidence)
    yield from _contours(evidence)
    yield from _gains(evidence)
    yield from _losses(evidence)
    yield from _forms(evidence)
    yield from _parities(evidence)
    yield from _residuals(evidence)
    yield from _profiles(evidence)
    yield from _noise(evidence)
    yield from _curves(evidence)


def _comparisons(evidence: Evidence) -> Iterator[Picture]:
    info = compare(evidence.inputs.grid, evidence.inputs.study)
    for table in info.tables:
        rankings = info_regimes.ranked(table.entries)
        if not rankings:
            continue
        place = f"N = {count(table.nonzero)} and D = {count(table.data)} {info.data_unit}"
        caption = (
            f"Final held-out loss of every regime from scratch at {place}, the best on top. Ticks: single seeds. "
            "Regimes that begin with trained weights saw more data in all: the tables have them."
        )
        orders = "; ".join(
            f"{percent(level)}: {', '.join(entry.regime for entry in entries)}" for level, entries in rankings.items()
        )
        alt = f"Regimes from the lowest loss to the highest at each sparsity. {orders}."
        figure = figures.regimes_figure(info, table)
        yield Picture(f"regimes-{table.nonzero}-{table.data}", "Regimes at equal N and D", caption, alt, figure)
    if info.matches:
        caption = (
            f"Held-out loss of {info.reference} from scratch over data, and the loss of pruning trained weights on "
            "the data of the pruning phase alone (open point). Diamond: the data from scratch that match it."
        )
        alt = f"{len(info.matches)} charts of loss against data with the level of a trained start."
        figure = figures.matches_figure(info.matches, info)
        yield Picture("trained-start", "From scratch and from trained weights", caption, alt, figure)


def _contours(evidence: Evidence) -> Iterator[Picture]:
    if evidence.law is None:
        return
    study = evidence.inputs.study
    info = info_laws.optimum_contours(evidence.law, evidence.cost(study.spec.law.cost), evidence.fitted_runs)
    caption = (
        f"Optimal sparsity over non-zero weights N and training compute C by the {evidence.law.form.name} law, where "
        f"{cost_words(study.spec.law.cost)}. Dashed: the compute for which a dense model of N weights is optimal. "
        "Dots: the runs that the law was fitted to; far from them it is an extrapolation."
    )
    alt = (
        f"Contour chart; optimal sparsity runs from {percent(float(info.optimum.min()))} to "
        f"{percent(float(info.optimum.max()))}, more with more compute, in lines parallel to the dense-optimal one."
    )
    yield Picture(
        "optimum-contours",
        "Optimal sparsity over size and compute",
        caption,
        alt,
        figures.optimum_contours_figure(info),
    )


def _losses(evidence: Evidence) -> Iterator[Picture]:
    unit = evidence.inputs.study.spec.grid.data_unit
    law = evidence.law
    for regime, places in _regimes(evidence):
        info = info_runs.loss_against_data(places, unit, law.predict if law else None, law.form.name if law else "")
        lines = f" Lines: the {law.form.name} law fitted to all runs." if law else ""
        caption = f"Held-out loss against training data ({regime}); points are runs, each seed one.{lines}"
        alt = f"{len(info.panels)} charts of loss against training data, one for each size, a line for each sparsity."
        yield Picture(
            f"loss-against-data-{regime}", "Loss and data", caption, alt, figures.loss_against_data_figure(info)
        )


def _parities(evidence: Evidence) -> Iterator[Picture]:
    levels = evidence.inputs.study.spec.grid.sparsity
    for name, document in evidence.inputs.laws.items():
        info = info_laws.parity(evidence.fitted_runs, Law.from_document(document), document.fit.r2, _refit(document))
        held = (
            " Open points: runs of the largest D, predicted by a refit that did not see them."
            if info.held_out.any()
            else ""
        )
        fit = f"The fit: {words_in()(document.fit.status)}."
        caption = f"Loss predicted by {name} against measured loss, and the error in percent.{held} {fit}"
        r2 = "" if info.r2 is None else f" R squared is {info.r2:.4f}."
        alt = f"Scatter chart of predicted against measured loss of {len(info.measured)} runs.{r2}"
        yield Picture(
            f"predicted-{name}", f"Predicted and measured: {name}", caption, alt, figures.parity_figure(info, levels)
        )


def _gains(evidence: Evidence) -> Iterator[Picture]:
    laws = [Law.from_document(one) for one in evidence.inputs.laws.values() if one.fit.converged]
    shown = {
        law.form.name: law for law in laws if law.form.sees_sparsity and not law.form.adapt and acts_on_size_alone(law)
    }
    if not shown:
        return
    trained = float(evidence.fitted_runs.sparsity.max())
    info = info_fits.gains(shown, trained=trained, confidence=evidence.confidence)
    caption = (
        "Gain against sparsity by every law that has one: how many times larger a dense model must be to reach the "
        f"loss of a sparse one of N non-zero weights on the same data. Bands: {percent(info.confidence)} intervals. "
        "Right of the dashed line no model was trained."
    )
    ends = ", ".join(f"{curve.name} {curve.gain.value[-1]:.3g}" for curve in info.curves)
    highest = percent(float(info.curves[0].sparsity[-1]))
    alt = f"Line chart of gain against sparsity; at {highest}: {ends}."
    yield Picture("gains", "What zeros are worth", caption, alt, figures.gains_figure(info))


def _forms(evidence: Evidence) -> Iterator[Picture]:
    compared = evidence.inputs.comparison
    if compared is None or len(compared.forms) < 2:
        return
    winners = "; ".join(f"{name}: {one.winner}" for name, one in compared.criteria.items() if one.winner)
    caption = (
        "Law forms fitted to the same runs, with their numbers of parameters. The objective is the mean Huber loss in "
        "sample; AICc charges for parameters; the others are errors on runs that a refit did not see. Left is better, "
        "filled is best; a cross wins nothing, because that fit has not converged or is degenerate. The columns answer "
        "different questions and are not blended into one score."
    )
    alt = f"Dot charts of {len(compared.forms)} forms under {len(compared.criteria)} criteria. Best by {winners}."
    yield Picture("forms", "Law forms side by side", caption, alt, figures.forms_figure(compared))


def _residuals(evidence: Evidence) -> Iterator[Picture]:
    if evidence.law is None:
        return
    info = info_fits.residuals(evidence.fitted_runs, evidence.law)
    worst = ", ".join(f"{label[:12]} {percent(error, 2)}" for label, error in info.worst)
    caption = (
        f"Errors of the {info.law} law against sparsity, size and data. A line of medians that bends away from zero "
        f"is a dependence that the form misses. Furthest off: {worst}."
    )
    alt = f"Three scatter charts of relative errors of {len(info.error)} runs around zero."
    figure = figures.residuals_figure(info, evidence.inputs.study.spec.grid.sparsity)
    yield Picture("residuals", "Where the law errs", caption, alt, figure)


def _profiles(evidence: Evidence) -> Iterator[Picture]:
    record = evidence.inputs.diagnostics.get(evidence.law.form.name) if evidence.law else None
    if record is None or not record.profiles:
        return
    loose = [
        words_in().say("name-reason", name=one.name, reason=one.reason) for one in record.verdicts if not one.identified
    ]
    caption = (
        "How much worse the fit becomes when one parameter is held at a value and all others are fitted again. Where "
        f"the curve crosses the dashed line the {percent(record.confidence)} interval ends; a curve that never does "
        "leaves that side open."
    )
    known = f" Not identified: {'; '.join(loose)}." if loose else " Everything asked for is identified."
    alt = f"Profile likelihoods of {len(record.profiles)} parameters.{known}"
    yield Picture("profiles", "What the runs determine", caption + known, alt, figures.profiles_figure(record))


def _noise(evidence: Evidence) -> Iterator[Picture]:
    for regime, places in _regimes(evidence):
        info = differences_and_noise(places, evidence.inputs.study.spec.grid.data_unit)
        if not info.differences:
            continue
        band = (
            " The band is ±2 standard deviations of a difference between two runs that differ in their seed only."
            if info.noise
            else " No run was repeated with another seed, so there is no band of noise."
        )
        difference = f"Loss of sparse runs less that of dense ones of equal N and D ({regime})"
        caption = f"{difference}; left of zero sparse is better.{band}"
        alt = f"Dot chart of {len(info.differences)} differences in loss between sparse and dense runs."
        yield Picture(
            f"noise-{regime}", "Differences and the noise of seeds", caption, alt, figures.seed_noise_figure(info)
        )


def _curves(evidence: Evidence) -> Iterator[Picture]:
    for regime, places in _regimes(evidence):
        info = info_runs.training_curves(places, evidence.inputs.study.spec.grid.data_unit)
        if info is None:
            continue
        caption = (
            f"Held-out loss and share of zeros during training ({regime}), at equal N and D. Grey: the window in which "
            "weights are pruned. A sparse model begins with more weights: N counts those that are left at the end."
        )
        alt = f"Curves of loss and of sparsity over training for {len(info.curves)} runs."
        yield Picture(
            f"training-curves-{regime}", "During training", caption, alt, figures.training_curves_figure(info)
        )


def _regimes(evidence: Evidence) -> Iterator[tuple[str, dict[Place, tuple[RunRecord, ...]]]]:
    """For each regime that prunes: its places, and the dense ones that all regimes share.

    Where a study has more than `MOST_REGIMES`, only the one that the others are compared with.
    """
    study = evidence.inputs.study
    names = {regime_name(run, study) for runs in evidence.places.values() for run in runs} - {"dense"}
    if len(names) > MOST_REGIMES:
        names &= {study.spec.grid.regimes[0]}
    for wanted in sorted(names) or ["dense"]:
        chosen = {
            place: tuple(run for run in runs if regime_name(run, study) in {"dense", wanted})
            for place, runs in evidence.places.items()
        }
        yield wanted, {place: runs for place, runs in chosen.items() if runs}


def _refit(document: LawDocument) -> Law | None:
    """The law fitted without the runs of the largest D, if those were held out."""
    if document.heldout is None or document.heldout.holdout.key != "largest-data":
        return None
    form = form_named(document.form, document.settings)
    return Law(form, form.make_params(document.heldout.params), document.data_unit, document.source)
