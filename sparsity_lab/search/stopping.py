"""What a round's runs are held against, from the curves of earlier rounds; `artifacts.stopping` has the rule."""

from __future__ import annotations

from collections.abc import Sequence

from sparsity_lab.artifacts.records import RunRecord
from sparsity_lab.artifacts.searches import Source
from sparsity_lab.artifacts.stopping import TOLERANCE, Recovery, StopRule
from sparsity_lab.pruning.schedules import ramp_of
from sparsity_lab.specs.searches import StoppingSpec

STOPPABLE: frozenset[Source] = frozenset(("sampler",))
"""trials that may be given up: dense anchor and design span the curve, and repeats are there to be compared"""


def stop_rule(settings: StoppingSpec | None, records: Sequence[RunRecord], noise: float | None) -> StopRule | None:
    """The rule for the next round of one N and budget: a pure function of what earlier rounds have finished.

    Args:
        settings: the search's; None where nothing is to be given up.
        records: of the finished trials of this N and budget, whoever asked for them; diverged ones are passed over.
        noise: standard deviation of the loss between seeds, nats; None where it is not known, when there is no rule.
    """
    finished = [record for record in records if record.finished and record.curve]
    return rule_from(settings, [(record.curve[-1].loss, recovery_of(record)) for record in finished], noise)


def rule_from(
    settings: StoppingSpec | None, ends: Sequence[tuple[float, Recovery]], noise: float | None
) -> StopRule | None:
    """As `stop_rule`, from what is remembered of finished runs: the curve's last loss in nats, and the recovery."""
    if settings is None or noise is None or not noise > 0 or len(ends) < settings.least:
        return None
    return StopRule(
        best=min(loss for loss, _ in ends),
        margin=settings.margin * noise,
        recoveries=tuple(recovery for _, recovery in ends),
        least=settings.least,
    )


def recovery_of(record: RunRecord) -> Recovery:
    """How far a finished run fell after its mask had settled."""
    spec, end = record.spec, record.curve[-1].loss
    settled = ramp_of(spec).last_change / max(spec.steps, 1)
    after = [(spec.share(point.step), point.loss - end) for point in record.curve]
    after = [(fraction, drop) for fraction, drop in after if fraction > settled + TOLERANCE]
    return Recovery(settled=settled, fractions=tuple(f for f, _ in after), drops=tuple(d for _, d in after))
