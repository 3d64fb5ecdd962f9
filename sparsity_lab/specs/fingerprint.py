"""The identity of a run: SHA-256 of what decides its numbers, and of nothing else.

Device, number of workers, paths and names never enter. Whatever has no stable textual form is refused
rather than guessed at.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sparsity_lab.specs.base import Spec
from sparsity_lab.specs.runs import RunOrigin, RunSpec

ENGINE_VERSION = 1
"""Raised when training or pruning changes a run's numbers: every run is then new."""


def canonical_json(value: Spec | dict[str, Any]) -> str:
    """One text for one value: defaults included, keys sorted, no white space, floats as Python's repr, -0.0 as 0.0.

    Raises:
        TypeError: something in the value has no canonical form.
        ValueError: a number is not finite.
    """
    return _text(_canonical(value.model_dump(mode="json") if isinstance(value, Spec) else value))


def digest(value: Spec | dict[str, Any], digits: int = 8) -> str:
    """A short name for a value: the first hexadecimal digits of the SHA-256 of its canonical text."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:digits]


def fingerprint(run: RunSpec, data_hash: str, engine: int = ENGINE_VERSION) -> str:
    """64 hexadecimal digits that name a run in every store."""
    identity = {"run": run.model_dump(mode="json"), "data": data_hash, "engine": engine}
    try:
        text = _text(identity)  # canonical as it is, but for what would be refused and for -0.0: four times as quick
    except ValueError:
        text = "-0.0"
    return hashlib.sha256((canonical_json(identity) if "-0.0" in text else text).encode()).hexdigest()


@dataclass(frozen=True)
class NamedRuns:
    """Runs by their fingerprints, each once, in the order in which they were asked for."""

    runs: Mapping[str, RunSpec]
    origin_names: Mapping[str, str]
    """fingerprints of the runs that some begin with, by the fingerprints of those that do"""

    def origins(self, names: Iterable[str]) -> dict[str, RunSpec]:
        """The runs that those of these names begin with, by fingerprint."""
        starts = {name: self.runs[name].origin for name in names}
        return {self.origin_names[name]: start.run for name, start in starts.items() if isinstance(start, RunOrigin)}


def name_runs(runs: Iterable[RunSpec], data_hash: str) -> NamedRuns:
    """Name the runs of a study, which are trained on the data of this hash."""
    named = {fingerprint(run, data_hash): run for run in runs}
    begun = {name: run.origin.run for name, run in named.items() if isinstance(run.origin, RunOrigin)}
    names = {run: fingerprint(run, data_hash) for run in dict.fromkeys(begun.values())}
    return NamedRuns(named, {name: names[run] for name, run in begun.items()})


def _text(tree: Any) -> str:
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _canonical(tree: Any) -> Any:
    match tree:
        case dict():
            return {_key(key): _canonical(value) for key, value in tree.items()}
        case list() | tuple():
            return [_canonical(value) for value in tree]
        case float():
            return _finite(tree) + 0.0  # equal numbers have one form: -0.0 + 0.0 = 0.0
        case None | bool() | int() | str():
            return tree
        case _:
            raise TypeError(f"{type(tree).__name__} has no canonical form")


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key must be text to have a canonical form, found {key!r}")
    return key


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError(f"{number!r} has no canonical form")
    return number
