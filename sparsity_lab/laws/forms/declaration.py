"""What a law form of any shape is declared by: names and one function of arrays."""

from __future__ import annotations

from typing import Any

from sparsity_lab.laws.forms.terms import FormColumn, Parameter
from sparsity_lab.laws.rows.runs import Runs


class FormDeclaration:
    """What a form of any shape is declared by. Subclasses set the first four and `terms`; the others as needed.

    Attributes:
        formula: for people.
        source: the paper it is from.
        amplitudes: parameters in which the loss is linear.
        shapes: the other parameters.
        columns: what `terms` reads beside sparsity, nonzero and data.
        sees_sparsity: whether `terms` reads sparsity.
        experts: whether its S is the share of inactive experts: no question about sparse weights is answered then.
        untrained: whether `terms` hold at D = 0, of a model that was pruned and trained on nothing afterwards.
        size_exponent: the shape parameter b where L = f(S) · N^−b + terms in which neither S nor N is; f(S) · N^−b are
            then the first `size_terms`.
        size_terms: how many.
        settings: numbers that the declaration is built from.
    """

    formula: str
    source: str
    amplitudes: tuple[Parameter, ...]
    shapes: tuple[Parameter, ...]
    columns: tuple[FormColumn, ...] = ()
    sees_sparsity: bool = True
    experts: bool = False
    untrained: bool = False
    size_exponent: str | None = None
    size_terms: int = 1
    settings: tuple[float, ...] = ()

    def terms(self, shape: Any, at: Any) -> tuple[Any, ...]:
        """The m_k, in the order of the amplitudes; one more has no amplitude.

        Args:
            shape: the shape parameters, by name.
            at: `sparsity`, `nonzero`, `data` and the declared columns, by name. All are arrays that broadcast against
                one another, or jets: compute with NumPy's functions of arrays (`jets` says which).
        """
        raise NotImplementedError

    def adapted(self, runs: Runs) -> FormDeclaration:
        """The declaration with the settings that given runs ask for."""
        del runs
        return self
