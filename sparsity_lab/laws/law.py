"""A law: a form with its parameters, ready to predict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sparsity_lab.errors import RecordError, SpecError
from sparsity_lab.laws.documents.law import LawDocument, read_document
from sparsity_lab.laws.fitting.fit import Fit
from sparsity_lab.laws.forms.form import Form
from sparsity_lab.laws.forms.named import form_named
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.laws.uncertainty.bootstrap import Bootstrap, Interval, within_floats
from sparsity_lab.laws.uncertainty.covariance import Noise, noise, noise_of
from sparsity_lab.specs.choices import DataUnit
from sparsity_lab.specs.laws import PublishedLaw, load_law


@dataclass(frozen=True, eq=False)
class Law:
    """A form with parameters in raw units, and the bootstrap's draws of them where it was fitted here.

    Attributes:
        form: the form.
        params: its parameters; arrays stand for many laws at once and broadcast against every argument.
        data_unit: what D counts.
        source: where the law comes from, in words.
        draws: (replicates,) of each parameter, or None for a law without uncertainty.
        noise: scatter of single runs about the law, or None where nobody knows.
    """

    form: Form
    params: NamedTuple
    data_unit: DataUnit
    source: str
    draws: NamedTuple | None = None
    noise: Noise | None = None

    @classmethod
    def from_fit(cls, fit: Fit, bootstrap: Bootstrap | None = None) -> Law:
        """The law at a fit's minimum, with the draws of its bootstrap."""
        draws = None
        if bootstrap and len((drawn := within_floats(bootstrap.draws._asdict()))[fit.form.names[0]]):
            draws = bootstrap.draws._replace(**drawn)
        return cls(fit.form, fit.params, fit.runs.data_unit, f"fitted to {len(fit.runs)} runs", draws, noise(fit))

    @classmethod
    def from_spec(cls, spec: PublishedLaw) -> Law:
        """A published law.

        Raises:
            RecordError: its parameters are not those of its form.
        """
        form = form_named(spec.form, spec.settings)
        return cls(form, form.make_params(spec.params), spec.data_unit, spec.citation)

    @classmethod
    def from_document(cls, document: LawDocument) -> Law:
        """A law fitted here, as its JSON tells it.

        Raises:
            RecordError: its parameters are not those of its form.
        """
        form = form_named(document.form, document.settings)
        draws = None
        if document.bootstrap and len((drawn := within_floats(document.bootstrap.draws))[form.names[0]]):
            draws = form.make_params(drawn)
        made, free = document.fit, len(document.params) - len(document.fit.at_bounds)
        scatter = noise_of(made.objective, made.threshold, made.residual, document.provenance.runs, free)
        return cls(form, form.make_params(document.params), document.data_unit, document.source, draws, scatter)

    @classmethod
    def load(cls, path: Path | str) -> Law:
        """Read a published law (YAML) or a fitted one (JSON).

        Raises:
            SpecError: the YAML cannot be read or is no law.
            RecordError: the JSON cannot be read or is no law.
        """
        path = Path(path)
        if path.suffix == ".json":
            return cls.from_document(read_document(path))
        spec = load_law(path)
        try:
            return cls.from_spec(spec)
        except RecordError as error:
            raise SpecError(str(error), where=path) from None

    def predict(self, sparsity: ArrayLike, nonzero: ArrayLike, data: ArrayLike) -> FloatArray:
        """Loss in nats at sparsity S, N non-zero weights and D tokens or images; all broadcast."""
        return self.form.predict(self.params, sparsity, nonzero, data)

    def with_axis(self) -> Law:
        """The same law with one more trailing axis on its parameters, as the arguments may have."""
        return replace(self, params=_map(self.params, lambda value: np.asarray(value)[..., None]))

    def interval(self, quantity: Callable[[Law], ArrayLike], confidence: float = 0.9) -> Interval:
        """A quantity derived from the law, with its central interval over the bootstrap's draws.

        Args:
            quantity: of a law; must broadcast over its parameters, as everything in `optimum` does. It is called
                twice: for this law, and for all draws at once.
            confidence: share of the draws inside.

        Raises:
            RecordError: the law carries no draws.
        """
        value = np.asarray(quantity(self), dtype=np.float64)
        return Interval.of(value, self.drawn(quantity), confidence)

    def drawn(self, quantity: Callable[[Law], ArrayLike]) -> FloatArray:
        """(replicates, …shape of the quantity): a quantity derived from the law, for each of the bootstrap's draws.

        Raises:
            RecordError: the law carries no draws.
        """
        if self.draws is None:
            raise RecordError("carries no bootstrap, so nothing can be said of its uncertainty", where=self.source)
        shape = np.shape(quantity(self))
        lifted = _map(self.draws, lambda draws: np.reshape(draws, (-1, *(1,) * len(shape))))
        return np.broadcast_to(quantity(replace(self, params=lifted)), (len(self.draws[0]), *shape))


def _map(params: NamedTuple, change: Callable[[ArrayLike], FloatArray]) -> NamedTuple:
    return params._replace(**{name: change(value) for name, value in params._asdict().items()})
