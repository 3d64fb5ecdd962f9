"""Check that the package, pyproject.toml and the top entry of CHANGELOG.md name one version."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from datetime import date
from pathlib import Path

HEADING = re.compile(r"^## (?P<title>.+)$", re.MULTILINE)
ENTRY = re.compile(r"\[(?P<version>[^\]]+)\] - (?P<when>\S+)")
ASSIGNED = re.compile(r'^__version__ = "(?P<version>[^"]+)"$', re.MULTILINE)


def find_faults(root: Path) -> Iterator[str]:
    """Yield one sentence for everything that does not agree; nothing where all is well.

    Args:
        root: the folder that holds pyproject.toml, CHANGELOG.md and sparsity_lab/.
    """
    declared = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    assigned = ASSIGNED.search((root / "sparsity_lab" / "__init__.py").read_text())
    if assigned is None or assigned["version"] != declared:
        yield f"sparsity_lab/__init__.py says {assigned and assigned['version']}, pyproject.toml {declared}"
    heading = HEADING.search((root / "CHANGELOG.md").read_text())
    entry = ENTRY.fullmatch(heading["title"]) if heading else None
    if entry is None:
        yield f"the top entry of CHANGELOG.md must read '## [{declared}] - unreleased' or end in a date"
        return
    if entry["version"] != declared:
        yield f"CHANGELOG.md begins with {entry['version']}, pyproject.toml says {declared}"
    if entry["when"] != "unreleased" and not _is_date(entry["when"]):
        yield f"CHANGELOG.md: {entry['when']!r} is neither a date (YYYY-MM-DD) nor 'unreleased'"


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def main() -> int:
    """Print every fault; 1 when there is one."""
    faults = list(find_faults(Path(__file__).resolve().parents[1]))
    sys.stdout.writelines(f"changelog: {fault}\n" for fault in faults)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
