"""The law forms that are sums of power terms, each as a function of its settings."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.forms.features import (
    DATA,
    DENSE,
    DENSITY,
    NONZERO,
    SPARSITY,
    average_size,
    design_levels,
    level,
)
from sparsity_lab.laws.forms.power import PowerForm
from sparsity_lab.laws.forms.terms import OneOrMany, Parameter, Power, Term, exponent
from sparsity_lab.laws.rows.runs import Runs

PAPER_PROGRESS = 0.625
"""q of the paper's schedule, cubic from 25 % to 75 % of training"""
PAPER_LEVELS = (0.0, 0.5, 0.75, 0.875)


class FrantarParams(NamedTuple):
    """Parameters of `frantar`; arrays stand for many laws at once."""

    a_S: OneOrMany  # noqa: N815
    b_S: OneOrMany  # noqa: N815
    c_S: OneOrMany  # noqa: N815
    b_N: OneOrMany  # noqa: N815
    a_D: OneOrMany  # noqa: N815
    b_D: OneOrMany  # noqa: N815
    c: OneOrMany


class ChinchillaParams(NamedTuple):
    """Parameters of `chinchilla` and `average_params`; arrays stand for many laws at once."""

    A: OneOrMany
    alpha: OneOrMany
    B: OneOrMany
    beta: OneOrMany
    E: OneOrMany


_SIZE = Parameter("A", "nats · weights^alpha", "size term of a dense model with one weight")
_ALPHA = exponent("alpha", "how fast the loss falls with size")
_FLOOR = Parameter("E", "nats", "loss that no size and no data removes")
_DATA = Parameter("B", "nats · data^beta", "data term of a model that saw one unit of data")
_BETA = exponent("beta", "how fast the loss falls with data D")
_DATA_TERM = Term("B", (Power(DATA, "beta", -1),))


@cache
def frantar() -> PowerForm:
    """Frantar 2024."""
    size = Power(NONZERO, "b_N", -1)
    return PowerForm(
        name="frantar",
        formula="(a_S (1-S)^b_S + c_S) N^-b_N + (a_D / D)^b_D + c",
        source="Frantar et al., Scaling Laws for Sparsely-Connected Foundation Models, ICLR 2024, arXiv 2309.08520",
        params=FrantarParams,
        parameters=(
            Parameter("a_S", "nats · weights^b_N", "part of the size term that sparsity removes"),
            exponent("b_S", "how fast it falls with density 1 - S"),
            Parameter("c_S", "nats · weights^b_N", "part of the size term that no sparsity removes"),
            exponent("b_N", "how fast the loss falls with non-zero weights N"),
            Parameter("a_D", "data", "data at which the data term is one nat"),
            exponent("b_D", "how fast the loss falls with data D"),
            Parameter("c", "nats", "loss that no size and no data removes"),
        ),
        terms=(
            Term("a_S", (Power(DENSITY, "b_S"), size)),
            Term("c_S", (size,)),
            Term("a_D", (Power(DATA, "b_D", -1),), to_power=("b_D", 1)),
            Term("c"),
        ),
    )


@cache
def chinchilla() -> PowerForm:
    """Hoffmann 2022."""
    return PowerForm(
        name="chinchilla",
        formula="A / N^alpha + B / D^beta + E",
        source="Hoffmann et al., Training Compute-Optimal Large Language Models, 2022, arXiv 2203.15556; S is ignored",
        params=ChinchillaParams,
        parameters=(_SIZE, _ALPHA, _DATA, _BETA, _FLOOR),
        terms=(Term("A", (Power(NONZERO, "alpha", -1),)), _DATA_TERM, Term("E")),
    )


@cache
def average_params(*settings: float) -> PowerForm:
    """Jin 2025; the setting is q, the time average of S(t) / S."""
    if len(settings) != 1 or not 0 <= settings[0] < 1:
        raise RecordError("wrong settings", field="average_params", found=settings, expected="one q, 0 <= q < 1")
    (mean_progress,) = settings
    average = average_size(mean_progress)
    return PowerForm(
        name="average_params",
        formula=f"A / (N (1 - {mean_progress:.6g} S) / (1 - S))^alpha + B / D^beta + E",
        source="Jin et al., 2025, arXiv 2501.12486: Chinchilla in the time average of the non-zero weights",
        params=ChinchillaParams,
        parameters=(_SIZE, _ALPHA, _DATA, _BETA, _FLOOR),
        terms=(Term("A", (Power(average, "alpha", -1),)), _DATA_TERM, Term("E")),
        settings=(mean_progress,),
    )


@cache
def density() -> PowerForm:
    """Wu 2026, of data seen once."""
    size = Power(NONZERO, "alpha", -1)
    return PowerForm(
        name="density",
        formula="A ((1-S)^epsilon + P S^mu) / N^alpha + B / D^beta + E",
        source="Wu et al., 2026, arXiv 2606.01155; its data term shares alpha",
        parameters=(
            _SIZE,
            exponent("epsilon", "how the size term changes with density 1 - S", signed=True),
            Parameter(
                "P", "1", "what sparsity adds to the size term, relative to a dense model's", lower=-float("inf")
            ),
            exponent("mu", "how fast that comes with sparsity S"),
            _ALPHA,
            _DATA,
            _BETA,
            _FLOOR,
        ),
        terms=(
            Term("A", (Power(DENSITY, "epsilon"), size)),
            Term("P", (Power(SPARSITY, "mu"), size), times="A"),
            _DATA_TERM,
            Term("E"),
        ),
    )


@cache
def effective_params(*levels: float) -> PowerForm:
    """One free efficiency for each sparse level: no smooth function of S in its place can fit better.

    What is between levels, as a search tries it, has the size term linear between theirs.
    """
    if len(levels) < 2 or levels[0] != 0 or list(levels) != sorted(set(levels)):
        raise RecordError("wrong levels", field="effective_params", found=levels, expected="0 and higher sparsities")
    size = Power(DENSE, "alpha", -1)
    names = tuple(f"eff_{100 * one:.4g}".replace(".", "_") for one in levels)

    def at(index: int) -> Power:
        return Power(level(index, levels), 1.0)

    sparse = range(1, len(levels))
    return PowerForm(
        name="effective_params",
        formula="A / (N eff(S) / (1-S))^alpha + B / D^beta + E, one eff for each level of sparsity, eff(0) = 1",
        source="effective parameter counts, arXiv 2502.16440",
        parameters=(
            _SIZE,
            _ALPHA,
            *(Parameter(names[i], "1", f"effective share of the dense weights at S = {levels[i]:.4g}") for i in sparse),
            _DATA,
            _BETA,
            _FLOOR,
        ),
        terms=(
            Term("A", (at(0), size)),
            *(Term(names[i], (at(i), size), to_power=("alpha", -1), times="A") for i in sparse),
            _DATA_TERM,
            Term("E"),
        ),
        settings=levels,
        adapt=_with_levels_of,
    )


def _with_levels_of(runs: Runs) -> PowerForm:
    found = design_levels(runs.sparsity)
    if found[0] != 0:
        raise RecordError(
            "effective_params measures every sparsity against dense runs, and there is none",
            field="sparsity",
            found=found[0],
            expected="runs at sparsity 0",
        )
    if len(found) == 1:
        raise RecordError("never changes, so the form effective_params cannot be fitted", field="sparsity", found=0.0)
    return effective_params(*found)


@cache
def generalized() -> PowerForm:
    """Hossain 2025."""
    size = Power(NONZERO, "alpha", -1)
    return PowerForm(
        name="generalized",
        formula="e (1-S)^gamma + (a (1-S)^alpha + c S) / N^alpha + b / D^beta",
        source="Hossain et al., Generalizing Scaling Laws for Dense and Sparse Large Language Models, 2025, "
        "arXiv 2508.06617",
        parameters=(
            Parameter("e", "nats", "loss of a dense model that no size and no data removes"),
            exponent("gamma", "how that changes with density 1 - S", signed=True),
            Parameter("a", "nats · weights^alpha", "size term of a dense model with one weight"),
            exponent("alpha", "how fast the loss falls with non-zero weights N"),
            Parameter("c", "nats · weights^alpha", "what sparsity adds to it"),
            Parameter("b", "nats · data^beta", "data term of a model that saw one unit of data"),
            _BETA,
        ),
        terms=(
            Term("e", (Power(DENSITY, "gamma"),)),
            Term("a", (Power(DENSITY, "alpha"), size)),
            Term("c", (Power(SPARSITY, 1.0), size)),
            Term("b", (Power(DATA, "beta", -1),)),
        ),
    )


@cache
def moe_abnar() -> PowerForm:
    """Another sparsity: S is the share of experts that a token does not pass, N all weights."""
    return PowerForm(
        name="moe_abnar",
        experts=True,
        formula="a / N^alpha + b / D^beta + c / (1-S)^lam + d / ((1-S)^delta N^gamma) + e",
        source="Abnar et al., 2025, arXiv 2501.12370: mixtures of experts. Its S is another sparsity, the share of "
        "inactive experts, and its N counts all weights",
        parameters=(
            Parameter("a", "nats · weights^alpha", "size term of a model with one weight"),
            _ALPHA,
            Parameter("b", "nats · data^beta", "data term of a model that saw one unit of data"),
            _BETA,
            Parameter("c", "nats", "what remains of inactive experts"),
            exponent("lam", "how that changes with the active share 1 - S", signed=True),
            Parameter("d", "nats · weights^gamma", "what they cost a model with one weight"),
            exponent("delta", "how fast that grows when fewer are active"),
            exponent("gamma", "how fast that falls with size"),
            Parameter("e", "nats", "loss that nothing removes"),
        ),
        terms=(
            Term("a", (Power(NONZERO, "alpha", -1),)),
            Term("b", (Power(DATA, "beta", -1),)),
            Term("c", (Power(DENSITY, "lam", -1),)),
            Term("d", (Power(DENSITY, "delta", -1), Power(NONZERO, "gamma", -1))),
            Term("e"),
        ),
    )
