"""Opening the state: what is refused and left untouched, who may read it, and that two may open it at once."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lemctl.errors import Locked, NotFound, StoreUnusable
from lemctl.paths import Home
from lemctl.store import database
from lemctl.store.database import APPLICATION_ID, SCHEMA_VERSION, Store, backup, check, file_system, prune_backups

GOLDEN = Path(__file__).parents[1] / "golden"
NEXT = SCHEMA_VERSION + 1


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A new state folder with an empty database."""
    made = Home(tmp_path / "home")
    Store.open(made, "write").close()
    return made


def put(store: Store, topic: str) -> None:
    with store.transaction() as tx:
        tx.execute("INSERT INTO live VALUES (?, '{}', '2026-01-01')", (topic,))


def topics(home: Home) -> list[str]:
    with Store.open(home) as store:
        return [row[0] for row in store.connection.execute("SELECT topic FROM live ORDER BY topic")]


def schema_of(path: Path) -> str:
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").fetchall()
    return "\n".join(re.sub(r"\s+", " ", re.sub(r"--[^\n]*", "", row[0])) + ";" for row in rows) + "\n"


def test_the_schema_of_this_version_is_the_published_one(home: Home) -> None:
    """A published schema never changes: raise SCHEMA_VERSION, add a migration and the golden file of the new one."""
    assert schema_of(home.database) == (GOLDEN / f"schema-{SCHEMA_VERSION:04d}.sql").read_text()


def test_the_state_folder_and_its_files_are_ours_alone(home: Home) -> None:
    with Store.open(home, "write") as store:
        put(store, "x")
        modes = {p.name: p.stat().st_mode & 0o777 for p in home.root.glob("lem.db*")}
    assert modes == {"lem.db": 0o600, "lem.db-wal": 0o600, "lem.db-shm": 0o600}
    assert home.root.stat().st_mode & 0o777 == 0o700
    assert backup(home).stat().st_mode & 0o777 == 0o600


def test_a_missing_database_is_not_made_by_reading(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="lemctl campaign start"):
        Store.open(Home(tmp_path / "home"))
    assert not (tmp_path / "home").exists()


def test_a_database_that_is_only_being_made_has_no_campaigns_yet(tmp_path: Path) -> None:
    """Another process has made the file, and its first transaction has not ended."""
    home = Home(tmp_path)
    connection = sqlite3.connect(home.database)
    connection.execute("PRAGMA journal_mode = WAL")
    with pytest.raises(NotFound, match=r"no campaigns yet: .* is empty"):
        Store.open(home)
    connection.close()


@pytest.mark.parametrize("mode", ["read", "write"])
def test_a_newer_database_is_refused_untouched(home: Home, mode: database.Mode) -> None:
    with sqlite3.connect(home.database) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = home.database.read_bytes()
    with pytest.raises(StoreUnusable, match=f"has schema {SCHEMA_VERSION + 1}, this lemctl knows {SCHEMA_VERSION}"):
        Store.open(home, mode)
    assert home.database.read_bytes() == before


@pytest.mark.parametrize("version", [0, 1])
def test_a_foreign_database_is_refused_untouched(tmp_path: Path, version: int) -> None:
    home = Home(tmp_path)
    with sqlite3.connect(home.database) as connection:
        connection.execute("CREATE TABLE somebody_elses (x)")
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    before = home.database.read_bytes()
    with pytest.raises(StoreUnusable, match="is not a database of lemctl"):
        Store.open(home, "write")
    assert home.database.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_with_the_newest_backup(home: Home) -> None:
    backup(home, "older")
    newest = backup(home, "newest")
    home.database.write_bytes(b"not a database, but long enough to be looked at " * 100)
    with pytest.raises(StoreUnusable, match=re.escape(str(newest))):
        Store.open(home, "write")


def test_an_overwritten_page_is_found_before_anything_is_decided(home: Home) -> None:
    with Store.open(home, "write") as store, store.transaction() as tx:
        for n in range(200):
            tx.execute("INSERT INTO live VALUES (?, json_quote(?), '2026-01-01')", (f"topic-{n}", "x" * 500))
    with sqlite3.connect(home.database) as connection:
        page_b = connection.execute("PRAGMA page_size").fetchone()[0]
        sql = "SELECT max(pageno) FROM dbstat WHERE name = 'live' AND pagetype = 'leaf'"
        try:
            page = connection.execute(sql).fetchone()[0]
        except sqlite3.OperationalError:  # an SQLite without dbstat: the newest pages are the topics'
            page = connection.execute("PRAGMA page_count").fetchone()[0] - 1
    connection.close()
    with home.database.open("r+b") as file:
        file.seek((page - 1) * page_b)
        file.write(os.urandom(page_b))
    with Store.open(home, "write") as store, pytest.raises(StoreUnusable, match="cannot be used"):
        store.refuse_damage()
    assert check(home) != []


def test_a_sound_database_has_no_damage(home: Home) -> None:
    with Store.open(home, "write") as store:
        store.refuse_damage()
    assert check(home) == []


def test_broken_references_are_told_by_check(home: Home) -> None:
    with sqlite3.connect(home.database) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("INSERT INTO findings (attempt_id, code, severity, text) VALUES (77, 'x', 'INFO', 'x')")
    connection.close()
    assert check(home) == ["findings row 1: refers to a missing attempts"]


MOUNTS = """22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 22 0:40 / /mnt/share rw shared:1 - nfs4 server:/x rw
41 22 0:41 / /mnt/with\\040space rw - cifs //server/x rw
42 40 0:42 / /mnt/share/local rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home/me", "ext4"),
        ("/mnt/share", "nfs4"),
        ("/mnt/share/deep/er", "nfs4"),
        ("/mnt/shareholder", "ext4"),
        ("/mnt/with space/x", "cifs"),
        ("/mnt/share/local/x", "tmpfs"),
    ],
)
def test_the_file_system_is_the_one_of_the_longest_mount_point(tmp_path: Path, folder: str, kind: str) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(MOUNTS)
    assert file_system(Path(folder), mountinfo) == kind


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "file_system", lambda folder, mountinfo: "nfs4")
    with pytest.raises(StoreUnusable, match="network file system \\(nfs4\\); set LEM_HOME to a local folder"):
        Store.open(Home(tmp_path / "home"), "write")
    assert not (tmp_path / "home" / "lem.db").exists()


def test_an_old_database_is_migrated_in_one_step_and_kept_as_it_was(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrations = tmp_path / "migrations"
    migrations.mkdir()
    (migrations / f"{NEXT:04d}_colour.sql").write_text(
        "ALTER TABLE devices ADD COLUMN colour TEXT; -- a remark; with a semicolon\n"
        "CREATE TRIGGER t BEFORE DELETE ON devices BEGIN SELECT RAISE(ABORT, 'no'); END;\n"
    )
    monkeypatch.setattr(database, "SCHEMA_VERSION", NEXT)
    monkeypatch.setattr(database, "MIGRATIONS", migrations)
    with pytest.raises(StoreUnusable, match=f"`lemctl daemon start` migrates it to {NEXT}"):
        Store.open(home)
    with Store.open(home, "write") as store:
        assert store.connection.execute("PRAGMA user_version").fetchone()[0] == NEXT
        store.connection.execute("SELECT colour FROM devices")
    (kept,) = home.backups.glob(f"lem-*-schema{SCHEMA_VERSION}.db")
    with sqlite3.connect(kept) as old:
        assert old.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_a_migrated_database_is_like_a_new_one(tmp_path: Path, version: int) -> None:
    old = Home(tmp_path / "old")
    old.create()
    with sqlite3.connect(old.database) as connection:
        connection.executescript((GOLDEN / f"schema-{version:04d}.sql").read_text())
        connection.execute("INSERT INTO meta VALUES ('host_id', 'kept')")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    with Store.open(old, "write") as store:
        assert store.host_id() == "kept"
    assert schema_of(old.database) == (GOLDEN / f"schema-{SCHEMA_VERSION:04d}.sql").read_text()
    assert check(old) == []


def test_a_migration_that_fails_leaves_the_old_database(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrations = tmp_path / "migrations"
    migrations.mkdir()
    (migrations / f"{NEXT:04d}_wrong.sql").write_text(
        "ALTER TABLE devices ADD COLUMN colour TEXT;\nDROP TABLE nowhere;\n"
    )
    monkeypatch.setattr(database, "MIGRATIONS", migrations)
    with monkeypatch.context() as newer:
        newer.setattr(database, "SCHEMA_VERSION", NEXT)
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            Store.open(home, "write")
    assert schema_of(home.database) == (GOLDEN / f"schema-{SCHEMA_VERSION:04d}.sql").read_text()
    Store.open(home, "write").close()


def test_reading_works_while_a_writer_is_in_the_middle(home: Home) -> None:
    with Store.open(home, "write") as store:
        put(store, "before")
        with store.transaction() as tx:
            tx.execute("INSERT INTO live VALUES ('during', '{}', '2026-01-01')")
            assert topics(home) == ["before"]
        assert topics(home) == ["before", "during"]


def test_a_reader_cannot_write(home: Home) -> None:
    with Store.open(home) as store, pytest.raises(StoreUnusable):
        put(store, "x")


def test_a_transaction_that_fails_writes_nothing(home: Home) -> None:
    with Store.open(home, "write") as store:
        with pytest.raises(sqlite3.IntegrityError), store.transaction() as tx:
            tx.executemany("INSERT INTO live VALUES (?, '{}', '2026-01-01')", [("x",), ("x",)])
        put(store, "y")
    assert topics(home) == ["y"]


def test_a_locked_database_is_said_after_the_patience(home: Home) -> None:
    with Store.open(home, "write") as holder, Store.open(home, "write", patience_s=0.2) as waiting:
        with holder.transaction(), pytest.raises(Locked, match="does not let go"):
            put(waiting, "x")
        put(waiting, "y")
    assert topics(home) == ["y"]


def test_bad_json_is_a_mistake_of_ours_and_not_a_corrupt_database(home: Home) -> None:
    with Store.open(home, "write") as store, pytest.raises(sqlite3.Error), store.transaction() as tx:
        tx.execute("SELECT json_patch('{}', 'NaN')")


def test_a_thread_that_ends_leaves_no_open_file(home: Home) -> None:
    with Store.open(home, "write") as store:
        put(store, "main")
        before = len(list(Path("/proc/self/fd").iterdir()))

        def work(n: int) -> None:
            put(store, f"thread-{n}")
            store.leave_thread()

        for n in range(20):
            thread = threading.Thread(target=work, args=(n,))
            thread.start()
            thread.join()
        # SQLite keeps a closed connection's file open while another one holds a lock, and uses it again.
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2


_WRITES_ONCE = """
import sys, pathlib
from lemctl.paths import Home
from lemctl.store.database import Store
with Store.open(Home(pathlib.Path(sys.argv[1])), "write") as store, store.transaction() as tx:
    tx.execute("INSERT INTO live VALUES (?, '{}', '2026-01-01')", (sys.argv[2],))
"""


def test_another_process_that_leaves_does_not_take_the_log_with_it(home: Home) -> None:
    """It does when a thread's new connection has dropped the locks that this process holds on the file."""
    with Store.open(home, "write") as store:
        put(store, "main")
        thread = threading.Thread(target=lambda: (put(store, "thread"), store.leave_thread()))
        thread.start()
        thread.join()
        subprocess.run([sys.executable, "-c", _WRITES_ONCE, str(home.root), "other"], check=True)
        assert (home.root / "lem.db-wal").exists()
        put(store, "after")
        assert topics(home) == ["after", "main", "other", "thread"]


def test_many_may_open_a_new_state_folder_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WRITES_ONCE, str(tmp_path / "home")]
    openers = [subprocess.Popen([*command, str(n)], stderr=subprocess.PIPE) for n in range(4)]
    said = [opener.communicate(timeout=60)[1].decode() for opener in openers]
    assert said == [""] * 4
    assert topics(Home(tmp_path / "home")) == ["0", "1", "2", "3"]


def test_a_backup_is_whole_and_the_old_ones_of_its_kind_go(home: Home) -> None:
    with Store.open(home, "write") as store:
        put(store, "x")
        made = [backup(home, "recovery") for _ in range(4)]
    other = backup(home, "mine")
    prune_backups(home, "recovery", 2)
    assert sorted(home.backups.iterdir()) == sorted([*made[2:], other])
    with sqlite3.connect(made[-1]) as copy:
        assert copy.execute("SELECT topic FROM live").fetchall() == [("x",)]
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert copy.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
