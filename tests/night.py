"""A night for tests: a state folder of its own, the real daemon as a process, what a person may ask of it, and the
audit that must hold after everything that can happen to it.

Campaigns run on the replay backend: a real runner process in real time whose durations and faults are parameters.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lemctl.campaign.file import loads
from lemctl.campaign.plan import Plan, plan
from lemctl.clock import SystemClock
from lemctl.daemon.locks import holder_text
from lemctl.engines.prefetch import missing, prefetch
from lemctl.engines.processes import processes_on
from lemctl.paths import Home, data_folder
from lemctl.settings import Settings, load_settings
from lemctl.store import campaigns
from lemctl.store.campaigns import Added
from lemctl.store.commands import Answer, Verb, answer_of, ask
from lemctl.store.database import Store, check
from lemctl.store.status import MOVES, RUN_ENDED
from nursery import Forked

Daemon = Forked | subprocess.Popen[bytes]
CEILING_S = 30.0
#: No wait before retries, no minimum of free disk: what these tests do not test.
QUICK = {"LEM_RETRY_BACK_OFF_SCALE": "0", "LEM_MIN_FREE_DISK_MB": "0"}
#: For tests in which a runner is asked in vain: how long, in seconds. The daemon's own limits are five times that.
QUICK_RUNGS = {"lemctl.engines.session.QUIT_S": 2.0, "lemctl.engines.session.CLOSE_S": 2.0}


def campaign_text(name: str = "night", cycles: int = 1, engine: str = "", more: str = "", batches: str = "[1]") -> str:
    """A campaign of `cycles` x batches runs of some 20 ms each. `engine` holds parameters of the replay backend."""
    parameters = f"decode_ms_per_token: 1.0{', ' + engine if engine else ''}"
    return f"""
name: {name}
preset: quick-test
model: "random:{{vocab_size: 1000}}"
backend: replay
workload: {{dataset: random, random: {{input_len: 8}}, prompts: 4, max_new_tokens: 4}}
replay: {{engine: {{{parameters}}}}}
sweep: {{workload.load.batch_size: {batches}}}
cycles: {cycles}
order: as_written
{more}
"""


class Night:
    """One state folder and the daemon on it. Use it in a `with`: whatever happens, no process of it stays.

    `constants` are those of the daemon's modules that are other ones in it.
    """

    def __init__(
        self,
        folder: Path,
        environment: dict[str, str] | None = None,
        locks: Path | None = None,
        constants: dict[str, float] | None = None,
    ):
        self.home = Home(folder / "home")
        self.locks = locks or folder / "locks"
        self.environment = {**QUICK, **(environment or {})}
        self.constants = constants or {}
        self.daemon: Daemon | None = None

    def __enter__(self) -> Night:
        return self

    def __exit__(self, *_: object) -> None:
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.kill()
            self.daemon.wait()
        for pid in processes_on(self.home.sessions):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @property
    def settings(self) -> Settings:
        """The settings that the daemon has, too."""
        return load_settings(home=self.home.root, lock_dir=self.locks)

    def add(self, text: str, executor: str = "local", priority: int = 0, after: str | None = None) -> Added:
        """Prepare the prompts of a campaign and put it in the line."""
        what = self.plan(text)
        if missing(what, self.settings, "local"):
            prefetch(what, self.settings, "local", lambda step: None)
        with Store.open(self.home, "write") as store:
            host = store.host_id()
            with store.transaction() as tx:
                behind = campaigns.find(tx, after) if after else None
                return campaigns.add_campaign(tx, what, text, executor, SystemClock(), host, priority, behind)

    def plan(self, text: str) -> Plan:
        """The plan of a campaign file."""
        return plan(loads(text, "night.yaml", catalogue_dir=data_folder() / "images"))

    def variables(self) -> dict[str, str]:
        """The environment variables that make a daemon this one's."""
        return {**self.environment, "LEM_HOME": str(self.home.root), "LEM_LOCK_DIR": str(self.locks)}

    def begin(self, prefix: Sequence[str] = ()) -> Daemon:
        """Start a daemon, under another program if there is a `prefix`; it is not waited for."""
        self.home.create()
        log = self.home.logs / "daemon.out"
        if prefix:
            assert not self.constants, "only a daemon of the nursery can have them"
            command = [*prefix, sys.executable, "-m", "lemctl.daemon.process"]
            with log.open("ab") as out:
                self.daemon = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **self.variables()}
                )
        else:
            self.daemon = Forked(self.variables(), log, self.constants)
        return self.daemon

    def end(self) -> int:
        """SIGTERM; the exit code."""
        assert self.daemon is not None
        self.daemon.terminate()
        return self.daemon.wait(CEILING_S)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait()

    def ask(self, verb: Verb, **arguments: Any) -> Answer:
        """Ask the daemon, and wait for what came of it."""
        command = self.ask_only(verb, **arguments)
        answers: list[Answer] = []

        def is_answered() -> bool:
            with self.reading() as store:
                found = answer_of(store.connection, command)
            answers.extend([found] if found else [])
            return found is not None

        self.wait_for(is_answered, f"an answer to {verb}")
        return answers[0]

    def ask_only(self, verb: Verb, **arguments: Any) -> int:
        """Ask the daemon; the number of the command."""
        with Store.open(self.home, "write") as store, store.transaction() as tx:
            return ask(tx, verb, arguments, SystemClock())

    @contextmanager
    def reading(self) -> Iterator[Store]:
        """The database, read-only."""
        with Store.open(self.home) as store:
            yield store

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query gives."""
        with self.reading() as store:
            return [tuple(row) for row in store.connection.execute(sql, values)]

    def statuses(self, name: str = "night") -> list[str]:
        """Of the runs of the newest campaign of that name, in their order."""
        sql = (
            "SELECT status FROM runs WHERE campaign_id = (SELECT max(id) FROM campaigns WHERE name = ?)"
            " ORDER BY position"
        )
        return [row[0] for row in self.rows(sql, name)]

    def campaign(self, name: str = "night") -> str:
        """Status of the newest campaign of that name."""
        return str(self.rows("SELECT status FROM campaigns WHERE name = ? ORDER BY number DESC", name)[0][0])

    def attempts(self) -> list[tuple[str | None, str | None, str | None]]:
        """Outcome, fault and message of all attempts, in their order."""
        return [(o, f, m) for o, f, m in self.rows("SELECT outcome, fault, message FROM attempts ORDER BY id")]

    def waits_for(self) -> str:
        """What the daemon says that it waits for; nothing as long as it says nothing."""
        if not self.home.database.exists():
            return ""
        said = self.rows("SELECT json_extract(document, '$.waits_for') FROM live WHERE topic = 'daemon'")
        return str(said[0][0]) if said else ""

    def runner_pid(self) -> int:
        """Process id of the session that is open."""
        self.wait_for(lambda: bool(self.rows(_OPEN_SESSION)), "a greeted session")
        return int(json.loads(self.rows(_OPEN_SESSION)[0][0])["pid"])

    def wait_for(self, condition: Callable[[], bool], what: str, ceiling_s: float = CEILING_S) -> None:
        """Until `condition` holds; fails with what the daemon said when that takes too long."""
        until = time.monotonic() + ceiling_s
        while not condition():
            assert time.monotonic() < until, f"no {what} within {ceiling_s:g} s\n{self.said()}\n{self.told()}"
            time.sleep(0.01)

    def wait_until_under_way(self, status: str = "Running") -> None:
        """Until a run is in that state."""
        self.wait_for(lambda: bool(self.rows("SELECT 1 FROM runs WHERE status = ?", status)), f"run {status}")

    def wait_until_serving(self, pid: int) -> None:
        """Until that daemon has recovered what the one before it left, and ticks."""
        sql = "SELECT 1 FROM live WHERE topic = 'daemon' AND json_extract(document, '$.pid') = ?"
        self.wait_for(lambda: self.home.database.exists() and self.rows(sql, pid) != [], "heartbeat")

    def wait_campaign(self, status: str = "Finished", name: str = "night", ceiling_s: float = CEILING_S) -> None:
        """Until the newest campaign of that name is in that state."""
        self.wait_for(lambda: self.campaign(name) == status, f"campaign {name} {status}", ceiling_s)

    def told(self) -> str:
        """What the database knows of the moment: for a test that waited in vain."""
        parts = (
            "SELECT document FROM live",
            "SELECT status, status_data FROM runs LIMIT 5",
            "SELECT outcome, fault, message FROM attempts",
        )
        return "\n".join(f"{sql}: {self.rows(sql)}" for sql in parts)

    def said(self) -> str:
        """The daemon's logs, and the attempts: for the message of a failed test."""
        logs = [p.read_text(errors="replace")[-3000:] for p in self.home.logs.glob("daemon.*")]
        return "\n".join([*logs, *map(str, self.attempts())])

    def audit(self) -> None:
        """Nothing is lost and nothing left behind. The daemon must have ended."""
        assert self.daemon is None or self.daemon.poll() is not None
        assert holder_text(self.home.daemon_lock) is None
        for lock in self.locks.glob("*"):
            assert holder_text(lock) is None, f"{lock.name} is still held"
        self.wait_for(lambda: processes_on(self.home.sessions) == [], "end of all runners", 5.0)
        audit_state(self.home)


_OPEN_SESSION = "SELECT hello FROM sessions WHERE ended_utc IS NULL AND hello IS NOT NULL"


def audit_state(home: Home) -> None:
    """What must hold in the database of a daemon that has ended, whatever happened to it before."""
    assert check(home) == []
    with Store.open(home) as store:
        db = store.connection
        audit_log(db, "run", "runs")
        audit_log(db, "campaign", "campaigns")
        _audit_runs(db, home)
        audit_attempts(db)
        assert db.execute("SELECT count(*) FROM sessions WHERE ended_utc IS NULL").fetchone()[0] == 0
        assert db.execute("SELECT count(*) FROM commands WHERE answered_utc IS NULL").fetchone()[0] == 0


def audit_log(db: Any, entity: str, table: str) -> None:
    """Replaying the log gives the stored states, by allowed moves only."""
    replayed: dict[int, tuple[str, str]] = {}
    for row in db.execute("SELECT * FROM transitions WHERE entity = ? ORDER BY id", (entity,)):
        before = replayed.get(row["entity_id"], (None, ""))[0]
        assert row["from_status"] == before, f"{entity} {row['entity_id']}: {before}, then from {row['from_status']}"
        assert before is None or row["to_status"] in MOVES[entity][before]
        replayed[row["entity_id"]] = (row["to_status"], row["data"])
    stored = {row["id"]: (row["status"], row["status_data"]) for row in db.execute(f"SELECT * FROM {table}")}
    assert replayed == stored


def _audit_runs(db: Any, home: Home) -> None:
    ended = {row[0] for row in db.execute("SELECT id FROM campaigns WHERE status IN ('Finished', 'Cancelled')")}
    for run in db.execute("SELECT * FROM runs").fetchall():
        tries = db.execute("SELECT * FROM attempts WHERE run_id = ? ORDER BY number", (run["id"],)).fetchall()
        good = [a for a in tries if a["outcome"] == "ok"]
        assert (run["status"] == "Done") == (len(good) == 1), f"run {run['id']}: {run['status']}, {len(good)} results"
        assert [a["number"] for a in tries] == list(range(1, len(tries) + 1))
        if run["campaign_id"] in ended:
            assert run["status"] in RUN_ENDED, f"run {run['id']} is {run['status']} in an ended campaign"
        else:
            assert run["status"] in RUN_ENDED | {"Queued"}
        if run["status"] == "Failed":
            assert tries[-1]["outcome"] == "failed", f"run {run['id']} failed for {tries[-1]['message']}"
        for attempt in good:
            _audit_result(db, attempt, home)


def _audit_result(db: Any, attempt: Any, home: Home) -> None:
    for table in ("windows", "metrics"):
        found = db.execute(f"SELECT count(*) FROM {table} WHERE attempt_id = ?", (attempt["id"],)).fetchone()[0]
        assert found, f"attempt {attempt['id']} is ok and has no {table}"
    (session,) = db.execute("SELECT uuid FROM sessions WHERE id = ?", (attempt["session_id"],)).fetchone()
    assert (home.sessions / session / f"{attempt['uuid']}.result.json").is_file()


def audit_attempts(db: Any) -> None:
    """Every attempt ended, once, and no two shared a lane at any time."""
    last: dict[tuple[str, str], int] = {}
    for attempt in db.execute("SELECT * FROM attempts ORDER BY started_mono_ns").fetchall():
        assert attempt["outcome"] is not None, f"attempt {attempt['id']} has no outcome"
        lane = (attempt["boot_id"], attempt["lane"])
        assert attempt["started_mono_ns"] >= last.get(lane, 0), f"attempt {attempt['id']} began on a lane in use"
        last[lane] = attempt["ended_mono_ns"]
        begun = db.execute(
            "SELECT count(*) FROM transitions WHERE to_status = 'Starting' AND json_extract(data, '$.attempt') = ?",
            (attempt["id"],),
        ).fetchone()[0]
        assert begun == 1
