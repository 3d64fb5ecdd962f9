"""Regime specs: how weights become zero. Pattern, score, allocation, schedule and method are chosen apart."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sparsity_lab.specs.base import Count, Fraction, Spec, SpecFile


class Unstructured(Spec):
    """Any weight may be zero."""

    kind: Literal["unstructured"] = "unstructured"


class NofM(Spec):
    """At most n of every m consecutive weights along the input dimension are not zero."""

    kind: Literal["n:m"]
    n: Count
    m: Annotated[int, Field(ge=2)]

    @model_validator(mode="after")
    def _fewer(self) -> NofM:
        if self.n >= self.m:
            raise ValueError(f"n must be smaller than m, found {self.n}:{self.m}")
        return self

    @property
    def sparsity(self) -> float:
        """The only sparsity this pattern can end on."""
        return 1 - self.n / self.m


Pattern = Annotated[Unstructured | NofM, Field(discriminator="kind")]


class Cubic(Spec):
    """S(t) = S (1 - (1 - p)^power), p = progress through [start, end] of training (Zhu & Gupta 2017, eq. 1)."""

    kind: Literal["cubic"] = "cubic"
    start: Fraction = 0.25
    """fraction of training at which pruning starts"""
    end: Fraction = 0.75
    """fraction of training at which the final mask is fixed"""
    every: Count = 100
    """optimiser steps between two mask updates"""
    minimum_updates: Count = 20
    """in short runs, update more often so that the window sees at least this many updates"""
    power: Annotated[float, Field(gt=0)] = 3.0

    @model_validator(mode="after")
    def _ordered(self) -> Cubic:
        if self.start >= self.end:
            raise ValueError(f"start must come before end, found {self.start} and {self.end}")
        return self


class Dense(SpecFile):
    """No pruning."""

    kind: Literal["regime"] = "regime"
    method: Literal["dense"]


class Gradual(SpecFile):
    """Gradual magnitude pruning: masks are recomputed on a schedule; pruned weights get no update."""

    kind: Literal["regime"] = "regime"
    method: Literal["gradual"]
    pattern: Pattern = Unstructured()
    score: Literal["magnitude"] = "magnitude"
    allocation: Literal["uniform"] = "uniform"
    schedule: Cubic = Cubic()


RegimeSpec = Annotated[Dense | Gradual, Field(discriminator="method")]
