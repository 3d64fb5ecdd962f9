"""The README's Python does what it says, on the study that it names, made smaller."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALLER = {
    "  data: [20_000, 40_000, 80_000]": "  data: [20_000, 40_000]",
    "  budgets: [20_000, 40_000, 80_000]": "  budgets: [20_000, 40_000]",
    "  trials: 2": "  trials: 1",
    "  starts: 16": "  starts: 8",
    "  bootstrap: 50": "  bootstrap: 8\n  forms: [frantar]",
}


@pytest.mark.slow
def test_the_lines_of_the_readme_run_from_spec_to_optimal_sparsity(tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    assert len([line for line in code.splitlines() if line and "import" not in line]) <= 10
    shutil.copytree(ROOT / "specs", tmp_path / "specs")
    study = tmp_path / "specs" / "studies" / "smoke.yaml"
    text = study.read_text()
    for old, new in SMALLER.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    study.write_text(text)
    (tmp_path / "readme.py").write_text(code)
    command = [sys.executable, "-W", "error::RuntimeWarning", "readme.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    optima = [float(value) for value in done.stdout.splitlines()[-1].strip("[]").split()]
    assert len(optima) == 3
    assert all(0 <= optimum < 1 for optimum in optima)
