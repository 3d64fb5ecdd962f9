"""What a type of weights is worth by a law that reads their bits, fitted or published.

    N' weights in the type are as good as N in the own:   L_t(0, N', D; bits) = L_t(0, N, D; own bits)
    zeros too, where the law sees sparsity:               L_t(S, N', D; bits) = L_t(0, N_ref, D; own bits)

So rho = N / N'. For a share of the weights (`sparse_quantised`, `precision`) it is one number; where quantising after
training adds a loss (`precision_after`) it changes with N and D.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sparsity_lab.cost.draws import beyond_runs, drawn_law
from sparsity_lab.laws.documents.law import LawDocument
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions.inverse import size_needed
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.messages import Message
from sparsity_lab.specs.hardware import WeightType

COLUMNS = ("bits_after", "bits")
"""what laws of precision read: bits of weights quantised after training, else bits in training"""


@dataclass(frozen=True, eq=False)
class TypeLaw:
    """A law of precision, asked for one type beside the scenario's own.

    Attributes:
        name: as it was asked for.
        law: with its draws, if it has any; its form reads one of `COLUMNS`.
        bits: of a weight in the type.
        own: of a weight in the scenario's own type.
        document: of a law fitted here: tells how far it reaches.
    """

    name: str
    law: Law
    bits: float
    own: float
    document: LawDocument | None = None

    @property
    def column(self) -> str:
        """What the law reads of the bits."""
        return next(name for name in COLUMNS if name in self.law.form.further)

    @property
    def sees_zeros(self) -> bool:
        """Whether it says what zeros are worth as well."""
        return self.law.form.sees_sparsity

    def at(self, bits: float) -> Law:
        """The law at so many bits."""
        return self.law.given(**{self.column: bits})

    def size(self, reference: ArrayLike, data: ArrayLike, sparsity: float = 0.0) -> FloatArray:
        """Non-zero weights at S in the type that have the quality of `reference` dense ones in the scenario's own."""
        target = self.at(self.own).predict(0.0, reference, data)
        return size_needed(self.at(self.bits), target, sparsity, data)

    def drawn(self, stream: np.random.Generator, draws: int) -> TypeLaw:
        """With (draws, 1) parameters, rows of the law's bootstrap."""
        return replace(self, law=drawn_law(self.law, stream, draws))

    def __getitem__(self, rows: slice) -> TypeLaw:
        """Some of the draws."""
        values: dict[str, Any] = self.law.params._asdict()
        kept = {name: value[rows] if np.ndim(value) else value for name, value in values.items()}
        return replace(self, law=replace(self.law, params=self.law.params._replace(**kept)))


def type_notes(told: TypeLaw, dtype: WeightType, reference: float, data: float) -> Iterator[Message]:
    """What a type's worth rests on, and where that is beyond the law's runs.

    Args:
        told: the law.
        dtype: the type.
        reference: N_ref, dense weights of the own type.
        data: D.
    """
    size = float(told.size(reference, data))
    known: dict[str, float | str] = {"dtype": dtype, "name": told.name, "form": told.law.form.name, "bits": told.bits}
    yield Message(f"type-law{'-zeros' if told.sees_zeros else ''}", known | {"rho": reference / size})
    if told.law.draws is None:
        yield Message("type-law-fixed", known)
    if told.document is not None:
        for said in beyond_runs(told.document.provenance.ranges, nonzero=size, data=data):
            yield Message("type-law-range", known | said)
