"""One run in motion: model, flat parameters, pruner, optimiser and stream, advanced step by step."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sparsity_lab.artifacts.records import CurvePoint, TensorCount
from sparsity_lab.errors import MachineError
from sparsity_lab.models.build import build_model
from sparsity_lab.pruning.patterns import fits
from sparsity_lab.pruning.pruner import Pruner, make_pruner
from sparsity_lab.pruning.schedules import lay_out
from sparsity_lab.pruning.scores import WeightStatistics
from sparsity_lab.specs.regimes.regime import OneShotPruning, StraightThrough
from sparsity_lab.specs.runs import RunOrigin, RunSpec
from sparsity_lab.training.determinism import compile_blocks
from sparsity_lab.training.flat_parameters import FlatParameters, flatten_parameters
from sparsity_lab.training.methods import make_method
from sparsity_lab.training.observe import observe
from sparsity_lab.training.one_shot import OneShotPruner
from sparsity_lab.training.optim import make_optimizer
from sparsity_lab.training.parallel.distributed import Ranks, current_ranks
from sparsity_lab.training.passes import BatchAt, Passes
from sparsity_lab.training.rates import relative_rate
from sparsity_lab.training.start import SPARSE_START


class Loop:
    """The state of a run and the one way it moves on: `advance`.

    Everything that decides later bits is in `tensors()` and `facts()`: with both restored a run goes on as if it
    had never stopped. Between steps the model holds masked weights, whatever the method.
    """

    def __init__(
        self, run: RunSpec, batch_at: BatchAt, device: torch.device, ranks: Ranks | None = None, *, ahead: int = 0
    ) -> None:
        torch.manual_seed(run.seed)
        self.run = run
        self.ranks = ranks or current_ranks(run.batch)
        self.model = build_model(run.model, run.seed)
        if run.compiled:
            compile_blocks(self.model)
        if not self.ranks.sharded:
            self.model.to(device)
        prunable = self.model.prunable()
        rule = run.pruning
        outside = self.model.embeddings_and_head() if rule and rule.allocation.prunes_outside else {}
        maskable = prunable | outside
        self.parameters = self._laid_out(maskable, device)
        self.pruner = self._make_pruner(frozenset(outside))
        self.optimizer = make_optimizer(
            run.optimizer,
            self.parameters,
            moves_masked=isinstance(rule, StraightThrough),
            by_row=self.ranks.parts > 1,
        )
        self.method = make_method(rule, self.parameters, self.optimizer)
        self.passes = Passes(
            self.model,
            self.parameters,
            batch_at,
            device,
            self.ranks,
            bfloat16=run.bfloat16,
            compiled=run.compiled,
            ahead=ahead,
        )
        self.one_shot: OneShotPruner | None = None
        if isinstance(rule, OneShotPruning):
            self.one_shot = OneShotPruner(rule, run.sparsity, run.seed, self.passes, frozenset(outside))
        self.step = 0
        self.found = 0.0
        self.off_pattern = 0
        self.first_loss = float("nan")
        self.curve: list[CurvePoint] = []
        self._prunable = frozenset(prunable)
        self._loss_sum = torch.zeros((), device=device)
        self._losses = 0

    def _laid_out(self, maskable: dict[str, nn.Parameter], device: torch.device) -> FlatParameters:
        if not self.ranks.sharded:
            return flatten_parameters(self.model, maskable)
        if odd := next(iter(self.model.layouts), None):
            raise MachineError("cannot be spread over processes by rows: it is no matrix", field=odd)
        from sparsity_lab.training.parallel.sharded import shard_parameters  # noqa: PLC0415 - FSDP loads for a second

        return shard_parameters(self.model, maskable, self.ranks, device)

    def _make_pruner(self, outside: frozenset[str]) -> Pruner | None:
        run, parameters = self.run, self.parameters
        if run.pruning is None or isinstance(run.pruning, OneShotPruning):
            return None
        masks = parameters.whole(parameters.mask)
        pruner = make_pruner(run.pruning, run.sparsity, masks, run.steps, run.seed, outside)
        return replace(pruner, written=partial(parameters.write, parameters.mask))

    def close(self) -> None:
        """End what runs beside this process's own thread."""
        self.passes.shares.close()

    def advance(self) -> None:
        """One optimiser step, and the choice of masks that is due after it, or before the first."""
        if self.step == 0:
            self._find_zeros()
            self._choose_masks()
        self._loss_sum += self.passes.backward(self.step)
        self._losses += 1
        observed = self._observed_in_passing()
        self.method.before_step()
        self.optimizer.step(self.run.peak_learning_rate * relative_rate(self.run.schedule, self.step, self.run.steps))
        self.method.after_step()
        self.step += 1
        self._choose_masks(observed)

    def _find_zeros(self) -> None:
        """Begin with the masks of a sparse start; dense ones begin with all weights, as fresh ones do."""
        origin, pruner = self.run.origin, self.pruner
        dense = origin is None or (isinstance(origin, RunOrigin) and origin.run.pruning is None)
        if dense or pruner is None or (found := self.sparsity()) < SPARSE_START:
            return
        weights, masks = self.parameters.named_prefix(self.parameters.weights), self.parameters.named_masks()
        for name, mask in masks.items():
            mask.copy_(weights[name] != 0)
        whole, pattern = self.parameters.whole(self.parameters.mask), pruner.regime.pattern
        ends = {name: zeros for name, zeros in pruner.shares.at(self.run.sparsity).items() if pruner.shares.rates[name]}
        self.off_pattern = sum(not fits(pattern, whole[name], zeros) for name, zeros in ends.items())
        self._begin_at(found)

    def _begin_at(self, found: float) -> None:
        run, pruner = self.run, self.pruner
        assert run.pruning is not None
        assert pruner is not None
        self.found = found
        self.pruner = replace(pruner, ramp=lay_out(run.pruning, run.sparsity, run.steps, found))

    def _observed_in_passing(self) -> WeightStatistics | None:
        """The gradient of the step under way, where that is all that the choice of masks after it asks for."""
        if self.pruner is None or not self.pruner.due(self.step + 1):
            return None
        request = self.pruner.request(self.step + 1)
        if request.needs != {"gradient"} or request.batches > 1:
            return None
        gradient = self.parameters.prefix(self.parameters.gradients).clone()
        return WeightStatistics(gradient=self.parameters.whole(gradient))

    def _choose_masks(self, observed: WeightStatistics | None = None) -> None:
        """Choose masks where that is due after `step` steps."""
        if self.pruner is None or not self.pruner.due(self.step):
            return
        statistics = observed or observe(self.passes, self.pruner.request(self.step), self.step)
        with self.method.choosing_masks():
            self.pruner.update(self.step, self.parameters.whole(self.parameters.weights), statistics)

    def masks_changed_since(self, step: int) -> bool:
        """Whether masks were chosen after `step`, or before the first step where that is 0."""
        if self.one_shot is not None:
            return step == 0
        passed = range(step + (step > 0), self.step + 1)
        return self.pruner is not None and any(map(self.pruner.due, passed))

    def zeros(self) -> dict[str, int]:
        """Weights that are exactly zero now, in each tensor that pruning may touch."""
        weights = self.parameters.named_prefix(self.parameters.weights)
        counts = self.parameters.count(torch.stack([(weight == 0).sum() for weight in weights.values()]))
        return dict(zip(weights, counts.tolist(), strict=True))

    def tensor_counts(self) -> tuple[TensorCount, ...]:
        """Size and zeros of each prunable tensor now."""
        zeros = self.zeros()
        return tuple(
            TensorCount(name=slot.name, size=size, zeros=zeros[slot.name])
            for slot, size in zip(self.parameters.maskable, self.parameters.sizes, strict=False)
            if slot.name in self._prunable
        )

    def other_zeros(self) -> int:
        """Weights of embeddings and head that are zero now, where these are pruned."""
        return sum(zeros for name, zeros in self.zeros().items() if name not in self._prunable)

    def sparsity(self) -> float:
        """Fraction of prunable weights that are exactly zero now."""
        counts = self.tensor_counts()
        return sum(count.zeros for count in counts) / sum(count.size for count in counts)

    def mean_train_loss(self) -> float:
        """Mean training loss since this was last asked."""
        mean = float(self._loss_sum) / max(1, self._losses)
        self._loss_sum.zero_()
        self._losses = 0
        return mean

    def tensors(self) -> dict[str, Tensor]:
        """Live tensors by name: weights, masks, state of optimiser and method, running sums."""
        weights = {f"weights/{name}": view for name, view in self.parameters.named(self.parameters.weights).items()}
        masks = {f"masks/{name}": view for name, view in self.parameters.named_masks().items()}
        state = {f"optimizer/{name}": tensor for name, tensor in self.optimizer.state().items()}
        method = {f"method/{name}": tensor for name, tensor in self.method.state().items()}
        return {**weights, **masks, **state, **method, "loss_sum": self._loss_sum}

    def flat_state(self) -> dict[str, Tensor]:
        """The same tensors, those of all parameters as flat vectors."""
        state = {f"optimizer/{name}": tensor for name, tensor in self.optimizer.state().items()}
        method = {f"method/{name}": tensor for name, tensor in self.method.state().items()}
        flat = {"weights": self.parameters.weights, "masks": self.parameters.mask}
        return {**flat, **state, **method, "loss_sum": self._loss_sum}

    def facts(self) -> dict[str, Any]:
        """What is not a tensor, as JSON."""
        curve = [point.model_dump(mode="json") for point in self.curve]
        started = {"found": self.found, "off_pattern": self.off_pattern} if self.found else {}
        pruned = {"one_shot": self.one_shot.facts()} if self.one_shot else {}
        state = {"step": self.step, "losses": self._losses, "first_loss": self.first_loss, "curve": curve}
        return {**state, **started, **pruned}

    def restore_facts(self, facts: dict[str, Any]) -> None:
        """Take over what `facts` gave; raises where they are no facts of this run."""
        self.step, self._losses = facts["step"], facts["losses"]
        self.first_loss = facts["first_loss"]
        self.curve = [CurvePoint.model_validate(point) for point in facts["curve"]]
        steps = [0, *(point.step for point in self.curve), self.step, self.run.steps]
        if type(self.step) is not int or steps != sorted(steps):
            raise ValueError(f"step {self.step} of {self.run.steps}, curve at {steps[1:-2]}")
        if self.one_shot is not None:
            self.one_shot.restore_facts(facts["one_shot"])
        if "found" in facts:
            self.off_pattern = facts["off_pattern"]
            self._begin_at(facts["found"])
