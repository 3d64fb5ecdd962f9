"""Where curves of runs are shown elsewhere: TensorBoard, Weights & Biases, Trackio, MLflow. Never in any identity."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, TypeAdapter

from sparsity_lab.errors import SpecError
from sparsity_lab.specs.base import LocalPath, PathOrUrl, Spec, SpecFile, without_home
from sparsity_lab.specs.files import read_spec

VARIABLE = "SPARSITY_LAB_TRACKING"


class TensorBoard(Spec):
    """Event files (extra `tensorboard`)."""

    kind: Literal["tensorboard"]
    folder: Annotated[LocalPath, Field(min_length=1), AfterValidator(without_home)] | None = None
    """of event files, a folder a run below it; `.sparsity-lab/tensorboard` of the project when left out"""


class Wandb(Spec):
    """Weights & Biases (extra `wandb`), or Trackio (extra `trackio`), which has the same interface."""

    kind: Literal["wandb", "trackio"]
    project: str | None = None
    """the study's name when left out"""
    mode: Literal["offline", "online"] = "offline"
    """offline: kept below the project until `wandb sync`; $WANDB_MODE wins; Trackio keeps all on this machine unless
    its own $TRACKIO_SPACE_ID or $TRACKIO_SERVER_URL is set"""


class Mlflow(Spec):
    """MLflow (extra `mlflow`)."""

    kind: Literal["mlflow"]
    uri: PathOrUrl | None = None
    """of the tracking store; a SQLite file in `.sparsity-lab` of the project when left out"""
    experiment: str | None = None
    """the study's name when left out"""


KINDS = ("tensorboard", "wandb", "trackio", "mlflow")
TrackerSpec = Annotated[TensorBoard | Wandb | Mlflow, Field(discriminator="kind")]


class TrackingFile(SpecFile):
    """What a user tracks runs by, whatever the project: `~/.config/sparsity-lab/tracking.yaml`."""

    kind: Literal["tracking"] = "tracking"
    tracking: tuple[TrackerSpec, ...]


def users_tracking(environment: Mapping[str, str] = os.environ) -> tuple[TrackerSpec, ...]:
    """What the user's own file says: the one that $SPARSITY_LAB_TRACKING names, else the one in ~/.config.

    The variable may also list kinds, `tensorboard,wandb`, with everything else as it is when left out; `none` is none.

    Raises:
        SpecError: the file that the variable names is not there, or a file is wrong.
    """
    asked = environment.get(VARIABLE, "").strip()
    kinds = [kind.strip() for kind in asked.split(",")]
    if asked == "none":
        return ()
    if set(kinds) <= set(KINDS):
        return tuple(TypeAdapter(TrackerSpec).validate_python({"kind": kind}) for kind in kinds)
    config = Path(environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "/nonexistent"), ".config"))
    path = Path(asked).expanduser() if asked else config / "sparsity-lab" / "tracking.yaml"
    if not path.exists():
        if asked:
            expected = f"a file, or some of {', '.join(KINDS)}"
            raise SpecError("no such file", where=f"${VARIABLE}", found=asked, expected=expected)
        return ()
    found: TrackingFile = read_spec(path, {"tracking": TypeAdapter(TrackingFile)})
    return found.tracking
