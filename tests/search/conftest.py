"""Simulated runs, and a database server where there is one, for every test of this room."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / place) for place in ("tests/search", "scripts")]
