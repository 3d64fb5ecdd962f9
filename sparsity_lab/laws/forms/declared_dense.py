"""Law forms of models whose weights are dense: experts by their granularity, and exponents that change with size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sparsity_lab.laws.forms.declaration import FormDeclaration
from sparsity_lab.laws.forms.terms import FormColumn, Parameter, exponent


def _size(name: str, meaning: str, starts: tuple[float, float]) -> Parameter:
    """A scale of size, which may lie far from any run."""
    return Parameter(name, "weights", meaning, lower=1e-60, size=1, starts=starts)


def _slow(name: str, meaning: str) -> Parameter:
    """An exponent within another one."""
    return replace(exponent(name, meaning), starts=(0.05, 0.5))


class FineExperts(FormDeclaration):
    """Krajewski 2024: a mixture of experts, each `granularity` times smaller than a feed-forward layer."""

    formula = "(g / granularity^gamma + a) / N^alpha + b / D^beta + c"
    source = (
        "Krajewski et al., Scaling Laws for Fine-Grained Mixture of Experts, 2024, arXiv 2402.07871: of one expansion "
        "rate; N counts all weights, S is ignored"
    )
    amplitudes = (
        Parameter("g", "nats · weights^alpha", "what coarse experts cost a model with one weight"),
        Parameter("a", "nats · weights^alpha", "size term of infinitely fine experts with one weight"),
        Parameter("b", "nats · data^beta", "data term of a model that saw one unit of data"),
        Parameter("c", "nats", "loss that no size and no data removes"),
    )
    shapes = (
        exponent("gamma", "how fast the loss falls with granularity"),
        exponent("alpha", "how fast the loss falls with size"),
        exponent("beta", "how fast the loss falls with data D"),
    )
    columns = (FormColumn("granularity", "how many times smaller an expert is than a feed-forward layer", probe=4.0),)
    sees_sparsity = False
    experts = True

    def terms(self, shape: Any, at: Any) -> tuple[Any, ...]:
        """Size by granularity, size, data, and one."""
        size = at.nonzero**-shape.alpha
        return size * at.granularity**-shape.gamma, size, at.data**-shape.beta, 1.0


class Farseer(FormDeclaration):
    """Farseer: the data term's amplitude and exponent, and the floor, change with size.

    The paper counts D in tokens, in which D_0 is 1: pinned at that it is the paper's own form, in any unit of D.
    """

    formula = "C exp(-(N / N_C)^q) + B exp((N / N_B)^-b) (D / D_0)^-(x exp(-(N / N_x)^a))"
    source = (
        "Farseer, 2025, arXiv 2506.10972, exp(s N^q + S) + exp(B N^b + Q) D^-exp(A N^a + E) with the signs of its own "
        "fit (s, A and b below zero) and sizes in place of the factors: s = -N_C^-q; S is ignored"
    )
    amplitudes = (
        Parameter("C", "nats", "loss that data leaves to the smallest model"),
        Parameter("B", "nats", "data term of an infinite model at D_0"),
    )
    shapes = (
        _size("N_C", "size at which the floor has fallen by a factor e", (1.0, 100.0)),
        _slow("q", "how fast the floor falls with size"),
        _size("N_B", "size at which the data term is e times that of an infinite model", (1.0, 100.0)),
        _slow("b", "how fast the data term falls with size"),
        Parameter("D_0", "data", "unit in which the data term is told", lower=1e-60, data=1, starts=(0.1, 10.0)),
        exponent("x", "exponent of data of the smallest model"),
        _size("N_x", "size at which that exponent has fallen by a factor e", (0.01, 10.0)),
        _slow("a", "how fast that exponent falls with size"),
    )
    sees_sparsity = False

    def terms(self, shape: Any, at: Any) -> tuple[Any, ...]:
        """The floor and the data term."""
        falls = shape.x * np.exp(-((at.nonzero / shape.N_x) ** shape.a))
        size = np.exp((at.nonzero / shape.N_B) ** -shape.b)
        return np.exp(-((at.nonzero / shape.N_C) ** shape.q)), size * (at.data / shape.D_0) ** -falls
