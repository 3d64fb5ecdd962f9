"""Check that a class or type alias of the package has a name of its own, so that a name means one thing everywhere."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

ALLOWED: dict[str, str] = {}
"""names that several places may define, each with the reason"""


def find_faults(package: Path, allowed: Collection[str] = tuple(ALLOWED)) -> Iterator[str]:
    """Yield one sentence for every name with several meanings, and for every allowed one that has them no more.

    Args:
        package: the folder of the package.
        allowed: names that may have several.
    """
    places = defaultdict(list)
    for path in sorted(package.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for name in _defined(node):
                places[name].append(f"{path.relative_to(package)}:{node.lineno}")
    several = {name: found for name, found in places.items() if len(found) > 1}
    yield from (f"{name} means several things: {', '.join(several[name])}" for name in sorted({*several} - {*allowed}))
    yield from (f"{name} is allowed in scripts/check_names.py for nothing" for name in sorted({*allowed} - {*several}))


def _defined(node: ast.stmt) -> Iterator[str]:
    """A class without its underscore, or an alias: a capitalised name that is no constant."""
    match node:
        case ast.ClassDef(name=name):
            yield name.lstrip("_")
        case ast.Assign(targets=[ast.Name(id=name)]) if name[0].isupper() and not name.isupper():
            yield name


def main() -> int:
    """Print every fault; 1 when there is one."""
    faults = list(find_faults(Path(__file__).resolve().parents[1] / "sparsity_lab"))
    sys.stdout.writelines(f"names: {fault}\n" for fault in faults)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
