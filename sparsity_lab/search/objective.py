"""What a trial is judged by: the loss, what the run cost to train, what its model costs to use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from sparsity_lab.artifacts.records import RunRecord, Stopped
from sparsity_lab.artifacts.searches import TrialRecord
from sparsity_lab.search.requests import RunMultiplier, RunRequest
from sparsity_lab.search.stopping import recovery_of
from sparsity_lab.search.storage.trials import StoredTrial, TrialOutcome
from sparsity_lab.specs.choices import SearchObjective
from sparsity_lab.specs.searches import SearchSpec

PerItem = Callable[[int], float]
"""seconds that a dense model of N weights trains for each token or image"""


@dataclass(frozen=True)
class Judge:
    """Turns runs into what is remembered of trials.

    Attributes:
        spec: what is searched.
        multiplier: m, by N and parameters.
        seconds_per_item: on the machine that costs are measured on; None counts FLOPs.
        inference: seconds a token or image takes when a model is used; None counts FLOPs.
    """

    spec: SearchSpec
    multiplier: RunMultiplier
    seconds_per_item: PerItem | None = None
    inference: RunMultiplier | None = None

    def outcome(self, ask: RunRequest, made: RunRecord | Stopped) -> TrialOutcome:
        """What is remembered of a run that was asked for."""
        known: dict[str, object] = {"flops": self.flops(ask)}
        if isinstance(made, Stopped):
            share = {"flops": self.flops(ask) * made.step / made.steps, "reason": made.reason}
            measured = {"sparsity": ask.sparsity, "nonzero": ask.nonzero, "data": ask.data}
            return TrialOutcome(None, {**measured, "state": "stopped", "loss": None, **share})
        known |= {"sparsity": made.sparsity, "nonzero": made.nonzero, "data": made.data}
        if not made.finished:
            failed = {"state": "diverged", "loss": None, "reason": made.reason}
            return TrialOutcome(None, {**known, **failed}, made.model_dump_json())
        if self.spec.stopping and made.curve:
            known |= {"end": made.curve[-1].loss, "recovery": recovery_of(made).model_dump(mode="json")}
        values = tuple(self._value(objective, ask, made.loss) for objective in self.spec.objectives)
        return TrialOutcome(values, {**known, "state": "finished", "loss": made.loss}, made.model_dump_json())

    def flops(self, ask: RunRequest) -> float:
        """Training FLOPs of a whole run under the search's cost: 6 N D m(S)."""
        return 6.0 * ask.nonzero * ask.data * self.multiplier(ask.nonzero, ask.params)

    def _value(self, objective: SearchObjective, ask: RunRequest, loss: float) -> float:
        match objective:
            case "loss":
                return loss
            case "training_cost":
                return self._training(ask)
            case "inference_cost":
                return self._inference(ask)
            case _:
                assert_never(objective)

    def _training(self, ask: RunRequest) -> float:
        """Seconds on the machine, else FLOPs."""
        if self.seconds_per_item is None:
            return self.flops(ask)
        return self.seconds_per_item(ask.nonzero) * ask.data * self.multiplier(ask.nonzero, ask.params)

    def _inference(self, ask: RunRequest) -> float:
        """Seconds for a token or image, else FLOPs: 2 N, and where zeros are multiplied too, 2 N / (1 - S)."""
        if self.inference is not None:
            return self.inference(ask.nonzero, ask.params)
        return 2.0 * ask.nonzero / (1 - ask.sparsity if self.spec.cost == "dense_hardware" else 1)


def report(entry: StoredTrial) -> TrialRecord:
    """A finished trial as the answer tells it."""
    assert entry.outcome is not None, f"trial {entry.number} of {entry.study} is {entry.state}"
    ask, known = request_of(entry), entry.outcome.facts
    return TrialRecord(
        number=entry.slot,
        source=entry.proposal.source,
        nonzero=ask.nonzero,
        data_dense=ask.data_dense,
        params=ask.params,
        seed=ask.seed,
        sparsity=known["sparsity"],
        data=known["data"],
        state=known["state"],
        loss=known["loss"],
        values=entry.outcome.values,
        flops=known["flops"],
        fingerprint=entry.proposal.facts["fingerprint"],
    )


def request_of(entry: StoredTrial) -> RunRequest:
    """The run that a trial stands for."""
    return RunRequest.parse(entry.proposal.facts["ask"])


def record_of(entry: StoredTrial) -> RunRecord:
    """The record that came with a finished trial, whoever made it."""
    record = entry.outcome and entry.outcome.record
    assert record, f"trial {entry.number} has no record"
    return RunRecord.model_validate_json(record)
