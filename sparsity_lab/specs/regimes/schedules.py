"""Schedules: the sparsity over training. S is the asked sparsity, p progress through the window [start, end].

Every schedule gives `mean_sparsity`, the time average of S(t) over training in closed form: what the cost of a run is
proportional to. Real runs round their window to whole steps and stay at a level until the next mask update.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from sparsity_lab.specs.base import Count, Fraction, Spec
from sparsity_lab.specs.regimes.plugins import SCHEDULES, Plugin


class _StartAndEnd(Spec):
    start: Fraction = 0.25
    """fraction of training at which pruning starts"""
    end: Fraction = 0.75
    """fraction of training at which the final sparsity is reached"""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start >= self.end:
            raise ValueError(f"start must come before end, found {self.start} and {self.end}")
        return self


class _Window(_StartAndEnd):
    every: Count = 100
    """optimiser steps between two mask updates"""
    minimum_updates: Count = 20
    """in short runs, update more often so that the window sees at least this many updates"""

    def level(self, sparsity: float, progress: float) -> float:
        """S(t) at `progress` 0 <= p <= 1 through the window."""
        raise NotImplementedError

    def mean_sparsity(self, sparsity: ArrayLike) -> NDArray[np.float64]:
        """Time average of S(t) over training; `sparsity` is S, of any shape."""
        S = np.asarray(sparsity, dtype=np.float64)
        return (self.end - self.start) * self._window_mean(S) + (1 - self.end) * S

    def _window_mean(self, S: NDArray[np.float64]) -> NDArray[np.float64]:
        """Average of S(t) inside the window."""
        raise NotImplementedError


class Cubic(_Window):
    """S(t) = S (1 - (1 - p)^power) (Zhu & Gupta 2017, eq. 1); S power / (power + 1) on average in its window."""

    kind: Literal["cubic"] = "cubic"
    power: Annotated[float, Field(gt=0)] = 3.0

    def level(self, sparsity: float, progress: float) -> float:
        """S(t) at `progress`."""
        return float(sparsity * (1 - (1 - progress) ** self.power))

    def _window_mean(self, S: NDArray[np.float64]) -> NDArray[np.float64]:
        return S * (self.power / (self.power + 1))


class LinearSchedule(_Window):
    """S(t) = S p; S / 2 on average in its window."""

    kind: Literal["linear"]

    def level(self, sparsity: float, progress: float) -> float:
        """S(t) at `progress`."""
        return sparsity * progress

    def _window_mean(self, S: NDArray[np.float64]) -> NDArray[np.float64]:
        return S / 2


class Geometric(_Window):
    """The density falls by equal factors: 1 - S(t) = (1 - S)^p, as iterative pruning does (Frankle & Carbin 2019).

    On average in its window S(t) is 1 + S / ln(1 - S), the integral of 1 - (1 - S)^p over p.
    """

    kind: Literal["geometric"]

    def level(self, sparsity: float, progress: float) -> float:
        """S(t) at `progress`; exactly S at its end."""
        return sparsity if progress == 1 else 1 - (1 - sparsity) ** progress

    def _window_mean(self, S: NDArray[np.float64]) -> NDArray[np.float64]:
        logarithm = np.log1p(-S)
        return np.where(S > 0, 1 + S / np.where(S > 0, logarithm, 1.0), 0.0)


class OneShot(Spec):
    """All at once: S(t) = S from `at` on."""

    kind: Literal["one-shot"]
    at: Fraction = 0.5
    """fraction of training"""

    def mean_sparsity(self, sparsity: ArrayLike) -> NDArray[np.float64]:
        """Time average of S(t) over training; `sparsity` is S, of any shape."""
        return (1 - self.at) * np.asarray(sparsity, dtype=np.float64)


class Static(Spec):
    """Sparse from initialisation: S(t) = S before the first step."""

    kind: Literal["static"]

    def mean_sparsity(self, sparsity: ArrayLike) -> NDArray[np.float64]:
        """Time average of S(t) over training: S itself, of any shape."""
        return np.asarray(sparsity, dtype=np.float64)


class Cyclic(_StartAndEnd):
    """AC/DC (Peste et al. 2021): dense until `start`, then sparse and dense phases in turn, sparse from `end` on."""

    kind: Literal["cyclic"]
    start: Fraction = 0.1
    """fraction of training at which the first sparse phase starts"""
    end: Fraction = 0.8
    """fraction of training at which the last, lasting sparse phase starts"""
    cycles: Count = 3
    """pairs of a sparse and a dense phase of equal length between start and end"""

    def mean_sparsity(self, sparsity: ArrayLike) -> NDArray[np.float64]:
        """Time average of S(t) over training: half of [start, end] is sparse; `sparsity` is S, of any shape."""
        return ((self.end - self.start) / 2 + 1 - self.end) * np.asarray(sparsity, dtype=np.float64)


class PluginSchedule(_Window, Plugin):
    """A ramp from outside the package: S(t) = S progress(p), with a class as in `pruning.schedules.ScheduleRule`."""

    def level(self, sparsity: float, progress: float) -> float:
        """S(t) at `progress`; errors as `load`."""
        return sparsity * float(self.load(SCHEDULES).progress(progress))

    def _window_mean(self, S: NDArray[np.float64]) -> NDArray[np.float64]:
        return S * float(self.load(SCHEDULES).mean)


Schedule = Annotated[
    Cubic | LinearSchedule | Geometric | OneShot | Static | Cyclic | PluginSchedule, Field(discriminator="kind")
]
Ramped = Cubic | LinearSchedule | Geometric | PluginSchedule
"""schedules that climb through a window in many updates"""
