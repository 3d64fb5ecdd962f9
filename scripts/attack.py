"""Attack the real command line: mutated inputs of every kind, flags, environment, and `kill -9` at random moments.

    python scripts/attack.py                            2,000 inputs and 20 kills, some ten minutes of one core
    python scripts/attack.py --inputs 10000 --kills 0   the campaign of docs/reliability.md
    python scripts/attack.py --only tables --seed 7     one kind, other mutations
    python scripts/attack.py --only tables --input 31   one input again, with what the program said

Every input is a pure function of seed and number. A command may end with 0, or with 2 and one error that names the
file; anything else is counted, told, and makes this program end with 1: tracebacks, other exit codes, more than ten CPU
seconds, a process that dies, an error that names nothing, and damage that must be refused and was not.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from attacks.campaign import KINDS, SHOWN, Campaign, Told, attacked, table
from attacks.endurance import endure, make_study
from attacks.endurance import told as told_of
from attacks.engines import ENGINES, kill_engine, make_prepared
from attacks.kills import FAULTS, STEPS, Rounds, kill_step
from attacks.project import LAST_MADE, make_killed, make_project
from attacks.runner import BAD, THREADS, prepare_imports, threads
from attacks.victims import victims

NEWS = 30.0
"""seconds between two lines that say how far a campaign is"""


def heard(every: Iterator[Told]) -> Iterator[Told]:
    """Pass on what comes, and tell faults as they come, and now and then how far it is."""
    last, count, cpu = time.monotonic(), 0, 0.0
    for told in every:
        count, cpu = count + 1, cpu + told.cpu
        if told.verdict in BAD:
            print(
                f"--seed {told.seed} --only {told.kind} --input {told.number}: {told.verdict}: {told.did}", flush=True
            )
        if time.monotonic() > last + NEWS:
            last = time.monotonic()
            print(f"{count} inputs, {count / max(cpu, 1e-9):.1f} a CPU second, now {told.kind}", flush=True)
        yield told


def attack_steps(project: Path, folder: Path, kills: int, steps: Sequence[str], rounds: Rounds) -> int:
    """Kill steps and print the table; how many faults were found."""
    print(f"\n{'step':<16} {'kills':>6}  {'late':>5}  " + "  ".join(f"{name:>10}" for name in FAULTS), flush=True)
    bad = 0
    for place, step in enumerate(steps):
        share = kills * (place + 1) // len(steps) - kills * place // len(steps)
        if step in ENGINES:
            toll = kill_engine(step, make_prepared(project, folder), folder, share, rounds)
        else:
            toll = kill_step(step, project, folder, share, rounds)
        counts = toll.counts()
        print(
            f"{step:<16} {toll.kills:>6}  {toll.late:>5}  " + "  ".join(f"{count:>10}" for count in counts), flush=True
        )
        print("".join(f"  {line}\n" for line in toll.failed[:SHOWN]), end="", flush=True)
        bad += sum(counts)
    return bad


def main() -> int:
    """Parse, attack, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=2000, help="mutated inputs of a seed, of every kind")
    parser.add_argument("--kills", type=int, default=20, help="kill -9 of steps, in equal parts")
    parser.add_argument("--step", choices=(*STEPS, *ENGINES), action="append", help="kill these alone")
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--only", choices=KINDS, action="append", help="these kinds alone")
    parser.add_argument("--input", type=int, help="one input of the only kind, told in full")
    parser.add_argument("--project", type=Path, help="keep the attacked project here, and use it again")
    parser.add_argument("--ledger", type=Path, help="write what became of each input here, and leave out those it has")
    parser.add_argument("--kill-ledger", type=Path, help="the same for rounds of kills")
    parser.add_argument(
        "--endurance", type=int, metavar="RUNS", help="so many tiny runs in one sweep, and nothing else"
    )
    parser.add_argument("--workers", type=int, default=2, help="of that sweep")
    asked = parser.parse_args()
    if any(os.environ.get(name) != count for name, count in THREADS.items()):  # libraries start theirs when imported
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | THREADS)  # noqa: S606
    with tempfile.TemporaryDirectory(prefix="attack-") as scratch:
        project = (asked.project or Path(scratch) / "project").absolute()
        if not (project / LAST_MADE).is_file():
            print("making the project that is attacked: a small study, and inputs of every kind", flush=True)
            _apart(make_project, project)  # what it starts threads for would stay in this process
            _apart(make_killed, project)
        if asked.endurance:
            root = Path(scratch) / "endured"
            shutil.copytree(project, root, symlinks=True)
            make_study(root, asked.endurance)
            print("".join(f"{line}\n" for line in told_of(*endure(root, asked.workers))), end="")
            return 0
        prepare_imports()
        if threads() > 1:
            raise RuntimeError(f"{threads()} threads, where a process that forks may have one")
        folder = Path(scratch) / "attacked" / "here"
        folder.parent.mkdir()
        campaigns = [Campaign(project, folder, seed, victims(project)) for seed in asked.seed]
        kinds = tuple(asked.only or KINDS)
        if asked.input is not None:
            did, outcome = campaigns[0].attack(kinds[0], asked.input)
            print(f"{did}\n{outcome.verdict}, exit {outcome.code}, {outcome.cpu:.1f} s\n{outcome.errors}{outcome.said}")
            return outcome.verdict in BAD
        told = [one for each in campaigns for one in heard(attacked(each, asked.inputs, kinds, asked.ledger))]
        print("".join(f"{line}\n" for line in table(told)), end="", flush=True)
        bad = sum(one.verdict in BAD for one in told)
        if asked.kills:
            killed = Path(scratch) / "killed"
            rounds = Rounds(asked.seed[0], asked.kill_ledger)
            bad += attack_steps(project, killed, asked.kills, asked.step or list(STEPS), rounds)
    return bad > 0


def _apart(make: Callable[[Path], None], root: Path) -> None:
    """Make something in a process of its own."""
    child = multiprocessing.get_context("spawn").Process(target=make, args=(root,))
    child.start()
    child.join()
    if child.exitcode:
        raise RuntimeError(f"{make.__name__} ended with {child.exitcode}")


if __name__ == "__main__":
    sys.exit(main())
