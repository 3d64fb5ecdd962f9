"""Run the notebooks of docs/ in a project of their own and write down what their cells show (make notebooks)."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "docs/notebooks"
OF_CODE = "code_sha256"
"""field of a notebook's metadata: the code whose outputs it holds"""
Cell = dict[str, Any]


def main() -> None:
    """Run each notebook that was given, or all of them."""
    paths = [Path(name).resolve() for name in sys.argv[1:]] or sorted(NOTEBOOKS.glob("*.ipynb"))
    for path in paths:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        with _project():
            outputs = list(run(code_cells(notebook)))
        for count, (cell, made) in enumerate(zip(code_cells(notebook), outputs, strict=True), start=1):
            cell |= {"outputs": made, "execution_count": count}
        notebook["metadata"][OF_CODE] = code_sha256(notebook)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")


def code_cells(notebook: Mapping[str, Any]) -> list[Cell]:
    """The cells that are run."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def code_sha256(notebook: Mapping[str, Any]) -> str:
    """Of all code, as outputs know it."""
    code = "\0".join("".join(cell["source"]) for cell in code_cells(notebook))
    return hashlib.sha256(code.encode()).hexdigest()


def run(cells: Sequence[Cell]) -> Iterator[list[dict[str, Any]]]:
    """Run cells in one namespace and give each one's outputs, as nbformat 4 has them."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cells, start=1):
        tree = ast.parse("".join(cell["source"]))
        last: Any = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(tree, "notebook", "exec"), names)  # noqa: S102 - our own notebooks
            value = None if last is None else eval(compile(ast.Expression(last.value), "notebook", "eval"), names)  # noqa: S307
        outputs: list[dict[str, Any]] = []
        if printed.getvalue():
            outputs.append({"output_type": "stream", "name": "stdout", "text": _lines(printed.getvalue())})
        if value is not None:
            data = {"text/plain": _lines(repr(value))}
            if hasattr(value, "_repr_html_"):
                data["text/html"] = _lines(value._repr_html_())
            shown = {"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": data}
            outputs.append(shown)
        yield outputs


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


@contextlib.contextmanager
def _project() -> Iterator[None]:
    """A folder that has this checkout's specs and nothing else."""
    with TemporaryDirectory() as folder, contextlib.chdir(folder):
        shutil.copytree(ROOT / "specs", "specs")
        yield


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
