"""Words that several specs and the laws share: of data, of forms, of costs, of holdouts, of objectives.

They stand alone so that a query of a law loads no more than it needs.
"""

from __future__ import annotations

import math
from importlib.metadata import entry_points
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

DataUnit = Literal["tokens", "images"]
CostMultiplier = Literal["sparse_schedule", "dense_hardware", "free", "measured"]
BudgetUnit = Literal["data", "compute", "seconds"]
"""what a search's budgets are in: D_dense, training FLOPs C = 6 N D_dense, or seconds of training on a named machine"""
SearchObjective = Literal["loss", "training_cost", "inference_cost"]
"""what a search makes small"""
LAW_FORMS = (
    "frantar",
    "chinchilla",
    "average_params",
    "density",
    "effective_params",
    "generalized",
    "moe_abnar",
    "repeated_dense",
    "repeated_sparse",
    "sparse_quantised",
    "precision",
    "precision_after",
    "pruned_after",
    "compressed",
    "moe_krajewski",
    "farseer",
)
FORM_PLUGINS = "sparsity_lab.forms"
"""entry points of law forms from other packages"""


def _known_form(name: str) -> str:
    if name not in LAW_FORMS and name not in (outside := entry_points(group=FORM_PLUGINS).names):
        known = ", ".join((*LAW_FORMS, *sorted(outside)))
        raise PydanticCustomError("law_form", "no such law form, expected one of {known}", {"known": known})
    return name


LawForm = Annotated[str, AfterValidator(_known_form)]
Residual = Literal["log", "linear"]
"""in which space the error of a fit is taken"""
Exclusion = Literal["filtered", "no-loss", "given-twice", "untrained", "not-best", "diverged", "other-regime"]
"""why a row is left out; the last two are a study's own"""
Holdout = Literal["largest-data", "largest-nonzero", "largest-sparsity"]
"""the runs with the largest value of a column"""
HuberDelta = Annotated[float, Field(ge=1e-9, le=1e9)] | Literal["least-squares"]
"""threshold of the Huber loss, in units of the residual; an infinite one is least squares"""


def threshold(delta: HuberDelta) -> float:
    """Huber's delta as a number: infinite for least squares."""
    return math.inf if delta == "least-squares" else float(delta)


def delta_of(threshold: float) -> HuberDelta:
    """A threshold as specs and documents write it."""
    return threshold if math.isfinite(threshold) else "least-squares"
