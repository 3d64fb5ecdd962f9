"""What a fit says, on a terminal and to machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from sparsity_lab.console.law import answer_table, law_json, law_text
from sparsity_lab.console.tables import text_table, wrapped
from sparsity_lab.laws.documents.comparison import ComparisonDocument, comparison_document
from sparsity_lab.laws.fitting.compare import AICC, IN_SAMPLE
from sparsity_lab.laws.fitting.rollout import Step
from sparsity_lab.laws.forms.features import told_levels
from sparsity_lab.laws.questions import queries as ask
from sparsity_lab.laws.questions.against_published import AgainstPublished
from sparsity_lab.laws.questions.answers import Answer, warned
from sparsity_lab.laws.questions.multipliers import multiplier
from sparsity_lab.laws.questions.optimum import acts_on_size_alone
from sparsity_lab.messages import words_in
from sparsity_lab.messages.numbers import count
from sparsity_lab.stages.fit_runs import DOCUMENTED, FittedForm, RunsFit, Suggesting, suggestion
from sparsity_lab.stages.law import OpenLaw

MOST_BUDGETS = 4
"""data budgets, among the data of the runs, at which a fit tells its optimal sparsities"""
MOST_TESTED = 4
"""test runs that get a column of their own"""


NOTHING_MORE = Suggesting()
WON, UNSOUND, NOTHING = "*", "!", "-"
HEADS: Mapping[str, str] = MappingProxyType(
    {"largest-data": "max D", "largest-nonzero": "max N", "largest-sparsity": "max S"}
)
LONGEST_HEAD = 14


def comparison_text(compared: ComparisonDocument) -> str:
    """A line a form, a column a criterion; the winner of each column carries a star."""
    head = ("form", "params", *(HEADS.get(name, name)[:LONGEST_HEAD] for name in compared.criteria))
    rows = [
        (form, str(one.parameters), *(_cell(compared, name, form) for name in compared.criteria))
        for form, one in compared.forms.items()
    ]
    table = (line.rstrip() for line in text_table(head, rows).splitlines())
    return "\n".join((*table, *(line for note in _notes(compared) for line in wrapped(note, hang="  "))))


def _notes(compared: ComparisonDocument) -> Iterator[str]:
    unsound = "that fit has not converged, is contradicted by the rows or is degenerate"
    yield f"{WON} lowest of its column; {UNSOUND} wins nothing, because {unsound}"
    yield "columns answer different questions: there is no blended score"
    if set(compared.criteria) - {IN_SAMPLE, AICC}:
        yield "max D, max N, max S, files: mean |predicted / measured - 1| on those runs, by a refit without them"
    for form, one in compared.forms.items():
        if not one.converged or one.refuted or one.degenerate:
            yield f"{form}: {words_in()(one.status)}"
        yield from (f"{form}, {name}: {reason}" for name, reason in one.missing.items())
    yield from (f"{form} left out: {reason}" for form, reason in compared.skipped.items())


def _cell(compared: ComparisonDocument, name: str, form: str) -> str:
    criterion = compared.criteria[name]
    value = criterion.values[form]
    if value is None:
        return NOTHING
    star = WON if form == criterion.winner else " " if compared.may_win(name, form) else UNSOUND
    match name:
        case "objective":
            return f"{value:.5g}{star}"
        case "AICc":
            return f"{value:.1f}{star}"
        case _:
            return f"{value:.2%}{star}"


def fit_text(fitted: RunsFit, suggest: Suggesting = NOTHING_MORE, *, rolled: bool = False) -> str:
    """Everything for people: the law with what follows from it, or several side by side; the given law beside its own.

    Args:
        fitted: the laws.
        suggest: which further runs to propose for each law.
        rolled: also add the sizes one by one, each time predicting the next.
    """
    rollouts = (rollout_text(name, one.rollout) for name, one in fitted.forms.items()) if rolled else ()
    return "\n\n".join(filter(None, (*_blocks(fitted, suggest), *rollouts)))


def fit_json(fitted: RunsFit, suggest: Suggesting = NOTHING_MORE, *, rolled: bool = False) -> dict[str, Any]:
    """The same for machines; a bootstrap's draws stand in the law's own file (`--out`)."""
    laws = {}
    for name, one in fitted.forms.items():
        derived = {f"{table}_table": answer.as_json() for table, answer in _derived(one).items()}
        diagnostics = one.diagnostics.model_dump(mode="json")
        standing = {"standing_out": [words_in("en")(apart.words) for apart in one.standing_out]}
        steps = {"rollout": list(map(_step_json, one.rollout))} if rolled else {}
        laws[name] = law_json(_opened(name, one)) | derived | {"diagnostics": diagnostics} | standing | steps
    return {
        "source": fitted.source,
        "runs": len(fitted.input.runs),
        "repeats": fitted.input.repeats,
        "excluded": dict(fitted.input.excluded),
        "laws": laws,
        "comparison": comparison_document(fitted.comparison, fitted.source).model_dump(mode="json"),
        "suggestions": {name: answer.as_json() for name, answer in _suggestions(fitted, suggest)},
        "against": _against_json(fitted.against) if fitted.against else None,
    }


def study_fit_text(fitted: RunsFit) -> str:
    """The forms side by side, and what to think of each fit."""
    statuses = (f"{form}: {words_in()(one.fit.status)}" for form, one in fitted.forms.items())
    return "\n".join((comparison_text(comparison_document(fitted.comparison, fitted.source)), *statuses))


def against_text(against: AgainstPublished) -> str:
    """A given law beside the fit: the numbers, then the verdict in words."""
    rows = [
        (name, f"{objective:.5g}", *(f"{error:+.2%}" for error in errors[:MOST_TESTED]))
        for name, objective, errors in (
            (against.name, against.objective, against.given_errors),
            (f"fitted {against.fit.form.name}", against.fit.objective, against.fitted_errors),
        )
    ]
    runs = [f"error on test run {number}" for number in range(1, len(rows[0]) - 1)]
    return "\n".join(
        (
            text_table(("law", "objective", *runs), rows),
            *(line for said in against.words for line in wrapped(words_in()(said))),
        )
    )


def _blocks(fitted: RunsFit, suggest: Suggesting) -> Iterator[str]:
    """One law is told in full, several side by side."""
    if len(fitted.forms) == 1:
        for name, one in fitted.forms.items():
            yield law_text(_opened(name, one))
            yield from map(answer_table, _derived(one).values())
            yield "\n".join(_standing(one))
            yield "\n".join(_remedies(one))
    if len(fitted.forms) > 1 or fitted.comparison.holdouts != (DOCUMENTED,):
        yield comparison_text(comparison_document(fitted.comparison, fitted.source))
    for name, answer in _suggestions(fitted, suggest):
        yield f"runs to do next, for the {name} law:\n{answer_table(answer)}"
    if fitted.against:
        yield against_text(fitted.against)


def _suggestions(fitted: RunsFit, asked: Suggesting) -> Iterator[tuple[str, Answer]]:
    cost = multiplier(fitted.settings.cost)
    for name, one in fitted.forms.items() if asked.count else ():
        yield name, suggestion(one, asked, cost)


def rollout_text(name: str, steps: Sequence[Step]) -> str:
    """A line a step: what was seen, what was predicted, and how well."""
    rows = [
        (
            count(step.largest),
            count(step.next),
            *(
                (str(len(step.heldout.runs)), f"{step.heldout.mean_relative_error:.2%}", f"{step.heldout.bias:+.2%}")
                if step.heldout
                else (NOTHING, NOTHING, NOTHING)
            ),
        )
        for step in steps
    ]
    head = ("sizes up to", "predict", "runs", "mean error", "bias")
    reasons = {step.reason: f"{NOTHING} {step.reason}" for step in steps if step.reason}
    said = (line for reason in reasons.values() for line in wrapped(reason, hang="  "))
    return "\n".join((f"rollout of the {name} law:", text_table(head, rows), *said))


def _step_json(step: Step) -> dict[str, Any]:
    held = step.heldout
    errors = {"mean_relative_error": held.mean_relative_error, "bias": held.bias} if held else {"reason": step.reason}
    return {"largest": step.largest, "next": step.next, **errors}


def _standing(one: FittedForm) -> Iterator[str]:
    """Rows and rungs that stand apart, and what they do to S_opt."""
    for apart in one.standing_out:
        yield from wrapped(words_in()(apart.words), hang="  ")


def _remedies(one: FittedForm) -> Iterator[str]:
    """What is not identified, why, and which runs would change it."""
    for verdict in one.diagnostics.verdicts:
        if not verdict.identified:
            low, high = f"{verdict.low:.4g}", f"{verdict.high:.4g}"
            parts = {"name": verdict.name, "low": low, "high": high, "reason": verdict.reason}
            remedy = words_in()(verdict.remedy) if verdict.remedy else ""
            yield from wrapped(f"{words_in().say('not-identified', **parts)} {remedy}", hang="  ")


def _derived(one: FittedForm) -> dict[str, Answer]:
    """Gains at the sparsities trained, and optimal sparsities of some budgets, with their intervals."""
    sparsities, law = told_levels(one.fit.runs.sparsity), one.law
    if not law.form.sees_sparsity or not sparsities:
        return {}
    middle, data = [float(one.fit.units.nonzero)], np.unique(one.fit.runs.data)
    budgets = data[np.unique(np.linspace(0, len(data) - 1, MOST_BUDGETS).round().astype(int))]
    highest = float(one.fit.runs.sparsity.max())
    optima = ask.optimum(law, middle, data=budgets, highest=max(highest, 0.5))
    gains = {"gain": ask.gains({"gain": law}, sparsities)} if acts_on_size_alone(law) else {}
    return {name: warned(answer, [one.document]) for name, answer in {**gains, "optimal_sparsity": optima}.items()}


def _against_json(against: AgainstPublished) -> dict[str, Any]:
    return {
        "law": against.name,
        "objective": against.objective,
        "fitted_objective": against.fit.objective,
        "excess": against.excess,
        "test_errors": against.given_errors.tolist(),
        "fitted_test_errors": against.fitted_errors.tolist(),
        "words": list(map(words_in(), against.words)),
    }


def _opened(name: str, one: FittedForm) -> OpenLaw:
    return OpenLaw(name, one.law, document=one.document)
