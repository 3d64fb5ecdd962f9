"""Scaling laws of sparse training: fit them, judge them, use them. NumPy and SciPy only.

runs = Runs.from_csv("runs.csv")                        # sparsity, nonzero, data, loss
fitted = fit(runs, "frantar")                           # the global minimum, or a status that says it is not
print(fitted.status, fitted.params, fitted.r2)
law = Law.from_fit(fitted, bootstrap(fitted))           # or Law.load("specs/laws/frantar2024-t5-c4.yaml")
gain(law, [0.5, 0.75, 0.875])                           # dense-equivalent size / N
optimal_sparsity(law, 1e8, np.geomspace(1e9, 1e12, 7))  # for budgets C = 6 N D_dense
law.interval(lambda law: gain(law, 0.75))               # of anything derived from it

runs       measured runs, checked
form       what a form is: power-law terms with named parameters      forms      the forms there are
objective  Huber loss and its exact derivatives                       solver     batched minimisation in a box
fit        multi-start fits and their verdicts                        uncertainty  bootstrap, identifiability
law        a form with parameters                                     documents  the JSON of a fitted law
multipliers  cost multipliers m(S)                                    optimum    gain, optimal sparsity
compare    held-out errors, forms side by side
"""

from sparsity_lab.laws.compare import Comparison, HeldOut, compare, heldout_error
from sparsity_lab.laws.documents import LawDocument, document
from sparsity_lab.laws.fit import Fit, evaluate, fit
from sparsity_lab.laws.form import Form, Parameter, Power, Term
from sparsity_lab.laws.forms import CHINCHILLA, FORMS, FRANTAR, form_named
from sparsity_lab.laws.law import Law
from sparsity_lab.laws.multipliers import SparseSchedule, dense_hardware, free, multiplier
from sparsity_lab.laws.optimum import (
    chinchilla_compute,
    chinchilla_data,
    dense_data,
    gain,
    optimal_sparsity,
    optimal_sparsity_on_dense_hardware,
)
from sparsity_lab.laws.runs import Runs
from sparsity_lab.laws.uncertainty import Bootstrap, Interval, Verdict, bootstrap

__all__ = [
    "CHINCHILLA",
    "FORMS",
    "FRANTAR",
    "Bootstrap",
    "Comparison",
    "Fit",
    "Form",
    "HeldOut",
    "Interval",
    "Law",
    "LawDocument",
    "Parameter",
    "Power",
    "Runs",
    "SparseSchedule",
    "Term",
    "Verdict",
    "bootstrap",
    "chinchilla_compute",
    "chinchilla_data",
    "compare",
    "dense_data",
    "dense_hardware",
    "document",
    "evaluate",
    "fit",
    "form_named",
    "free",
    "gain",
    "heldout_error",
    "multiplier",
    "optimal_sparsity",
    "optimal_sparsity_on_dense_hardware",
]
