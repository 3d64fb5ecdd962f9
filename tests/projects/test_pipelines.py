"""`dvc repro` takes a new project from its specs to the answer."""

from __future__ import annotations

import json
import random
import re
import shlex
from pathlib import Path

import pytest
from checkouts import dvc
from projects import WORDS, cli
from ruamel.yaml import YAML

from sparsity_lab.projects import create_project
from sparsity_lab.projects.create import TemplateName

pytestmark = pytest.mark.slow

SMALLER = {
    "nonzero: [2_560, 5_120, 10_240]": "nonzero: [2_560, 5_120]",
    "sparsity: [0, 0.5, 0.75]": "sparsity: [0, 0.5]",
    "data: [240_000, 480_000, 960_000]": "data: [8_000, 16_000]",
    "data: [480_000], seeds: [1, 2]": "data: [8_000], seeds: [1]",
    "every: 250": "every: 10",
}


def test_a_study_of_one_s_own_texts_ends_in_a_report(tmp_path: Path) -> None:
    made = create_project(tmp_path / "mine", "own-data").root
    (made / "my-texts").mkdir()
    for number in range(60):
        words = random.Random(number).choices(WORDS, k=1000)  # noqa: S311
        (made / "my-texts" / f"{number}.txt").write_text(" ".join(words))
    path = made / "specs" / "studies" / "own.yaml"
    text = path.read_text()
    for old, new in SMALLER.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text[: text.index("search:")] + "law: {starts: 8, bootstrap: 8, forms: [chinchilla]}\n")
    (made / "dvc.yaml").write_text((made / "dvc.yaml").read_text().replace("--seconds 15", "--seconds 1"))
    dvc(made, "repro")
    assert (made / "reports/own/index.html").stat().st_size > 10_000
    assert len(list((made / "runs/own").glob("*/record.json"))) == 10
    assert "up to date" in dvc(made, "status")


TINY = {
    "text": (("python-stdlib-bytes", {"maximum_bytes": 400_000}), [2_560, 5_120], [8_000, 16_000]),
    "vision": (("glyphs", {"classes": 8, "examples": 3_000}), [2_800, 6_000], [2_000, 4_000]),
}
"""what is changed of each template's source, and its grid"""


@pytest.mark.parametrize("template", ["text", "vision"])
def test_a_quickstart_of_a_new_project_ends_in_a_law_and_a_report(tmp_path: Path, template: TemplateName) -> None:
    made = create_project(tmp_path / "mine", template).root
    (dataset, source), sizes, data = TINY[template]
    yaml, study = YAML(), f"quickstart-{template}"
    changed = made / "specs" / "datasets" / f"{dataset}.yaml"
    tree = yaml.load(changed)
    tree["source"] |= source
    yaml.dump(tree, changed)
    changed = made / "specs" / "studies" / f"{study}.yaml"
    tree = yaml.load(changed)
    tree["training"]["evaluation"] = {"examples": 16, "curve_examples": 8, "every": 10}
    again = {"nonzero": sizes[:1], "sparsity": [0], "data": data[:1], "seeds": [1]}
    tree["grid"] |= {"nonzero": sizes, "sparsity": [0, 0.5], "data": data, "replicates": [again]}
    tree["law"] = {"starts": 8, "bootstrap": 8, "forms": ["chinchilla"]}
    del tree["search"]
    yaml.dump(tree, changed)
    (made / "dvc.yaml").write_text((made / "dvc.yaml").read_text().replace("--seconds 15", "--seconds 1"))
    dvc(made, "repro")
    assert (made / "reports" / study / "index.html").stat().st_size > 10_000
    assert json.loads((made / "laws" / study / "chinchilla.json").read_text())["form"] == "chinchilla"
    assert len(list((made / "runs" / study).glob("*/record.json"))) == 9
    assert "up to date" in dvc(made, "status")


def test_a_table_of_runs_ends_in_a_law_and_the_readme_s_commands_work(tmp_path: Path) -> None:
    made = create_project(tmp_path / "mine", "laws-only").root
    (made / "dvc.yaml").write_text((made / "dvc.yaml").read_text().replace("--bootstrap 100", "--bootstrap 10"))
    dvc(made, "repro")
    assert len(json.loads((made / "optimal.json").read_text())["rows"]) == 3
    assert "up to date" in dvc(made, "status")
    commands = re.findall(r"^    sparsity-lab (.*?)(?: +#.*)?$", (made / "README.md").read_text(), flags=re.MULTILINE)
    assert len(commands) == 7
    for command in commands:
        if not command.startswith("fit"):  # the pipeline's own, which ran
            cli(made, *shlex.split(command))
    assert f"sparsity-lab {commands[0]}" in (made / "dvc.yaml").read_text().replace(
        "--bootstrap 10 ", "--bootstrap 100 "
    )
