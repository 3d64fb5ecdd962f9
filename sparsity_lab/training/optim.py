"""Optimisers on flat vectors, and the learning rate over training.

A pruned weight is zero, and so is its gradient when a step begins. Where its state is zero too, every update below
is zero: zeros stay zero through momentum, weight decay, clipping and scaling, and each norm is one over non-zero
weights. What becomes of the state when masks change is the method's choice (`training.methods`).
"""

from __future__ import annotations

from typing import Protocol, assert_never

import torch
from torch import Tensor

from sparsity_lab.specs.training import AdaFactor, AdamW, Optimizer
from sparsity_lab.training.flat_parameters import FlatParameters, Slot


class Stepper(Protocol):
    """An optimiser at work."""

    def step(self, rate: float) -> None:
        """Update the weights from their gradients."""

    def state(self) -> dict[str, Tensor]:
        """Every tensor that a resumed run needs, by name; written in place to load."""


class Norms:
    """L2 norms of flat vectors, each in one pass over all of them."""

    def __init__(self, parameters: FlatParameters) -> None:
        self._parameters = parameters
        self._views: dict[int, list[Tensor]] = {}

    def of_all(self, flat: Tensor) -> Tensor:
        """Of the whole vector."""
        norm: Tensor = flat.norm()
        return norm

    def of_each(self, flat: Tensor) -> Tensor:
        """Of each tensor, (slots,); `flat` is a vector that stays where it is."""
        place = flat.data_ptr()
        if place not in self._views:
            self._views[place] = [slot.view(flat) for slot in self._parameters.slots]
        return torch.stack(torch._foreach_norm(self._views[place]))  # noqa: SLF001 - torch has no public name for it


class NormsByRow(Norms):
    """The same, by way of rows in float64: no bit depends on how many processes a tensor is spread over."""

    def of_all(self, flat: Tensor) -> Tensor:
        """Of the whole vector."""
        norm: Tensor = torch.cat(self._parameters.row_norms(flat)).norm()
        return norm.to(flat.dtype)

    def of_each(self, flat: Tensor) -> Tensor:
        """Of each tensor, (slots,)."""
        return torch.stack([rows.norm() for rows in self._parameters.row_norms(flat)]).to(flat.dtype)


def make_optimizer(
    spec: Optimizer, parameters: FlatParameters, *, moves_masked: bool = False, by_row: bool = False
) -> Stepper:
    """The optimiser of a spec, with fresh state.

    Args:
        spec: its settings.
        parameters: what it moves.
        moves_masked: weights under the mask are trained too.
        by_row: take norms by way of rows, as runs on several processes do.
    """
    norms = NormsByRow(parameters) if by_row else Norms(parameters)
    match spec:
        case AdamW():
            return AdamWStepper(spec, parameters, norms)
        case AdaFactor():
            return AdaFactorStepper(spec, parameters, norms, () if moves_masked else parameters.maskable)
        case _:
            assert_never(spec)


class AdamWStepper:
    """AdamW (Loshchilov & Hutter 2019, algorithm 2) with gradient clipping by global norm."""

    def __init__(self, spec: AdamW, parameters: FlatParameters, norms: Norms) -> None:
        self.spec, self.parameters, self.norms = spec, parameters, norms
        self.first = torch.zeros_like(parameters.weights)
        self.second = torch.zeros_like(parameters.weights)
        self.count = torch.zeros((), dtype=torch.int64)
        self._scratch = torch.empty_like(parameters.weights)
        self._decay = torch.zeros_like(parameters.weights) if spec.weight_decay else None
        for slot in parameters.slots:
            if self._decay is not None and slot.decays:
                slot.view(self._decay).fill_(1)

    def state(self) -> dict[str, Tensor]:
        """First and second moment and the number of steps."""
        return {"first": self.first, "second": self.second, "count": self.count}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One update; `rate` is the learning rate of this step."""
        spec, gradient, scratch = self.spec, self.parameters.gradients, self._scratch
        if spec.clip_norm:
            gradient.mul_(torch.clamp(spec.clip_norm / (self.norms.of_all(gradient) + 1e-12), max=1.0))
        self.count += 1
        t = int(self.count)
        self.first.lerp_(gradient, 1 - spec.beta1)
        self.second.mul_(spec.beta2).addcmul_(gradient, gradient, value=1 - spec.beta2)
        torch.sqrt(self.second, out=scratch)
        scratch.mul_((1 - spec.beta2**t) ** -0.5).add_(spec.epsilon)
        if self._decay is not None:
            self.parameters.weights.addcmul_(self.parameters.weights, self._decay, value=-rate * spec.weight_decay)
        self.parameters.weights.addcdiv_(self.first, scratch, value=-rate / (1 - spec.beta1**t))


class AdaFactorStepper:
    """AdaFactor with an unfactored second moment (Shazeer & Stern 2018, algorithm 4, full V).

    For each tensor: U = G / sqrt(V), clipped so that its RMS is at most `clip_rms`, times
    max(minimum_scale, RMS(W)) times the learning rate. Both RMS are taken over the non-zero weights only:
    zeros would otherwise make a sparse tensor's steps smaller (Frantar 2024, appendix A).
    """

    def __init__(self, spec: AdaFactor, parameters: FlatParameters, norms: Norms, sparse: tuple[Slot, ...]) -> None:
        """`sparse`: the first slots, in which masked weights do not count."""
        self.spec, self.parameters, self.norms = spec, parameters, norms
        self.second = torch.zeros_like(parameters.weights)
        self.count = torch.zeros((), dtype=torch.int64)
        self._update = torch.zeros_like(parameters.weights)
        self._updates = [slot.view(self._update) for slot in parameters.slots]
        self._masks = [slot.view(parameters.mask) for slot in sparse]
        self._sizes = torch.tensor([float(size) for size in parameters.sizes], device=parameters.weights.device)
        self._kept_of: tuple[int, Tensor] = (-1, self._sizes)

    def state(self) -> dict[str, Tensor]:
        """Second moment and the number of steps."""
        return {"second": self.second, "count": self.count}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One update; `rate` is the relative learning rate of this step."""
        spec, gradient, update = self.spec, self.parameters.gradients, self._update
        self.count += 1
        decay = 1 - float(self.count) ** -spec.decay_exponent
        self.second.mul_(decay).addcmul_(gradient, gradient, value=1 - decay)
        torch.sqrt(self.second, out=update)
        update.add_(spec.epsilon**0.5)
        torch.div(gradient, update, out=update)
        roots = self._kept().sqrt()
        update_rms = self.norms.of_each(update) / roots
        weight_rms = self.norms.of_each(self.parameters.weights) / roots
        scale = weight_rms.clamp(min=spec.minimum_scale) / (update_rms / spec.clip_rms).clamp(min=1.0)
        torch._foreach_mul_(self._updates, list((scale * -rate).unbind()))
        self.parameters.weights.add_(update)

    def _kept(self) -> Tensor:
        """Non-zero weights of each tensor, (slots,); counted again only when a mask was written to."""
        version = self.parameters.mask._version  # noqa: SLF001 - counts writes to a tensor
        if self._kept_of[0] != version:
            kept = self._sizes.clone()
            if self._masks:
                counts = self.parameters.count(torch.stack([mask.sum() for mask in self._masks]))
                kept[: len(counts)] = counts.clamp(min=1)
            self._kept_of = (version, kept)
        return self._kept_of[1]
