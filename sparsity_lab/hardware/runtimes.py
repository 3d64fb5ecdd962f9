"""Does anything run it? Tables of engines, asked for a format on a machine; and the engines that are installed here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Literal, get_args

from pydantic import TypeAdapter

from sparsity_lab.errors import SpecError
from sparsity_lab.specs.files import find_named, known_names, read_spec
from sparsity_lab.specs.hardware import Architecture, HardwareProfile, ProductFormat, WeightType
from sparsity_lab.specs.runtimes import RuntimeSpec, RuntimeStatus, RuntimeSupport, RuntimeUse, one_by_one


@dataclass(frozen=True)
class RuntimeQuestion:
    """What is to be run.

    Attributes:
        format: of the weights.
        hardware: architectures that would do: one where it is known, else all of the device.
        dtype: of the weights; any when None.
        use: training or inference.
    """

    format: ProductFormat
    hardware: tuple[Architecture, ...]
    dtype: WeightType | None = None
    use: RuntimeUse = "inference"


@dataclass(frozen=True)
class RuntimeAnswer:
    """Which engines run it, by how their makers stand to it.

    Attributes:
        maintained: names with versions.
        experimental: likewise; a research kernel or a prototype.
        removed: likewise.
        looked_up: the oldest date of the tables asked; None where there are none.
    """

    maintained: tuple[str, ...] = ()
    experimental: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    looked_up: date | None = None

    @property
    def colour(self) -> Literal["green", "amber", "red"]:
        """Green where a maintained engine loads it, amber where only a prototype does, red where none."""
        return "green" if self.maintained else "amber" if self.experimental else "red"


@dataclass(frozen=True)
class EngineHere:
    """An engine of the tables that is installed on this machine.

    Attributes:
        name: of its table.
        installed: its version here.
        runtime: what the table says of another version or this one.
        loads: formats, types and uses that it loads on this hardware, each in words.
    """

    name: str
    installed: str
    runtime: RuntimeSpec
    loads: tuple[str, ...]


def load_runtimes(project: Path) -> dict[str, RuntimeSpec]:
    """Every table of the project and of those that ship, by name.

    Raises:
        SpecError: one is damaged, or two speak of one version of an engine and contradict each other.
    """
    adapter = {"runtime": TypeAdapter(RuntimeSpec)}
    found = {name: read_spec(find_named("runtime", name, project), adapter) for name in known_names("runtime", project)}
    said: dict[tuple[str, ...], tuple[str, RuntimeStatus]] = {}
    for name, runtime in found.items():
        for one in runtime.supports:
            for case in one_by_one(one):
                first, status = said.setdefault((runtime.engine, runtime.engine_version, *case), (name, one.status))
                if status != one.status:
                    raise SpecError(
                        "two tables contradict each other",
                        where=find_named("runtime", name, project),
                        field="supports",
                        found=f"{runtime.engine} {runtime.engine_version}, {' '.join(case)}: {one.status}",
                        expected=f"{status}, as {find_named('runtime', first, project)} says",
                    )
    return found


def who_runs(question: RuntimeQuestion, runtimes: Iterable[RuntimeSpec]) -> RuntimeAnswer:
    """Which engines run it."""
    names: dict[RuntimeStatus, dict[str, None]] = {"maintained": {}, "experimental": {}, "removed": {}}
    dates = []
    for runtime in runtimes:
        dates.append(runtime.looked_up)
        for one in runtime.supports:
            if _speaks_of(one, question):
                names[one.status][f"{runtime.engine} {runtime.engine_version}"] = None
    maintained, experimental, removed = (tuple(known) for known in names.values())
    return RuntimeAnswer(maintained, experimental, removed, min(dates, default=None))


def architectures(profile: HardwareProfile | None) -> tuple[Architecture, ...]:
    """Of a profile: its own where it says so, else all of its device; of nothing known, all there are."""
    every: tuple[Architecture, ...] = get_args(Architecture)
    if profile is None:
        return every
    if profile.architecture is not None:
        return (profile.architecture,)
    return tuple(one for one in every if (one == "cpu") == (profile.device == "cpu"))


def architectures_here(capability: tuple[int, int] | None) -> tuple[Architecture, ...]:
    """Of this machine.

    Args:
        capability: of its CUDA device, as torch tells it; a CPU where None.
    """
    if capability is None:
        return ("cpu",)
    known: dict[tuple[int, ...], Architecture] = {(8, 9): "cuda-ada", (8,): "cuda-ampere", (9,): "cuda-hopper"}
    return (known.get(capability) or known.get(capability[:1]) or "cuda-blackwell",)


def engines_here(runtimes: dict[str, RuntimeSpec], hardware: Sequence[Architecture]) -> Iterator[EngineHere]:
    """The engines of the tables that are installed as Python packages."""
    for name, runtime in runtimes.items():
        if runtime.package is None:
            continue
        try:
            installed = metadata.version(runtime.package)
        except metadata.PackageNotFoundError:
            continue
        loads = tuple(
            f"{', '.join(one.formats)} in {', '.join(one.dtypes)} ({', '.join(one.use)}, {one.status})"
            for one in runtime.supports
            if set(one.hardware) & set(hardware) and one.status != "removed"
        )
        yield EngineHere(name, installed, runtime, loads)


def _speaks_of(one: RuntimeSupport, question: RuntimeQuestion) -> bool:
    return (
        question.format in one.formats
        and bool(set(one.hardware) & set(question.hardware))
        and question.dtype in {None, *one.dtypes}
        and question.use in one.use
    )
