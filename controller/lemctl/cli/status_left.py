"""What is left of a campaign and what begins by itself, as `status` shows it: read from the database alone."""

from __future__ import annotations

from datetime import UTC, datetime

from lemctl.report.status import LeftNow, Scheduled
from lemctl.store.database import Store
from lemctl.store.queries import CampaignRow, campaign_document


def left_now(store: Store, campaign: CampaignRow, now_s: float) -> LeftNow | None:
    """From `now_s` (Unix time) on; None where nothing is left to do."""
    if not campaign.is_open or not campaign.left:
        return None
    from lemctl.campaign.expected import what_is_left
    from lemctl.campaign.hours import describe, local_text, read_hours
    from lemctl.store.read_history import durations, past_runs, runs_left

    connection = store.connection
    hours = read_hours(campaign_document(connection, campaign.id)[0])
    known = durations(past_runs(connection, campaign.executor == "simulate"))
    left = what_is_left(runs_left(connection, campaign.id, known), hours, datetime.fromtimestamp(now_s, UTC))
    return LeftNow(
        left.p50_s,
        left.p90_s,
        "guess" if left.grounds["guess"] else "like" if left.grounds["like"] else "measured",
        None if hours is None else describe(hours),
        None if hours is None or left.ends_p50 is None else local_text(left.ends_p50, hours.zone),
        left.windows_p50,
        left.windows_p90,
        len(left.too_long),
    )


def opens_when(store: Store, campaign: CampaignRow, now_s: float) -> str | None:
    """The local time, in words, before which nothing of the campaign can begin: of its schedule, or of its hours. None
    where it may begin now."""
    from lemctl.campaign.hours import local_text, read_hours
    from lemctl.store.schedules import is_awaited

    if is_awaited(store.connection, campaign.id):
        return next((one.begins for one in scheduled(store, now_s) if one.name == campaign.name), None)
    hours = read_hours(campaign_document(store.connection, campaign.id)[0])
    if hours is None:
        return None
    now = datetime.fromtimestamp(now_s, UTC)
    opens = hours.window_at(now).opens
    return local_text(opens, hours.zone) if opens > now else None


def scheduled(store: Store, now_s: float) -> list[Scheduled]:
    """What begins by itself after `now_s`, first that which begins first."""
    from lemctl.store.schedules import in_force

    found = in_force(store.connection)
    if not found:
        return []
    from lemctl.campaign.cron import read_cron
    from lemctl.campaign.hours import local_text, zone_of

    now = datetime.fromtimestamp(now_s, UTC)
    begins = []
    for one in found:
        zone = zone_of(one.tz)
        at = (
            datetime.fromisoformat(one.at_utc)
            if one.at_utc
            else read_cron(one.cron or "").next(max(now, one.since), zone)
        )
        begins.append((at, Scheduled(one.name, local_text(at, zone), one.cron)))
    return [one for _, one in sorted(begins, key=lambda pair: pair[0])]
