"""Lets this room use the tiny project, whatever folder pytest starts in."""

from __future__ import annotations

from projects import bare, documents, finished, prepared, quick, shared, trained

__all__ = ["bare", "documents", "finished", "prepared", "quick", "shared", "trained"]
