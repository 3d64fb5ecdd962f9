"""A project of one tiny study, trained in seconds, and ways to copy, edit and run it."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sparsity_lab.artifacts.paths import RECORD
from sparsity_lab.cli.main import main
from sparsity_lab.errors import SparsityLabError
from sparsity_lab.laws.fitting.fit import Fit
from sparsity_lab.laws.uncertainty.profile import Profile, profile
from sparsity_lab.specs.compute import Compute
from sparsity_lab.stages.fit import fit_study
from sparsity_lab.stages.prepare import prepare_study
from sparsity_lab.stages.searching.run import search_study
from sparsity_lab.stages.train import train_study
from sparsity_lab.stages.workspace import Workspace, open_workspace
from sparsity_lab.sweep.jobs import Event, Failed, Job, Workplace
from sparsity_lab.sweep.worker import serve
from sparsity_lab.training.determinism import deterministic

WORDS = ("sparse", "dense", "mask", "weight", "layer", "prune", "the", "of", "a", "is", "loss", "law")
RUN_JOBS = "sparsity_lab.sweep.study.run_jobs"
GRID_RUNS = 19
"""distinct runs of the tiny study's grid, replicates included"""

MODEL = {
    "version": 1,
    "kind": "model",
    "family": "t5",
    "scaling": {"layers": [1], "head_width": 8, "ff_ratio": 2.0, "width_multiple": 8, "ff_multiple": 4},
}
GRADUAL = {"version": 1, "kind": "regime", "method": "masked", "schedule": {"kind": "cubic", "minimum_updates": 4}}
STUDY = {
    "version": 1,
    "kind": "study",
    "model": "tiny",
    "dataset": "words",
    "objective": {"kind": "span-corruption", "input_length": 16},
    "training": {
        "batch": 8,
        "optimizer": {"kind": "adafactor"},
        "learning_rate": {"base": 0.03},
        "schedule": {"kind": "cosine", "warmup": 0.1},
        "evaluation": {"examples": 32, "curve_examples": 8, "every": 4},
    },
    "grid": {
        "data_unit": "tokens",
        "nonzero": [1536, 6144, 13_824],
        "sparsity": [0, 0.5],
        "data": [1024, 2048, 4096],
        "regimes": ["gradual"],
        "replicates": [{"nonzero": [1536], "sparsity": [0], "data": [1024], "seeds": [1]}],
    },
    "search": {"nonzero": 1536, "budgets": [1024, 4096], "regimes": ["gradual"], "sampler": "tpe", "trials": 3},
    "law": {"starts": 8, "bootstrap": 10, "forms": ["frantar", "chinchilla"]},
}


def dataset(folder: Path) -> dict[str, Any]:
    """A dataset spec for the documents in a folder."""
    source = {"kind": "jsonl", "path": str(folder)}
    return {"version": 1, "kind": "dataset", "content": "text", "source": source, "held_out": 0.2}


def write_documents(folder: Path) -> None:
    """A few dozen documents of words in an order that a small model can partly guess."""
    folder.mkdir(parents=True)
    texts = (" ".join(WORDS[(n * n + 3 * k + (n * k) % 5) % len(WORDS)] for k in range(60)) for n in range(60))
    lines = (json.dumps({"text": f"{number} {text}"}) for number, text in enumerate(texts))
    (folder / "documents.json").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_spec(root: Path, name: str, content: Mapping[str, Any]) -> Path:
    """Write `specs/<name>.yaml`; JSON is YAML."""
    path = root / "specs" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def new_project(root: Path, documents: Path) -> Path:
    """A project folder with specs alone."""
    write_spec(root, "models/tiny", MODEL)
    write_spec(root, "datasets/words", dataset(documents))
    write_spec(root, "regimes/gradual", GRADUAL)
    write_spec(root, "studies/tiny", STUDY)
    return root


def edit(root: Path, name: str, **changes: Any) -> None:
    """Change fields of `specs/<name>.yaml`; a field inside another is written with two underscores."""
    path = root / "specs" / f"{name}.yaml"
    tree = json.loads(path.read_text(encoding="utf-8"))
    for field, value in changes.items():
        *parents, last = field.split("__")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    write_spec(root, name, tree)


class Here:
    """What a worker hears and says when it is this process."""

    def __init__(self, jobs: Iterable[Job], on_event: Callable[[Event], None]) -> None:
        self.jobs, self.on_event = iter(sorted(jobs, key=lambda job: (-job.cost, job.fingerprint))), on_event

    def recv(self) -> Job | None:
        """The next job; None when there are no more."""
        return next(self.jobs, None)

    def send(self, event: Event) -> None:
        """Pass on what the worker tells.

        Raises:
            SparsityLabError: it tells of a failure that the user can mend.
            RuntimeError: it tells of another.
        """
        self.on_event(event)
        if isinstance(event, Failed):
            raise SparsityLabError(event.message) if event.user_error else RuntimeError(event.message)


def train_here(
    jobs: Iterable[Job],
    place: Workplace,
    compute: Compute | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
) -> None:
    """`run_jobs` with this process as its only worker."""
    del compute
    with deterministic(place.threads):
        serve(Here(jobs, on_event), place)


def hurry(patch: pytest.MonkeyPatch) -> None:
    """Leave out what takes longest of a tiny study: workers, which train no quicker than they start, and profiles."""

    def first_profile(fit: Fit, *, confidence: float) -> tuple[Profile, ...]:
        return profile(fit, fit.form.names[:1], confidence=confidence)

    patch.setattr(RUN_JOBS, train_here)
    patch.setattr("sparsity_lab.stages.fit_runs.profile", first_profile)


def space_of(root: Path, study: str = "tiny") -> Workspace:
    """The study as it is written now."""
    return open_workspace(study, root)


def silent() -> Console:
    """A console that nobody reads; what it shows is in `.file`."""
    return Console(file=io.StringIO(), width=200)


def run_all(root: Path, study: str = "tiny") -> None:
    """Every step up to the fit."""
    prepare_study(space_of(root, study), silent())
    train_study(space_of(root, study), workers=1, console=silent())
    search_study(space_of(root, study), workers=1, console=silent())
    fit_study(space_of(root, study))


def once(folder: Path, make: Callable[[Path], None]) -> Path:
    """A folder that is made once for all processes and rooms of a test session."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = folder.with_suffix(".part")
            shutil.rmtree(unfinished, ignore_errors=True)
            make(unfinished)
            unfinished.rename(folder)
    return folder


def contents(root: Path, *folders: str) -> dict[str, bytes]:
    """Every file below some folders of a project, by name."""
    files = (path for folder in folders for path in sorted((root / folder).rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def records(root: Path, home: str = "runs/tiny") -> dict[str, dict[str, Any]]:
    """Every record below a home as plain values, by fingerprint."""
    return {path.parent.name: json.loads(path.read_bytes()) for path in (root / home).glob(f"*/{RECORD}")}


def results(root: Path, home: str = "runs/tiny") -> dict[str, Any]:
    """What must repeat bit for bit of every record: all but the seconds it took."""
    every = records(root, home)
    return {name: record | {"cost": record["cost"] | {"seconds": 0}} for name, record in every.items()}


def environment(**extra: str) -> dict[str, str]:
    """The environment for processes under test: the interpreter's own programs first, one thread."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": programs, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **extra}


def command(*arguments: str) -> list[str]:
    """`sparsity-lab` with arguments, as this interpreter runs it."""
    return [sys.executable, "-m", "sparsity_lab.cli", *arguments]


def cli(root: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run `sparsity-lab` in a project, in this process, and expect an exit code."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(root)
        patch.setenv("COLUMNS", "200")
        patch.setattr(sys, "argv", ["sparsity-lab", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    done = subprocess.CompletedProcess(arguments, int(ended.value.code or 0), out.getvalue(), err.getvalue())
    assert done.returncode == code, f"exit code {done.returncode}, expected {code}:\n{done.stdout}{done.stderr}"
    return done


def program(root: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """As `cli`, in a process of its own."""
    done = subprocess.run(
        command(*arguments), cwd=root, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == code, f"exit code {done.returncode}, expected {code}:\n{done.stdout}{done.stderr}"
    return done


def one_error(done: subprocess.CompletedProcess[str]) -> str:
    """The one error on stderr of a command that was refused: no traceback, nothing after it."""
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stderr.count("error: ") == 1, done.stderr
    return done.stderr.partition("error: ")[2].strip()


def until(condition: Callable[[], object], seconds: float = 120, what: str = "") -> None:
    """Wait for something that must come about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not true after {seconds} s: {what or condition}"
        time.sleep(0.02)


def until_gone(processes: Iterable[int], seconds: float = 20) -> None:
    """Wait for processes to end by themselves; none is left behind when one does not."""
    waited_for = list(processes)
    try:
        until(lambda: not any(map(alive, waited_for)), seconds, "the processes are gone")
    finally:
        for process in waited_for:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def alive(process: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def children(process: int) -> list[int]:
    """Direct children of a process."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for task in tasks for child in _read(task).split()]


def descendants(process: int) -> list[int]:
    """All processes below one."""
    direct = children(process)
    return direct + [below for child in direct for below in descendants(child)]


def workers_of(process: int) -> list[int]:
    """The training workers of a sweep."""
    return [child for child in children(process) if "spawn_main" in _read(Path(f"/proc/{child}/cmdline"))]


def under_way(root: Path) -> list[Path]:
    """The locks of all runs that were ever begun here."""
    return [path for path in (root / ".sparsity-lab" / "locks").glob("*.lock") if len(path.stem) == 64]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of a test session share, those of pytest-xdist included."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"


@pytest.fixture(scope="session")
def documents(shared: Path) -> Path:
    """The tiny study's source."""
    return once(shared / "documents", write_documents)


@pytest.fixture(scope="session")
def finished(shared: Path, documents: Path) -> Path:
    """The tiny project with every step up to the fit done; for reading only."""

    def make(root: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            hurry(patch)
            run_all(new_project(root, documents))

    return once(shared / "finished", make)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stages of this process hurry."""
    hurry(monkeypatch)


@pytest.fixture
def bare(tmp_path: Path, documents: Path) -> Path:
    """A project with specs alone."""
    return new_project(tmp_path / "project", documents)


@pytest.fixture
def trained(tmp_path: Path, finished: Path) -> Path:
    """A copy of the finished project that a test may change."""
    return shutil.copytree(finished, tmp_path / "project")


@pytest.fixture
def prepared(trained: Path) -> Path:
    """A project whose data is prepared and nothing trained."""
    for folder in ("runs", "search", "laws", "metrics", ".sparsity-lab/locks"):
        shutil.rmtree(trained / folder)
    return trained
