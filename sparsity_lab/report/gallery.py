"""The report's figures, each with a title, a caption on how to read it, and words for those who cannot see it."""

from __future__ import annotations

from collections.abc import Iterator

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.laws import Law, LawDocument, form_named
from sparsity_lab.laws.questions.optimum import acts_on_size_alone
from sparsity_lab.messages import Message, Value, message
from sparsity_lab.messages.numbers import percent
from sparsity_lab.plots import figures, info_fits, info_laws, info_runs
from sparsity_lab.plots.picture import Picture
from sparsity_lab.report.evidence import Evidence
from sparsity_lab.report.gallery_search import search_pictures
from sparsity_lab.results import regimes as info_regimes
from sparsity_lab.results.places import Place, differences_and_noise

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
    info = evidence.regimes
    for table in info.tables:
        rankings = info_regimes.ranked(table.entries)
        if not rankings:
            continue
        said: dict[str, Value] = {"nonzero": table.nonzero, "data": table.data, "unit": f"unit-{info.data_unit}"}
        orders = tuple(
            message("figure-regimes-order", S=level, regimes=", ".join(entry.regime for entry in entries))
            for level, entries in rankings.items()
        )
        yield Picture(
            f"regimes-{table.nonzero}-{table.data}",
            message("figure-regimes-title"),
            (Message("figure-regimes", said),),
            (message("figure-regimes-alt", orders=orders),),
            figures.regimes_figure(info, table),
        )
    if info.matches:
        yield Picture(
            "trained-start",
            message("figure-matches-title"),
            (message("figure-matches", reference=info.reference),),
            (message("figure-matches-alt", charts=len(info.matches)),),
            figures.matches_figure(info.matches, info),
        )


def _contours(evidence: Evidence) -> Iterator[Picture]:
    if evidence.law is None:
        return
    study = evidence.inputs.study
    info = info_laws.optimum_contours(evidence.law, evidence.cost(study.spec.law.cost), evidence.inputs.runs)
    yield Picture(
        "optimum-contours",
        message("figure-contours-title"),
        (message("figure-contours", law=evidence.law.form.name, cost=f"where-{study.spec.law.cost}"),),
        (message("figure-contours-alt", low=float(info.optimum.min()), high=float(info.optimum.max())),),
        figures.optimum_contours_figure(info),
    )


def _losses(evidence: Evidence) -> Iterator[Picture]:
    unit = evidence.inputs.study.spec.grid.data_unit
    law = evidence.law
    for regime, places in _regimes(evidence):
        info = info_runs.loss_against_data(places, unit, law.predict if law else None, law.form.name if law else "")
        lines = (message("figure-losses-lines", law=law.form.name),) if law else ()
        yield Picture(
            f"loss-against-data-{regime}",
            message("figure-losses-title"),
            (message("figure-losses", regime=regime), *lines),
            (message("figure-losses-alt", charts=len(info.panels)),),
            figures.loss_against_data_figure(info),
        )


def _parities(evidence: Evidence) -> Iterator[Picture]:
    levels = evidence.inputs.study.spec.grid.sparsity
    for name, document in evidence.inputs.laws.items():
        info = info_laws.parity(evidence.inputs.runs, Law.from_document(document), document.fit.r2, _refit(document))
        held = (message("figure-parity-held-out"),) if info.held_out.any() else ()
        r2 = () if info.r2 is None else (message("figure-parity-r2", r2=info.r2),)
        yield Picture(
            f"predicted-{name}",
            message("figure-parity-title", law=name),
            (message("figure-parity", law=name), *held, message("fit-status", status=document.fit.status)),
            (message("figure-parity-alt", runs=len(info.measured)), *r2),
            figures.parity_figure(info, levels),
        )


def _gains(evidence: Evidence) -> Iterator[Picture]:
    laws = [Law.from_document(one) for one in evidence.inputs.laws.values() if one.fit.sound]
    shown = {
        law.form.name: law for law in laws if law.form.sees_sparsity and not law.form.levels and acts_on_size_alone(law)
    }
    if not shown:
        return
    trained = float(evidence.inputs.runs.sparsity.max())
    info = info_fits.gains(shown, trained=trained, confidence=evidence.confidence)
    ends = ", ".join(f"{curve.name} {curve.gain.value[-1]:.3g}" for curve in info.curves)
    yield Picture(
        "gains",
        message("figure-gains-title"),
        (message("figure-gains", confidence=info.confidence),),
        (message("figure-gains-alt", S=float(info.curves[0].sparsity[-1]), ends=ends),),
        figures.gains_figure(info),
    )


def _forms(evidence: Evidence) -> Iterator[Picture]:
    compared = evidence.inputs.comparison
    if compared is None or len(compared.forms) < 2:
        return
    winners = "; ".join(f"{name}: {one.winner}" for name, one in compared.criteria.items() if one.winner)
    alt = message("figure-forms-alt", forms=len(compared.forms), criteria=len(compared.criteria), winners=winners)
    figure = figures.forms_figure(compared)
    yield Picture("forms", message("figure-forms-title"), (message("figure-forms"),), (alt,), figure)


def _residuals(evidence: Evidence) -> Iterator[Picture]:
    if evidence.law is None:
        return
    info = info_fits.residuals(evidence.inputs.runs, evidence.law)
    worst = ", ".join(f"{label[:12]} {percent(error, 2)}" for label, error in info.worst)
    yield Picture(
        "residuals",
        message("figure-residuals-title"),
        (message("figure-residuals", law=info.law, worst=worst),),
        (message("figure-residuals-alt", runs=len(info.error)),),
        figures.residuals_figure(info, evidence.inputs.study.spec.grid.sparsity),
    )


def _profiles(evidence: Evidence) -> Iterator[Picture]:
    record = evidence.inputs.diagnostics.get(evidence.law.form.name) if evidence.law else None
    if record is None or not record.profiles:
        return
    loose = tuple(
        message("name-reason", name=one.name, reason=one.reason) for one in record.verdicts if not one.identified
    )
    known = message("figure-profiles-loose", names=loose) if loose else message("figure-profiles-identified")
    yield Picture(
        "profiles",
        message("figure-profiles-title"),
        (message("figure-profiles", confidence=record.confidence), known),
        (message("figure-profiles-alt", parameters=len(record.profiles)), known),
        figures.profiles_figure(record),
    )


def _noise(evidence: Evidence) -> Iterator[Picture]:
    for regime, places in _regimes(evidence):
        info = differences_and_noise(places, evidence.inputs.study.spec.grid.data_unit)
        if not info.differences:
            continue
        yield Picture(
            f"noise-{regime}",
            message("figure-noise-title"),
            (
                message("figure-noise", regime=regime),
                message("figure-noise-band" if info.noise else "figure-noise-no-band"),
            ),
            (message("figure-noise-alt", differences=len(info.differences)),),
            figures.seed_noise_figure(info),
        )


def _curves(evidence: Evidence) -> Iterator[Picture]:
    for regime, places in _regimes(evidence):
        info = info_runs.training_curves(places, evidence.inputs.study.spec.grid.data_unit)
        if info is None:
            continue
        yield Picture(
            f"training-curves-{regime}",
            message("figure-curves-title"),
            (message("figure-curves", regime=regime),),
            (message("figure-curves-alt", runs=len(info.curves)),),
            figures.training_curves_figure(info),
        )


def _regimes(evidence: Evidence) -> Iterator[tuple[str, dict[Place, tuple[RunRecord, ...]]]]:
    """For each regime that prunes: its places, and the dense ones that all regimes share.

    Where a study has more than `MOST_REGIMES`, only the one that the others are compared with.
    """
    study, name_of = evidence.inputs.study, evidence.inputs.name_of
    names = {name_of(run) for runs in evidence.places.values() for run in runs} - {"dense"}
    if len(names) > MOST_REGIMES:
        names &= {study.spec.grid.regimes[0]}
    for wanted in sorted(names) or ["dense"]:
        chosen = {
            place: tuple(run for run in runs if name_of(run) in {"dense", wanted})
            for place, runs in evidence.places.items()
        }
        yield wanted, {place: runs for place, runs in chosen.items() if runs}


def _refit(document: LawDocument) -> Law | None:
    """The law fitted without the runs of the largest D, if those were held out."""
    if document.heldout is None or document.heldout.holdout.key != "largest-data":
        return None
    form = form_named(document.form, document.settings)
    return Law(form, form.make_params(document.heldout.params), document.data_unit, document.source)
