"""Lets this room use the tiny project, whatever folder pytest starts in."""

from __future__ import annotations

import pytest
from projects import bare, documents, finished, prepared, quick, shared, trained

__all__ = ["bare", "documents", "finished", "prepared", "quick", "shared", "trained"]


@pytest.fixture(autouse=True)
def _quick(quick: None) -> None:
    """Commands that a test starts as processes have workers all the same."""
