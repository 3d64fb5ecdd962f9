"""Law forms of other shapes than sums of power terms: repeated data, quantised and pruned models.

Data seen again is worth less each time: of U distinct tokens D are seen, and what they are worth together saturates
(Muennighoff 2023); so do weights beyond those that U tokens can teach. Wu 2026 adds that sparse models stand
repetition better. Where U is not given all data counts as new, U = D.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from sparsity_lab.errors import RecordError
from sparsity_lab.laws.forms.declaration import FormDeclaration
from sparsity_lab.laws.forms.features import levels_of
from sparsity_lab.laws.forms.terms import FormColumn, Parameter, exponent
from sparsity_lab.laws.rows.runs import UNIQUE, Runs

_UNIQUE = FormColumn(UNIQUE, "how much of the data is distinct", default="data", data=1, probe=0.5)
_DATA = Parameter("B", "nats · data^alpha", "data term of a model that saw one unit of data")
_FLOOR = Parameter("E", "nats", "loss that no size and no data removes")
_ALPHA = exponent("alpha", "how fast the loss falls with effective size and data")
_OPTIMAL = Parameter(
    "optimal",
    "weights / data",
    "(A / B)^(1 / alpha): size of a dense model that one unit of distinct data can teach",
    size=1,
    data=-1,
    starts=(0.05, 20.0),
)
_LONGEST, _LEAST = 1e4, 1e-3


def _saturating(amount: Any, lasting: Any) -> Any:
    """Amount where it is small beside what lasts, and no more than that: x* (1 − exp(−x / x*))."""
    return -lasting * np.expm1(-amount / lasting)


def _repetitions(name: str, meaning: str) -> Parameter:
    return Parameter(name, "1", meaning, upper=_LONGEST, starts=(1.0, 40.0))


class RepeatedDense(FormDeclaration):
    """Muennighoff 2023: of dense models."""

    formula = (
        "E + A / N_eff^alpha + B / D_eff^alpha, A = B optimal^alpha; D_eff = U (1 + d (1 - exp(-(D/U - 1) / d))); "
        "N_eff likewise beyond N_opt = optimal U"
    )
    source = "Muennighoff et al., Scaling Data-Constrained Language Models, 2023, arXiv 2305.16264; S is ignored"
    amplitudes = (_DATA, _FLOOR)
    shapes = (
        _ALPHA,
        _OPTIMAL,
        _repetitions("d", "how many repetitions of the data are worth something: R_D*"),
        _repetitions("n", "how many times more weights than the data can teach are worth something: R_N*"),
    )
    columns = (_UNIQUE,)
    sees_sparsity = False

    def terms(self, shape: Any, at: Any) -> tuple[Any, ...]:
        """The loss in units of B, and one."""
        return _repeated(shape, at, 1.0, shape.n, shape.d), 1.0


class RepeatedSparse(FormDeclaration):
    """Wu 2026, whole: of sparse models; of one epoch it is the form `density`."""

    formula = (
        "E + A f(s) / N_eff^alpha + B / D_eff^alpha, s = 1-S, f = s^epsilon + P S^mu, A = B optimal^alpha; "
        "D_eff = U (1 + d* (1 - exp(-(D/U - 1) / d*))), d* = d (1 + d_1 S - d_2 S^2); N_eff likewise with n* beyond "
        "N_opt = optimal f^(1/alpha) U"
    )
    source = "Wu et al., 2026, arXiv 2606.01155"
    amplitudes = (_DATA, _FLOOR)
    shapes = (
        exponent("epsilon", "how the size term changes with density 1 - S", signed=True),
        Parameter("P", "1", "what sparsity adds to it", lower=-float("inf"), starts=(-0.5, 0.5)),
        exponent("mu", "how fast that comes with sparsity S"),
        *RepeatedDense.shapes,
        Parameter("d_1", "1", "how d* grows with S", lower=-20.0, upper=20.0, starts=(-1.0, 2.0)),
        Parameter("d_2", "1", "how d* falls with S^2", lower=-20.0, upper=20.0, starts=(-1.0, 2.0)),
        Parameter("n_1", "1", "how n* grows with S", lower=-20.0, upper=20.0, starts=(-1.0, 2.0)),
        Parameter("n_2", "1", "how n* falls with S^2", lower=-20.0, upper=20.0, starts=(-1.0, 2.0)),
    )
    columns = (_UNIQUE,)

    def terms(self, shape: Any, at: Any) -> tuple[Any, ...]:
        """The loss in units of B, and one."""
        S = at.sparsity
        factor = np.maximum((1 - S) ** shape.epsilon + shape.P * S**shape.mu, _LEAST)
        n = np.maximum(shape.n * (1 + shape.n_1 * S - shape.n_2 * S**2), _LEAST)
        d = np.maximum(shape.d * (1 + shape.d_1 * S - shape.d_2 * S**2), _LEAST)
        return _repeated(shape, at, factor, n, d), 1.0


def _repeated(shape: Any, at: Any, factor: Any, n: Any, d: Any) -> Any:
    """F optimal^alpha / N_eff^alpha + 1 / D_eff^alpha."""
    unique = np.minimum(at.unique, at.data)
    useful = np.minimum(at.nonzero, shape.optimal * factor ** (1 / shape.alpha) * unique)
    size = useful * (1 + _saturating(at.nonzero / useful - 1, n))
    data = unique * (1 + _saturating(at.data / unique - 1, d))
    return factor * (shape.optimal / size) ** shape.alpha + data**-shape.alpha


def share_of_bits(bits: float) -> str:
    """Name of the parameter that says what weights of so many bits are worth."""
    return f"rho_{bits:.4g}_bits".replace(".", "_")


@dataclass(frozen=True, eq=False)
class SparseQuantised(FormDeclaration):
    """Panferov 2025: a format is worth a share rho of the weights; of formats together, the product of their shares.

    Attributes:
        settings: sparsities, 0 first, then numbers of bits of the weights; the most bits count as exact. Between
            measured sparsities rho is interpolated, towards 0 at S = 1; bits between the measured are refused.
    """

    settings: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 16.0)
    formula = "A / (N rho(S) rho(bits) / (1-S))^alpha + B / D^beta + E, one rho for each sparsity and number of bits"
    source = "Panferov et al., Unified Scaling Laws for Compressed Representations, 2025, arXiv 2506.01863"
    amplitudes = (
        Parameter("A", "nats · weights^alpha", "size term of a dense model with one weight"),
        Parameter("B", "nats · data^beta", "data term of a model that saw one unit of data"),
        _FLOOR,
    )
    columns = (FormColumn("bits", "bits of a weight", default=np.inf, probe=np.inf),)
    size_exponent = "alpha"

    def __post_init__(self) -> None:
        if self.sparsities[:1] != (0.0,) or not self.bits or list(self.settings) != sorted(set(self.settings)):
            raise RecordError(
                "wrong formats", field="settings", found=self.settings, expected="0, sparsities, numbers of bits"
            )

    @property
    def sparsities(self) -> tuple[float, ...]:
        """Measured sparsities."""
        return tuple(one for one in self.settings if one < 1)

    @property
    def bits(self) -> tuple[float, ...]:
        """Measured numbers of bits."""
        return tuple(one for one in self.settings if one >= 1)

    @property
    def shapes(self) -> tuple[Parameter, ...]:  # type: ignore[override]  # as many as there are formats
        """Two exponents and a share of each format."""
        shares = [
            *((f"rho_{100 * S:.4g}".replace(".", "_"), f"S = {S:.4g}") for S in self.sparsities[1:]),
            *((share_of_bits(bits), f"{bits:.4g} bits") for bits in self.bits[:-1]),
        ]
        return (
            exponent("alpha", "how fast the loss falls with size"),
            exponent("beta", "how fast the loss falls with data D"),
            *(
                Parameter(name, "1", f"share of the weights at {what}", upper=5.0, starts=(0.2, 1.0))
                for name, what in shares
            ),
        )

    def terms(self, shape: Any, at: Any) -> tuple[Any, ...]:
        """Size, data, and one."""
        size = at.nonzero / (1 - at.sparsity) * self._kept(shape, at.sparsity) * self._precise(shape, at.bits)
        return size**-shape.alpha, at.data**-shape.beta, 1.0

    def adapted(self, runs: Runs) -> FormDeclaration:
        """With the formats of the runs."""
        sparsities = levels_of(runs.sparsity)
        if sparsities[0] != 0:
            found = sparsities[0]
            raise RecordError(
                "formats are measured against dense runs", field="sparsity", found=found, expected="some at 0"
            )
        bits = runs.further.get("bits", np.array([16.0]))
        return SparseQuantised((*sparsities, *np.unique(bits).tolist()))

    def _kept(self, shape: Any, sparsity: Any) -> Any:
        known = (*self.sparsities, 1.0)
        names = [f"rho_{100 * S:.4g}".replace(".", "_") for S in self.sparsities[1:]]
        shares = [1.0, *(getattr(shape, name) for name in names), 0.0]
        found: Any = 0.0
        for k, (low, high) in enumerate(pairwise(known)):
            part = np.clip((sparsity - low) / (high - low), 0.0, 1.0)
            inside = (sparsity >= low) & (sparsity < high)
            found = found + np.where(inside, 1.0, 0.0) * (shares[k] * (1 - part) + shares[k + 1] * part)
        return found

    def _precise(self, shape: Any, bits: Any) -> Any:
        bits = np.minimum(np.asarray(bits), self.bits[-1])
        if not np.isin(bits, self.bits).all():
            known = ", ".join(f"{one:g}" for one in self.bits)
            raise RecordError(
                "no such number of bits",
                field="bits",
                found=float(bits[~np.isin(bits, self.bits)].flat[0]),
                expected=f"one of {known}",
            )
        kept: Any = 1.0
        for one in self.bits[:-1]:
            share = getattr(shape, share_of_bits(one))
            kept = kept * np.where(bits == one, share, 1.0)
        return kept


class PrecisionInTraining(FormDeclaration):
    """Kumar 2024: weights of few bits count as fewer weights."""

    formula = "A / (N (1 - exp(-bits / gamma)))^alpha + B / D^beta + E"
    source = "Kumar et al., Scaling Laws for Precision, 2024, arXiv 2411.04330; S is ignored"
    amplitudes: tuple[Parameter, ...] = SparseQuantised.amplitudes
    shapes: tuple[Parameter, ...] = (
        exponent("alpha", "how fast the loss falls with size"),
        exponent("beta", "how fast the loss falls with data D"),
        Parameter("gamma", "bits", "bits from which on more make little difference", upper=100.0, starts=(0.5, 8.0)),
    )
    columns: tuple[FormColumn, ...] = (FormColumn("bits", "bits of a weight in training", default=np.inf, probe=4.0),)
    sees_sparsity = False

    def terms(self, shape: Any, at: Any) -> tuple[Any, ...]:
        """Size, data, and one."""
        size = at.nonzero * -np.expm1(-at.bits / shape.gamma)
        return size**-shape.alpha, at.data**-shape.beta, 1.0


class PrecisionAfter(PrecisionInTraining):
    """Kumar 2024 with the loss of quantising after training, which grows with data and falls with size."""

    formula = f"{PrecisionInTraining.formula} + C D^gamma_D / N^gamma_N exp(-bits_after / gamma_post)"
    amplitudes = (
        *PrecisionInTraining.amplitudes,
        Parameter("C", "nats · weights^gamma_N / data^gamma_D", "what quantising to no bits adds"),
    )
    shapes = (
        *PrecisionInTraining.shapes,
        exponent("gamma_D", "how fast it grows with data D"),
        exponent("gamma_N", "how fast it falls with size"),
        Parameter("gamma_post", "bits", "bits that lower it by a factor e", upper=100.0, starts=(0.3, 4.0)),
    )
    columns = (*PrecisionInTraining.columns, FormColumn("bits_after", "bits of a weight, quantised", np.inf, probe=4.0))

    def terms(self, shape: Any, at: Any) -> tuple[Any, ...]:
        """As in training, and the loss of quantising."""
        added = at.data**shape.gamma_D * at.nonzero**-shape.gamma_N * np.exp(-at.bits_after / shape.gamma_post)
        return *super().terms(shape, at), added


_BEFORE = FormColumn("loss_before", "loss of the model before it is pruned, nats", probe=3.0)


class PrunedAfter(FormDeclaration):
    """P2 law: a trained model is pruned and trained on."""

    formula = "loss_before + (1-S)^-gamma dense^-delta (A / dense^alpha + B / D^beta + E)"
    source = (
        "P2 law, 2024, arXiv 2411.10272: dense = N / (1-S) are the weights before, D the data after pruning; its "
        "pruning rate is read as the density 1-S that is left"
    )
    amplitudes = (
        Parameter("A", "nats · weights^(alpha + delta)", "part that falls with the size before"),
        Parameter("B", "nats · data^beta weights^delta", "part that training on removes"),
        Parameter("E", "nats · weights^delta", "part that no training removes", lower=-float("inf")),
    )
    shapes = (
        exponent("gamma", "how fast it grows when less is left", signed=True),
        exponent("delta", "how fast it falls with the size before", signed=True),
        exponent("alpha", "how much faster a part of it does"),
        exponent("beta", "how fast it falls with the data after pruning"),
    )
    columns = (_BEFORE,)

    def terms(self, shape: Any, at: Any) -> tuple[Any, ...]:
        """The three parts, and the loss before."""
        dense = at.nonzero / (1 - at.sparsity)
        grown = (1 - at.sparsity) ** -shape.gamma * dense**-shape.delta
        return grown * dense**-shape.alpha, grown * at.data**-shape.beta, grown, at.loss_before


class CompressedLoss(FormDeclaration):
    """Compression laws: the loss after pruning from the loss before, the share pruned and the data of recovery."""

    formula = "c loss_before^alpha (1 + S)^beta (1 + unit / (D + unit))^gamma"
    source = (
        "Compression laws for large language models, 2025, arXiv 2504.04342, where c = 1 and unit is the unit in which "
        "it counts the data of recovery; both are free here"
    )
    amplitudes = (Parameter("c", "nats^(1 - alpha)", "one in the paper"),)
    shapes = (
        exponent("alpha", "how the loss follows that before"),
        exponent("beta", "how fast it grows with what is pruned"),
        exponent("gamma", "how much recovery removes"),
        Parameter("unit", "data", "data of recovery that matters", data=1, starts=(0.01, 100.0)),
    )
    columns = (_BEFORE,)
    untrained = True

    def terms(self, shape: Any, at: Any) -> tuple[Any, ...]:
        """The product."""
        kept = at.loss_before**shape.alpha * (1 + at.sparsity) ** shape.beta
        return (kept * (1 + shape.unit / (at.data + shape.unit)) ** shape.gamma,)
