"""What an advice does not know, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sparsity_lab.cost.advice import Bar, Recommendation
from sparsity_lab.cost.assumptions import Setting
from sparsity_lab.cost.candidates import Candidate
from sparsity_lab.cost.criteria import facts
from sparsity_lab.laws.documents.law import LawDocument
from sparsity_lab.messages import Message

REACH = 10.0
"""a law is trusted to this factor beyond the sizes and data of its runs"""


def doubts(setting: Setting, best: Candidate, document: LawDocument | None) -> tuple[Message, ...]:
    """Reasons not to build on the law; a law that was published is taken as it stands."""
    return () if document is None else tuple(_doubts(setting, best, document))


def caveats(setting: Setting, best: Candidate, document: LawDocument | None) -> tuple[Message, ...]:
    """What the numbers do not know."""
    return (*_of_law(setting, best, document), *_of_hardware(setting, best))


def checklist(
    setting: Setting, best: Candidate, what: Recommendation, bars: Sequence[Bar], document: LawDocument | None
) -> tuple[Message, ...]:
    """Next steps, most telling first."""
    return tuple(_steps(setting, best, what, bars, document))


def _doubts(setting: Setting, best: Candidate, document: LawDocument) -> Iterator[Message]:
    if not document.fit.converged:
        yield Message("doubt-fit")
    known = facts(setting, best)
    spans = document.provenance.ranges
    for name, value in (("nonzero", setting.scenario.model.nonzero), ("data", setting.scenario.model.data)):
        low, high = spans[name]
        if not low / REACH <= value <= high * REACH:
            yield Message("doubt-range", known | {"field": f"field-{name}", "asked": value, "low": low, "high": high})
    most = spans["sparsity"][1]
    if best.sparsity > most + 1e-9:
        yield Message("doubt-sparsity", known | {"high": most})


def _of_law(setting: Setting, best: Candidate, document: LawDocument | None) -> Iterator[Message]:
    if setting.law.draws is None:
        yield Message("caveat-no-draws")
    if document is not None and document.bootstrap is not None:
        loose = [name for name, one in document.bootstrap.intervals.items() if not one.identified]
        if loose:
            yield Message("caveat-loose", {"names": ", ".join(loose)})
    if setting.scenario.format in {"2:4", "bsr"}:
        yield Message("caveat-pattern", {"pattern": f"pattern-{setting.scenario.format}"})
    if best.kind == "prune-existing" and (existing := setting.scenario.checkpoint) and existing.worth is None:
        yield Message("caveat-worth")
    if (paid := setting.scenario.checkpoint) and paid.paid and paid.dense == setting.scenario.model.nonzero:
        yield Message("caveat-paid")


def _of_hardware(setting: Setting, best: Candidate) -> Iterator[Message]:
    profile, ratio = setting.profile, setting.speeds.inference
    if profile is None or ratio is None:
        yield Message("caveat-no-hardware")
        return
    if profile.origin == "published":
        yield Message("caveat-published")
    if not profile.training and setting.scenario.training.cost == "measured":
        yield Message("caveat-no-steps")
    if best.sparsity > float(ratio.sparsity[-1]) + 1e-9:
        yield Message("caveat-clamped", {"S": best.sparsity, "high": float(ratio.sparsity[-1])})


def _steps(
    setting: Setting, best: Candidate, what: Recommendation, bars: Sequence[Bar], document: LawDocument | None
) -> Iterator[Message]:
    known = facts(setting, best) | {"data": float(np.asarray(best.at.option.data))}
    study = setting.scenario.evidence.study or "STUDY"
    if setting.profile is None or setting.profile.origin == "published":
        yield Message("step-measure", {"study": study})
    if document is None:
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
        case "stay-dense" if not what.firm:
            yield Message("step-narrow", {"field": f"field-{bars[0].field}"} if bars else {"field": "field-law"})
        case _:
            yield Message("step-dense", known)
    if bars:
        yield Message("step-again", {"field": f"field-{bars[0].field}"})
