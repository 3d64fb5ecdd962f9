"""Command lines and environment variables that do not belong together."""

from __future__ import annotations

import random
from collections.abc import Sequence

from attacks.victims import STUDY

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
)


def flags(chance: random.Random, study: str = STUDY) -> Sequence[str]:
    """A command with options and values that do not belong there."""
    call = [study if word == STUDY else word for word in chance.choice(COMMANDS)]
    for _ in range(chance.choice((1, 1, 2, 3))):
        match chance.choice(("option", "option", "value", "replace", "drop")):
            case "option":
                call += [chance.choice(OPTIONS), chance.choice(VALUES)]
            case "value":
                call.append(chance.choice(VALUES))
            case "replace":
                call[chance.randrange(1, len(call)) if len(call) > 1 else 0] = chance.choice(VALUES)
            case _:
                del call[-1]
    return [word.replace("\x00", "") for word in call] or ["--help"]


def variable(chance: random.Random) -> tuple[str, str]:
    """An environment variable that the program reads, and a value."""
    return chance.choice(VARIABLES), chance.choice(VALUES).replace("\x00", "")
