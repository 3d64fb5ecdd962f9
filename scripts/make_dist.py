"""Build the wheel and the source distribution into dist/, and try both where no checkout is.

`make dist`. The wheel is built from the source distribution, its files are held against the checkout's, and its
commands run in an empty folder of a new virtual environment; then the source distribution takes its place there. That
environment sees the packages of the one that runs this, which takes seconds; with --full it gets its own, as `pip
install` brings them, which takes minutes, and all commands are asked of the source distribution too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from email.parser import BytesParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = "sparsity_lab/specs/shipped/"
COPIES = {
    "specs/": SHIPPED,
    "dvc.yaml": "sparsity_lab/projects/shipped/dvc.yaml",
    ".dvc/plots/": "sparsity_lab/projects/shipped/.dvc/plots/",
}
"""what the package of a wheel holds a copy of, by where it lies in the checkout"""
BESIDE = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "CHANGELOG.md", "constraints.txt")
"""what a source distribution has beside the package and what it copies"""
MAKE_WEIGHTS = (
    "import torch; from safetensors.torch import save_file as s; s({'w': torch.eye(64)}, 'weights.safetensors')"
)
COMMANDS = (
    ("init", "table", "--template", "laws-only"),
    ("fit", "table/runs.csv", "--bootstrap", "4", "--starts", "8", "--out", "law.json"),
    ("law", "optimal", "law.json", "--nonzero", "20k", "--data", "1M"),
    ("law", "predict", "frantar2024-t5-c4", "--nonzero", "85M", "--data", "10B", "--sparsity", "0,0.5"),
    ("law", "list"),
    ("advise", "vit-a100"),
    ("compare", "frantar2024-vit-jft", "--hardware", "a100-2-4", "--scenario", "vit-a100"),
    ("measure", "--shapes", "64x64", "--seconds", "1", "--out", "machine.json"),
    ("inspect", "weights.safetensors"),
    ("plan", "smoke"),
    ("doctor",),
    ("init", "mine", "--template", "text"),
    ("plan", "quickstart-text", "--root", "mine"),
    ("spec", "check", "--root", "mine"),
)
"""what must work without a checkout"""
FEW = (("law", "list"), ("plan", "smoke"), ("advise", "vit-a100"))
"""of these, what is asked of the source distribution where all is not"""


def build(root: Path) -> tuple[Path, Path]:
    """The wheel and the source distribution of a checkout, made anew in its dist/.

    Raises:
        subprocess.CalledProcessError: they could not be built.
    """
    shutil.rmtree(root / "dist", ignore_errors=True)
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", str(root)], check=True, stdout=subprocess.DEVNULL)
    (wheel,), (source,) = (list((root / "dist").glob(ending)) for ending in ("*.whl", "*.tar.gz"))
    return wheel, source


def find_faults(wheel: Mapping[str, bytes], source: Mapping[str, bytes], root: Path) -> Iterator[str]:
    """Yield one sentence for everything that a distribution lacks or should not have.

    Args:
        wheel: its files by name.
        source: those of the source distribution, below its one folder.
        root: the checkout.
    """
    wanted = {path.relative_to(root).as_posix(): path for path in _files(root / "sparsity_lab")}
    shipped = {
        path.relative_to(root).as_posix().replace(own, copy, 1): path
        for own, copy in COPIES.items()
        for path in _files(root / own)
    }
    for name, path in sorted((wanted | shipped).items()):
        if wheel.get(name) != path.read_bytes():
            yield f"the wheel has {'another' if name in wheel else 'no'} {name}"
    for name in sorted(wheel):
        if ".dist-info/" not in name and name not in wanted and name not in shipped:
            yield f"the wheel has {name}, which is nowhere in the checkout"
    needed = (*(root / name for name in BESIDE), *shipped.values(), *wanted.values())
    for name in (path.relative_to(root).as_posix() for path in needed):
        if source.get(name) != (root / name).read_bytes():
            yield f"the source distribution has {'another' if name in source else 'no'} {name}"
    yield from _metadata_faults(wheel)


def _metadata_faults(wheel: Mapping[str, bytes]) -> Iterator[str]:
    (metadata,) = (content for name, content in wheel.items() if name.endswith(".dist-info/METADATA"))
    told = BytesParser().parsebytes(metadata)
    for field in (
        "Summary",
        "Author",
        "Keywords",
        "License-Expression",
        "Requires-Python",
        "Project-URL",
        "License-File",
    ):
        if not told[field]:
            yield f"the metadata says nothing of {field}"
    if told["Description-Content-Type"] != "text/markdown" or not told.get_payload():
        yield "the metadata has no page of Markdown"


def _files(folder: Path) -> Iterator[Path]:
    found = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
    return (path for path in found if path.is_file() and "__pycache__" not in path.parts)


def contents_of(wheel: Path, source: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Every file of the two, by name."""
    with zipfile.ZipFile(wheel) as packed:
        of_wheel = {name: packed.read(name) for name in packed.namelist()}
    of_source = {}
    with tarfile.open(source) as packed_source:
        for member in packed_source.getmembers():
            file = packed_source.extractfile(member) if member.isfile() else None
            if file is not None:
                of_source[member.name.partition("/")[2]] = file.read()
    return of_wheel, of_source


def install(wheel: Path, folder: Path, *, full: bool) -> Path:
    """A new virtual environment with the wheel.

    Args:
        wheel: the file.
        folder: where the environment goes.
        full: whether it gets packages of its own, or sees those of the environment that runs this.

    Returns:
        Its folder of programs.

    Raises:
        subprocess.CalledProcessError: pip failed.
    """
    venv.create(folder, with_pip=False)
    if full:
        _pip(folder, "--constraint", str(ROOT / "constraints.txt"), str(wheel))
    else:
        _pip(folder, "--no-deps", "--no-index", str(wheel))
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "environment.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder / "bin"


def replace(source: Path, folder: Path, *, full: bool) -> None:
    """Install a source distribution in place of the wheel: built as pip builds it, or by what is there already.

    Raises:
        subprocess.CalledProcessError: pip failed.
    """
    there = () if full else ("--no-index", "--no-build-isolation")
    _pip(folder, "--no-deps", "--force-reinstall", *there, str(source))


def _pip(folder: Path, *arguments: str) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, *arguments], check=True, env=_alone())


def _alone() -> dict[str, str]:
    """The environment without what would let Python find another checkout."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    return {key: value for key, value in os.environ.items() if key not in hidden}


def try_out(programs: Path, home: Path, commands: Sequence[Sequence[str]]) -> None:
    """Run commands that need no checkout, in an empty folder.

    Raises:
        SystemExit: one of them failed, or it is not what was installed that ran.
    """
    around = {**_alone(), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    python, program = str(programs / "python"), str(programs / "sparsity-lab")
    where = "import sparsity_lab.specs.files as f; print(f.__file__, f.SHIPPED)"
    for command in ([python, "-c", where], [python, "-c", MAKE_WEIGHTS], *([program, *one] for one in commands)):
        done = subprocess.run(command, cwd=home, env=around, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"dist: {' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        if command[-1] == where and any(not Path(one).is_relative_to(programs.parent) for one in done.stdout.split()):
            raise SystemExit(f"dist: not what was installed ran: {done.stdout}")
    wrong = [program, "law", "show", "nothing"]
    told = subprocess.run(wrong, cwd=home, env=around, capture_output=True, text=True, check=False)
    if told.returncode != 2 or SHIPPED + "laws" not in told.stderr:
        raise SystemExit(f"dist: an unknown law is not told with where it was looked for: {told.stderr}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, compare, try; 1 when a file is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--full", action="store_true", help="try the wheel with packages of its own, as pip brings them"
    )
    full = parser.parse_args(arguments).full
    wheel, source = build(ROOT)
    faults = list(find_faults(*contents_of(wheel, source), ROOT))
    sys.stdout.writelines(f"dist: {fault}\n" for fault in faults)
    if faults:
        return 1
    with tempfile.TemporaryDirectory(prefix="sparsity-lab-dist-") as scratch:
        homes = [Path(scratch, name) for name in ("of-wheel", "of-source")]
        for home in homes:
            home.mkdir()
        programs = install(wheel, Path(scratch, "venv"), full=full)
        try_out(programs, homes[0], COMMANDS)
        replace(source, programs.parent, full=full)
        again = COMMANDS if full else FEW
        try_out(programs, homes[1], again)
    counts = f"{len(COMMANDS)} commands of the one and {len(again)} of the other"
    sys.stdout.write(f"dist: {wheel.name} and {source.name} are whole; {counts} ran without a checkout\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
