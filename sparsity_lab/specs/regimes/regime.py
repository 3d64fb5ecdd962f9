"""Regime specs: how weights become zero. Pattern, score, allocation, schedule, method and start are chosen apart."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sparsity_lab.specs.base import Count, Fraction, Spec, SpecFile
from sparsity_lab.specs.regimes.allocations import Allocation, Uniform
from sparsity_lab.specs.regimes.patterns import Pattern, Unstructured
from sparsity_lab.specs.regimes.schedules import Cubic, Schedule, Static
from sparsity_lab.specs.regimes.scores import Magnitude, OneShotScore, Score, SparseGPT
from sparsity_lab.specs.regimes.starts import DenseRun, Scratch, Start

StateOfPruned = Literal["zeroed", "kept", "reset"]
"""the optimiser's state when masks change: zeroed where weights are pruned, kept as it is, or reset everywhere"""


class Dense(SpecFile):
    """No pruning: what a run without a sparse regime says of itself."""

    kind: Literal["regime"] = "regime"
    method: Literal["dense"]


class _SparseRegimeSpec(SpecFile):
    kind: Literal["regime"] = "regime"
    pattern: Pattern = Unstructured()
    score: Score = Magnitude()
    allocation: Allocation = Uniform()
    schedule: Schedule = Cubic()
    start: Start = Scratch()


class Masked(_SparseRegimeSpec):
    """Masks are chosen on schedule; pruned weights are zero and get no update."""

    method: Literal["masked"]
    optimizer_state: StateOfPruned = "zeroed"


class Refresh(Spec):
    """When masks are chosen anew at an unchanged sparsity."""

    every: Count = 100
    """optimiser steps between two changes"""
    minimum_updates: Count = 20
    """in short runs, change more often so that at least this many changes come before `until`"""
    until: Fraction = 0.75
    """fraction of training after which masks stay"""


class StraightThrough(_SparseRegimeSpec):
    """The forward pass sees masked weights, gradients reach all of them (Bengio et al. 2013; SR-STE, Zhou et al. 2021).

    Weights under the mask live on and may come back at any choice of masks.
    """

    method: Literal["straight-through"]
    decay: Annotated[float, Field(ge=0)] = 0.0
    """lambda of SR-STE (eq. 8): adds lambda * w to the gradient of every masked weight"""
    refresh: Refresh = Refresh(until=1.0)


class Dynamic(_SparseRegimeSpec):
    """Dynamic sparse training: at a fixed sparsity the lowest scores are dropped and as many weights grown.

    SET grows at random (Mocanu et al. 2018), RigL where the gradient is largest (Evci et al. 2020). The share that
    moves is drop_fraction / 2 * (1 + cos(pi t / t_until)) (RigL, eq. 1); grown weights start at zero.
    """

    method: Literal["dynamic"]
    schedule: Schedule = Static(kind="static")
    grow: Literal["gradient", "random"] = "gradient"
    drop_fraction: Annotated[float, Field(gt=0, le=1)] = 0.3
    initial: Literal["random", "score"] = "random"
    """how a static schedule's first masks are drawn"""
    refresh: Refresh = Refresh()
    optimizer_state: StateOfPruned = "zeroed"


class OneShotPruning(SpecFile):
    """Weights that are there are pruned at once, layer by layer; then they may be trained on under the masks.

    Blocks go in order, each with the inputs that the blocks pruned before it give.
    """

    kind: Literal["regime"] = "regime"
    method: Literal["one-shot"]
    pattern: Pattern = Unstructured()
    score: OneShotScore = SparseGPT(kind="sparsegpt")
    allocation: Allocation = Uniform(embeddings_and_head="dense")
    schedule: Static = Static(kind="static")
    """there is no other: all zeros are there before the first step"""
    start: Start = DenseRun(kind="dense-run")
    recovery: Annotated[float, Field(ge=0, le=1)] = 0.0
    """share of the data asked for that pruned weights are trained on, masks held; 0 for none"""


ScheduledRegime = Masked | StraightThrough | Dynamic
"""those that choose masks while they train"""
SparseRegime = ScheduledRegime | OneShotPruning
RegimeSpec = Annotated[Dense | SparseRegime, Field(discriminator="method")]


def sparse(regime: RegimeSpec) -> SparseRegime | None:
    """The regime, where it makes weights zero."""
    return None if isinstance(regime, Dense) else regime
