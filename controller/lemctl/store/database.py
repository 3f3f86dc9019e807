"""Opening the state: pragmas, migrations, and the refusals (corrupt, newer, on a network file system).

WAL, `synchronous=FULL`, one connection per thread, every write transaction `BEGIN IMMEDIATE`: a transaction that reads
first and writes later would fail at once with SQLITE_BUSY_SNAPSHOT.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, ParamSpec, TypeVar

from lemctl.errors import DiskFull, LemctlError, Locked, NotFound, StoreUnusable
from lemctl.paths import Home

SCHEMA_VERSION = 4
#: `0002_what.sql` brings schema 1 to schema 2, and so on.
MIGRATIONS = Path(__file__).parent / "migrations"
#: A disk with less room than this counts as full when a write fails.
LEAST_FREE_B = 1 << 20
#: "LEMC": tells our file from any other SQLite file.
APPLICATION_ID = 0x4C454D43
#: How long a writer waits for another one; the daemon, which nobody watches at night, is more patient.
PATIENCE_S = 10.0
NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.ceph", "lustre", "beegfs", "gpfs"}
    | {"fuse.sshfs", "fuse.glusterfs", "glusterfs", "fuse.s3fs", "fuse.rclone", "davfs", "fuse.davfs2", "ncpfs"}
)

T = TypeVar("T")
P = ParamSpec("P")
Mode = Literal["write", "read"]
#: What `Store.transaction` gives, for callers that pass it on without knowing SQL.
Transaction = sqlite3.Connection


class Store:
    """The database of one state folder. Thread-safe: each thread gets its own connection."""

    def __init__(self, home: Home, mode: Mode, patience_s: float = PATIENCE_S):
        self.home = home
        self.mode: Mode = mode
        self.patience_s = patience_s
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        #: Asked when the disk is full: whether something was given up for us.
        self.make_room: Callable[[], bool] = lambda: False

    @classmethod
    def open(cls, home: Home, mode: Mode = "read", patience_s: float = PATIENCE_S) -> Store:
        """Open; `write` makes or migrates the database. Raises `StoreUnusable`, or `NotFound` when there is none."""
        store = cls(home, mode, patience_s)
        if mode == "write":
            home.create()
            refuse_network_file_system(home.root)
            with _refusals(home):
                _refuse_untouched(home)
                _prepare(store.connection, home)
        else:
            if not home.database.exists():
                raise _no_campaigns(f"{home.database} does not exist")
            with _refusals(home):
                _refuse_other_versions(store.connection, home)
        return store

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection, in autocommit mode."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            with _refusals(self.home):
                connection = _connect(self.home.database, self.mode, self.patience_s)
            self._local.connection = connection
            with self._guard:
                self._all.append(connection)
        return connection

    def leave_thread(self) -> None:
        """Close this thread's connection: a thread that ends calls it, or three open files stay behind."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            self._local.connection = None
            with self._guard:
                self._all.remove(connection)
            connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction: all of it or nothing. Raises `DiskFull`, `Locked` or `StoreUnusable`."""
        connection = self.connection
        with _refusals(self.home):
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def with_room(self, write: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do `write`, which is one transaction, and once more where the disk was full and room could be made."""
        try:
            return write(*args, **kwargs)
        except DiskFull:
            if not self.make_room():
                raise
            return write(*args, **kwargs)

    def data_version(self) -> int:
        """Changes when another connection has committed."""
        with _refusals(self.home):
            return int(self.connection.execute("PRAGMA data_version").fetchone()[0])

    def host_id(self) -> str:
        """Id of the host that made this database."""
        with _refusals(self.home):
            return str(self.connection.execute("SELECT value FROM meta WHERE key = 'host_id'").fetchone()[0])

    def refuse_damage(self) -> None:
        """Look through every page that states stand on; raise `StoreUnusable` when one is damaged.

        The samples are left out: they are most of the file, and nothing is decided by them.
        """
        with _refusals(self.home):
            names = [row[0] for row in self.connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
            for name in names:
                if name != "samples":
                    found = self.connection.execute(f"PRAGMA quick_check('{name}')").fetchone()[0]
                    if found != "ok":
                        raise _corrupt(self.home, str(found).replace("\n", " "))

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._guard:
            for connection in self._all:
                connection.close()
            self._all.clear()
        self._local = threading.local()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check(home: Home) -> list[str]:
    """What SQLite finds wrong, and broken references; empty when the database is sound."""
    with Store.open(home) as store:
        problems: list[str] = []
        try:
            problems += [row[0] for row in store.connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
            for row in store.connection.execute("PRAGMA foreign_key_check"):
                problems.append(f"{row[0]} row {row[1]}: refers to a missing {row[2]}")
        except sqlite3.DatabaseError as error:  # so damaged that not even the check gets through
            problems.append(str(error))
        return problems


def backup(home: Home, label: str = "") -> Path:
    """Copy the live database, consistently, into the backups folder; returns the copy."""
    with _refusals(home), Store.open(home) as store:
        return _copy(store.connection, home, label)


def _copy(connection: sqlite3.Connection, home: Home, label: str) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    target = home.backups / f"lem-{stamp}{'-' + label if label else ''}.db"
    home.backups.mkdir(exist_ok=True, mode=0o700)
    partial = target.with_suffix(".tmp")
    _make_private(partial)
    try:
        copy = sqlite3.connect(partial)
        try:
            connection.backup(copy)
        finally:
            copy.close()
        _sync(partial)
        partial.rename(target)
        _sync(home.backups)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return target


def prune_backups(home: Home, label: str, keep: int) -> None:
    """Of the backups with this label only the newest `keep` stay."""
    for old in sorted(home.backups.glob(f"lem-*-{label}.db"))[:-keep]:
        old.unlink(missing_ok=True)


def refuse_network_file_system(folder: Path) -> None:
    """SQLite's locks do not hold on network file systems: raise `StoreUnusable` there."""
    kind = file_system(folder, Path("/proc/self/mountinfo"))
    if kind in NETWORK_FILE_SYSTEMS:
        raise StoreUnusable(f"{folder} is on a network file system ({kind}); set LEM_HOME to a local folder")


def file_system(folder: Path, mountinfo: Path) -> str:
    """Type of the file system that `folder` lies on, by the longest matching mount point; `unknown` if unreadable."""
    best, kind = "", "unknown"
    target = str(folder.resolve())
    try:
        lines = mountinfo.read_text().splitlines()
    except OSError:
        return kind
    for line in lines:
        left, _, right = line.partition(" - ")
        point = left.split()[4].encode().decode("unicode_escape")
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split()[0]
    return kind


def _make_private(path: Path) -> None:
    """Create the file, for us alone, unless it is there: then it must not even be opened. Closing any descriptor of a
    file drops all of a process' POSIX locks on it, those of its other connections too, and another process would take
    itself for the last one and delete the write-ahead log (https://www.sqlite.org/howtocorrupt.html, section 2.2)."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _connect(path: Path, mode: Mode, patience_s: float) -> sqlite3.Connection:
    if mode == "write":
        _make_private(path)
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={'rw' if mode == 'write' else 'ro'}",
        uri=True,
        isolation_level=None,
        timeout=patience_s,
        check_same_thread=False,
    )
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    if mode == "write":
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    else:
        connection.execute("PRAGMA query_only = ON")
    return connection


def _refuse_untouched(home: Home) -> None:
    """Refuse before anything is written: only opening for writing changes a file's journal mode. What is about to be
    migrated is kept as it was."""
    if home.database.exists() and home.database.stat().st_size:
        connection = _connect(home.database, "read", PATIENCE_S)
        try:
            _refuse_other_versions(connection, home, migrating=True)
            if 0 < (version := _version(connection)) < SCHEMA_VERSION:
                _copy(connection, home, f"schema{version}")
        finally:
            connection.close()


def _prepare(connection: sqlite3.Connection, home: Home) -> None:
    """Make the schema in an empty file, or bring an old one up to date, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        _refuse_other_versions(connection, home, migrating=True)
        version = _version(connection)
        if version == SCHEMA_VERSION:
            connection.execute("ROLLBACK")
            return
        if version == 0:
            _run_script(connection, (Path(__file__).parent / "schema.sql").read_text())
            host = connection.execute("INSERT INTO meta VALUES ('host_id', ?), ('host_name', ?)", _host())
            assert host.rowcount == 2
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        else:
            for number in range(version + 1, SCHEMA_VERSION + 1):
                (script,) = MIGRATIONS.glob(f"{number:04d}_*.sql")
                _run_script(connection, script.read_text())
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _run_script(connection: sqlite3.Connection, script: str) -> None:
    """Statement by statement: `executescript` would commit the transaction that holds them together."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


def _refuse_other_versions(connection: sqlite3.Connection, home: Home, migrating: bool = False) -> None:
    version, application, tables = connection.execute(
        "SELECT (SELECT user_version FROM pragma_user_version), (SELECT application_id FROM pragma_application_id),"
        " (SELECT count(*) FROM sqlite_schema)"
    ).fetchone()
    if (tables or version) and application != APPLICATION_ID:
        raise StoreUnusable(f"{home.database} is not a database of lemctl; move it away or set LEM_HOME")
    if not migrating and not tables:
        # A daemon makes it at this moment, or was ended before it had.
        raise _no_campaigns(f"{home.database} is empty")
    if version > SCHEMA_VERSION:
        raise StoreUnusable(
            f"{home.database} has schema {version}, this lemctl knows {SCHEMA_VERSION}: use the newer lemctl; "
            "it was left untouched"
        )
    if not migrating and version < SCHEMA_VERSION:
        raise StoreUnusable(
            f"{home.database} has schema {version}: `lemctl daemon start` migrates it to {SCHEMA_VERSION}"
        )


def _no_campaigns(why: str) -> NotFound:
    return NotFound(f"no campaigns yet: {why}; begin with `lemctl campaign start FILE`")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _host() -> tuple[str, str]:
    """(id, name): the id is stable for one installation and tells nothing about it."""
    try:
        seed = Path("/etc/machine-id").read_text().strip() or uuid.uuid4().hex
    except OSError:
        seed = uuid.uuid4().hex
    return hashlib.sha256(b"lemctl:" + seed.encode()).hexdigest()[:16], socket.gethostname()


@contextmanager
def _refusals(home: Home) -> Iterator[None]:
    """Translate SQLite's errors to ours."""
    try:
        yield
    except LemctlError:
        raise
    except sqlite3.Error as error:
        translated = _refusal(home, error)
        if translated is None:
            raise
        raise translated from error


def _refusal(home: Home, error: sqlite3.Error) -> LemctlError | None:
    """Our error for SQLite's primary result code; None for what is a bug of ours. Texts are never looked at: a
    message such as `malformed JSON` says nothing about the file."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _free_bytes(home) < LEAST_FREE_B):
        return DiskFull(f"{home.database}: {error}; free space on that disk, what was committed is safe")
    if code == sqlite3.SQLITE_IOERR:
        name = getattr(error, "sqlite_errorname", "")
        return StoreUnusable(
            f"{home.database}: {error} ({name}); look at that disk (`dmesg`), what was committed is safe"
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Locked(f"{home.database} is being written by another program that does not let go; `fuser` names it")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return StoreUnusable(f"{home.database}: {error}; the state folder must belong to you, with its files")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _corrupt(home, str(error))
    return None


def _free_bytes(home: Home) -> int:
    try:
        status = os.statvfs(home.root)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize


def _corrupt(home: Home, text: str) -> StoreUnusable:
    newest = max(home.backups.glob("lem-*.db"), default=None)
    hint = f"restore {newest}" if newest else "there is no backup in " + str(home.backups)
    return StoreUnusable(f"{home.database} cannot be used ({text}); it was left untouched; {hint}")
