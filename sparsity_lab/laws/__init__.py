"""Scaling laws of sparse training: fit them, judge them, use them. NumPy only.

runs = Runs.from_csv("runs.csv")                        # sparsity, nonzero, data, loss
fitted = fit(runs, "frantar")                           # the global minimum, or a status that says it is not
draws = bootstrap(fitted)                               # of rows; resample="sizes" for whole sizes
profile(fitted, ("b_D",))                               # likelihood of a parameter, its interval
verdicts(draws)                                         # identified or not, and what data would help
law = Law.from_fit(fitted, draws)                       # or Law.load("specs/laws/frantar2024-t5-c4.yaml")
gain(law, [0.5, 0.75, 0.875])                           # dense-equivalent size / N
optimal_sparsity(law, 1e8, np.geomspace(1e9, 1e12, 7))  # for budgets C = 6 N D_dense
joint_optimum(law, 1e21)                                # with the size free too
data_needed(law, 2.1, 0.75, 1e8)                        # backwards: D for a loss; inf where none suffices
law.interval(lambda law: gain(law, 0.75))               # of anything derived from it
suggest_runs(law, lambda law: optimal_sparsity(law, 1e8, 1e11), candidates_around(runs), 4)

rows         measured runs, checked, and how they are read from any table
forms        power-law terms with named parameters, the forms there are, a form laid out for given runs
fitting      Huber loss, batched minimisation, multi-start fits, AICc, held-out errors, forms side by side
uncertainty  bootstrap, covariance and noise of the runs, profile likelihoods
documents    the JSON of fitted laws and comparisons
law          a form with parameters
questions    gain, optimal sparsity, what a loss needs, what is identified, which runs to do next

Names are loaded when they are used: to ask a law loads nothing that fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsity_lab.laws.documents.law import LawDocument, document
    from sparsity_lab.laws.fitting.aicc import aicc
    from sparsity_lab.laws.fitting.compare import Column, Compared, Comparison, HeldOut, compare, heldout_error
    from sparsity_lab.laws.fitting.fit import Fit, evaluate, fit
    from sparsity_lab.laws.forms.declaration import FormDeclaration
    from sparsity_lab.laws.forms.features import DATA, DENSE, DENSITY, NONZERO, SPARSITY, Feature
    from sparsity_lab.laws.forms.form import Form
    from sparsity_lab.laws.forms.named import CHINCHILLA, FORMS, FRANTAR, form_named
    from sparsity_lab.laws.forms.power import PowerForm
    from sparsity_lab.laws.forms.terms import FormColumn, Parameter, Power, Term, exponent
    from sparsity_lab.laws.law import Law
    from sparsity_lab.laws.questions.identifiability import Quantity, usual_quantities, verdict_on, verdicts
    from sparsity_lab.laws.questions.inverse import data_needed, dense_size_needed, loss_floor, size_needed
    from sparsity_lab.laws.questions.multipliers import (
        Measured,
        Multiplier,
        ScheduledDensity,
        SparseSchedule,
        dense_hardware,
        free,
        multiplier,
    )
    from sparsity_lab.laws.questions.next_runs import Points, Suggestion, candidates_around, suggest_runs
    from sparsity_lab.laws.questions.optimum import (
        JointOptimum,
        OptimumGrid,
        acts_on_size_alone,
        chinchilla_compute,
        chinchilla_data,
        chinchilla_ratio,
        dense_data,
        dense_equivalent_size,
        gain,
        joint_optimum,
        optimal_sparsity,
        optimal_sparsity_on_dense_hardware,
        optimum_grid,
        training_flops,
    )
    from sparsity_lab.laws.questions.together import Stacked, together
    from sparsity_lab.laws.rows.runs import Runs
    from sparsity_lab.laws.uncertainty.bootstrap import Bootstrap, bootstrap
    from sparsity_lab.laws.uncertainty.covariance import covariance
    from sparsity_lab.laws.uncertainty.intervals import Interval, Verdict
    from sparsity_lab.laws.uncertainty.noise import Noise, noise
    from sparsity_lab.laws.uncertainty.profile import Profile, profile

__all__ = [
    "CHINCHILLA",
    "DATA",
    "DENSE",
    "DENSITY",
    "FORMS",
    "FRANTAR",
    "NONZERO",
    "SPARSITY",
    "Bootstrap",
    "Column",
    "Compared",
    "Comparison",
    "Feature",
    "Fit",
    "Form",
    "FormColumn",
    "FormDeclaration",
    "HeldOut",
    "Interval",
    "JointOptimum",
    "Law",
    "LawDocument",
    "Measured",
    "Multiplier",
    "Noise",
    "OptimumGrid",
    "Parameter",
    "Points",
    "Power",
    "PowerForm",
    "Profile",
    "Quantity",
    "Runs",
    "ScheduledDensity",
    "SparseSchedule",
    "Stacked",
    "Suggestion",
    "Term",
    "Verdict",
    "acts_on_size_alone",
    "aicc",
    "bootstrap",
    "candidates_around",
    "chinchilla_compute",
    "chinchilla_data",
    "chinchilla_ratio",
    "compare",
    "covariance",
    "data_needed",
    "dense_data",
    "dense_equivalent_size",
    "dense_hardware",
    "dense_size_needed",
    "document",
    "evaluate",
    "exponent",
    "fit",
    "form_named",
    "free",
    "gain",
    "heldout_error",
    "joint_optimum",
    "loss_floor",
    "multiplier",
    "noise",
    "optimal_sparsity",
    "optimal_sparsity_on_dense_hardware",
    "optimum_grid",
    "profile",
    "size_needed",
    "suggest_runs",
    "together",
    "training_flops",
    "usual_quantities",
    "verdict_on",
    "verdicts",
]
_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "documents.law": "LawDocument document",
        "fitting.aicc": "aicc",
        "fitting.compare": "Column Compared Comparison HeldOut compare heldout_error",
        "fitting.fit": "Fit evaluate fit",
        "forms.declaration": "FormDeclaration",
        "forms.features": "DATA DENSE DENSITY NONZERO SPARSITY Feature",
        "forms.form": "Form",
        "forms.named": "CHINCHILLA FORMS FRANTAR form_named",
        "forms.power": "PowerForm",
        "forms.terms": "FormColumn Parameter Power Term exponent",
        "law": "Law",
        "questions.identifiability": "Quantity usual_quantities verdict_on verdicts",
        "questions.inverse": "data_needed dense_size_needed loss_floor size_needed",
        "questions.multipliers": "Measured Multiplier ScheduledDensity SparseSchedule dense_hardware free multiplier",
        "questions.next_runs": "Points Suggestion candidates_around suggest_runs",
        "questions.optimum": (
            "JointOptimum OptimumGrid acts_on_size_alone chinchilla_compute chinchilla_data chinchilla_ratio "
            "dense_data dense_equivalent_size gain joint_optimum optimal_sparsity "
            "optimal_sparsity_on_dense_hardware optimum_grid training_flops"
        ),
        "questions.together": "Stacked together",
        "rows.runs": "Runs",
        "uncertainty.bootstrap": "Bootstrap bootstrap",
        "uncertainty.covariance": "covariance",
        "uncertainty.intervals": "Interval Verdict",
        "uncertainty.noise": "Noise noise",
        "uncertainty.profile": "Profile profile",
    }
)
"""modules, and the names that are public of each, as above"""
_PLACES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
