"""What the daemon does, in Prometheus' text format, for those who ask for it (`metrics_listen`).

    http://ADDRESS/metrics

Read from the database by a thread of its own, once a scrape: the tick and the sampler know nothing of it. Nothing can
be asked or changed here. https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer
from typing import Any, NamedTuple

from lemctl import __version__
from lemctl.clock import boot_id
from lemctl.store.database import Store
from lemctl.store.queries import line_of_campaigns, list_campaigns
from lemctl.store.read_status import live
from lemctl.store.read_traces import LatestReading, latest_readings

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: A reading older than this says nothing of the present.
FRESH_S = 30.0
#: A client that does not go on asking is let go.
CLIENT_TIMEOUT_S = 5.0
ENDED_SHOWN = 5


class Sample(NamedTuple):
    """One line: labels and value."""

    labels: Mapping[str, str]
    value: float


class Family(NamedTuple):
    """A metric with its lines."""

    name: str
    kind: str
    help: str
    samples: list[Sample]


def exposition(families: Iterator[Family]) -> str:
    """The text; a family without lines is left out, so that what is absent is never 0."""
    lines = []
    for family in families:
        if family.samples:
            lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
            lines += [f"{family.name}{_labels(sample.labels)} {sample.value:.10g}" for sample in family.samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def gauges(store: Store, now_s: float, mono_ns: int) -> Iterator[Family]:
    """Everything that is told. `now_s` is Unix time, `mono_ns` this boot's monotonic clock."""
    connection = store.connection
    topics = live(connection)
    daemon = topics.get("daemon", {})
    yield Family("lemctl_build_info", "gauge", "Version of the daemon.", [Sample({"version": __version__}, 1)])
    if daemon.get("heartbeat_utc"):
        beat_s = datetime.fromisoformat(daemon["heartbeat_utc"]).timestamp()
        age = "Seconds since the daemon's last heartbeat."
        yield Family("lemctl_heartbeat_age_seconds", "gauge", age, [Sample({}, max(0.0, now_s - beat_s))])
    campaigns = {row.id: row for row in (*line_of_campaigns(connection), *list_campaigns(connection, ENDED_SHOWN))}
    runs = [
        Sample({"campaign": row.label, "status": status}, count)
        for row in campaigns.values()
        for status, count in row.counts.items()
    ]
    yield Family("lemctl_campaign_runs", "gauge", "Runs of a campaign by status.", runs)
    states = [Sample({"campaign": row.label, "status": row.status}, 1) for row in campaigns.values()]
    yield Family("lemctl_campaign_state", "gauge", "State of a campaign: 1 for the one that it has.", states)
    yield from _lanes(topics)
    yield from _gpus([one for one in latest_readings(connection, boot_id()) if mono_ns - one.t_ns < FRESH_S * 1e9])


def _lanes(topics: Mapping[str, Mapping[str, Any]]) -> Iterator[Family]:
    lanes = {topic.removeprefix("lane:"): body for topic, body in topics.items() if topic.startswith("lane:")}
    under_way = [
        Sample({"lane": name, "campaign": str(body["campaign"]), "phase": str(body.get("phase", ""))}, body["run"])
        for name, body in lanes.items()
        if body.get("run") is not None
    ]
    yield Family("lemctl_lane_run", "gauge", "Number of the run under way on a lane, with its phase.", under_way)


def _gpus(readings: list[LatestReading]) -> Iterator[Family]:
    def of(key: str, factor: float = 1.0) -> list[Sample]:
        told = ((one, one.reading.get(key)) for one in readings)
        return [Sample({"gpu": one.gpu, "name": one.name}, value * factor) for one, value in told if value is not None]

    yield Family("lemctl_gpu_power_watts", "gauge", "Power of a GPU, last reading.", of("power_mw", 1e-3))
    yield Family("lemctl_gpu_temperature_celsius", "gauge", "Core temperature of a GPU.", of("temp_c"))
    yield Family("lemctl_gpu_utilisation_ratio", "gauge", "Share of time busy.", of("gpu_utilisation_pct", 0.01))
    yield Family("lemctl_gpu_sm_clock_hertz", "gauge", "SM clock of a GPU.", of("sm_clock_mhz", 1e6))
    held = [
        Sample({"gpu": one.gpu, "reason": reason}, float(is_on))
        for one in readings
        if "event_reasons" in one.reading
        for reason, is_on in (("power_cap", one.is_capped), ("thermal_or_brake", one.is_throttled))
    ]
    yield Family("lemctl_gpu_held_back", "gauge", "Whether a GPU is held back, by reason.", held)


class _Handler(BaseHTTPRequestHandler):
    """GET /metrics, and nothing else."""

    server: Exposition
    timeout = CLIENT_TIMEOUT_S
    server_version = f"lemctl/{__version__}"
    sys_version = ""

    def do_GET(self) -> None:
        """One scrape."""
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404, "metrics are at /metrics")
            return
        text = exposition(gauges(self.server.store, time.time(), time.monotonic_ns())).encode()
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """A scrape every few seconds is no news."""


class Exposition(TCPServer):
    """Serves scrapes, one at a time, on a thread that ends with the process. No HTTPServer: that looks its name up."""

    allow_reuse_address = True

    def __init__(self, address: str, store: Store):
        """`address` is HOST:PORT. Raises OSError where it cannot be had."""
        host, _, port = address.rpartition(":")
        self.store = store
        super().__init__((host, int(port)), _Handler)

    def start(self) -> None:
        """Begin to serve."""
        threading.Thread(target=self.serve_forever, name="metrics", daemon=True).start()


def expose(address: str, store: Store, log: logging.Logger) -> Exposition | None:
    """Begin to serve, or say in the log why not: a taken port must not keep a night from being measured."""
    try:
        served = Exposition(address, store)
    except (OSError, OverflowError) as error:
        log.warning("no metrics: %s cannot be listened on: %s", address, error)
        return None
    served.start()
    log.info("metrics at http://%s/metrics", address)
    return served
