"""Which regimes make sense on which weights; said before anything is trained, without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sparsity_lab.errors import SpecError
from sparsity_lab.pruning.allocation import Shares, share_out
from sparsity_lab.specs.regimes.allocations import Global, Uniform
from sparsity_lab.specs.regimes.patterns import Block, Channel, MatrixShape, NofM, Pattern, Unstructured, unit_shape
from sparsity_lab.specs.regimes.plugins import PATTERNS, SCHEDULES, SCORES, Plugin
from sparsity_lab.specs.regimes.regime import Dynamic, OneShotPruning, SparseRegime
from sparsity_lab.specs.regimes.schedules import Cyclic, OneShot, PluginSchedule, Static
from sparsity_lab.specs.regimes.scores import OBC, OneShotScore, Reconstruction, Score, SparseGPT
from sparsity_lab.specs.regimes.starts import Scratch, WithHead

CLOSE = 1e-9
"""how closely a sparsity must fit a pattern's own"""
MOST_COLUMNS = 1024
"""inputs of a layer that exact pruning takes: it holds inputs^2 numbers a row"""


def resolve_regime(regime: SparseRegime, sparsity: float) -> SparseRegime:
    """The regime of a run that ends on `sparsity`: n of an n:m filled in, plug-ins pinned, start moved out.

    The start becomes `Scratch()`, because a run names the truth about it in its `origin`.

    Raises:
        SpecError: (1 - S) m is no whole number from 1, or a plug-in cannot be used.
    """
    score, schedule = regime.score, regime.schedule
    chosen = {
        "pattern": _resolved_pattern(regime.pattern, sparsity),
        "score": score.pinned(SCORES) if isinstance(score, Plugin) else score,
        "schedule": schedule.pinned(SCHEDULES) if isinstance(schedule, PluginSchedule) else schedule,
        "start": Scratch(),
    }
    return regime.model_copy(update=chosen)


def check_trained(regime: SparseRegime) -> None:
    """Refuse a regime, not yet resolved, that prunes at once what was never trained, or has a head that never will be.

    Raises:
        SpecError: it does.
    """
    if isinstance(regime, OneShotPruning) and isinstance(regime.start, Scratch):
        message = "what is pruned at once has to be trained before"
        _refuse(message, "start", "scratch", "dense-run, or weights from a file")
    untrained = isinstance(regime, OneShotPruning) and not regime.recovery
    if untrained and isinstance(regime.start, WithHead) and regime.start.head == "fresh":
        _refuse("a head that is drawn anew has to be trained", "recovery", 0, "above 0, or start.head: kept")


def check_feasible(regime: SparseRegime, sparsity: float, shapes: Mapping[str, MatrixShape]) -> None:
    """Refuse a regime that cannot end on `sparsity` > 0 for weights of these shapes (out, in).

    Raises:
        SpecError: with the reason, for

            - n:m with another sparsity than its own, with m that does not divide an input dimension, with an
              allocation that gives tensors different sparsities, or dynamic;
            - blocks that do not divide a matrix; blocks or channels so large that rounding to whole ones leaves
              nothing pruned, or nothing of a tensor;
            - rows of equal sparsity, or a pattern from outside, under the global ranking, which crosses both;
            - a dynamic regime with a pattern from outside, with channels under the global ranking (they differ in
              size, so no exchange keeps the count), with a cyclic schedule, or whose masks settle before the first
              are chosen;
            - pruning at once under the global ranking; with weights that are moved, another pattern than single
              weights or n:m, blocks of columns that cut groups, or, exactly, more inputs than that can take;
            - excluded or named tensors that do not exist, that are named twice, or that leave the others more to
              give up than they have.
    """
    resolved = resolve_regime(regime, sparsity)
    _check_combination(resolved)
    shares = share_out(resolved, sparsity, shapes)
    pruned = {name: shapes[name] for name, rate in shares.rates.items() if rate}
    _check_columns(resolved.score, pruned)
    match resolved.pattern:
        case NofM() as pattern:
            _check_groups(pattern, sparsity * max(shares.rates.values()), sparsity, pruned)
        case Block() | Channel() as pattern:
            _check_units(pattern, shares, pruned)
        case Plugin() as pattern:
            for name, nearest in shares.nearest.items():
                try:
                    nearest(shares.sizes[name])
                except ValueError as error:
                    raise SpecError(f"{pattern.name} does not fit {name}: {error}", field="pattern") from error


def _resolved_pattern(pattern: Pattern, sparsity: float) -> Pattern:
    match pattern:
        case Plugin():
            return pattern.pinned(PATTERNS)
        case NofM(n=None, m=m):
            stay = (1 - sparsity) * m
            if not math.isclose(stay, round(stay), abs_tol=CLOSE) or round(stay) < 1:
                message = f"no whole number of every {m} weights stays at this sparsity"
                raise SpecError(message, field="sparsity", found=sparsity, expected=f"a multiple of 1/{m}")
            return pattern.model_copy(update={"n": round(stay)})
        case _:
            return pattern


def _check_combination(regime: SparseRegime) -> None:
    """What needs neither sparsity nor shapes to be wrong."""
    pattern, allocation = regime.pattern, regime.allocation
    if isinstance(pattern, NofM) and not isinstance(allocation, Uniform):
        _refuse("every tensor of an n:m pattern ends on the same sparsity", "allocation", allocation.kind, "uniform")
    if isinstance(allocation, Global):
        if isinstance(pattern, Unstructured) and pattern.within == "row":
            _refuse("rows of equal sparsity leave nothing to rank globally", "allocation", "global", "another")
        if isinstance(pattern, Plugin):
            _refuse("a pattern from outside chooses tensor by tensor", "allocation", "global", "another")
    if isinstance(regime, Dynamic):
        _check_dynamic(regime)
    if isinstance(regime, OneShotPruning):
        _check_one_shot(regime)


def _check_one_shot(regime: OneShotPruning) -> None:
    pattern, score = regime.pattern, regime.score
    if isinstance(regime.allocation, Global):
        _refuse("layers are pruned one after the other, not ranked together", "allocation", "global", "another")
    if not isinstance(score, Reconstruction):
        return
    if not isinstance(pattern, NofM) and pattern != Unstructured():
        expected = "unstructured within a tensor, or n:m"
        _refuse(f"{score.kind} moves single weights of a whole tensor", "pattern", pattern.kind, expected)
    if isinstance(score, SparseGPT) and isinstance(pattern, NofM) and score.block_size % pattern.m:
        message, expected = "blocks of columns would cut groups of n:m", f"a multiple of {pattern.m}"
        _refuse(message, "score.block_size", score.block_size, expected)


def _check_columns(score: OneShotScore | Score, shapes: Mapping[str, MatrixShape]) -> None:
    if isinstance(score, OBC):
        for name, (_, inputs) in shapes.items():
            if inputs > MOST_COLUMNS:
                expected = f"at most {MOST_COLUMNS}; SparseGPT takes any"
                _refuse(f"{name} has too many inputs to be pruned exactly", "score", inputs, expected)


def _check_dynamic(regime: Dynamic) -> None:
    pattern = regime.pattern
    if isinstance(pattern, NofM | Plugin):
        reason = "dropping and growing one by one does not keep its groups"
        _refuse(f"a dynamic regime cannot follow this pattern: {reason}", "pattern", pattern.kind, "another")
    if isinstance(pattern, Channel) and isinstance(regime.allocation, Global):
        reason = "channels of different tensors differ in size, so no exchange of them keeps the count"
        _refuse(reason, "allocation", "global", "another")
    match regime.schedule:
        case Cyclic():
            _refuse("dense phases undo what a dynamic regime has grown", "schedule", "cyclic", "another")
        case Static():
            begins = 0.0
        case OneShot(at=begins):
            pass
        case schedule:
            begins = schedule.start
    if regime.refresh.until <= begins:
        _refuse("masks settle before the first are chosen", "refresh.until", regime.refresh.until, f"over {begins:g}")


def _check_groups(pattern: NofM, level: float, sparsity: float, shapes: Mapping[str, MatrixShape]) -> None:
    assert pattern.n is not None
    own = 1 - pattern.n / pattern.m
    if not math.isclose(level, own, abs_tol=CLOSE):
        expected = f"{own * sparsity / level:g}, or 0 for the dense run"
        _refuse(f"{pattern.n}:{pattern.m} ends on one sparsity only", "sparsity", sparsity, expected)
    for name, (_, inputs) in shapes.items():
        if inputs % pattern.m:
            expected = f"a multiple of {pattern.m} (see the model's width_multiple and ff_multiple)"
            message = f"{pattern.n}:{pattern.m} does not divide the input dimension of {name}"
            _refuse(message, "pattern", inputs, expected)


def _check_units(pattern: Block | Channel, shares: Shares, shapes: Mapping[str, MatrixShape]) -> None:
    for name, (rows, columns) in shapes.items():
        height, width = unit_shape(pattern, (rows, columns))
        if rows % height or columns % width:
            message = f"blocks of {height} x {width} do not divide {name}"
            _refuse(message, "pattern", f"{rows} x {columns}", f"multiples of {height} and {width}")
    zeros = shares.at(shares.sparsity)
    if not any(zeros.values()):
        _refuse("rounding to whole units prunes nothing", "sparsity", shares.sparsity, "more, or smaller units")
    for name in shapes:
        if zeros[name] == shares.sizes[name]:
            _refuse(f"rounding to whole units empties {name}", "sparsity", shares.sparsity, "less, or smaller units")


def _refuse(reason: str, field: str, found: object, expected: str) -> None:
    raise SpecError(reason, field=field, found=found, expected=expected)
