"""Laws, and what they answer, as the front of Python gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

from sparsity_lab.console.notebook import Columns, View
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.questions import optimum
from sparsity_lab.laws.questions.inverse import data_needed
from sparsity_lab.laws.rows.runs import FloatArray
from sparsity_lab.laws.uncertainty.intervals import Interval
from sparsity_lab.messages import words_in
from sparsity_lab.messages.numbers import count
from sparsity_lab.stages.fit_runs import RunsFit
from sparsity_lab.stages.law import OpenLaw, cost_named

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sparsity_lab.cost.advice import Advice
    from sparsity_lab.stages.compare import EqualCostComparison

Budget = Literal["data", "compute", "ratio"]


class LawView(View):
    """A law to ask; every question takes numbers or arrays, which broadcast, and answers with an array.

    N is weights, D the law's `data_unit`, losses are nats.
    """

    value: OpenLaw

    @property
    def law(self) -> Law:
        """The law itself, for everything in `sparsity_lab.laws`."""
        return self.value.law

    @property
    def params(self) -> dict[str, float]:
        """The parameters by name, raw units."""
        return {name: float(value) for name, value in self.law.params._asdict().items()}

    def loss(self, nonzero: ArrayLike, data: ArrayLike, sparsity: ArrayLike = 0.0) -> FloatArray:
        """Loss in nats of N non-zero weights trained on D data at sparsity S."""
        return self.law.predict(sparsity, nonzero, data)

    def gain(self, sparsity: ArrayLike) -> FloatArray:
        """How many times larger a dense model must be to match one of sparsity S and as many non-zero weights.

        Raises:
            RecordError: by this law that depends on N and D.
        """
        return optimum.gain(self.law, sparsity)

    def optimal_sparsity(
        self,
        nonzero: ArrayLike,
        budget: ArrayLike,
        unit: Budget = "data",
        *,
        cost: str = "sparse_schedule",
        highest: float = optimum.HIGHEST_SPARSITY,
    ) -> FloatArray:
        """The sparsity at which N non-zero weights reach the lowest loss for a budget; 0 where dense wins.

        Args:
            nonzero: N.
            budget: in the unit.
            unit: `data`, D of the dense run that costs as much; `compute`, training FLOPs; `ratio`, the compute in
                units of that for which a dense model of N weights is optimal.
            cost: m(S) by name: sparse_schedule, dense_hardware or free; or a table's file.
            highest: the sparsest that is considered.

        Raises:
            RecordError: there is no such cost.
        """
        N = np.asarray(nonzero, dtype=np.float64)
        chinchilla = optimum.chinchilla_data(self.law, N) if unit == "ratio" else None
        given = np.asarray(budget, dtype=np.float64)
        D = (
            given * chinchilla
            if chinchilla is not None
            else optimum.dense_data(given, N)
            if unit == "compute"
            else given
        )
        return optimum.optimal_sparsity(self.law, N, D, cost_named(cost), highest=highest)

    def data_needed(self, loss: ArrayLike, nonzero: ArrayLike, sparsity: ArrayLike = 0.0) -> FloatArray:
        """D with which N non-zero weights reach a loss; infinite where none suffices."""
        return data_needed(self.law, loss, sparsity, nonzero)

    def summary(self) -> str:
        """Name, form and source."""
        return f"{self.value.name}: {self.law.form.name}, D in {self.law.data_unit}, {self.law.source}"

    def text(self) -> str:
        """As `sparsity-lab law show`."""
        from sparsity_lab.console.law import law_text

        return law_text(self.value)

    def table(self) -> Columns:
        """A row a parameter, with its 90 % interval where the law carries draws."""
        columns: Columns = {"parameter": list(self.params), "value": list(self.params.values())}
        if self.law.draws is not None:
            ends = [Interval.of(np.asarray(v), d, 0.9) for v, d in zip(self.law.params, self.law.draws, strict=True)]
            columns |= {"low": [float(one.low) for one in ends], "high": [float(one.high) for one in ends]}
        return columns

    def figure(self) -> Figure | None:
        """The gain against sparsity; None where it is not one curve."""
        from sparsity_lab.console.fit_plots import has_gains
        from sparsity_lab.plots import figures, info_fits

        if not has_gains(self.law):
            return None
        return figures.gains_figure(info_fits.gains({self.value.name: self.law}))


class FitView(View):
    """Laws fitted to runs."""

    value: RunsFit

    @property
    def laws(self) -> Mapping[str, LawView]:
        """Every form that was fitted, by name, with its draws."""
        return {name: LawView(OpenLaw(name, one.law, document=one.document)) for name, one in self.value.forms.items()}

    @property
    def law(self) -> LawView:
        """Of several the one of form frantar, else the first."""
        laws = self.laws
        return laws.get("frantar") or next(iter(laws.values()))

    def summary(self) -> str:
        """Source, rows and forms."""
        return f"{self.value.source}: {', '.join(self.value.forms)} fitted to {len(self.value.input.runs)} runs"

    def text(self) -> str:
        """As `sparsity-lab fit`."""
        from sparsity_lab.console.fit import fit_text

        return fit_text(self.value)

    def table(self) -> Columns:
        """A row a parameter of each form, with the interval of its bootstrap, and whether the runs identify it."""
        rows = []
        for name, one in self.value.forms.items():
            told = one.document.bootstrap
            for parameter, value in one.document.params.items():
                at = told.intervals[parameter] if told else None
                rows.append((name, parameter, value, at and at.low, at and at.high, at and at.identified))
        names = ("form", "parameter", "value", "low", "high", "identified")
        return {name: [row[place] for row in rows] for place, name in enumerate(names)}

    def figure(self) -> Figure | None:
        """Losses of the runs against data, with the law's lines."""
        from sparsity_lab.plots import figures, info_fits

        curves = info_fits.loss_curves(self.value.input.runs, self.law.law)
        return figures.loss_against_data_figure(curves)


class AdviceView(View):
    """A decision."""

    value: Advice

    def summary(self) -> str:
        """What to do."""
        return f"{self.value.scenario}: {words_in('en')(self.value.recommendation.headline)}"

    def text(self) -> str:
        """As `sparsity-lab advise`."""
        from click import unstyle

        from sparsity_lab.console.advice import advice_lines

        return unstyle("\n".join(advice_lines(self.value)))

    def table(self) -> Columns:
        """A row an option, with its money over the horizon, and what it saves against dense."""
        names = ("kind", "sparsity", "nonzero", "training", "inference", "total", "npv", "npv_low", "npv_high", "share")
        return {name: [getattr(one, name) for one in self.value.options] for name in names}


class ComparisonView(View):
    """Dense against sparse, where both may use equally much."""

    value: EqualCostComparison

    def summary(self) -> str:
        """Where the reference stands."""
        at = self.value.reference
        return f"{self.value.opened.name}: a dense run of N = {count(at.nonzero)}, D = {count(at.data)}"

    def text(self) -> str:
        """As `sparsity-lab compare`."""
        from sparsity_lab.console.compare import comparison_text

        return comparison_text(self.value)

    def table(self) -> Columns:
        """A row a quantity: who wins, at which sparsity, by how many nats."""
        every = self.value.comparisons
        ends = {end: [float(getattr(one.advantage, end)) for one in every] for end in ("value", "low", "high")}
        return {
            "at equal": [one.quantity.name for one in every],
            "winner": [one.winner for one in every],
            "S": [one.best for one in every],
            **{"advantage" if end == "value" else end: values for end, values in ends.items()},
        }

    def figure(self) -> Figure | None:
        """Advantage against sparsity, a panel a quantity."""
        from sparsity_lab.console.compare import figure_info
        from sparsity_lab.plots.draw_equal_cost import equal_cost_figure

        return equal_cost_figure(figure_info(self.value))
