"""What trackers hold of a run, read back from what they wrote: points by step, each as often as it is there."""

from __future__ import annotations

import json
import sqlite3
import struct
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sparsity_lab.sweep.tracking.base import TrackerPlace

Points = dict[int, list[float]]
"""values of loss/eval by step"""


def tensorboard(place: TrackerPlace, name: str) -> tuple[Points, str]:
    """Event files, as TensorBoard itself loads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415

    found = EventAccumulator(str(place.local / "tensorboard" / place.study / name[:12]), {"scalars": 0, "tensors": 0})
    found.Reload()
    points: Points = defaultdict(list)
    for event in found.Scalars("loss/eval"):
        points[event.step].append(round(event.value, 6))
    texts = [event.tensor_proto.string_val[0].decode() for event in found.Tensors("record")]
    return dict(points), texts[-1]


def wandb(place: TrackerPlace, name: str) -> tuple[Points, str]:
    """Files of offline runs, as `wandb sync` reads them: those of one identity become one run."""
    from wandb.proto.wandb_internal_pb2 import Record  # noqa: PLC0415

    points: Points = defaultdict(list)
    summary = ""
    for path in sorted((place.local / "wandb").rglob(f"*{name[:32]}.wandb")):
        for record in _closed(path, Record):
            values = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            if "loss/eval" in values:
                points[int(values["_step"])].append(round(json.loads(values["loss/eval"]), 6))
            summary += "".join(item.value_json for item in record.summary.update)
    return dict(points), summary


def _closed(path: Path, kind: Callable[[], Any]) -> list[Any]:
    """Records of a file of wandb's service, which goes on writing for a moment after a run's `finish` came back."""
    deadline = time.monotonic() + 60
    while True:
        records = []
        for data in _leveldb_log(path.read_bytes()):
            records.append(kind())
            records[-1].ParseFromString(data)
        if records and records[-1].HasField("exit"):
            return records
        assert time.monotonic() < deadline, f"no end in {path}"
        time.sleep(0.02)


def _leveldb_log(content: bytes) -> Iterator[bytes]:
    """Records of a log in LevelDB's format, whose blocks begin behind a header of 7 bytes: checksum, length, part."""
    place, whole = 7, b""
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, part = struct.unpack_from("<HB", content, place + 4)
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if part in {1, 4}:  # whole, or the last part
            yield whole
            whole = b""


def mlflow(place: TrackerPlace, name: str) -> tuple[Points, str]:
    """The SQLite store."""
    from mlflow.tracking import MlflowClient  # noqa: PLC0415

    client = MlflowClient(tracking_uri=f"sqlite:///{place.local / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(place.study)
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`sparsity_lab.fingerprint` = '{name}'")
    points: Points = defaultdict(list)
    for metric in client.get_metric_history(run.info.run_id, "loss/eval"):
        points[metric.step].append(round(metric.value, 6))
    return dict(points), run.data.tags.get("record.path", "")


class FakeTrackio(ModuleType):
    """What the adapter asks of Trackio, after 0.43 as it is installed: a run is known by project and name."""

    def __init__(self) -> None:
        super().__init__("trackio")
        self.runs: dict[str, list[tuple[int | None, dict[str, Any]]]] = {}

    def init(  # noqa: PLR0917
        self,
        project: str,
        name: str,
        group: str,
        config: dict[str, Any],
        resume: str,
        embed: bool = True,
        auto_log_gpu: bool | None = None,
        auto_log_cpu: bool | None = None,
    ) -> FakeRun:
        """As there."""
        assert project == group
        assert resume == "allow"
        assert not embed
        assert (auto_log_gpu, auto_log_cpu) == (False, False)
        json.dumps(config)
        return FakeRun(self.runs.setdefault(name, []))


class FakeRun:
    """A run of it."""

    def __init__(self, rows: list[tuple[int | None, dict[str, Any]]]) -> None:
        self.rows = rows

    def log(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """As there."""
        json.dumps(metrics)
        self.rows.append((step, metrics))

    def finish(self) -> None:
        """As there."""


def trackio(place: TrackerPlace, name: str) -> tuple[Points, str]:
    """Its SQLite store, or what the fake module was told."""
    module = sys.modules["trackio"]
    rows = module.runs[name[:12]] if isinstance(module, FakeTrackio) else _stored(place, name)
    points: Points = defaultdict(list)
    for step, metrics in rows:
        if "loss/eval" in metrics:
            points[step or 0].append(round(metrics["loss/eval"], 6))
    return dict(points), str(rows[-1][1].get("record/path", ""))


def _stored(place: TrackerPlace, name: str) -> list[tuple[int | None, dict[str, Any]]]:
    with closing(sqlite3.connect(place.local / "trackio" / f"{place.study}.db")) as store:
        asked = "select step, metrics from metrics where run_name = ? order by id"
        return [(step, json.loads(metrics)) for step, metrics in store.execute(asked, (name[:12],))]


@pytest.fixture
def fake_trackio(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in where Trackio is not installed, which brings a web server."""
    if find_spec("trackio") is None:
        monkeypatch.setitem(sys.modules, "trackio", FakeTrackio())


READERS = {"tensorboard": tensorboard, "wandb": wandb, "mlflow": mlflow, "trackio": trackio}
