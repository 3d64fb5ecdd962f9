"""The file a comparison is kept in: every form under every criterion, with the winner of each."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sparsity_lab.artifacts.reading import read_json
from sparsity_lab.laws.documents.law import HeldOutRecord
from sparsity_lab.laws.fitting.compare import AICC, IN_SAMPLE, Column, Compared, Comparison
from sparsity_lab.messages import Message
from sparsity_lab.specs.base import Count, Spec
from sparsity_lab.specs.choices import HuberDelta, Residual, delta_of


class ComparedForm(Spec):
    """One form."""

    settings: tuple[float, ...]
    parameters: Count
    """how many were fitted"""
    converged: bool
    degenerate: bool
    refuted: bool = False
    status: Message
    """of the fit to all rows"""
    heldout: dict[str, HeldOutRecord]
    """by name of the holdout"""
    missing: dict[str, str]
    """why, by name, of holdouts that could not be done"""

    @classmethod
    def of(cls, one: Compared) -> ComparedForm:
        """Write a form down."""
        return cls(
            settings=one.fit.form.settings,
            parameters=len(one.fit.form.names),
            converged=one.fit.converged,
            degenerate=one.fit.degenerate,
            refuted=one.fit.refuted,
            status=one.fit.status,
            heldout={name: HeldOutRecord.of(heldout) for name, heldout in one.heldout.items()},
            missing=dict(one.missing),
        )


class ComparisonDocument(Spec):
    """Law forms fitted to the same rows. There is no blended score."""

    version: Literal[2] = 2
    kind: Literal["law-comparison"] = "law-comparison"
    source: str
    """the study or files whose runs were fitted"""
    residual: Residual
    delta: HuberDelta
    rows: Count
    sha256: str
    """of the fitted rows, whatever their order"""
    forms: dict[str, ComparedForm]
    criteria: dict[str, Column]
    """objective, AICc, then the mean relative error on each holdout"""
    skipped: dict[str, str]
    """why, by form, of forms that the rows cannot carry"""

    def may_win(self, criterion: str, form: str) -> bool:
        """Whether a form's value under a criterion is that of a sound fit; one of a failed refit wins no holdout."""
        one = self.forms[form]
        if criterion in {IN_SAMPLE, AICC}:
            return one.converged and not one.refuted
        return criterion in one.heldout and one.heldout[criterion].sound


def comparison_document(comparison: Comparison, source: str) -> ComparisonDocument:
    """Write a comparison down."""
    first = comparison.forms[0].fit
    return ComparisonDocument(
        source=source,
        residual=first.residual,
        delta=delta_of(first.delta),
        rows=len(first.runs),
        sha256=first.runs.sha256,
        forms={one.fit.form.name: ComparedForm.of(one) for one in comparison.forms},
        criteria={one.name: one for one in comparison.columns},
        skipped=dict(comparison.skipped),
    )


def read_comparison(path: Path) -> ComparisonDocument:
    """Read a comparison.

    Raises:
        RecordError: the file is missing, damaged, or no comparison.
    """
    return read_json(path, ComparisonDocument, "a comparison of laws")
