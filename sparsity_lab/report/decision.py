"""One short verdict: train sparse, stay dense, or cannot tell, with its reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sparsity_lab.messages.numbers import count, percent
from sparsity_lab.report.evidence import EqualCost, Evidence
from sparsity_lab.results.places import CLEAR

Choice = Literal["train-sparse", "stay-dense", "cannot-tell"]


@dataclass(frozen=True)
class Verdict:
    """What the study says to do.

    Attributes:
        choice: one of three.
        headline: the choice in a sentence.
        reasons: why, one sentence each.
        sparsity: to train at; None unless sparse is chosen.
        compared: what the choice rests on: dense against sparse at the largest size and budget, search first.
    """

    choice: Choice
    headline: str
    reasons: tuple[str, ...]
    sparsity: float | None
    compared: tuple[EqualCost, ...]


def decide(evidence: Evidence) -> Verdict:
    """The verdict under the study's own cost, at the largest size and budget of the search and of the law.

    Sparse needs one source that shows it winning, none that shows dense winning, and both the differences between
    sparsities and its own advantage above the noise of seeds; dense needs one source for it and none against, since
    it is what one does without evidence. Everything else leaves the question open.
    """
    cost = evidence.inputs.study.spec.law.cost
    compared = tuple(found[-1] for source in ("search", "law") if (found := evidence.compared(cost, source)))
    winners = {one.winner for one in compared} - {"unclear"}
    reasons = tuple(_reason(one, evidence) for one in compared)
    if winners == {"dense"}:
        return Verdict("stay-dense", f"Stay dense: {_under(evidence)} no sparsity beats it.", reasons, None, compared)
    doubt = _doubt(evidence, compared)
    if doubt is not None:
        return Verdict("cannot-tell", f"Cannot tell: {doubt}.", reasons, None, compared)
    best = next(one for one in compared if one.winner == "sparse")
    hardware, caution = _dense_hardware(evidence)
    headline = f"Train sparse, at about {percent(best.sparsity, 2)} zeros{hardware}."
    return Verdict("train-sparse", headline, (*reasons, *caution), best.sparsity, compared)


def _doubt(evidence: Evidence, compared: tuple[EqualCost, ...]) -> str | None:
    """Why the evidence does not settle the question; None where sparse is better beyond doubt."""
    ratio, noise = evidence.signal_to_noise, evidence.noise
    ahead = [one for one in compared if one.winner == "sparse"]
    if ahead and any(one.winner == "dense" for one in compared):
        return "search and law contradict each other"
    if ratio is not None and ratio < CLEAR:
        return "the noise of seeds hides the differences between sparsities"
    if not compared:
        return "there is neither a search nor a usable law under the study's cost"
    if not ahead:
        return "dense and sparse are within their uncertainty of each other"
    if noise is not None and ahead[0].advantage < noise.deviation:
        return "sparse is ahead, but by less than seeds alone move the loss"
    return None


def _reason(one: EqualCost, evidence: Evidence) -> str:
    unit = evidence.inputs.study.spec.grid.data_unit
    place = f"N = {count(one.nonzero)}, budget {count(one.budget)} {unit}"
    match one.winner:
        case "sparse":
            return (
                f"The {one.source} ({place}) has sparse ahead at {percent(one.sparsity)} zeros, "
                f"by {one.advantage:.3g} nats ({one.low:.3g} to {one.high:.3g})."
            )
        case "dense":
            return f"The {one.source} ({place}) has dense ahead: no sparsity that was trained is better."
        case "unclear":
            return f"The {one.source} ({place}) does not separate dense from sparse."


def _under(evidence: Evidence) -> str:
    words = {
        "sparse_schedule": "even if zeros cost nothing to train,",
        "dense_hardware": "on hardware that multiplies zeros,",
        "free": "even with training cost ignored,",
        "measured": "by the seconds of the hardware profile,",
    }
    return words[evidence.inputs.study.spec.law.cost]


def _dense_hardware(evidence: Evidence) -> tuple[str, tuple[str, ...]]:
    """What to add to the headline, and a reason, about hardware that cannot skip zeros."""
    if evidence.inputs.study.spec.law.cost == "dense_hardware":
        return "", ()
    found = evidence.compared("dense_hardware", "law")
    if not found:
        return ", where zeros cost nothing", ("Whether it pays on hardware that multiplies zeros is unknown.",)
    last = found[-1]
    if last.winner == "sparse":
        reason = f"By the law it pays even on hardware that multiplies zeros, there at {percent(last.sparsity)} zeros."
        return "", (reason,)
    ends = "dense wins" if last.winner == "dense" else "the law cannot tell who wins"
    return ", where your hardware skips zeros", (f"On hardware that multiplies zeros like any number, {ends}.",)
