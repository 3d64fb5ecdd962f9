"""Lets this room use the tiny project, whatever folder pytest starts in."""

from __future__ import annotations

import pytest
from projects import bare, documents, finished, prepared, shared, trained, without_workers

__all__ = ["bare", "documents", "finished", "prepared", "shared", "trained", "without_workers"]


@pytest.fixture(autouse=True)
def _without_workers(without_workers: None) -> None:
    """Commands that a test starts as processes have workers all the same."""
