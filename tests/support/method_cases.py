"""Regimes of every method for runs of two dozen steps: masks change often, in few steps."""

from __future__ import annotations

from typing import Any

CUBIC: dict[str, Any] = {"kind": "cubic", "start": 0.25, "end": 0.75, "minimum_updates": 3}
CYCLIC: dict[str, Any] = {"kind": "cyclic", "start": 0.2, "end": 0.8, "cycles": 2}
ONE_SHOT: dict[str, Any] = {"kind": "one-shot", "at": 0.4}
STATIC: dict[str, Any] = {"kind": "static"}
REFRESH: dict[str, Any] = {"every": 4, "minimum_updates": 3, "until": 0.75}
SALIENCY: dict[str, Any] = {"kind": "saliency"}

REGIMES: dict[str, dict[str, Any]] = {
    "magnitude": {"method": "masked", "schedule": CUBIC},
    "magnitude kept": {"method": "masked", "schedule": CUBIC, "optimizer_state": "kept"},
    "magnitude reset": {"method": "masked", "schedule": CUBIC, "optimizer_state": "reset"},
    "ac/dc": {"method": "masked", "schedule": CYCLIC, "allocation": {"kind": "global"}},
    "ac/dc kept": {"method": "masked", "schedule": CYCLIC, "optimizer_state": "kept"},
    "ac/dc reset": {"method": "masked", "schedule": CYCLIC, "optimizer_state": "reset"},
    "2:4": {"method": "masked", "schedule": CUBIC, "pattern": {"kind": "n:m", "n": 2, "m": 4}},
    "static random": {"method": "masked", "schedule": STATIC, "score": {"kind": "random"}},
    "snip": {"method": "masked", "schedule": STATIC, "score": {"kind": "saliency", "batches": 2}},
    "saliency": {"method": "masked", "schedule": CUBIC, "score": SALIENCY},
    "fisher": {"method": "masked", "schedule": CUBIC, "score": {"kind": "fisher", "batches": 2}},
    "wanda": {"method": "masked", "schedule": ONE_SHOT, "score": {"kind": "wanda", "batches": 2}},
    "blocks alone": {
        "method": "masked",
        "schedule": CUBIC,
        "allocation": {"kind": "uniform", "embeddings_and_head": "dense"},
    },
    "straight-through": {"method": "straight-through", "schedule": CUBIC, "refresh": REFRESH},
    "sr-ste": {"method": "straight-through", "schedule": STATIC, "decay": 0.1, "refresh": REFRESH},
    "ste saliency": {"method": "straight-through", "schedule": CYCLIC, "score": SALIENCY, "refresh": REFRESH},
    "rigl": {"method": "dynamic", "refresh": REFRESH},
    "set": {"method": "dynamic", "grow": "random", "refresh": REFRESH},
    "rigl kept": {"method": "dynamic", "refresh": REFRESH, "optimizer_state": "kept"},
    "rigl reset": {"method": "dynamic", "refresh": REFRESH, "optimizer_state": "reset"},
    "gradual rigl": {"method": "dynamic", "schedule": CUBIC, "refresh": REFRESH, "score": SALIENCY},
}


def regime(name: str, outside: str | None = None) -> dict[str, Any]:
    """The regime as a spec file would say it, with its own or the default say on embeddings and head, or another."""
    spec = {"version": 1, **REGIMES[name]}
    if outside is None:
        return spec
    return spec | {"allocation": {"kind": "uniform", **spec.get("allocation", {}), "embeddings_and_head": outside}}
