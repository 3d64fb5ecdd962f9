"""The front of Python: `import sparsity_lab as sl`, and a dozen functions that do what the commands of that name do.

Each takes a study by its name, by the path of its file, or as `study` opened it, calls the function of
`sparsity_lab.stages` that the command calls, and gives a view of what came back: `print` shows what the command
prints, a notebook a table and where it tells more a figure, `table()` plain columns, and `value` everything. What a
user gets wrong raises `sparsity_lab.errors.InputError`; what an earlier step has yet to make, `NotReadyError`.
"""

from sparsity_lab.front.laws import advise, compare, law
from sparsity_lab.front.steps import fit, measure, plan, prepare, report, run, runs, search, study, train

__all__ = [
    "advise",
    "compare",
    "fit",
    "law",
    "measure",
    "plan",
    "prepare",
    "report",
    "run",
    "runs",
    "search",
    "study",
    "train",
]
