"""A campaign under way, looked at until its end (`start --wait`, `campaign wait`): what happened, and what happens."""

from __future__ import annotations

import time

from lemctl.cli.describe import campaign_ended_line, lane_line, run_ended_line, seconds_since
from lemctl.cli.long_work import long_work
from lemctl.cli.state import daemon_pid
from lemctl.cli.status_left import opens_when
from lemctl.cli.status_view import lane_states
from lemctl.cli.terminal import out, say, warn
from lemctl.errors import NoDaemon, OutsideHours
from lemctl.lines import duration
from lemctl.paths import Home
from lemctl.report.columns import RUN_METRICS
from lemctl.report.status import HUNG_AFTER_S
from lemctl.steps import Step, Tell
from lemctl.store.database import Store
from lemctl.store.queries import CampaignRow, campaign_by_id
from lemctl.store.read_status import ended_since, last_transition, live

POLL_S = 0.1
ALIVE_EVERY_S = 1.0
#: What ends the wait: nothing more will run by itself.
AT_REST = ("Finished", "Cancelled", "Stopped", "Paused")


def wait_for_end(home: Home, campaign_id: int) -> int:
    """Show what happens until the campaign is at rest; returns its exit code.

    Ctrl-C leaves the campaign running: 130. Raises `NoDaemon` when the daemon ends before the campaign, `OutsideHours`
    when nothing of it is under way and its hours are closed: it goes on by itself, which nobody need watch.
    """
    with Store.open(home, "read") as store:
        try:
            with long_work("waiting for the daemon") as tell:
                campaign = _follow(store, home, campaign_id, tell)
        except KeyboardInterrupt:
            label = campaign_by_id(store.connection, campaign_id).label
            warn(f"no longer watching; campaign {label} goes on: `lemctl campaign cancel {label}` ends it")
            return 130
    out(campaign_ended_line(campaign))
    if campaign.status in ("Paused", "Stopped"):
        return 3
    return campaign.exit_code


def _follow(store: Store, home: Home, campaign_id: int, tell: Tell) -> CampaignRow:
    connection = store.connection
    campaign = campaign_by_id(connection, campaign_id)
    shown, seen, version = campaign.total - campaign.left, last_transition(connection), None
    looked_at_s = time.monotonic()
    while True:
        if (now := store.data_version()) != version:
            version = now
            # The campaign before its runs: whatever had ended by its end is then among them.
            campaign = campaign_by_id(connection, campaign_id)
            ended, seen = ended_since(connection, campaign_id, seen, RUN_METRICS)
            for number, line in enumerate(ended, shown + 1):
                say(run_ended_line(line, number, campaign.total))
            shown += len(ended)
            if campaign.status not in AT_REST:
                _refuse_closed_hours(store, campaign)
        if campaign.status in AT_REST:
            return campaign
        tell(Step(_under_way(store, home, campaign), campaign.total - campaign.left, campaign.total, "runs"))
        if time.monotonic() - looked_at_s > ALIVE_EVERY_S:
            looked_at_s = time.monotonic()
            if daemon_pid(home) is None and campaign_by_id(connection, campaign_id).status not in AT_REST:
                raise NoDaemon(f"the daemon has ended; campaign {campaign.label} goes on with `lemctl daemon start`")
        time.sleep(POLL_S)


def _refuse_closed_hours(store: Store, campaign: CampaignRow) -> None:
    if any(campaign.counts[status] for status in ("Starting", "Cooling", "Running")):
        return
    if opens := opens_when(store, campaign, time.time()):
        raise OutsideHours(f"campaign {campaign.label} goes on by itself {opens}; `lemctl status` shows it")


def _under_way(store: Store, home: Home, campaign: CampaignRow) -> str:
    if campaign.status == "Waiting":
        return "waits in line" + (f" behind {campaign.after}" if campaign.after else "")
    topics, now_s = live(store.connection), time.time()
    said = topics.get("daemon", {})
    silent_s = seconds_since(said.get("heartbeat_utc"), now_s)
    # The word of an earlier daemon says nothing of this one.
    if silent_s is not None and silent_s > HUNG_AFTER_S and said.get("pid") == daemon_pid(home):
        return f"the daemon gives no sign of life for {duration(silent_s)}; see `lemctl doctor`"
    lanes = lane_states(store, topics, now_s)
    if not lanes and said.get("waits_for"):
        return f"waits for {said['waits_for']}"
    return lane_line(lanes[0]) if lanes else "between runs"
