"""Conformance: what a score, pattern or schedule promises, checked from outside. For tests of plug-ins.

    from sparsity_lab.pruning.conformance import check_score

    def test_my_score() -> None:
        check_score(MyScore(rate=0.9))

Every check takes an instance of a plug-in's class, or the spec of a built-in choice: these pass the same checks. A
broken promise raises an `AssertionError` that names it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from sparsity_lab.pruning import patterns
from sparsity_lab.pruning.patterns import PatternRule
from sparsity_lab.pruning.schedules import ScheduleRule
from sparsity_lab.pruning.scores import PRUNED, Observation, ScoreRule, rule_of
from sparsity_lab.specs.base import Spec
from sparsity_lab.specs.regimes.patterns import MatrixShape, NofM, Pattern, unit_shape
from sparsity_lab.specs.regimes.schedules import Ramped
from sparsity_lab.specs.regimes.scores import Score

SHAPES: tuple[MatrixShape, ...] = ((8, 16), (16, 8), (1, 24), (24, 24))
NEEDS = frozenset({"gradient", "fisher", "inputs"})
POINTS = 20_001


def check_score(score: ScoreRule | Score, shapes: Iterable[MatrixShape] = SHAPES) -> None:
    """Check a score on random weights of these shapes (out, in), some of them pruned.

    Raises:
        AssertionError: no version, unknown needs, or scores that have another shape or type, are negative or no
            numbers, differ between two calls, share memory with what they are made from, or draw from torch's global
            generator; or weights and statistics that were changed.
    """
    rule = rule_of(score) if isinstance(score, Spec) else score
    _check_version(rule)
    assert rule.needs <= NEEDS, f"needs must be some of {sorted(NEEDS)}, found {sorted(rule.needs)}"
    assert isinstance(rule.batches, int), f"batches must be a whole number, found {rule.batches!r}"
    assert rule.batches >= 1, f"batches must be at least 1, found {rule.batches}"
    for number, shape in enumerate(shapes):
        seen = _observation(rule, shape, number)
        given = [value for value in (seen.weight, seen.gradient, seen.fisher, seen.inputs) if value is not None]
        before, state = [value.clone() for value in given], torch.get_rng_state()
        found, again = rule.score(seen), rule.score(seen)
        assert tuple(found.shape) == shape, f"scores must have shape {shape}, found {tuple(found.shape)}"
        assert found.dtype == torch.float32, f"scores must be float32, found {found.dtype}"
        assert bool(found.isfinite().all()), "scores of finite weights must be finite"
        assert bool((found >= 0).all()), f"scores must not be negative, found {float(found.min()):g}"
        assert torch.equal(found, again), "two calls with the same observation must give the same scores"
        assert torch.equal(state, torch.get_rng_state()), "a score must not use torch's global generator: see draw()"
        assert all(map(torch.equal, given, before)), "a score must not change what it is given"
        shared = {value.untyped_storage().data_ptr() for value in given}
        assert found.untyped_storage().data_ptr() not in shared, "scores must be a tensor of their own"


def check_pattern(pattern: PatternRule | Pattern, shapes: Iterable[MatrixShape] = SHAPES) -> None:
    """Check a pattern on random scores of these shapes (out, in); shapes it refuses are left out.

    Raises:
        AssertionError: no version, no shape that fits, counts that `nearest` gives but `choose` does not keep, counts
            that fall when more zeros are asked for, masks of another shape or type, masks that differ between two
            calls, pruned weights that come back while the sparsity grows, or scores that were changed.
    """
    rule = _BuiltInPattern(pattern) if isinstance(pattern, Spec) else pattern
    _check_version(rule)
    fitting = [shape for shape in shapes if _fits(rule, shape)]
    assert fitting, "nearest refuses every shape"
    for number, shape in enumerate(fitting):
        _check_counts(rule, shape)
        _check_choices(rule, shape, number)


def check_schedule(schedule: ScheduleRule | Ramped) -> None:
    """Check a schedule all along its window.

    Raises:
        AssertionError: no version, progress outside [0, 1], falling, not 1 at the end or different between two
            calls, or a mean that is not its average.
    """
    rule = _BuiltInSchedule(schedule) if isinstance(schedule, Spec) else schedule
    _check_version(rule)
    points = np.linspace(0, 1, POINTS)
    values = [float(rule.progress(float(p))) for p in points]
    for p, value in zip(points, values, strict=True):
        assert 0 <= value <= 1, f"progress({p:g}) must lie between 0 and 1, found {value:g}"
    for p, (early, late) in zip(points, pairwise(values), strict=False):
        assert late >= early, f"progress must not fall, found {early:g} at {p:g} and then {late:g}"
    assert values[-1] == 1, f"progress(1) must be 1, found {values[-1]:g}"
    assert values == [float(rule.progress(float(p))) for p in points], "progress must depend on p alone"
    average = float(np.trapezoid(values, points))
    assert math.isclose(rule.mean, average, abs_tol=1e-3), f"mean must be {average:.4f}, found {rule.mean:g}"


@dataclass(frozen=True)
class _BuiltInPattern:
    """A pattern of a spec under the interface of plug-ins."""

    spec: Pattern
    version: int = 1

    def nearest(self, zeros: int, shape: MatrixShape) -> int:
        (height, width), size = unit_shape(self.spec, shape), math.prod(shape)
        if shape[0] % height or shape[1] % width or (isinstance(self.spec, NofM) and shape[1] % self.spec.m):
            raise ValueError("units do not divide the matrix")
        if isinstance(self.spec, NofM):
            assert self.spec.n is not None
            return min(zeros, size // self.spec.m * (self.spec.m - self.spec.n))
        return int(zeros / (height * width) + 0.5) * height * width

    def choose(self, score: Tensor, zeros: int) -> Tensor:
        mask = torch.ones(score.shape, dtype=torch.bool)
        grid = patterns.pool(self.spec, score)
        height, width = unit_shape(self.spec, (score.shape[0], score.shape[1]))
        patterns.spread_(self.spec, patterns.choose(self.spec, grid, zeros // (height * width)), mask)
        return mask


@dataclass(frozen=True)
class _BuiltInSchedule:
    """A ramp of a spec under the interface of plug-ins, at one sparsity."""

    spec: Ramped
    version: int = 1
    sparsity: float = 0.75

    @property
    def mean(self) -> float:
        whole = self.spec.model_copy(update={"start": 0.0, "end": 1.0})
        return float(whole.mean_sparsity(self.sparsity)) / self.sparsity

    def progress(self, p: float) -> float:
        return self.spec.level(self.sparsity, p) / self.sparsity


def _check_version(rule: ScoreRule | PatternRule | ScheduleRule) -> None:
    version = getattr(rule, "version", None)
    assert isinstance(version, int), f"version must be a whole number, found {version!r}"
    assert version >= 1, f"version must be at least 1, found {version}"


def _check_counts(rule: PatternRule, shape: MatrixShape) -> None:
    size = math.prod(shape)
    counts = [rule.nearest(zeros, shape) for zeros in range(size + 1)]
    assert counts[0] == 0, f"nearest(0) must be 0, found {counts[0]}"
    assert counts == sorted(counts), "nearest must not fall when more zeros are asked for"
    assert counts[-1] <= size, f"nearest must not exceed the {size} weights of {shape}, found {counts[-1]}"
    for count in set(counts):
        again = rule.nearest(count, shape)
        assert again == count, f"nearest({count}) must be {count}, a count that it gave itself; found {again}"


def _check_choices(rule: PatternRule, shape: MatrixShape, seed: int) -> None:
    """A mask that grows sparser while its kept weights get new scores."""
    generator = torch.Generator().manual_seed(seed)
    before = torch.ones(shape, dtype=torch.bool)
    for zeros in sorted({rule.nearest(zeros, shape) for zeros in range(0, math.prod(shape) + 1, 3)}):
        score = torch.where(before, torch.rand(shape, generator=generator), PRUNED)
        given = score.clone()
        mask = rule.choose(score, zeros)
        assert mask.dtype == torch.bool, f"masks must be bool, found {mask.dtype}"
        assert tuple(mask.shape) == shape, f"masks must have shape {shape}, found {tuple(mask.shape)}"
        found = int((~mask).sum())
        assert found == zeros, f"choose must make {zeros} zeros in {shape}, found {found}"
        assert torch.equal(score, given), "choose must not change the scores"
        assert torch.equal(mask, rule.choose(score, zeros)), "two calls must choose the same mask"
        assert not bool((mask & ~before).any()), "pruned weights must not come back while the sparsity grows"
        before = mask


def _fits(rule: PatternRule, shape: MatrixShape) -> bool:
    try:
        rule.nearest(0, shape)
    except ValueError:
        return False
    return True


def _observation(rule: ScoreRule, shape: MatrixShape, seed: int) -> Observation:
    """Random weights, a third of them pruned, and no more statistics than the score asks for."""
    generator = torch.Generator().manual_seed(seed)
    weight, gradient, squares = (torch.randn(shape, generator=generator) for _ in range(3))
    weight *= torch.rand(shape, generator=generator) > 1 / 3
    return Observation(
        weight,
        gradient if "gradient" in rule.needs else None,
        squares.square() if "fisher" in rule.needs else None,
        torch.rand(shape[1], generator=generator) if "inputs" in rule.needs else None,
        key=(seed, 1, "blocks.0.mlp.wi.weight"),
    )
