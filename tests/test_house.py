"""What the house promises: imports that stay light, gates that can fail, an environment that mends itself."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from types import ModuleType

import pytest
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "optuna", "pandas", "transformers", "matplotlib", "scipy.optimize", "pyarrow", "dvc")


def loaded_by(statement: str) -> set[str]:
    code = f"import json, sys\n{statement}\nprint(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


check_changelog = load_script("check_changelog")
check_names = load_script("check_names")
make_env = load_script("make_env")


def test_the_measurement_itself_sees_a_heavy_import() -> None:
    assert loaded_by("import optuna") >= {"optuna"}


def test_the_command_line_starts_without_anything_heavy() -> None:
    assert loaded_by("import sparsity_lab.cli") == set()


def test_laws_are_numpy_and_scipy_only() -> None:
    assert loaded_by("import sparsity_lab.laws") <= {"scipy.optimize"}


@pytest.mark.parametrize("room", ["errors", "specs.loading", "artifacts.store", "doctor"])
def test_the_lower_floors_start_without_torch(room: str) -> None:
    assert loaded_by(f"import sparsity_lab.{room}") <= {"pyarrow"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')
    (tmp_path / "constraints.txt").write_text("six==1.17.0\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [1.2.0] - 2026-11-23\n\n- x\n\n## [1.1.0] - 2026-01-01\n")
    (tmp_path / "sparsity_lab").mkdir()
    (tmp_path / "sparsity_lab" / "__init__.py").write_text('__version__ = "1.2.0"\n')
    return tmp_path


def test_one_version_everywhere_passes(project: Path) -> None:
    assert list(check_changelog.find_faults(project)) == []
    text = (project / "CHANGELOG.md").read_text().replace("2026-11-23", "unreleased")
    (project / "CHANGELOG.md").write_text(text)
    assert list(check_changelog.find_faults(project)) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "complaint"),
    [
        ("pyproject.toml", "1.2.0", "1.3.0", "pyproject.toml 1.3.0"),
        ("sparsity_lab/__init__.py", "1.2.0", "1.2.1", "says 1.2.1"),
        ("sparsity_lab/__init__.py", "__version__", "version", "says None"),
        ("CHANGELOG.md", "[1.2.0]", "[1.2.9]", "begins with 1.2.9"),
        ("CHANGELOG.md", "2026-11-23", "2026-11-32", "neither a date"),
        ("CHANGELOG.md", "2026-11-23", "soon", "neither a date"),
        ("CHANGELOG.md", "## [1.2.0] - 2026-11-23", "## Next", "must read"),
        ("CHANGELOG.md", "## ", "", "must read"),
    ],
)
def test_every_disagreement_about_the_version_is_found(
    project: Path, name: str, old: str, new: str, complaint: str
) -> None:
    text = (project / name).read_text()
    assert old in text
    (project / name).write_text(text.replace(old, new))
    faults = list(check_changelog.find_faults(project))
    assert any(complaint in fault for fault in faults), faults


def test_a_name_with_several_meanings_is_found_unless_it_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("class _Row: ...\nTable = int\nLIMIT = 1\nclass Attention: ...\n")
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "two.py").write_text("Row = int\nclass Tables: ...\nLIMIT = 2\nclass Attention: ...\n")
    assert list(check_names.find_faults(tmp_path, {"Attention", "Gone"})) == [
        "Row means several things: one.py:1, room/two.py:1",
        "Gone is allowed in scripts/check_names.py for nothing",
    ]
    assert list(check_names.find_faults(tmp_path, {"Attention", "Row"})) == []


@pytest.fixture
def site_packages(tmp_path: Path) -> Path:
    info = tmp_path / "six-1.17.0.dist-info"
    info.mkdir()
    (tmp_path / "six.py").write_text("x = 1\n")
    (info / "INSTALLER").write_text("pip\n")
    (info / "RECORD").write_text("six.py,sha256=x,6\n__pycache__/six.pyc,,\nsix-1.17.0.dist-info/RECORD,,\n")
    return tmp_path


def test_a_whole_package_is_seen_as_whole(site_packages: Path) -> None:
    assert make_env.is_whole(site_packages)


@pytest.mark.parametrize("name", ["six.py", "six-1.17.0.dist-info/INSTALLER", "six-1.17.0.dist-info/RECORD"])
def test_a_missing_file_is_seen(site_packages: Path, name: str) -> None:
    (site_packages / name).unlink()
    assert not make_env.is_whole(site_packages)


def test_a_torn_file_and_a_half_removed_package_are_seen(site_packages: Path) -> None:
    (site_packages / "~ix").mkdir()
    assert not make_env.is_whole(site_packages)
    (site_packages / "~ix").rmdir()
    (site_packages / "six.py").write_text("x")
    assert not make_env.is_whole(site_packages)


def test_packages_are_compiled_but_for_their_tests_and_what_is_no_python(tmp_path: Path) -> None:
    for name in ("one/a.py", "one/broken.py", "one/tests/b.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n" if "broken" not in name else "x = (\n")
    make_env.compile_packages(Path(sys.executable), tmp_path)
    assert [path.name.partition(".")[0] for path in tmp_path.rglob("*.pyc")] == ["a"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"inputs": "x"}', '{"inputs": "x", "torch_index": "y", "z": 1}'])
def test_a_stamp_that_cannot_be_read_counts_as_none(tmp_path: Path, content: str) -> None:
    stamp = tmp_path / "stamp.json"
    assert make_env.Stamp.read(stamp) is None
    stamp.write_text(content)
    assert make_env.Stamp.read(stamp) is None


def test_a_stamp_survives_the_disk(tmp_path: Path) -> None:
    stamp = make_env.Stamp(inputs="abc", torch_index="pip")
    stamp.write(tmp_path / "stamp.json")
    assert make_env.Stamp.read(tmp_path / "stamp.json") == stamp
    assert [path.name for path in tmp_path.iterdir()] == ["stamp.json"]


def test_every_pin_is_exact_and_none_names_a_build_of_torch() -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(pin.count("==") == 1 and "+" not in pin for pin in pins)
    assert "torch" in {pin.split("==")[0] for pin in pins}


def test_every_pin_is_for_the_first_release_of_the_oldest_python_too() -> None:
    """Debian's 3.11.2 is a Python 3.11 as well: a package that asks for a later one cannot be installed there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = project["requires-python"].removeprefix(">=") + ".0"
    pinned = [line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    asked = {one.metadata["Name"]: one.metadata.get("Requires-Python") for one in distributions()}
    normal = {canonicalize_name(name): wanted for name, wanted in asked.items() if wanted}
    late = {
        name: normal[name]
        for name in map(canonicalize_name, pinned)
        if name in normal and not SpecifierSet(normal[name]).contains(oldest)
    }
    assert not late


def named_modules() -> list[tuple[str, str]]:
    """Every module that a document names in backticks, such as `laws/forms/named.py`."""
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found = [(path.name, name) for path in documents for name in re.findall(r"`([\w/]+/\w+\.py)`", path.read_text())]
    assert found
    return found


@pytest.mark.parametrize(("document", "name"), named_modules())
def test_documents_name_modules_that_are_there(document: str, name: str) -> None:
    assert (ROOT / name).is_file() or (ROOT / "sparsity_lab" / name).is_file(), f"{document} names {name}"
