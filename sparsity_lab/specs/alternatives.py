"""What training sparse from scratch competes with in a scenario: weights in fewer bits, a trained model to prune."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from sparsity_lab.specs.base import Positive, Sparsity, Spec, misfit
from sparsity_lab.specs.hardware import WeightType

Amount = Annotated[float, Field(ge=0)]


def ordered(span: tuple[float, float]) -> tuple[float, float]:
    """Refuse a range whose ends are not in order."""
    if span[0] >= span[1]:
        raise ValueError(f"the first must be below the second, found {list(span)}")
    return span


ValueRange = Annotated[tuple[Amount, Amount], AfterValidator(ordered)]
"""a lowest and a highest value that are both thought possible"""
Share = Annotated[float, Field(gt=0, le=1)]


class RivalType(Spec):
    """A type that weights could be stored in, what it costs in quality, and what it gives in speed.

    The first type of a scenario is its own, with nothing of its worth: losses of the law are in that type.
    """

    dtype: WeightType
    rho: Share | None = None
    """share of the weights that weights of this type are worth"""
    loss_added: Amount | None = None
    """nats that quantising after training adds: measured, or published for a model like this one"""
    law: str | None = None
    """in place of both, a law by name or file that reads bits of the weights: form sparse_quantised, precision (in
    training), precision_after (quantised after it), or one of your own"""
    bits: Positive | None = None
    """of a weight, as law is asked; those of the type when left out"""
    range: ValueRange | None = None
    """of rho or loss_added, the lowest and highest thought possible"""
    speedup: Positive | None = None
    """of arithmetic, against the own type: 2 where 8 bits multiply twice as fast, 1 where weights are turned into the
    own type first; when left out, that of the profile's dense products of both at the rows served, else 1"""
    days: Amount = 0.0
    """of engineering, once"""
    source: str = ""
    """of rho or loss_added"""

    @model_validator(mode="after")
    def _one_worth(self) -> RivalType:
        if sum(one is not None for one in (self.rho, self.loss_added, self.law)) > 1:
            raise ValueError("give one of rho, loss_added and law")
        if self.bits is not None and self.law is None:
            raise misfit("goes with law", "bits")
        if self.range is not None and self.rho is None and self.loss_added is None:
            raise misfit("goes with rho or loss_added", "range")
        if self.range is not None and self.rho is not None and not 0 < self.range[0] < self.range[1] <= 1:
            raise misfit("of rho lies above 0 and up to 1", "range")
        return self


class Checkpoint(Spec):
    """A trained dense model that could be pruned instead of training a sparse one from scratch."""

    dense: Positive
    """its prunable weights"""
    data: Positive
    """what it was trained on"""
    paid: bool = True
    """whether its training costs nothing any more; else every run trains such a checkpoint first"""
    worth: tuple[tuple[Sparsity, Positive], ...] | None = None
    """pairs of S and rho: data that training from scratch needs / data of the pruning phase, at equal loss. Those of
    Frantar et al. 2024 for ViT when left out: 4.90, 4.27, 2.45 at 0.5, 0.75, 0.875"""
    law: str | None = None
    """a law of pruned models by name or file, in place of worth: form pruned_after, compressed, or one of your own that
    reads loss_before. It tells what a phase of pruning and training on takes"""
    loss: Positive | None = None
    """held-out loss of the checkpoint, nats, for law; by the scenario's law when left out"""

    @model_validator(mode="after")
    def _one_worth(self) -> Checkpoint:
        levels = [S for S, _ in self.worth or ((0.0, 1.0),)]
        if not levels or any(a >= b for a, b in pairwise(levels)):
            raise misfit("sparsities must rise", "worth")
        if self.law is not None and self.worth is not None:
            raise misfit("give either worth or law", "law")
        if self.loss is not None and self.law is None:
            raise misfit("goes with law", "loss")
        return self
