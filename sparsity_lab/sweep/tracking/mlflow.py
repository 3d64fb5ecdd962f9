"""MLflow: an experiment a study; a run is found again by the tag that holds its fingerprint."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

from sparsity_lab.specs.tracking import Mlflow
from sparsity_lab.sweep.tracking.base import About, Moment, TrackedValue, TrackerPlace

TAG = "sparsity_lab.fingerprint"
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow.entities import Metric, Param  # noqa: E402 - it looks at the variable when it is imported
from mlflow.tracking import MlflowClient  # noqa: E402


class MlflowTracker:
    """A tracking store."""

    def __init__(self, spec: Mlflow, place: TrackerPlace) -> None:
        place.local.mkdir(parents=True, exist_ok=True)
        uri = spec.uri or f"sqlite:///{(place.local / 'mlflow.db').resolve()}"
        self.client, name = MlflowClient(tracking_uri=uri), spec.experiment or place.study
        found = self.client.get_experiment_by_name(name)
        self.experiment = found.experiment_id if found else self.client.create_experiment(name)

    def open(self, about: About, after: int) -> MlflowRun:
        """See `Tracker`."""
        del after  # metrics of one step are told apart by what was logged, which the caller knows
        there = self.client.search_runs([self.experiment], f"tags.`{TAG}` = '{about.fingerprint}'")
        if there:
            return MlflowRun(self.client, there[0].info.run_id, about.unit)
        run = self.client.create_run(self.experiment, run_name=about.name, tags={TAG: about.fingerprint})
        settings = [Param(name, str(value)) for name, value in about.settings.items()]
        for first in range(0, len(settings), 100):
            self.client.log_batch(run.info.run_id, params=settings[first : first + 100])
        return MlflowRun(self.client, run.info.run_id, about.unit)


class MlflowRun:
    """One run's."""

    def __init__(self, client: MlflowClient, identity: str, unit: str) -> None:
        self.client, self.identity, self.unit = client, identity, unit

    def log(self, moments: Sequence[Moment]) -> None:
        """See `RunLog`."""
        for moment in moments:
            values = {**moment.values, self.unit: float(moment.data)}
            self._metrics(values, moment.step)

    def finish(self, outcome: Mapping[str, TrackedValue]) -> None:
        """See `RunLog`."""
        numbers = {f"record/{name}": float(value) for name, value in outcome.items() if not isinstance(value, str)}
        self._metrics(numbers, 0)
        for name, value in outcome.items():
            if isinstance(value, str):
                self.client.set_tag(self.identity, f"record.{name}", value)
        self.client.set_terminated(self.identity)

    def close(self) -> None:
        """See `RunLog`."""

    def _metrics(self, values: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        self.client.log_batch(self.identity, [Metric(name, value, now, step) for name, value in values.items()])
