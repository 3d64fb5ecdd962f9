"""Measure: time dense and sparse arithmetic on this machine, within a given time, and write the profile."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console

from sparsity_lab.artifacts.atomic import locked
from sparsity_lab.artifacts.paths import Layout
from sparsity_lab.errors import SparsityLabError
from sparsity_lab.hardware.energy import Meter, NoMeterError, meter_of, metering
from sparsity_lab.hardware.formats import UnsupportedError
from sparsity_lab.hardware.inference import time_inference
from sparsity_lab.hardware.kernel_probe import gpu_uuid
from sparsity_lab.hardware.paired import Clock, TooSlowError
from sparsity_lab.hardware.products import ProductCase, time_product
from sparsity_lab.hardware.profile import read_profile, write_profile
from sparsity_lab.hardware.training_steps import time_training
from sparsity_lab.messages.terminal import Terminal
from sparsity_lab.specs.compute import Compute, chosen_compute
from sparsity_lab.specs.hardware import HardwareProfile, InferenceStep, MeasuredOn, Product, TrainingStep
from sparsity_lab.stages.measure_plan import (
    Family,
    MeasurePlan,
    MeasureRequest,
    Pass,
    plan_of_shapes,
    plan_of_study,
)
from sparsity_lab.stages.workspace import Workspace
from sparsity_lab.sweep.executors.factory import on_node
from sparsity_lab.training.determinism import Device, best_device, deterministic, one_thread, this_machine
from sparsity_lab.training.inputs import Inputs, to_device

Timed = TrainingStep | InferenceStep | Product
TRAINING, PASSES, PRODUCTS = 0.4, 0.35, 0.25
"""shares of the time"""


@dataclass(frozen=True)
class Measurement:
    """A profile, where it lies, and whether it was there before."""

    profile: HardwareProfile
    path: Path
    kept: bool


@dataclass(frozen=True)
class Task:
    """Something to time, with its share of the time."""

    name: str
    share: float
    work: Callable[[float], Sequence[Timed]]


def measure_study(
    space: Workspace,
    request: MeasureRequest | None = None,
    *,
    compute: Compute | str | None = None,
    again: bool = False,
    out: Path | None = None,
    console: Console | None = None,
    clock: Clock = time.perf_counter,
) -> Measurement:
    """Measure a study's models where its runs are trained; a profile of this very machine and request is kept.

    Args:
        space: the study, its data prepared.
        request: what to measure, and in which time.
        compute: a compute file, or its name.
        again: measure even so.
        out: where the profile goes; `hardware/STUDY.json` when None.
        console: for the progress.
        clock: seconds from anywhere.

    Raises:
        NotReadyError: the data is not prepared.
        SpecError: there is no such compute file, a size is out of reach, or shapes are asked of an unknown study.
        MachineError: the disk is full.
    """
    request, where = request or MeasureRequest(), chosen_compute(space.layout.root, compute)
    space.clear_unfinished()
    space.manifest()
    path = out or space.layout.hardware(space.name)
    elsewhere = on_node(where, space.layout.data(space.name), partial(_on_node, space, request))
    if elsewhere is not None:
        write_profile(elsewhere, path)
        return Measurement(elsewhere, path, kept=False)
    if where.engine.kind == "slurm":
        console = console or Terminal()
        console.print(f"{space.name}: measuring this machine; another one: srun sparsity-lab measure", highlight=False)
    device = best_device()
    plan = plan_of_study(space, request, device)
    inputs = Inputs(space.layout.data(space.name), space.layout.cache)
    job = _MeasureJob(plan, request.seconds, device, inputs, clock)
    return _measured(job, space.layout, space.name, out=out, again=again, console=console)


def _on_node(space: Workspace, request: MeasureRequest, data: Path, folder: Path) -> HardwareProfile:
    """The profile of a machine that has the study's data at `data`."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        there = replace(space, layout=Layout(Path(own)))
        there.layout.data(space.name).parent.mkdir(parents=True)
        there.layout.data(space.name).symlink_to(data)
        return measure_study(there, request, console=Terminal(quiet=True)).profile


def measure_shapes(
    root: Path,
    request: MeasureRequest | None = None,
    *,
    again: bool = False,
    out: Path | None = None,
    console: Console | None = None,
    clock: Clock = time.perf_counter,
) -> Measurement:
    """Measure products alone, of lists of shapes; as `measure_study`, written to `hardware/SHAPES.json`."""
    request, device = request or MeasureRequest(), best_device()
    job = _MeasureJob(plan_of_shapes(root, request, device), request.seconds, device, clock=clock)
    return _measured(job, Layout(root), request.name, out=out, again=again, console=console)


@dataclass(frozen=True)
class _MeasureJob:
    """A plan with everything that carrying it out takes."""

    plan: MeasurePlan
    seconds: float
    device: Device
    inputs: Inputs | None = None
    clock: Clock = time.perf_counter

    def tasks(self) -> Iterator[Task]:
        """Whole steps first: they matter most."""
        plan = self.plan
        for family in plan.families:
            yield Task(
                f"training steps, N = {family.dense.nonzero:,}", TRAINING / len(plan.families), self._training(family)
            )
        for one in plan.passes:
            yield Task(str(one), PASSES / len(plan.passes), self._pass(one))
        for case in plan.products:
            share = PRODUCTS / len(plan.products)
            yield Task(str(case), share, self._product(case))

    def _product(self, case: ProductCase) -> Callable[[float], Sequence[Timed]]:
        return lambda seconds: [time_product(case, self.device, seconds, self.clock)]

    def _training(self, family: Family) -> Callable[[float], Sequence[Timed]]:
        inputs = self.inputs
        assert inputs is not None, "whole steps are those of a study"

        def work(seconds: float) -> Sequence[Timed]:
            with deterministic():  # as the workers train
                return time_training(
                    family.dense, family.sparse, inputs, device=self.device, seconds=seconds, clock=self.clock
                )

        return work

    def _pass(self, one: Pass) -> Callable[[float], Sequence[Timed]]:
        inputs = self.inputs
        assert inputs is not None, "whole passes are those of a study"

        def work(seconds: float) -> Sequence[Timed]:
            run = one.run.model_copy(update={"batch": one.batch})
            batch = to_device(inputs.evaluation(run, one.batch)[0], self.device)
            timed = time_inference(
                run.model,
                one.format,
                one.sparsity,
                batch,
                items=one.items,
                device=self.device,
                seconds=seconds,
                clock=self.clock,
            )
            return [timed]

        return work


def _measured(
    job: _MeasureJob, layout: Layout, name: str, *, out: Path | None, again: bool, console: Console | None
) -> Measurement:
    console = console or Terminal()
    path = out or layout.hardware(name)
    with locked(layout.lock(f"measure-{name}")), one_thread(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Sparse \w+ tensor support is in beta")
        machine = _machine(job.device)
        if not again and (kept := _kept(path, machine, job.plan.digest())) is not None:
            return Measurement(kept, path, kept=True)
        if (elsewhere := _elsewhere(path, machine)) is not None:
            console.print(elsewhere, highlight=False, soft_wrap=True)
        meter, untold = _meter(job.device)
        with metering(meter), console.status(f"{name}: measuring for at most {job.seconds:g} s") as status:
            timed, skipped = carry_out(
                list(job.tasks()), job.seconds, lambda task: status.update(f"{name}: {task}"), job.clock
            )
        threads = "1 thread" if machine.threads == 1 else f"{machine.threads} threads"
        parts = ", ".join(dict.fromkeys((machine.device, machine.processor, machine.instruction_set)))
        profile = HardwareProfile(
            version=1,
            description=f"{name} on {machine.processor if job.device.type == 'cpu' else machine.device}",
            origin="measured",
            sources=(f"measured on {parts}; torch {machine.torch}, {threads}; {datetime.now(UTC).date()}",),
            device="cuda" if job.device.type == "cuda" else "cpu",
            machine=machine,
            request=job.plan.digest(),
            products=tuple(one for one in timed if isinstance(one, Product)),
            training=tuple(one for one in timed if isinstance(one, TrainingStep)),
            inference=tuple(one for one in timed if isinstance(one, InferenceStep)),
            energy=meter.name if meter else "",
            skipped=(*job.plan.refused, *skipped, *untold),
        )
        write_profile(profile, path)
    return Measurement(profile, path, kept=False)


def _meter(device: Device) -> tuple[Meter | None, tuple[str, ...]]:
    """The counters of a device; or why there are none."""
    try:
        return meter_of(device.type, lambda: gpu_uuid(device)), ()
    except NoMeterError as error:
        return None, (f"energy: {error}",)


def carry_out(
    tasks: Sequence[Task], seconds: float, on_task: Callable[[str], None], clock: Clock = time.perf_counter
) -> tuple[list[Timed], list[str]]:
    """Carry out tasks one after another, each in its share of the time that is left.

    Args:
        tasks: in order.
        seconds: for all of them. What a task does not use goes to those after it.
        on_task: told the name of each as it begins.
        clock: seconds from anywhere.

    Returns:
        What was timed, and what was not, each with the reason.
    """
    end = clock() + seconds
    timed: list[Timed] = []
    skipped: list[str] = []
    for number, task in enumerate(tasks):
        left = end - clock()
        if left <= 0:
            skipped.append(f"{task.name}: the time was used up")
            continue
        on_task(task.name)
        try:
            timed += task.work(left * task.share / sum(one.share for one in tasks[number:]))
        except (UnsupportedError, TooSlowError) as error:
            skipped.append(f"{task.name}: {error}")
    return timed, skipped


def _kept(path: Path, machine: MeasuredOn, digest: str) -> HardwareProfile | None:
    """The profile at a path, if it is of this machine and answers the request."""
    if not path.is_file():
        return None
    try:
        found = read_profile(path)
    except SparsityLabError:  # damaged: it is made anew
        return None
    same = found.request == digest and found.machine is not None and not machine.differences(found.machine)
    return found if same else None


def _elsewhere(path: Path, machine: MeasuredOn) -> str | None:
    """What there is to say of a profile that is about to be replaced: whose it is, where it is another machine's."""
    try:
        found = read_profile(path)
    except SparsityLabError:
        return None
    differ = () if found.machine is None else machine.differences(found.machine)
    return f"{path} was measured elsewhere ({'; '.join(differ)}): measuring here" if differ else None


def _machine(device: Device) -> MeasuredOn:
    found = this_machine(device)
    return MeasuredOn(
        device=found.device,
        processor=found.processor,
        instruction_set=found.instruction_set,
        torch=found.torch,
        threads=found.threads,
    )
