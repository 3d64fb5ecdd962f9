"""One short verdict: train sparse, stay dense, or cannot tell, with its reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sparsity_lab.messages import Message, Said, message
from sparsity_lab.report.evidence import EqualCost, Evidence
from sparsity_lab.results.places import CLEAR

Choice = Literal["train-sparse", "stay-dense", "cannot-tell"]


@dataclass(frozen=True)
class StudyVerdict:
    """What the study says to do.

    Attributes:
        choice: one of three.
        headline: the choice for people.
        reasons: why, one sentence each.
        sparsity: to train at; None unless sparse is chosen.
        compared: what the choice rests on: dense against sparse at the largest size and budget, search first.
    """

    choice: Choice
    headline: Message
    reasons: tuple[Message, ...]
    sparsity: float | None
    compared: tuple[EqualCost, ...]

    @property
    def spoken(self) -> dict[str, Said]:
        """What it says, by what it is."""
        return {"headline": self.headline, "reasons": self.reasons}


def decide(evidence: Evidence) -> StudyVerdict:
    """The verdict under the study's own cost, at the largest size and budget of the search and of the law.

    Sparse needs one source that shows it winning with an interval above zero, none that shows dense winning, and an
    advantage above the noise of seeds; dense needs one source for it and none against, since it is what one does
    without evidence. Everything else leaves the question open.
    """
    spec = evidence.inputs.study.spec
    cost = spec.law.cost
    compared = tuple(found[-1] for source in ("search", "law") if (found := evidence.compared(cost, source)))
    winners = {one.winner for one in compared} - {"unclear"}
    far = evidence.unmatched
    unmatched = (message("reason-unmatched", ratio=far.ratio, S=far.sparsity),) if far and far.ratio else ()
    reasons = (*(one.reason(spec.grid.data_unit) for one in compared), *unmatched)
    if winners == {"dense"}:
        return StudyVerdict("stay-dense", message("verdict-dense", under=f"under-{cost}"), reasons, None, compared)
    doubt = _doubt(evidence, compared)
    if doubt is not None:
        return StudyVerdict("cannot-tell", message("verdict-unsettled", doubt=doubt), reasons, None, compared)
    best = next(one for one in compared if one.winner == "sparse")
    key, caution = _without_skipping(evidence.compared("dense_hardware", "law"))
    if cost == "dense_hardware":
        key, caution = "verdict-sparse", ()
    headline = message(key, sparsity=best.sparsity)
    return StudyVerdict("train-sparse", headline, (*reasons, *caution), best.sparsity, compared)


def _doubt(evidence: Evidence, compared: tuple[EqualCost, ...]) -> str | None:
    """The key of why the evidence does not settle the question; None where sparse is better beyond doubt."""
    ratio, noise = evidence.signal_to_noise, evidence.noise
    ahead = [one for one in compared if one.winner == "sparse"]
    if ahead and any(one.winner == "dense" for one in compared):
        return "doubt-contradiction"
    if not ahead and ratio is not None and ratio < CLEAR:
        return "doubt-noise"
    if not compared:
        return "doubt-nothing"
    if not ahead:
        return "doubt-uncertain"
    if noise is not None and ahead[0].advantage < noise.deviation:
        return "doubt-small"
    return None


def _without_skipping(found: tuple[EqualCost, ...]) -> tuple[str, tuple[Message, ...]]:
    """The key of the headline, and a reason, about hardware that cannot skip zeros."""
    if not found:
        return "verdict-sparse-free", (message("caution-unknown"),)
    last = found[-1]
    if last.winner == "sparse":
        return "verdict-sparse", (message("caution-sparse", sparsity=last.sparsity),)
    return "verdict-sparse-skipped", (message("caution-dense" if last.winner == "dense" else "caution-unclear"),)
