"""When does weight sparsity pay? Declarative, reproducible scaling studies of sparse models.

    import sparsity_lab as sl

    sl.plan("smoke")                              # study, plan, prepare, measure, train, search, fit, report, run
    law = sl.law("frantar2024-t5-c4")             # law, compare, advise, runs
    law.optimal_sparsity(85e6, 100, "ratio")

Names are loaded when they are used: `import sparsity_lab` loads nothing heavy. docs/python.md has examples.

specs       what a user writes            laws     forms, fits, uncertainty, optimal sparsity
models      T5, ViT, decoder              search   Optuna: the optimal sparsity of each data budget
data        sources to streams            plots    what is drawn, and drawing it
pruning     masks on schedule             report   findings, verdict, page
training    one RunSpec, one RunRecord    stages   the steps of a study
sweep       what is missing, in parallel  cli      the command line; front: that of Python
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsity_lab.front import (
        advise,
        compare,
        fit,
        law,
        measure,
        plan,
        prepare,
        report,
        run,
        runs,
        search,
        study,
        train,
    )

__version__ = "0.1.0"
__all__ = [
    "__version__",
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
ROOMS = frozenset({"report", "search"})
"""names of the front that rooms have too: these rooms can be called"""


class CallableRoom(ModuleType):
    """A room that is called as the function of its name in the front is: `sl.search("smoke")`."""

    def __call__(self, *given: Any, **named: Any) -> Any:
        """As the function of this name in `sparsity_lab.front`."""
        return self.__wrapped__(*given, **named)

    @property
    def __wrapped__(self) -> Any:
        """What is called, which is also whose signature and documentation `help` and editors show."""
        return getattr(import_module("sparsity_lab.front"), self.__name__.rpartition(".")[2])


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}") if name in ROOMS else getattr(import_module(f"{__name__}.front"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
