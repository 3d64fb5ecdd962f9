"""What a trial is judged by: the loss, what the run cost to train, what its model costs to use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from sparsity_lab.artifacts.records import RunRecord, Stopped
from sparsity_lab.artifacts.searches import TrialRecord
from sparsity_lab.artifacts.stopping import Recovery
from sparsity_lab.messages import words_in
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

    def outcome(self, request: RunRequest, made: RunRecord | Stopped) -> TrialOutcome:
        """What is remembered of a run that was asked for."""
        known: dict[str, object] = {"flops": self.flops(request)}
        if isinstance(made, Stopped):
            share = {"flops": self.flops(request) * made.step / made.steps, "reason": words_in()(made.reason)}
            measured = {"sparsity": request.sparsity, "nonzero": request.nonzero, "data": request.data}
            return TrialOutcome(None, {**measured, "state": "stopped", "loss": None, **share})
        known |= {"sparsity": made.sparsity, "nonzero": made.nonzero, "data": made.data}
        if not made.finished:
            failed = {"state": "diverged", "loss": None, "reason": words_in()(made.reason)}
            return TrialOutcome(None, {**known, **failed}, made.model_dump_json())
        if self.spec.stopping and made.curve:
            known |= {"end": made.curve[-1].loss, "recovery": recovery_of(made).model_dump(mode="json")}
        values = tuple(self._value(objective, request, made.loss) for objective in self.spec.objectives)
        return TrialOutcome(values, {**known, "state": "finished", "loss": made.loss}, made.model_dump_json())

    def flops(self, request: RunRequest) -> float:
        """Training FLOPs of a whole run under the search's cost: 6 N D m(S)."""
        return 6.0 * request.nonzero * request.data * self.multiplier(request.nonzero, request.params)

    def _value(self, objective: SearchObjective, request: RunRequest, loss: float) -> float:
        match objective:
            case "loss":
                return loss
            case "training_cost":
                return self._training(request)
            case "inference_cost":
                return self._inference(request)
            case _:
                assert_never(objective)

    def _training(self, request: RunRequest) -> float:
        """Seconds on the machine, else FLOPs."""
        if self.seconds_per_item is None:
            return self.flops(request)
        return self.seconds_per_item(request.nonzero) * request.data * self.multiplier(request.nonzero, request.params)

    def _inference(self, request: RunRequest) -> float:
        """Seconds for a token or image, else FLOPs: 2 N, and where zeros are multiplied too, 2 N / (1 - S)."""
        if self.inference is not None:
            return self.inference(request.nonzero, request.params)
        return 2.0 * request.nonzero / (1 - request.sparsity if self.spec.cost == "dense_hardware" else 1)


def trial_record(trial: StoredTrial) -> TrialRecord:
    """A finished trial as the answer tells it."""
    assert trial.outcome is not None, f"trial {trial.number} of {trial.study} is {trial.state}"
    request, known = request_of(trial), trial.outcome.facts
    return TrialRecord(
        number=trial.slot,
        source=trial.proposal.source,
        nonzero=request.nonzero,
        data_dense=request.data_dense,
        params=request.params,
        seed=request.seed,
        sparsity=known["sparsity"],
        data=known["data"],
        state=known["state"],
        loss=known["loss"],
        values=trial.outcome.values,
        flops=known["flops"],
        fingerprint=trial.proposal.facts["fingerprint"],
    )


def check_trial(trial: StoredTrial) -> None:
    """Read what is stored of a trial as a search does, but for its record; raises whatever that throws."""
    request_of(trial)
    if not isinstance(trial.proposal.facts["fingerprint"], str):
        raise TypeError(f"its fingerprint is {trial.proposal.facts['fingerprint']!r}")
    if trial.outcome is None:
        return
    trial_record(trial)
    if "recovery" in trial.outcome.facts:
        float(trial.outcome.facts["end"])
        Recovery.model_validate(trial.outcome.facts["recovery"])


def request_of(trial: StoredTrial) -> RunRequest:
    """The run that a trial stands for."""
    return RunRequest.parse(trial.proposal.facts["ask"])


def record_of(trial: StoredTrial) -> RunRecord:
    """The record that came with a finished trial, whoever made it."""
    record = trial.outcome and trial.outcome.record
    assert record, f"trial {trial.number} has no record"
    return RunRecord.model_validate_json(record)
