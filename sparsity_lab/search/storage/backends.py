"""Where a search is kept: an SQLite file, a journal file of Optuna's, or a database behind a URL.

All three survive `kill -9` at any moment and several processes at once, which Optuna alone does not grant:

- SQLite: its sessions read before they write, outside a transaction, so that two processes may claim one trial. Here
  every session of a writer holds the write lock from its beginning (`BEGIN IMMEDIATE`). Readers open the file
  read-only; they leave its bytes alone, unless a kill left a write half done, which is rolled back first.
- Journal: the lock is the kernel's (`flock` on the journal itself), so one that died is free at once, where a lock file
  is waited for; and a last line that a kill tore is cut off before the next is written.
- Database: connections are tested before use. PostgreSQL is reached through psycopg, the extra `postgresql`.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, assert_never
from urllib.parse import quote

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from sqlalchemy import URL, Connection, make_url
from sqlalchemy.exc import NoSuchModuleError
from sqlalchemy.pool import NullPool

from sparsity_lab.errors import MachineError, RecordError, SparsityLabError, in_short, refusing, without_passwords
from sparsity_lab.search.storage.journal import Journal

T = TypeVar("T")

JOURNALS = (".journal", ".log")
"""endings of a path that ask for a journal file"""
PATIENCE = 60.0
"""seconds that SQLite waits for another process's write"""
ATTEMPTS = 8
"""at opening a storage: processes that create the same tables at once get in each other's way"""


@dataclass(frozen=True)
class SqliteFile:
    """A database in one file."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class JournalFile:
    """Optuna's list of all that was done, one JSON object a line; for network file systems."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class Database:
    """A server, shared by machines."""

    url: URL

    def __str__(self) -> str:
        return without_passwords(self.url.render_as_string(hide_password=True))


StoragePlace = SqliteFile | JournalFile | Database


def place_of(location: str | Path) -> StoragePlace:
    """What a location names: a URL a database, a path ending in .journal or .log a journal, any other path SQLite.

    Raises:
        RecordError: it looks like a URL and is none, or a password in it has an @.
    """
    if not isinstance(location, str) or "://" not in location:
        path = Path(location)
        return JournalFile(path) if path.suffix in JOURNALS else SqliteFile(path)
    with refusing(
        "storage", RecordError, "is no URL of a database such as postgresql://user@host/name", found=location
    ):
        url = make_url(location)
        if "@" in (url.host or ""):
            raise ValueError("an @ in a password is written %40")
    if url.get_backend_name() == "sqlite" and url.database:
        return SqliteFile(Path(url.database))
    return Database(url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url)


@dataclass(frozen=True, eq=False)
class Opened:
    """A storage in use; `close` it."""

    storage: BaseStorage
    engine: sqlalchemy.Engine | None = None
    journal: Journal | None = None

    def close(self) -> None:
        """Let go of every connection."""
        if isinstance(self.storage, RDBStorage):
            self.storage.remove_session()
        if self.engine is not None:
            self.engine.dispose()


def open_reader(place: StoragePlace) -> Opened | None:
    """A storage that is only read from; None where there is nothing yet.

    Raises:
        MachineError: the database's driver is not installed.
        Exception: whatever Optuna and the drivers throw; see `explained`.
    """
    match place:
        case SqliteFile(path):
            return _sqlite(path, "ro").reader() if _has_content(path) else None
        case JournalFile(path):
            return _journal(path) if _has_content(path) else None
        case Database(url):
            return _engine(url).reader()
        case _:
            assert_never(place)


def open_writer(place: StoragePlace) -> Opened:
    """A storage to write to, with what is missing of it created; raises as `open_reader`."""
    match place:
        case SqliteFile(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            opened = _patiently(lambda: _sqlite(path, "rwc").opened(create=True))
            _lock_at_the_beginning(opened)
            return opened
        case JournalFile(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            return _journal(path)
        case Database(url):
            return _patiently(lambda: _engine(url).opened(create=True))
        case _:
            assert_never(place)


def roll_back(path: Path) -> None:
    """Undo what a dead process left half written in an SQLite file; nothing where it left nothing."""
    with contextlib.closing(sqlite3.connect(path, timeout=PATIENCE)) as connection:
        connection.execute("PRAGMA schema_version")


def explained(error: BaseException) -> str:
    """The first line of what the storage said, in short, below the layers that passed it on."""
    below = error.__cause__ or error
    lines = str(getattr(below, "orig", None) or below).splitlines()
    return in_short(lines[0]) if lines else type(below).__name__


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


@dataclass(frozen=True)
class _Address:
    """A database as SQLAlchemy is told of it."""

    url: str
    options: dict[str, Any]

    def opened(self, *, create: bool) -> Opened:
        """The storage, its tables made where they are missing and may be."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        options = dict(self.options)
        storage = _driven(lambda: RDBStorage(self.url, engine_kwargs=options, skip_table_creation=not create))
        return Opened(storage, storage.engine)

    def reader(self) -> Opened | None:
        """A reader, or None before the tables are there; their version is what Optuna writes last."""
        engine = _driven(lambda: sqlalchemy.create_engine(self.url, **self.options))
        try:
            with engine.connect() as connection:
                if not sqlalchemy.inspect(connection).has_table("alembic_version"):
                    return None
                if not connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).first():
                    return None
        finally:
            engine.dispose()
        return self.opened(create=False)


def _sqlite(path: Path, mode: Literal["ro", "rwc"]) -> _Address:
    url = URL.create("sqlite", database=f"file:{quote(str(path.absolute()))}", query={"mode": mode, "uri": "true"})
    return _Address(str(url), {"poolclass": NullPool, "connect_args": {"timeout": PATIENCE}})


def _engine(url: URL) -> _Address:
    return _Address(url.render_as_string(hide_password=False), {"pool_pre_ping": True})


def _driven(connect: Callable[[], T]) -> T:
    """Connect, or say which driver is missing."""
    try:
        return connect()
    except NoSuchModuleError as error:
        raise MachineError(f"no such kind of database: {error}", where="storage") from error
    except ImportError as error:
        missing = getattr(error.__cause__ or error, "name", None)
        if missing in {"psycopg", "psycopg_binary", "psycopg_c"}:
            advice = "pip install 'sparsity-lab[postgresql]'"
        else:
            advice = f"pip install {missing}" if missing else "install the one that the URL names"
        raise MachineError(f"the database's driver is not installed: {advice}", where="storage") from error


def _patiently(make: Callable[[], Opened]) -> Opened:
    for attempt in range(1, ATTEMPTS):
        try:
            return make()
        except SparsityLabError:
            raise
        except Exception:
            time.sleep(0.03 * attempt)
    return make()


def _lock_at_the_beginning(opened: Opened) -> None:
    """Have every transaction take SQLite's write lock first, so that what it reads is still so when it writes."""

    def own_transactions(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # else the driver begins when it sees a write, and not before

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    sqlalchemy.event.listen(opened.engine, "connect", own_transactions)
    sqlalchemy.event.listen(opened.engine, "begin", begin)


def _journal(path: Path) -> Opened:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = Journal(str(path))
    try:
        return Opened(JournalStorage(journal), journal=journal)
    except SparsityLabError:
        raise
    except Exception as error:
        raise journal.damaged(explained(error)) from error
