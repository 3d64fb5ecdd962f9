"""Bring `.venv` to what pyproject.toml and constraints.txt ask for, from whatever state it is in.

Run by `make env` with any Python >= 3.11 and nothing installed, hence the standard library alone. A stamp,
written only after success, says for which files and torch index the environment was made; while it fits,
nothing happens. Without one, `.venv` was interrupted or made by hand: it is kept when every package in it is
whole, and made anew otherwise. docs/adr/0003-torch-builds.md says how torch's build is chosen.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PIP = "pip"
"""instead of an address: torch from wherever pip is configured to look"""
PROBE_SECONDS = 3


@dataclass(frozen=True)
class Stamp:
    """What a finished environment was made for."""

    inputs: str
    """SHA-256 of pyproject.toml and constraints.txt"""
    torch_index: str
    """address of the index that torch came from, or `PIP`"""

    @staticmethod
    def read(path: Path) -> Stamp | None:
        """The stamp in a file, or None where there is none that can be read."""
        try:
            return Stamp(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Write the stamp so that a reader sees all of it or nothing."""
        half = path.with_suffix(".new")
        half.write_text(json.dumps(asdict(self), indent=2) + "\n")
        half.replace(path)


def make_env(root: Path, *, python_chosen: bool, torch_index: str | None) -> None:
    """Create, repair or bring up to date `root/.venv`; do nothing where it already fits.

    Args:
        root: the checkout.
        python_chosen: whether the user asked for this very Python; a `.venv` of another version is then remade.
        torch_index: address of an index to take torch from, `PIP`, or None for what was chosen last time.

    Raises:
        subprocess.CalledProcessError: venv or pip failed.
    """
    venv = root / ".venv"
    stamp = venv / "sparsity-lab-stamp.json"
    with _locked(root / ".venv.lock"):
        recorded = Stamp.read(stamp)
        index = torch_index or (recorded.torch_index if recorded else default_torch_index())
        present = recorded.torch_index if recorded else PIP
        wanted = Stamp(_hash_of_inputs(root), index)
        usable = _is_usable(venv, python_chosen=python_chosen)
        if usable and recorded is None:
            usable = all(is_whole(site) for site in venv.glob("lib/python*/site-packages"))
        if usable and recorded == wanted:
            return
        stamp.unlink(missing_ok=True)
        if not usable:
            _say("creating .venv")
            base = getattr(sys, "_base_executable", sys.executable)
            subprocess.run([base, "-m", "venv", "--clear", str(venv)], check=True)
        _install(root, index, switch_torch=usable and present != index)
        wanted.write(stamp)
        _say("the environment is ready")


def default_torch_index() -> str:
    """PyTorch's CPU index on a Linux without an NVIDIA driver, if it answers at once; else pip's own indexes."""
    if sys.platform != "linux" or shutil.which("nvidia-smi"):
        return PIP
    if _answers(CPU_INDEX):
        return CPU_INDEX
    _say(f"{CPU_INDEX} does not answer: torch comes from where pip looks (on PyPI: the larger CUDA build)")
    return PIP


def is_whole(site_packages: Path) -> bool:
    """Whether every installed package has all its files: an interrupted pip leaves some that do not."""
    if any(site_packages.glob("~*")):  # pip's name for a package that it was about to remove
        return False
    return all(_is_complete(info) for info in site_packages.glob("*.dist-info"))


def _is_complete(info: Path) -> bool:
    record = info / "RECORD"
    if not (record.is_file() and (info / "INSTALLER").is_file()):
        return False
    with record.open(newline="") as rows:
        return all(_has_size(info.parent / row[0], row[2]) for row in csv.reader(rows) if not row[0].endswith(".pyc"))


def _has_size(path: Path, size: str) -> bool:
    try:
        return not size or path.stat().st_size == int(size)
    except OSError:
        return False


def _is_usable(venv: Path, *, python_chosen: bool) -> bool:
    version = _version_of(venv / "bin" / "python")
    if version is None or (python_chosen and version != _short_version()):
        return False
    return _was_made_at(venv)


def _was_made_at(venv: Path) -> bool:
    # Scripts in bin/ carry the folder's name; in a checkout that was moved or copied they lead elsewhere.
    try:
        lines = (venv / "pyvenv.cfg").read_text().splitlines()
    except OSError:
        return False
    return any(line.startswith("command = ") and line.endswith(f" {venv}") for line in lines)


def _short_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _version_of(python: Path) -> str | None:
    code = "import sys, pip; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([str(python), "-I", "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _install(root: Path, torch_index: str, *, switch_torch: bool) -> None:
    _say("installing what pyproject.toml and constraints.txt ask for (a minute or two, 1.8 GB)")
    # pip 26 resolves in a third of the time of Python 3.11's own; setuptools builds the project below, pinned, where
    # pip's isolated build would take any
    _pip(root, ["pip", "setuptools"])
    if torch_index != PIP or switch_torch:
        source = [] if torch_index == PIP else ["--index-url", torch_index]
        force = ["--force-reinstall"] if switch_torch else []
        _pip(root, ["--no-deps", *force, *source, "torch"])
    _pip(root, ["--no-build-isolation", "--editable", ".[dev]"])
    compile_packages(root / ".venv" / "bin" / "python", *(root / ".venv").glob("lib/python*/site-packages"))


def compile_packages(python: Path, *site_packages: Path) -> None:
    """Compile what is installed on all cores, which pip does on one; packages' own tests are left out.

    Some packages have files that are no Python of this version: as pip does, they are passed over.
    """
    command = [str(python), "-I", "-m", "compileall", "-qq", "-j", "0", "-x", r"[/\\]tests?[/\\]"]
    subprocess.run([*command, *map(str, site_packages)], check=False)


def _pip(root: Path, arguments: Sequence[str]) -> None:
    python = root / ".venv" / "bin" / "python"
    quiet = [] if sys.stdout.isatty() else ["-qq"]  # errors alone: warnings there are about the machine's own settings
    options = ["--disable-pip-version-check", "--no-warn-script-location", "--no-compile"]
    options += ["--constraint", "constraints.txt"]
    command = [str(python), "-I", "-m", "pip", "install", *options, *arguments]
    if quiet and subprocess.run([*command, *quiet], cwd=root, check=False).returncode == 0:
        return
    subprocess.run(command, cwd=root, check=True)  # aloud: a quiet pip keeps to itself which packages conflict


def _answers(address: str) -> bool:
    # A process of its own: a name server that does not reply holds a thread longer than any socket timeout.
    code = "import sys, urllib.request as r; r.urlopen(r.Request(sys.argv[1], method='HEAD'), timeout=9)"
    command = [sys.executable, "-I", "-c", code, f"{address}/torch/"]
    try:
        subprocess.run(command, capture_output=True, timeout=PROBE_SECONDS, check=True)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        return False
    return True


def _hash_of_inputs(root: Path) -> str:
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((root / name).read_bytes() + b"\0")
    return digest.hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another make is preparing .venv; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    sys.stdout.write(f"env: {text}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and make the environment; 1 when venv or pip failed, after saying what to do."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python-chosen", action="store_true", help="remake a .venv of another Python version")
    parser.add_argument("--torch-index", help="index that offers the wished build of torch, or 'pip'")
    options = parser.parse_args(arguments)
    os.environ.pop("PYTHONHOME", None)
    try:
        make_env(ROOT, python_chosen=options.python_chosen, torch_index=options.torch_index)
    except subprocess.CalledProcessError as error:
        _say(f"failed (exit status {error.returncode}); the reason stands above. `make env` goes on from here.")
        _say("If no package fits this Python, choose another: make env PYTHON=python3.12")
        return 1
    except KeyboardInterrupt:
        _say("interrupted; `make env` goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
