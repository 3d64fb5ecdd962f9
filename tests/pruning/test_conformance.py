"""The built-in choices keep what plug-ins must promise, and every broken promise is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from regime_cases import GRIDS, MONOTONE, SCORES, regime
from torch import Tensor

from sparsity_lab.pruning.conformance import check_pattern, check_schedule, check_score
from sparsity_lab.pruning.masks import keep_largest
from sparsity_lab.pruning.scores import Observation
from sparsity_lab.specs.regimes.patterns import Pattern

PATTERNS: TypeAdapter[Any] = TypeAdapter(Pattern)
GROUPS = [{"kind": "n:m", "n": n, "m": m} for n, m in ((2, 4), (1, 4), (4, 8), (2, 8), (1, 8))]


def kind(fields: dict[str, Any]) -> str:
    return "-".join(map(str, fields.values()))


@pytest.mark.parametrize("fields", SCORES, ids=kind)
def test_built_in_scores_conform(fields: dict[str, Any]) -> None:
    check_score(regime(score=fields).score)


@pytest.mark.parametrize("fields", GRIDS + GROUPS, ids=kind)
def test_built_in_patterns_conform(fields: dict[str, Any]) -> None:
    check_pattern(PATTERNS.validate_python(fields))


@pytest.mark.parametrize("fields", MONOTONE[:3], ids=kind)
def test_built_in_schedules_conform(fields: dict[str, Any]) -> None:
    check_schedule(regime(schedule=fields).schedule)


@dataclass
class FakeScore:
    rule: Callable[[Observation], Tensor]
    version: Any = 1
    needs: frozenset[Any] = frozenset()
    batches: Any = 1

    def score(self, seen: Observation) -> Tensor:
        return self.rule(seen)


def spoil(seen: Observation) -> Tensor:
    seen.weight.mul_(0.5)
    return torch.zeros_like(seen.weight)


@pytest.mark.parametrize(
    ("score", "complaint"),
    [
        (FakeScore(lambda seen: seen.weight.abs(), version=0), "version must be at least 1"),
        (FakeScore(lambda seen: seen.weight.abs(), version="1"), "version must be a whole number"),
        (FakeScore(lambda seen: seen.weight.abs(), needs=frozenset({"hessian"})), "needs must be some of"),
        (FakeScore(lambda seen: seen.weight.abs(), batches=0), "batches must be at least 1"),
        (FakeScore(lambda seen: seen.weight), "must not be negative"),
        (FakeScore(lambda seen: seen.weight.abs().log().abs()), "must be finite"),
        (FakeScore(lambda seen: seen.weight.abs().double()), "must be float32"),
        (FakeScore(lambda seen: seen.weight.abs().mean(1)), "must have shape"),
        (FakeScore(lambda seen: torch.rand_like(seen.weight)), "the same scores"),
        (FakeScore(lambda seen: torch.rand_like(seen.weight) * 0), "global generator"),
        (FakeScore(spoil), "must not change"),
        (FakeScore(lambda seen: seen.inputs, needs=frozenset({"inputs"})), "must have shape"),
        (FakeScore(lambda seen: seen.fisher, needs=frozenset({"fisher"})), "a tensor of their own"),
    ],
)
def test_broken_scores_are_found(score: Any, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_score(score)


def keep(score: Tensor, zeros: int) -> Tensor:
    return keep_largest(score, score.numel() - zeros)


@dataclass
class FakePattern:
    rule: Callable[[Tensor, int], Tensor] = keep
    counts: Callable[[int, tuple[int, int]], int] = lambda zeros, _: zeros
    version: Any = 1

    def nearest(self, zeros: int, shape: tuple[int, int]) -> int:
        return self.counts(zeros, shape)

    def choose(self, score: Tensor, zeros: int) -> Tensor:
        return self.rule(score, zeros)


def refuse(*_: object) -> int:
    raise ValueError("never")


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        (FakePattern(version=None), "version must be"),
        (FakePattern(counts=refuse), "refuses every shape"),
        (FakePattern(counts=lambda zeros, _: zeros + 1), "nearest.0. must be 0"),
        (FakePattern(counts=lambda zeros, _: zeros % 5), "must not fall"),
        (FakePattern(counts=lambda zeros, _: 2 * zeros), "must not exceed"),
        (FakePattern(counts=lambda zeros, _: min(zeros // 2, 8)), "a count that it gave itself"),
        (FakePattern(lambda score, zeros: keep(score, zeros).float()), "must be bool"),
        (FakePattern(lambda score, zeros: keep(score, zeros).flatten()), "must have shape"),
        (FakePattern(lambda score, zeros: keep(score, max(0, zeros - 1))), "choose must make"),
        (FakePattern(lambda score, zeros: keep(score.zero_(), zeros)), "must not change the scores"),
        (FakePattern(lambda score, zeros: keep(torch.rand_like(score), zeros)), "the same mask"),
        (FakePattern(lambda score, zeros: keep(-score, zeros)), "must not come back"),
    ],
)
def test_broken_patterns_are_found(pattern: Any, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_pattern(pattern)


def test_a_whole_pattern_passes() -> None:
    check_pattern(FakePattern())


@dataclass
class FakeSchedule:
    rule: Callable[[float], float]
    mean: float = 0.5
    version: Any = 1

    def progress(self, p: float) -> float:
        return self.rule(p)


@pytest.mark.parametrize(
    ("schedule", "complaint"),
    [
        (FakeSchedule(lambda p: p, version=-1), "version must be"),
        (FakeSchedule(lambda p: 2 * p), "between 0 and 1"),
        (FakeSchedule(lambda p: p - 0.1), "between 0 and 1"),
        (FakeSchedule(lambda p: 4 * (p - 0.5) ** 2), "must not fall"),
        (FakeSchedule(lambda p: 0.9 * p), "must be 1"),
        (FakeSchedule(lambda p: p**3), "mean must be 0.25"),
    ],
)
def test_broken_schedules_are_found(schedule: Any, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_schedule(schedule)


def test_a_whole_schedule_passes() -> None:
    check_schedule(FakeSchedule(lambda p: p))
