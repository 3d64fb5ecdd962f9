"""A PostgreSQL server to try searches with: `python scripts/postgresql.py`, where Debian's package is installed.

It listens on the loopback address alone, trusts everyone there, keeps its files in a temporary folder, and leaves
nothing behind. Tests and `benchmarks/storages.py` start it themselves.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))

DYING_WITH_US = ("/usr/bin/setpriv", "--pdeathsig", "QUIT")
"""starts a program that the kernel ends when its parent ends, however that comes about"""


def main() -> None:
    """Serve until Ctrl-C, or until asked to end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if reason := missing():
        sys.exit(reason)
    with server() as url, contextlib.suppress(KeyboardInterrupt):
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        signal.pause()


def missing() -> str:
    """Why no server can be used here; empty where one can."""
    if not PROGRAMS:
        return "no PostgreSQL in /usr/lib/postgresql: apt-get install postgresql"
    return "" if find_spec("psycopg") else "no driver: pip install 'sparsity-lab[postgresql]'"


@contextlib.contextmanager
def server(*, careful: bool = True) -> Iterator[str]:
    """A fresh server on this machine, listening on the loopback address alone; yields the URL of its database.

    One that is not `careful` does not wait for the disk: quicker, and safe as long as the machine runs.
    """
    programs = PROGRAMS[-1].parent
    account = pwd.getpwnam("postgres") if os.geteuid() == 0 else None  # the server refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    if account:
        os.chown(folder, account.pw_uid, account.pw_gid)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"
    user = account and account.pw_uid
    make: list[str | Path] = [
        programs / "initdb",
        "-D",
        data,
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--no-locale",
    ]
    serve: list[str | Path] = [
        programs / "postgres",
        "-D",
        data,
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "-k",
        folder,
        *([] if careful else ["-F"]),
    ]
    try:
        done = subprocess.run(make, user=user, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [*DYING_WITH_US, *serve], user=user, cwd=folder, stderr=log, start_new_session=True
            )
        try:
            _until_ready(programs, port, process, folder / "log")
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGQUIT)
            process.wait(60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _until_ready(programs: Path, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    ask: list[str | Path] = [programs / "pg_isready", "-h", "127.0.0.1", "-p", str(port), "-q"]
    while subprocess.run(ask, check=False).returncode:
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)


if __name__ == "__main__":
    main()
