"""Inputs by their numbers: what each does, what became of it, and the ledger that a campaign goes on from."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

from attacks.flags import flags, surroundings, variable
from attacks.project import STUDY
from attacks.runner import BAD, Outcome, Shot, compared, run
from attacks.victims import Victim

KINDS = (
    *("specs", "tables", "documents", "weights", "checkpoints", "shards", "sources", "tokenizers", "storages"),
    *("flags", "environment", "surroundings"),
)
WEIGHTS = {"checkpoints": 0.05, "shards": 0.1, "surroundings": 0.2}
"""shares of a campaign's inputs, where 1 is that of a kind whose input costs a tenth of a CPU second"""
HEAD = ("done", "refused", *BAD)
SHOWN = 12
"""faults of each kind that are told in full"""
CANARY = "OOPS"
"""a file that hostile text makes where it is executed, or where its path is followed"""
ANEW = 50
"""of so many inputs one is given to the program itself as well"""
KEPT = 400
"""characters of a fault's last words in the ledger"""


@dataclass(frozen=True)
class Told:
    """One line of a campaign's ledger."""

    seed: int
    kind: str
    number: int
    verdict: str
    code: int
    cpu: float
    """seconds"""
    anew: bool
    """the program itself was asked as well, or alone"""
    did: str = ""
    """of a fault: what was changed"""
    last: str = ""
    """of a fault: the end of what was said"""


@dataclass(frozen=True)
class Campaign:
    """The attacked project, and what chance does to copies of it."""

    project: Path
    folder: Path
    """of the copy that is attacked"""
    seed: int
    every: tuple[Victim, ...]
    study: str = STUDY

    def attack(self, kind: str, number: int) -> tuple[str, Outcome]:
        """One input, of one of `KINDS`: what was done, and what became of it."""
        shot, alone = self.aim(kind, number), kind == "surroundings"
        outcome = self._fire(shot, anew=alone)
        if is_anew(kind, number) and not alone:
            outcome = compared(outcome, self._fire(self.aim(kind, number), anew=True))
        return shot.did, outcome

    def aim(self, kind: str, number: int) -> Shot:
        """Make the copy and change it, as this number says."""
        chance = random.Random(f"{self.seed} {kind} {number}")
        root = copied(self.project, self.folder)
        if kind == "flags":
            call = flags(chance, self.study)
            return Shot(" ".join(call), call)
        if kind == "environment":
            name, value = variable(chance)
            return Shot(f"{name}={value!r}", ("plan", self.study), variables={name: value})
        if kind == "surroundings":
            return surroundings(chance, self.study)
        victim = chance.choice([one for one in self.every if one.kind == kind])
        said = chance.choice(victim.mutate)(own(root / victim.path), chance)
        call = chance.choice(victim.commands)
        refuse = said.startswith(victim.refuse or ("\0",))
        return Shot(f"{victim.path}: {said}; {' '.join(call)}", call, victim.names, must_refuse=refuse)

    def _fire(self, shot: Shot, *, anew: bool) -> Outcome:
        outcome = run(shot, self.folder, anew=anew)
        canaries = [*self.folder.rglob(f"{CANARY}*"), *self.folder.parent.glob(f"{CANARY}*")]
        for path in canaries:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        return replace(outcome, verdict="accepted", errors=f"made {canaries}") if canaries else outcome


def is_anew(kind: str, number: int) -> bool:
    """Whether the program itself is asked, as well as a child or, in other surroundings, alone."""
    return kind == "surroundings" or number % ANEW == 0


def attacked(campaign: Campaign, inputs: int, kinds: Sequence[str], ledger: Path | None) -> Iterator[Told]:
    """Attack with so many inputs, shared out among kinds by `WEIGHTS`, but for those in the ledger; all are given.

    The kinds take turns: a campaign that is stopped has asked each its share.
    """
    known = {(told.seed, told.kind, told.number): told for told in (read(ledger) if ledger else ())}
    weights = {kind: WEIGHTS.get(kind, 1.0) for kind in kinds}
    counts = {kind: round(inputs * weight / sum(weights.values())) for kind, weight in weights.items()}
    turns = sorted(((number + 1) / count, kind, number) for kind, count in counts.items() for number in range(count))
    for _, kind, number in turns:
        told = known.get((campaign.seed, kind, number))
        if told is None:
            told = _told(campaign, kind, number)
            if ledger:
                with ledger.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(told)) + "\n")
        yield told


def _told(campaign: Campaign, kind: str, number: int) -> Told:
    did, outcome = campaign.attack(kind, number)
    cpu, anew = round(outcome.cpu, 3), is_anew(kind, number)
    kept = (campaign.seed, kind, number, outcome.verdict, outcome.code, cpu, anew)
    if outcome.verdict not in BAD:
        return Told(*kept)
    return Told(*kept, did[:KEPT], (outcome.errors.strip() or outcome.said.strip())[-KEPT:])


def read(ledger: Path) -> Iterator[Told]:
    """What a campaign did so far; nothing where none was begun."""
    if ledger.is_file():
        lines = ledger.read_text(encoding="utf-8").splitlines()
        yield from (Told(**json.loads(line)) for line in lines)


def table(every: Iterable[Told]) -> Iterator[str]:
    """Lines of the table, and the faults of each kind."""
    told = list(every)
    yield f"{'kind':<12} {'inputs':>6}  " + "  ".join(f"{name:>10}" for name in HEAD) + f"  {'anew':>6}  {'CPU s':>8}"
    for kind in dict.fromkeys(one.kind for one in told):
        of_kind = [one for one in told if one.kind == kind]
        found = Counter(one.verdict for one in of_kind)
        sums = f"  {sum(one.anew for one in of_kind):>6}  {sum(one.cpu for one in of_kind):>8.1f}"
        yield f"{kind:<12} {len(of_kind):>6}  " + "  ".join(f"{found[name]:>10}" for name in HEAD) + sums
        for one in islice((one for one in of_kind if one.verdict in BAD), SHOWN):
            yield f"  --seed {one.seed} --only {kind} --input {one.number}: {one.verdict} ({one.code}): {one.did[:160]}"
            yield f"      {' '.join(one.last.split())[-200:]}"


def copied(project: Path, folder: Path) -> Path:
    """A copy of a project whose files are links, which costs little; see `own`."""
    shutil.rmtree(folder, ignore_errors=True)
    code = shutil.ignore_patterns("sparsity_lab", ".git")
    return Path(shutil.copytree(project, folder, copy_function=os.link, symlinks=True, ignore=code))


def own(path: Path) -> Path:
    """A linked file, as one that may be changed in place."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    return path
