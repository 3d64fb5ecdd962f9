"""What scores want to know of weights beyond their values: gradients, squared gradients, inputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from sparsity_lab.models.base import Model
from sparsity_lab.pruning.scores import Request, WeightStatistics
from sparsity_lab.training.parallel.distributed import Ranks
from sparsity_lab.training.passes import Passes


def observe(passes: Passes, request: Request, first: int) -> WeightStatistics:
    """Answer a request by passes over `request.batches` batches from number `first` on; nothing asked, nothing done."""
    needs, whole = request.needs, passes.parameters.whole
    if not needs:
        return WeightStatistics()
    moments = InputMoments()
    watched = list(passes.model.prunable()) if "inputs" in needs else []
    with moments.watching(passes.model, watched), layer_by_layer(passes.compiled and bool(watched)):
        mean, squares = _gradient_moments(passes, range(first, first + request.batches), backward=needs != {"inputs"})
    return WeightStatistics(
        gradient=whole(mean) if "gradient" in needs else {},
        fisher=whole(squares) if "fisher" in needs else {},
        inputs=moments.root_mean_squares(passes),
    )


def layer_by_layer(due: bool) -> AbstractContextManager[object]:
    """Compiled blocks may call no hooks: where inputs are watched, their layers are called one by one."""
    return torch.compiler.set_stance("force_eager") if due else nullcontext()


def _gradient_moments(passes: Passes, numbers: range, *, backward: bool) -> tuple[Tensor, Tensor]:
    """Mean and mean square of the batches' gradients, of the prefix; zeros where only the forward pass runs."""
    gradient = passes.parameters.prefix(passes.parameters.gradients)
    mean, squares = torch.zeros_like(gradient), torch.zeros_like(gradient)
    for number in numbers:
        if backward:
            passes.backward(number)
            mean.add_(gradient, alpha=1 / len(numbers))
            squares.addcmul_(gradient, gradient, value=1 / len(numbers))
        else:
            passes.forward(number)
    return mean, squares


class InputMoments:
    """Squares of what goes into linear layers, summed over every position of every batch while watching."""

    def __init__(self) -> None:
        self._squares: dict[str, list[Tensor]] = {}
        """a layer's inputs: one vector a part of a batch, in the order in which this rank sees them"""
        self._positions: dict[str, list[int]] = {}

    @contextmanager
    def watching(self, model: Model, names: list[str]) -> Iterator[None]:
        """Watch the linear layers of these weights."""
        layers = {name: model.get_submodule(name.removesuffix(".weight")) for name in names}
        hooks = [layer.register_forward_pre_hook(self._hook(name)) for name, layer in layers.items()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def root_mean_squares(self, passes: Passes) -> dict[str, Tensor]:
        """(in,) of each layer, over all ranks."""
        return {name: self._root_mean_square(name, passes.ranks) for name in self._squares}

    def _root_mean_square(self, name: str, ranks: Ranks) -> Tensor:
        """A batch's parts are added as a tree, then batch after batch."""
        squares = torch.stack(self._squares[name])
        sums = [ranks.sum_parts(each) for each in torch.split(squares, len(ranks.own))]
        for later in sums[1:]:
            sums[0].add_(later)
        positions = ranks.sum_parts(torch.tensor(self._positions[name], device=squares.device).view(len(ranks.own), -1))
        return (sums[0] / positions.sum().to(squares.dtype)).sqrt()

    def _hook(self, name: str) -> Any:
        def note(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            flat = inputs[0].detach().flatten(0, -2).float()
            self._squares.setdefault(name, []).append(flat.square().sum(0))
            self._positions.setdefault(name, []).append(len(flat))

        return note
