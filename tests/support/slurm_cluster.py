"""A private SLURM cluster on loopback: munged, one controller, and a few nodes of one core, all of this machine."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from projects import until

from sparsity_lab.specs.compute import Compute

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "setpriv")
SEARCHED = f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin"
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
JobRequeue=1
SlurmdTimeout=300
InactiveLimit=0
MinJobAge=300
KillWait=30
SchedulerParameters=sched_interval=1,batch_sched_delay=1
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports[1]}-{last}] CPUs=1
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass
class Cluster:
    """The daemons, by what they are."""

    folder: Path
    nodes: int
    blind: Path | None = None
    """a folder that its nodes do not see"""
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def configuration(self) -> Path:
        """What every program of this cluster is told by SLURM_CONF."""
        return self.folder / "slurm.conf"

    def start(self) -> None:
        """Start everything, and wait until all nodes are there."""
        for folder in ("state", "spool"):
            (self.folder / folder).mkdir(parents=True)
        self.folder.chmod(0o755)
        key = self.folder / "key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        ports = free_ports(self.nodes)
        text = CONFIGURATION.format(
            host=socket.gethostname(), folder=self.folder, nodes=self.nodes, ports=ports, last=ports[-1]
        )
        self.configuration.write_text(text)
        places = [f"--{name}-file={self.folder}/munge.{name}" for name in ("pid", "seed", "log")]
        self.begin(
            "munged", "munged", "--force", "-F", f"--key-file={key}", f"--socket={self.folder}/munge.socket", *places
        )
        until((self.folder / "munge.socket").exists, 30, "munged listens")
        self.start_controller()
        for number in range(1, self.nodes + 1):
            self.begin_node(number)
        until(lambda: self.said("sinfo", "-h", "-o", "%t %D") == f"idle {self.nodes}", 60, "all nodes are idle")

    def start_controller(self) -> None:
        """Start the controller, from its state where it has one."""
        self.begin("slurmctld", "slurmctld", "-D")

    def begin_node(self, number: int) -> None:
        """Start a node's daemon."""
        self.begin(f"n{number}", "slurmd", "-D", "-N", f"n{number}")

    def lose(self, node: str) -> None:
        """Kill a node's daemon and all that runs on it."""
        self.kill(node)
        for process in self.processes():
            with contextlib.suppress(OSError):
                if f"SLURMD_NODENAME={node}\0" in Path(f"/proc/{process}/environ").read_text():
                    os.kill(process, signal.SIGKILL)

    def begin(self, name: str, program: str, *arguments: str) -> None:
        """Start a daemon that dies with this process."""
        found = shutil.which(program, path=SEARCHED)
        assert found is not None
        dying = ["setpriv", "--pdeathsig", "KILL"]
        command = [*dying, found, *arguments]
        if self.blind is not None and program == "slurmd":
            hidden = f"mount -t tmpfs none '{self.blind}' && exec \"$@\""
            command = [
                "setpriv",
                "--pdeathsig",
                "KILL",
                "unshare",
                "--mount",
                "sh",
                "-c",
                hidden,
                "sh",
                found,
                *arguments,
            ]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self.environment(),
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """End a daemon as a crash would."""
        daemon = self.daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def stop(self) -> None:
        """End all jobs, then all daemons, then whatever should be left of them."""
        if "slurmctld" in self.daemons and self.said("squeue", "-h"):
            self.said("scancel", "--user=root")
            with contextlib.suppress(AssertionError):
                until(lambda: not self.said("squeue", "-h"), 15)
        for name in reversed(list(self.daemons)):
            self.kill(name)
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        until(lambda: not self.processes(), 20, "no process of the cluster is left")

    def environment(self) -> dict[str, str]:
        """Variables for programs that are to find this cluster."""
        return {**os.environ, "SLURM_CONF": str(self.configuration)}

    def said(self, *command: str) -> str:
        """What a program of SLURM prints."""
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=60, check=False)
        return done.stdout.strip()

    def processes(self) -> list[int]:
        """What runs for this cluster: its daemons' children, jobs, and their workers."""
        mine, found = f"SLURM_CONF={self.configuration}".encode(), []
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if int(place.name) != os.getpid() and mine in (place / "environ").read_bytes().split(b"\0"):
                    found.append(int(place.name))
        return [process for process in found if not _is_zombie(process)]

    def training(self) -> list[int]:
        """The processes that train, or are about to."""
        return self._running("spawn_main")

    def waiting(self) -> list[int]:
        """The processes that claim runs and have them trained."""
        return self._running("submitit.core._submit")

    def ranks(self) -> dict[str, int]:
        """The process that trains a run together with others on a node, by the node's name."""
        found = {}
        for process in self._running("--task"):
            with contextlib.suppress(OSError):
                variables = dict(
                    line.partition("=")[::2] for line in Path(f"/proc/{process}/environ").read_text().split("\0")
                )
                found[variables["SLURMD_NODENAME"]] = process
        return found

    def _running(self, word: str) -> list[int]:
        found = []
        for process in self.processes():
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
                if b"python" in line[0] and any(word.encode() in part for part in line):
                    found.append(process)
        return found

    def tasks(self) -> dict[str, str]:
        """State by name of every task that SLURM has not done with."""
        lines = self.said("squeue", "-h", "--array", "-o", "%i %T").splitlines()
        return {line.split()[0]: line.split()[1] for line in lines}


def compute(at_once: int, **options: str) -> Compute:
    """A compute file for so many tasks."""
    engine = {"kind": "slurm", "workers": at_once, "options": options}
    return Compute.model_validate({"version": 1, "kind": "compute", "engine": engine})


@contextlib.contextmanager
def slurm_cluster(folder: Path, nodes: int = 3, blind: Path | None = None) -> Iterator[Cluster]:
    """A cluster as long as the context lasts, on this process's path; skips the test where Debian's packages lack."""
    missing = [program for program in PROGRAMS if shutil.which(program, path=SEARCHED) is None]
    if missing or os.getuid() != 0:
        pytest.skip(f"needs Debian's slurm-wlm and munge, and root ({', '.join(missing) or 'not root'})")
    cluster = Cluster(folder, nodes, blind)
    try:
        cluster.start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", str(cluster.configuration))
            yield cluster
    finally:
        cluster.stop()


def free_ports(nodes: int) -> list[int]:
    """A port for the controller, and as many for nodes, which lie side by side."""
    while True:
        first = 20_000 + secrets.randbelow(12_000)
        ports = list(range(first, first + nodes + 1))
        if all(map(_is_free, ports)):
            return ports


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0


def _is_zombie(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
