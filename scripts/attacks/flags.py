"""Command lines and environment variables that do not belong together."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from attacks.project import STUDY
from attacks.runner import Shot, Stream

UNHEARD = (1, 120, -13)
"""how a program ends that could not say what it had to: click's, Python's, and a pipe's own way"""

COMMANDS: tuple[Sequence[str], ...] = (
    ("plan", STUDY),
    ("prepare", STUDY),
    ("fit", "inputs/runs.csv"),
    ("law", "show", "inputs/law.json"),
    ("law", "predict", "inputs/law.json", "-n", "1M", "-d", "1B"),
    ("law", "gain", "inputs/law.json"),
    ("law", "optimal", "inputs/law.json", "-n", "1M", "--ratio", "2"),
    ("runs", "list", STUDY),
    ("runs", "show", "a"),
    ("search", "status", STUDY),
    ("search", "best", STUDY),
    ("compare", STUDY),
    ("advise", "vit-a100"),
    ("spec", "check"),
    ("spec", "show", "specs/studies/smoke.yaml"),
    ("spec", "schema", "study"),
    ("inspect", "inputs/csr.safetensors"),
    ("doctor",),
)
OPTIONS = (
    "--workers",
    "--compute",
    "--seed",
    "--bootstrap",
    "--starts",
    "--where",
    "--columns",
    "--form",
    "--holdout",
    "--against",
    "--json",
    "--root",
    "--storage",
    "--trials",
    "--budget",
    "-n",
    "-d",
    "--ratio",
    "--sparsity",
    "--cost",
    "--loss",
    "--confidence",
    "--delta",
    "--data-unit",
    "--resample",
    "--suggest-runs",
    "--lang",
    "--plot",
    "--out",
    "--compare",
)
VALUES = (
    "",
    "0",
    "-1",
    "1e400",
    "nan",
    "inf",
    "9" * 400,
    "true",
    "a b",
    "../..",
    "; touch OOPS",
    "$(touch OOPS)",
    "\x1b[2J",
    "é",
    "\u2028",
    "1,2,,3",
    "1..2",
    "loss",
    "loss > 0",
    "loss ** 999999",
    "(" * 500,
    "nonzero=x*",
    "local",
    "frantar",
    "/dev/null",
    "/",
    ".",
    "inputs/runs.csv",
    "x" * 5000,
    "0.5",
    "1M",
    "10",
    "e\u0301",
    "\u202eabc\u202c",
    "\u200b",
    "\udcff",
    "-",
    "--",
    "@inputs/runs.csv",
    "/dev/zero",
    "/dev/full",
    "/proc/self/mem",
    "http://user:secret@127.0.0.1:1/x",
    "file:///etc/passwd",
    "sqlite:////dev/full",
    "0x10",
    "1_000",
    "١٢",
    "1e-400",
    "-0.0",
    "%s%n",
    "{0.__class__}",
    "specs",
    "inputs/loop",
)
VARIABLES = (
    "SPARSITY_LAB_WORKERS",
    "SPARSITY_LAB_COMPUTE",
    "SPARSITY_LAB_STORAGE",
    "DVC_STAGE",
    "COLUMNS",
    "LANG",
    "HOME",
    "TMPDIR",
    "TZ",
    "NO_COLOR",
    "FORCE_COLOR",
    "TERM",
    "XDG_CACHE_HOME",
    "MPLBACKEND",
    "MPLCONFIGDIR",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "SLURM_JOB_ID",
    "RANK",
    "WORLD_SIZE",
)
LOOKS: tuple[Sequence[str], ...] = (
    ("--help",),
    ("plan", STUDY),
    ("law", "show", "inputs/law.json"),
    ("runs", "list", STUDY),
    ("fit", "inputs/runs.csv", "--form", "chinchilla", "--bootstrap", "2", "--starts", "4"),
    ("compare", STUDY),
    ("spec", "schema", "study"),
    ("inspect", "inputs/csr.safetensors"),
    ("doctor", "--json"),
    ("report", STUDY),
    ("plan", "no-such"),
    ("plan", "\u202ex\u0301\udcff"),
)
SURROUNDINGS: tuple[Mapping[str, str | None], ...] = (
    {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "ja_JP.SJIS", "PYTHONUTF8": "0"},
    {"LC_ALL": "xx_YY.nonsense"},
    {"PYTHONIOENCODING": "ascii:strict"},
    {"PYTHONIOENCODING": "utf-16"},
    {"PYTHONIOENCODING": "shift_jis"},
    {"HOME": None, "XDG_CACHE_HOME": None},
    {"HOME": "/nonexistent"},
    {"HOME": "/dev/null"},
    {"PATH": None},
    {"PATH": ""},
    {"TERM": None, "COLUMNS": "1"},
    {"COLUMNS": "100000"},
    {"TZ": "Pacific/Kiritimati"},
    {"TZ": "nonsense/\udcff"},
    {"TMPDIR": "/nonexistent"},
    {"USER": None, "LOGNAME": None},
    {"PYTHONOPTIMIZE": "2"},
    {"PYTHONWARNINGS": "error"},
    {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"},
)
"""PYTHONWARNINGS=error is for those who test under it: a warning of a library that we call is then an error"""


def flags(chance: random.Random, study: str = STUDY) -> Sequence[str]:
    """A command with options and values that do not belong there."""
    call = [study if word == STUDY else word for word in chance.choice(COMMANDS)]
    for _ in range(chance.choice((1, 1, 2, 3))):
        match chance.choice(("option", "option", "value", "replace", "drop")):
            case "option":
                call += [chance.choice(OPTIONS), chance.choice(VALUES)]
            case "value":
                call.append(chance.choice(VALUES))
            case "replace" if call:
                call[chance.randrange(1, len(call)) if len(call) > 1 else 0] = chance.choice(VALUES)
            case _:
                del call[-1:]
    return [word.replace("\x00", "") for word in call] or ["--help"]


def surroundings(chance: random.Random, study: str = STUDY) -> Shot:
    """A sound command where its output goes nowhere, or whose locale, home or path are not the usual ones."""
    call = [study if word == STUDY else word for word in chance.choice(LOOKS)]
    streams: tuple[Stream, ...] = ("closed", "full", "broken")
    match chance.choice(("out", "err", "both", "variables")):
        case "out":
            out = chance.choice(streams)
            return Shot(f"stdout {out}: {' '.join(call)}", call, out=out, ends=UNHEARD)
        case "err":
            err = chance.choice(streams)
            return Shot(f"stderr {err}: {' '.join(call)}", call, err=err, ends=UNHEARD)
        case "both":
            stream = chance.choice(streams)
            return Shot(f"both {stream}: {' '.join(call)}", call, out=stream, err=stream, ends=UNHEARD)
        case _:
            variables = chance.choice(SURROUNDINGS)
            return Shot(f"{variables}: {' '.join(call)}", call, variables=variables)


def variable(chance: random.Random) -> tuple[str, str]:
    """An environment variable that the program reads, and a value."""
    return chance.choice(VARIABLES), chance.choice(VALUES).replace("\x00", "")
