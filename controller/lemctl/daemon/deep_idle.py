"""B0, the device without any context: before a campaign's first engine and after its last run.

What lies between the two is the drift that the report states. Both are taken with the device cool: right after work
its power is higher by leakage, which is no drift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lemctl.cancel import Cancel
from lemctl.clock import utc_text
from lemctl.daemon.gpu_loss import lose_gpus
from lemctl.daemon.instruments import BaselineRecord, GateSpec, Tell
from lemctl.daemon.lanes import Lane
from lemctl.errors import CancelledByPerson, Interrupted, RunFailed
from lemctl.judge.drift import find_drift
from lemctl.store import live, sessions
from lemctl.store.campaigns import Campaign
from lemctl.store.queue import QueuedRun

#: Before the closing reading of a campaign that never cooled, in s.
COOLING_MAX_S = 300.0


def open_campaign(run: QueuedRun, lane: Lane, cancel: Cancel, tell: Tell) -> BaselineRecord:
    """The campaign's B0: taken before its first engine, and known to every attempt after that."""
    known = lane.unloaded.get(run.campaign.id)
    if known is not None:
        return known
    if run.spec["measure"]["baseline_s"] == 0:
        return BaselineRecord("B0", None, None, "not asked for")
    if lane.open is not None:
        return BaselineRecord("B0", None, None, "an engine of the campaign before was loaded")
    gate = GateSpec(**run.campaign.document["gate"])
    record = _take(run, lane, cancel, gate if gate.kind == "cool" else None, tell)
    # A daemon that began anew in mid-campaign takes another one.
    first_w = sessions.first_deep_idle_w(lane.store.connection, run.campaign.id, lane.name)
    drift = find_drift([(first_w, None), (record.power_w, record.uncertainty_w)])
    record = replace(record, shift=None if drift is None else drift.shift)
    lane.unloaded[run.campaign.id] = record
    return record


def is_closing_due(lane: Lane | None, campaign: Campaign) -> bool:
    """Whether a campaign whose runs have all ended still wants its second reading: only where the first was had."""
    if lane is None or lane.closed or campaign.status.kind != "Active":
        return False
    first = lane.unloaded.get(campaign.id)
    return first is not None and first.power_w is not None


def close_campaign(last: QueuedRun, lane: Lane, cancel: Cancel) -> None:
    """End the engine, let the device cool, take B0, keep it with the last attempt. Nothing here fails a campaign."""
    lane.unloaded.pop(last.campaign.id, None)
    lane.end_session("ok", "the campaign's runs have ended")
    lost: str | None = None
    try:
        gate = GateSpec(**last.campaign.document["gate"])
        gate = GateSpec("cool", COOLING_MAX_S, gate.gap_s) if gate.kind == "steady" else gate
        record = _take(last, lane, cancel, gate, _teller(last, lane))
    except (CancelledByPerson, Interrupted):
        record = BaselineRecord("B0", None, None, "at the campaign's end: cut short")
    except RunFailed as fault:
        record = BaselineRecord("B0", None, None, f"at the campaign's end: {fault.message}")
        lane.close(f"{fault.kind}: {fault.message}")
        lost = fault.message if fault.kind == "gpu_lost" else None
    with lane.store.transaction() as tx:
        if lost is not None:
            lose_gpus(tx, last.campaign, lane.gpus, lost, lane.clock)
        sessions.add_closing_baseline(tx, last.id, record.power_w, record.uncertainty_w, record.reason, lane.clock)
        live.drop(tx, f"lane:{lane.name}")


def _take(run: QueuedRun, lane: Lane, cancel: Cancel, gate: GateSpec | None, tell: Tell) -> BaselineRecord:
    def idle(seconds: float) -> None:
        lane.clock.wait(cancel.event, seconds)

    if gate is not None and lane.instruments.has_sensors:
        lane.instruments.gate(gate, idle, cancel, tell)
        cancel.raise_if_set()
    record = lane.instruments.baseline("B0", run.spec["measure"]["baseline_s"], idle, tell)
    lane.instruments.rest()
    cancel.raise_if_set()
    return record


def _teller(last: QueuedRun, lane: Lane) -> Tell:
    began_ns, began_utc = lane.clock.monotonic_ns(), utc_text(lane.clock.utc())

    def tell(waits_for: str, cooling_to_c: Mapping[str, float] | None = None) -> None:
        document = {
            "campaign": last.campaign.label,
            "run": last.id,
            "experiment": last.experiment,
            "cycle": last.cycle,
            "phase": "closing",
            "gpus": list(lane.gpus),
            "waits_for": waits_for,
            "cooling_to_c": dict(cooling_to_c or {}),
            "since_utc": began_utc,
            "since_mono_ns": began_ns,
        }
        with lane.store.transaction() as tx:
            live.put(tx, f"lane:{lane.name}", document, lane.clock)

    return tell
