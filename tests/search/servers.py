"""A PostgreSQL server of its own, where Debian's package lies on this machine."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


def missing() -> str:
    """Why no server can be used here; empty where one can."""
    if not PROGRAMS:
        return "no PostgreSQL in /usr/lib/postgresql: apt-get install postgresql"
    return "" if find_spec("psycopg") else "no driver: pip install 'sparsity-lab[postgresql]'"


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """A fresh server on this machine, listening on the loopback address alone; yields the URL of its database."""
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
    make = [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale"]
    serve = [programs / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder]
    try:
        done = subprocess.run(make, user=user, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        with (folder / "log").open("w") as log:  # the server dies with its parent, however that dies
            server = subprocess.Popen(
                ["setpriv", "--pdeathsig", "QUIT", *serve], user=user, cwd=folder, stderr=log, start_new_session=True
            )
        try:
            _until_ready(programs, port, server, folder / "log")
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGQUIT)
            server.wait(60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _until_ready(programs: Path, port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    ask = [programs / "pg_isready", "-h", "127.0.0.1", "-p", str(port), "-q"]
    while subprocess.run(ask, check=False).returncode:
        assert server.poll() is None, log.read_text()
        time.sleep(0.1)
