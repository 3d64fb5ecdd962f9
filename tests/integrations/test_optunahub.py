"""The folder for OptunaHub: what its registry asks for, loaded as it loads, under Optuna's own tests of samplers."""

from __future__ import annotations

import importlib.util
import re
import runpy
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType

import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase, RelativeSamplerTestCase
from ruamel.yaml import YAML

REGISTRY = Path(__file__).parents[2] / "integrations" / "optunahub" / "package"
FOLDER = REGISTRY / "samplers" / "law"
README = (FOLDER / "README.md").read_text(encoding="utf-8")


def load(package: str, registry_root: str = str(REGISTRY)) -> ModuleType:
    """As `optunahub.load_local_module`: the folder's `__init__.py`, under a name of its own."""
    path = Path(registry_root) / package / "__init__.py"
    spec = importlib.util.spec_from_file_location("hub_package", path, submodule_search_locations=[str(path.parent)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """An `optunahub` that knows this one folder."""
    stand_in = ModuleType("optunahub")
    stand_in.load_module = stand_in.load_local_module = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "optunahub", stand_in)
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_the_front_matter_says_what_the_registry_asks_for() -> None:
    assert README.startswith("---\n")
    matter = YAML(typ="safe").load(README.split("---\n")[1])
    assert set(matter) == {"author", "title", "description", "tags", "optuna_versions", "license"}
    assert all(isinstance(matter[name], str) and matter[name] for name in ("author", "title", "description", "license"))
    assert all(isinstance(tag, str) for tag in matter["tags"])
    assert "sampler" in matter["tags"]
    assert metadata.version("optuna") in matter["optuna_versions"]
    headings = re.findall(r"^## (.+)$", README, flags=re.MULTILINE)
    assert headings == ["Abstract", "Class or Function Names", "Installation", "Example", "Others"]


def test_the_folder_has_what_the_registry_asks_for_and_a_whole_license() -> None:
    assert {path.name for path in FOLDER.iterdir()} - {"__pycache__"} == {
        "LICENSE",
        "README.md",
        "__init__.py",
        "example.py",
        "requirements.txt",
    }
    assert (FOLDER / "LICENSE").read_bytes() == (Path(__file__).parents[2] / "LICENSE").read_bytes()
    assert (FOLDER / "requirements.txt").read_text().split() == ["sparsity-lab"]


def test_every_class_that_the_readme_names_is_there() -> None:
    module = load("samplers/law")
    (named,) = re.findall(r"## Class or Function Names\n\n- (\w+)\n", README)
    assert issubclass(getattr(module, named), BaseSampler)
    assert all(hasattr(module, name) for name in {*module.__all__, *re.findall(r"\blaw\.(\w+)", README)})


@pytest.mark.slow
@pytest.mark.usefixtures("hub")
def test_the_example_of_the_readme_and_the_file_do_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102
    medians = [float(value) for value in capsys.readouterr().out.strip(" []\n").split()]
    runpy.run_path(str(FOLDER / "example.py"))
    told = [float(value) for value in re.findall(r"optimal sparsity (\S+)", capsys.readouterr().out)]
    assert told == pytest.approx(medians, abs=0.006)
    assert told == pytest.approx([0.6, 0.7], abs=0.05)


@pytest.mark.slow
class TestAsASampler(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    """Optuna's own conformance tests, of the class as the hub loads it."""

    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        law = load("samplers/law")
        targets = law.Targets.of(8.5e7, [1.6e10, 6.4e10], law.SparseSchedule())
        return lambda: law.LawSampler(targets, start=0, sparsity="x", budget="y")
