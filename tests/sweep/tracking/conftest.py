"""Lets this room use the tiny project, whatever folder pytest starts in."""

from __future__ import annotations

from projects import documents, finished, prepared, quick, shared, trained
from tracker_readers import fake_trackio

__all__ = ["documents", "fake_trackio", "finished", "prepared", "quick", "shared", "trained"]
