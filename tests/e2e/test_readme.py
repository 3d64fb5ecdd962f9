"""The Python of the README, of docs/python.md and of notebooks runs, on the study that it names, made smaller."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from run_notebooks import OF_CODE, code_sha256

ROOT = Path(__file__).parents[2]
SMALLER = {
    "  data: [20_000, 40_000, 80_000]": "  data: [20_000, 40_000]",
    "  budgets: [20_000, 40_000, 80_000]": "  budgets: [20_000, 40_000]",
    "  trials: 2": "  trials: 1",
    "  starts: 16": "  starts: 8",
    "  bootstrap: 50": "  bootstrap: 8\n  forms: [frantar]",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "specs", root / "specs")
    study = root / "specs" / "studies" / "smoke.yaml"
    text = study.read_text()
    for old, new in SMALLER.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    study.write_text(text)
    return root


def blocks(name: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / name).read_text(), flags=re.MULTILINE | re.DOTALL)


def printed(root: Path, code: str) -> list[str]:
    (root / "example.py").write_text(code)
    command = [sys.executable, "-W", "error::RuntimeWarning", "example.py"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_the_lines_of_the_readme_run_from_spec_to_optimal_sparsity(project: Path) -> None:
    (code,) = blocks("README.md")
    to_law = code[: code.index("\nlaw = ")]
    assert len([line for line in to_law.splitlines() if line]) + 1 == 4
    optima = [float(value) for value in printed(project, code)[-1].strip("[]").split()]
    assert len(optima) == 3
    assert all(0 <= optimum < 1 for optimum in optima)
    guide, watching = blocks("docs/guide.md"), blocks("docs/watching.md")
    said = printed(project, "\n".join([*guide[:-1], watching[0]]))  # the last has weights of a study that keeps them
    assert said[0] == "[1.58599503 2.15678823 2.63001018]"
    assert said[3] == "14 runs, 0 to do"
    assert said[-1].startswith("14 14 ")


PAPERS_GRID = """
import csv, itertools
from sparsity_lab.laws import Law
law = Law.load("specs/laws/frantar2024-t5-c4.yaml")
with open("frantar2024-t5-c4.csv", "w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["sparsity", "nonzero", "data", "loss"])
    for S, N, D in itertools.product((0, .5, .75, .875), (1.3e6, 5.3e6, 21e6, 85e6), (16e9, 33e9, 66e9)):
        rows.writerow([S, N, D, float(law.predict(S, N, D)) * (1 + 1e-3 * (-1) ** hash((S, N, D)))])
"""
OWN_TRAINING = """
from sparsity_lab.laws import Law
law = Law.load("specs/laws/frantar2024-t5-c4.yaml")
train = law.predict
"""


@pytest.mark.parametrize(
    ("page", "before", "told"),
    [
        ("laws", PAPERS_GRID, r"(?s)^\{'filtered': 12\}\n.*\{.*'optimal_sparsity': 0\.\d.*\}$"),
        ("search", OWN_TRAINING, r"^Optima\(median=array\(\[0\.\d+, 0\.\d+\]\)"),
    ],
)
def test_the_block_of_a_page_runs_on_what_it_names(project: Path, page: str, before: str, told: str) -> None:
    (block,) = blocks(f"docs/{page}.md")
    assert re.search(told, "\n".join(printed(project, before + block)))


@pytest.mark.slow
def test_every_block_of_the_guide_to_python_runs_in_order(project: Path) -> None:
    said = printed(project, "\n".join(blocks("docs/python.md")))
    assert any(re.fullmatch(r"<PlanView smoke: \d+ runs, 0 to train, .*>", line) for line in said)
    assert said[-1] == "table: row 2: nonzero: is not a number (found 'many')"


NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))


def shown(cell: str) -> str:
    """A cell as a script: what its last line is worth is shown as a notebook shows it."""
    tree = ast.parse(cell)
    if not isinstance(tree.body[-1], ast.Expr):
        return cell
    last = ast.unparse(tree.body.pop())
    show = "if _ is not None: print('shown', (getattr(_, '_repr_html_', None) or _.__repr__)())"
    return f"{ast.unparse(tree)}\n_ = {last}\n{show}\n"


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_of_a_notebook_runs_in_order(project: Path, path: Path) -> None:
    notebook = json.loads(path.read_text())
    cells = notebook["cells"]
    assert notebook["metadata"][OF_CODE] == code_sha256(notebook), "another code than was run: make notebooks"
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    said = [line for line in printed(project, "\n".join(map(shown, code))) if line.startswith("shown ")]
    values = [cell for cell in code if isinstance(ast.parse(cell).body[-1], ast.Expr) and "print(" not in cell]
    assert len(said) == len(values)
    assert any(line.startswith("shown <") for line in said), "tables are HTML"
    held = [output["output_type"] for cell in cells for output in cell.get("outputs", ())]
    assert held.count("execute_result") == len(values), "what was shown is in the notebook"
    assert tempfile.gettempdir() not in path.read_text(), "and no folder of whoever ran it"
