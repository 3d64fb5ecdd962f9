"""What the other findings rest on: the noise of seeds, the quality of the fits, and the runs themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.laws import LawDocument
from sparsity_lab.laws.rows.runs import left_out
from sparsity_lab.messages import Message, Said, Value, linked, message, words_in
from sparsity_lab.report.evidence import Evidence
from sparsity_lab.report.page import Finding, Tone
from sparsity_lab.results.places import CLEAR, MATCHED, of_difference

CLOSE_TO_ASKED = 1e-3
"""how far above the asked sparsity rounding may lead"""

ALIKE = 1.1
"""held-out errors within this factor are no difference"""


def matched_finding(evidence: Evidence) -> Finding:
    """Whether runs that are compared at equal N hold equally many weights in all."""
    title, far = message("matched-title"), evidence.unmatched
    ratios = [one.ratio for one in evidence.totals if one.ratio is not None and one.sparsity]
    if not ratios:
        return Finding("matched", title, (message("matched-unknown"),), "doubtful")
    numbers: dict[str, float | str | None] = {"least_ratio": min(ratios), "most_ratio": max(ratios)}
    if far is None or far.ratio is None:
        said = message("matched", least=min(ratios), most=max(ratios), within=MATCHED)
        return Finding("matched", title, (said,), "clear", numbers)
    said = message("unmatched", ratio=far.ratio, S=far.sparsity, nonzero=far.asked, within=MATCHED)
    return Finding("matched", title, (said,), "doubtful", numbers)


def noise_finding(evidence: Evidence) -> Finding:
    """Do the differences between sparsities exceed the noise of seeds?"""
    noise, ratio, title = evidence.noise, evidence.signal_to_noise, message("noise-title")
    if noise is None:
        return Finding("noise", title, (message("noise-unknown"),), "doubtful")
    first = message("noise", deviation=noise.deviation, points=noise.points, degrees=noise.degrees)
    numbers: dict[str, float | str | None] = {"deviation": noise.deviation, "degrees": float(noise.degrees)}
    if ratio is None:
        return Finding("noise", title, (first, message("noise-no-partner")), "doubtful", numbers)
    seen = sum(abs(one.mean) > CLEAR * of_difference(noise) for one in evidence.differences)
    median = float(np.median([abs(one.mean) for one in evidence.differences]))
    every = len(evidence.differences)
    second = message("noise-differences", median=median, ratio=ratio, seen=seen, all=every, clear=CLEAR)
    tone: Tone = "clear" if ratio > CLEAR else "doubtful"
    more = [] if ratio > CLEAR else [message("noise-too-large")]
    numbers |= {"signal_to_noise": ratio, "median": median}
    if (scatter := evidence.shape_scatter) is not None:
        more.insert(0, message("noise-of-shapes", scatter=scatter, deviation=noise.deviation))
        numbers["shape_scatter"] = scatter
    return Finding("noise", title, (first, second, *more), tone, numbers)


def fit_finding(evidence: Evidence) -> Finding:
    """How well each law describes the runs and predicts those it did not see."""
    laws, title = evidence.inputs.laws, message("fit-title")
    if not laws:
        return Finding("fit", title, (message("fit-none"),), "doubtful")
    sentences = [_fit_sentence(law) for law in laws.values()]
    errors = {name: law.heldout.mean_relative_error for name, law in laws.items() if law.heldout}
    if len(errors) > 1:
        order = sorted(errors, key=lambda name: errors[name])
        best, worst = (max(errors[name], 1e-12) for name in (order[0], order[-1]))
        others = [message("fit-times-off", name=name, times=errors[name] / best) for name in order[1:]]
        sentences.append(
            message("fit-alike", names=linked("pair-and", sorted(errors)))
            if worst < ALIKE * best
            else message("fit-best", best=order[0], others=linked("pair-comma", others))
        )
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
    dense, sparse = (
        sum(each) for each in zip(*((r.cost.flops_dense, r.cost.flops_sparse) for r in records), strict=True)
    )
    first = message(
        "runs-of-grid-and-search" if trials else "runs-of-grid",
        grid=len(grid),
        trials=trials,
        all=len(records),
        dense=dense,
        sparse=sparse,
    )
    counted = sorted(Counter(record.reason for record in diverged).items(), key=lambda item: words_in()(item[0]))
    reasons = tuple(message("run-reason-times", reason=reason, times=times) for reason, times in counted)
    lost = message("runs-diverged", runs=len(diverged), reasons=reasons) if diverged else message("runs-none-diverged")
    sentences = (first, lost, *_sparse_starts(records), message("runs-machines", machines=_machines(records)))
    numbers: dict[str, float | str | None] = {
        "runs": float(len(records)),
        "diverged": float(len(diverged)),
        "flops_dense": dense,
        "flops_sparse": sparse,
    }
    return Finding("runs", message("runs-title"), sentences, "neutral", numbers)


def _sparse_starts(records: Sequence[RunRecord]) -> tuple[Message, ...]:
    """What runs that began with sparse weights made of their zeros."""
    found = [record for record in records if record.start_sparsity]
    if not found:
        return ()
    more = [record for record in found if record.sparsity > record.spec.sparsity + CLOSE_TO_ASKED]
    off = sum(record.start_off_pattern > 0 for record in found)
    least, most = (limit(record.start_sparsity for record in found) for limit in (min, max))
    said = message("runs-sparse-starts", runs=len(found), least=least, most=most)
    return (said, message("runs-sparser-than-asked", runs=len(more), off=off)) if more else (said,)


def _fit_sentence(law: LawDocument) -> Message:
    if law.heldout is None:
        held = message("fit-not-held-out")
    else:
        rule = law.heldout.holdout
        which = message(f"held-out-{rule.key}") if rule.key.startswith("largest-") else rule
        held = message("fit-held-out", runs=law.heldout.rows, which=which, error=law.heldout.mean_relative_error)
    reasons = left_out(law.provenance.excluded)
    left: Said = message("fit-left-out", reasons=linked("pair-comma", reasons)) if reasons else ""
    parts: dict[str, Value] = {"form": law.form, "runs": law.provenance.runs, "left": left, "held": held}
    fitted = Message("fit-of", parts) if law.fit.r2 is None else Message("fit-explains", {**parts, "r2": law.fit.r2})
    return message("sentences", one=fitted, other=message("fit-status", status=law.fit.status))


def _unidentified(law: LawDocument) -> Message | None:
    if not law.fit.converged:
        return message("fit-not-converged", form=law.form)
    if law.fit.refuted:
        return message("fit-refuted", form=law.form)
    if law.bootstrap is None:
        return message("fit-no-bootstrap", form=law.form)
    loose = [name for name, interval in law.bootstrap.intervals.items() if not interval.identified]
    return message("fit-loose", names=", ".join(loose), form=law.form) if loose else None


def _machines(records: Sequence[RunRecord]) -> tuple[Message, ...]:
    kinds = Counter(record.machine for record in records)
    return tuple(
        message(
            "machine",
            processor=machine.processor,
            device=machine.device,
            set=machine.instruction_set,
            threads=machine.threads,
            torch=machine.torch,
            runs=runs,
        )
        for machine, runs in kinds.most_common()
    )
