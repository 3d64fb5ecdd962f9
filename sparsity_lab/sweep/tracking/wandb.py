"""Weights & Biases and Trackio: one interface, `init` and `log`, and one adapter."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any

from sparsity_lab.specs.tracking import Wandb
from sparsity_lab.sweep.tracking.base import About, Moment, TrackedValue, TrackerPlace


class WandbTracker:
    """A project a study; a run's identity is its fingerprint.

    W&B of itself would keep the command line, which may hold a password, the machine, the user's commit and every
    installed package.
    """

    def __init__(self, spec: Wandb, place: TrackerPlace) -> None:
        self.spec, self.place = spec, place
        self.folder = place.local / spec.kind
        self.folder.mkdir(parents=True, exist_ok=True)
        if spec.kind == "trackio":
            os.environ.setdefault("TRACKIO_DIR", str(self.folder.resolve()))
        else:
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self.module = importlib.import_module(spec.kind)

    def open(self, about: About, after: int) -> WandbRun:
        """See `Tracker`."""
        del after  # a run of one identity is appended to
        common = {
            "project": self.spec.project or about.study,
            "config": dict(about.settings),
            "resume": "allow",
            "group": about.study,
        }
        return WandbRun(self.module.init(**common, **self._own(about)), about.unit)

    def _own(self, about: About) -> dict[str, Any]:
        """What only one of the two understands: Trackio knows a run by its name."""
        if self.spec.kind == "trackio":
            unwanted = {"auto_log_gpu", "auto_log_cpu"} & inspect.signature(self.module.init).parameters.keys()
            return {"name": about.fingerprint[:12], "embed": False, **dict.fromkeys(sorted(unwanted), False)}
        kept_here = dict.fromkeys(("disable_git", "disable_code", "x_disable_meta", "x_disable_machine_info"), True)
        settings = self.module.Settings(
            silent=True, console="off", x_disable_stats=True, x_save_requirements=False, **kept_here
        )
        mode = os.environ.get("WANDB_MODE", self.spec.mode)
        own = {"id": about.fingerprint[:32], "name": about.name, "dir": str(self.folder)}
        return {**own, "mode": mode, "reinit": "create_new", "settings": settings}


class WandbRun:
    """One run's."""

    def __init__(self, run: Any, unit: str) -> None:
        self.run, self.unit = run, unit

    def log(self, moments: Sequence[Moment]) -> None:
        """See `RunLog`."""
        for moment in moments:
            self.run.log({**moment.values, self.unit: moment.data}, step=moment.step)

    def finish(self, outcome: Mapping[str, TrackedValue]) -> None:
        """See `RunLog`: Trackio has no summary, so numbers are its last point and paths stay with us."""
        if hasattr(self.run, "summary"):
            self.run.summary.update({f"record/{name}": value for name, value in outcome.items()})
        else:
            self.run.log({f"record/{name}": value for name, value in outcome.items()})
        self.close()

    def close(self) -> None:
        """See `RunLog`."""
        self.run.finish()
