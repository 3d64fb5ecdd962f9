"""What a regime's method does around an optimiser step and when masks change.

Masks themselves come from `pruning`; here is what they mean for weights, gradients and the optimiser's state.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import assert_never

import torch
from torch import Tensor

from sparsity_lab.specs.regimes.regime import (
    Dynamic,
    Masked,
    OneShotPruning,
    SparseRegime,
    StateOfPruned,
    StraightThrough,
)
from sparsity_lab.training.flat_parameters import FlatParameters
from sparsity_lab.training.optim import Stepper


class TrainingMethod:
    """Dense training: nothing is masked. The others say what differs.

    `before_step` and `after_step` stand around every optimiser step, `choosing_masks` around every choice of masks.
    """

    def before_step(self) -> None:
        """Gradients are there; the optimiser is about to use them."""

    def after_step(self) -> None:
        """The optimiser has moved the weights."""

    @contextmanager
    def choosing_masks(self) -> Iterator[None]:
        """Within, masks change; afterwards weights and optimiser state follow them."""
        yield

    def state(self) -> dict[str, Tensor]:
        """Tensors that a resumed run needs, by name; written in place to load."""
        return {}


class MaskedWeights(TrainingMethod):
    """Pruned weights are zero and stay so: their gradient is, and what the optimiser remembers of them does no harm."""

    def __init__(self, parameters: FlatParameters, optimizer: Stepper, state_of_pruned: StateOfPruned) -> None:
        self._parameters, self._optimizer, self._state_of_pruned = parameters, optimizer, state_of_pruned

    def before_step(self) -> None:
        """Pruned weights get no gradient, and count in no norm of gradients."""
        self._parameters.mask_(self._parameters.gradients)

    def after_step(self) -> None:
        """Momentum that was kept moves pruned weights: undo it."""
        if self._state_of_pruned == "kept":
            self._parameters.mask_(self._parameters.weights)

    @contextmanager
    def choosing_masks(self) -> Iterator[None]:
        """Afterwards pruned weights are zero, and the optimiser's state is what the regime asks for."""
        yield
        self._parameters.mask_(self._parameters.weights)
        state = self._optimizer.state().values()
        match self._state_of_pruned:
            case "zeroed":
                self._parameters.mask_(*(tensor for tensor in state if tensor.ndim))
            case "reset":
                for tensor in state:
                    tensor.zero_()
            case "kept":
                pass
            case _:
                assert_never(self._state_of_pruned)


class StraightThroughWeights(TrainingMethod):
    """The model sees masked weights, the optimiser moves dense ones, with the gradient at the masked ones.

    Dense weights are w = masked + remainder, exactly, for one of the two is always zero. Between steps the
    parameters are the masked weights; a step puts the remainder back and takes it out again.
    """

    def __init__(self, parameters: FlatParameters, decay: float) -> None:
        self._parameters, self._decay = parameters, decay
        self._remainder = torch.zeros_like(parameters.prefix(parameters.weights))

    def before_step(self) -> None:
        """Add SR-STE's decay of weights under the mask (Zhou et al. 2021, eq. 8), and make the weights dense."""
        if self._decay:
            self._parameters.prefix(self._parameters.gradients).add_(self._remainder, alpha=self._decay)
        self._join()

    def after_step(self) -> None:
        """Mask the weights again."""
        self._part()

    @contextmanager
    def choosing_masks(self) -> Iterator[None]:
        """Within, the weights are dense."""
        self._join()
        yield
        self._part()

    def state(self) -> dict[str, Tensor]:
        """What masked weights lack of the dense ones, as long as the prefix."""
        return {"remainder": self._remainder}

    def _join(self) -> None:
        self._parameters.prefix(self._parameters.weights).add_(self._remainder)

    def _part(self) -> None:
        """Take out the remainder, w - w * mask, and leave w - remainder: each is w or w - w = 0."""
        weights = self._parameters.prefix(self._parameters.weights)
        torch.addcmul(weights, weights, self._parameters.kept, value=-1, out=self._remainder)
        weights.sub_(self._remainder)


def make_method(regime: SparseRegime | None, parameters: FlatParameters, optimizer: Stepper) -> TrainingMethod:
    """The method of a regime at work on parameters; that of dense training without one."""
    match regime:
        case None:
            return TrainingMethod()
        case Masked() | Dynamic():
            return MaskedWeights(parameters, optimizer, regime.optimizer_state)
        case OneShotPruning():
            return MaskedWeights(parameters, optimizer, "zeroed")
        case StraightThrough():
            return StraightThroughWeights(parameters, regime.decay)
        case _:
            assert_never(regime)
