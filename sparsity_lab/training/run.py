"""One RunSpec becomes one RunRecord: resumed where a checkpoint lies, stopped early where it diverges."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from sparsity_lab.artifacts.records import CurvePoint, RunCost, RunRecord, Stopped
from sparsity_lab.artifacts.stopping import StopRule
from sparsity_lab.messages import Message, message
from sparsity_lab.models.count import other_count, paper_count, prunable_count
from sparsity_lab.pruning.schedules import ramp_of
from sparsity_lab.specs.fingerprint import ENGINE_VERSION, fingerprint
from sparsity_lab.specs.runs import RunSpec
from sparsity_lab.training.accounting import run_flops
from sparsity_lab.training.checkpoint import damaged, save_checkpoint, save_tensors
from sparsity_lab.training.determinism import best_device, needs_sharding, peak_memory, this_machine
from sparsity_lab.training.distributed import current_ranks, place_in_group
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.loop import Loop
from sparsity_lab.training.memory import run_memory
from sparsity_lab.training.passes import held_out_loss
from sparsity_lab.training.sharded_checkpoint import RANDOM, find_checkpoint, folder_of, save_sharded
from sparsity_lab.training.start import begin_with, origin_fingerprint

AHEAD = 2
"""batches made beyond the one that a GPU works on"""
OnProgress = Callable[[int, float], None]
"""called with (steps done, latest held-out loss)"""
Leave = Callable[[], bool]
"""asked after every step whether to write the checkpoint and leave: a machine's time ends, or it is taken away"""


@dataclass(frozen=True)
class RunContext:
    """How a run is trained here: none of this enters its identity."""

    checkpoint: Path
    """where the run's latest state is kept until it is finished"""
    weights: Path | None = None
    """where the final weights go; nowhere when None"""
    checkpoint_seconds: float = 60.0
    """longest time between two checkpoints"""
    device: torch.device | None = None
    """the best there is when None"""
    start: Path | None = None
    """the weights of the run's origin: a safetensors file, or a Hugging Face folder where the origin says so"""
    pretraining: RunCost | None = None
    """what the run of origin cost"""
    on_saved: Callable[[Path], None] | None = None
    """told of every checkpoint, by its path, after it was written whole; of sharded ones nothing"""
    sharded: bool | None = None
    """spread parameters, gradients and optimiser state over the processes; where they do not fit one when None"""
    ahead: int | None = None
    """batches that a thread makes ahead of time; `AHEAD` for a GPU and none for a CPU when None"""
    parts: int | None = None
    """in which a run that begins here takes its batches (`training.distributed`); up to the processes when None"""
    leave: Leave | None = None


class Left(Exception):  # noqa: N818 - nothing went wrong
    """A run was told to leave and did: its checkpoint is written, and whoever asks for it again goes on from there."""


def train(run: RunSpec, inputs: Inputs, context: RunContext, on_progress: OnProgress = lambda *_: None) -> RunRecord:
    """Train a run to its end and say what came of it.

    Raises:
        CheckpointError: the checkpoint is damaged or belongs to another run; or the weights to start from are missing,
            damaged, or do not fit.
        DataError: the data is damaged or too small for the evaluation.
        MachineError: the disk is full, or more processes train together than a batch has examples.
        Left: the context said so.
    """
    made = train_or_stop(run, inputs, context, None, on_progress)
    assert isinstance(made, RunRecord), "nothing gives up a run without a rule"
    return made


def train_or_stop(
    run: RunSpec,
    inputs: Inputs,
    context: RunContext,
    rule: StopRule | None,
    on_progress: OnProgress = lambda *_: None,
) -> RunRecord | Stopped:
    """Train a run to its end, or to the evaluation at which `rule` gives it up; errors as `train`.

    A run that is given up leaves its checkpoint: asked again without a rule, or with one that lets it pass, it goes on
    from there to the same bits. Where it is given up follows from its curve, however often it is interrupted.
    """
    training = _Training(run, inputs, context, rule, on_progress)
    with closing(training.loop):
        return training.finish()


class _Training:
    """A run in one process: restores, advances, evaluates, saves."""

    def __init__(
        self, run: RunSpec, inputs: Inputs, context: RunContext, rule: StopRule | None, on_progress: OnProgress
    ) -> None:
        self.run, self.inputs, self.context, self.rule, self.on_progress = run, inputs, context, rule, on_progress
        self.device = context.device or best_device()
        self.stream = inputs.stream(run)
        self.data_hash = inputs.manifest.content_hash
        self.fingerprint = fingerprint(run, self.data_hash)
        self.found = find_checkpoint(context.checkpoint, self.fingerprint)
        self.one_way, parts = self._parts()
        sharded = context.sharded if context.sharded is not None else needs_sharding(run, self.device)
        self.ranks = current_ranks(run.batch, parts, sharded=sharded and place_in_group()[1] > 1)
        self.ranks.wait()  # all have read the checkpoint before one writes the next
        ahead = context.ahead if context.ahead is not None else AHEAD * (self.device.type == "cuda")
        self.loop = Loop(run, self.stream.batch_at, self.device, self.ranks, ahead=ahead)
        self.seconds_before = 0.0
        self.began = self.saved = time.monotonic()
        self.reason: Message | str = ""

    def finish(self) -> RunRecord | Stopped:
        self._restore()
        loop = self.loop
        self.inputs.evaluation(self.run, self.run.evaluation.examples)  # too few are told now, not after hours
        if loop.step == 0:
            self._begin()
        if stopped := self._given_up():
            return stopped
        while loop.step < self.run.steps and not self.reason:
            loop.advance()
            if loop.step % self.run.evaluation.every == 0 or loop.step == self.run.steps:
                self._note_point()
                if not self.reason and (stopped := self._given_up()):
                    self._save()
                    return stopped
            if not self.reason:
                self._save_where_due()
        return self._end()

    def _begin(self) -> None:
        """Measure fresh weights, and put those of the run's origin in their place."""
        loop, origin = self.loop, self.run.origin
        loop.first_loss = self._loss(self.run.evaluation.curve_examples)
        if origin is None:
            return
        assert self.context.start is not None, "a run with an origin is given its weights"
        whole = dict(loop.parameters.whole(loop.parameters.weights))
        begin_with(loop.model, whole, origin, self.context.start, self.data_hash)
        for name, tensor in whole.items():
            loop.parameters.write(loop.parameters.weights, name, tensor)

    def _end(self) -> RunRecord:
        """The record, and the weights where they are kept."""
        loop = self.loop
        if self.reason:
            return self._record(loop.curve[-1].loss)
        loss = self._loss(self.run.evaluation.examples)
        self._judge(loss, highest=math.inf)
        record = self._record(loss)
        if self.context.weights is not None and not self.reason:
            whole = loop.parameters.whole(loop.parameters.weights).items()
            kept = {name: tensor.cpu() for name, tensor in whole if self.ranks.writes}
            if self.ranks.writes:
                save_tensors(self.context.weights, kept, {"fingerprint": self.fingerprint})
        return record

    def _note_point(self) -> None:
        loop = self.loop
        before = loop.curve[-1].step if loop.curve else 0
        loss = self._loss(self.run.evaluation.curve_examples)
        point = CurvePoint(step=loop.step, loss=loss, train_loss=loop.mean_train_loss(), sparsity=loop.sparsity())
        loop.curve.append(point)
        warm = loop.step >= self.run.schedule.warmup * self.run.steps
        settled = not loop.masks_changed_since(before) or point.train_loss > loop.first_loss
        self._judge(loss, highest=loop.first_loss if warm and settled else math.inf)
        self.on_progress(loop.step, loss)

    def _given_up(self) -> Stopped | None:
        """The first point of the curve at which the rule gives the run up, if it does."""
        steps = self.run.steps
        found = self.rule.given_up(self.loop.curve, steps, ramp_of(self.run).last_change) if self.rule else None
        if found is None:
            return None
        point, limit = found
        reason = message("run-given-up", loss=point.loss, share=point.step / steps, limit=limit)
        return Stopped(fingerprint=self.fingerprint, step=point.step, steps=steps, loss=point.loss, reason=reason)

    def _judge(self, loss: float, highest: float) -> None:
        """A run has diverged when its held-out loss is no number, or above that of fresh weights on the same examples.

        A choice of masks may throw a sound run up there for a moment: where masks changed since the last point, the
        mean training loss since then must be above the start too.
        """
        if not math.isfinite(loss):
            self.reason = message("run-no-number", loss=str(loss), step=self.loop.step)
        elif loss > highest:
            self.reason = message("run-above-start", loss=loss, step=self.loop.step, start=highest)

    def _loss(self, examples: int) -> float:
        batches = self.inputs.evaluation(self.run, examples)
        return held_out_loss(self.loop.model, batches, self.device, bfloat16=self.run.bfloat16)

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.began

    def _save_where_due(self) -> None:
        """Write the checkpoint when it is time to, or one of the processes is told to leave."""
        leave = self.context.leave is not None and self.ranks.any_wishes(self.context.leave())
        due = leave or time.monotonic() - self.saved > self.context.checkpoint_seconds
        if self.ranks.agree(due) if self.ranks.sharded else due:
            self._save()
        if leave:
            raise Left

    def _save(self) -> None:
        facts = {**self.loop.facts(), "fingerprint": self.fingerprint, "seconds": self._seconds()}
        facts |= {"parts": self.ranks.parts, "one_way": self.one_way}
        if self.ranks.sharded:
            save_sharded(self.context.checkpoint, self.loop, facts)
        elif self.ranks.writes:
            save_checkpoint(self.context.checkpoint, {**self.loop.tensors(), RANDOM: torch.get_rng_state()}, facts)
            shutil.rmtree(folder_of(self.context.checkpoint), ignore_errors=True)
            if self.context.on_saved is not None:
                self.context.on_saved(self.context.checkpoint)
        self.saved = time.monotonic()

    def _parts(self) -> tuple[bool, int | None]:
        """Whether the run took its batches in one number of parts from its beginning on, and that number if it is set.

        What one process began in one part, several go on with in more: the masks stay exact, but no number of
        processes would give the same bits again.
        """
        facts = self.found.facts if self.found else {}
        parts, one_way = facts.get("parts", 1 if facts else self.context.parts), facts.get("one_way", True)
        if facts and parts == 1 and place_in_group()[1] > 1:
            return False, None
        return one_way, parts

    def _restore(self) -> None:
        if self.found is None:
            return
        self.found.restore(self.loop)
        facts, self.found = self.found.facts, None
        try:
            self.loop.restore_facts(facts)
            self.seconds_before = float(facts["seconds"])
        except Exception as error:
            raise damaged(self.context.checkpoint, error) from None
        self.on_progress(self.loop.step, self.loop.curve[-1].loss if self.loop.curve else math.nan)

    def _record(self, loss: float) -> RunRecord:
        run, loop, dims = self.run, self.loop, self.run.model
        flops = run_flops(run, loop.found)
        tensors = loop.tensor_counts()
        dense, zeros = prunable_count(dims), sum(tensor.zeros for tensor in tensors)
        share = loop.step / run.steps
        return RunRecord(
            fingerprint=self.fingerprint,
            engine=ENGINE_VERSION,
            data_hash=self.data_hash,
            spec=run,
            origin=origin_fingerprint(run.origin, self.data_hash),
            start_sparsity=loop.found,
            start_off_pattern=loop.off_pattern,
            status="diverged" if self.reason else "finished",
            reason=self.reason,
            sparsity=zeros / dense,
            nonzero=dense - zeros,
            dense=dense,
            tensors=tensors,
            other_params=other_count(dims),
            other_zeros=loop.other_zeros(),
            nonzero_total=dense - zeros + other_count(dims) - loop.other_zeros(),
            paper_dense=paper_count(dims),
            data=run.data * loop.step // run.steps,
            data_unit=run.data_unit,
            epochs=self.stream.epochs(loop.step),
            loss=loss,
            first_loss=loop.first_loss,
            curve=tuple(loop.curve),
            cost=RunCost(
                flops_dense=flops.dense * share,
                flops_sparse=flops.sparse * share,
                flops_mask_updates=flops.mask_updates * share,
                seconds=self._seconds(),
                peak_memory=peak_memory(self.device),
            ),
            pretraining=self.context.pretraining,
            memory=run_memory(run, None if self.reason else loop.zeros()),
            machine=this_machine(
                self.device, self.ranks.size, self.ranks.parts if self.one_way else 0, bfloat16=run.bfloat16
            ),
        )
