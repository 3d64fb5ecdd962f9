"""The start of a search: at every N and budget sparsities without a wide gap, before any sampler is asked.

Nothing is concluded of a budget at which fewer than `LEAST_DIFFERENT` sparsities were trained, nor of an optimum in a
gap wider than `WIDEST_GAP`. A sampler promises neither: the law sampler may spend a budget on repeats of its dense run,
and TPE crowds about what was good by chance. So the first trials are laid out here; all later ones are the sampler's.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from sparsity_lab.search.propose.space import DATA_DENSE, NONZERO, Space, TrialChoice
from sparsity_lab.search.propose.targets import LEAST_DIFFERENT, WIDEST_GAP
from sparsity_lab.search.propose.variants import CLOSE, KINDS, RESOLUTION, kind_of
from sparsity_lab.search.requests import SPARSITY

LEVELS, SPARSITY_LEVELS = 6, 13
"""that a sampler tries along a continuous size or budget, and along a continuous sparsity"""
SPACING = WIDEST_GAP - 2 * RESOLUTION
"""of the start: sparsities are rounded, and so are the shapes of models"""


def design(space: Space, seed: str, known: Mapping[tuple[int, int], Sequence[TrialChoice]]) -> list[list[TrialChoice]]:
    """The space-filling start, for every N and budget one after another: any beginning of it fills the space too.

    All trials of an N and budget are of one regime, pattern and allocation, the first that can be trained, because only
    they lie on one curve. What else there is to choose is drawn at random.

    Args:
        space: what may be chosen.
        seed: of everything random.
        known: what is tried at each N and data budget anyway, its dense run among it.

    Returns:
        For each of `known` the trials that leave no gap wider than `SPACING` between sparsities, and make at least
        `LEAST_DIFFERENT` of them, as far as the space has so many.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study, lowest = optuna.create_study(sampler=_FirstKind(zlib.crc32(seed.encode()))), space.spec.sparsity.ends[0]
    found = []
    for (nonzero, data_dense), choices in known.items():
        variant = space.variants(nonzero)[0]
        kind = kind_of(variant.params(variant.levels[-1], {}))
        alike = [float(one.params[SPARSITY]) for one in choices if kind_of(one.params) in {None, kind}]
        tried = dict.fromkeys(S for S in alike if lowest <= S)
        laid: dict[float, TrialChoice] = {}
        for wished in anchors(tried, variant.levels):
            names = (SPARSITY, space.sparsity_name(variant))
            study.enqueue_trial({NONZERO: nonzero, DATA_DENSE: data_dense, **dict.fromkeys(names, wished)})
            choice = space.choose(study.ask())
            laid.setdefault(float(choice.params[SPARSITY]), choice)
        found.append([choice for S, choice in laid.items() if S not in tried])
    return found


def anchors(known: Iterable[float], levels: Sequence[float]) -> list[float]:
    """Levels that leave no wide gap, in an order of which every beginning leaves as narrow ones as so few can.

    The highest comes first, then the lowest where nothing is as low, then one about the middle of the widest gap.

    Args:
        known: sparsities that are tried anyway.
        levels: those that can be tried, rising.
    """
    places = sorted({S for S in known if levels[-1] + CLOSE >= S})
    order = [] if places and places[-1] >= levels[-1] - CLOSE else [levels[-1]]
    order += [] if places and places[0] <= levels[0] + CLOSE else [levels[0]]
    places = sorted({*places, *order})
    left = {min(levels, key=lambda level: (abs(level - S), level)) for S in _between(places)} - {*places}
    while options := left or {S for a, b in pairwise(places) if b - a > WIDEST_GAP for S in _within((a, b), levels)}:
        gap = max(pairwise(places), key=lambda gap: (bool(_within(gap, options)), round(gap[1] - gap[0], 6)))
        order.append(min(_within(gap, options), key=lambda S: (round(abs(S - sum(gap) / 2), 6), S)))
        left -= {order[-1]}
        places = sorted([*places, order[-1]])
    return list(dict.fromkeys(order))


def _between(places: Sequence[float]) -> list[float]:
    """Sparsities that divide the gaps evenly, each into so many parts that none is wide and there are enough."""
    gaps = [*pairwise(places)]
    parts = [max(1, math.ceil((b - a) / SPACING)) for a, b in gaps]
    while gaps and sum(parts) < LEAST_DIFFERENT - 1:
        parts[max(range(len(gaps)), key=lambda k: (gaps[k][1] - gaps[k][0]) / parts[k])] += 1
    return [a + k / n * (b - a) for (a, b), n in zip(gaps, parts, strict=True) for k in range(1, n)]


def _within(gap: tuple[float, float], sparsities: Iterable[float]) -> list[float]:
    return [S for S in sparsities if gap[0] + CLOSE < S < gap[1] - CLOSE]


class _FirstKind(RandomSampler):
    """Of several regimes, patterns and allocations the first; all else at random."""

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """One parameter."""
        kind = param_name.split(" under ", maxsplit=1)[0] in KINDS
        if kind and isinstance(param_distribution, CategoricalDistribution):
            return param_distribution.choices[0]
        return super().sample_independent(study, trial, param_name, param_distribution)


def levels_of(distribution: BaseDistribution, rng: np.random.Generator, *, sparsity: bool) -> list[Any]:
    """Values of a parameter that are tried: all that the law understands, or evenly spaced ones."""
    match distribution:
        case CategoricalDistribution():
            values: Sequence[float] = [value for value in distribution.choices if isinstance(value, int | float)]
        case FloatDistribution() | IntDistribution():
            values = _spaced(distribution, rng, sparsity=sparsity)
        case _:
            return []
    inside = [value for value in values if (0 <= value < 1 if sparsity else value > 0)]
    return list(dict.fromkeys(inside))


def _spaced(
    distribution: FloatDistribution | IntDistribution, rng: np.random.Generator, *, sparsity: bool
) -> list[float]:
    low, high, step = distribution.low, distribution.high, distribution.step
    if sparsity:
        inner = low + (high - low) * (np.arange(SPARSITY_LEVELS) + rng.random()) / SPARSITY_LEVELS
        values = np.array([low, *inner, high])
    else:
        values = np.geomspace(low, high, LEVELS) if low > 0 else np.linspace(low, high, LEVELS)
    if step is not None:
        values = low + np.round((values - low) / step) * step
    inside: list[float] = np.clip(values, low, high).tolist()
    return [round(value) for value in inside] if isinstance(distribution, IntDistribution) else inside
