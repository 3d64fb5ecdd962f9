"""The guide's plug-ins, installed from its own code blocks, at work."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from regime_cases import Training, can_be, regime, zeros
from ruamel.yaml import YAML

from sparsity_lab.errors import SpecError
from sparsity_lab.hardware.layouts import sparse_formats
from sparsity_lab.laws import Law, Runs, fit, form_named, gain
from sparsity_lab.laws.forms.named import form_names
from sparsity_lab.pruning.feasibility import check_feasible, resolve_regime
from sparsity_lab.pruning.schedules import lay_out
from sparsity_lab.specs.loading import load_spec
from sparsity_lab.specs.studies import LawSpec

GUIDE = Path(__file__).parents[2] / "docs" / "plugins.md"
SHAPES = {"a": (8, 12), "b": (4, 4), "c.w": (5, 24)}
BROKEN = """
class Unversioned:
    pass

class Sparse:
    version = 1
    def nearest(self, zeros, shape):
        raise ValueError("only square matrices")
"""


def blocks() -> dict[str, str]:
    """The guide's code by file name, which its first line gives as a comment."""
    found = re.findall(r"^```\w+\n# (\S+)\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return dict(found)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on the path that holds the guide's package and a broken one, as pip leaves them."""
    folder, code = tmp_path_factory.mktemp("site"), blocks()
    project = tomllib.loads(code["pyproject.toml"])["project"]
    for module in ("sparsity_extras.py", "sparsity_extra_laws.py", "sparsity_extra_formats.py"):
        (folder / module).write_text(code[module])
    install(folder, project["name"], project["entry-points"])
    (folder / "broken_extras.py").write_text(BROKEN)
    names = {"unversioned": "broken_extras:Unversioned", "sparse": "broken_extras:Sparse", "gone": "broken_extras:Gone"}
    install(folder, "broken-extras", {"sparsity_lab.patterns": names, "sparsity_lab.scores": names})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


def install(folder: Path, name: str, groups: dict[str, dict[str, str]]) -> None:
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in names.items())
        for group, names in groups.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))


@pytest.fixture
def extras(installed: Path) -> Any:
    """The guide's regime, from its YAML."""
    path = installed / "extras.yaml"
    path.write_text(blocks()["specs/regimes/extras.yaml"])
    return load_spec(path, "regime")


def plugin(name: str, **fields: Any) -> dict[str, Any]:
    return {"kind": "plugin", "name": name, **fields}


def test_the_guide_has_all_files() -> None:
    assert set(blocks()) == {
        "pyproject.toml",
        "sparsity_extras.py",
        "sparsity_extra_laws.py",
        "test_sparsity_extra_laws.py",
        "sparsity_extra_formats.py",
        "test_sparsity_extra_formats.py",
        "specs/regimes/extras.yaml",
        "test_sparsity_extras.py",
    }
    assert YAML(typ="safe").load(blocks()["specs/regimes/extras.yaml"])["kind"] == "regime"


@pytest.mark.usefixtures("installed")
def test_the_guides_own_test_passes() -> None:
    names: dict[str, Any] = {}
    exec(compile(blocks()["test_sparsity_extras.py"], "test_sparsity_extras.py", "exec"), names)  # noqa: S102
    tests = [test for name, test in names.items() if name.startswith("test_")]
    assert len(tests) == 3
    for test in tests:
        test()


@pytest.mark.usefixtures("installed")
def test_the_guides_formats_pass_the_guides_own_test() -> None:
    names: dict[str, Any] = {}
    code = blocks()["test_sparsity_extra_formats.py"]
    exec(compile(code, "test_sparsity_extra_formats.py", "exec"), names)  # noqa: S102
    assert {"6:8", "columns"} <= set(sparse_formats())
    names["test_six_of_eight"]()
    names["test_columns"]()


@pytest.mark.usefixtures("installed")
def test_the_guides_law_form_is_one_of_ours() -> None:
    names: dict[str, Any] = {}
    exec(compile(blocks()["test_sparsity_extra_laws.py"], "test_sparsity_extra_laws.py", "exec"), names)  # noqa: S102
    names["test_teacher"]()
    form = form_named("teacher")
    assert "teacher" in form_names()
    assert LawSpec(forms=("teacher",)).forms == ("teacher",)
    truth = form.make_params({"A": 300.0, "alpha": 0.32, "B": 900.0, "beta": 0.31, "b": 0.4, "C": 1.2, "c": 0.8})
    axes = np.meshgrid([0, 0.5, 0.75], [1e7, 1e8, 1e9], [1e9, 1e10, 1e11], [2.0, 2.5, 3.0])
    S, N, D, teacher = (axis.ravel() for axis in axes)
    loss = form.predict(truth, S, N, D, further={"loss_teacher": teacher})
    fitted = fit(Runs(S, N, D, loss, others={"loss_teacher": teacher}), "teacher", starts=8)
    assert fitted.sound
    assert np.array(fitted.params) == pytest.approx(np.array(truth), rel=1e-3)
    assert gain(Law.from_fit(fitted).given(loss_teacher=2.1), 0.5) == pytest.approx(0.5 ** (-0.4 / 0.32), rel=1e-3)


def test_a_regime_of_plug_ins_prunes(extras: Any) -> None:
    sparsity, steps = 0.5, 80
    assert can_be(extras, sparsity, SHAPES)
    training = Training(extras, sparsity, SHAPES, steps)
    assert training.pruner.request(steps).needs == {"gradient"}
    for step, before in training.changes():
        level = training.pruner.ramp.sparsity_after(step)
        assert zeros(training.masks) == {
            name: int(int(level * rows * columns + 0.5) / rows + 0.5) * rows for name, (rows, columns) in SHAPES.items()
        }
        assert not any((mask & ~before[name]).any() for name, mask in training.masks.items())
    assert zeros(training.masks) == {"a": 48, "b": 8, "c.w": 60}
    mask = training.masks["b"]
    assert all(len({bool(mask[row, (row + d) % 4]) for row in range(4)}) == 1 for d in range(4)), "whole diagonals"


def test_a_plug_in_schedule_is_charged_by_its_mean(extras: Any) -> None:
    assert float(extras.schedule.mean_sparsity(0.5)) == pytest.approx(0.5 * (0.6 * 0.5 + 0.2))
    long = lay_out(extras, 0.5, 40_000)
    assert long.mean_density == pytest.approx(1 - 0.25, abs=60 / 40_000)
    assert long.sparsity_after(20_000) == pytest.approx(0.25)


def test_laid_out_regimes_name_the_installed_versions(extras: Any) -> None:
    resolved: Any = resolve_regime(extras, 0.5)
    assert (resolved.pattern.version, resolved.score.version, resolved.schedule.version) == (1, 1, 1)
    assert resolved.score.options == (("power", 0.25),)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"score": plugin("nowhere")}, "no such entry point in sparsity_lab.scores (found 'nowhere', expected "),
        ({"score": plugin("tempered", version=2)}, "is installed in another version (found 1, expected 2)"),
        ({"score": plugin("tempered", options={"heat": 1})}, "cannot be used"),
        ({"score": plugin("gone")}, "cannot be used"),
        ({"score": plugin("unversioned")}, "must carry its version (expected a whole number from 1)"),
        ({"pattern": plugin("sparse")}, "pattern: sparse does not fit a: only square matrices"),
        ({"pattern": plugin("diagonals"), "allocation": {"kind": "global"}}, "chooses tensor by tensor"),
        ({"pattern": plugin("diagonals"), "method": "dynamic"}, "cannot follow this pattern"),
    ],
)
@pytest.mark.usefixtures("installed")
def test_plug_ins_that_cannot_be_used_are_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(SpecError) as caught:
        check_feasible(regime(**fields), 0.5, SHAPES)
    assert reason in str(caught.value)
