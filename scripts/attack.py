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
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from attacks.flags import flags, variable
from attacks.kills import STEPS, kill_step
from attacks.runner import BAD, Outcome, copied, own, prepare_imports, run
from attacks.victims import LAST_MADE, STUDY, Victim, make_project, victims

KINDS = ("specs", "tables", "documents", "weights", "sources", "storages", "flags", "environment")
HEAD = ("done", "refused", *BAD)
SHOWN = 12
"""faults of each kind that are told in full"""


@dataclass(frozen=True)
class Campaign:
    """Inputs by their numbers."""

    project: Path
    folder: Path
    """of the copy that is attacked"""
    seed: int
    every: tuple[Victim, ...]
    study: str = STUDY

    def attack(self, kind: str, number: int) -> tuple[str, Outcome]:
        """One input: what was done, and what became of it."""
        chance = random.Random(f"{self.seed} {kind} {number}")  # noqa: S311
        root = copied(self.project, self.folder)
        if kind == "flags":
            call = flags(chance, self.study)
            return " ".join(call), run(call, root, ())
        if kind == "environment":
            name, value = variable(chance)
            return f"{name}={value!r}", run(("plan", self.study), root, (), {name: value})
        victim = chance.choice([one for one in self.every if one.kind == kind])
        said = chance.choice(victim.mutate)(own(root / victim.path), chance)
        call = chance.choice(victim.commands)
        outcome = run(call, root, victim.names, must_refuse=said.startswith(victim.refuse or ("\0",)))
        return f"{victim.path}: {said}; {' '.join(call)}", outcome


def attack_kind(campaign: Campaign, kind: str, inputs: int) -> int:
    """Attack one kind of input and print its line of the table; how many faults were found."""
    found: Counter[str] = Counter()
    faults: list[str] = []
    for number in range(inputs):
        did, outcome = campaign.attack(kind, number)
        found[outcome.verdict] += 1
        if outcome.verdict in BAD:
            last = (outcome.said.strip().splitlines() or [""])[-1]
            faults.append(f"  {kind} {number}: {outcome.verdict} ({outcome.code}): {did[:160]}\n      {last[:200]}")
    print(f"{kind:<12} {found.total():>6}  " + "  ".join(f"{found[name]:>10}" for name in HEAD), flush=True)
    print("".join(f"{fault}\n" for fault in faults[:SHOWN]), end="", flush=True)
    return len(faults)


def attack_steps(project: Path, folder: Path, kills: int, seed: int) -> int:
    """Kill steps and print the table; how many faults were found."""
    names = ("lost", "doubled", "different", "orphans", "failed")
    print(f"\n{'step':<12} {'kills':>6}  " + "  ".join(f"{name:>10}" for name in names), flush=True)
    bad = 0
    for step in STEPS:
        toll = kill_step(step, project, folder, kills // len(STEPS), random.Random(f"{seed} {step}"))  # noqa: S311
        counts = (toll.lost, toll.doubled, toll.different, toll.orphans, len(toll.failed))
        print(f"{step:<12} {toll.kills:>6}  " + "  ".join(f"{count:>10}" for count in counts), flush=True)
        print("".join(f"  {line}\n" for line in toll.failed[:SHOWN]), end="", flush=True)
        bad += sum(counts)
    return bad


def main() -> int:
    """Parse, attack, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=2000, help="mutated inputs, in equal parts of every kind")
    parser.add_argument("--kills", type=int, default=20, help="kill -9 of steps of the smoke study, in equal parts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=KINDS, action="append", help="these kinds alone")
    parser.add_argument("--input", type=int, help="one input of the only kind, told in full")
    parser.add_argument("--project", type=Path, help="keep the attacked project here, and use it again")
    asked = parser.parse_args()
    kinds = tuple(asked.only or KINDS)
    with tempfile.TemporaryDirectory(prefix="attack-") as scratch:
        project = (asked.project or Path(scratch) / "project").absolute()
        if not (project / LAST_MADE).is_file():
            print("making the project that is attacked: a smoke study, and inputs of every kind", flush=True)
            make_project(project)
        prepare_imports()
        campaign = Campaign(project, Path(scratch) / "attacked", asked.seed, victims(project))
        if asked.input is not None:
            did, outcome = campaign.attack(kinds[0], asked.input)
            print(f"{did}\n{outcome.verdict}, exit {outcome.code}, {outcome.seconds:.1f} s\n{outcome.said}")
            return outcome.verdict in BAD
        print(f"{'kind':<12} {'inputs':>6}  " + "  ".join(f"{name:>10}" for name in HEAD), flush=True)
        bad = sum(attack_kind(campaign, kind, asked.inputs // len(kinds)) for kind in kinds if asked.inputs)
        if asked.kills:
            bad += attack_steps(project, Path(scratch) / "killed", asked.kills, asked.seed)
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
