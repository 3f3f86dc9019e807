"""Reading what was sampled around attempts: when each phase began, and the samples themselves, raw or thinned out.

Thinning is done in SQL, extremes kept: a campaign has millions of samples, and each stored reading is a JSON document.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from lemctl.store.queries import HAS_NEWER, label_of

#: Bits of a reading's `event_reasons` (NVML's clocks event reasons): the power cap is normal, the others are faults.
POWER_CAP_BIT = 0x4
THROTTLE_BITS = 0x8 | 0x20 | 0x40 | 0x80


@dataclass(frozen=True, slots=True)
class MeasuredAttempt:
    """An ended attempt, with what was kept of it. Times are monotonic ns of its boot."""

    run: int
    experiment: str
    cycle: int
    attempt: int
    boot_id: str
    begin_ns: int
    end_ns: int
    started_utc: str
    verdict: str
    windows: tuple[tuple[int, int], ...]
    gpus: tuple[str, ...]
    facts: dict[str, Any]
    number: int = 1
    outcome: str = "ok"
    #: What was found against it: of an INVALID or SUSPECT one the findings, of a failed one its message.
    why: str = ""

    @property
    def is_result(self) -> bool:
        """It gave its run's result; any other was discarded."""
        return self.outcome == "ok"

    @property
    def timeline(self) -> list[tuple[str, int]]:
        """(phase, when it began), in order; empty for attempts of before phases were timed."""
        return [(str(name), int(t_ns)) for name, t_ns in self.facts.get("timeline", ())]


class Bucket(NamedTuple):
    """A stretch of a power series: its first sample's time, extremes and mean of the power in W, the highest
    temperature in C, and the throttle reasons seen in it. What no sample gave is None."""

    t_ns: int
    low_w: float | None
    high_w: float | None
    mean_w: float | None
    temp_c: float | None
    is_capped: bool
    is_throttled: bool


_MEASURED = (
    "SELECT r.id AS run, r.experiment, r.cycle, a.id AS attempt, a.boot_id, a.started_mono_ns, a.ended_mono_ns,"
    " a.started_utc, a.verdict, a.facts, a.number, a.outcome, json_extract(s.engine, '$.gpus') AS gpus,"
    " coalesce((SELECT group_concat(f.text, '; ') FROM findings f"
    "  WHERE f.attempt_id = a.id AND f.severity = a.verdict), a.message, '') AS why"
    " FROM runs r JOIN attempts a ON a.run_id = r.id LEFT JOIN sessions s ON s.id = a.session_id"
)


def measured_attempts(connection: sqlite3.Connection, campaign_id: int) -> list[MeasuredAttempt]:
    """The ended attempts of a campaign that gave a result, or that measured a window and were discarded, in the order
    in which they ran."""
    rows = connection.execute(
        f"{_MEASURED} WHERE r.campaign_id = ? AND (a.outcome = 'ok' OR (a.outcome IS NOT NULL"  # noqa: S608 - a constant
        " AND EXISTS (SELECT 1 FROM windows w WHERE w.attempt_id = a.id))) ORDER BY a.id",
        (campaign_id,),
    ).fetchall()
    windows: dict[int, list[tuple[int, int]]] = {}
    for attempt, begin_ns, end_ns in connection.execute(
        "SELECT w.attempt_id, w.t_begin_mono_ns, w.t_end_mono_ns FROM runs r JOIN attempts a ON a.run_id = r.id"
        " JOIN windows w ON w.attempt_id = a.id WHERE r.campaign_id = ? AND a.outcome IS NOT NULL ORDER BY w.window",
        (campaign_id,),
    ):
        windows.setdefault(attempt, []).append((begin_ns, end_ns))
    return [_measured(row, windows.get(row["attempt"], [])) for row in rows]


def measured_attempt(connection: sqlite3.Connection, attempt: int) -> MeasuredAttempt | None:
    """One ended attempt, whatever its outcome; None where it has not ended."""
    row = connection.execute(f"{_MEASURED} WHERE a.id = ? AND a.outcome IS NOT NULL", (attempt,)).fetchone()
    if row is None:
        return None
    windows = connection.execute(
        "SELECT t_begin_mono_ns, t_end_mono_ns FROM windows WHERE attempt_id = ? ORDER BY window", (attempt,)
    ).fetchall()
    return _measured(row, [(begin_ns, end_ns) for begin_ns, end_ns in windows])


def _measured(row: sqlite3.Row, windows: list[tuple[int, int]]) -> MeasuredAttempt:
    return MeasuredAttempt(
        run=row["run"],
        experiment=row["experiment"],
        cycle=row["cycle"],
        attempt=row["attempt"],
        boot_id=row["boot_id"],
        begin_ns=row["started_mono_ns"],
        end_ns=row["ended_mono_ns"],
        started_utc=row["started_utc"],
        verdict=row["verdict"] or "",
        windows=tuple(windows),
        gpus=tuple(json.loads(row["gpus"])) if row["gpus"] else (),
        facts=json.loads(row["facts"]),
        number=row["number"],
        outcome=row["outcome"],
        why=row["why"],
    )


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU that was once read here: the id of its row, and how it is told from others. `index` as the driver counts,
    None where it did not say."""

    row: int
    uuid: str
    index: int | None
    name: str

    @property
    def title(self) -> str:
        """`GPU 0 L4 (5a3e12f0)`: its maker is the same for all, the end of the UUID is what lanes are named by, too."""
        which = "GPU" if self.index is None else f"GPU {self.index}"
        return f"{which} {self.name.removeprefix('NVIDIA ')} ({self.uuid[-8:]})"


def devices(connection: sqlite3.Connection) -> list[Device]:
    """Every GPU that was ever read here."""
    rows = connection.execute(
        "SELECT id, uuid, facts->>'index', coalesce(facts->>'name', 'without a name') FROM devices ORDER BY id"
    )
    return [Device(*row) for row in rows]


def power_since(
    connection: sqlite3.Connection, device: int, boot_id: str, since_ns: int
) -> list[tuple[int, dict[str, Any]]]:
    """(t_mono_ns, reading) of a device's power series after a time, in order."""
    rows = connection.execute(
        "SELECT t_mono_ns, reading FROM samples"
        " WHERE device_id = ? AND boot_id = ? AND series = 'power' AND t_mono_ns > ? ORDER BY t_mono_ns",
        (device, boot_id, since_ns),
    )
    return [(row[0], json.loads(row[1])) for row in rows]


def device_rows(connection: sqlite3.Connection) -> dict[str, int]:
    """GPU -> the id of its row."""
    return {row[0]: row[1] for row in connection.execute("SELECT uuid, id FROM devices")}


#: Buckets of one length each, made in one pass over the primary key. The limit keeps SQLite from flattening the inner
#: query, which would take every reading apart once more for each aggregate.
_THINNED = (
    "SELECT min(t), min(p), max(p), avg(p), max(c), max(e & ?6), max(e & ?7) FROM"
    " (SELECT t_mono_ns AS t, json_extract(reading, '$.power_mw') AS p, json_extract(reading, '$.temp_c') AS c,"
    "   json_extract(reading, '$.event_reasons') AS e"
    "  FROM samples WHERE device_id = ?1 AND boot_id = ?2 AND series = 'power' AND t_mono_ns >= ?3 AND t_mono_ns < ?4"
    "  LIMIT -1) GROUP BY (t - ?3) / ?5 ORDER BY 1"
)


def thinned_power(
    connection: sqlite3.Connection, device: int, boot_id: str, begin_ns: int, end_ns: int, buckets: int
) -> list[Bucket]:
    """The power series of a device in [begin_ns, end_ns), at most so many buckets; stretches without samples have
    none, so that a hole stays one."""
    length_ns = max(1, -(-(end_ns - begin_ns) // buckets))
    rows = connection.execute(
        _THINNED, (device, boot_id, begin_ns, end_ns, length_ns, POWER_CAP_BIT, THROTTLE_BITS)
    ).fetchall()
    return [
        Bucket(t, _watts(low), _watts(high), _watts(mean), temp, bool(capped), bool(throttled))
        for t, low, high, mean, temp, capped, throttled in rows
    ]


def _watts(power_mw: float | None) -> float | None:
    return None if power_mw is None else power_mw / 1e3


def raw_samples(
    connection: sqlite3.Connection, boot_id: str, begin_ns: int, end_ns: int
) -> Iterator[tuple[str, str, int, dict[str, Any]]]:
    """(GPU, series, t_mono_ns, the reading as it was stored) of every device in [begin_ns, end_ns]."""
    for gpu, device in sorted(device_rows(connection).items()):
        for series in ("counter", "power", "slow"):
            rows = connection.execute(
                "SELECT t_mono_ns, reading FROM samples WHERE device_id = ? AND boot_id = ? AND series = ?"
                " AND t_mono_ns BETWEEN ? AND ? ORDER BY t_mono_ns",
                (device, boot_id, series, begin_ns, end_ns),
            )
            for t_ns, reading in rows:
                yield gpu, series, t_ns, json.loads(reading)


@dataclass(frozen=True, slots=True)
class SampledAttempt:
    """An ended attempt, whatever its outcome, as an export of samples names it."""

    campaign: str
    number: int
    uuid: str
    attempt: MeasuredAttempt


def sampled_attempts(
    connection: sqlite3.Connection, campaign_id: int | None = None, run: int | None = None
) -> list[SampledAttempt]:
    """The ended attempts of a campaign, of a run, or all, in the order in which they ran."""
    rows = connection.execute(
        f"SELECT a.id, a.number, a.uuid, c.name, c.number AS campaign_number, {HAS_NEWER}"  # noqa: S608 - a constant
        " FROM attempts a JOIN runs r ON r.id = a.run_id JOIN campaigns c ON c.id = r.campaign_id"
        " WHERE a.outcome IS NOT NULL AND (?1 IS NULL OR c.id = ?1) AND (?2 IS NULL OR r.id = ?2) ORDER BY a.id",
        (campaign_id, run),
    ).fetchall()
    found = []
    for row in rows:
        attempt = measured_attempt(connection, row["id"])
        if attempt is not None:
            label = label_of(row["name"], row["campaign_number"], bool(row["has_newer"]))
            found.append(SampledAttempt(label, row["number"], row["uuid"], attempt))
    return found


@dataclass(frozen=True, slots=True)
class LatestReading:
    """The newest power sample of a GPU on a boot, as it was stored."""

    gpu: str
    name: str
    t_ns: int
    reading: dict[str, Any]

    @property
    def is_capped(self) -> bool:
        """Held at its power limit, which is normal at full load."""
        return bool(self.reading.get("event_reasons", 0) & POWER_CAP_BIT)

    @property
    def is_throttled(self) -> bool:
        """Slowed down by heat, hardware or the power brake."""
        return bool(self.reading.get("event_reasons", 0) & THROTTLE_BITS)


def temp_c_at(connection: sqlite3.Connection, gpu: str, boot_id: str, t_ns: int) -> float | None:
    """What a GPU's sensor said first at or after a time."""
    row = connection.execute(
        "SELECT s.reading->>'temp_c' FROM samples s JOIN devices d ON d.id = s.device_id WHERE d.uuid = ?"
        " AND s.boot_id = ? AND s.series = 'power' AND s.t_mono_ns >= ? ORDER BY s.t_mono_ns LIMIT 1",
        (gpu, boot_id, t_ns),
    ).fetchone()
    return None if row is None or row[0] is None else float(row[0])


def latest_readings(connection: sqlite3.Connection, boot_id: str) -> list[LatestReading]:
    """Of every GPU that was read on this boot."""
    found = []
    for device, gpu, name in connection.execute(
        "SELECT id, uuid, coalesce(facts->>'name', uuid) FROM devices ORDER BY id"
    ).fetchall():
        row = connection.execute(
            "SELECT t_mono_ns, reading FROM samples WHERE device_id = ? AND boot_id = ? AND series = 'power'"
            " ORDER BY t_mono_ns DESC LIMIT 1",
            (device, boot_id),
        ).fetchone()
        if row is not None:
            found.append(LatestReading(gpu, name, row[0], json.loads(row[1])))
    return found
