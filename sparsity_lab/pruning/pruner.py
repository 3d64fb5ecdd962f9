"""The pruner: a regime at work on a set of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sparsity_lab.pruning import patterns
from sparsity_lab.pruning.allocation import Shares, balanced_sparsity, share_out, zeros_for
from sparsity_lab.pruning.masks import keep_nearest
from sparsity_lab.pruning.schedules import Ramp, lay_out, regrows
from sparsity_lab.pruning.scores import (
    Request,
    ScoreRule,
    WeightStatistics,
    keyed_uniform,
    mark_pruned_,
    rule_of,
)
from sparsity_lab.specs.regimes.allocations import Global
from sparsity_lab.specs.regimes.patterns import MatrixShape, NofM, Pattern, Unstructured, unit_size
from sparsity_lab.specs.regimes.regime import Dynamic, ScheduledRegime, StraightThrough
from sparsity_lab.specs.regimes.schedules import Static
from sparsity_lab.specs.regimes.scores import Magnitude, Random

NORM_EPSILON = 1e-8
"""added to the L2 norm of a tensor's scores; jaxpruner's"""


@dataclass(frozen=True)
class RankGroup:
    """Tensors whose units are ranked together, and how many weights they give up."""

    names: tuple[str, ...]
    pattern: Pattern
    zeros: int


def nothing_more(_name: str, _mask: Tensor) -> None:
    """Masks that are views need no more than to be written to."""


@dataclass(frozen=True)
class Pruner:
    """Keeps the masks of a run and changes them on schedule.

    Masks are written in place, so that whoever holds them (the optimiser's flat view) sees every change; where they
    are gathered from several processes, `written` takes each back. A tensor is asked for when it is its turn, and
    weights and statistics once. What is chosen depends on masks, weights, their statistics and the step alone: there
    is no other state.

    Where the run begins with sparse weights (`ramp.found`), masks begin as these are, and what was zero stays zero
    but for regimes that regrow. The counts of all tensors together are those of the schedule; a tensor that was
    sparser than its share stays so, and the others give up less.
    """

    regime: ScheduledRegime
    sparsity: float
    """asked at the end"""
    ramp: Ramp
    masks: Mapping[str, Tensor]
    seed: int
    outside: frozenset[str] = frozenset()
    """names of the masks outside the blocks: embeddings and head"""
    written: Callable[[str, Tensor], None] = nothing_more
    """called with the name of each mask that was written to, and the mask"""

    def due(self, step: int) -> bool:
        """Whether masks are chosen once `step` optimiser steps are done."""
        return step in self._changes

    def request(self, step: int) -> Request:
        """What `update` has to be given at a step that is due."""
        if self.ramp.sparsity_after(step) == 0:
            return Request()
        rule = self._rule(step)
        grows = step in self._moves and isinstance(self.regime, Dynamic) and self.regime.grow == "gradient"
        return Request(rule.needs | ({"gradient"} if grows else set()), rule.batches)

    @torch.no_grad()
    def update(self, step: int, weights: Mapping[str, Tensor], statistics: WeightStatistics) -> None:
        """Choose the masks after `step`.

        Args:
            step: optimiser steps done; one that is `due`.
            weights: (out, in) by name, zero where pruned; for straight-through all weights. They are not changed.
            statistics: what `request(step)` asked for.
        """
        level = self.ramp.sparsity_after(step)
        if level == 0:
            for name, mask in self.masks.items():
                self.written(name, mask.fill_(value=True))
            return
        for contest in self._contests(level):
            self._hold(contest, step, weights, statistics)

    def _hold(self, contest: RankGroup, step: int, weights: Mapping[str, Tensor], statistics: WeightStatistics) -> None:
        """Choose the masks of one contest."""
        names, pattern, rule = contest.names, contest.pattern, self._rule(step)
        masks = {name: self.masks[name] for name in names}
        units = patterns.live_units if self.ramp.found else patterns.unit_mask
        before = _join([units(pattern, mask) for mask in masks.values()])
        outside = self.outside.issuperset(names)
        if outside and "inputs" in rule.needs:  # a table has no input features
            rule = rule_of(Magnitude())
        seen = (statistics.observation(weights[name], (self.seed, step, name)) for name in names)
        scores = [patterns.pool(pattern, rule.score(each)) for each in seen]
        if isinstance(self.regime.allocation, Global) and self.regime.allocation.normalize == "l2":
            scores = [score / (torch.linalg.vector_norm(score) + NORM_EPSILON) for score in scores]
        score = _join(scores)
        if outside and not score.any():  # ViT's head starts at zero: ties would take every weight of its last classes
            score = keyed_uniform("ties", self.seed, step, names[0], shape=tuple(score.shape), device=score.device)
        if self.ramp.found and isinstance(self.regime, Dynamic):
            before = self._settled(contest, score, before, step)
        if step in self._moves:
            growth = _join([self._growth(name, step, statistics, pattern, mask) for name, mask in masks.items()])
            kept = self._move(contest, score, growth, before, step)
        elif self._stays:
            kept = self._narrow(contest, score, before, masks)
        else:
            kept = self._choose(contest, score, before)
        parts = (kept,) if len(names) == 1 else torch.split(kept.flatten(), self._counts(contest))
        for (name, mask), part in zip(masks.items(), parts, strict=True):
            old = mask.clone() if self._stays else None
            patterns.spread_(pattern, part, mask)
            self.written(name, mask if old is None else mask.logical_and_(old))

    def _choose(self, contest: RankGroup, score: Tensor, before: Tensor) -> Tensor:
        """Units kept for the contest's level; of masks that only shrink, those pruned already come last."""
        units = self._units(contest)
        shrinks = not isinstance(self.regime, StraightThrough)
        if shrinks:
            mark_pruned_(score, before)
        if len(set(units)) == 1:
            return patterns.choose(contest.pattern, score, contest.zeros // units[0])
        counts = self._counts(contest)
        sizes = torch.tensor(units).repeat_interleave(torch.tensor(counts)).to(score.device)
        kept = keep_nearest(score.flatten(), sizes, contest.zeros)
        return kept & before.flatten() if shrinks else kept  # the nearest count may be a smaller one than before

    def _narrow(self, contest: RankGroup, score: Tensor, before: Tensor, masks: Mapping[str, Tensor]) -> Tensor:
        """Units kept where zeros lie as the first weights had them; they stay, wherever the pattern has its own."""
        mark_pruned_(score, before)
        pattern, now = contest.pattern, sum(int((~mask).sum()) for mask in masks.values())
        if isinstance(pattern, NofM):
            assert pattern.n is not None
            losers = score.numel() // pattern.m * (pattern.m - pattern.n)
            stay = int((patterns.group_winners(score, pattern.n, pattern.m) & ~before).sum())
            zeros = losers if contest.zeros >= losers else max(0, contest.zeros - stay)
            return patterns.choose(pattern, score, zeros)
        if contest.zeros <= now:
            return before
        if set(self._units(contest)) == {1}:
            return patterns.narrow(pattern, score, before, contest.zeros)
        sizes = _join([patterns.pool_count(pattern, mask) for mask in masks.values()]).flatten()
        return keep_nearest(score.flatten(), sizes, contest.zeros - now).view(score.shape)

    def _settled(self, contest: RankGroup, score: Tensor, before: Tensor, step: int) -> Tensor:
        """The units kept before a dynamic regime moves some: at first, and where fewer are to be zero, chosen anew.

        The lowest scores go; where more are kept than there were, those that were zero come back at random.
        """
        zeros = contest.zeros // self._units(contest)[0]
        if step != self.ramp.updates[0] and zeros >= int((~before).sum()):
            return before
        draw = keyed_uniform(
            "regrowth", self.seed, step, contest.names[0], shape=tuple(score.shape), device=score.device
        )
        return patterns.choose(contest.pattern, torch.where(before, score, draw - 2), zeros).view(score.shape)

    def _move(self, contest: RankGroup, score: Tensor, growth: Tensor, before: Tensor, step: int) -> Tensor:
        """Units kept once the lowest scores are dropped and as many others grown."""
        grids = (score, growth, before)
        score, growth, before = (patterns.table(contest.pattern, grid) for grid in grids)
        zeros = contest.zeros // self._units(contest)[0]
        return patterns.drop_and_grow(score, growth, before, zeros, self._fraction(step))

    def _units(self, contest: RankGroup) -> list[int]:
        """Weights of one unit of each tensor."""
        return [unit_size(contest.pattern, self._shapes[name]) for name in contest.names]

    def _counts(self, contest: RankGroup) -> list[int]:
        """Units of each tensor."""
        units = zip(contest.names, self._units(contest), strict=True)
        return [math.prod(self._shapes[name]) // unit for name, unit in units]

    def _contests(self, level: float) -> Iterator[RankGroup]:
        """All contests at a level."""
        names = tuple(name for name, rate in self.shares.rates.items() if rate)
        if isinstance(self.regime.allocation, Global):
            together = self.shares.together(level)
            if self.ramp.found:  # tensors that are left out keep zeros of their own
                floors = self._floors()
                together = max(together - sum(floors[name] for name in floors if name not in names), 0)
                together = max(together, sum(floors[name] for name in names))
            yield RankGroup(names, self.regime.pattern, together)
        else:
            zeros = self._zeros(level)
            yield from (RankGroup((name,), self.regime.pattern, zeros[name]) for name in names)
        for name in sorted(self.outside):
            count = zeros_for(balanced_sparsity(level), math.prod(self._shapes[name]))
            yield RankGroup((name,), Unstructured(), max(count, self._zeros_now(name)) if self._stays else count)

    def _zeros(self, level: float) -> dict[str, int]:
        """Zeros of each tensor at a level."""
        if not self.ramp.found:
            return self.shares.at(level)
        floors = self._floors()
        if isinstance(self.regime.pattern, NofM):  # every tensor ends on the pattern
            return {name: max(count, floors[name]) for name, count in self.shares.at(level).items()}
        return self.shares.above(level, floors)

    def _floors(self) -> dict[str, int]:
        """Zeros of each tensor that stay whatever is chosen."""
        rates = self.shares.rates
        return {name: self._zeros_now(name) if self._stays or not rates[name] else 0 for name in rates}

    def _zeros_now(self, name: str) -> int:
        return int((~self.masks[name]).sum())

    @property
    def _stays(self) -> bool:
        """Whether zeros of the first weights stay."""
        return self.ramp.found > 0 and not regrows(self.regime)

    def _growth(self, name: str, step: int, statistics: WeightStatistics, pattern: Pattern, mask: Tensor) -> Tensor:
        """What a unit that is grown is chosen by."""
        assert isinstance(self.regime, Dynamic)
        if self.regime.grow == "gradient":
            return patterns.pool(pattern, statistics.gradient[name].abs())
        units = patterns.unit_mask(pattern, mask)
        return keyed_uniform("growth", self.seed, step, name, shape=tuple(units.shape), device=units.device)

    def _fraction(self, step: int) -> float:
        """Share of the kept weights that moves: f / 2 (1 + cos(pi t / t_until)) (RigL, eq. 1)."""
        assert isinstance(self.regime, Dynamic)
        progress = step / (self.regime.refresh.until * self.ramp.steps)
        return self.regime.drop_fraction / 2 * (1 + math.cos(math.pi * min(1.0, progress)))

    def _rule(self, step: int) -> ScoreRule:
        if isinstance(self.regime, Dynamic) and isinstance(self.regime.schedule, Static) and step == 0:
            return rule_of(Random(kind="random") if self.regime.initial == "random" else self.regime.score)
        return self._score

    @cached_property
    def _score(self) -> ScoreRule:
        return rule_of(self.regime.score)

    @cached_property
    def _shapes(self) -> dict[str, MatrixShape]:
        return {name: (mask.shape[0], mask.shape[1]) for name, mask in self.masks.items()}

    @cached_property
    def shares(self) -> Shares:
        """Of the prunable tensors."""
        prunable = {name: shape for name, shape in sorted(self._shapes.items()) if name not in self.outside}
        return share_out(self.regime, self.sparsity, prunable)

    @cached_property
    def _changes(self) -> frozenset[int]:
        return frozenset(self.ramp.changes)

    @cached_property
    def _moves(self) -> frozenset[int]:
        """Steps at which weights are dropped and grown."""
        return frozenset(self.ramp.refreshes if isinstance(self.regime, Dynamic) else ())


def make_pruner(  # noqa: PLR0917
    regime: ScheduledRegime,
    sparsity: float,
    masks: Mapping[str, Tensor],
    steps: int,
    seed: int,
    outside: frozenset[str] = frozenset(),
    found: float = 0.0,
) -> Pruner:
    """A pruner for a run of `steps` steps.

    Args:
        regime: resolved (`feasibility.resolve_regime`).
        sparsity: final sparsity of the prunable weights, above 0.
        masks: bool (out, in) by name, written in place; at the start all ones, or the first weights that are not zero.
        steps: optimiser steps of the run.
        seed: of the run; decides every random choice.
        outside: names of the masks that belong to embeddings and head: each follows 1 - sqrt(1 - S) by itself, without
            pattern, by the regime's score; by magnitude where that asks for input features.
        found: sparsity of the weights the run begins with, where it is to be kept.
    """
    return Pruner(regime, sparsity, lay_out(regime, sparsity, steps, found), masks, seed, outside)


def _join(grids: Sequence[Tensor]) -> Tensor:
    """One grid as it is; several end to end, (1, units)."""
    return grids[0] if len(grids) == 1 else torch.cat([grid.flatten() for grid in grids]).view(1, -1)
