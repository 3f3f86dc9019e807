"""Prometheus metrics from a running daemon, if asked for: the counts of the database, and nothing when it is not."""

from __future__ import annotations

import re
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from lemctl.clock import boot_id
from lemctl.daemon.exposition import Family, Sample, exposition, gauges
from lemctl.measure import readings
from lemctl.paths import Home
from lemctl.store.database import Store
from lemctl.store.samples import add_samples, know_device
from night import Night, campaign_text

LINE = re.compile(r'^([a-z_]+)(\{([a-z_]+="(\\.|[^"\\])*",?)+\})? (-?[0-9.e+-]+)$')


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def scrape(port: int, path: str = "/metrics") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return str(answer.read().decode())


def test_a_daemon_tells_its_counts_where_it_is_asked_to(tmp_path: Path) -> None:
    port = free_port()
    with Night(tmp_path, {"LEM_METRICS_LISTEN": f"127.0.0.1:{port}"}) as night:
        night.add(campaign_text(cycles=2))
        night.begin()
        night.wait_campaign()
        text = scrape(port)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            scrape(port, "/other")
        assert night.end() == 0
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(LINE.match(line) for line in lines)
    assert 'lemctl_campaign_runs{campaign="night",status="Done"} 2' in lines
    assert 'lemctl_campaign_state{campaign="night",status="Finished"} 1' in lines
    assert any(line.startswith("lemctl_heartbeat_age_seconds ") for line in lines)


def test_a_port_that_is_taken_keeps_no_night_from_being_measured(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with Night(tmp_path, {"LEM_METRICS_LISTEN": f"127.0.0.1:{port}"}) as night:
            night.add(campaign_text())
            night.begin()
            night.wait_campaign()
            assert night.end() == 0
            night.audit()
            assert "cannot be listened on" in (night.home.logs / "daemon.jsonl").read_text()


def test_readings_are_told_while_they_are_fresh_and_never_as_zero(tmp_path: Path) -> None:
    with Store.open(Home(tmp_path), "write") as store:
        with store.transaction() as tx:
            devices = {"GPU-1": know_device(tx, "GPU-1", {"name": 'a "GPU"'})}
        rows = [
            readings.Sample("GPU-1", "power", 1_000_000_000, {"power_mw": 100_000}),
            readings.Sample("GPU-1", "power", 2_000_000_000, {"power_mw": 250_000, "event_reasons": 64}),
        ]
        add_samples(store, devices, boot_id(), rows)
        fresh = exposition(gauges(store, 0.0, 3_000_000_000))
        stale = exposition(gauges(store, 0.0, 90_000_000_000))
    assert 'lemctl_gpu_power_watts{gpu="GPU-1",name="a \\"GPU\\""} 250' in fresh
    assert 'lemctl_gpu_held_back{gpu="GPU-1",reason="thermal_or_brake"} 1' in fresh
    assert "temperature" not in fresh  # not read: absent, not 0
    assert "lemctl_gpu" not in stale


def test_labels_are_escaped() -> None:
    families = iter(
        [Family("m", "gauge", "Help.", [Sample({"a": 'x"y\\z\nw'}, 1.5)]), Family("n", "gauge", "None.", [])]
    )
    assert exposition(families) == '# HELP m Help.\n# TYPE m gauge\nm{a="x\\"y\\\\z\\nw"} 1.5\n'
