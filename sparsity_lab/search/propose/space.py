"""What is searched: everything that a trial may choose, asked for one after another.

A trial chooses a regime, a pattern and an allocation where there are several, then a sparsity, and then what means
something under these: start and end where the schedule has a window, a learning-rate factor. The space is conditional
(Optuna's define-by-run), and what cannot be trained is never chosen: of several sparsities the nearest that can be is.
Dense trials have a sparsity only, so where there is more to choose they lie outside the space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol

from sparsity_lab.artifacts.searches import ParameterValue, Params
from sparsity_lab.errors import SpecError
from sparsity_lab.search.propose.variants import GAP, RESOLUTION, Variant, variants
from sparsity_lab.search.requests import SPARSITY
from sparsity_lab.specs.regimes.regime import Masked, RegimeSpec, sparse
from sparsity_lab.specs.searches import SearchSpec, SpaceSpec

GRID_LEVELS = 4
"""that a grid has of every continuous choice but sparsity"""
NONZERO, DATA_DENSE = "nonzero", "data_dense"
"""names of the parameters where an Optuna study chooses among N and budgets too"""

Feasible = Callable[[int, Params], bool]
"""whether a run of N non-zero weights can be trained so"""


class Trial(Protocol):
    """What the space needs of an Optuna trial."""

    @property
    def params(self) -> dict[str, Any]:
        """Values chosen so far."""

    @property
    def distributions(self) -> dict[str, Any]:
        """What they were chosen from."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number of an interval."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of several."""


@dataclass(frozen=True)
class TrialChoice:
    """What a trial chose."""

    nonzero: int
    data_dense: int
    params: Params
    """of the run"""
    asked: Params
    """by the names of Optuna's parameters, of which a conditional one names its condition"""
    distributions: Mapping[str, Any]
    """of what was asked"""


@dataclass(frozen=True, eq=False)
class Space:
    """Everything that the trials of one Optuna study may choose.

    Attributes:
        spec: what may be chosen.
        every: all variants that any N can be trained by.
        feasible: what can be trained.
        sizes: N that may be tried.
        data: D_dense that may be tried.
    """

    spec: SpaceSpec
    every: tuple[Variant, ...]
    feasible: Feasible
    sizes: tuple[int, ...]
    data: tuple[int, ...]
    _known: dict[tuple[int, tuple[tuple[str, ParameterValue], ...]], bool] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        spec: SearchSpec,
        targets: Sequence[tuple[int, int]],
        regimes: Mapping[str, RegimeSpec] = MappingProxyType({}),
        feasible: Feasible = lambda _, __: True,
        *,
        smaller: Iterable[tuple[int, int]] = (),
    ) -> Space:
        """The space of a study for these targets.

        Args:
            spec: what is searched.
            targets: N and D_dense; of several, trials choose among them too.
            regimes: by name; gradual pruning by magnitude for those left out.
            feasible: whether a run of N non-zero weights can be trained so.
            smaller: further N and D_dense that may be tried for what they teach.

        Raises:
            SpecError: nothing is left to search.
        """
        known = {name: regimes.get(name, Masked(version=1, method="masked")) for name in spec.regimes}
        rules = {name: rule for name, regime in known.items() if (rule := sparse(regime)) is not None}
        every = variants(spec.space, rules, coarse=spec.sampler == "grid")
        sizes, data = (tuple(sorted(set(column))) for column in zip(*targets, *smaller, strict=True))
        whole = cls(spec.space, every, feasible, sizes, data)
        for nonzero, _ in targets:
            if not whole.variants(nonzero):
                raise SpecError(
                    f"leaves nothing to search at {nonzero:,} non-zero weights",
                    where="search.space",
                    found=spec.space.sparsity.levels or spec.space.sparsity.ends,
                    expected="sparsities that one of the regimes can end on",
                )
        possible = tuple(size for size in sizes if whole.variants(size))
        used = [variant for variant in every if any(variant in whole.variants(size) for size in possible)]
        return replace(whole, every=tuple(used), sizes=possible)

    @property
    def conditional(self) -> bool:
        """Whether there is more to choose than a sparsity, which a dense trial has not."""
        return self.spec.beside_sparsity(self.every[0].named)

    @cached_property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest sparsity that any variant has."""
        levels = [level for variant in self.every for level in variant.levels]
        return min(levels), max(levels)

    @cached_property
    def levels(self) -> tuple[float, ...] | None:
        """The sparsities, where all variants have the same few; None where they are continuous or differ."""
        shared = {variant.levels for variant in self.every}
        return shared.pop() if len(shared) == 1 and all(variant.discrete for variant in self.every) else None

    def variants(self, nonzero: int) -> tuple[Variant, ...]:
        """Those that can be trained with N non-zero weights, at one sparsity or more."""
        return tuple(variant for variant in self.every if self._trainable(nonzero, variant, {}))

    def examples(self) -> list[tuple[int, Params]]:
        """A run of each variant at each size, sparse where it can be: a search is known by them."""
        found = ((size, self._trainable(size, variant, {})) for size in self.sizes for variant in self.every)
        return [(size, params) for size, params in found if params]

    def choose(self, trial: Trial) -> TrialChoice:
        """Have a trial choose everything."""
        nonzero = int(_one_of(trial, NONZERO, self.sizes))
        data_dense = int(_one_of(trial, DATA_DENSE, self.data))
        variant = self._variant(trial, nonzero)
        name, wished = self._sparsity(trial, variant)
        rest = self._window(trial, variant) | self._factor(trial)
        params = self._trainable(nonzero, variant, rest, wished) or self._trainable(nonzero, variant, {}, wished)
        assert params is not None, "the variants of a size can be trained at it"
        known = {**params, name: params[SPARSITY]}
        asked = {name: known.get(name, value) for name, value in trial.params.items()}
        return TrialChoice(nonzero, data_dense, params, asked, dict(trial.distributions))

    def _variant(self, trial: Trial, nonzero: int) -> Variant:
        left, condition = list(self.variants(nonzero)), f"N={nonzero}"
        for name in ("regime", "pattern", "allocation"):
            options = tuple(dict.fromkeys(getattr(variant, name) for variant in left))
            narrowed = len(options) < len({getattr(variant, name) for variant in self.every})
            chosen = _one_of(trial, f"{name} under {condition}" if narrowed else name, options)
            left = [variant for variant in left if getattr(variant, name) == chosen]
            condition += f", {chosen}"
        return left[0]

    def sparsity_name(self, variant: Variant) -> str:
        """The name of the sparsity: one for all variants, but in a grid, where intervals are not known."""
        shared = self.levels is not None or not variant.coarse
        return SPARSITY if shared else f"{SPARSITY} under {variant.regime}, {variant.pattern}"

    def _sparsity(self, trial: Trial, variant: Variant) -> tuple[str, float]:
        """The name of the parameter, and a wish."""
        name = self.sparsity_name(variant)
        if self.levels is not None or variant.coarse:
            return name, float(_one_of(trial, name, self.levels or variant.levels))
        low, high = self.ends
        if low == high:
            return SPARSITY, low
        stepped = not any(variant.discrete for variant in self.every)
        return SPARSITY, trial.suggest_float(SPARSITY, low, high, step=RESOLUTION if stepped else None)

    def _window(self, trial: Trial, variant: Variant) -> dict[str, float]:
        """Start and end, where the schedule has them and the space asks."""
        if variant.window is None:
            return {}
        chosen: dict[str, float] = {}
        start = variant.window[0]
        if self.spec.start:
            low, high = self.spec.start.low, self.spec.start.high
            start = chosen["start"] = self._number(trial, "start", low, min(high, variant.latest_start), high)
        if self.spec.end:
            low, high = self.spec.end.low, self.spec.end.high
            chosen["end"] = self._number(trial, "end", max(low, start + GAP), high, low)
        return chosen

    def _factor(self, trial: Trial) -> dict[str, float]:
        span, name = self.spec.learning_rate_factor, "learning_rate_factor"
        return {} if span is None else {name: self._number(trial, name, span.low, span.high, log=True)}

    def _number(self, trial: Trial, name: str, low: float, high: float, *usual: float, log: bool = False) -> float:
        """A number of three digits between two bounds; `usual` ones would be asked for by the same name."""
        if high <= low:
            return low
        if not self.every[0].coarse:
            return _short(trial.suggest_float(name, low, high, log=log), low, high)
        parts = [k / (GRID_LEVELS - 1) for k in range(GRID_LEVELS)]
        spread = [low * (high / low) ** part if log else low + part * (high - low) for part in parts]
        narrowed = any(bound not in {low, high} for bound in usual)
        name = f"{name} from {low:g} to {high:g}" if narrowed else name
        return float(trial.suggest_categorical(name, [_short(value, low, high) for value in spread]))

    def _trainable(self, nonzero: int, variant: Variant, rest: Params, wished: float | None = None) -> Params | None:
        """Parameters with the sparsity nearest to the one wished for that can be trained; None if there is none."""
        aim = variant.levels[len(variant.levels) // 2] if wished is None else wished
        for level in sorted(variant.levels, key=lambda level: (abs(level - aim), level)):
            params = variant.params(level, rest)
            if self._can(nonzero, params):
                return params
        return None

    def _can(self, nonzero: int, params: Params) -> bool:
        key = nonzero, tuple(params.items())
        if key not in self._known:
            self._known[key] = self.feasible(nonzero, params)
        return self._known[key]


def _one_of(trial: Trial, name: str, options: Sequence[Any]) -> Any:
    """A choice where there is one."""
    return options[0] if len(options) == 1 else trial.suggest_categorical(name, options)


def _short(value: float, low: float, high: float) -> float:
    return min(max(float(f"{value:.3g}"), low), high)
