"""What the other findings rest on: the noise of seeds, the quality of the fits, and the runs themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.laws import LawDocument
from sparsity_lab.laws.rows.inputs import left_out
from sparsity_lab.messages import words_in
from sparsity_lab.messages.numbers import duration, percent, plural, quantity
from sparsity_lab.report.evidence import Evidence
from sparsity_lab.report.finding import Finding, Tone
from sparsity_lab.results.places import CLEAR, of_difference

ALIKE = 1.1
"""held-out errors within this factor are no difference"""


def noise_finding(evidence: Evidence) -> Finding:
    """Do the differences between sparsities exceed the noise of seeds?"""
    noise, ratio, title = evidence.noise, evidence.signal_to_noise, "Noise of seeds"
    if noise is None:
        text = "No run was repeated with another seed, so how far seeds alone move the loss is unknown."
        return Finding("noise", title, (text,), "doubtful")
    first = (
        f"Seeds alone move the held-out loss by {noise.deviation:.2g} nats (pooled standard deviation of "
        f"{plural(noise.points, 'repeated point')}, {noise.degrees} degrees of freedom)."
    )
    numbers: dict[str, float | str | None] = {"deviation": noise.deviation, "degrees": float(noise.degrees)}
    if ratio is None:
        return Finding(
            "noise", title, (first, "No sparse run has a dense partner to compare it with."), "doubtful", numbers
        )
    seen = sum(abs(one.mean) > CLEAR * of_difference(noise) for one in evidence.differences)
    median = float(np.median([abs(one.mean) for one in evidence.differences]))
    second = (
        f"At equal N and D, sparse and dense differ by {median:.2g} nats (median), {ratio:.3g} times the noise "
        f"of such a difference; {seen} of {len(evidence.differences)} differences exceed {CLEAR:g} times the noise."
    )
    tone: Tone = "clear" if ratio > CLEAR else "doubtful"
    warning = () if ratio > CLEAR else ("The noise is too large for these runs to tell sparsities apart.",)
    return Finding(
        "noise", title, (first, second, *warning), tone, numbers | {"signal_to_noise": ratio, "median": median}
    )


def fit_finding(evidence: Evidence) -> Finding:
    """How well each law describes the runs and predicts those it did not see."""
    laws, title = evidence.inputs.laws, "How well the laws fit"
    if not laws:
        return Finding("fit", title, ("No law was fitted.",), "doubtful")
    sentences = [_fit_sentence(law) for law in laws.values()]
    errors = {name: law.heldout.mean_relative_error for name, law in laws.items() if law.heldout}
    if len(errors) > 1:
        sentences.append(_ranked(errors))
    sentences += [text for law in laws.values() if (text := _unidentified(law))]
    numbers: dict[str, float | str | None] = {f"{name}_r2": law.fit.r2 for name, law in laws.items()}
    numbers |= {f"{name}_held_out_error": error for name, error in errors.items()}
    tone: Tone = "clear" if evidence.document and not _unidentified(evidence.document) else "doubtful"
    return Finding("fit", title, tuple(sentences), tone, numbers)


def runs_finding(evidence: Evidence) -> Finding:
    """What was run, and what it cost."""
    records, grid = evidence.records, evidence.inputs.grid
    trials = sum(len(budget.trials) for budget in evidence.inputs.search.budgets) if evidence.inputs.search else 0
    diverged = [record for record in records if not record.finished]
    dense, sparse, seconds = (
        sum(values)
        for values in zip(
            *((r.cost.flops_dense, r.cost.flops_sparse, r.cost.seconds * r.machine.threads) for r in records),
            strict=True,
        )
    )
    trained = f", a search of {plural(trials, 'trial')}" if trials else ", no search"
    first = (
        f"{plural(len(grid), 'run')} of the grid{trained}; {plural(len(records), 'different run')} in all, "
        f"{quantity(dense, 'FLOPs')} with every zero multiplied ({quantity(sparse, 'FLOPs')} with zeros skipped), "
        f"{duration(seconds)} of one core."
    )
    sentences = (first, _diverged_sentence(diverged), f"Made on {_machines(records)}.")
    numbers: dict[str, float | str | None] = {
        "runs": float(len(records)),
        "diverged": float(len(diverged)),
        "flops_dense": dense,
        "flops_sparse": sparse,
        "core_seconds": seconds,
    }
    return Finding("runs", "What was run", sentences, "neutral", numbers)


def _fit_sentence(law: LawDocument) -> str:
    explained = (
        "" if law.fit.r2 is None else f" explains {percent(law.fit.r2, 4)} of the variance (R² = {law.fit.r2:.4f}) and"
    )
    which = words_in()(law.heldout.holdout).split(",")[0] if law.heldout else ""
    held = (
        f"misses {plural(law.heldout.rows, 'run')} that a refit did not see ({which}) by "
        f"{percent(law.heldout.mean_relative_error, 2)} on average"
        if law.heldout
        else "was not tried on runs it had not seen"
    )
    reasons = ", ".join(map(words_in(), left_out(law.provenance.excluded)))
    left = f"; left out: {reasons};" if reasons else ""
    runs = plural(law.provenance.runs, "run")
    return f"{law.form}, fitted to {runs}{left},{explained} {held}. The fit: {words_in()(law.fit.status)}."


def _ranked(errors: Mapping[str, float]) -> str:
    order = sorted(errors, key=lambda name: errors[name])
    best, worst = (max(errors[name], 1e-12) for name in (order[0], order[-1]))
    if worst < ALIKE * best:
        return f"On runs that they have not seen, {' and '.join(sorted(errors))} are equally good."
    others = ", ".join(f"{name} {errors[name] / best:.2g} times as far off" for name in order[1:])
    return f"On runs that they have not seen, {order[0]} is best; {others}."


def _unidentified(law: LawDocument) -> str:
    if not law.fit.converged:
        return f"{law.form} is not to be relied on: its fit did not converge."
    if law.bootstrap is None:
        return f"Nothing is known of how surely the runs determine {law.form}: it has no bootstrap."
    loose = [name for name, interval in law.bootstrap.intervals.items() if not interval.identified]
    return f"The runs do not identify {', '.join(loose)} of {law.form}." if loose else ""


def _diverged_sentence(diverged: Sequence[RunRecord]) -> str:
    if not diverged:
        return "None diverged."
    reasons = ", ".join(f"{reason} ({times})" for reason, times in sorted(Counter(r.reason for r in diverged).items()))
    return f"{plural(len(diverged), 'run')} diverged and are left out of every fit: {reasons}."


def _machines(records: Sequence[RunRecord]) -> str:
    kinds = Counter(
        f"{m.processor} ({m.device}, {m.instruction_set}, {plural(m.threads, 'thread')} a run, torch {m.torch})"
        for m in (record.machine for record in records)
    )
    return "; ".join(f"{kind}: {plural(runs, 'run')}" for kind, runs in kinds.most_common())
