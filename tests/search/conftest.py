"""Simulated runs, and a database server where there is one, for every test of this room."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
