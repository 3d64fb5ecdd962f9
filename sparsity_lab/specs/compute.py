"""Compute files: where runs are trained, and with what. Nothing in them enters a run's identity.

`threads` is the one thing that they decide and bits depend on: a run computes with as many threads as it has cores, and
its record says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainSerializer, PrivateAttr, TypeAdapter

from sparsity_lab.errors import SpecError, shown
from sparsity_lab.specs.base import FolderUri, FrozenMapping, LocalPath, PathOrUrl, Spec, SpecFile, SpecName
from sparsity_lab.specs.files import find_named, parse, read_spec
from sparsity_lab.specs.problems import where_of
from sparsity_lab.specs.tracking import TrackerSpec

GIB = 2**30
SMALLEST_SHARE = 1e-4
"""of a GPU: Ray counts in ten-thousandths"""

NOT_ASKED = frozenset({"array", "wrap", "test-only", "parsable", "help", "usage", "version"})
"""options of `sbatch` that would make it submit something else than the array, or nothing"""


def _long_names(options: Mapping[str, str | int | bool]) -> Mapping[str, str | int | bool]:
    for name, value in options.items():
        if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name):
            raise ValueError(f"is no long name of an option of sbatch: {shown(name)}, where partition would be one")
        if name.replace("_", "-") in NOT_ASKED:
            raise ValueError(f"cannot be asked for here: {name}; the array is submitted as engine.workers says")
        if isinstance(value, str) and not (value and value.isprintable()):
            raise ValueError(f"is no value on one line: {shown(value)} of {name}")
    return FrozenMapping(options)


SbatchOptions = Annotated[
    Mapping[str, str | int | bool],
    AfterValidator(_long_names),
    PlainSerializer(dict, return_type=dict[str, str | int | bool]),
]


def _whole_above_one(gpus: float) -> float:
    if gpus > 1 and not gpus.is_integer():
        raise ValueError("a share of one GPU, or a whole number of them")
    if 0 < gpus < SMALLEST_SHARE:
        raise ValueError(f"a share of one GPU is at least {SMALLEST_SHARE:g}")
    return gpus


Many = Annotated[int, Field(gt=0, le=1_000_000)]
"""devices, cores or processes: a plan has a place for each"""
ResourceAmount = Annotated[float, Field(ge=1e-6, le=1e9)]
"""GiB or minutes: engines ask for them in whole bytes, MiB and minutes"""


class LocalEngine(Spec):
    """Processes of this machine, which live through many runs."""

    kind: Literal["local"] = "local"
    workers: Many | None = None
    """runs at once; as many as the cores suffice for when left out"""


class RayEngine(Spec):
    """Tasks of a Ray cluster (extra `ray`)."""

    kind: Literal["ray"] = "ray"
    address: PathOrUrl | None = None
    """of the cluster: `auto`, `host:6379`, or `ray://host:10001` from a machine outside it; $RAY_ADDRESS when left out,
    and without that a cluster of this machine alone, for as long as the command runs"""
    shared_files: bool = False
    """every node sees the project's folder under the same path; without it data is sent to each node once, and records
    and kept weights come back"""
    send_package: bool = True
    """send this very version of sparsity_lab to nodes that are not this machine's own; they need its dependencies"""
    node_folder: Annotated[LocalPath, Field(min_length=1)] | None = None
    """on each node, for data and unfinished runs where files are not shared; `~` and `$VARIABLES` are the node's; a
    folder among its temporary ones when left out"""
    retries: Annotated[int, Field(ge=0)] = 3
    """how often a run is begun anew, from its checkpoint, after its worker or node died"""


class SlurmEngine(Spec):
    """A job array of workers that see the project's folder (extra `slurm`)."""

    kind: Literal["slurm"] = "slurm"
    workers: Many = 1
    """tasks of the array, each training one run after another"""
    devices_per_node: Many | None = None
    """of a node: a task whose run is on more `devices` takes as many nodes as hold them; they are of one node when left
    out"""
    options: SbatchOptions = Field(default_factory=lambda: FrozenMapping({}))
    """passed to `sbatch` as they stand, by their long names: `partition: gpu`"""
    setup: tuple[str, ...] = ()
    """shell lines before a worker starts: modules to load, an environment to enter"""


Engine = Annotated[LocalEngine | RayEngine | SlurmEngine, Field(discriminator="kind")]


class RunResources(Spec):
    """What one run is given on each of its devices."""

    cores: Many = 1
    """threads it computes with: they decide its last bits, and records name them"""
    gpus: Annotated[float, Field(ge=0, le=1_000_000), AfterValidator(_whole_above_one)] = 0
    """a share below 1 lets small runs sit on one GPU side by side"""
    memory_gib: ResourceAmount | None = None
    """main memory, GiB; not asked for when left out"""
    deterministic: bool = True
    """refuse operations of a GPU whose bits do not repeat; records say which way a run was made"""
    accumulation: Many = 1
    """parts in which one device takes every batch, one after the other (gradient accumulation): activations of a part
    alone are held; as many parts as several processes take give their bits, and records name them"""
    wall_minutes: ResourceAmount | None = None
    """longest time of a worker or task, after which it writes its checkpoint and is queued again"""


class DevicesBySize(Spec):
    """As few devices as hold a run's estimated state."""

    memory_gib: ResourceAmount
    """of one device that a run may fill, GiB"""
    most: Many
    """devices of one run"""


class Checkpoints(Spec):
    """Where unfinished runs are kept, and how much of them may be lost."""

    uri: FolderUri | None = None
    """a folder or any URI that pyarrow.fs reads (`s3://bucket/prefix`, `gs://…`) and every node reaches; the project's
    own scratch folder when left out"""
    seconds: Annotated[float, Field(ge=0)] = 60.0
    """longest time between two checkpoints of a run"""


class Compute(SpecFile):
    """Where runs are trained: an engine, what it gives a run, and where checkpoints lie."""

    kind: Literal["compute"] = "compute"
    description: str = ""
    engine: Engine
    run: RunResources = RunResources()
    devices: Many | DevicesBySize = 1
    """that one run is spread over, or the rule by which its size decides"""
    checkpoints: Checkpoints = Checkpoints()
    available: Many | None = None
    """devices that runs share at any time, for planning; of this machine and of a job array known without it"""
    hardware: SpecName | None = None
    """the hardware profile that planning takes speed and memory from; finished runs tell it when left out"""
    price_per_device_hour: Annotated[float, Field(ge=0, le=1e12)] | None = None
    """of one device, or of one core where runs have no GPU"""

    tracking: tuple[TrackerSpec, ...] | None = None
    """where curves are shown as well; what the user's own file says when left out, nowhere when empty"""

    _file: Path | None = PrivateAttr(default=None)

    def read_from(self, path: Path) -> Compute:
        """Itself, knowing the file that says it."""
        self._file = path
        return self

    def place(self, field: str) -> str:
        """Where a top-level field is said: `file:line`; in words where no file was read."""
        return where_of(self._file, parse(self._file)[1], [field]) if self._file else "compute"

    def devices_for(self, state: float) -> int:
        """Over how many devices a run is spread.

        Args:
            state: its estimated memory during training, bytes.

        Raises:
            SpecError: the rule's most do not hold it.
        """
        if isinstance(self.devices, int):
            return self.devices
        needed = max(1, math.ceil(state / (self.devices.memory_gib * GIB)))
        if needed > self.devices.most:
            found = f"a run of {state / GIB:.3g} GiB"
            expected = f"at most {self.devices.most * self.devices.memory_gib:.3g} GiB"
            raise SpecError("a run does not fit", field="devices.most", found=found, expected=expected)
        return needed


def here(workers: int | None = None) -> Compute:
    """This machine, with so many runs at once; as many as it has cores when None."""
    return Compute(version=1, engine=LocalEngine(workers=workers))


def chosen_compute(root: Path, asked: Compute | str | None = None, workers: int | None = None) -> Compute:
    """Where runs are trained: what is asked for, else this machine; with so many workers where a number is given.

    Args:
        root: the project folder.
        asked: a compute file as it was read, or its name or path.
        workers: runs at once on this machine.

    Raises:
        SpecError: there is no such file, it is wrong, or workers are asked of another engine than the local one.
    """
    compute = load_compute(asked, root) if isinstance(asked, str) else asked or here()
    if workers is None:
        return compute
    if not isinstance(compute.engine, LocalEngine):
        expected = "a compute file of kind local, or no number of workers"
        raise SpecError(
            "workers are those of this machine", field="engine.kind", found=compute.engine.kind, expected=expected
        )
    return compute.model_copy(update={"engine": LocalEngine(workers=workers)})


def default_compute(root: Path) -> str | None:
    """What `params.yaml` names under `compute`; None where it names nothing.

    Raises:
        SpecError: the file cannot be read, or names no text.
    """
    path = root / "params.yaml"
    if not path.exists():
        return None
    tree, node = parse(path)
    named = tree.get("compute")
    if named is not None and not isinstance(named, str):
        raise SpecError(
            "wrong value", where=where_of(path, node, ["compute"]), field="compute", found=named, expected="a name"
        )
    return named


def load_compute(name: str, root: Path) -> Compute:
    """A compute file by its name in `specs/compute`, or by its path.

    Raises:
        SpecError: there is none, with those that there are, or it is wrong.
    """
    path = find_named("compute", name, root)
    compute: Compute = read_spec(path, {"compute": TypeAdapter(Compute)})
    return compute.read_from(path)
