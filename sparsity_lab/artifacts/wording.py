"""A run's regime in a few words, from what its record knows: names of files are not part of it."""

from __future__ import annotations

from typing import assert_never

from sparsity_lab.specs.regimes.patterns import Block, Channel, NofM, Unstructured
from sparsity_lab.specs.regimes.plugins import Plugin
from sparsity_lab.specs.regimes.regime import Dense, Dynamic, Masked, RegimeSpec, StraightThrough


def pattern_of(regime: RegimeSpec) -> str:
    """The pattern: `unstructured`, `2:4`, `4x4 blocks`, `rows`; empty for a dense run."""
    if isinstance(regime, Dense):
        return ""
    match regime.pattern:
        case Unstructured(within=within):
            return "unstructured" if within == "tensor" else "unstructured in rows"
        case NofM(n=n, m=m):
            return f"{'n' if n is None else n}:{m}"
        case Block(height=height, width=width):
            return f"{height}x{width} blocks"
        case Channel(axis=axis):
            return axis
        case Plugin(name=name):
            return name
        case _:
            assert_never(regime.pattern)


def score_of(regime: RegimeSpec) -> str:
    """The kind of score, or a plug-in's name; empty for a dense run."""
    return "" if isinstance(regime, Dense) else _kind(regime.score.kind, regime.score)


def allocation_of(regime: RegimeSpec) -> str:
    """The kind of allocation; empty for a dense run."""
    return "" if isinstance(regime, Dense) else regime.allocation.kind


def schedule_of(regime: RegimeSpec) -> str:
    """The kind of schedule, or a plug-in's name; empty for a dense run."""
    return "" if isinstance(regime, Dense) else _kind(regime.schedule.kind, regime.schedule)


def in_words(regime: RegimeSpec) -> str:
    """All five choices that matter most in one line, such as `dynamic (gradient) unstructured, magnitude, static`."""
    match regime:
        case Dense():
            return "dense"
        case Dynamic(grow=grow):
            method = f"dynamic ({grow})"
        case Masked() | StraightThrough():
            method = regime.method
        case _:
            assert_never(regime)
    parts = (f"{method} {pattern_of(regime)}", score_of(regime), allocation_of(regime), schedule_of(regime))
    return ", ".join(parts)


def _kind(kind: str, spec: object) -> str:
    return spec.name if isinstance(spec, Plugin) else kind
