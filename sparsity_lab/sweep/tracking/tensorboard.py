"""TensorBoard event files: `STUDY/FINGERPRINT` over steps, `STUDY/FINGERPRINT/TOKENS` over data."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.text.summary import text_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from sparsity_lab.specs.tracking import TensorBoard
from sparsity_lab.sweep.tracking.base import About, Moment, TrackedValue, TrackerPlace


class TensorBoardTracker:
    """A folder of event files a run."""

    def __init__(self, spec: TensorBoard, place: TrackerPlace) -> None:
        self.folder = (Path(spec.folder) if spec.folder else place.local / "tensorboard") / place.study

    def open(self, about: About, after: int) -> EventFiles:
        """See `Tracker`; what a lost process wrote beyond `after` is hidden."""
        return EventFiles(self.folder / about.fingerprint[:12], about, after)


class EventFiles:
    """One run's."""

    def __init__(self, folder: Path, about: About, after: int) -> None:
        self.by_step = EventFileWriter(str(folder))
        self.by_data = EventFileWriter(str(folder / about.unit))
        self.last = after
        if after:
            again = SessionLog(status=SessionLog.START)
            self.by_step.add_event(Event(wall_time=time.time(), step=after + 1, session_log=again))
        else:
            self._text("settings", {"fingerprint": about.fingerprint, "run": about.name, **about.settings})

    def log(self, moments: Sequence[Moment]) -> None:
        """See `RunLog`."""
        for moment in moments:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in moment.values.items()]
            for writer, place in ((self.by_step, moment.step), (self.by_data, moment.data)):
                writer.add_event(Event(wall_time=time.time(), step=place, summary=Summary(value=values)))
            self.last = moment.step
        self.by_step.flush()
        self.by_data.flush()

    def finish(self, outcome: Mapping[str, TrackedValue]) -> None:
        """See `RunLog`."""
        numbers = {name: value for name, value in outcome.items() if not isinstance(value, str)}
        values = [Summary.Value(tag=f"record/{name}", simple_value=value) for name, value in numbers.items()]
        self.by_step.add_event(Event(wall_time=time.time(), step=self.last, summary=Summary(value=values)))
        self._text("record", outcome)
        self.close()

    def close(self) -> None:
        """See `RunLog`."""
        self.by_step.close()
        self.by_data.close()

    def _text(self, tag: str, values: Mapping[str, TrackedValue]) -> None:
        lines = "\n".join(f"| {name} | {value} |" for name, value in values.items())
        summary = text_pb(tag, f"| | |\n|---|---|\n{lines}")
        self.by_step.add_event(Event(wall_time=time.time(), step=self.last, summary=summary))
