"""Laws, comparisons and decisions as functions."""

from __future__ import annotations

from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsity_lab.errors import RecordError
from sparsity_lab.front.steps import Root

if TYPE_CHECKING:
    from sparsity_lab.console.notebook_laws import AdviceView, ComparisonView, LawView


def law(name: str, *, root: Root = ".", **at: float) -> LawView:
    """Open a law: a published one by its name, a study's as STUDY or STUDY/FORM, or a file.

    Args:
        name: of the law; `law("")` tells in its error what there is.
        root: the project folder.
        at: what else the form reads beside S, N and D: `unique`, `bits`, ...

    Raises:
        RecordError: nothing has that name, or the form reads no such thing.
        SpecError: a published law's file is damaged.
    """
    from sparsity_lab.console.notebook_laws import LawView
    from sparsity_lab.stages.law import open_law

    opened = open_law(name, Path(root))
    for strange in sorted(at.keys() - {*opened.law.form.further}):
        known = ", ".join(opened.law.form.further) or "nothing beside sparsity, nonzero and data"
        raise RecordError("is not read by this form", where=name, field=strange, found=at[strange], expected=known)
    return LawView(opened.given(at))


def compare(name: str, *, root: Root = ".", regime: str | None = None, **request: Any) -> ComparisonView:
    """Dense against sparse at equal weights, FLOPs, seconds, memory and money, by a study's law and runs or a law.

    Args:
        name: of a study that has been fitted, or of a law.
        root: the project folder.
        regime: of the study: its schedule, and its runs.
        request: fields of `sparsity_lab.stages.compare.ComparisonRequest`: nonzero, data, ratio, hardware, ...

    Raises:
        NotReadyError: the study has no law yet.
        RecordError: nothing has that name, or there is no such request.
    """
    from sparsity_lab.console.notebook_laws import ComparisonView
    from sparsity_lab.stages.compare import ComparisonRequest, compare_at_equal_cost

    fields = ComparisonRequest.__dataclass_fields__
    for strange in sorted(request.keys() - fields):
        found, expected = request[strange], ", ".join(fields)
        raise RecordError("nothing of that name can be asked", field=strange, found=found, expected=expected)
    return ComparisonView(compare_at_equal_cost(name, Path(root), ComparisonRequest(**request), regime))


def advise(scenario: Root, *, root: Root = ".") -> AdviceView:
    """Decide whether sparsity pays: train sparse, prune what there is, quantise, or stay dense.

    Args:
        scenario: its name (specs/scenarios/NAME.yaml), or the path of its file.
        root: the project folder.

    Raises:
        SpecError: there is no such scenario, or it is wrong.
        RecordError: it names a law or hardware that is not there or is damaged.
    """
    from sparsity_lab.console.notebook_laws import AdviceView
    from sparsity_lab.stages.advise import advise_scenario

    return AdviceView(advise_scenario(fspath(scenario), Path(root)))
