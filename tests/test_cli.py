"""The command line: what it prints, and that bad input ends with exit code 2 and one error on stderr."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
from projects import (
    GRID_RUNS,
    bare,
    cli,
    command,
    documents,
    edit,
    environment,
    finished,
    one_error,
    prepared,
    program,
    quick,
    records,
    shared,
    trained,
    under_way,
    until,
    until_gone,
    workers_of,
)
from ruamel.yaml import YAML
from typer.testing import CliRunner

from sparsity_lab.artifacts.paths import STEPS
from sparsity_lab.cli.main import app, asked

__all__ = ["bare", "documents", "finished", "prepared", "quick", "shared", "trained"]

pytestmark = pytest.mark.usefixtures("quick")

ROOT = Path(__file__).parents[1]
ABOUT_A_STUDY = (*STEPS, "run", "plan", "runs list", "runs verify")


def test_help_and_version(tmp_path: Path) -> None:
    assert "prepare" in program(tmp_path, "--help").stdout
    assert program(tmp_path, "--version").stdout.strip().count(".") == 2


def options_with_values() -> list[tuple[str, ...]]:
    """Every option of every command that takes a value, after the command's words."""

    def below(one: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for name, inner in getattr(one, "commands", {}).items():
            yield from below(inner, (*words, name))
        for option in one.params if words else ():
            if option.param_type_name == "option" and not option.is_flag:
                yield from ((*words, flag) for flag in option.opts)

    return list(below(typer.main.get_command(app), ()))


def test_no_option_takes_an_empty_value_for_one_that_is_left_out(tmp_path: Path) -> None:
    every = options_with_values()
    assert len(every) > 100
    for *words, flag in every:
        for given in ([flag, ""], [f"{flag}="]) if flag.startswith("--") else ([flag, ""],):
            told = one_error(cli(tmp_path, *words, *given, code=2))
            assert told == f"{flag}: is empty (found '', expected a value, or the option left out)", words


@pytest.mark.slow
def test_help_dvc_and_run_name_the_same_steps_in_the_same_order(trained: Path) -> None:
    helps = [typer.main.get_command(app).commands[step].help for step in STEPS]  # type: ignore[attr-defined]
    assert [told.partition(":")[0] for told in helps] == [f"Step {number}" for number in range(1, len(STEPS) + 1)]
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    assert stages.pop("settings")["do"]["cmd"] == 'sparsity-lab spec split "$DVC_STAGE"'
    assert {name: stage["do"]["desc"] for name, stage in stages.items()} == dict(STEPS)
    assert list(stages) == list(STEPS)
    seconds = {"measure": " --seconds 15"}
    commands = [f'sparsity-lab {step} "$DVC_STAGE"{seconds.get(step, "")}' for step in STEPS]
    assert [stage["do"]["cmd"] for stage in stages.values()] == commands
    cli(trained, "run", "tiny", "--seconds", "1")
    told = json.loads((trained / "reports/tiny/report.json").read_bytes())
    assert told["commands"] == ["make repro", *(f"sparsity-lab {step} tiny" for step in STEPS)]
    assert (trained / "hardware/tiny.json").is_file()


def test_help_starts_without_torch_and_the_like(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['sparsity-lab', '--help']; from sparsity_lab.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'optuna', 'pyarrow', 'scipy', 'numpy', 'matplotlib', 'pydantic'}\n"
        "print('loaded', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "loaded []"


@pytest.mark.parametrize("command", ["law", "law gain", "fit", "plan", "doctor", "search run", "nothing", ""])
def test_a_command_made_alone_says_of_itself_what_it_says_among_all(command: str) -> None:
    words = command.split()
    alone = asked(words)
    told, meant = (CliRunner().invoke(one, [*words, "--help"], prog_name="x") for one in (alone, app))
    assert (told.exit_code, told.output) == (meant.exit_code, meant.output)
    assert (alone is app) == (command in {"nothing", ""})


def test_a_plan_starts_without_torch(finished: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from sparsity_lab.stages.plan import plan_study; from sparsity_lab.stages.workspace import open_workspace\n"
        "import sparsity_lab.stages.train, sparsity_lab.stages.fit, sparsity_lab.stages.report\n"
        f"plan_study(open_workspace('tiny', Path({str(finished)!r})))\n"
        "print('torch' in sys.modules, 'optuna' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"


@pytest.mark.parametrize("what", ABOUT_A_STUDY)
def test_a_study_that_is_not_there_is_named_with_those_that_are(bare: Path, what: str) -> None:
    message = one_error(cli(bare, *what.split(), "nothing", code=2))
    assert "no such study (found 'nothing', expected a file, or one of: " in message
    assert "tiny" in message


@pytest.mark.parametrize("what", [step for step in STEPS if step != "prepare"])
def test_a_step_before_its_data_names_the_command(bare: Path, what: str) -> None:
    message = one_error(cli(bare, what, "tiny", code=2))
    assert message.endswith("does not exist yet; make it with: sparsity-lab prepare tiny")


def test_a_source_that_is_not_there(bare: Path) -> None:
    edit(bare, "datasets/words", source__path="/nowhere/at/all")
    assert "/nowhere/at/all" in one_error(cli(bare, "prepare", "tiny", code=2))


def test_an_empty_source(bare: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "documents.json").write_text("", encoding="utf-8")
    edit(bare, "datasets/words", source__path=str(tmp_path / "empty"))
    assert "empty" in one_error(cli(bare, "prepare", "tiny", code=2))
    assert not (bare / "data/tiny/manifest.json").exists()


@pytest.mark.parametrize(
    "content", ["{", "a: [1", "\tx: 1", "- 1", "", "just words", "\x00", "version: 1\nkind: study"]
)
def test_a_study_file_that_says_nothing_sensible(bare: Path, content: str) -> None:
    path = bare / "specs/studies/tiny.yaml"
    path.write_text(content, encoding="utf-8")
    assert "specs/studies/tiny.yaml" in one_error(cli(bare, "plan", "tiny", code=2))


def test_every_problem_of_a_spec_names_file_line_and_field(bare: Path) -> None:
    edit(bare, "studies/tiny", grid__sparsity=[0, 1], grid__colour="red")
    done = cli(bare, "spec", "check", code=2)
    lines = (bare / "specs/studies/tiny.yaml").read_text(encoding="utf-8").splitlines()
    colour = next(number for number, line in enumerate(lines, 1) if "colour" in line)
    assert f"specs/studies/tiny.yaml:{colour}: grid.colour: unknown field" in done.stderr
    assert "grid.sparsity" in one_error(done)


@pytest.mark.parametrize("workers", ["0", "-1", "two"])
@pytest.mark.parametrize("step", ["train", "plan"])
def test_workers_must_be_a_positive_number(bare: Path, step: str, workers: str) -> None:
    done = cli(bare, step, "tiny", "--workers", workers, code=2)
    assert "--workers" in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


@pytest.mark.parametrize(
    "arguments",
    ["nonsense", "train", "spec schema nonsense", "runs verify tiny --retrain -1", "plan tiny --nonsense", "spec show"],
)
def test_usage_errors(bare: Path, arguments: str) -> None:
    done = cli(bare, *arguments.split(), code=2)
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


@pytest.mark.parametrize("name", ["nothing", "/", "/nowhere", "*", ".."])
def test_a_run_that_is_not_there(bare: Path, name: str) -> None:
    assert "names not one run" in one_error(cli(bare, "runs", "show", name, code=2))


@pytest.mark.parametrize("name", ["nothing.yaml", "specs", "specs/studies"])
def test_a_spec_that_is_no_file(bare: Path, name: str) -> None:
    assert name in one_error(cli(bare, "spec", "show", name, code=2))


@pytest.mark.parametrize("kind", ["model", "dataset", "regime", "study", "law"])
def test_a_schema_is_a_schema_and_takes_our_own_specs(bare: Path, kind: str) -> None:
    schema = json.loads(cli(bare, "spec", "schema", kind).stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    folder = {"study": "studies"}.get(kind, f"{kind}s")
    files = list((bare / "specs" / folder).glob("*.yaml"))
    assert files or kind == "law"
    for file in files:
        tree = json.loads(file.read_text(encoding="utf-8"))
        jsonschema.validate(tree, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(tree | {"nonsense": 1}, schema)


def test_show_fills_in_every_default(bare: Path) -> None:
    spec = json.loads(cli(bare, "spec", "show", "specs/regimes/gradual.yaml").stdout)
    assert spec["schedule"] == {
        "kind": "cubic",
        "start": 0.25,
        "end": 0.75,
        "every": 100,
        "minimum_updates": 4,
        "power": 3.0,
    }
    assert spec["pattern"] == {"kind": "unstructured", "within": "tensor"}


def test_runs_as_json(finished: Path) -> None:
    listed = json.loads(cli(finished, "runs", "list", "tiny", "--json").stdout)
    everyone = records(finished) | records(finished, "search/tiny")
    assert {record["fingerprint"]: record for record in listed} == everyone
    name = min(everyone)
    assert json.loads(cli(finished, "runs", "show", name[:12]).stdout) == everyone[name]


def test_a_loss_that_is_no_number_is_still_json(trained: Path) -> None:
    name = min(records(trained))
    path = trained / "runs/tiny" / name / "record.json"
    told = {"loss": "NaN", "status": "diverged", "reason": "é\x9b2J𝄞"}
    path.write_text(json.dumps(json.loads(path.read_bytes()) | told))

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    shown = json.loads(cli(trained, "runs", "show", name).stdout, parse_constant=refuse)
    listed = json.loads(cli(trained, "runs", "list", "tiny", "--json").stdout, parse_constant=refuse)
    assert (shown["loss"], shown["reason"]) == ("NaN", told["reason"])
    assert cli(trained, "runs", "show", name).stdout.isascii()
    assert shown in listed


def test_another_folder_is_reached_with_root(finished: Path, tmp_path: Path) -> None:
    plan = json.loads(cli(tmp_path, "plan", "tiny", "--root", str(finished), "--json").stdout)
    assert [run["done"] for run in plan["runs"]] == [True] * GRID_RUNS
    assert "0 runs" in cli(tmp_path, "plan", "tiny", "--root", str(finished)).stdout
    assert not list(tmp_path.glob("*/runs"))


def test_a_study_is_also_named_by_its_file(finished: Path) -> None:
    assert cli(finished, "plan", "specs/studies/tiny.yaml").stdout == cli(finished, "plan", "tiny").stdout


def test_a_tampered_record_is_found(trained: Path) -> None:
    name = min(records(trained))
    path = trained / "runs/tiny" / name / "record.json"
    record = json.loads(path.read_bytes())
    path.write_text(json.dumps(record | {"spec": record["spec"] | {"seed": 99}}), encoding="utf-8")
    assert name in one_error(cli(trained, "runs", "verify", "tiny", code=2))


@pytest.mark.parametrize(
    ("place", "step"),
    [
        ("runs/tiny", "fit"),
        ("search/tiny.json", "report"),
        ("laws/tiny/frantar.json", "report"),
        ("specs/studies/tiny.yaml", "plan"),
    ],
)
def test_a_pipe_where_a_file_should_be_is_said_to_be_no_file(
    finished: Path, tmp_path: Path, place: str, step: str
) -> None:
    root = shutil.copytree(finished, tmp_path / "project", symlinks=True)
    path = root / place if (root / place).is_file() else root / place / min(records(root)) / "record.json"
    path.unlink()
    os.mkfifo(path)
    assert f"{path.name}: is no file" in one_error(cli(root, step, "tiny", code=2))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
def test_output_that_cannot_be_written_is_one_error(finished: Path) -> None:
    buffered = {name: value for name, value in environment().items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        asked = command("runs", "list", "tiny", "--json")
        done = subprocess.run(
            asked, cwd=finished, env=buffered, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_ctrl_c_stops_everything_and_says_what_is_kept(prepared: Path) -> None:
    edit(prepared, "studies/tiny", grid__data=[30_000_000])
    sweep = subprocess.Popen(
        command("train", "tiny", "--workers", "2"),
        cwd=prepared,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - a shell's `&` ignores it
    )
    until(lambda: len(under_way(prepared)) == 2, what="two runs are under way")
    processes = workers_of(sweep.pid)
    os.killpg(sweep.pid, signal.SIGINT)  # what a terminal does
    _, said = sweep.communicate(timeout=300)
    assert sweep.returncode == 130
    assert said.splitlines()[-1].startswith("interrupted: finished runs are kept")
    assert "Traceback" not in said
    until_gone(processes)


@pytest.fixture
def read_only(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """A project on a file system that takes no writes."""
    root = tmp_path / "disk"
    root.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", root], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        shutil.copytree(finished, root / "project")
        subprocess.run(["mount", "-o", "remount,ro", root], check=True)
        yield root / "project"
    finally:
        subprocess.run(["umount", "-l", root], check=True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts a tmpfs")
@pytest.mark.parametrize("step", ["prepare", "train", "search", "fit", "report"])
def test_a_read_only_folder_is_said_in_one_line(read_only: Path, step: str) -> None:
    message = one_error(cli(read_only, step, "tiny", code=2))
    assert "cannot be written: no permission" in message
    assert "\n" not in message


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts a tmpfs")
def test_a_read_only_folder_can_be_looked_at(read_only: Path) -> None:
    assert "0 runs" in cli(read_only, "plan", "tiny").stdout
    assert "frantar" not in cli(read_only, "runs", "list", "tiny").stdout
    assert "every fingerprint is that of its spec and data" in cli(read_only, "runs", "verify", "tiny").stdout


def write_runs(path: Path) -> Path:
    """A grid of runs that follow a law, with other names and units, one run that failed and one given twice."""
    rows = ["zeros,params_m,steps,val/loss"]
    for sparsity in (0.0, 0.5, 0.75):
        for millions in (1.3, 5.2, 20.8, 83.2):
            for steps in (1_000, 4_000, 16_000):
                size = (12 * (1 - sparsity) ** 0.9 + 30) * (millions * 1e6) ** -0.25
                loss = size + (6e7 / (steps * 65_536)) ** 0.35 + 0.9
                rows.append(f"{100 * sparsity},{millions},{steps},{loss * (1 + 1e-3 * (-1) ** len(rows)):.6f}")
    path.write_text("\n".join([*rows, rows[-1], "0,1.3,2000,"]) + "\n", encoding="utf-8")
    return path


COLUMNS = "sparsity=zeros/100,nonzero=params_m*1e6,data=steps*65536,loss=`val/loss`"


def test_a_fit_of_a_file_counts_what_it_left_out_and_writes_a_law_that_answers(tmp_path: Path) -> None:
    path = write_runs(tmp_path / "runs.csv")
    quick = ("--starts", "8", "--bootstrap", "20")
    done = cli(tmp_path, "fit", str(path), "--columns", COLUMNS, *quick, "--out", "law.json", "--json")
    said = json.loads(done.stdout)
    assert (said["runs"], said["excluded"]) == (36, {"no-loss": 1, "given-twice": 1})
    assert said["laws"]["frantar"]["fit"]["converged"]
    law = json.loads((tmp_path / "law.json").read_text(encoding="utf-8"))
    assert law["provenance"]["excluded"] == said["excluded"]
    (row,) = json.loads(cli(tmp_path, "law", "predict", "law.json", "-n", "5.2M", "-d", "262M", "--json").stdout)[
        "rows"
    ]
    assert row["loss_low"] < row["loss"] < row["loss_high"]
    text = cli(tmp_path, "fit", str(path), "--columns", COLUMNS, *quick, "--where", "zeros < 60").stdout
    assert "left out: 13 by the filter; 1 without a finite loss" in " ".join(text.split())


def test_a_fit_of_a_study_with_options_leaves_its_laws_alone(trained: Path) -> None:
    before = (trained / "laws/tiny/chinchilla.json").read_bytes()
    said = json.loads(cli(trained, "fit", "tiny", "--form", "chinchilla", "--bootstrap", "5", "--json").stdout)
    assert list(said["laws"]) == ["chinchilla"]
    assert said["source"] == "tiny"
    assert (trained / "laws/tiny/chinchilla.json").read_bytes() == before
    assert "chinchilla" in cli(trained, "law", "show", "tiny/chinchilla").stdout


def test_figures_of_a_fit(tmp_path: Path) -> None:
    path = write_runs(tmp_path / "runs.csv")
    cli(tmp_path, "fit", str(path), "--columns", COLUMNS, "--starts", "8", "--bootstrap", "10", "--plots", "figures")
    drawn = {figure.stem for figure in (tmp_path / "figures").glob("*.png")}
    assert {"predicted-frantar", "residuals-frantar", "loss-frantar", "contours-frantar", "gains"} <= drawn
