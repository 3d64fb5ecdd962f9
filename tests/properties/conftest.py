"""Lets the tests of this room import `spec_strategies`, whatever folder pytest starts in."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
