"""What is said beside the numbers: what makes them doubtful, what they do not know, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sparsity_lab.cost.advice import Bar, Recommendation
from sparsity_lab.cost.assumptions import Setting
from sparsity_lab.cost.candidates import SparseOption
from sparsity_lab.cost.criteria import facts, rows_that_suffice
from sparsity_lab.cost.draws import beyond_runs
from sparsity_lab.cost.speeds import dense_speed_notes, speed_doubts, speed_notes
from sparsity_lab.hardware.layouts import format_named
from sparsity_lab.messages import Message

REACH = 10.0
"""a law is trusted to this factor beyond the sizes and data of its runs"""


def doubts(setting: Setting, best: SparseOption) -> Iterator[Message]:
    """Reasons not to build on the speeds, or on the law; a law that was published is taken as it stands."""
    basis = setting.speeds.basis
    if best.at.pays or basis is None or basis.of != "bytes":  # what does not pay at a bound pays at no speed
        yield from speed_doubts(basis, turns=rows_that_suffice(setting, best).rows is not None)
    yield from _repeats(setting)
    yield from _pruning_doubts(setting, best)
    document = setting.document
    if document is None:
        return
    if not document.fit.converged:
        yield Message("doubt-fit")
    elif document.fit.refuted:
        yield Message("doubt-refuted")
    known = facts(setting, best)
    spans = document.provenance.ranges
    for said in beyond_runs(spans, REACH, nonzero=setting.scenario.model.nonzero, data=setting.scenario.model.data):
        yield Message("doubt-range", known | said)
    most = spans["sparsity"][1]
    if best.sparsity > most + 1e-9:
        yield Message("doubt-sparsity", known | {"high": most})


def _repeats(setting: Setting) -> Iterator[Message]:
    """The dense model whose quality is asked for sees more than there is."""
    data, limit = setting.scenario.model.data, setting.scenario.training.data_available
    if limit is not None and data > limit:
        yield Message("dense-repeats", {"data": data, "available": limit, "unit": f"unit-{setting.law.data_unit}"})


def draws_basis(setting: Setting) -> Message | None:
    """Where the draws of the scenario's law come from; None where it has none."""
    if setting.law.draws is None:
        return None
    held = setting.document
    if held is None:
        return Message("law-draws-spread")
    known: dict[str, float | str] = {
        "draws": float(len(setting.law.draws[0])),
        "rows": float(held.provenance.runs),
        "source": held.source,
    }
    return Message("law-draws-runs", known)


def pruning_basis(setting: Setting) -> Message | None:
    """What tells the items that pruning the scenario's checkpoint takes; None where it has none."""
    held, told = setting.scenario.checkpoint, setting.pruning
    if held is None:
        return None
    if told is None:
        return Message("pruning-paper" if held.worth is None else "pruning-worth")
    existing = setting.case().existing
    assert existing is not None, "there is a checkpoint"
    before: dict[str, float | str] = {"loss": float(existing.loss_before(setting.law))}
    known = before | {"name": told.name, "form": told.law.form.name}
    if told.law.draws is None:
        return Message("pruning-law-fixed", known)
    return Message("pruning-law", known | {"draws": float(len(told.law.draws[0]))})


def _pruning_doubts(setting: Setting, best: SparseOption) -> Iterator[Message]:
    """Reasons not to build on the law of pruned models."""
    told = setting.pruning
    if told is None or told.document is None or best.kind != "prune-existing":
        return
    if not told.document.fit.sound:
        yield Message("pruned-fit", {"name": told.name})
    yield from _beyond(setting, best, REACH)


def _beyond(setting: Setting, best: SparseOption, reach: float) -> Iterator[Message]:
    """Where a pruned model lies by a factor beyond the runs of the law of pruned models, or has more zeros at all."""
    told = setting.pruning
    if told is None or told.document is None or best.kind != "prune-existing":
        return
    spans, option = told.document.provenance.ranges, best.at.option
    size, phase = (float(np.asarray(value)) for value in (option.nonzero, option.data))
    for said in beyond_runs(spans, reach, nonzero=size, data=phase):
        yield Message("pruned-range", said | {"name": told.name})
    (fewest, most), S = spans["sparsity"], best.sparsity
    if not fewest - 1e-9 <= S <= most + 1e-9:
        yield Message("pruned-sparsity", {"name": told.name, "S": S, "low": fewest, "high": most})


def caveats(setting: Setting, best: SparseOption) -> Iterator[Message]:
    """What the numbers do not know."""
    yield Message("caveat-taxes")
    yield from _repeats(setting)
    if setting.law.draws is None:
        yield Message("caveat-no-draws")
    yield from _forms(setting, best)
    bootstrap = setting.document.bootstrap if setting.document else None
    loose = [name for name, one in bootstrap.intervals.items() if not one.identified] if bootstrap else []
    if loose:
        yield Message("caveat-loose", {"names": ", ".join(loose)})
    yield from _patterns(setting)
    existing = setting.scenario.checkpoint
    if existing and best.kind == "prune-existing" and existing.worth is None and setting.pruning is None:
        yield Message("caveat-worth")
    yield from _beyond(setting, best, 1.0)
    if existing and existing.paid and existing.dense == setting.scenario.model.nonzero:
        yield Message("caveat-paid")
    profile, ratio = setting.profile, setting.speeds.inference
    if profile is None or ratio is None:
        yield Message("caveat-no-hardware")
        return
    yield from speed_notes(setting.speeds.basis)
    yield from dense_speed_notes(setting.scenario, profile)
    if profile.origin == "published":
        yield Message("caveat-published")
    if not profile.training and setting.scenario.training.cost == "measured":
        rows = [one.rows for one in profile.sparse_products if one.format == "2:4"]
        yield Message("caveat-no-steps-rows", {"rows": float(max(rows))}) if rows else Message("caveat-no-steps")
    if len(others := profile.trained_regimes) > 1 and setting.scenario.training.cost == "measured":
        yield Message("caveat-training-regime", {"regime": others[0], "others": ", ".join(others[1:])})
    if best.sparsity > float(ratio.sparsity[-1]) + 1e-9:
        yield Message("caveat-clamped", {"S": best.sparsity, "high": float(ratio.sparsity[-1])})


def _patterns(setting: Setting) -> Iterator[Message]:
    """Layouts in which zeros may not lie where they like, which the law is about."""
    for layout in dict.fromkeys(filter(None, (setting.scenario.format, *setting.scenario.layouts))):
        if not format_named(layout).anywhere:
            yield Message("caveat-pattern", {"pattern": f"pattern-{layout}"})


def _forms(setting: Setting, best: SparseOption) -> Iterator[Message]:
    """Whether the intervals know that the law's form may be wrong, and what share of their width is from there."""
    yield from setting.laws.notes if setting.laws else ()
    if setting.laws is None or len(setting.laws.laws) == 1:
        if setting.law.draws is not None:
            yield Message("caveat-one-form")
        return
    names, saved = setting.laws.names, best.over.npv
    if np.isfinite(saved).all() and np.ptp(saved) > 0:
        within = sum(float(np.var(saved[rows])) * len(saved[rows]) for _, rows in setting.shared_out()) / len(saved)
        yield Message("caveat-forms", {"names": names, "share": 1 - within / float(np.var(saved))})
    else:
        yield Message("caveat-forms-open", {"names": names})


def next_steps(setting: Setting, best: SparseOption, what: Recommendation, bars: Sequence[Bar]) -> Iterator[Message]:
    """What to do, most telling first."""
    known = facts(setting, best) | {"data": float(np.asarray(best.at.option.data))}
    study = setting.scenario.evidence.study or "STUDY"
    if setting.profile is None or setting.profile.origin == "published":
        yield Message("step-measure", {"study": study})
    named = setting.scenario.evidence.law
    if setting.document is None or (named is not None and not Path(named).suffix):  # somebody else's runs
        yield Message("step-fit", {"study": study})
    elif setting.law.draws is None:
        yield Message("step-bootstrap", {"study": study})
    match what.choice:
        case "train-sparse":
            yield Message("step-pilot", known)
            yield Message("step-serve", known)
        case "prune-existing":
            yield Message("step-prune", known)
            yield Message("step-serve", known)
        case "quantise":
            yield Message("step-quantise", known)
        case "stay-dense" if not what.firm:
            yield Message("step-narrow", {"field": f"field-{bars[0].field}"} if bars else {"field": "field-law"})
        case _:
            yield Message("step-dense", known)
    if bars:
        yield Message("step-again", {"field": f"field-{bars[0].field}"})
