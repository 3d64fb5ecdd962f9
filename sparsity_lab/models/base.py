"""The interface every model offers to training, pruning and cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn
from torch.nn import functional

from sparsity_lab.models import fused
from sparsity_lab.models.count import embedding_and_head_shapes, prunable_shapes
from sparsity_lab.models.layers import Linear
from sparsity_lab.specs.models import Dims

Batch = Mapping[str, Tensor]
"""T5: `inputs` (B, T) and `targets` (B, U), int64, targets padded with -100; decoder: `tokens` (B, T), int64;
masked: `inputs` and `labels` (B, T), int64, labels -100 where nothing is to be named;
ViT: `images` (B, side, side, channels), uint8, and `labels` (B,), int64."""


class ParameterLayout(Protocol):
    """How a run lays out a parameter."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the run's tensor."""

    def seen(self, tensor: Tensor) -> Tensor:
        """The run's tensor as the module reads it: a view."""


class Model(nn.Module, ABC):
    """A network that predicts classes (tokens or labels) from a batch."""

    head: Linear

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.dims = dims

    @abstractmethod
    def states(self, batch: Batch) -> Tensor:
        """What the head reads: (B, U, D) for text and (B, D) for images."""

    @abstractmethod
    def labels(self, batch: Batch) -> Tensor:
        """What each state should predict, int64, the states' shape without its last axis; -100 counts for nothing."""

    def logits(self, batch: Batch) -> Tensor:
        """Unnormalised log-probabilities, (B, U, V) for text and (B, classes) for images."""
        return self.head(self.states(batch))

    def loss(self, batch: Batch) -> Tensor:
        """Mean cross-entropy over all labels that are not padding, nats, a scalar."""
        states, labels = self.states(batch).flatten(0, -2), self.labels(batch).flatten()
        if states.is_cpu:
            return fused.head_loss(states, self.head.weight, self.head.bias, labels)
        return functional.cross_entropy(self.head(states), labels)

    def forward(self, batch: Batch) -> Tensor:
        """The loss, so that wrappers (DDP, torch.compile) see the whole step."""
        return self.loss(batch)

    def blocks_of_stacks(self) -> list[nn.Module]:
        """The blocks, stack after stack: what is compiled or sharded one by one."""
        return [block for stack in self.children() if isinstance(stack, nn.ModuleList) for block in stack]

    @property
    def layouts(self) -> Mapping[str, ParameterLayout]:
        """How parameters are laid out in a run that are no matrices (outputs, inputs) as they are."""
        return {}

    def seen(self, name: str, tensor: Tensor) -> Tensor:
        """A run's tensor as the parameter of its name has it: a view."""
        layout = self.layouts.get(name)
        return tensor if layout is None else layout.seen(tensor)

    def prunable(self) -> dict[str, nn.Parameter]:
        """The 2-D weights of attention and MLP projections inside blocks, in order of definition."""
        parameters = dict(self.named_parameters())
        return {name: parameters[name] for name in prunable_shapes(self.dims)}

    def embeddings_and_head(self) -> dict[str, nn.Parameter]:
        """The matrices outside the blocks that grow with the width, by parameter name; a tied head once."""
        parameters = dict(self.named_parameters())
        return {name: parameters[name] for name in embedding_and_head_shapes(self.dims)}
