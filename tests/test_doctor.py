"""The diagnosis: complete, readable in 80 columns, honest about limits, and never an exception."""

from __future__ import annotations

import os
import shutil
import sys
from functools import partial
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from typer.testing import CliRunner
from voluptuous import Invalid

from sparsity_lab import doctor
from sparsity_lab.artifacts.atomic import locked
from sparsity_lab.cli.main import app
from sparsity_lab.doctor import GIB, Check, diagnose, render, usable_cores, usable_memory

WORDS = st.text(alphabet="abc /.:", max_size=150)
CHECKS = st.builds(Check, st.sampled_from(["torch", "cores"]), WORDS, st.sampled_from(["ok", "warn", "fail"]), WORDS)


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tree of control groups (version 2), this process in /outer/inner."""
    (tmp_path / "sys" / "outer" / "inner").mkdir(parents=True)
    (tmp_path / "cgroup").write_text("0::/outer/inner\n")
    monkeypatch.setattr(doctor, "PROC_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(doctor, "CGROUPS", tmp_path / "sys")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path / "sys"


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without torch, which is also diagnosed sooner."""
    monkeypatch.setitem(sys.modules, "torch", None)


def find(checks: tuple[Check, ...], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def test_this_machine_can_run_the_pipeline() -> None:
    checks = diagnose()
    assert [check.name for check in checks if check.state == "fail"] == []
    assert {"Python", "cores", "memory", "disk", "torch", "accelerator", "dvc"} <= {check.name for check in checks}
    assert float(find(checks, "matrix product").value.split()[0]) > 1


def test_measuring_leaves_the_number_of_threads_alone() -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    diagnose()
    assert torch.get_num_threads() == before


@pytest.mark.usefixtures("no_torch")
def test_a_machine_without_torch_is_told_what_to_do() -> None:
    found = find(diagnose(), "torch")
    assert (found.state, found.hint) == ("fail", "make env")


def test_without_limits_the_affinity_and_the_installed_memory_count(groups: Path) -> None:
    (groups / "outer" / "cpu.max").write_text("max 100000\n")
    (groups / "outer" / "memory.max").write_text("max\n")
    assert usable_cores() == 8
    assert usable_memory() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(("quota", "cores"), [("50000", 1), ("100000", 1), ("350000", 3), ("9900000", 8)])
def test_the_narrowest_group_above_decides_the_cores(groups: Path, quota: str, cores: int) -> None:
    (groups / "outer" / "cpu.max").write_text(f"{quota} 100000\n")
    (groups / "outer" / "inner" / "cpu.max").write_text("max 100000\n")
    assert usable_cores() == cores


def test_the_narrowest_group_above_decides_the_memory(groups: Path) -> None:
    (groups / "outer" / "memory.max").write_text(f"{GIB}\n")
    (groups / "outer" / "inner" / "memory.max").write_text(f"{2 * GIB}\n")
    assert usable_memory() == GIB
    found = find(diagnose(), "memory")
    assert found.state == "warn"
    assert "1.0 GiB" in found.value


def test_groups_of_version_1_count_too(groups: Path) -> None:
    (groups.parent / "cgroup").write_text("4:memory:/outer\n3:cpu,cpuacct:/outer\n0::/\n")
    for controller, name, text in [
        ("cpu", "cpu.cfs_quota_us", "200000"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("memory", "memory.limit_in_bytes", str(GIB)),
    ]:
        folder = groups / controller / "outer"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    assert (usable_cores(), usable_memory()) == (2, GIB)
    (groups / "cpu" / "outer" / "cpu.cfs_quota_us").write_text("-1")
    assert usable_cores() == 8


@pytest.mark.usefixtures("no_torch")
def test_a_full_and_a_missing_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find(diagnose(tmp_path / "none"), "disk").state == "fail"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=GIB, used=GIB, free=0))
    assert find(diagnose(tmp_path), "disk").state == "warn"


@pytest.mark.usefixtures("no_torch")
def test_the_dvc_repository_is_found_from_below_with_its_remotes(tmp_path: Path) -> None:
    assert find(diagnose(tmp_path), "DVC repository").state == "warn"
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "runs").mkdir()
    found = find(diagnose(tmp_path / "runs"), "DVC repository")
    assert (found.state, "no remote" in found.value) == ("ok", True)
    (tmp_path / ".dvc" / "config").write_text(
        "[core]\n    remote = shared\n['remote \"shared\"']\n    url = /mnt/100%\n"
    )
    assert find(diagnose(tmp_path), "DVC repository").value.endswith("remote: shared")
    (tmp_path / ".dvc" / "config").write_text("no section\n")
    assert "no remote" in find(diagnose(tmp_path), "DVC repository").value


def test_a_missing_program_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    found = find(diagnose(), "browser")
    assert (found.state, found.value) == ("ok", "none found")


@pytest.mark.usefixtures("no_torch")
def test_a_missing_package_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert find(diagnose(), "dvc").state == "fail"


@given(st.lists(CHECKS, max_size=5))
def test_the_table_fits_the_terminal_and_loses_no_word(checks: list[Check]) -> None:
    text = render(checks)
    assert all(len(line) <= 80 for line in text.splitlines())
    written = "".join(text.split())
    for check in checks:
        assert "".join(check.value.split()) in written
        assert check.state in text


def test_one_line_a_check_where_there_is_room() -> None:
    assert render([Check("cores", "2 usable"), Check("a", "b", "warn", "c")]) == (
        "ok    cores  2 usable\nwarn  a      b\n             -> c"
    )


LOCK = """schema: '2.0'
stages:
  prepare@tiny:
    cmd: sparsity-lab prepare "$DVC_STAGE"
    deps:
    - path: settings/tiny/prepare.json
      hash: md5
      md5: 7d6d5a7a4c5e1c9d5f2d0a8f3c1b2e4d
      size: 391
    outs:
    - path: data/tiny
      hash: md5
      md5: 12ab5a7a4c5e1c9d5f2d0a8f3c1b2e4d.dir
      size: 102391
      nfiles: 3
  report@tiny:
    cmd: sparsity-lab report "$DVC_STAGE"
    outs:
    - path: reports/tiny
      hash: md5
      md5: 99ab5a7a4c5e1c9d5f2d0a8f3c1b2e4d.dir
      size: 2391
      nfiles: 9
"""
RWLOCK = '{"write": {}, "read": {"data/tiny": [{"pid": 7, "cmd": "dvc repro"}]}}'


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A project with DVC's own files, whole."""
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    (tmp_path / ".dvc" / "tmp" / "rwlock").write_text(RWLOCK)
    (tmp_path / "dvc.lock").write_text(LOCK)
    return tmp_path


def dvc_reads(text: str) -> bool:
    """Whether DVC takes a text for a lock file."""
    try:
        COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(text))
    except (YAMLError, Invalid):
        return False
    return True


def test_a_lock_file_cut_anywhere_is_torn_where_dvc_cannot_read_it(repository: Path) -> None:
    assert dvc_reads(LOCK)
    assert doctor.torn_files(repository) == ()
    for end in range(len(LOCK)):
        (repository / "dvc.lock").write_text(LOCK[:end])
        assert bool(doctor.torn_files(repository)) or dvc_reads(LOCK[:end]), LOCK[:end]
    (repository / "dvc.lock").write_text(LOCK[: LOCK.index("  report@tiny")])
    assert doctor.torn_files(repository) == (), "a stage less is no damage"


@pytest.mark.skipif(sys.platform != "linux", reason="a file that nobody can read, for root too")
def test_a_lock_file_that_the_system_does_not_read_is_left_alone(repository: Path) -> None:
    (repository / "dvc.lock").unlink()
    (repository / "dvc.lock").symlink_to("/proc/self/mem")
    assert doctor.torn_files(repository) == doctor.mend(repository) == ()


@pytest.mark.parametrize("end", [0, 1, 30, len(RWLOCK) - 1])
def test_what_a_kill_of_dvc_left_half_written_is_put_away(repository: Path, end: int) -> None:
    rwlock, lock = repository / ".dvc" / "tmp" / "rwlock", repository / "dvc.lock"
    rwlock.write_text(RWLOCK[:end])
    lock.write_text(LOCK[:200])
    check = next(one for one in diagnose(repository) if one.name == "DVC repository")
    assert (check.state, check.hint) == ("fail", "sparsity-lab doctor --mend")
    with locked(rwlock.with_name("lock")) as held:  # as DVC holds it
        assert held
        assert "another DVC is at work" in doctor.mend(repository)[0]
    assert [line.partition(" was")[0] for line in doctor.mend(repository)] == [".dvc/tmp/rwlock", "dvc.lock"]
    assert not rwlock.exists()
    assert not lock.exists()
    assert (rwlock.with_name("dvc.lock.torn")).read_text() == LOCK[:200]
    assert doctor.mend(repository) == ()


def test_the_command_mends_and_does_nothing_else(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    ask = partial(CliRunner().invoke, app, ["doctor", "--mend"])
    assert ask().output == "DVC's own files are whole\n"
    (repository / "dvc.lock").write_text("")
    assert ask().output == "dvc.lock was left half-written by a kill: moved to .dvc/tmp/dvc.lock.torn\n"
