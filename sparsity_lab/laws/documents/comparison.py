"""The file a comparison is kept in: every form under every criterion, with the winner of each."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.fitting.compare import AICC, IN_SAMPLE, Compared, Comparison, HeldOut
from sparsity_lab.laws.fitting.objective import Residual
from sparsity_lab.specs.base import Count, Spec
from sparsity_lab.specs.choices import HuberDelta


class HeldOutErrors(Spec):
    """How a refit did on runs that it did not see."""

    holdout: str
    """which runs, in words"""
    rows: Count
    mean_relative_error: float
    """mean of |predicted / measured - 1|"""
    worst_relative_error: float
    bias: float
    """mean of predicted / measured - 1"""
    status: str
    """of the refit"""


class ComparedForm(Spec):
    """One form."""

    settings: tuple[float, ...]
    parameters: Count
    """how many were fitted"""
    status: str
    """of the fit to all rows"""
    heldout: dict[str, HeldOutErrors]
    """by name of the holdout"""
    missing: dict[str, str]
    """why, by name, of holdouts that could not be done"""


class Criterion(Spec):
    """One column; lower is better."""

    values: dict[str, float | None]
    """by form; null where there is none"""
    winner: str | None


class ComparisonDocument(Spec):
    """Law forms fitted to the same rows. There is no blended score."""

    version: Literal[1] = 1
    kind: Literal["law-comparison"] = "law-comparison"
    source: str
    """the study or files whose runs were fitted"""
    residual: Residual
    delta: HuberDelta
    rows: Count
    sha256: str
    """of the fitted rows, whatever their order"""
    forms: dict[str, ComparedForm]
    criteria: dict[str, Criterion]
    """objective, AICc, then the mean relative error on each holdout"""
    skipped: dict[str, str]
    """why, by form, of forms that the rows cannot carry"""

    def may_win(self, criterion: str, form: str) -> bool:
        """Whether a form's value under a criterion is that of a sound fit; one of a failed refit wins no holdout."""
        one = self.forms[form]
        if criterion in {IN_SAMPLE, AICC}:
            return one.status.startswith("converged")
        status = one.heldout[criterion].status if criterion in one.heldout else ""
        return status.startswith("converged") and "degenerate" not in status


def comparison_document(comparison: Comparison, source: str) -> ComparisonDocument:
    """Write a comparison down."""
    first = comparison.forms[0].fit
    return ComparisonDocument(
        source=source,
        residual=first.residual,
        delta=first.delta if math.isfinite(first.delta) else "least-squares",
        rows=len(first.runs),
        sha256=first.runs.sha256,
        forms={one.fit.form.name: _form(one) for one in comparison.forms},
        criteria={one.name: Criterion(values=dict(one.values), winner=one.winner) for one in comparison.columns},
        skipped=dict(comparison.skipped),
    )


def read_comparison(path: Path) -> ComparisonDocument:
    """Read a comparison.

    Raises:
        RecordError: the file is missing, damaged, or no comparison.
    """
    try:
        return ComparisonDocument.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise RecordError("no such file", where=path) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RecordError(f"cannot be read as JSON: {error}", where=path) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(key) for key in first["loc"])
        raise RecordError(f"is no comparison of laws: {first['msg']}", where=path, field=field) from None


def _form(one: Compared) -> ComparedForm:
    return ComparedForm(
        settings=one.fit.form.settings,
        parameters=len(one.fit.form.names),
        status=one.fit.status,
        heldout={name: _errors(heldout) for name, heldout in one.heldout.items()},
        missing=dict(one.missing),
    )


def _errors(heldout: HeldOut) -> HeldOutErrors:
    return HeldOutErrors(
        holdout=heldout.holdout,
        rows=len(heldout.runs),
        mean_relative_error=heldout.mean_relative_error,
        worst_relative_error=heldout.worst_relative_error,
        bias=heldout.bias,
        status=heldout.fit.status,
    )
