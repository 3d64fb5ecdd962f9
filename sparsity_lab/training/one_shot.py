"""Pruning weights that are there, block by block: each sees the inputs that the blocks pruned before it give."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, assert_never

import torch
from torch import Tensor, nn

from sparsity_lab.artifacts.records import PrunedAtOnce
from sparsity_lab.pruning.allocation import balanced_sparsity, blocks_of, share_out, zeros_for
from sparsity_lab.pruning.reconstruction import choose_mask, reconstruct
from sparsity_lab.pruning.scores import Observation, rule_of
from sparsity_lab.specs.regimes.patterns import MatrixShape, Unstructured
from sparsity_lab.specs.regimes.regime import OneShotPruning
from sparsity_lab.specs.regimes.scores import OBC, Magnitude, Random, SparseGPT, Wanda
from sparsity_lab.training.observe import layer_by_layer
from sparsity_lab.training.passes import Passes


@dataclass
class OneShotPruner:
    """Prunes the weights of a model, one block a call of `prune_next`; then masks stay.

    All that a resumed run needs beside weights and masks is in `facts`. Embeddings and head, where they are pruned, are
    the last block and go by magnitude: a table has no inputs.
    """

    regime: OneShotPruning
    sparsity: float
    seed: int
    passes: Passes
    outside: frozenset[str]
    """names of the tensors outside the blocks that are pruned"""
    done: int = 0
    """blocks that are pruned"""
    loss_before: float | None = None
    """held-out, of the weights as they were, nats; None before they are there"""
    loss_after: float | None = None
    """held-out, of the pruned weights, nats; None before all are"""
    seconds: float = 0.0
    """that calibration and pruning took, over all interruptions"""

    @property
    def finished(self) -> bool:
        """Whether every block is pruned."""
        return self.done == len(self._blocks)

    @torch.no_grad()
    def prune_next(self) -> None:
        """Prune the next block: calibrate on the first training batches, choose masks, move what stays."""
        began = time.monotonic()
        names, parameters = self._blocks[self.done], self.passes.parameters
        zeros = {name: count for name in names if (count := self._zeros[name])}
        moments = self._moments(list(zeros))
        weights, masks = parameters.whole(parameters.weights), parameters.whole(parameters.mask)
        for name, count in zeros.items():
            weight, mask = weights[name], masks[name]
            new, kept = self._pruned(name, weight, count, moments.get(name))
            parameters.write(parameters.weights, name, weight.copy_(new))
            parameters.write(parameters.mask, name, mask.copy_(kept))
        self.done += 1
        self.seconds += time.monotonic() - began

    def facts(self) -> dict[str, Any]:
        """How far it is, as JSON."""
        names = ("done", "loss_before", "loss_after", "seconds")
        return {name: getattr(self, name) for name in names}

    def restore_facts(self, facts: Mapping[str, Any]) -> None:
        """Take over what `facts` gave."""
        for name in self.facts():
            setattr(self, name, facts[name])

    def result(self) -> PrunedAtOnce:
        """What came of it, once all is pruned."""
        assert self.loss_before is not None
        assert self.loss_after is not None
        return PrunedAtOnce(loss_before=self.loss_before, loss_after=self.loss_after, seconds=self.seconds)

    def _pruned(self, name: str, weight: Tensor, zeros: int, moments: Tensor | None) -> tuple[Tensor, Tensor]:
        score, pattern = self.regime.score, self.regime.pattern
        if name in self.outside:
            mask = choose_mask(Unstructured(), weight.abs(), zeros)
            return weight * mask, mask
        match score:
            case SparseGPT() | OBC():
                assert moments is not None
                return reconstruct(weight, moments, pattern, zeros, score)
            case Magnitude() | Random() | Wanda():
                inputs = None if moments is None else moments.diagonal().sqrt().float()
                seen = Observation(weight, inputs=inputs, key=(self.seed, 0, name))
                mask = choose_mask(pattern, rule_of(score).score(seen), zeros)
                return weight * mask, mask
            case _:
                assert_never(score)

    def _moments(self, names: list[str]) -> dict[str, Tensor]:
        """(in, in) float64 by name: mean x x^T of what goes into each layer; empty where nobody asks."""
        score = self.regime.score
        watched = [name for name in names if name not in self.outside]
        if isinstance(score, Magnitude | Random) or not watched:
            return {}
        seen = InputProducts(self.passes, watched)
        with seen.watching(), layer_by_layer(self.passes.compiled):
            for number in range(score.batches):
                self.passes.forward(number)
                seen.end_batch()
        return seen.means()

    @cached_property
    def _shapes(self) -> dict[str, MatrixShape]:
        slots = self.passes.parameters.whole_slots(self.passes.parameters.maskable)
        return {slot.name: (slot.shape[0], slot.shape[1]) for slot in slots}

    @cached_property
    def _blocks(self) -> tuple[tuple[str, ...], ...]:
        inside = blocks_of(name for name in self._shapes if name not in self.outside)
        return (*inside, tuple(sorted(self.outside))) if self.outside else inside

    @cached_property
    def _zeros(self) -> dict[str, int]:
        shapes, outside = self._shapes, balanced_sparsity(self.sparsity)
        prunable = {name: shapes[name] for name in sorted(shapes) if name not in self.outside}
        return {
            **share_out(self.regime, self.sparsity, prunable).at(self.sparsity),
            **{name: zeros_for(outside, prod(shapes[name])) for name in self.outside},
        }


class InputProducts:
    """Sums of x x^T over every position of every batch, of what goes into linear layers; the same on every rank."""

    def __init__(self, passes: Passes, names: list[str]) -> None:
        self._passes, self._names = passes, names
        self._parts: list[dict[str, Tensor]] = []
        """of each part of the batch under way: by name, x x^T with one more number, the positions, end to end"""
        self._totals: dict[str, Tensor] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the layers, and the beginning of each pass."""
        model = self._passes.model
        hooks = [model.register_forward_pre_hook(lambda *_: self._parts.append({}))]
        for name in self._names:
            layer = model.get_submodule(name.removesuffix(".weight"))
            hooks.append(layer.register_forward_pre_hook(self._hook(name)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def end_batch(self) -> None:
        """Add up the parts of a batch, as a tree, and those of all ranks."""
        for name in self._names:
            layer = self._passes.model.get_submodule(name.removesuffix(".weight"))
            assert isinstance(layer, nn.Linear)
            nothing = torch.zeros(layer.in_features**2 + 1, dtype=torch.float64, device=self._passes.device)
            own = torch.stack([part.get(name, nothing) for part in self._parts])
            total = self._passes.ranks.sum_parts(own)
            self._totals[name] = self._totals[name].add_(total) if name in self._totals else total
        self._parts.clear()

    def means(self) -> dict[str, Tensor]:
        """(in, in) of each layer; zeros of one that no batch came to."""
        found = {}
        for name, total in self._totals.items():
            columns = round((len(total) - 1) ** 0.5)
            found[name] = total[:-1].view(columns, columns) / total[-1].clamp(min=1)
        return found

    def _hook(self, name: str) -> Any:
        def note(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            flat = inputs[0].detach().flatten(0, -2).double()
            count = flat.new_tensor([len(flat)])
            seen = torch.cat([(flat.T @ flat).flatten(), count])
            before = self._parts[-1].get(name)
            self._parts[-1][name] = seen if before is None else before + seen

        return note
