"""One RunSpec becomes one RunRecord: resumed where a checkpoint lies, stopped early where it diverges."""

from __future__ import annotations

import math
import time
from contextlib import closing, nullcontext

from sparsity_lab.artifacts.progress import ProgressFile
from sparsity_lab.artifacts.records import CurvePoint, RunCost, RunRecord, Stopped
from sparsity_lab.artifacts.stopping import StopRule
from sparsity_lab.messages import Message, message
from sparsity_lab.models.count import other_count, paper_count, prunable_count
from sparsity_lab.pruning.schedules import ramp_of
from sparsity_lab.specs.fingerprint import ENGINE_VERSION, fingerprint
from sparsity_lab.specs.models import HuggingFaceDims
from sparsity_lab.specs.runs import FileOrigin, RunSpec
from sparsity_lab.training.accounting import run_flops
from sparsity_lab.training.checkpoint import damaged, save_tensors
from sparsity_lab.training.context import Left, OnProgress, RunContext
from sparsity_lab.training.determinism import best_device, needs_sharding, peak_memory, this_machine
from sparsity_lab.training.inputs import Inputs
from sparsity_lab.training.loop import Loop
from sparsity_lab.training.memory import run_memory
from sparsity_lab.training.parallel.distributed import current_ranks, place_in_group
from sparsity_lab.training.parallel.sharded_checkpoint import find_checkpoint, save_sharded, save_whole
from sparsity_lab.training.passes import held_out_loss, held_out_noise, why_diverged
from sparsity_lab.training.rates import warmup_steps
from sparsity_lab.training.start import begin_with, check_dense, check_start, origin_fingerprint

AHEAD = 2
"""batches made beyond the one that a GPU works on"""


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
        file = ProgressFile(self.run, self.fingerprint, run_flops(self.run).dense, self.context.checkpoint)
        with file.telling(self._now) if self.ranks.writes else nullcontext():
            return self._to_its_end()

    def _now(self) -> tuple[int, tuple[CurvePoint, ...], float]:
        return self.loop.step, tuple(self.loop.curve), self._seconds()

    def _to_its_end(self) -> RunRecord | Stopped:
        loop = self.loop
        self.inputs.evaluation(self.run, self.run.evaluation.examples)  # too few are told now, not after hours
        if loop.step == 0 and (loop.one_shot is None or loop.one_shot.loss_before is None):
            self._begin()
        self._prune_at_once()
        if stopped := self._given_up():
            return stopped
        while loop.step < self.run.steps and not self.reason:
            loop.advance()
            point = self._point_where_due()
            if point and not self.reason and (stopped := self._given_up()):
                self._save()
                self._tell(point)
                return stopped
            if not self.reason:
                self._save_where_due()
            if point:
                self._tell(point)  # once it is saved: a run that goes on elsewhere says nothing twice
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
        if isinstance(origin, FileOrigin) and origin.head == "kept":  # a new head knows no better than chance
            check_start(self._loss(self.run.evaluation.curve_examples), loop.first_loss, self.context.start)
        if loop.one_shot is not None:
            loss = self._loss(self.run.evaluation.examples)
            check_dense(loss, loop.sparsity(), self.context.start)
            loop.one_shot.loss_before = loss

    def _prune_at_once(self) -> None:
        """Prune what a one-shot regime begins with, block by block, each of them saved where that is due."""
        one_shot = self.loop.one_shot
        if one_shot is None or one_shot.loss_after is not None:
            return
        while not one_shot.finished:
            one_shot.prune_next()
            self._save_where_due()
        one_shot.loss_after = self._loss(self.run.evaluation.examples)
        loss = self._loss(self.run.evaluation.curve_examples)
        self.loop.curve.append(CurvePoint(step=0, loss=loss, train_loss=math.nan, sparsity=self.loop.sparsity()))
        self._judge(loss, highest=math.inf)

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

    def _point_where_due(self) -> CurvePoint | None:
        """The curve's next point, measured and judged, at the steps at which the run is evaluated."""
        loop = self.loop
        if loop.step % self.run.evaluation.every and loop.step != self.run.steps:
            return None
        before = loop.curve[-1].step if loop.curve else 0
        loss = self._loss(self.run.evaluation.curve_examples)
        point = CurvePoint(step=loop.step, loss=loss, train_loss=loop.mean_train_loss(), sparsity=loop.sparsity())
        loop.curve.append(point)
        warm = loop.step > warmup_steps(self.run.schedule, self.run.steps)
        settled = not loop.masks_changed_since(before) or point.train_loss > loop.first_loss
        self._judge(loss, highest=loop.first_loss if warm and settled else math.inf)
        return point

    def _tell(self, point: CurvePoint) -> None:
        self.on_progress(point.step, point.loss, [point])

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
        batches = self.inputs.evaluation(self.run, self.run.evaluation.curve_examples)
        self.reason = why_diverged(
            loss,
            highest,
            self.loop.step,
            lambda: held_out_noise(self.loop.model, batches, self.device, highest, bfloat16=self.run.bfloat16),
        )

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
        context = self.context
        facts = {**self.loop.facts(), "fingerprint": self.fingerprint, "seconds": self._seconds()}
        facts |= {"parts": self.ranks.parts, "one_way": self.one_way}
        save = save_sharded if self.ranks.sharded else save_whole
        save(context.checkpoint, self.loop, facts, context.copies, context.leads)
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
        self.on_progress(self.loop.step, self.loop.curve[-1].loss if self.loop.curve else math.nan, self.loop.curve)

    def _record(self, loss: float) -> RunRecord:
        run, loop, dims = self.run, self.loop, self.run.model
        flops = run_flops(run, loop.found)
        tensors = loop.tensor_counts()
        dense, zeros = prunable_count(dims), sum(tensor.zeros for tensor in tensors)
        share, at_once = run.share(loop.step), loop.one_shot
        return RunRecord(
            fingerprint=self.fingerprint,
            engine=ENGINE_VERSION,
            data_hash=self.data_hash,
            spec=run,
            origin=origin_fingerprint(run.origin, self.data_hash),
            start_sparsity=loop.found,
            start_off_pattern=loop.off_pattern,
            pruned_at_once=at_once and at_once.result(),
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
            data=run.data * loop.step // max(run.steps, 1),
            data_unit=run.data_unit,
            epochs=self.stream.epochs(loop.step),
            loss=loss,
            first_loss=loop.first_loss,
            curve=tuple(loop.curve),
            cost=RunCost(
                flops_dense=flops.dense * share,
                flops_sparse=flops.sparse * share,
                flops_mask_updates=flops.mask_updates * (share if at_once is None else 1.0),
                seconds=self._seconds(),
                peak_memory=peak_memory(self.device),
            ),
            pretraining=self.context.pretraining,
            memory=run_memory(run, None if self.reason else loop.zeros()),
            machine=this_machine(
                self.device,
                self.ranks.size,
                self.ranks.parts if self.one_way else 0,
                bfloat16=run.bfloat16,
                transformers=isinstance(run.model, HuggingFaceDims),
            ),
        )
