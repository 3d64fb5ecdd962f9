"""A law: a form with its parameters, ready to predict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sparsity_lab.errors import RecordError, SpecError
from sparsity_lab.laws.documents.law import LawDocument, read_document
from sparsity_lab.laws.forms.form import Form, Further
from sparsity_lab.laws.forms.named import form_named
from sparsity_lab.laws.rows.runs import FloatArray, Runs
from sparsity_lab.laws.uncertainty.intervals import Interval, within_floats
from sparsity_lab.laws.uncertainty.noise import Noise, noise, noise_of
from sparsity_lab.specs.choices import DataUnit
from sparsity_lab.specs.laws import PublishedLaw, load_law

if TYPE_CHECKING:  # a law that is read is not fitted
    from sparsity_lab.laws.fitting.fit import Fit
    from sparsity_lab.laws.uncertainty.bootstrap import Bootstrap

REPORTED_DRAWS = 1000
"""of a law whose paper reports a spread"""


@dataclass(frozen=True, eq=False)
class Law:
    """A form with parameters in raw units, and draws of them: a bootstrap's, or by the spread that a paper reports.

    Attributes:
        form: the form.
        params: its parameters; arrays stand for many laws at once and broadcast against every argument.
        data_unit: what D counts.
        source: where the law comes from, in words.
        draws: (replicates,) of each parameter, or None for a law without uncertainty.
        noise: scatter of single runs about the law, or None where nobody knows.
        at: what the form reads beside S, N and D (`given`); a number for all questions.
    """

    form: Form
    params: NamedTuple
    data_unit: DataUnit
    source: str
    draws: NamedTuple | None = None
    noise: Noise | None = None
    at: Further = field(default_factory=dict)

    @classmethod
    def from_fit(cls, fit: Fit, bootstrap: Bootstrap | None = None) -> Law:
        """The law at a fit's minimum, with the draws of its bootstrap.

        What its form must be told beside S, N and D is the median of the runs, until it is `given`.
        """
        draws = None
        if bootstrap and len((drawn := within_floats(bootstrap.draws._asdict()))[fit.form.names[0]]):
            draws = bootstrap.draws._replace(**drawn)
        made = cls(fit.form, fit.params, fit.runs.data_unit, f"fitted to {len(fit.runs)} runs", draws, noise(fit))
        return made.given(**{name: float(np.median(fit.runs.column(name))) for name in fit.form.required})

    @classmethod
    def from_spec(cls, spec: PublishedLaw) -> Law:
        """A published law; with draws where its paper reports a spread.

        Raises:
            RecordError: its parameters are not those of its form.
        """
        form = form_named(spec.form, spec.settings)
        params = form.make_params(spec.params)
        draws = form.make_params(_reported(spec.params, spec.spread)) if spec.spread else None
        return cls(form, params, spec.data_unit, spec.citation, draws)

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
        made, steered = document.fit, document.fit.steering
        free = len(document.params) - len(made.at_bounds) - len(steered.pinned)
        symmetric = made.objective * 2 / (1 + steered.overestimates)
        scatter = noise_of(symmetric, made.threshold, made.residual, document.provenance.runs, free)
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
        return self.form.predict(self.params, sparsity, nonzero, data, further=self.at)

    def at_runs(self, runs: Runs) -> FloatArray:
        """(rows,) losses in nats at measured runs, with what they say of themselves beside S, N and D."""
        return self.form.at_runs(self.params, runs)

    def slope(
        self, variable: Literal["nonzero", "data"], sparsity: ArrayLike, nonzero: ArrayLike, data: ArrayLike
    ) -> FloatArray:
        """Slope dL / d ln(variable) in nats, at fixed S; negative where more of it helps."""
        return self.form.slope(self.params, variable, sparsity, nonzero, data, further=self.at)

    def given(self, **at: float) -> Law:
        """The same law, asked with these beside S, N and D: `unique` data, or `bits` of the weights.

        What the form does not read is left alone.
        """
        return replace(self, at={**self.at, **{name: at[name] for name in self.form.further if name in at}})

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


def _reported(params: Mapping[str, float], spread: Mapping[str, float]) -> dict[str, FloatArray]:
    """(REPORTED_DRAWS,) of each parameter: ln normal where it is above 0, else normal, each by itself.

    Papers report no correlations: intervals are too wide where errors of parameters offset one another. A parameter
    without a spread stays as it is.
    """
    rng, drawn = np.random.default_rng(0), {}
    for name, value in params.items():
        deviations = rng.standard_normal(REPORTED_DRAWS) * spread.get(name, 0.0)
        drawn[name] = value * np.exp(deviations / value) if value > 0 else value + deviations
    return drawn
