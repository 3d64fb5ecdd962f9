"""One run in motion: model, arena, pruner, optimiser and stream, advanced step by step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from sparsity_lab.artifacts.records import CurvePoint
from sparsity_lab.models.build import build_model
from sparsity_lab.pruning.pruner import make_pruner
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.arena import move_in
from sparsity_lab.training.inputs import Batch, to_device
from sparsity_lab.training.optim import make_optimizer
from sparsity_lab.training.rates import relative_rate

BatchAt = Callable[[int], Batch]


class Loop:
    """The state of a run and the one way it moves on: `advance`.

    Everything that decides later bits is in `tensors()` and `facts()`: with both restored a run goes on as if it
    had never stopped.
    """

    def __init__(self, run: RunSpec, batch_at: BatchAt, device: torch.device) -> None:
        torch.manual_seed(run.seed)
        self.run, self.device = run, device
        self.model = build_model(run.model, run.seed).to(device)
        self.arena = move_in(self.model, self.model.prunable())
        weights = self.arena.named(self.arena.weights)
        masks = self.arena.named_masks()
        self.pruner = make_pruner(run.regime, run.sparsity, {name: weights[name] for name in masks}, masks, run.steps)
        self.optimizer = make_optimizer(run.optimizer, self.arena)
        self.step = 0
        self.first_loss = float("nan")
        self.curve: list[CurvePoint] = []
        self._batch_at = batch_at
        self._loss_sum = torch.zeros((), device=device)
        self._losses = 0
        self._precision = self._autocast()

    def advance(self) -> None:
        """One optimiser step, and the mask update that is due after it."""
        batch = to_device(self._batch_at(self.step), self.device)
        with self._precision:
            loss = self.model.loss(batch)
        self.arena.gradients.zero_()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.pruner.prunes:
            self.arena.mask_(self.arena.gradients)
        self.optimizer.step(self.run.peak_learning_rate * relative_rate(self.run.schedule, self.step, self.run.steps))
        self._loss_sum += loss.detach()
        self._losses += 1
        self.step += 1
        if self.pruner.due(self.step):
            self.update_masks()

    def update_masks(self) -> None:
        """Change the masks; the optimiser forgets the weights that are pruned."""
        self.pruner.update(self.step)
        vectors = [tensor for tensor in self.optimizer.state().values() if tensor.ndim]
        self.arena.mask_(*vectors)

    def zeros(self) -> int:
        """Prunable weights that are exactly zero now."""
        masks = self.arena.named_masks()
        weights = self.arena.named(self.arena.weights)
        return sum(int((weights[name] == 0).sum()) for name in masks)

    def sparsity(self) -> float:
        """Fraction of prunable weights that are exactly zero now."""
        return self.zeros() / sum(slot.size for slot in self.arena.prunable)

    def mean_train_loss(self) -> float:
        """Mean training loss since this was last asked."""
        mean = float(self._loss_sum) / max(1, self._losses)
        self._loss_sum.zero_()
        self._losses = 0
        return mean

    def tensors(self) -> dict[str, Tensor]:
        """Live tensors by name: weights, masks, optimiser state, running sums."""
        weights = {f"weights/{name}": view for name, view in self.arena.named(self.arena.weights).items()}
        masks = {f"masks/{name}": view for name, view in self.arena.named_masks().items()}
        state = {f"optimizer/{name}": tensor for name, tensor in self.optimizer.state().items()}
        return {**weights, **masks, **state, "loss_sum": self._loss_sum}

    def facts(self) -> dict[str, Any]:
        """What is not a tensor, as JSON."""
        curve = [point.model_dump(mode="json") for point in self.curve]
        return {"step": self.step, "losses": self._losses, "first_loss": self.first_loss, "curve": curve}

    def restore_facts(self, facts: dict[str, Any]) -> None:
        """Take over what `facts` gave."""
        self.step, self._losses = facts["step"], facts["losses"]
        self.first_loss = facts["first_loss"]
        self.curve = [CurvePoint.model_validate(point) for point in facts["curve"]]

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.run.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)
